//! Reports of cpreg, compared with the real outcome.

use cpreg::register::differing_fields;
use cpreg_report::check::model as check;
use cpreg_report::names::{Decision, ReasonCode, RehearsalOutcome, Verdict};
use cpreg_report::rehearse::model as rehearse;
use cpreg_report::scalar::Vcpus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Result;
use crate::serial::Difference;

/// Parses a report, which must have the members of its model and no others.
///
/// # Errors
/// Returns an error if the text is not a report, or has other members.
pub fn parse<R: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<R> {
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("the report is not JSON: {error}"))?;
    let report: R = serde_json::from_value(document.clone())
        .map_err(|error| format!("{error} in the report {document:#}"))?;
    let model = serde_json::to_value(&report)?;
    if model != document {
        return Err(format!("the report is {document:#}, but its model is {model:#}").into());
    }
    Ok(report)
}

/// Returns values for `--set` that give each differing field of a register the destination's value.
fn set_fields(decision: &check::RegisterDecision) -> Vec<String> {
    let parse = |text: &Option<String>| {
        let digits = text.as_deref()?.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    };
    let values = parse(&decision.source).zip(parse(&decision.destination));
    let Some((source, destination)) = values else {
        return Vec::new();
    };
    differing_fields(decision.id.0, source, destination)
        .map(|change| format!("{}.{}={:#x}", decision.name, change.field, change.to))
        .collect()
}

/// Report of `check`.
#[derive(Debug)]
pub struct CheckOutput {
    report: check::CheckReport,
}

/// Report of `rehearse`, with its exit status.
#[derive(Debug)]
pub struct RehearseOutput {
    report: rehearse::RehearsalReport,
    status: i32,
}

impl RehearseOutput {
    /// Wraps a report.
    pub fn new(report: rehearse::RehearsalReport, status: i32) -> Self {
        Self { report, status }
    }

    /// Checks that the deviations include a register or an extension.
    ///
    /// # Errors
    /// Returns an error with all deviations if none has the name.
    pub fn assert_deviation(&self, name: &str) -> Result<()> {
        let deviations = &self.report.deviations;
        if deviations.iter().any(|deviation| deviation.name == name) {
            return Ok(());
        }
        Err(format!("{name} is not among the deviations: {deviations:#?}").into())
    }

    /// Checks that the parts that the rehearsal does not verify include this one.
    ///
    /// # Errors
    /// Returns an error with all such parts if none has the name.
    pub fn assert_not_verified(&self, part: &str) -> Result<()> {
        let not_verified = &self.report.not_verified;
        if not_verified.iter().any(|entry| entry.part == part) {
            return Ok(());
        }
        Err(
            format!("{part} is not among the parts that are not verified: {not_verified:#?}")
                .into(),
        )
    }

    /// Compares the rehearsal with a load of the whole stream: the outcome, and the output of QEMU.
    ///
    /// # Errors
    /// Returns an error with the difference.
    pub fn compare(&self, loads: bool, stderr: &str, verdict: &Verdict) -> Result<()> {
        let expected = if loads {
            RehearsalOutcome::LOADED
        } else {
            RehearsalOutcome::FAILED
        };
        let status = if [Verdict::LOADS, Verdict::CONVERTS].contains(verdict) {
            0
        } else if *verdict == Verdict::REFUSED {
            1
        } else {
            3
        };
        let predicted = lines(&self.report.stderr);
        // QEMU's output before the load does not describe the VM.
        let is_startup_line = |line: &&str| line.contains("warning: Machine type");
        let actual: Vec<_> = stderr.lines().skip_while(is_startup_line).collect();
        if self.report.outcome == expected
            && self.report.verdict == *verdict
            && self.status == status
            && predicted == actual
        {
            return Ok(());
        }
        Err(format!(
            "the whole stream: {expected}, so {verdict} (status {status})\n{stderr}\n\
             rehearsed: {}, {} (status {})\n{}\ndeviations: {:#?}",
            self.report.outcome,
            self.report.verdict,
            self.status,
            predicted.join("\n"),
            self.report.deviations,
        )
        .into())
    }
}

impl CheckOutput {
    /// Wraps a report.
    pub fn new(report: check::CheckReport) -> Self {
        Self { report }
    }

