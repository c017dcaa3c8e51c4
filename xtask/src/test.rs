//! `cargo xtask test`, and `cargo xtask test --all`, which is what CI runs.
//!
//! Every part runs, whatever became of the ones before it: one run reports everything that is wrong.
//! A part whose tools are missing fails; nothing is skipped. No case runs in two parts.

use std::thread;
use std::time::{Duration, Instant};

use crate::cargo::{Profile, Result, run as program, succeed};

/// A part of the tests.
struct Part {
    name: &'static str,
    run: fn() -> Result<()>,
}

/// The same cases of property tests in every run: what fails fails again, and because of a change.
/// `cargo test` without it draws other cases each time.
const FIXED_CASES: (&str, &str) = ("PROPTEST_RNG_SEED", "20260823");

/// The parts of `cargo xtask test`.
const QUICK: [Part; 3] = [
    Part {
        name: "lints",
        run: || program("lint", "lint", Profile::Dev, &[]),
    },
    Part {
        name: "tests",
        run: || succeed(&["test", "--workspace", "--quiet"], &[FIXED_CASES]),
    },
    Part {
        name: "live sample",
        run: || live("--sample"),
    },
];

/// The parts that `--all` adds.
const LONG: [Part; 4] = [
    Part {
        name: "live tests",
        run: || live("--rest"),
    },
    Part {
        name: "loader models",
        run: || program("e2e-model-check", "e2e-model-check", Profile::Dev, &[]),
    },
    Part {
        name: "real kernels",
        run: || program("e2e-lab", "e2e-lab", Profile::Dev, &["test".into()]),
    },
    Part {
        name: "fuzzing",
        run: || {
            program(
                "fuzz",
                "fuzz",
                Profile::Dev,
                &["--time".into(), "10".into()],
            )
        },
    },
];

/// Runs the quick parts, and with `all` the long ones too.
///
/// # Errors
/// If a part fails; the error names it, and what it printed stands above.
pub(crate) fn run(all: bool) -> Result<()> {
    fetch_in_background(all);
    let mut failed = Vec::new();
    let mut times = Vec::new();
    for part in QUICK
        .iter()
        .chain(LONG.iter().take(if all { LONG.len() } else { 0 }))
    {
        println!("== {}", part.name);
        let start = Instant::now();
        if let Err(error) = (part.run)() {
            eprintln!("{}: {error}", part.name);
            failed.push(part.name);
        }
        times.push((part.name, start.elapsed()));
    }
    print!("{}", table(&times));
    println!(
        "parts: {} passed, {} failed",
        times.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}

/// Runs one of the two halves of the live tests that belong to no option `--full`.
fn live(half: &str) -> Result<()> {
    program("e2e-live", "e2e-live", Profile::Dev, &[half.into()])
}

/// Installs tools, and downloads what later parts need while the first ones keep the processors busy.
///
/// A part that then lacks something says so; a failure here is only printed.
fn fetch_in_background(all: bool) {
    let fetch = |what: &str| program("e2e-framework", "e2e-fetch", Profile::Dev, &[what.into()]);
    // Two installations at a time disturb each other, so that this one comes before everything else.
    if let Err(error) = fetch("tools") {
        eprintln!("tools not installed: {error}");
        return;
    }
    thread::spawn(move || {
        let mut fetched = fetch("qemus");
        if all && fetched.is_ok() {
            fetched = program("e2e-lab", "e2e-lab", Profile::Dev, &["fetch".into()]);
        }
        if let Err(error) = fetched {
            eprintln!("not downloaded in the background: {error}");
        }
    });
}

/// Returns a line for each part with the time that it took, and one for the sum.
fn table(times: &[(&str, Duration)]) -> String {
    let sum = ("sum", times.iter().map(|(_, time)| *time).sum());
    let lines = times.iter().copied().chain([sum]).map(|(name, time)| {
        let seconds = time.as_secs();
        format!("{name:<14} {:>3} min {:02} s\n", seconds / 60, seconds % 60)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_part_and_the_sum() {
        let times = [
            ("lints", Duration::from_secs(61)),
            ("tests", Duration::from_secs(5)),
        ];
        let table = table(&times);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "lints            1 min 01 s");
        assert_eq!(lines[2], "sum              1 min 06 s");
    }

    #[test]
    fn no_part_is_in_both_lists() {
        for part in &QUICK {
            assert!(LONG.iter().all(|other| other.name != part.name));
        }
    }
}
