//! The answer of `rehearse`: everything that either form of the report says.
//!
//! | file | what lives there |
//! |---|---|
//! | [`text`] | its text |
//! | [`model`] | its model, schema `cpreg.rehearsal/2` |
//! | `json` | the answer as its model |
//!
//! What cpreg plans for that QEMU is reported as `check` reports it.

mod json;
pub mod model;
pub mod text;

use std::ffi::OsString;

use cpreg::plan::{Deviation, VcpuSet, Verdict};
use cpreg_explain::{Explanation, FailureKind, LoadFailures, Symptom, explain, qemu};

use crate::check::CheckFindings;
use model::{Replacement, UnverifiedPart};

/// Subject of the verdict.
const SCOPE: &str = "all device state and the layout of RAM; what RAM holds was not sent, and \
                     disks and networks were stand-ins";

/// What was tried and what came of it.
#[derive(Debug)]
pub struct RehearsalFindings<'a> {
    /// What cpreg plans for that QEMU.
    pub prediction: &'a CheckFindings<'a>,
    /// Whether the VM was to be tried as the plan writes it.
    pub converted: bool,
    /// Whether SOURCE is a report or a running QEMU, which `convert` does not take.
    pub lacks_ram: bool,
    /// Whether the plan changes anything in it.
    pub has_changes: bool,
    /// The command line that was run, without passwords.
    pub command: Vec<String>,
    /// What in it is not as the user gave it.
    pub replacements: Vec<Replacement>,
    /// Parts of the VM that are not judged.
    pub not_verified: Vec<UnverifiedPart>,
    /// QEMU's version, `10.0.13`.
    pub version: String,
    /// What its builder calls it.
    pub package: String,
    /// How the load ended; `None` if none was tried, because the plan stands in the way.
    pub outcome: Option<LoadOutcome>,
    /// The verdict.
    pub verdict: Verdict,
    /// What does not hold what the plan would leave there.
    pub deviations: Vec<(VcpuSet, Deviation)>,
    /// Why it is not known what that QEMU has, and nothing is planned therefore.
    pub initial_state_error: Option<String>,
    /// Why it is not known what the VM holds after the load.
    pub final_state_error: Option<String>,
    /// QEMU's words; with the guest's keys only if the user asked for those.
    pub stderr: Vec<String>,
}

/// How a load ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    /// QEMU would run the VM.
    Loaded,
    /// QEMU refused it and ended.
    Failed {
        /// The signal that ended QEMU, in words, if one did.
        signal: Option<String>,
    },
}

