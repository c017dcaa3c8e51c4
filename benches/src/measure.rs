//! Measurement of a command: its time, its peak memory and the bytes that it reads.
//!
//! A separate process of this program runs the command and nothing else, so the system's figures
//! for all children of that process are those of the command.
//!
//! - Time: the clock, from before the start to the end.
//! - Peak memory: `ru_maxrss` of the children, from `getrusage`. The value is at least the memory
//!   of the separate process when it starts the command, some 3 MiB.
//! - Bytes read: `rchar` in `/proc/self/io`, to which Linux adds the value of each child that has
//!   ended. The value includes loading the program.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use e2e_framework::{Result, tool};

/// Cost of one run, or of the median of several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// Time of all processors, of the program and of the kernel for it; `None` if not measured.
    pub(crate) cpu_time: Option<Duration>,
    /// Peak memory in bytes.
    pub(crate) peak_memory: u64,
    /// Bytes read; `None` if the system does not count them.
    pub(crate) bytes_read: Option<u64>,
}

/// Runs `run-once FOLDER COMMAND…`, which [`run`] starts: runs the command, and prints its cost.
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
    let cpu_time = cpu_time(UsageWho::RUSAGE_CHILDREN)?;
    let read = read.map_or_else(|| "-".to_owned(), |read| read.to_string());
    println!("{} {} {peak} {read}", time.as_nanos(), cpu_time.as_nanos());
    Ok(())
}

/// Returns the peak memory of this process's finished children, in bytes.
pub(crate) fn peak_memory_of_children() -> Result<u64> {
    let kibibytes = u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?;
    Ok(kibibytes << 10)
}

/// Returns the time of all processors for this process, or for its finished children.
pub(crate) fn cpu_time(who: UsageWho) -> Result<Duration> {
    let usage = getrusage(who)?;
    let times = [usage.user_time(), usage.system_time()];
    let microseconds: i64 = times.iter().map(TimeValLike::num_microseconds).sum();
    Ok(Duration::from_micros(u64::try_from(microseconds)?))
}

/// Returns the number of bytes read by this process and its finished children.
fn total_bytes_read() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "))?;
    line.trim().parse().ok()
}

/// Runs a command in this folder, which must succeed, and returns its cost.
pub(crate) fn run(folder: &Path, command: &[&str]) -> Result<Cost> {
    let mut run_once = Command::new(env::current_exe()?);
    run_once.args(["run-once"]).arg(folder).args(command);
    let line = tool::output_of(&mut run_once)?;
    let mut words = line.split(' ');
    let mut next_word = || words.next().ok_or("a run printed no cost");
    Ok(Cost {
        time: Duration::from_nanos(next_word()?.parse()?),
        cpu_time: Some(Duration::from_nanos(next_word()?.parse()?)),
        peak_memory: next_word()?.parse()?,
        bytes_read: next_word()?.parse().ok(),
    })
}

/// Runs `work` and `baseline` alternately, several times, so that other load on the machine affects
/// both.
///
/// Returns the median time of each, and the maxima of memory and bytes read. `prepare` runs before
/// each run and is not measured.
pub(crate) fn run_alternating(
    runs: usize,
    mut prepare: impl FnMut() -> Result<()>,
    mut work: impl FnMut() -> Result<Cost>,
    mut baseline: impl FnMut() -> Result<Cost>,
) -> Result<(Cost, Cost)> {
    let mut costs = (Vec::new(), Vec::new());
    for _ in 0..runs {
        prepare()?;
        costs.0.push(work()?);
        prepare()?;
        costs.1.push(baseline()?);
    }
    Ok((median(costs.0)?, median(costs.1)?))
}

fn median(mut costs: Vec<Cost>) -> Result<Cost> {
    costs.sort_by_key(|cost| cost.cpu_time);
    let cpu_time = costs.get(costs.len() / 2).ok_or("no run")?.cpu_time;
    costs.sort_by_key(|cost| cost.time);
    let max = |field: fn(&Cost) -> Option<u64>| costs.iter().filter_map(field).max();
    Ok(Cost {
        time: costs.get(costs.len() / 2).ok_or("no run")?.time,
        cpu_time,
        peak_memory: max(|cost| Some(cost.peak_memory)).unwrap_or_default(),
        bytes_read: max(|cost| cost.bytes_read),
    })
}
