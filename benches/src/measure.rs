//! Runs a command and says how long it took, how much memory it had at its peak, and how much it read.
//!
//! A process of this program runs one command only, so that what the system counts of "all children" is that one.
//!
//! | figure | from |
//! |---|---|
//! | time | the clock, from before the start to the end |
//! | peak memory | `getrusage`, `ru_maxrss` of the children; never less than this process had when it started the command, some 3 MiB |
//! | bytes read | `/proc/self/io`, `rchar`, to which Linux adds that of each child that has ended; the loading of the program is part of it |

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use e2e_framework::{Result, tool};

/// What one run, or the middle one of several, cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// In bytes.
    pub(crate) peak_memory: u64,
    /// In bytes; nothing where the system does not count it.
    pub(crate) bytes_read: Option<u64>,
}

/// `run-once FOLDER COMMAND…`: the other end of [`run`].
pub(crate) fn run_once(folder: &str, command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let before = total_bytes_read();
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    let time = start.elapsed();
    let read = total_bytes_read()
        .zip(before)
        .map(|(after, before)| after - before);
    if !status.success() {
        return Err(format!("`{}` failed ({status})", command.join(" ")).into());
    }
    let peak = peak_memory_of_children()?;
    let read = read.map_or_else(|| "-".to_owned(), |read| read.to_string());
    println!("{} {peak} {read}", time.as_nanos());
    Ok(())
}

/// The most memory that a child of this process had that it has waited for, in bytes.
pub(crate) fn peak_memory_of_children() -> Result<u64> {
    let kibibytes = u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?;
    Ok(kibibytes << 10)
}

/// What this process and the children it has waited for have read, in bytes.
fn total_bytes_read() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "))?;
    line.trim().parse().ok()
}

/// Runs a command in this folder; it must succeed.
pub(crate) fn run(folder: &Path, command: &[&str]) -> Result<Cost> {
    let mut once = Command::new(env::current_exe()?);
    once.args(["run-once"]).arg(folder).args(command);
    let line = tool::output_of(&mut once)?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or("a run gave no figures");
    Ok(Cost {
        time: Duration::from_nanos(word()?.parse()?),
        peak_memory: word()?.parse()?,
        bytes_read: word()?.parse().ok(),
    })
}

/// Both in turn, several times, so that what else the machine does hits both: the middle time of each, and the most memory and
/// bytes that any run of it took. `between` comes before each run and is not measured.
pub(crate) fn run_alternating(
    runs: usize,
    mut between: impl FnMut() -> Result<()>,
    mut work: impl FnMut() -> Result<Cost>,
    mut baseline: impl FnMut() -> Result<Cost>,
) -> Result<(Cost, Cost)> {
    let mut costs = (Vec::new(), Vec::new());
    for _ in 0..runs {
        between()?;
        costs.0.push(work()?);
        between()?;
        costs.1.push(baseline()?);
    }
    Ok((median(costs.0)?, median(costs.1)?))
}

fn median(mut costs: Vec<Cost>) -> Result<Cost> {
    costs.sort_by_key(|cost| cost.time);
    let most = |of: fn(&Cost) -> Option<u64>| costs.iter().filter_map(of).max();
    Ok(Cost {
        time: costs.get(costs.len() / 2).ok_or("no run")?.time,
        peak_memory: most(|cost| Some(cost.peak_memory)).unwrap_or_default(),
        bytes_read: most(|cost| cost.bytes_read),
    })
}
