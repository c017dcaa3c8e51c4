//! Grouping of lines into failed loads. A failed load prints from two to some hundred statements,
//! and a log describes many loads.
//!
//! The line that reports the failure ends a load. Lines that libvirt repeats afterwards belong to
//! the same load. Failures with equal statements are stored once, with a count. Limits bound the
//! stored data for any log.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::discriminant;

use crate::message::{Emitter, Statement, Symptom};
use crate::pattern::truncate;
use crate::secrets::redact_secrets;

/// Maximum number of different statements stored for one failure. A register list has at most some
/// hundred registers.
const MAX_STATEMENTS: usize = 1024;
/// Maximum number of lines stored for one failure.
const MAX_LINES: usize = 64;
/// Maximum length of a stored line, in bytes.
const MAX_KEPT_LINE_LEN: usize = 2048;
/// Maximum number of different failures stored.
const MAX_FAILURES: usize = 128;

/// One failed load, as described by its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadFailure {
    /// Statements of the load, each once, in the order of their first occurrence.
    pub statements: Vec<Statement>,
    /// Lines of the load, each once, in order. A guest's keys are redacted ([`redact_secrets`]),
    /// and very long lines are truncated.
    pub lines: Vec<String>,
    /// Number of lines beyond the limit, which are not stored.
    pub further_lines: usize,
    /// Number of times that the log contains the failure.
    pub times: usize,
    has_ended: bool,
}

impl LoadFailure {
    /// Returns the failure described by one line.
    pub fn from_line(line: &str, statements: Vec<Statement>) -> Self {
        let mut failure = Self {
            times: 1,
            ..Self::default()
        };
        failure.add(line, statements);
        failure
    }

    /// Returns the symptoms of the statements, in their order.
    pub fn symptoms(&self) -> impl Iterator<Item = &Symptom> {
        self.statements.iter().map(|statement| &statement.symptom)
    }

    fn add(&mut self, line: &str, statements: Vec<Statement>) {
        // Redact first: truncation could leave half a key, which the redaction does not find.
        let line = redact_secrets(line.trim(), &statements);
        for statement in statements {
            self.has_ended |= statement.symptom.is_fatal();
            if self.statements.len() < MAX_STATEMENTS && !self.statements.contains(&statement) {
                self.statements.push(statement);
            }
        }
        let line = truncate(&line, MAX_KEPT_LINE_LEN);
        if self.lines.iter().any(|kept| kept == line) {
            return;
        }
        if self.lines.len() < MAX_LINES {
            self.lines.push(line.to_owned());
        } else {
            self.further_lines += 1;
        }
    }

    /// Returns `true` if the loader writes the input's registers without comparing lists.
    pub(crate) fn has_no_list(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement.emitter != Emitter::QEMU && statement.symptom.register().is_some()
        })
    }

    fn has_symptom(&self, symptom: &Symptom) -> bool {
        self.symptoms().any(|other| other == symptom)
    }

    /// Returns `true` if a line with these statements belongs to this failure.
    fn is_continued_by(&self, statements: &[Statement]) -> bool {
        let is_from_libvirt = |statement: &Statement| {
            statement.emitter == Emitter::LIBVIRT && statement.symptom.is_forwarded()
        };
        if statements.iter().any(is_from_libvirt) {
            // libvirt repeats lines of QEMU's log, or reports only the end of QEMU.
            return statements.iter().all(|statement| {
                statement.symptom.is_forwarded() || self.has_symptom(&statement.symptom)
            });
        }
        if self.has_ended {
            return false;
        }
        let emitter =
            |statements: &[Statement]| statements.first().map(|statement| statement.emitter);
        match emitter(statements) {
            Some(Emitter::QEMU | Emitter::LIBVIRT) => {
                matches!(
                    emitter(&self.statements),
                    Some(Emitter::QEMU | Emitter::LIBVIRT) | None
                ) && !self.is_restarted_by(statements)
            }
            // Other programs print one line, or print the failure in one line and the reason in the
            // next.
            other => {
                other == emitter(&self.statements) && self.symptoms().all(Symptom::is_forwarded)
            }
        }
    }

    /// Returns `true` if one of the statements occurs only once in a load, and this load has that
    /// statement already.
    fn is_restarted_by(&self, statements: &[Statement]) -> bool {
        statements.iter().any(|statement| match &statement.symptom {
            // QEMU reads the machine type at the start of a stream.
            Symptom::MachineType { .. } => !self.symptoms().all(Symptom::is_warning),
            Symptom::TooManyRegisters { .. } | Symptom::SectionFailed { .. } => self
                .symptoms()
                .any(|other| discriminant(other) == discriminant(&statement.symptom)),
            _ => false,
        })
    }
}

