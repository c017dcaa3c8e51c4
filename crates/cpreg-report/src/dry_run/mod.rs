//! Result of loading a plan into this machine's KVM, for `check`: text, and member `dry_run` of
//! `cpreg.check/2`.
//!
//! A dry run proves that KVM accepts the plan in cpreg's order, in a VM that cpreg created. It
//! proves nothing about another VMM.

pub mod model;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};

use crate::names::DryRunOutcome;
use crate::printer::{Printer, heading, style, styled};
use crate::value::ValueFormat;

/// Statement of the report about the limits of a dry run.
const SCOPE: &str =
    "KVM accepts these registers in cpreg's order; another VMM may write them in another order";

/// Result of the dry run of a ready plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunFindings {
    /// vCPU features of the temporary VM.
    pub features: Features,
    /// Result of the dry run, or the reason why cpreg did not try the plan.
    pub result: Result<DryRun, String>,
}

/// Result of a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Number of registers that cpreg wrote, on all vCPUs.
    pub written_registers: usize,
    /// Writes that KVM refused with an errno.
    pub refused_writes: Vec<RefusedWrite>,
    /// Registers that KVM accepted a write to without an error, but that hold another value.
    pub mismatches: Vec<ReadBackMismatch>,
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWrite {
    /// Number of the vCPU.
    pub vcpu: usize,
    /// Register that cpreg wrote.
    pub register: RegisterId,
    /// Value that KVM refused.
    pub written_value: Value,
    /// Value of the register after the refused write; `None` if KVM cannot read the register.
    pub actual_value: Option<Value>,
    /// Errno of the write.
    pub errno: u16,
    /// Meaning of the errno, in words.
    pub meaning: &'static str,
    /// Description of the refusal, without the value of a key.
    pub text: String,
}

/// A register that does not hold the written value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBackMismatch {
    /// Number of the vCPU; `None` for a register of the VM.
    pub vcpu: Option<usize>,
    /// Register that cpreg wrote and read back.
    pub register: RegisterId,
    /// Value that cpreg wrote.
    pub written_value: Value,
    /// Value that KVM returned after the write.
    pub actual_value: Value,
    /// Description of the mismatch, without the value of a key.
    pub text: String,
}

impl DryRunFindings {
    /// Returns `true` unless KVM contradicted the plan. A plan that was not tried is consistent.
    pub fn is_consistent_with_plan(&self) -> bool {
        match &self.result {
            Ok(dry_run) => dry_run.refused_writes.is_empty() && dry_run.mismatches.is_empty(),
            // A plan that was not tried contradicts nothing.
            Err(_) => true,
        }
    }

    /// Returns `true` if the plan was tried and KVM did what the plan says.
    pub fn is_confirmed(&self) -> bool {
        self.result.is_ok() && self.is_consistent_with_plan()
    }

    /// Returns descriptions of all contradictions to the plan, without values of keys.
    pub fn contradictions(&self) -> Vec<&str> {
        let Ok(dry_run) = &self.result else {
            return Vec::new();
        };
        let refused = dry_run.refused_writes.iter().map(|refused| &*refused.text);
        let mismatches = dry_run.mismatches.iter();
        let mismatches = mismatches.filter(|mismatch| !mismatch.register.is_secret());
        refused
            .chain(mismatches.map(|mismatch| &*mismatch.text))
            .collect()
    }

    /// Prints the section `dry run` of the report.
    pub fn print(&self, printer: &mut Printer) {
        printer.line(heading("dry run on this machine's KVM, in a temporary VM:"));
        match &self.result {
            Err(error) => {
                let begin = format!("  {}: ", styled(style::WARNING, "not tried"));
                printer.paragraph(&begin, error);
            }
            Ok(dry_run) if self.is_consistent_with_plan() => {
                printer.paragraph(
                    &format!("  {}: ", styled(style::GOOD, "confirmed")),
                    format_args!(
                        "KVM accepted all {} writes, and the values read back are as planned",
                        dry_run.written_registers
                    ),
                );
            }
            Ok(_) => {
                printer.paragraph(
                    &format!("  {}: ", styled(style::ERROR, "contradicted")),
                    "please report this, with this host's record (`cpreg probe kvm`)",
                );
                for contradiction in self.contradictions() {
                    printer.paragraph("    ", contradiction);
                }
            }
        }
        printer.paragraph(&format!("  {}: ", styled(style::DIM, "scope")), SCOPE);
        printer.line("");
    }

