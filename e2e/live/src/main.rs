//! The live tests: real guests, saved by one real QEMU and loaded by another.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cases`] | which cases there are |
//! | [`steps`] | what is done in a case, and what makes it fail |
//! | [`rings`] | virtio rings, of which a rehearsal has no memory |
//! | [`relay`] | live migrations through `cpreg relay` |
//! | [`isolation`] | the other kind of case: an isolated QEMU beside the VM |

#![forbid(unsafe_code)]
// The tests talk to the person who started them.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod cases;
mod isolation;
mod relay;
mod rings;
mod steps;

use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::{Result, guest, parallel, qemu};

use self::steps::Bench;

/// Live tests: real QEMUs load what real QEMUs saved
#[derive(Debug, Parser)]
#[command(name = "live", bin_name = "cargo xtask live", max_term_width = 100)]
struct Arguments {
    /// Run everything there is, and not only what CI runs
    #[arg(long)]
    full: bool,
    /// Only list the names of the cases
    #[arg(long)]
    list: bool,
    /// Words that the name of a case must have, all of them
    words: Vec<String>,
}

/// How a case ended.
struct Ended {
    case: String,
    time: Duration,
    result: Result<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases whose names have all the words.
fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { full, list, words } = arguments;
    let (full, list) = (*full, *list);
    let is_wanted = |name: &str| words.iter().all(|word| name.contains(word.as_str()));
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

    let qemus = qemu::ensure()?;
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
    parallel::each(at_a_time, cases.iter(), |case| {
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
