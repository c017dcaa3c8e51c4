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

use cpreg::errno::Errno;

use crate::front_end::reports::MULTIPASS;
use crate::message::{Emitter, Settings, Statement, Symptom};
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
    /// Settings of QEMU's command line that the log states before or within the failure.
    pub settings: Settings,
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
    pub fn symptoms(&self) -> impl Iterator<Item = &Symptom> + Clone {
        self.statements.iter().map(|statement| &statement.symptom)
    }

    /// Returns the error with which the load ended, if a line has it.
    pub(crate) fn load_error(&self) -> Option<Errno> {
        self.symptoms().find_map(|symptom| match symptom {
            Symptom::LoadFailed { error, .. } => *error,
            _ => None,
        })
    }

    /// Returns `true` if a program with this emitter made one of the statements.
    pub(crate) fn has_emitter(&self, emitter: Emitter) -> bool {
        self.statements.iter().any(|it| it.emitter == emitter)
    }

    fn add(&mut self, line: &str, statements: Vec<Statement>) {
        // Redact first: truncation could leave half a key, which the redaction does not find.
        let line = redact_secrets(line.trim(), &statements);
        for statement in statements {
            if let Symptom::Setting(setting) = &statement.symptom {
                self.settings.insert(setting);
                continue;
            }
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
            statement.emitter != Emitter::QEMU
                && matches!(
                    statement.symptom,
                    Symptom::ValueNotAccepted { .. } | Symptom::UnknownToKvm { .. }
                )
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
        if let Some(is_continued) = self.is_continued_by_front_end(statements) {
            return is_continued;
        }
        if self.is_repeated_by(statements) {
            return true;
        }
        if self.has_ended {
            return false;
        }
        let emitter = |statements: &[Statement]| {
            let failures = statements
                .iter()
                .filter(|it| !matches!(it.symptom, Symptom::FrontEnd { .. } | Symptom::Setting(_)));
            failures.map(|statement| statement.emitter).next()
        };
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

    /// Decides lines of front ends, and lines after a front end's; returns `None` for other lines.
    ///
    /// A front end reports the failure after the VMM. Only Multipass announces the VMM's lines.
    fn is_continued_by_front_end(&self, statements: &[Statement]) -> Option<bool> {
        let is_report = |symptom: &Symptom| matches!(symptom, Symptom::FrontEnd { .. });
        if statements.iter().all(|it| is_report(&it.symptom)) {
            let is_foreign = |own: &Statement| {
                is_report(&own.symptom) && statements.iter().all(|it| it.emitter != own.emitter)
            };
            let is_of_vmm = !self.has_emitter(Emitter::FIRECRACKER)
                && statements.iter().all(|it| {
                    (it.emitter == Emitter::CLOUD_HYPERVISOR)
                        == self.has_emitter(Emitter::CLOUD_HYPERVISOR)
                });
            return Some(is_of_vmm && !self.statements.iter().any(is_foreign));
        }
        if self.symptoms().all(is_report) {
            let announces = |symptom: &Symptom| match symptom {
                Symptom::FrontEnd { report } => report.front_end == MULTIPASS,
                _ => false,
            };
            return Some(self.symptoms().any(announces));
        }
        None
    }

    /// Returns `true` if the line repeats the failure's statement in other words, or for another
    /// disk, or if it mentions a further register.
    fn is_repeated_by(&self, statements: &[Statement]) -> bool {
        let is_repetition = |symptom: &Symptom| match symptom {
            Symptom::DeviceStart { device, .. } => self.symptoms().any(
                |own| matches!(own, Symptom::DeviceStart { device: own, .. } if own == device),
            ),
            Symptom::SnapshotMissing { .. } => self.has_symptom(symptom),
            Symptom::RegisterMention { .. } => {
                let is_mention = |own: &Symptom| matches!(own, Symptom::RegisterMention { .. });
                self.symptoms().all(is_mention)
                    && statements.iter().all(|it| self.has_emitter(it.emitter))
            }
            _ => false,
        };
        !statements.is_empty() && statements.iter().all(|it| is_repetition(&it.symptom))
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
    /// Settings of the last command line.
    settings: Settings,
    closed: Vec<LoadFailure>,
    /// Number of failures beyond [`MAX_FAILURES`].
    further_failures: usize,
}

impl LoadFailures {
    /// Adds the next line and its statements.
    pub fn add(&mut self, line: &str, statements: Vec<Statement>) {
        let (settings, statements): (Vec<_>, Vec<_>) = statements
            .into_iter()
            .partition(|statement| matches!(statement.symptom, Symptom::Setting(_)));
        for statement in &settings {
            if let Symptom::Setting(setting) = &statement.symptom {
                self.settings.insert(setting);
            }
        }
        if statements.is_empty() {
            return;
        }
        if !matches!(&self.open, Some(open) if open.is_continued_by(&statements)) {
            self.close();
            self.open = Some(LoadFailure {
                times: 1,
                ..LoadFailure::default()
            });
        }
        if let Some(open) = &mut self.open {
            open.settings = self.settings.clone();
            open.add(line, statements);
        }
    }

    fn close(&mut self) {
        let Some(failure) = self.open.take() else {
            return;
        };
        let same = self.closed.iter().position(|other| {
            other.symptoms().eq(failure.symptoms()) && other.settings == failure.settings
        });
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
            input: crate::message::LoadInput::Stream,
            error: Some(Errno::EINVAL),
        })
    }

    fn libvirt() -> Statement {
        Statement {
            emitter: Emitter::LIBVIRT,
            ..qemu(Symptom::MonitorClosed {
                vm: None,
                is_start: false,
            })
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