impl RehearsalFindings<'_> {
    /// Whether the section that failed is one that a rehearsal cannot judge.
    pub fn has_unverifiable_failure(&self) -> bool {
        let mut said = self.stderr.iter().flat_map(|line| qemu::parse(line));
        said.any(|said| match said.symptom {
            Symptom::SectionFailed { device, .. } => self
                .not_verified
                .iter()
                .any(|it| it.loaded && it.sections.contains(&device)),
            _ => false,
        })
    }

    /// What QEMU's words mean.
    pub fn explanations(&self) -> Vec<Explanation> {
        let mut failures = LoadFailures::default();
        for line in &self.stderr {
            failures.add(line, qemu::parse(line));
        }
        let (failures, _) = failures.finish();
        failures.iter().map(explain).collect()
    }

    /// Of these, what the plan does not tell by register already: devices, RAM, the machine.
    pub fn non_register_explanations(&self) -> Vec<Explanation> {
        const REGISTER_KINDS: [FailureKind; 8] = [
            FailureKind::REGISTER_COUNT,
            FailureKind::ONLY_IN_INPUT,
            FailureKind::VALUE_NOT_TAKEN,
            FailureKind::CPU_SECTION,
            FailureKind::CPU_SUBSECTION,
            FailureKind::ABORT,
            FailureKind::WARNINGS,
            FailureKind::NO_REASON,
        ];
        let mut explained = self.explanations();
        explained.retain(|it| !REGISTER_KINDS.contains(&it.kind));
        explained
    }

    /// The verdict's meaning in a sentence.
    pub fn meaning(&self) -> String {
        let qemu = format!("QEMU {}", self.version);
        match (&self.outcome, self.verdict) {
            (None, verdict) => {
                let why = match verdict {
                    _ if self.initial_state_error.is_some() => "this QEMU does not say what it has",
                    Verdict::Unknown => "what is known does not tell what to repair",
                    _ => "something stands in the way of a repair",
                };
                format!("not tried, because {why}")
            }
            (Some(LoadOutcome::Loaded), Verdict::Loads) if self.final_state_error.is_some() => {
                format!(
                    "{qemu} takes it as it is; what the guest finds is foretold, and was not seen"
                )
            }
            (Some(LoadOutcome::Loaded), Verdict::Loads) => {
                format!("{qemu} takes it as it is; the guest finds its registers as they were")
            }
            (Some(LoadOutcome::Loaded), Verdict::Converts) => {
                format!(
                    "{qemu} takes it as `cpreg convert` writes it; the guest finds its registers \
                     as planned"
                )
            }
            (Some(LoadOutcome::Loaded), Verdict::Unknown) => {
                format!("{qemu} takes it, but cannot say what the guest would find")
            }
            (Some(LoadOutcome::Loaded), Verdict::Refused) => {
                let count = self.deviations.len();
                let what = if count == 1 { "one thing" } else { "things" };
                format!(
                    "{qemu} takes it, but the guest would find {what} lost or changed{}",
                    self.recovery_hint()
                )
            }
            (Some(LoadOutcome::Failed { .. }), Verdict::Unknown) => {
                format!("{qemu} refuses it, perhaps only for want of the guest's memory")
            }
            (Some(LoadOutcome::Failed { signal }), _) => {
                // A failed assertion, or worse.
                let how = match signal {
                    Some(signal) => format!("dies of it ({signal})"),
                    None => "refuses it".to_owned(),
                };
                format!("{qemu} {how}{}", self.recovery_hint())
            }
        }
    }

    fn recovery_hint(&self) -> &'static str {
        if self.can_convert() {
            "; `cpreg convert` can mend that"
        } else if self.outcome == Some(LoadOutcome::Loaded) && self.is_unpredicted() {
            "; cpreg knows no way to mend that"
        } else {
            ""
        }
    }

    /// Whether it came otherwise than the plan has it, for reasons that no register tells.
    pub fn is_unpredicted(&self) -> bool {
        self.verdict == Verdict::Refused
            && self.outcome.is_some()
            && self.initial_state_error.is_none()
            && !self.prediction.is_blocked_by_shape()
            && (self.converted || self.prediction.check.verdict == Verdict::Loads)
    }

    /// Whether the VM was refused as it is, and the plan would make another of it.
    fn can_convert(&self) -> bool {
        !self.converted
            && self.initial_state_error.is_none()
            && self.verdict == Verdict::Refused
            && !self.prediction.is_blocked_by_shape()
            && self.prediction.check.verdict == Verdict::Converts
    }

    /// What to do next, where a repair is the way.
    pub fn next_steps(&self) -> Vec<String> {
        let source = &self.prediction.source.name;
        let command = "the same COMMAND";
        if self.can_convert() {
            return vec![format!(
                "see that it loads then: `cpreg rehearse --converted {source} -- COMMAND`, with \
                 {command}"
            )];
        }
        if self.verdict == Verdict::Converts {
            return vec![
                format!(
                    "on the destination, `cpreg probe qemu -o destination.json -- COMMAND`, with {command}"
                ),
                if self.lacks_ram {
                    "save the VM to a file (QEMU's monitor: `migrate file:vm.stream`), then \
                     `cpreg convert vm.stream --to destination.json -o converted.stream`"
                        .to_owned()
                } else {
                    format!("`cpreg convert {source} --to destination.json -o converted.stream`")
                },
            ];
        }
        if self.converted && !self.non_register_explanations().is_empty() {
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
pub fn redact_command_line(words: &[OsString]) -> Vec<String> {
    let words = words
        .iter()
        .map(|word| redact_passwords(&word.to_string_lossy()));
    words.collect()
}

/// Takes out what stands behind `data=` and `password=` up to the next comma, and the same in JSON (`-object secret`,
/// `-spice`, `-iscsi`).
fn redact_passwords(word: &str) -> String {
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
    use super::redact_passwords;

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
            assert_eq!(redact_passwords(given), expected);
        }
    }
}
