//! Registers and values as they are printed. Pointer-authentication keys are the guest's secrets.

use cpreg::destination::Accelerator;
use cpreg::plan::Decision;
use cpreg::register::{FieldDifference, Naming, RegisterId, Value, differing_fields};
use cpreg::tolerance::Tolerances;

/// How registers and values are to be printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printing {
    pub(crate) naming: Naming,
    pub(crate) secrets: bool,
}

impl Printing {
    pub(crate) fn new(accelerator: Option<Accelerator>, secrets: bool) -> Self {
        let naming = match accelerator {
            Some(Accelerator::Tcg | Accelerator::Hvf) => Naming::Architectural,
            Some(Accelerator::Kvm) | None => Naming::Kvm,
        };
        Self { naming, secrets }
    }

    pub(crate) fn name(self, id: RegisterId) -> String {
        id.display_in(self.naming).to_string()
    }

    /// A value, or `None` if it is secret.
    pub(crate) fn value(self, id: RegisterId, value: &Value) -> Option<String> {
        (self.secrets || !id.is_secret()).then(|| value.to_string())
    }

    /// A value with what it means, for people.
    pub(crate) fn describe(self, id: RegisterId, value: &Value) -> String {
        let Some(number) = self.value(id, value) else {
            return "(secret)".to_owned();
        };
        match value.as_u64().and_then(|value| id.value_name(value)) {
            Some(name) => format!("{name} ({number})"),
            None => number,
        }
    }
}

/// The advice that the table has for a decision, if any.
pub(crate) fn advice(decision: &Decision, tolerances: &Tolerances) -> Option<String> {
    let advice = decision.reason.advice(tolerances)?;
    let host = decision.host.as_ref().and_then(Value::as_u64);
    let host = host.map_or_else(
        || "VALUE".to_owned(),
        |value| {
            let name = decision.register.value_name(value);
            name.map_or_else(|| format!("{value:#x}"), str::to_owned)
        },
    );
    Some(advice.replace("{host}", &host))
}

/// The fields that differ between two values, `TCRX 0x0 -> 0x1`.
pub(crate) fn field_changes(id: RegisterId, from: u64, to: u64) -> Vec<String> {
    if id.fields().is_empty() {
        return Vec::new();
    }
    let text = |difference: FieldDifference| {
        format!(
            "{} {:#x} -> {:#x}",
            difference.field, difference.from, difference.to
        )
    };
    differing_fields(id, from, to).map(text).collect()
}
