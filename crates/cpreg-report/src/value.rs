//! [`ValueFormat`] of register names and values; hides pointer-authentication keys as secrets.

use cpreg::destination::Accelerator;
use cpreg::plan::DecidedPart;
use cpreg::register::{FieldDifference, Naming, REDACTED, RegisterId, Value, differing_fields};

/// Format of register names and values.
#[derive(Clone, Copy, Debug)]
pub struct ValueFormat {
    /// Naming of registers, which depends on the accelerator.
    pub naming: Naming,
    /// `true` if the values of pointer-authentication keys are printed.
    pub show_secrets: bool,
}

impl ValueFormat {
    /// Creates the format for a VM under this accelerator.
    pub fn new(accelerator: Option<Accelerator>, show_secrets: bool) -> Self {
        let naming = match accelerator {
            Some(Accelerator::Tcg | Accelerator::Hvf) => Naming::Architectural,
            Some(Accelerator::Kvm) | None => Naming::Kvm,
        };
        Self {
            naming,
            show_secrets,
        }
    }

    /// Returns the name of a register.
    pub fn name(self, id: RegisterId) -> String {
        id.display_in(self.naming).to_string()
    }

    /// Returns the name of a part that a plan decides about.
    pub fn part(self, part: &DecidedPart) -> String {
        match part {
            DecidedPart::Register(id) => self.name(*id),
            DecidedPart::Extension(name) => name.clone().into_owned(),
            DecidedPart::Hardware(fact) => fact.name().to_owned(),
        }
    }

    /// Returns a value as text, or `None` if it is secret.
    pub fn value(self, id: RegisterId, value: &Value) -> Option<String> {
        (self.show_secrets || !id.is_secret()).then(|| value.to_string())
    }

    /// Returns a value with its name; `(secret)` or `(redacted)` instead if the value is hidden or
    /// removed.
    pub fn describe(self, id: RegisterId, value: &Value) -> String {
        let Some(number) = self.value(id, value) else {
            return "(secret)".to_owned();
        };
        if id.is_guest_pointer() && value.as_u64() == Some(REDACTED) {
            return "(redacted)".to_owned();
        }
        match value.as_u64().and_then(|value| id.describe_value(value)) {
            Some(cpu) if id == RegisterId::MIDR_EL1 => format!("{number} ({cpu})"),
            Some(name) => format!("{name} ({number})"),
            None => number,
        }
    }
}

/// Returns an id with all 16 digits, as in reports.
pub fn id_digits(id: RegisterId) -> String {
    format!("{:#018x}", id.raw())
}

/// Returns the fields that differ between two values: `TCRX 0x0 -> 0x1`.
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
