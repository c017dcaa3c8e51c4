//! What `cpreg filter` costs beside `cat`: a stream from pipe to pipe.
//!
//! ```text
//! cat vm  ->  pipe  ->  the command  ->  pipe  ->  cat > /dev/null
//! ```
//!
//! Both pipes hold [`PIPE_LEN`] bytes, for both commands. The time is from the start of the three to the end of all; memory is that of the
//! command in the middle alone.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::{self, Cost};
use e2e_framework::Result;

/// Of so many runs the middle one counts.
const RUNS: usize = 9;

/// The most that Linux lets everybody ask for, in bytes.
const PIPE_LEN: usize = 1 << 20;

/// `filter` from `vm` in this folder to `there`, and `cat`, in turn.
pub(crate) fn run(cpreg: &str, folder: &Path) -> Result<(Cost, Cost)> {
    measure::run_alternating(
        RUNS,
        || Ok(()),
        || run_once(folder, &[cpreg, "filter", "--to", "there"]),
        || run_once(folder, &["cat"]),
    )
}

fn run_once(folder: &Path, command: &[&str]) -> Result<Cost> {
    let start = Instant::now();
    let (from_feeder, to_middle) = pipe()?;
    let (from_middle, to_sink) = pipe()?;
    // A command owns the ends of pipes that it was given, and must be gone for them to be closed here.
    let mut feeder = Command::new("cat")
        .stdin(File::open(folder.join("vm"))?)
        .stdout(to_middle)
        .spawn()?;
    // A process that runs this command only, so that what the system counts of all its children is that one.
    let mut middle = Command::new(env::current_exe()?)
        .args(["run-piped"])
        .args(command)
        .current_dir(folder)
        .stdin(from_feeder)
        .stdout(to_sink)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut sink = Command::new("cat")
        .stdin(from_middle)
        .stdout(Stdio::null())
        .spawn()?;
    let mut said = String::new();
    if let Some(mut stderr) = middle.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    let all_went_well =
        feeder.wait()?.success() & middle.wait()?.success() & sink.wait()?.success();
    let time = start.elapsed();
    if !all_went_well {
        return Err(format!("`{}` failed: {said}", command.join(" ")).into());
    }
    Ok(Cost {
        time,
        peak_memory: said.trim().parse()?,
        bytes_read: None,
    })
}

/// `run-piped COMMAND…`: the other end of [`run_once`]. Says how much memory the command had at its peak, on standard error.
pub(crate) fn run_piped(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let status = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("{status}").into());
    }
    eprintln!("{}", measure::peak_memory_of_children()?);
    Ok(())
}

/// A pipe: its end to read from, and the one to write to. No other process gets them.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::pipe::fcntl_setpipe_size(&to, PIPE_LEN)?;
    Ok((from, to))
}
