//! What came of trying a plan on this machine's KVM, for `check`: as text, and as the member `dry_run` of `cpreg.check/2`.
//!
//! It proves what KVM takes in cpreg's own order, from a VM made as cpreg makes one, and says nothing about another VMM.

pub mod model;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};

use crate::names::DryRunOutcome;
use crate::printer::{Printer, style, styled};
use crate::value::ValueFormat;

/// What it covers.
const SCOPE: &str =
    "which registers KVM takes in cpreg's own order; not what another VMM would do with its own";

/// A plan that was ready, and what KVM did with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRunFindings {
    /// The features of the VM that was made for it.
    pub features: Features,
    /// What KVM did, or why it was not tried.
    pub result: Result<DryRun, String>,
}

/// What KVM did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// How many registers were written.
    pub written_registers: usize,
    /// The writes that it refused.
    pub refused_writes: Vec<RefusedWrite>,
    /// Registers that took a value without an error and hold another.
    pub mismatches: Vec<ReadBackMismatch>,
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWrite {
    /// The vCPU.
    pub vcpu: usize,
    /// The register.
    pub register: RegisterId,
    /// What was written.
    pub written_value: Value,
    /// What it holds, if that can be read.
    pub actual_value: Option<Value>,
    /// What the kernel answered.
    pub errno: u16,
    /// What that means, in words.
    pub meaning: &'static str,
    /// All of that in words; without the value of a key.
    pub text: String,
}

/// A register that holds something else than was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBackMismatch {
    /// The vCPU; none for what belongs to the VM.
    pub vcpu: Option<usize>,
    /// The register.
    pub register: RegisterId,
    /// What was written.
    pub written_value: Value,
    /// What it holds.
    pub actual_value: Value,
    /// All of that in words.
    pub text: String,
}

impl DryRunFindings {
    /// Whether KVM did what the plan says.
    pub fn is_consistent_with_plan(&self) -> bool {
        match &self.result {
            Ok(attempt) => attempt.refused_writes.is_empty() && attempt.mismatches.is_empty(),
            // It was not tried.
            Err(_) => true,
        }
    }

    /// Whether it was tried, and KVM did what the plan says.
    pub fn is_confirmed(&self) -> bool {
        self.result.is_ok() && self.is_consistent_with_plan()
    }

    /// What KVM did against the plan, in words; values of keys are never in them.
    pub fn contradictions(&self) -> Vec<&str> {
        let Ok(attempt) = &self.result else {
            return Vec::new();
        };
        let refused = attempt.refused_writes.iter().map(|refused| &*refused.text);
        let differences = attempt.mismatches.iter();
        let differences = differences.filter(|it| !it.register.is_secret());
        refused.chain(differences.map(|it| &*it.text)).collect()
    }

    /// Prints it.
    pub fn print(&self, printer: &mut Printer) {
        printer.line("tried on this machine's KVM, in a VM that was thrown away");
        match &self.result {
            Err(error) => {
                printer.line(format_args!(
                    "  {}: {error}",
                    styled(style::WARNING, "not tried")
                ));
            }
            Ok(attempt) if self.is_consistent_with_plan() => {
                printer.line(format_args!(
                    "  {}: all {} writes were taken, and what was read again is as planned",
                    styled(style::GOOD, "agrees with the plan"),
                    attempt.written_registers
                ));
            }
            Ok(_) => {
                printer.line(format_args!(
                    "  {}: please report it, with this host's record (`cpreg probe kvm`)",
                    styled(style::ERROR, "disagrees with the plan")
                ));
                for disagreement in self.contradictions() {
                    printer.line(format_args!("    {disagreement}"));
                }
            }
        }
        printer.line(format_args!("  {}: {SCOPE}", styled(style::DIM, "proves")));
        printer.line("");
    }

    /// Makes the model, a member of the one of `check`.
    pub fn to_model(&self, printing: ValueFormat) -> model::DryRunReport {
        let attempt = self.result.as_ref().ok();
        let refused = attempt.map_or(&[][..], |attempt| &attempt.refused_writes);
        let refused = refused.iter().map(|it| model::RefusedWrite {
            vcpu: it.vcpu,
            id: it.register.into(),
            name: printing.name(it.register),
            written_value: printing.value(it.register, &it.written_value),
            actual_value: (it.actual_value.as_ref())
                .and_then(|value| printing.value(it.register, value)),
            errno: it.errno,
            meaning: it.meaning.to_owned(),
        });
        let differences = attempt.map_or(&[][..], |attempt| &attempt.mismatches);
        let differences = differences.iter().map(|it| model::ReadBackMismatch {
            vcpu: it.vcpu,
            id: it.register.into(),
            name: printing.name(it.register),
            written_value: printing.value(it.register, &it.written_value),
            actual_value: printing.value(it.register, &it.actual_value),
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
            written_registers: attempt.map_or(0, |attempt| attempt.written_registers),
            refused_writes: refused.collect(),
            mismatches: differences.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempted() -> DryRunFindings {
        let refused = RefusedWrite {
            vcpu: 1,
            register: RegisterId::PSCI_VERSION,
            written_value: Value::U64(0x1_0003),
            actual_value: Some(Value::U64(0x1_0001)),
            errno: 22,
            meaning: "invalid",
            text: "PSCI_VERSION was refused".to_owned(),
        };
        let difference = |register: RegisterId| ReadBackMismatch {
            vcpu: None,
            register,
            written_value: Value::U64(0x5ec2),
            actual_value: Value::U64(2),
            text: format!("{register} holds something else"),
        };
        let attempt = DryRun {
            written_registers: 255,
            refused_writes: vec![refused],
            mismatches: vec![
                difference(RegisterId::ID_AA64PFR0_EL1),
                difference(RegisterId::APIAKEYLO_EL1),
            ],
        };
        DryRunFindings {
            features: Features::PMU,
            result: Ok(attempt),
        }
    }

    #[test]
    fn what_differs_is_said_without_secrets() {
        let attempted = attempted();
        assert!(!attempted.is_consistent_with_plan());
        let said = attempted.contradictions();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("PSCI_VERSION") && said[1].contains("ID_AA64PFR0_EL1"));
        let printing = ValueFormat::new(None, false);
        let json = serde_json::to_value(attempted.to_model(printing)).expect("JSON");
        assert_eq!(json["outcome"], "contradicted");
        assert_eq!(json["mismatches"][0]["written_value"], "0x5ec2");
        assert_eq!(
            json["mismatches"][1]["written_value"],
            serde_json::Value::Null
        );
    }

    /// No machine that runs the tests need have KVM, so no whole run shows it.
    #[test]
    fn the_model_comes_back() {
        let model = attempted().to_model(ValueFormat::new(None, false));
        let json = serde_json::to_string(&model).expect("JSON");
        let again: model::DryRunReport = serde_json::from_str(&json).expect("the model");
        assert_eq!(again, model);
    }
}