    /// Returns the verdict.
    pub fn verdict(&self) -> &Verdict {
        &self.report.verdict
    }

    /// Compares the prediction for the loader of this series with the real outcome.
    ///
    /// # Errors
    /// Returns an error if the report has no prediction for the series, or the prediction differs
    /// in the outcome or in QEMU's output.
    pub fn compare_loader(&self, series: &str, loads: bool, stderr: &str) -> Result<()> {
        let mut loaders = self.report.loaders.iter();
        let loader = loaders
            .find(|loader| loader.is_destination_loader)
            .ok_or("no prediction for the destination's own loader")?;
        let version = &loader.version;
        if version != series && !version.starts_with(&format!("{series}.")) {
            return Err(format!("probed QEMU {series}, but check reports {version}").into());
        }
        if loader.loads != Some(loads) {
            return Err(format!(
                "predicted for QEMU {series}: loads {:?}, but the outcome is {loads}. Its \
                 output:\n{stderr}",
                loader.loads
            )
            .into());
        }
        for line in lines(&loader.messages) {
            if !stderr.contains(line) {
                return Err(format!(
                    "predicted for QEMU {series}: {line:?}, but its output is:\n{stderr}"
                )
                .into());
            }
        }
        Ok(())
    }

    /// Returns `true` if the guest may notice a change of this register after the load.
    pub fn has_visible_change(&self, register: &str) -> bool {
        let mut changes = self.report.visible_changes.iter();
        changes.any(|change| change.name.as_deref() == Some(register))
    }

    /// Returns `true` if the report has decisions on registers.
    pub fn has_register_decisions(&self) -> bool {
        !self.report.decisions.is_empty()
    }

    /// Returns the options with which the VM converts: the proposed adjustments, `--ignore` for
    /// each other register whose advice has it, `--set` for each field of a register with a fatal
    /// change, and `--drop` for each blocking extension.
    pub fn consents(&self) -> Vec<String> {
        let sets: Vec<_> = self
            .report
            .decisions
            .iter()
            .filter(|decision| decision.reason_code == Some(ReasonCode::FATAL_CHANGE))
            .flat_map(set_fields)
            .collect();
        let mut options: Vec<[&str; 2]> = Vec::new();
        for adjustment in &self.report.adjustments.proposed {
            if let Some((option, value)) = adjustment.consent.split_once(' ') {
                options.push([option, value]);
            }
        }
        for decision in &self.report.decisions {
            let name = decision.name.as_str();
            let advice = decision.advice.as_deref().unwrap_or_default();
            let is_adjustable = options.contains(&["--accept", name]);
            if decision.decision == Decision::REFUSE
                && advice.contains("--ignore")
                && !is_adjustable
            {
                options.push(["--ignore", name]);
            }
        }
        for extension in &self.report.extensions {
            if extension.decision == Decision::REFUSE {
                options.push(["--drop", &extension.name]);
            }
        }
        options.extend(sets.iter().map(|set| ["--set", set.as_str()]));
        options.sort_unstable();
        options.dedup();
        options.into_iter().flatten().map(str::to_owned).collect()
    }

    /// Returns the differences that no visible change announces.
    pub fn unannounced_differences<'a>(
        &self,
        differences: &'a [Difference],
    ) -> Vec<&'a Difference> {
        let report = &self.report;
        differences
            .iter()
            .filter(|difference| {
                let decisions = || {
                    let is_about = |decision: &&check::RegisterDecision| {
                        concerns(Some(&decision.name), &decision.vcpus, difference)
                    };
                    report.decisions.iter().filter(is_about)
                };
                // A register that the guest lacked is not part of its state. A decision announces
                // the appearance of the register.
                let is_gained = difference.expected.is_none()
                    && decisions().any(|decision| decision.source.is_none());
                // The report announces changes by field, but only a decision has the whole new
                // value.
                let has_other_value = decisions().any(|decision| {
                    let written = decision.written_value.as_deref().and_then(number);
                    written.is_some() && written != difference.found
                });
                let mut changes = report.visible_changes.iter();
                let is_announced = changes.any(|change| is_announcement_of(change, difference));
                !is_gained && (has_other_value || !is_announced)
            })
            .collect()
    }
}

