//! Check of the loader models, the predictions of [`cpreg::destination::load`]. Real QEMUs load
//! recorded streams with random edits, and each result is compared with the prediction.
//!
//! | module | content |
//! |---|---|
//! | [`sources`] | recorded streams |
//! | [`target_machine`] | machine of the QEMU that loads a stream |
//! | [`draft`] | a `cpu` section as bytes, valid or not |
//! | [`edits`] | random edits of a section |
//! | [`fixture`] | one case: prediction, load, comparison |
//! | [`compare`] | comparison of prediction and result |
//! | [`rehearsal_check`] | comparison of rehearsals with loads of whole streams |
//! | [`random`] | random numbers, the same on every machine |
//!
//! Each case has a number. This number, the seed and the series determine all inputs, so a user can
//! repeat a case alone. Only the loading of the vCPUs' sections is checked. If the
//! machine of a QEMU has another shape than the stream, QEMU gets these sections within its own
//! device state.

#![forbid(unsafe_code)]
// The check prints for the user.
#![expect(clippy::print_stdout)]

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

/// Number of edited streams for each QEMU.
const DEFAULT_EDITS: usize = 500;

/// Default seed.
const DEFAULT_SEED: u64 = 1;

/// Limit for undecided cases, in percent.
const MAX_UNDECIDED_PERCENT: usize = 10;

/// Limit for streams that one QEMU loads differently from time to time.
const MAX_INCONSISTENT: usize = 2;

/// Checks the loader models against real QEMUs: recorded streams with random edits are loaded, and
/// each result is compared with the prediction
#[derive(Debug, Parser)]
#[command(
    name = "model-check",
    bin_name = "cargo xtask model-check",
    max_term_width = 100
)]
struct Arguments {
    /// Number of edited streams for each QEMU
    #[arg(long, value_name = "N", default_value_t = DEFAULT_EDITS)]
    edits: usize,
    /// Seed of the edits
    #[arg(long, value_name = "S", default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Check only this QEMU, such as 10.0
    #[arg(long)]
    series: Option<String>,
    /// Run only this case, and print all details
    #[arg(long, value_name = "N")]
    case: Option<usize>,
}

fn main() -> ExitCode {
    e2e_framework::exit_code(run(&Arguments::parse()).map(|()| true))
}

/// Checks all selected cases.
///
/// # Errors
/// Returns an error if a model disagrees with a QEMU, or is undecided too often.
fn run(options: &Arguments) -> Result<()> {
    let mut qemus = qemu::ensure()?;
    if let Some(series) = &options.series {
        qemus.retain(|qemu| qemu.series == series);
        if qemus.is_empty() {
            return Err(format!("no QEMU {series} is installed; see docs/testing.md").into());
        }
    }
    let start = Instant::now();
    let sources = sources::all(JOBS)?;
    let fixture = Fixture {
        pool: sources::pool(&sources),
        initial_states: Mutex::default(),
        sources: &sources,
        seed: options.seed,
    };
    println!(
        "{} recorded streams, read in {:.1?}; seed {}",
        sources.len(),
        start.elapsed(),
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
    let cases_by_qemu = qemus
        .iter()
        .flat_map(|qemu| cases.clone().map(move |case| (qemu, case)));
    let counts: Mutex<BTreeMap<&str, VerdictCounts>> = Mutex::default();
    let failures = Mutex::new(Vec::new());
    parallel::for_each(JOBS, cases_by_qemu, |(qemu, case)| {
        let verdict = match fixture.run_case(qemu, case, verbose) {
            Ok(verdict) => verdict,
            Err(error) => {
                let text = format!("{}, case {case}: {error}", qemu.series);
                CaseVerdict::Mismatch(text)
            }
        };
        if let Ok(mut counts) = counts.lock() {
            counts.entry(qemu.series).or_default().add(&verdict);
        }
        match verdict {
            CaseVerdict::Mismatch(text) => {
                println!("{text}\n");
                if let Ok(mut failures) = failures.lock() {
                    failures.push((qemu.series, case));
                }
            }
            CaseVerdict::Inconsistent(text) => println!("{text}\n"),
            _ => {}
        }
    });
    let counts = counts.into_inner().unwrap_or_default();
    let failures = failures.into_inner().unwrap_or_default();
    let edits_result = report(&qemus, &counts, &cases, failures.len(), start.elapsed());
    if options.case.is_some() {
        return edits_result;
    }
    let rehearsals_result = rehearsal_check::run(&fixture, &qemus);
    match (edits_result, rehearsals_result) {
        (Err(edits), Err(rehearsals)) => Err(format!("{edits}; {rehearsals}").into()),
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
        "QEMU   edited  loads  fails  undecided    not read  other device  varies  wrong   (loads, \
         fails: as predicted)"
    );
    let mut errors = Vec::new();
    for qemu in qemus {
        let Some(verdicts) = counts.get(qemu.series) else {
            continue;
        };
        let (loads, fails) = (
            verdicts.total(&["agreement-loads"]),
            verdicts.total(&["agreement-fails"]),
        );
        let (undecided, wrong) = (
            verdicts.total(&["undecided"]),
            verdicts.total(&["mismatch"]),
        );
        let (not_read, other_device) = (
            verdicts.total(&["unreadable"]),
            verdicts.total(&["other-section"]),
        );
        let varies = verdicts.total(&["inconsistent"]);
        let all = loads + fails + undecided + wrong + not_read + other_device + varies;
        let (percent, tenth) = (
            undecided * 100 / all.max(1),
            undecided * 1000 / all.max(1) % 10,
        );
        println!(
            "{:<6} {all:>6} {loads:>6} {fails:>6} {undecided:>5} ({percent:>2}.{tenth} %) \
             {not_read:>9} {other_device:>13} {varies:>7} {wrong:>6}",
            qemu.series
        );
        if all != cases.len() {
            errors.push(format!(
                "QEMU {}: {all} of {} cases have a verdict",
                qemu.series,
                cases.len()
            ));
        }
        if varies > MAX_INCONSISTENT {
            errors.push(format!(
                "QEMU {}: {varies} streams load differently from time to time; at most \
                 {MAX_INCONSISTENT} may",
                qemu.series
            ));
        }
        if cases.len() > 1 && undecided * 100 >= all * MAX_UNDECIDED_PERCENT {
            errors.push(format!(
                "QEMU {}: the model is undecided in {undecided} of {all} cases; fewer than \
                 {MAX_UNDECIDED_PERCENT} % are allowed",
                qemu.series
            ));
        }
    }
    println!("in {time:.1?}");
    if failures > 0 {
        errors.push(format!("model and QEMU disagree in {failures} cases"));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("; ").into())
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
