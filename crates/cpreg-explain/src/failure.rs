//! Lines that belong together: one failed load says two to some hundred things, and a log has many loads.
//!
//! A load ends with a line that says so; what libvirt repeats of it afterwards belongs to it. Failures that say the same are counted. What is
//! kept is bounded whatever the log holds.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::discriminant;

use crate::message::{Emitter, Statement, Symptom};
use crate::pattern::truncate;
use crate::secrets::redact_secrets;

/// Different things that are kept of one failure; a list has at most some hundred registers.
const MAX_STATEMENTS: usize = 1024;
/// Lines that are kept of one failure.
const MAX_LINES: usize = 64;
/// Bytes that are kept of a line.
const MAX_KEPT_LINE_LEN: usize = 2048;
/// Different failures that are kept.
const MAX_FAILURES: usize = 128;

/// One failed load, as far as the lines tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadFailure {
    /// What was said, each thing once, in order.
    pub statements: Vec<Statement>,
    /// The lines, each once, in order, without a guest's keys ([`redact_secrets`]), cut where they are very long.
    pub lines: Vec<String>,
    /// How many more lines there were than are kept.
    pub further_lines: usize,
    /// How often it happened.
    pub times: usize,
    has_ended: bool,
}

impl LoadFailure {
    /// The failure that one line is about.
    pub fn from_line(line: &str, said: Vec<Statement>) -> Self {
        let mut failure = Self {
            times: 1,
            ..Self::default()
        };
        failure.add(line, said);
        failure
    }

    /// The symptoms.
    pub fn symptoms(&self) -> impl Iterator<Item = &Symptom> {
        self.statements.iter().map(|said| &said.symptom)
    }

    fn add(&mut self, line: &str, said: Vec<Statement>) {
        // Before it is cut: half a key would not be found.
        let line = redact_secrets(line.trim(), &said);
        for said in said {
            self.has_ended |= said.symptom.is_fatal();
            if self.statements.len() < MAX_STATEMENTS && !self.statements.contains(&said) {
                self.statements.push(said);
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

    /// Whether the loader writes the input's registers without having compared lists.
    pub(crate) fn has_no_list(&self) -> bool {
        self.statements
            .iter()
            .any(|said| said.emitter != Emitter::QEMU && said.symptom.register().is_some())
    }

    fn has_symptom(&self, symptom: &Symptom) -> bool {
        self.symptoms().any(|other| other == symptom)
    }

    /// Whether these lines go on with this failure.
    fn is_continued_by(&self, said: &[Statement]) -> bool {
        let is_libvirts =
            |said: &Statement| said.emitter == Emitter::LIBVIRT && said.symptom.is_forwarded();
        if said.iter().any(is_libvirts) {
            // It repeats what it read in QEMU's log, or only that there was something.
            return said
                .iter()
                .all(|said| said.symptom.is_forwarded() || self.has_symptom(&said.symptom));
        }
        if self.has_ended {
            return false;
        }
        let speaker = |said: &[Statement]| said.first().map(|said| said.emitter);
        match speaker(said) {
            Some(Emitter::QEMU | Emitter::LIBVIRT) => {
                matches!(
                    speaker(&self.statements),
                    Some(Emitter::QEMU | Emitter::LIBVIRT) | None
                ) && !self.is_restarted_by(said)
            }
            // The others say all in one line, or what failed in one and why in the next.
            other => {
                other == speaker(&self.statements) && self.symptoms().all(Symptom::is_forwarded)
            }
        }
    }

    /// Whether this is said once in a load, and was.
    fn is_restarted_by(&self, said: &[Statement]) -> bool {
        said.iter().any(|said| match &said.symptom {
            // It stands at the stream's beginning.
            Symptom::MachineType { .. } => !self.symptoms().all(Symptom::is_warning),
            Symptom::TooManyRegisters { .. } | Symptom::SectionFailed { .. } => self
                .symptoms()
                .any(|other| discriminant(other) == discriminant(&said.symptom)),
            _ => false,
        })
    }
}

/// The failures of a log, as its lines come.
#[derive(Clone, Debug, Default)]
pub struct LoadFailures {
    open: Option<LoadFailure>,
    closed: Vec<LoadFailure>,
    /// How many failures are not kept because there are too many different ones.
    further_failures: usize,
}

impl LoadFailures {
    /// The next line that says something.
    pub fn add(&mut self, line: &str, said: Vec<Statement>) {
        if said.is_empty() {
            return;
        }
        match &mut self.open {
            Some(open) if open.is_continued_by(&said) => open.add(line, said),
            _ => {
                self.close();
                self.open = Some(LoadFailure::from_line(line, said));
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

    /// All failures, in the order in which they first happened, and how many more there were that are not kept.
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
    fn two_loads_are_two_failures_or_one_that_happened_twice() {
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
    fn a_load_without_its_end_is_told_from_the_next() {
        let mut failures = LoadFailures::default();
        failures.add("a", vec![too_many()]);
        failures.add("b", vec![too_many()]);
        let (found, _) = failures.finish();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].times, 2);
    }

    #[test]
    fn what_libvirt_repeats_is_no_other_failure() {
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
    fn what_is_kept_is_bounded() {
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
