//! Counts of passed tests, from the output of programs.

use std::io::{self, BufRead as _, BufReader};
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::process::{Command, ExitStatus, Stdio};

/// Numbers of passed and failed tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Counts {
    /// One passed test.
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };
    /// One failed test.
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };

    /// Parses `test result: ok. 5 passed; 0 failed; …` or `5 passed, 0 failed`, after any prefix.
    pub(crate) fn parse_line(line: &str) -> Option<Self> {
        let number_before = |word: &str| {
            let (before, _) = line.split_once(word)?;
            let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        Some(Self {
            passed: number_before(" passed")?,
            failed: number_before(" failed")?,
        })
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// Runs a command, and returns the sum of the counts in its output.
///
/// The output is forwarded. A line that has only counts (`5 passed, 0 failed`) gets the command's
/// name as a prefix, because only the last line of `cargo xtask test` may have only counts.
///
/// # Errors
/// Returns an error if it cannot be started.
pub(crate) fn count(name: &str, command: &mut Command) -> io::Result<(ExitStatus, Counts)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            match Counts::parse_line(&line) {
                Some(line_counts) if line.starts_with(|c: char| c.is_ascii_digit()) => {
                    counts += line_counts;
                    println!("{name}: {line}");
                }
                Some(line_counts) => {
                    counts += line_counts;
                    println!("{line}");
                }
                None => println!("{line}"),
            }
        }
    }
    Ok((child.wait()?, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_lines() {
        let counts = |passed, failed| Some(Counts { passed, failed });
        for (line, expected) in [
            (
                "test result: FAILED. 31 passed; 2 failed; 0 ignored; 0 measured",
                counts(31, 2),
            ),
            ("44 passed, 0 failed", counts(44, 0)),
            ("lab: 21 passed, 1 failed (5m)", counts(21, 1)),
            ("lint crates: fine (20 us)", None),
            ("passed, failed", None),
        ] {
            assert_eq!(Counts::parse_line(line), expected, "{line}");
        }
    }

    #[test]
    fn a_command_is_counted() {
        let script =
            "echo 'test result: ok. 3 passed; 0 failed'; echo '4 passed, 1 failed'; exit 3";
        let (status, counts) = count("sh", Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!((counts.passed, counts.failed), (7, 1));
    }
}
