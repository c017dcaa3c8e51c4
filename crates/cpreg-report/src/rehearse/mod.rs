//! The answer of `rehearse`: everything that either form of the report says.
//!
//! | file | what lives there |
//! |---|---|
//! | [`text`] | its text |
//! | [`model`] | its model, schema `cpreg.rehearsal/1` |
//! | `json` | the answer as its model |
//!
//! What cpreg plans for that QEMU is reported as `check` reports it.

mod json;
pub mod model;
pub mod text;

use std::ffi::OsString;

use cpreg::plan::{Deviation, VcpuSet, Verdict};
use cpreg_explain::{Explanation, Failures, Kind, Symptom, explain, qemu};

use crate::check::Answer;
use model::{NotJudged, Replaced};

/// Subject of the verdict.
const SCOPE: &str = "all device state and the layout of RAM; what RAM holds was not sent, and \
                     disks and networks were stand-ins";

/// What was tried and what came of it.
#[derive(Debug)]
pub struct Tried<'a> {
    /// What cpreg plans for that QEMU.
    pub answer: &'a Answer<'a>,
    /// Whether the VM was to be tried as the plan writes it.
    pub repaired: bool,
    /// Whether SOURCE is a report or a running QEMU, which `convert` does not take.
    pub lacks_ram: bool,
    /// Whether the plan changes anything in it.
    pub changed: bool,
    /// The command line that was run, without passwords.
    pub command: Vec<String>,
    /// What in it is not as the user gave it.
    pub replaced: Vec<Replaced>,
    /// Parts of the VM that are not judged.
    pub not_judged: Vec<NotJudged>,
    /// QEMU's version, `10.0.13`.
    pub version: String,
    /// What its builder calls it.
    pub package: String,
    /// How the load ended; `None` if none was tried, because the plan stands in the way.
    pub outcome: Option<Outcome>,
    /// The verdict.
    pub verdict: Verdict,
    /// What does not hold what the plan would leave there.
    pub deviations: Vec<(VcpuSet, Deviation)>,
    /// Why it is not known what that QEMU has, and nothing is planned therefore.
    pub unknown_host: Option<String>,
    /// Why it is not known what the VM holds after the load.
    pub unreadable: Option<String>,
    /// QEMU's words; with the guest's keys only if the user asked for those.
    pub said: Vec<String>,
}

/// How a load ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// QEMU would run the VM.
    Loaded,
    /// QEMU refused it and ended.
    Failed {
        /// The signal that ended QEMU, in words, if one did.
        signal: Option<String>,
    },
}

