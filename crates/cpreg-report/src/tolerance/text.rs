//! Parts of a tolerance in words.

use cpreg::register::{RegisterField, RegisterId};
use cpreg::tolerance::{Condition, Handling, RegisterDifference, RegisterSelector, Tolerance};

/// Returns the category and the scope of an entry: `new, under tcg`. An operator's entry has no
/// other category.
pub fn kind_label(entry: &Tolerance) -> String {
    let accelerator = entry
        .accelerator
        .map(|accelerator| format!(", under {accelerator}"))
        .unwrap_or_default();
    if entry.is_operator_entry {
        return format!("{}{accelerator}", entry_name(entry));
    }
    format!("{}{accelerator}", entry.category)
}

/// Returns the name of an entry: `entry 2 of ours.toml`.
pub fn entry_name(entry: &Tolerance) -> String {
    match &entry.origin {
        Some(origin) => format!("entry {} of {}", origin.number, origin.file),
        None if entry.is_operator_entry => "operator's entry".to_owned(),
        None => "a built-in entry".to_owned(),
    }
}

/// Returns the name of the field that a mask selects, if it selects one, and a value of these bits
/// as text.
pub(crate) fn masked_bits(register: RegisterId, mask: u64, value: u64) -> (Option<String>, String) {
    let mut fields = register.fields().iter();
    match fields.find(|field| field.mask() == mask && mask != u64::MAX) {
        Some(field) => {
            let value = field.extract(value);
            let named = RegisterField {
                id: register,
                field: *field,
            };
            let text = match named.value_name(value) {
                Some(name) => format!("{name} ({value:#x})"),
                None => format!("{value:#x}"),
            };
            (Some(field.name().to_owned()), text)
        }
        None if mask == u64::MAX => {
            let text = match register.value_name(value) {
                Some(name) => format!("{name} ({value:#x})"),
                None => format!("{value:#x}"),
            };
            (None, text)
        }
        None => (None, format_masked_value(mask, value)),
    }
}

/// Returns the names of the selected registers, or the name of the class of registers.
pub fn register_names(selector: &RegisterSelector) -> Vec<String> {
    match selector {
        RegisterSelector::Ids(ids) => ids.iter().map(ToString::to_string).collect(),
        RegisterSelector::CacheSizes => vec!["CCSIDR_EL1[0] to CCSIDR_EL1[13]".to_owned()],
        RegisterSelector::ImplementationDefined => {
            vec!["implementation-defined registers".to_owned()]
        }
        RegisterSelector::ReservedAArch32 => vec!["reserved AArch32 ID registers".to_owned()],
        RegisterSelector::PerformanceMonitors => vec!["the performance monitors".to_owned()],
    }
}

/// Returns a difference in words.
pub const fn difference(difference: RegisterDifference) -> &'static str {
    match difference {
        RegisterDifference::SourceOnly => "source only",
        RegisterDifference::DestinationOnly => "destination only",
        RegisterDifference::ValueNotAccepted => "value not accepted",
        RegisterDifference::OtherId => "listed under another id",
    }
}

/// Returns a handling in words.
pub fn handling(handling: Handling) -> String {
    match handling {
        Handling::Ignore => "ignore".to_owned(),
        Handling::KeepAtReset => "keep at reset".to_owned(),
        Handling::Set(value) => format!("set to {value:#x}"),
        Handling::SetToNearest => "set to the nearest accepted value".to_owned(),
        Handling::Rename(id) => format!("it is {id}; load it under the destination's id"),
        Handling::Refuse => "refuse".to_owned(),
    }
}

/// Returns a condition in words: `, if …`; an empty text if the condition is always true.
pub fn condition(tolerance_condition: &Condition) -> String {
    match tolerance_condition {
        Condition::Always => String::new(),
        Condition::And(one, other) => {
            let other = condition(other);
            format!(
                "{} and {}",
                condition(one),
                other.strip_prefix(", if ").unwrap_or(&other)
            )
        }
        Condition::Value { mask, expected } => {
            format!(", if it holds {}", format_masked_value(*mask, *expected))
        }
        Condition::OtherRegister {
            register,
            mask,
            expected,
        } => format!(
            ", if {register} holds {}",
            format_masked_value(*mask, *expected)
        ),
        Condition::WithoutFeature {
            register, field, ..
        } => format!(", if {register}.{field} is 0"),
        Condition::DiffersIn { mask } => {
            format!(", if it differs from the destination's only in the bits {mask:#x}")
        }
        Condition::NoSuchCache => ", if CLIDR_EL1 has no such cache".to_owned(),
        Condition::PmuUnused => {
            ", if the destination's VM has none and all have their reset values".to_owned()
        }
    }
}

fn format_masked_value(mask: u64, expected: u64) -> String {
    if mask == u64::MAX {
        format!("{expected:#x}")
    } else {
        format!("{expected:#x} in the bits {mask:#x}")
    }
}
