//! The live tests: real guests, saved by one real QEMU and loaded by another.
//!
//! | module | content |
//! |---|---|
//! | [`cases`] | list of cases |
//! | [`checks`] | conditions on the findings of a guest |
//! | [`steps`] | steps of a case, and what must hold after each |
//! | [`rings`] | virtio rings, which a rehearsal loads without their memory |
//! | [`snapshots`] | VMs in snapshots of a qcow2 disk |
//! | [`relay`] | live migrations through `cpreg relay` |
//! | [`sample`](mod@sample) | one case of each family |
//! | [`isolation`] | cases of an isolated QEMU in parallel with the VM |

#![forbid(unsafe_code)]
// The tests print for their user.
#![expect(clippy::print_stdout)]

mod cases;
mod checks;
mod isolation;
mod relay;
mod rings;
mod sample;
mod snapshots;
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
    /// List the names of the cases and exit
    #[arg(long)]
    list: bool,
    /// Words that must all occur in the name of a case
    words: Vec<String>,
}

/// Set of cases. Without an option the default set: every pair of QEMUs with every CPU model.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(multiple = false)]
struct CaseSet {
    /// All cases, not only the default set
    #[arg(long)]
    full: bool,
    /// One case of each family of the default set, for a quick check
    #[arg(long)]
    sample: bool,
    /// The cases of the default set that are not in the sample
    #[arg(long)]
    rest: bool,
}

impl CaseSet {
    /// Returns `true` if the set includes the case.
    fn has(self, sample: &BTreeSet<String>, name: &str) -> bool {
        !(self.sample || self.rest) || sample.contains(name) == self.sample
    }
}

/// Selected cases.
struct Cases {
    machines: Vec<cases::Case>,
    relays: Vec<relay::RelayCase>,
    /// Names of isolation cases, since the cases themselves need their QEMUs.
    isolations: Vec<String>,
}

impl Cases {
    /// Returns the cases of a set whose names contain all words.
    fn select(set: CaseSet, words: &[String]) -> Self {
        let has_words = |name: &str| words.iter().all(|word| name.contains(word.as_str()));
        let is_selected =
            |sample: &BTreeSet<String>, name: &str| has_words(name) && set.has(sample, name);
        let mut machines = cases::cases(set.full);
        let sampled = sample(&machines, cases::Case::family);
        machines.retain(|case| is_selected(&sampled, &case.to_string()));
        let mut relays = relay::cases(set.full);
        let sampled = sample(&relays, relay::RelayCase::family);
        relays.retain(|case| is_selected(&sampled, &case.to_string()));
        let mut isolations: Vec<String> = isolation::names().collect();
        let sampled = sample(&isolations, |_| String::new());
        isolations.retain(|name| is_selected(&sampled, name));
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

/// Result of a case.
struct CaseResult {
    case: String,
    time: Duration,
    result: Result<String>,
}

fn main() -> ExitCode {
    e2e_framework::exit_code(run(&Arguments::parse()).map(|()| true))
}

/// Runs the selected cases.
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
        return Err("no case matches; run `cargo xtask live --full --list` for all names".into());
    }

    let qemus = qemu::ensure()?;
    for qemu in &qemus {
        println!("QEMU {}", qemu.version);
    }
    // Isolation cases run one at a time: another QEMU with changing files would disturb their
    // checks.
    let mut results: Vec<CaseResult> = isolation::cases(&qemus)
        .filter(|case| cases.isolations.contains(&case.to_string()))
        .map(|case| run_timed(&case, || case.run()))
        .collect();
    if results.len() < all {
        let fixture = Fixture::new(qemus, guest::assemble()?, Cpreg::build()?)?;
        // Three cases per processor: a case mostly waits for its guest's timers.
        results.append(&mut run_all(&cases.machines, 3, |case| fixture.run(case)));
        // One case per processor: the guest of a relay case counts without pause.
        results.append(&mut run_all(&cases.relays, 1, |case| {
            relay::run(&fixture, case)
        }));
    }
    if results.len() != all {
        return Err(format!("{} cases have no result", all - results.len()).into());
    }
    report(&results)
}

/// Runs a case, and prints its result.
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

/// Runs the cases, `per_processor` at a time for each processor, and prints each result.
fn run_all<C: ToString + Sync>(
    cases: &[C],
    per_processor: usize,
    run: impl Fn(&C) -> Result<String> + Sync,
) -> Vec<CaseResult> {
    if cases.is_empty() {
        return Vec::new();
    }
    let concurrency = per_processor * thread::available_parallelism().map_or(1, usize::from);
    println!("{} cases, {concurrency} at a time", cases.len());
    let results = Mutex::new(Vec::new());
    parallel::for_each(concurrency, cases.iter(), |case| {
        let result = run_timed(case, || run(case));
        if let Ok(mut results) = results.lock() {
            results.push(result);
        }
    });
    results.into_inner().unwrap_or_default()
}

/// Prints the failures in full, and the counts. Fails if there is a failure.
fn report(results: &[CaseResult]) -> Result<()> {
    let mut failed = 0;
    for CaseResult { case, result, .. } in results {
        if let Err(error) = result {
            failed += 1;
            println!("\n--- {case}\n{error}");
        }
    }
    if let Some(slowest) = results.iter().max_by_key(|result| result.time) {
        println!("\nslowest: {} {:.1?}", slowest.case, slowest.time);
    }
    println!("{} passed, {failed} failed", results.len() - failed);
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
    fn sample_and_rest_are_the_default_set() {
        let names = |words: &[&str]| -> Vec<String> {
            let arguments = Arguments::parse_from([&["live"], words].concat());
            Cases::select(arguments.set, &arguments.words)
                .names()
                .collect()
        };
        let (sample, rest) = (names(&["--sample"]), names(&["--rest"]));
        let mut both = [sample.clone(), rest].concat();
        let mut default = names(&[]);
        both.sort();
        default.sort();
        assert_eq!(both, default);
        let full: BTreeSet<_> = names(&["--full"]).into_iter().collect();
        assert!(default.iter().all(|name| full.contains(name)));
        assert!(sample.len() < default.len() / 3, "{}", sample.len());
    }
}
