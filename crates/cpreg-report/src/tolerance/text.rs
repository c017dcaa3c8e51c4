//! The parts of a tolerance in words.

use cpreg::tolerance::{Condition, Handling, RegisterDifference, RegisterSelector, Tolerance};

/// What kind of difference it is about: `new, under tcg`.
pub fn kind_label(entry: &Tolerance) -> String {
    let where_ = entry
        .accelerator
        .map(|accelerator| format!(", under {accelerator}"))
        .unwrap_or_default();
    let whose = if entry.is_operator_entry {
        ", an operator's"
    } else {
        ""
    };
    format!("{}{where_}{whose}", entry.category)
}

/// The registers it is about, by name; for a class of registers what it is called.
pub fn register_names(which: &RegisterSelector) -> Vec<String> {
    match which {
        RegisterSelector::Ids(ids) => ids.iter().map(ToString::to_string).collect(),
        RegisterSelector::CacheSizes => vec!["CCSIDR_EL1[0] to CCSIDR_EL1[13]".to_owned()],
        RegisterSelector::ImplementationDefined => {
            vec!["implementation-defined registers".to_owned()]
        }
        RegisterSelector::ReservedAArch32 => vec!["reserved AArch32 ID registers".to_owned()],
        RegisterSelector::PerformanceMonitors => vec!["the performance monitors".to_owned()],
    }
}

/// Between which lists or values it is, in words.
pub const fn difference(difference: RegisterDifference) -> &'static str {
    match difference {
        RegisterDifference::OnlyInInput => "only in the input",
        RegisterDifference::OnlyAtDestination => "only at the destination",
        RegisterDifference::ValueNotTaken => "value not taken",
    }
}

/// What is done, in words.
pub fn handling(handling: Handling) -> String {
    match handling {
        Handling::Ignore => "ignore".to_owned(),
        Handling::KeepAtReset => "keep at reset".to_owned(),
        Handling::Set(value) => format!("set to {value:#x}"),
        Handling::SetToNearest => "set to the nearest value that is taken".to_owned(),
        Handling::Refuse => "refuse".to_owned(),
    }
}

/// When, in words: `, if …`, or nothing.
pub fn condition(of: &Condition) -> String {
    match of {
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
            ", if the VM there has none and all hold what they held at reset".to_owned()
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
