//! The live tests: real guests, saved by one real QEMU and loaded by another.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cases`] | which cases there are |
//! | [`steps`] | what is done in a case, and what makes it fail |
//! | [`rings`] | virtio rings, of which a rehearsal has no memory |
//! | [`relay`] | live migrations through `cpreg relay` |
//! | [`sample`](mod@sample) | one case of each family |
//! | [`isolation`] | the other kind of case: an isolated QEMU beside the VM |

#![forbid(unsafe_code)]
// The tests talk to the person who started them.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod cases;
mod isolation;
mod relay;
mod rings;
mod sample;
mod steps;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::{Result, guest, parallel, qemu};

use self::sample::sample;
use self::steps::Fixture;

/// Live tests: real QEMUs load what real QEMUs saved
#[derive(Debug, Parser)]
#[command(name = "live", bin_name = "cargo xtask live", max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    set: CaseSet,
    /// Only list the names of the cases
    #[arg(long)]
    list: bool,
    /// Words that the name of a case must have, all of them
    words: Vec<String>,
}

/// Which of the cases. Without any of these the usual ones: every pair of QEMUs with every CPU model.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(multiple = false)]
struct CaseSet {
    /// All cases there are, and not only the usual ones
    #[arg(long)]
    full: bool,
    /// Of the usual cases one of each family, for a quick look
    #[arg(long)]
    sample: bool,
    /// The usual cases that are not in the sample
    #[arg(long)]
    rest: bool,
}

impl CaseSet {
    /// Returns `true` if a case of a list belongs to it.
    fn has(self, sample: &BTreeSet<String>, name: &str) -> bool {
        !(self.sample || self.rest) || sample.contains(name) == self.sample
    }
}

/// The cases of a run.
struct Cases {
    machines: Vec<cases::Case>,
    relays: Vec<relay::RelayCase>,
    /// By name: the cases themselves need their QEMUs.
    isolations: Vec<String>,
}

impl Cases {
    /// Returns those of a set whose names have all the words.
    fn select(set: CaseSet, words: &[String]) -> Self {
        let has_words = |name: &str| words.iter().all(|word| name.contains(word.as_str()));
        let is_wanted =
            |sample: &BTreeSet<String>, name: &str| has_words(name) && set.has(sample, name);
        let mut machines = cases::cases(set.full);
        let some = sample(&machines, cases::Case::family);
        machines.retain(|case| is_wanted(&some, &case.to_string()));
        let mut relays = relay::cases(set.full);
        let some = sample(&relays, relay::RelayCase::family);
        relays.retain(|case| is_wanted(&some, &case.to_string()));
        let mut isolations: Vec<String> = isolation::names().collect();
        let some = sample(&isolations, |_| String::new());
        isolations.retain(|name| is_wanted(&some, name));
        Self {
            machines,
            relays,
            isolations,
        }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let machines = self.machines.iter().map(ToString::to_string);
        let relays = self.relays.iter().map(ToString::to_string);
        let isolations = self.isolations.iter().cloned();
        machines.chain(relays).chain(isolations)
    }
}

/// How a case ended.
struct CaseResult {
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

/// Runs the cases that are wanted.
fn run(arguments: &Arguments) -> Result<()> {
    let cases = Cases::select(arguments.set, &arguments.words);
    let all = cases.names().count();
    if arguments.list {
        for name in cases.names() {
            println!("{name}");
        }
        return Ok(());
    }
    if all == 0 {
        return Err("no case has such a name: cargo xtask live --full --list names them".into());
    }

    let qemus = qemu::ensure()?;
    for qemu in &qemus {
        println!("QEMU {}", qemu.version);
    }
    // One at a time: each looks whether anything changes that another QEMU has open.
    let mut ended: Vec<CaseResult> = isolation::cases(&qemus)
        .filter(|case| cases.isolations.contains(&case.to_string()))
        .map(|case| run_timed(&case, || case.run()))
        .collect();
    if ended.len() < all {
        let bench = Fixture::new(qemus, guest::assemble()?, Cpreg::build()?)?;
        // Most of the time such a case waits for its guest's timers.
        ended.append(&mut run_all(&cases.machines, 3, |case| bench.run(case)));
        // Guests that count use all the processor that they get.
        ended.append(&mut run_all(&cases.relays, 1, |case| {
            relay::run(&bench, case)
        }));
    }
    if ended.len() != all {
        return Err(format!("{} cases did not end", all - ended.len()).into());
    }
    report(&ended)
}

/// Runs a case, and says how it went.
fn run_timed(case: &impl ToString, run: impl FnOnce() -> Result<String>) -> CaseResult {
    let start = Instant::now();
    let case = case.to_string();
    let result = run();
    let time = start.elapsed();
    match &result {
        Ok(summary) => println!("ok      {case}  {time:.1?}  {summary}"),
        Err(_) => println!("FAILED  {case}  {time:.1?}"),
    }
    CaseResult { case, time, result }
}

/// Runs the cases, so many at a time for each processor, and says of each how it went.
fn run_all<C: ToString + Sync>(
    cases: &[C],
    per_processor: usize,
    run: impl Fn(&C) -> Result<String> + Sync,
) -> Vec<CaseResult> {
    if cases.is_empty() {
        return Vec::new();
    }
    let at_a_time = per_processor * thread::available_parallelism().map_or(1, usize::from);
    println!("{} cases, {at_a_time} at a time", cases.len());
    let ended = Mutex::new(Vec::new());
    parallel::for_each(at_a_time, cases.iter(), |case| {
        let ended_case = run_timed(case, || run(case));
        if let Ok(mut ended) = ended.lock() {
            ended.push(ended_case);
        }
    });
    ended.into_inner().unwrap_or_default()
}

/// Tells of the failures at length, and counts. An error if there are any.
fn report(ended: &[CaseResult]) -> Result<()> {
    let mut failed = 0;
    for CaseResult { case, result, .. } in ended {
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sample_and_rest_are_the_usual_cases() {
        let names = |words: &[&str]| -> Vec<String> {
            let arguments = Arguments::parse_from([&["live"], words].concat());
            Cases::select(arguments.set, &arguments.words)
                .names()
                .collect()
        };
        let (sample, rest) = (names(&["--sample"]), names(&["--rest"]));
        let mut both = [sample.clone(), rest].concat();
        let mut usual = names(&[]);
        both.sort();
        usual.sort();
        assert_eq!(both, usual);
        let full: BTreeSet<_> = names(&["--full"]).into_iter().collect();
        assert!(usual.iter().all(|name| full.contains(name)));
        assert!(sample.len() < usual.len() / 3, "{}", sample.len());
    }
}
