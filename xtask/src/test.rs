//! `cargo xtask test`, and `cargo xtask test --all`, which CI runs.
//!
//! The first part builds everything, and the others run the built programs. Every part runs, even
//! after a failure, so one run reports all problems. A part whose tools are missing fails; nothing
//! is skipped. No test runs in two parts.

use std::process::{Command, ExitCode};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cargo::{Result, built_program, cargo};
use crate::count::{Counts, count};
use crate::test_programs;

/// A part of the tests.
struct Part {
    name: &'static str,
    work: Work,
}

/// Work of a part.
enum Work {
    /// A command that prints the counts of its tests.
    Command(fn() -> Result<Command>),
    /// All test programs of the workspace.
    TestPrograms,
}

/// Parts of `cargo xtask test`.
const QUICK_PARTS: [Part; 6] = [
    Part {
        name: "build",
        work: Work::Command(|| {
            Ok(with_arguments(
                cargo(),
                &["build", "--workspace", "--all-targets", "--quiet"],
            ))
        }),
    },
    // Tests of several crates start these programs.
    Part {
        name: "tools",
        work: Work::Command(|| Ok(with_arguments(built_program("e2e-fetch")?, &["tools"]))),
    },
    Part {
        name: "lints",
        work: Work::Command(|| built_program("lint")),
    },
    Part {
        name: "tests",
        work: Work::TestPrograms,
    },
    Part {
        name: "page",
        work: Work::Command(|| built_program("e2e-page")),
    },
    Part {
        name: "live sample",
        work: Work::Command(|| Ok(with_arguments(built_program("e2e-live")?, &["--sample"]))),
    },
];

/// Additional parts of `--all`.
const LONG_PARTS: [Part; 6] = [
    Part {
        name: "live tests",
        work: Work::Command(|| Ok(with_arguments(built_program("e2e-live")?, &["--rest"]))),
    },
    Part {
        name: "fleet",
        work: Work::Command(|| built_program("e2e-fleet")),
    },
    Part {
        name: "libvirt",
        work: Work::Command(|| built_program("e2e-libvirt")),
    },
    Part {
        name: "loader models",
        work: Work::Command(|| built_program("e2e-model-check")),
    },
    Part {
        name: "real kernels",
        work: Work::Command(|| Ok(with_arguments(built_program("e2e-lab")?, &["test"]))),
    },
    Part {
        name: "fuzzing",
        work: Work::Command(|| Ok(with_arguments(built_program("fuzz")?, &["--time", "10"]))),
    },
];

/// Runs the quick parts, and with `all` the long ones too. Prints the time of each part, and last
/// the number of passed tests.
pub(crate) fn run(all: bool) -> ExitCode {
    let long_parts = if all { &LONG_PARTS[..] } else { &[] };
    let mut failed = Vec::new();
    let mut times = Vec::new();
    let mut counts = Counts::default();
    let mut download = None;
    for part in QUICK_PARTS.iter().chain(long_parts) {
        println!("== {}", part.name);
        let start = Instant::now();
        let part_counts = part.run().unwrap_or_else(|error| {
            println!("{}: {error}", part.name);
            Counts::FAILED
        });
        if part_counts.failed > 0 {
            failed.push(part.name);
        }
        counts += part_counts;
        times.push((part.name, start.elapsed()));
        // The download starts after the part `tools`, because both use apt, and the first part
        // builds the downloading programs.
        if part.name == "tools" {
            download = Some(download_in_background(all));
        }
    }
    if let Some(download) = download {
        let _ = download.join();
    }
    print!("== times\n{}", table(&times));
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    // CI parses the last line as the result.
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Part {
    /// Runs the part, and returns the counts of its tests. A part without counts is one test.
    fn run(&self) -> Result<Counts> {
        let command = match self.work {
            Work::Command(command) => command,
            Work::TestPrograms => return test_programs::run(),
        };
        let (status, counts) = count(self.name, &mut command()?)?;
        Ok(match (status.success(), counts) {
            (true, counts) if counts == Counts::default() => Counts::PASSED,
            (false, counts) if counts.failed == 0 => counts + Counts::FAILED,
            (_, counts) => counts,
        })
    }
}

fn with_arguments(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

/// Downloads the inputs of later parts.
///
/// A failure is only printed here, because the part that needs the input fails.
fn download_in_background(all: bool) -> JoinHandle<()> {
    thread::spawn(move || {
        let fetch = |program: &str, argument: &str| -> Result<()> {
            let status = built_program(program)?.arg(argument).status()?;
            if status.success() {
                Ok(())
            } else {
                Err(format!("{program} {argument}: {status}").into())
            }
        };
        let mut result = fetch("e2e-fetch", "qemus");
        if all && result.is_ok() {
            result = fetch("e2e-libvirt", "--fetch").and_then(|()| fetch("e2e-lab", "fetch"));
        }
        if let Err(error) = result {
            eprintln!("not downloaded in the background: {error}");
        }
    })
}

/// Returns a line for each part with its time, and one for the sum.
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
        for part in &QUICK_PARTS {
            assert!(LONG_PARTS.iter().all(|other| other.name != part.name));
        }
    }
}
