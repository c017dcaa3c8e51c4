//! Registers and values as they are printed. Pointer-authentication keys are the guest's secrets.

use cpreg::destination::Accelerator;
use cpreg::register::{FieldDifference, Naming, REDACTED, RegisterId, Value, differing_fields};

/// How registers and values are to be printed.
#[derive(Clone, Copy, Debug)]
pub struct ValueFormat {
    /// Names of registers.
    pub naming: Naming,
    /// Values of keys are printed.
    pub show_secrets: bool,
}

impl ValueFormat {
    /// Makes the style that fits an accelerator.
    pub fn new(accelerator: Option<Accelerator>, secrets: bool) -> Self {
        let naming = match accelerator {
            Some(Accelerator::Tcg | Accelerator::Hvf) => Naming::Architectural,
            Some(Accelerator::Kvm) | None => Naming::Kvm,
        };
        Self {
            naming,
            show_secrets: secrets,
        }
    }

    /// Returns the name of a register.
    pub fn name(self, id: RegisterId) -> String {
        id.display_in(self.naming).to_string()
    }

    /// A value, or `None` if it is secret.
    pub fn value(self, id: RegisterId, value: &Value) -> Option<String> {
        (self.show_secrets || !id.is_secret()).then(|| value.to_string())
    }

    /// A value with what it means, for people. What a report does not tell has a mark in its place.
    pub fn describe(self, id: RegisterId, value: &Value) -> String {
        let Some(number) = self.value(id, value) else {
            return "(secret)".to_owned();
        };
        if id.is_guest_pointer() && value.as_u64() == Some(REDACTED) {
            return "(redacted)".to_owned();
        }
        match value.as_u64().and_then(|value| id.value_name(value)) {
            Some(name) => format!("{name} ({number})"),
            None => number,
        }
    }
}

/// An id as reports write it: all 16 digits.
pub fn id_digits(id: RegisterId) -> String {
    format!("{:#018x}", id.raw())
}

/// The fields that differ between two values, `TCRX 0x0 -> 0x1`.
pub fn field_changes(id: RegisterId, from: u64, to: u64) -> Vec<String> {
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