/// Returns `true` if a visible change announces the guest's finding.
fn is_announcement_of(change: &check::VisibleChange, difference: &Difference) -> bool {
    // A change of one field does not determine the other fields. A change of the whole register
    // must have the right value.
    let is_whole_register = change.field.is_none();
    let same_value = match (change.to, difference.found) {
        (Some(to), Some(found)) if is_whole_register => to.0 == found,
        _ => true,
    };
    let is_same_register = concerns(change.name.as_deref(), &change.vcpus, difference);
    is_same_register && same_value || is_feature_announcement_of(change, difference)
}

/// Fields of PSTATE that guests check, and the register that reports each field as a feature. No
/// register list contains these fields. A CPU without a field leaves the instruction for the field
/// undefined.
const PSTATE_FIELDS: [(&str, &str); 4] = [
    ("PAN", "ID_AA64MMFR1_EL1"),
    ("UAO", "ID_AA64MMFR2_EL1"),
    ("DIT", "ID_AA64PFR0_EL1"),
    ("SSBS", "ID_AA64PFR1_EL1"),
];

/// Returns `true` if a visible change announces the feature whose PSTATE field appeared or
/// disappeared.
fn is_feature_announcement_of(change: &check::VisibleChange, difference: &Difference) -> bool {
    let appeared_or_disappeared = difference.expected.is_none() != difference.found.is_none();
    let feature = PSTATE_FIELDS
        .iter()
        .find(|(field, _)| *field == difference.register);
    appeared_or_disappeared
        && feature.is_some_and(|(_, register)| change.name.as_deref() == Some(register))
        && has_vcpu(&change.vcpus, difference.vcpu)
}

/// Returns `true` if an entry of a report concerns the register and the vCPU of a difference.
fn concerns(name: Option<&str>, vcpus: &Vcpus, difference: &Difference) -> bool {
    let name = name.unwrap_or_default();
    // An AArch32 register and its AArch64 view are the same register: PMCR and PMCR_EL0.
    let register = &difference.register;
    let is_same = name == register
        || name
            .strip_prefix(register.as_str())
            .is_some_and(|suffix| ["_EL0", "_EL1"].contains(&suffix));
    is_same && has_vcpu(vcpus, difference.vcpu)
}