impl Tried<'_> {
    /// Whether the section that failed is one that a rehearsal cannot judge.
    pub fn failed_for_want_of_memory(&self) -> bool {
        let mut said = self.said.iter().flat_map(|line| qemu::read(line));
        said.any(|said| match said.symptom {
            Symptom::SectionFailed { device, .. } => self
                .not_judged
                .iter()
                .any(|it| it.loaded && it.sections.contains(&device)),
            _ => false,
        })
    }

    /// What QEMU's words mean.
    pub fn explained(&self) -> Vec<Explanation> {
        let mut failures = Failures::default();
        for line in &self.said {
            failures.add(line, qemu::read(line));
        }
        let (failures, _) = failures.finish();
        failures.iter().map(explain).collect()
    }

    /// Of these, what the plan does not tell by register already: devices, RAM, the machine.
    pub fn explained_beside_registers(&self) -> Vec<Explanation> {
        const TOLD: [Kind; 8] = [
            Kind::REGISTER_COUNT,
            Kind::ONLY_IN_INPUT,
            Kind::VALUE_NOT_TAKEN,
            Kind::CPU_SECTION,
            Kind::CPU_SUBSECTION,
            Kind::ABORT,
            Kind::WARNINGS,
            Kind::NO_REASON,
        ];
        let mut explained = self.explained();
        explained.retain(|it| !TOLD.contains(&it.kind));
        explained
    }

    /// The verdict's meaning in a sentence.
    pub fn meaning(&self) -> String {
        let qemu = format!("QEMU {}", self.version);
        match (&self.outcome, self.verdict) {
            (None, verdict) => {
                let why = match verdict {
                    _ if self.unknown_host.is_some() => "this QEMU does not say what it has",
                    Verdict::Unknown => "what is known does not tell what to repair",
                    _ => "something stands in the way of a repair",
                };
                format!("not tried, because {why}")
            }
            (Some(Outcome::Loaded), Verdict::Loads) if self.unreadable.is_some() => {
                format!(
                    "{qemu} takes it as it is; what the guest finds is foretold, and was not seen"
                )
            }
            (Some(Outcome::Loaded), Verdict::Loads) => {
                format!("{qemu} takes it as it is; the guest finds its registers as they were")
            }
            (Some(Outcome::Loaded), Verdict::Converts) => {
                format!(
                    "{qemu} takes it as `cpreg convert` writes it; the guest finds its registers \
                     as planned"
                )
            }
            (Some(Outcome::Loaded), Verdict::Unknown) => {
                format!("{qemu} takes it, but cannot say what the guest would find")
            }
            (Some(Outcome::Loaded), Verdict::Refused) => {
                let count = self.deviations.len();
                let what = if count == 1 { "one thing" } else { "things" };
                format!(
                    "{qemu} takes it, but the guest would find {what} lost or changed{}",
                    self.mend()
                )
            }
            (Some(Outcome::Failed { .. }), Verdict::Unknown) => {
                format!("{qemu} refuses it, perhaps only for want of the guest's memory")
            }
            (Some(Outcome::Failed { signal }), _) => {
                // A failed assertion, or worse.
                let how = match signal {
                    Some(signal) => format!("dies of it ({signal})"),
                    None => "refuses it".to_owned(),
                };
                format!("{qemu} {how}{}", self.mend())
            }
        }
    }

    fn mend(&self) -> &'static str {
        if self.can_be_repaired() {
            "; `cpreg convert` can mend that"
        } else if self.outcome == Some(Outcome::Loaded) && self.is_unforeseen() {
            "; cpreg knows no way to mend that"
        } else {
            ""
        }
    }

    /// Whether it came otherwise than the plan has it, for reasons that no register tells.
    pub fn is_unforeseen(&self) -> bool {
        self.verdict == Verdict::Refused
            && self.outcome.is_some()
            && self.unknown_host.is_none()
            && !self.answer.refuses_by_shape()
            && (self.repaired || self.answer.check.verdict == Verdict::Loads)
    }

    /// Whether the VM was refused as it is, and the plan would make another of it.
    fn can_be_repaired(&self) -> bool {
        !self.repaired
            && self.unknown_host.is_none()
            && self.verdict == Verdict::Refused
            && !self.answer.refuses_by_shape()
            && self.answer.check.verdict == Verdict::Converts
    }

    /// What to do next, where a repair is the way.
    pub fn ways(&self) -> Vec<String> {
        let source = &self.answer.source.name;
        let command = "the same COMMAND";
        if self.can_be_repaired() {
            return vec![format!(
                "see that it loads then: `cpreg rehearse --repaired {source} -- COMMAND`, with \
                 {command}"
            )];
        }
        if self.verdict == Verdict::Converts {
            return vec![
                format!(
                    "on the destination, `cpreg probe qemu -o dest.json -- COMMAND`, with {command}"
                ),
                if self.lacks_ram {
                    "save the VM to a file (QEMU's monitor: `migrate file:vm.stream`), then \
                     `cpreg convert vm.stream --to dest.json -o repaired.stream`"
                        .to_owned()
                } else {
                    format!("`cpreg convert {source} --to dest.json -o repaired.stream`")
                },
            ];
        }
        if self.repaired && !self.explained_beside_registers().is_empty() {
            return vec![
                "start that QEMU with the devices of the source, with the same properties; cpreg \
                 repairs registers, not devices"
                    .to_owned(),
            ];
        }
        Vec::new()
    }
}

/// Words of the user's command line as they are printed: without passwords.
pub fn printed(words: &[OsString]) -> Vec<String> {
    let words = words
        .iter()
        .map(|word| without_passwords(&word.to_string_lossy()));
    words.collect()
}

/// Takes out what stands behind `data=` and `password=` up to the next comma, and the same in JSON (`-object secret`,
/// `-spice`, `-iscsi`).
fn without_passwords(word: &str) -> String {
    let mut text = word.to_owned();
    for (start, end) in [
        ("data=", ','),
        ("password=", ','),
        ("\"data\":\"", '"'),
        ("\"password\":\"", '"'),
    ] {
        let mut from = 0;
        while let Some(at) = text[from..].find(start) {
            let value = from + at + start.len();
            let length = text[value..].find(end).unwrap_or(text.len() - value);
            // What is only the end of another key (`metadata=`) is blotted out as well: better too much.
            text.replace_range(value..value + length, "(secret)");
            from = value;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::without_passwords;

    #[test]
    fn passwords_are_not_printed() {
        for (given, expected) in [
            (
                "secret,id=s0,data=hunter2,format=raw",
                "secret,id=s0,data=(secret),format=raw",
            ),
            ("port=1,password=hunter2", "port=1,password=(secret)"),
            (
                r#"{"qom-type":"secret","data":"hunter2","id":"s"}"#,
                r#"{"qom-type":"secret","data":"(secret)","id":"s"}"#,
            ),
            (
                "if=none,id=d0,password-secret=s0",
                "if=none,id=d0,password-secret=s0",
            ),
            ("data=,password=", "data=(secret),password=(secret)"),
        ] {
            assert_eq!(without_passwords(given), expected);
        }
    }
}
