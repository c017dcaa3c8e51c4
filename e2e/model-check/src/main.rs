//! The loader models against real QEMUs: are the models true? Recorded streams, edited at random, are loaded by the real QEMUs, and what each does
//! is held against what [`cpreg::destination::load`] foretold.
//!
//! | module | what lives there |
//! |---|---|
//! | [`sources`] | the recorded streams |
//! | [`target_machine`] | the QEMU that loads one |
//! | [`draft`] | a `cpu` section as bytes, right or wrong |
//! | [`edits`] | random edits of it |
//! | [`fixture`] | one case: foretold, loaded, compared |
//! | [`compare`] | prediction against reality |
//! | [`rehearsal_check`] | rehearsals against loads of whole streams |
//! | [`random`] | the same random numbers everywhere |
//!
//! A case is a number; with the seed and the series it says everything, so that it can be repeated alone. What is proven here is what
//! QEMU does with the vCPUs' sections. Where its machine's outline is not the stream's, it gets these with its own devices around them.

#![forbid(unsafe_code)]
// The check talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod compare;
mod draft;
mod edits;
mod fixture;
mod random;
mod rehearsal_check;
mod sources;
mod target_machine;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use e2e_framework::qemu::{self, Qemu};
use e2e_framework::{Result, parallel};

use self::compare::{CaseVerdict, VerdictCounts};
use self::fixture::{Fixture, JOBS};

/// How many edited streams each QEMU gets.
const DEFAULT_EDITS: usize = 500;

/// The seed, unless another is wanted.
const DEFAULT_SEED: u64 = 1;

/// Of a hundred answers fewer than so many may be "cannot be told".
const MAX_UNDECIDED_PERCENT: usize = 10;

/// The loader models against real QEMUs: recorded streams, edited at random, are loaded, and what each QEMU does is held
/// against what was foretold
#[derive(Debug, Parser)]
#[command(
    name = "model-check",
    bin_name = "cargo xtask model-check",
    max_term_width = 100
)]
struct Arguments {
    /// How many edited streams each QEMU gets
    #[arg(long, value_name = "N", default_value_t = DEFAULT_EDITS)]
    edits: usize,
    /// Another seed gives other edits
    #[arg(long, value_name = "S", default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Only this QEMU, such as 10.0
    #[arg(long)]
    series: Option<String>,
    /// Only this case, and all about it
    #[arg(long, value_name = "N")]
    case: Option<usize>,
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

/// Checks all cases that are wanted.
///
/// # Errors
/// If a model disagrees with a QEMU, or cannot tell too often.
fn run(options: &Arguments) -> Result<()> {
    let mut qemus = qemu::ensure()?;
    if let Some(series) = &options.series {
        qemus.retain(|qemu| qemu.series == series);
        if qemus.is_empty() {
            return Err(format!("there is no QEMU {series} here; see docs/testing.md").into());
        }
    }
    let begin = Instant::now();
    let sources = sources::all(JOBS)?;
    let bench = Fixture {
        pool: sources::pool(&sources),
        initial_states: Mutex::default(),
        sources: &sources,
        seed: options.seed,
    };
    println!(
        "{} recorded streams, read in {:.1?}; seed {}",
        sources.len(),
        begin.elapsed(),
        options.seed
    );
    let cases = match options.case {
        Some(case) => case..case + 1,
        None => 0..options.edits,
    };
    let verbose = options.case.is_some();
    for qemu in &qemus {
        println!("QEMU {}", qemu.version);
    }
    let waiting = qemus
        .iter()
        .flat_map(|qemu| cases.clone().map(move |case| (qemu, case)));
    let counts: Mutex<BTreeMap<&str, VerdictCounts>> = Mutex::default();
    let failures = Mutex::new(Vec::new());
    parallel::for_each(JOBS, waiting, |(qemu, case)| {
        let verdict = match bench.case(qemu, case, verbose) {
            Ok(verdict) => verdict,
            Err(error) => {
                let text = format!("{}, case {case}: {error}", qemu.series);
                CaseVerdict::Mismatch(text)
            }
        };
        if let Ok(mut counts) = counts.lock() {
            counts.entry(qemu.series).or_default().add(&verdict);
        }
        if let (CaseVerdict::Mismatch(text), Ok(mut failures)) = (verdict, failures.lock()) {
            println!("{text}\n");
            failures.push((qemu.series, case));
        }
    });
    let counts = counts.into_inner().unwrap_or_default();
    let failures = failures.into_inner().unwrap_or_default();
    let edited = report(&qemus, &counts, &cases, failures.len(), begin.elapsed());
    if options.case.is_some() {
        return edited;
    }
    let whole = rehearsal_check::run(&bench, &qemus);
    match (edited, whole) {
        (Err(edited), Err(whole)) => Err(format!("{edited}; {whole}").into()),
        (Ok(()), other) | (other, Ok(())) => other,
    }
}

fn report(
    qemus: &[Qemu],
    counts: &BTreeMap<&str, VerdictCounts>,
    cases: &std::ops::Range<usize>,
    failures: usize,
    time: Duration,
) -> Result<()> {
    println!(
        "QEMU   edited  loads  fails  null         not read  other device  wrong   (loads, \
         fails: as foretold)"
    );
    let mut faults = Vec::new();
    for qemu in qemus {
        let Some(of) = counts.get(qemu.series) else {
            continue;
        };
        let (loads, fails) = (
            of.total(&["agreement-loads"]),
            of.total(&["agreement-fails"]),
        );
        let (null, wrong) = (of.total(&["undecided"]), of.total(&["mismatch"]));
        let (not_read, elsewhere) = (of.total(&["unreadable"]), of.total(&["other-section"]));
        let all = loads + fails + null + wrong + not_read + elsewhere;
        let (percent, tenth) = (null * 100 / all.max(1), null * 1000 / all.max(1) % 10);
        println!(
            "{:<6} {all:>6} {loads:>6} {fails:>6} {null:>5} ({percent:>2}.{tenth} %) \
             {not_read:>9} {elsewhere:>13} {wrong:>6}",
            qemu.series
        );
        if all != cases.len() {
            faults.push(format!(
                "QEMU {}: {all} of {} cases ended",
                qemu.series,
                cases.len()
            ));
        }
        if cases.len() > 1 && null * 100 >= all * MAX_UNDECIDED_PERCENT {
            faults.push(format!(
                "QEMU {}: the model cannot tell in {null} of {all} cases; fewer than \
                 {MAX_UNDECIDED_PERCENT} % are allowed",
                qemu.series
            ));
        }
    }
    println!("in {time:.1?}");
    if failures > 0 {
        faults.push(format!("{failures} cases in which model and QEMU disagree"));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("; ").into())
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
}