fn has_vcpu(vcpus: &Vcpus, vcpu: u32) -> bool {
    usize::try_from(vcpu).is_ok_and(|vcpu| vcpus.0.contains(vcpu))
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Returns the non-empty lines of several texts.
fn lines(texts: &[String]) -> Vec<&str> {
    texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the default entry of a list, with these changes.
    fn with(default: &Value, changes: Value) -> Value {
        let mut entry = default.clone();
        if let (Value::Object(entry), Value::Object(changes)) = (&mut entry, changes) {
            entry.extend(changes);
        }
        entry
    }

    fn check() -> CheckOutput {
        let id = "0x6030000000138001";
        let loader = json!({
            "name": "qemu", "confidence": "inferred", "messages_complete": true, "lost_registers": [],
        });
        let decision = json!({
            "id": id, "destination": null, "listed": true, "confidence": "inferred", "tolerance": null,
            "reason": "", "advice": null,
        });
        let extension = json!({
            "vcpus": "0", "source": null, "destination": null, "confidence": "inferred", "reason": "",
        });
        let adjustment = json!({
            "vcpus": "0", "id": id, "name": "A", "from": null, "to": null, "severity": "low",
        });
        let change = json!({"id": id, "severity": "low", "description": ""});
        let report = json!({
            "schema": check::SCHEMA,
            "verdict": "refused",
            "scope": "",
            "source": {
                "name": "", "machine": null, "vcpus": 4, "accelerator": null, "run_state": null, "open_method": "",
            },
            "destination": {
                "name": "", "provenance": "", "accelerator": null, "loader": null, "vcpus": 4,
            },
            "shape": [],
            "blockers": [],
            "written": null,
            "cpreg_version": "",
            "next_command": null,
            "next_steps": [],
            "dry_run": null,
            "hardware": [],
            "missing_facts": [],
            "loaders": [
                with(&loader, json!({"version": "11.1", "is_destination_loader": false, "loads": true, "messages": []})),
                with(&loader, json!({
                    "version": "10.0", "is_destination_loader": true, "loads": false, "messages": ["Operation not permitted"],
                })),
            ],
            "decisions": [
                with(&decision, json!({
                    "name": "DBGCLAIMCLR_EL1", "vcpus": "0", "decision": "refuse", "source": "0xe6", "advice": "say --ignore",
                })),
                with(&decision, json!({
                    "name": "FPMR", "vcpus": "0-1", "decision": "keep-at-reset", "source": null,
                })),
                with(&decision, json!({
                    "name": "ID_DFR0_EL1", "vcpus": "0-2", "decision": "set", "source": "0x06010066", "written_value": "0x05010066",
                })),
            ],
            "extensions": [
                with(&extension, json!({"name": "cpu/fpmr", "decision": "refuse"})),
                with(&extension, json!({"name": "cpu/vfp", "decision": "copy"})),
            ],
            "adjustments": {
                "accepted": [],
                "proposed": [
                    with(&adjustment, json!({"consent": "--accept TCR2_EL1"})),
                    with(&adjustment, json!({"consent": "--accept ID_AA64MMFR3_EL1"})),
                    with(&adjustment, json!({"consent": "--accept TCR2_EL1"})),
                ],
                "verdict_with_all": "converts",
            },
            "visible_changes": [
                with(&change, json!({"name": "TCR2_EL1", "field": null, "from": "0x2", "to": null, "vcpus": "0"})),
                with(&change, json!({
                    "name": "ID_AA64PFR1_EL1", "field": "SSBS", "from": "0x2", "to": "0x0", "vcpus": "0-3",
                })),
                with(&change, json!({"name": "PMCR_EL0", "field": null, "from": "0x1", "to": "0x2", "vcpus": "0-3"})),
                with(&change, json!({
                    "name": "ID_DFR0_EL1", "field": "PerfMon", "from": "0x6", "to": "0x5", "vcpus": "0,2",
                })),
            ],
        });
        CheckOutput::new(parse(report.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn report_must_have_exactly_the_members_of_its_model() {
        let whole = serde_json::to_value(check().report).unwrap();
        let more = with(&whole, json!({"more": 1}));
        let Value::Object(mut fewer) = whole else {
            panic!("{whole}");
        };
        fewer.remove("shape");
        for wrong in [more, Value::Object(fewer)] {
            assert!(parse::<check::CheckReport>(wrong.to_string().as_bytes()).is_err());
        }
    }

    #[test]
    fn predictions_are_compared_with_the_outcome() {
        let check = check();
        let stderr = "qemu-system-aarch64: load of migration failed: Operation not permitted";
        check.compare_loader("10.0", false, stderr).unwrap();
        assert!(check.compare_loader("10.0", true, stderr).is_err());
        assert!(
            check
                .compare_loader("10.0", false, "another message")
                .is_err()
        );
        assert!(check.compare_loader("1.1", false, stderr).is_err());
    }

    #[test]
    fn consents_are_unique() {
        let options = check().consents();
        let expected = [
            ["--accept", "ID_AA64MMFR3_EL1"],
            ["--accept", "TCR2_EL1"],
            ["--drop", "cpu/fpmr"],
            ["--ignore", "DBGCLAIMCLR_EL1"],
        ]
        .concat();
        assert_eq!(options, expected);
    }

    #[test]
    fn unannounced_differences_are_returned() {
        let difference = |vcpu, register: &str, found| Difference {
            vcpu,
            register: register.to_owned(),
            expected: Some(1),
            found,
        };
        let differences = [
            difference(0, "TCR2_EL1", None),
            difference(1, "TCR2_EL1", None),
            difference(3, "PMCR_EL0", Some(2)),
            difference(3, "PMCR_EL0", Some(3)),
            difference(0, "ID_DFR0_EL1", Some(0x0501_0066)),
            difference(2, "ID_DFR0_EL1", Some(0x0501_0099)),
            difference(0, "VBAR_EL1", Some(0)),
            Difference {
                vcpu: 1,
                register: "FPMR".to_owned(),
                expected: None,
                found: Some(0),
            },
            difference(1, "SSBS", None),
            difference(1, "SSBS", Some(0)),
        ];
        let check = check();
        let unannounced = check.unannounced_differences(&differences);
        assert_eq!(
            unannounced,
            [1, 3, 5, 6, 9].map(|index| &differences[index])
        );
    }
}
