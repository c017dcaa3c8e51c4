//! What came of trying a plan on this machine's KVM, for `check`: as text, and as the member `attempt` of `cpreg.check/1`.
//!
//! It proves what KVM takes in cpreg's own order, from a VM made as cpreg makes one, and says nothing about another VMM.

pub mod model;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};

use crate::names::AttemptOutcome;
use crate::printer::{Printer, style, styled};
use crate::value::Printing;

/// What it covers.
const SCOPE: &str =
    "which registers KVM takes in cpreg's own order; not what another VMM would do with its own";

/// A plan that was ready, and what KVM did with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The features of the VM that was made for it.
    pub features: Features,
    /// What KVM did, or why it was not tried.
    pub result: Result<Attempt, String>,
}

/// What KVM did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How many registers were written.
    pub written: usize,
    /// The writes that it refused.
    pub refused: Vec<Refused>,
    /// Registers that took a value without an error and hold another.
    pub differences: Vec<Difference>,
}

/// A write that KVM refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The vCPU.
    pub vcpu: usize,
    /// The register.
    pub register: RegisterId,
    /// What was written.
    pub wrote: Value,
    /// What it holds, if that can be read.
    pub holds: Option<Value>,
    /// What the kernel answered.
    pub errno: u16,
    /// What that means, in words.
    pub meaning: &'static str,
    /// All of that in words; without the value of a key.
    pub text: String,
}

/// A register that holds something else than was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The vCPU; none for what belongs to the VM.
    pub vcpu: Option<usize>,
    /// The register.
    pub register: RegisterId,
    /// What was written.
    pub wrote: Value,
    /// What it holds.
    pub holds: Value,
    /// All of that in words.
    pub text: String,
}

impl Attempted {
    /// Whether KVM did what the plan says.
    pub fn agrees(&self) -> bool {
        match &self.result {
            Ok(attempt) => attempt.refused.is_empty() && attempt.differences.is_empty(),
            // It was not tried.
            Err(_) => true,
        }
    }

    /// Whether it was tried, and KVM did what the plan says.
    pub fn succeeded(&self) -> bool {
        self.result.is_ok() && self.agrees()
    }

    /// What KVM did against the plan, in words; values of keys are never in them.
    pub fn disagreements(&self) -> Vec<&str> {
        let Ok(attempt) = &self.result else {
            return Vec::new();
        };
        let refused = attempt.refused.iter().map(|refused| &*refused.text);
        let differences = attempt.differences.iter();
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
                    styled(style::DOUBT, "not tried")
                ));
            }
            Ok(attempt) if self.agrees() => {
                printer.line(format_args!(
                    "  {}: all {} writes were taken, and what was read again is as planned",
                    styled(style::GOOD, "agrees with the plan"),
                    attempt.written
                ));
            }
            Ok(_) => {
                printer.line(format_args!(
                    "  {}: please report it, with this host's record (`cpreg probe kvm`)",
                    styled(style::BAD, "disagrees with the plan")
                ));
                for disagreement in self.disagreements() {
                    printer.line(format_args!("    {disagreement}"));
                }
            }
        }
        printer.line(format_args!(
            "  {}: {SCOPE}",
            styled(style::ASIDE, "proves")
        ));
        printer.line("");
    }

    /// Makes the model, a member of the one of `check`.
    pub fn to_model(&self, printing: Printing) -> model::Attempt {
        let attempt = self.result.as_ref().ok();
        let refused = attempt.map_or(&[][..], |attempt| &attempt.refused);
        let refused = refused.iter().map(|it| model::Refused {
            vcpu: it.vcpu,
            id: it.register.into(),
            name: printing.name(it.register),
            wrote: printing.value(it.register, &it.wrote),
            holds: (it.holds.as_ref()).and_then(|value| printing.value(it.register, value)),
            errno: it.errno,
            meaning: it.meaning.to_owned(),
        });
        let differences = attempt.map_or(&[][..], |attempt| &attempt.differences);
        let differences = differences.iter().map(|it| model::Difference {
            vcpu: it.vcpu,
            id: it.register.into(),
            name: printing.name(it.register),
            wrote: printing.value(it.register, &it.wrote),
            holds: printing.value(it.register, &it.holds),
        });
        model::Attempt {
            scope: SCOPE.to_owned(),
            features: self.features.names().map(str::to_owned).collect(),
            outcome: match &self.result {
                Err(_) => AttemptOutcome::NOT_TRIED,
                Ok(_) if self.agrees() => AttemptOutcome::AGREES,
                Ok(_) => AttemptOutcome::DISAGREES,
            },
            error: self.result.as_ref().err().cloned(),
            written: attempt.map_or(0, |attempt| attempt.written),
            refused: refused.collect(),
            differences: differences.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempted() -> Attempted {
        let refused = Refused {
            vcpu: 1,
            register: RegisterId::PSCI_VERSION,
            wrote: Value::Small(0x1_0003),
            holds: Some(Value::Small(0x1_0001)),
            errno: 22,
            meaning: "invalid",
            text: "PSCI_VERSION was refused".to_owned(),
        };
        let difference = |register: RegisterId| Difference {
            vcpu: None,
            register,
            wrote: Value::Small(0x5ec2),
            holds: Value::Small(2),
            text: format!("{register} holds something else"),
        };
        let attempt = Attempt {
            written: 255,
            refused: vec![refused],
            differences: vec![
                difference(RegisterId::ID_AA64PFR0_EL1),
                difference(RegisterId::APIAKEYLO_EL1),
            ],
        };
        Attempted {
            features: Features::PMU,
            result: Ok(attempt),
        }
    }

    #[test]
    fn what_differs_is_said_without_secrets() {
        let attempted = attempted();
        assert!(!attempted.agrees());
        let said = attempted.disagreements();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("PSCI_VERSION") && said[1].contains("ID_AA64PFR0_EL1"));
        let printing = Printing::new(None, false);
        let json = serde_json::to_value(attempted.to_model(printing)).expect("JSON");
        assert_eq!(json["outcome"], "disagrees");
        assert_eq!(json["differences"][0]["wrote"], "0x5ec2");
        assert_eq!(json["differences"][1]["wrote"], serde_json::Value::Null);
    }

    /// No machine that runs the tests need have KVM, so no whole run shows it.
    #[test]
    fn the_model_comes_back() {
        let model = attempted().to_model(Printing::new(None, false));
        let json = serde_json::to_string(&model).expect("JSON");
        let again: model::Attempt = serde_json::from_str(&json).expect("the model");
        assert_eq!(again, model);
    }
}
