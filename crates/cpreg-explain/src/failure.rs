//! Lines that belong together: one failed load says two to some hundred things, and a log has many loads.
//!
//! A load ends with a line that says so; what libvirt repeats of it afterwards belongs to it. Failures that say the same are counted. What is
//! kept is bounded whatever the log holds.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::discriminant;

use crate::message::{Said, Speaker, Symptom};
use crate::pattern::cut;
use crate::secrets::without_secrets;

/// Different things that are kept of one failure; a list has at most some hundred registers.
const MOST_SAID: usize = 1024;
/// Lines that are kept of one failure.
const MOST_LINES: usize = 64;
/// Bytes that are kept of a line.
const LONGEST_LINE: usize = 2048;
/// Different failures that are kept.
const MOST_FAILURES: usize = 128;

/// One failed load, as far as the lines tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// What was said, each thing once, in order.
    pub said: Vec<Said>,
    /// The lines, each once, in order, without a guest's keys ([`without_secrets`]), cut where they are very long.
    pub lines: Vec<String>,
    /// How many more lines there were than are kept.
    pub further_lines: usize,
    /// How often it happened.
    pub times: usize,
    ended: bool,
}

impl Failure {
    /// The failure that one line is about.
    pub fn of_line(line: &str, said: Vec<Said>) -> Self {
        let mut failure = Self {
            times: 1,
            ..Self::default()
        };
        failure.add(line, said);
        failure
    }

    /// The symptoms.
    pub fn symptoms(&self) -> impl Iterator<Item = &Symptom> {
        self.said.iter().map(|said| &said.symptom)
    }

    fn add(&mut self, line: &str, said: Vec<Said>) {
        // Before it is cut: half a key would not be found.
        let line = without_secrets(line.trim(), &said);
        for said in said {
            self.ended |= said.symptom.ends();
            if self.said.len() < MOST_SAID && !self.said.contains(&said) {
                self.said.push(said);
            }
        }
        let line = cut(&line, LONGEST_LINE);
        if self.lines.iter().any(|kept| kept == line) {
            return;
        }
        if self.lines.len() < MOST_LINES {
            self.lines.push(line.to_owned());
        } else {
            self.further_lines += 1;
        }
    }

    /// Whether the loader writes the input's registers without having compared lists.
    pub(crate) fn has_no_list(&self) -> bool {
        self.said
            .iter()
            .any(|said| said.speaker != Speaker::QEMU && said.symptom.register().is_some())
    }

    fn says(&self, symptom: &Symptom) -> bool {
        self.symptoms().any(|other| other == symptom)
    }

    /// Whether these lines go on with this failure.
    fn goes_on_with(&self, said: &[Said]) -> bool {
        let is_libvirts = |said: &Said| said.speaker == Speaker::LIBVIRT && said.symptom.hands_on();
        if said.iter().any(is_libvirts) {
            // It repeats what it read in QEMU's log, or only that there was something.
            return said
                .iter()
                .all(|said| said.symptom.hands_on() || self.says(&said.symptom));
        }
        if self.ended {
            return false;
        }
        let speaker = |said: &[Said]| said.first().map(|said| said.speaker);
        match speaker(said) {
            Some(Speaker::QEMU | Speaker::LIBVIRT) => {
                matches!(
                    speaker(&self.said),
                    Some(Speaker::QEMU | Speaker::LIBVIRT) | None
                ) && !self.begins_again_with(said)
            }
            // The others say all in one line, or what failed in one and why in the next.
            other => other == speaker(&self.said) && self.symptoms().all(Symptom::hands_on),
        }
    }

    /// Whether this is said once in a load, and was.
    fn begins_again_with(&self, said: &[Said]) -> bool {
        said.iter().any(|said| match &said.symptom {
            // It stands at the stream's beginning.
            Symptom::MachineType { .. } => !self.symptoms().all(Symptom::is_warning),
            Symptom::TooMany { .. } | Symptom::SectionFailed { .. } => self
                .symptoms()
                .any(|other| discriminant(other) == discriminant(&said.symptom)),
            _ => false,
        })
    }
}

/// The failures of a log, as its lines come.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    open: Option<Failure>,
    closed: Vec<Failure>,
    /// How many failures are not kept because there are too many different ones.
    further: usize,
}

impl Failures {
    /// The next line that says something.
    pub fn add(&mut self, line: &str, said: Vec<Said>) {
        if said.is_empty() {
            return;
        }
        match &mut self.open {
            Some(open) if open.goes_on_with(&said) => open.add(line, said),
            _ => {
                self.close();
                self.open = Some(Failure::of_line(line, said));
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
        } else if self.closed.len() < MOST_FAILURES {
            self.closed.push(failure);
        } else {
            self.further += 1;
        }
    }

    /// All failures, in the order in which they first happened, and how many more there were that are not kept.
    pub fn finish(mut self) -> (Vec<Failure>, usize) {
        self.close();
        (self.closed, self.further)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use cpreg::destination::Versions;
    use cpreg::errno::Errno;

    use super::*;

    fn qemu(symptom: Symptom) -> Said {
        Said {
            symptom,
            speaker: Speaker::QEMU,
            versions: Versions::ANY,
        }
    }

    fn too_many() -> Said {
        qemu(Symptom::TooMany {
            incoming: 258,
            own: 256,
        })
    }

    fn failed() -> Said {
        qemu(Symptom::LoadFailed {
            error: Some(Errno::EINVAL),
        })
    }

    fn libvirt() -> Said {
        Said {
            speaker: Speaker::LIBVIRT,
            ..qemu(Symptom::MonitorClosed { vm: None })
        }
    }

    #[test]
    fn two_loads_are_two_failures_or_one_that_happened_twice() {
        let mut failures = Failures::default();
        for _ in 0..2 {
            failures.add("a", vec![too_many()]);
            failures.add("b", vec![failed()]);
        }
        failures.add("c", vec![failed()]);
        let (found, further) = failures.finish();
        assert_eq!(further, 0);
        let times: Vec<_> = found.iter().map(|failure| failure.times).collect();
        assert_eq!(times, [2, 1]);
        assert_eq!(found[0].lines, ["a", "b"]);
    }

    #[test]
    fn a_load_without_its_end_is_told_from_the_next() {
        let mut failures = Failures::default();
        failures.add("a", vec![too_many()]);
        failures.add("b", vec![too_many()]);
        let (found, _) = failures.finish();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].times, 2);
    }

    #[test]
    fn what_libvirt_repeats_is_no_other_failure() {
        let mut failures = Failures::default();
        failures.add("a", vec![too_many()]);
        failures.add("b", vec![failed()]);
        failures.add("c", vec![libvirt(), too_many(), failed()]);
        let (found, _) = failures.finish();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].times, 1);

        let mut failures = Failures::default();
        failures.add("b", vec![failed()]);
        failures.add("c", vec![libvirt(), too_many(), failed()]);
        assert_eq!(failures.finish().0.len(), 2);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut failures = Failures::default();
        for count in 0..10_000 {
            let symptom = Symptom::TooMany {
                incoming: count,
                own: 0,
            };
            failures.add(&"x".repeat(10_000), vec![qemu(symptom)]);
        }
        let (found, further) = failures.finish();
        assert_eq!(found.len(), MOST_FAILURES);
        assert_eq!(found.len() + further, 10_000);
        assert!(
            found
                .iter()
                .all(|failure| failure.lines[0].len() <= LONGEST_LINE)
        );
    }
}
