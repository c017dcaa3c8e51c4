//! What came of trying a plan on this machine's KVM, for `check`: as text, and as the member `attempt` of `cpreg.check/1`.
//!
//! It proves what KVM takes in cpreg's own order, from a VM made as cpreg makes one, and says nothing about another VMM.

use cpreg::destination::Features;
use cpreg_kvm::Attempt;
use cpreg_kvm::attempt::AttemptError;
use cpreg_kvm::load::Refused;
use serde::Serialize;

use super::value::{Printing, id_digits};
use crate::printer::{Printer, style, styled};

/// What it covers.
const SCOPE: &str =
    "which registers KVM takes in cpreg's own order; not what another VMM would do with its own";

/// A plan that was ready, and what KVM did with it.
pub(crate) struct Attempted {
    features: Features,
    result: Result<Attempt, AttemptError>,
}

impl Attempted {
    pub(crate) const fn new(features: Features, result: Result<Attempt, AttemptError>) -> Self {
        Self { features, result }
    }

    /// Whether KVM did what the plan says.
    pub(crate) fn agrees(&self) -> bool {
        match &self.result {
            Ok(attempt) => attempt.succeeded() && attempt.loaded.differences.is_empty(),
            // It was not tried.
            Err(_) => true,
        }
    }

    /// Whether it was tried, and KVM did what the plan says.
    pub(crate) fn succeeded(&self) -> bool {
        self.result.is_ok() && self.agrees()
    }

    /// How many registers were written; why nothing was tried, if so.
    #[cfg(test)]
    pub(crate) fn written(&self) -> Result<usize, String> {
        let result = self.result.as_ref().map_err(ToString::to_string);
        result.map(|attempt| attempt.loaded.written)
    }

    /// What KVM did against the plan, in words; values of keys are never in them.
    pub(crate) fn disagreements(&self) -> Vec<String> {
        let Ok(attempt) = &self.result else {
            return Vec::new();
        };
        let refused = attempt.refused.iter().map(ToString::to_string);
        let differences = attempt.loaded.differences.iter();
        let differences = differences.filter(|it| !it.register.is_secret());
        refused
            .chain(differences.map(ToString::to_string))
            .collect()
    }

    /// Prints it.
    pub(crate) fn print(&self, printer: &mut Printer) {
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
                    attempt.loaded.written
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

    /// As a member of a document.
    pub(crate) fn to_json(&self, printing: Printing) -> AttemptReport {
        let attempt = self.result.as_ref().ok();
        let refused = attempt.map_or(&[][..], |attempt| &attempt.refused);
        let differences = attempt.map_or(&[][..], |attempt| &attempt.loaded.differences);
        AttemptReport {
            scope: SCOPE,
            features: self.features.names().collect(),
            outcome: match &self.result {
                Err(_) => "not-tried",
                Ok(_) if self.agrees() => "agrees",
                Ok(_) => "disagrees",
            },
            error: self.result.as_ref().err().map(ToString::to_string),
            written: attempt.map_or(0, |attempt| attempt.loaded.written),
            refused: refused
                .iter()
                .map(|it| RefusedReport::of(it, printing))
                .collect(),
            differences: differences
                .iter()
                .map(|it| DifferenceReport {
                    vcpu: it.vcpu,
                    id: id_digits(it.register),
                    name: printing.name(it.register),
                    wrote: printing.value(it.register, &it.wrote),
                    holds: printing.value(it.register, &it.holds),
                })
                .collect(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct AttemptReport {
    scope: &'static str,
    features: Vec<&'static str>,
    outcome: &'static str,
    error: Option<String>,
    written: usize,
    refused: Vec<RefusedReport>,
    differences: Vec<DifferenceReport>,
}

#[derive(Serialize)]
struct RefusedReport {
    vcpu: usize,
    id: String,
    name: String,
    wrote: Option<String>,
    holds: Option<String>,
    errno: u16,
    meaning: &'static str,
}

#[derive(Serialize)]
struct DifferenceReport {
    vcpu: Option<usize>,
    id: String,
    name: String,
    wrote: Option<String>,
    holds: Option<String>,
}

impl RefusedReport {
    fn of(refused: &Refused, printing: Printing) -> Self {
        let id = refused.register;
        let holds = refused.holds.as_ref().ok();
        Self {
            vcpu: refused.vcpu,
            id: id_digits(id),
            name: printing.name(id),
            wrote: printing.value(id, &refused.wrote),
            holds: holds.and_then(|value| printing.value(id, value)),
            errno: refused.errno.0,
            meaning: refused.meaning(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cpreg::register::{RegisterId, Value};
    use cpreg_kvm::Errno;
    use cpreg_kvm::load::{Difference, Loaded};

    use super::*;

    fn attempted() -> Attempted {
        let refused = Refused {
            vcpu: 1,
            register: RegisterId::PSCI_VERSION,
            wrote: Value::Small(0x1_0003),
            holds: Ok(Value::Small(0x1_0001)),
            errno: Errno::EINVAL,
            written: 7,
        };
        let difference = |register| Difference {
            vcpu: None,
            register,
            wrote: Value::Small(0x5ec2),
            holds: Value::Small(2),
        };
        let loaded = Loaded {
            written: 255,
            calls: 300,
            differences: vec![
                difference(RegisterId::ID_AA64PFR0_EL1),
                difference(RegisterId::APIAKEYLO_EL1),
            ],
        };
        let attempt = Attempt {
            loaded,
            refused: vec![refused],
        };
        Attempted::new(Features::PMU, Ok(attempt))
    }

    #[test]
    fn what_differs_is_said_without_secrets() {
        let attempted = attempted();
        assert!(!attempted.agrees());
        let said = attempted.disagreements();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("PSCI_VERSION") && said[1].contains("ID_AA64PFR0_EL1"));
        let printing = Printing::new(None, false);
        let json = serde_json::to_value(attempted.to_json(printing)).expect("JSON");
        assert_eq!(json["outcome"], "disagrees");
        assert_eq!(json["differences"][0]["wrote"], "0x5ec2");
        assert_eq!(json["differences"][1]["wrote"], serde_json::Value::Null);
    }

    /// No machine that runs the tests need have KVM, so no whole run shows it.
    #[test]
    fn the_member_is_documented() {
        fn members(value: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
            if let Some(object) = value.as_object() {
                for (name, value) in object {
                    let path = format!("{path}.{name}");
                    members(value, &path, found);
                    found.insert(path);
                }
            }
            for value in value.as_array().into_iter().flatten() {
                members(value, &format!("{path}[]"), found);
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/json.md");
        let text = std::fs::read_to_string(path).expect("the documentation");
        let documented: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(member, _)| member.to_owned())
            .filter(|member| member.starts_with("attempt."))
            .collect();
        let json = attempted().to_json(Printing::new(None, false));
        let json = serde_json::to_value(json).expect("JSON");
        let mut found = BTreeSet::new();
        members(&json, "attempt", &mut found);
        assert_eq!(found, documented);
    }
}
