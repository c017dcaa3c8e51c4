//! Report of `rehearse`: its findings, its model and its text.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the findings, for both forms |
//! | [`text`] | text of the findings |
//! | [`model`] | their model, schema `cpreg.rehearsal/2` |
//! | `json` | conversion of the findings to the model |
//!
//! The report contains cpreg's plan for the rehearsed QEMU, in the form of `check`.

mod json;
pub mod model;
pub mod text;

use std::ffi::OsString;

use cpreg::plan::{Deviation, VcpuSet, Verdict};
use cpreg_explain::{Explanation, FailureKind, LoadFailures, Symptom, explain, qemu};

use crate::check::CheckFindings;
use crate::command::TypedCommand;
use model::{Replacement, UnverifiedPart};

/// Name of a new record of the destination in commands.
const RECORD: &str = "destination.json";

/// Parts of the VM that the verdict covers, in words for the report.
const SCOPE: &str = "all device state and the layout of RAM; the contents of RAM were not sent, and \
                     disks and networks were replaced";

/// A rehearsal and its result.
#[derive(Debug)]
pub struct RehearsalFindings<'a> {
    /// cpreg's plan for the rehearsed QEMU.
    pub prediction: &'a CheckFindings<'a>,
    /// `true` if QEMU loaded the stream as `convert` would write it (`--converted`).
    pub converted: bool,
    /// `true` if SOURCE is a report or a running QEMU, which `convert` does not accept.
    pub lacks_ram: bool,
    /// `true` if the plan changes the stream.
    pub has_changes: bool,
    /// Command line of the rehearsed QEMU, without passwords.
    pub command: Vec<String>,
    /// Options that cpreg changed in the user's command line.
    pub replacements: Vec<Replacement>,
    /// Parts of the VM that the rehearsal does not verify.
    pub not_verified: Vec<UnverifiedPart>,
    /// Version of the rehearsed QEMU, `10.0.13`.
    pub version: String,
    /// Version of the distribution's QEMU package.
    pub package: String,
    /// Outcome of the load; `None` if the plan cannot be converted and nothing was loaded.
    pub outcome: Option<LoadOutcome>,
    /// Verdict on the load.
    pub verdict: Verdict,
    /// Registers and extensions whose content after the load differs from the plan.
    pub deviations: Vec<(VcpuSet, Deviation)>,
    /// Reason why the CPU state before the load is not known. Without that state there is no plan.
    pub initial_state_error: Option<String>,
    /// Reason why the CPU state after the load is not known.
    pub final_state_error: Option<String>,
    /// Lines of QEMU's standard error, with the guest's keys only if the user requested secrets.
    pub stderr: Vec<String>,
}

/// Outcome of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    /// QEMU would run the VM.
    Loaded,
    /// QEMU refused the VM and exited.
    Failed {
        /// Signal that killed QEMU, in words; `None` if QEMU exited by itself.
        signal: Option<String>,
    },
}