/// Failures of a log, collected line by line.
#[derive(Clone, Debug, Default)]
pub struct LoadFailures {
    open: Option<LoadFailure>,
    closed: Vec<LoadFailure>,
    /// Number of failures beyond [`MAX_FAILURES`].
    further_failures: usize,
}

impl LoadFailures {
    /// Adds the next line and its statements.
    pub fn add(&mut self, line: &str, statements: Vec<Statement>) {
        if statements.is_empty() {
            return;
        }
        match &mut self.open {
            Some(open) if open.is_continued_by(&statements) => open.add(line, statements),
            _ => {
                self.close();
                self.open = Some(LoadFailure::from_line(line, statements));
            }
        }
    }

    fn close(&mut self) {
        let Some(failure) = self.open.take() else {
            return;
        };
        let same = self
            .closed
            .iter()
            .position(|other| other.symptoms().eq(failure.symptoms()));
        if let Some(same) = same {
            self.closed[same].times += 1;
        } else if self.closed.len() < MAX_FAILURES {
            self.closed.push(failure);
        } else {
            self.further_failures += 1;
        }
    }

    /// Returns the failures, in order of their first occurrence, and the number of failures beyond
    /// the limit.
    pub fn finish(mut self) -> (Vec<LoadFailure>, usize) {
        self.close();
        (self.closed, self.further_failures)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use cpreg::destination::VersionRange;
    use cpreg::errno::Errno;

    use super::*;

    fn qemu(symptom: Symptom) -> Statement {
        Statement {
            symptom,
            emitter: Emitter::QEMU,
            versions: VersionRange::ANY,
        }
    }

    fn too_many() -> Statement {
        qemu(Symptom::TooManyRegisters {
            incoming: 258,
            local: 256,
        })
    }

    fn load_failed() -> Statement {
        qemu(Symptom::LoadFailed {
            error: Some(Errno::EINVAL),
        })
    }

    fn libvirt() -> Statement {
        Statement {
            emitter: Emitter::LIBVIRT,
            ..qemu(Symptom::MonitorClosed { vm: None })
        }
    }

    #[test]
    fn equal_failures_are_counted() {
        let mut failures = LoadFailures::default();
        for _ in 0..2 {
            failures.add("a", vec![too_many()]);
            failures.add("b", vec![load_failed()]);
        }
        failures.add("c", vec![load_failed()]);
        let (found, further) = failures.finish();
        assert_eq!(further, 0);
        let times: Vec<_> = found.iter().map(|failure| failure.times).collect();
        assert_eq!(times, [2, 1]);
        assert_eq!(found[0].lines, ["a", "b"]);
    }

    #[test]
    fn repeated_statement_starts_the_next_load() {
        let mut failures = LoadFailures::default();
        failures.add("a", vec![too_many()]);
        failures.add("b", vec![too_many()]);
        let (found, _) = failures.finish();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].times, 2);
    }

    #[test]
    fn lines_repeated_by_libvirt_belong_to_the_failure() {
        let mut failures = LoadFailures::default();
        failures.add("a", vec![too_many()]);
        failures.add("b", vec![load_failed()]);
        failures.add("c", vec![libvirt(), too_many(), load_failed()]);
        let (found, _) = failures.finish();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].times, 1);

        let mut failures = LoadFailures::default();
        failures.add("b", vec![load_failed()]);
        failures.add("c", vec![libvirt(), too_many(), load_failed()]);
        assert_eq!(failures.finish().0.len(), 2);
    }

    #[test]
    fn kept_data_is_bounded() {
        let mut failures = LoadFailures::default();
        for count in 0..10_000 {
            let symptom = Symptom::TooManyRegisters {
                incoming: count,
                local: 0,
            };
            failures.add(&"x".repeat(10_000), vec![qemu(symptom)]);
        }
        let (found, further) = failures.finish();
        assert_eq!(found.len(), MAX_FAILURES);
        assert_eq!(found.len() + further, 10_000);
        assert!(
            found
                .iter()
                .all(|failure| failure.lines[0].len() <= MAX_KEPT_LINE_LEN)
        );
    }
}