    /// Returns the model, a member of the model of `check`.
    pub fn to_model(&self, value_format: ValueFormat) -> model::DryRunReport {
        let dry_run = self.result.as_ref().ok();
        let refused = dry_run.map_or(&[][..], |dry_run| &dry_run.refused_writes);
        let refused = refused.iter().map(|write| model::RefusedWrite {
            vcpu: write.vcpu,
            id: write.register.into(),
            name: value_format.name(write.register),
            written_value: value_format.value(write.register, &write.written_value),
            actual_value: (write.actual_value.as_ref())
                .and_then(|value| value_format.value(write.register, value)),
            errno: write.errno,
            meaning: write.meaning.to_owned(),
        });
        let mismatches = dry_run.map_or(&[][..], |dry_run| &dry_run.mismatches);
        let mismatches = mismatches.iter().map(|mismatch| model::ReadBackMismatch {
            vcpu: mismatch.vcpu,
            id: mismatch.register.into(),
            name: value_format.name(mismatch.register),
            written_value: value_format.value(mismatch.register, &mismatch.written_value),
            actual_value: value_format.value(mismatch.register, &mismatch.actual_value),
        });
        model::DryRunReport {
            scope: SCOPE.to_owned(),
            features: self.features.names().map(str::to_owned).collect(),
            outcome: match &self.result {
                Err(_) => DryRunOutcome::NOT_TRIED,
                Ok(_) if self.is_consistent_with_plan() => DryRunOutcome::CONFIRMED,
                Ok(_) => DryRunOutcome::CONTRADICTED,
            },
            error: self.result.as_ref().err().cloned(),
            written_registers: dry_run.map_or(0, |dry_run| dry_run.written_registers),
            refused_writes: refused.collect(),
            mismatches: mismatches.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contradicted() -> DryRunFindings {
        let refused = RefusedWrite {
            vcpu: 1,
            register: RegisterId::PSCI_VERSION,
            written_value: Value::U64(0x1_0003),
            actual_value: Some(Value::U64(0x1_0001)),
            errno: 22,
            meaning: "invalid",
            text: "PSCI_VERSION was refused".to_owned(),
        };
        let mismatch = |register: RegisterId| ReadBackMismatch {
            vcpu: None,
            register,
            written_value: Value::U64(0x5ec2),
            actual_value: Value::U64(2),
            text: format!("{register} holds another value"),
        };
        let dry_run = DryRun {
            written_registers: 255,
            refused_writes: vec![refused],
            mismatches: vec![
                mismatch(RegisterId::ID_AA64PFR0_EL1),
                mismatch(RegisterId::APIAKEYLO_EL1),
            ],
        };
        DryRunFindings {
            features: Features::PMU,
            result: Ok(dry_run),
        }
    }

    #[test]
    fn contradictions_contain_no_secrets() {
        let findings = contradicted();
        assert!(!findings.is_consistent_with_plan());
        let texts = findings.contradictions();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("PSCI_VERSION") && texts[1].contains("ID_AA64PFR0_EL1"));
        let value_format = ValueFormat::new(None, false);
        let json = serde_json::to_value(findings.to_model(value_format)).expect("JSON");
        assert_eq!(json["outcome"], "contradicted");
        assert_eq!(json["mismatches"][0]["written_value"], "0x5ec2");
        assert_eq!(
            json["mismatches"][1]["written_value"],
            serde_json::Value::Null
        );
    }

    /// The machine that runs the tests may lack KVM, so no test of the whole command covers the
    /// model.
    #[test]
    fn model_round_trips() {
        let model = contradicted().to_model(ValueFormat::new(None, false));
        let json = serde_json::to_string(&model).expect("JSON");
        let again: model::DryRunReport = serde_json::from_str(&json).expect("the model");
        assert_eq!(again, model);
    }
}