impl RehearsalFindings<'_> {
    /// Returns `true` if the failed section belongs to a part that a rehearsal does not verify.
    pub fn has_unverifiable_failure(&self) -> bool {
        let mut statements = self.stderr.iter().flat_map(|line| qemu::parse(line));
        statements.any(|statement| match statement.symptom {
            Symptom::SectionFailed { device, .. } => self
                .not_verified
                .iter()
                .any(|part| part.loaded && part.sections.contains(&device)),
            _ => false,
        })
    }

    /// Returns explanations of QEMU's messages.
    pub fn explanations(&self) -> Vec<Explanation> {
        let mut failures = LoadFailures::default();
        for line in &self.stderr {
            failures.add(line, qemu::parse(line));
        }
        let (failures, _) = failures.finish();
        failures.iter().map(explain).collect()
    }

    /// Returns explanations of the messages about devices, RAM and the machine, which the plan does
    /// not cover.
    pub fn non_register_explanations(&self) -> Vec<Explanation> {
        const REGISTER_KINDS: [FailureKind; 8] = [
            FailureKind::REGISTER_COUNT,
            FailureKind::SOURCE_ONLY,
            FailureKind::VALUE_NOT_ACCEPTED,
            FailureKind::CPU_SECTION,
            FailureKind::CPU_SUBSECTION,
            FailureKind::ABORT,
            FailureKind::WARNINGS,
            FailureKind::NO_REASON,
        ];
        let mut explanations = self.explanations();
        explanations.retain(|explanation| !REGISTER_KINDS.contains(&explanation.kind));
        explanations
    }

    /// Returns the meaning of the verdict in a sentence.
    pub fn meaning(&self) -> String {
        let qemu = format!("QEMU {}", self.version);
        match (&self.outcome, self.verdict) {
            (None, verdict) => {
                let reason = match verdict {
                    _ if self.initial_state_error.is_some() => {
                        "the CPU state of this QEMU is not known"
                    }
                    _ if self.prediction.is_incomparable() => "another accelerator ran the VM",
                    Verdict::Unknown => "there is not enough information to convert the VM",
                    _ => "the VM cannot be converted",
                };
                format!("not tried, because {reason}")
            }
            (Some(LoadOutcome::Loaded), Verdict::Loads) if self.final_state_error.is_some() => {
                format!(
                    "{qemu} loads it as it is; its registers after the load are predicted, not verified"
                )
            }
            (Some(LoadOutcome::Loaded), Verdict::Loads) => {
                format!("{qemu} loads it as it is, and the guest's registers are unchanged")
            }
            (Some(LoadOutcome::Loaded), Verdict::Converts) => {
                format!(
                    "{qemu} loads it as `cpreg convert` writes it, and the guest's registers are as planned"
                )
            }
            (Some(LoadOutcome::Loaded), Verdict::Unknown) => {
                format!(
                    "not enough information to decide: {qemu} loads it, and its registers after the load are \
                     not known"
                )
            }
            (Some(LoadOutcome::Loaded), Verdict::Refused) => {
                let lost = match self.deviations.len() {
                    1 => "1 register or extension is".to_owned(),
                    count => format!("{count} registers or extensions are"),
                };
                let hint = self.recovery_hint();
                format!("{qemu} loads it, but {lost} lost or changed{hint}")
            }
            (Some(LoadOutcome::Failed { .. }), Verdict::Unknown) => {
                format!(
                    "not enough information to decide: {qemu} refuses it, perhaps only because the guest's \
                     memory is missing"
                )
            }
            (Some(LoadOutcome::Failed { signal }), _) => {
                let result = match signal {
                    Some(signal) => format!("crashes ({signal})"),
                    None => "refuses it".to_owned(),
                };
                format!("{qemu} {result}{}", self.recovery_hint())
            }
        }
    }

    fn recovery_hint(&self) -> &'static str {
        if self.can_convert() {
            "; `cpreg convert` resolves that"
        } else if self.outcome == Some(LoadOutcome::Loaded) && self.is_unpredicted() {
            "; cpreg cannot repair that"
        } else {
            ""
        }
    }

    /// Returns `true` if the result contradicts the plan for a reason outside the registers.
    pub fn is_unpredicted(&self) -> bool {
        self.verdict == Verdict::Refused
            && self.outcome.is_some()
            && self.initial_state_error.is_none()
            && !self.prediction.is_blocked_by_shape()
            && (self.converted || self.prediction.check.verdict == Verdict::Loads)
    }

    /// Returns `true` if QEMU refused the unconverted VM, and the plan converts that VM.
    fn can_convert(&self) -> bool {
        !self.converted
            && self.initial_state_error.is_none()
            && self.verdict == Verdict::Refused
            && !self.prediction.is_blocked_by_shape()
            && self.prediction.check.verdict == Verdict::Converts
    }

    /// Returns the steps that repair the VM, or that give the missing information; an empty list if
    /// no step does.
    pub fn next_steps(&self) -> Vec<String> {
        let typed = &self.prediction.command;
        if self.verdict == Verdict::Unknown {
            return self.steps_for_unknown();
        }
        if self.can_convert() {
            let command = typed.with_options(&["--converted".to_owned()]);
            return vec![format!(
                "verify the converted VM: `{command}`, with the same COMMAND"
            )];
        }
        if self.verdict == Verdict::Converts {
            let typed = TypedCommand {
                destination: RECORD.to_owned(),
                ..typed.clone()
            };
            return vec![
                "on the destination, run `cpreg probe qemu -o destination.json -- COMMAND`, with \
                 the same COMMAND"
                    .to_owned(),
                if self.lacks_ram {
                    format!(
                        "save the VM to a file (QEMU's monitor: `migrate file:vm.stream`), then `{}`",
                        typed.convert("vm.stream", "vm.converted.stream")
                    )
                } else {
                    format!("`{}`", typed.convert(&typed.source, &typed.output()))
                },
            ];
        }
        if self.converted && !self.non_register_explanations().is_empty() {
            return vec![
                "start that QEMU with the source's devices and the same properties; cpreg repairs \
                 registers, not devices"
                    .to_owned(),
            ];
        }
        Vec::new()
    }
}

impl RehearsalFindings<'_> {
    /// Returns the steps that give the information which an unknown verdict lacks.
    fn steps_for_unknown(&self) -> Vec<String> {
        let typed = &self.prediction.command;
        if self.outcome.is_none() && self.initial_state_error.is_none() {
            let command = typed.without("--converted");
            return vec![format!(
                "let QEMU decide about the VM as it is: `{command}`, with the same COMMAND"
            )];
        }
        let mut steps = Vec::new();
        if self.initial_state_error.is_some() || self.final_state_error.is_some() {
            let command = typed.with_options(&["--timeout", "300"].map(str::to_owned));
            steps.push(format!(
                "give QEMU more time: `{command}`, with the same COMMAND"
            ));
        }
        steps.push(format!(
            "on the destination, run `cpreg probe qemu -o destination.json -- COMMAND`, with the \
             same COMMAND; then `{}`",
            typed.check(&typed.source, RECORD)
        ));
        steps
    }
}

/// Returns the arguments of the user's command line without passwords.
pub fn redact_command_line(arguments: &[OsString]) -> Vec<String> {
    let arguments = arguments
        .iter()
        .map(|argument| redact_passwords(&argument.to_string_lossy()));
    arguments.collect()
}

/// Replaces the values of `data=` and `password=`, up to the next comma, and of the same JSON
/// members (`-object secret`, `-spice`, `-iscsi`).
fn redact_passwords(argument: &str) -> String {
    let mut text = argument.to_owned();
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
            // The end of another key, such as `metadata=`, matches too; redacting too much is
            // harmless.
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
    fn passwords_are_redacted() {
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
