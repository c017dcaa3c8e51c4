//! The live tests: real guests, saved by one real QEMU and loaded by another.
//!
//! `cargo xtask live [--full] [WORD…]` runs the cases whose names have all the words; without `--full` the set that CI runs.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cases`] | which cases there are |
//! | [`machine`] | starting, saving and loading a machine |
//! | [`serial`] | what the guest says |
//! | [`cpreg`] | running the command under test, reading its reports |
//! | [`steps`] | what is done in a case, and what makes it fail |
//! | [`rings`] | virtio rings, of which a rehearsal has no memory |
//! | [`large`] | a VM of 8 GiB, of which a rehearsal reads no RAM |
//! | [`relay`] | live migrations through `cpreg relay` |
//! | [`isolation`] | the other kind of case: an isolated QEMU beside the VM |

mod cases;
mod cpreg;
mod isolation;
mod large;
mod machine;
mod relay;
mod rings;
mod serial;
mod steps;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Result, guest, jobs, qemus};
pub(crate) use cpreg::Cpreg;
pub(crate) use large::Large;
use steps::Bench;

/// How a case ended.
struct Ended {
    case: String,
    time: Duration,
    result: Result<String>,
}

/// `cargo xtask live`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let full = arguments.contains(&"--full");
    let list = arguments.contains(&"--list");
    let (options, words): (Vec<&str>, Vec<&str>) =
        arguments.iter().partition(|word| word.starts_with('-'));
    if let Some(option) = options.iter().find(|o| !["--full", "--list"].contains(*o)) {
        return Err(format!("live has no option {option}: --full, --list").into());
    }
    let is_wanted = |name: &str| words.iter().all(|word| name.contains(word));
    let mut cases = cases::cases(full);
    cases.retain(|case| is_wanted(&case.to_string()));
    let mut relays = relay::cases(full);
    relays.retain(|case| is_wanted(&case.to_string()));
    let isolations = isolation::names().filter(|name| is_wanted(name));
    let isolations: Vec<String> = isolations.collect();
    if list {
        for case in &cases {
            println!("{case}");
        }
        for case in &relays {
            println!("{case}");
        }
        for name in &isolations {
            println!("{name}");
        }
        return Ok(());
    }
    if cases.is_empty() && relays.is_empty() && isolations.is_empty() {
        return Err("no case has such a name: cargo xtask live --full --list names them".into());
    }

    let qemus = qemus::ensure()?;
    for qemu in &qemus {
        println!("QEMU {}", qemu.version);
    }
    // One at a time: each looks whether anything changes that another QEMU has open.
    let mut ended: Vec<Ended> = isolation::cases(&qemus)
        .filter(|case| isolations.contains(&case.to_string()))
        .map(|case| timed(&case, || case.run()))
        .collect();
    if !cases.is_empty() || !relays.is_empty() {
        let bench = Bench::new(qemus, guest::assemble()?, Cpreg::build()?)?;
        ended.append(&mut run_all(&cases, |case| bench.run(case)));
        ended.append(&mut run_all(&relays, |case| relay::run(&bench, case)));
        // Part of the cases may not have shown everything.
        if words.is_empty() {
            bench.finish()?;
        }
    }
    let all = cases.len() + relays.len() + isolations.len();
    if ended.len() != all {
        return Err(format!("{} cases did not end", all - ended.len()).into());
    }
    report(&ended)
}

/// Runs a case, and says how it went.
fn timed(case: &impl ToString, run: impl FnOnce() -> Result<String>) -> Ended {
    let start = Instant::now();
    let case = case.to_string();
    let result = run();
    let time = start.elapsed();
    match &result {
        Ok(summary) => println!("ok      {case}  {time:.1?}  {summary}"),
        Err(_) => println!("FAILED  {case}  {time:.1?}"),
    }
    Ended { case, time, result }
}

/// Runs the cases, as many at a time as there are processors, and says of each how it went.
fn run_all<C: ToString + Sync>(
    cases: &[C],
    run: impl Fn(&C) -> Result<String> + Sync,
) -> Vec<Ended> {
    if cases.is_empty() {
        return Vec::new();
    }
    let at_a_time = thread::available_parallelism().map_or(1, usize::from);
    println!("{} cases, {at_a_time} at a time", cases.len());
    let ended = Mutex::new(Vec::new());
    jobs::each(at_a_time, cases.iter(), |case| {
        let ended_case = timed(case, || run(case));
        if let Ok(mut ended) = ended.lock() {
            ended.push(ended_case);
        }
    });
    ended.into_inner().unwrap_or_default()
}

/// Tells of the failures at length, and counts. An error if there are any.
fn report(ended: &[Ended]) -> Result<()> {
    let mut failed = 0;
    for Ended { case, result, .. } in ended {
        if let Err(error) = result {
            failed += 1;
            println!("\n--- {case}\n{error}");
        }
    }
    if let Some(slowest) = ended.iter().max_by_key(|ended| ended.time) {
        println!("\nslowest: {} {:.1?}", slowest.case, slowest.time);
    }
    println!("{} passed, {failed} failed", ended.len() - failed);
    if failed == 0 {
        Ok(())
    } else {
        Err(format!("{failed} live cases failed").into())
    }
}
