//! Costs of `cpreg filter` compared with `cat`: each forwards a stream from pipe to pipe.
//!
//! ```text
//! cat vm  ->  pipe  ->  the command  ->  pipe  ->  cat > /dev/null
//! ```
//!
//! Each pipe holds [`PIPE_LEN`] bytes. The time is from the start of the three processes to the end
//! of all. The memory is that of the command in the middle alone.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::inputs::DESTINATION_FILE;
use crate::measure::{self, Cost};
use e2e_framework::Result;

/// Number of runs, whose median is the result.
const RUNS: usize = 9;

/// Length of the pipes in bytes: the maximum that Linux allows unprivileged users.
const PIPE_LEN: usize = 1 << 20;

/// Measures `filter` of `vm` in this folder for the destination, and `cat`, alternately.
pub(crate) fn run(cpreg: &str, folder: &Path) -> Result<(Cost, Cost)> {
    measure::run_alternating(
        RUNS,
        || Ok(()),
        || run_once(folder, &[cpreg, "filter", DESTINATION_FILE]),
        || run_once(folder, &["cat"]),
    )
}

fn run_once(folder: &Path, command: &[&str]) -> Result<Cost> {
    let start = Instant::now();
    let (from_feeder, to_middle) = pipe()?;
    let (from_middle, to_sink) = pipe()?;
    // Each `Command` owns its pipe ends. Dropping the `Command` closes them in this process.
    let mut feeder = Command::new("cat")
        .stdin(File::open(folder.join("vm"))?)
        .stdout(to_middle)
        .spawn()?;
    // A process of this program starts the command in the middle and nothing else, so the resource
    // usage of its children is that of the command.
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
    let mut output = String::new();
    if let Some(mut stderr) = middle.stderr.take() {
        stderr.read_to_string(&mut output)?;
    }
    let all_succeeded =
        feeder.wait()?.success() & middle.wait()?.success() & sink.wait()?.success();
    let time = start.elapsed();
    if !all_succeeded {
        return Err(format!("`{}` failed: {output}", command.join(" ")).into());
    }
    Ok(Cost {
        time,
        cpu_time: None,
        peak_memory: output.trim().parse()?,
        bytes_read: None,
    })
}

/// Runs `run-piped COMMAND…`, which [`run_once`] starts: runs the command, and prints its peak
/// memory on standard error.
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

/// Makes a pipe; returns its read end and its write end, which child processes do not inherit.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::pipe::fcntl_setpipe_size(&write_end, PIPE_LEN)?;
    Ok((read_end, write_end))
}
