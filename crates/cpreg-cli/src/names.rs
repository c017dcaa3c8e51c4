//! Names of registers and fields, and numbers, as a user types them.

use cpreg::register::{Naming, RegisterField, RegisterId, parse_u64};

use crate::failure::Failure;

/// Parses the name or id of a register in any of its spellings.
pub(crate) fn parse_register(text: &str, naming: Naming) -> Result<RegisterId, Failure> {
    RegisterId::parse_in(text, naming).map_err(|error| unknown_register(text, error))
}

/// Parses a field, `REG.FIELD`.
pub(crate) fn parse_field(text: &str, naming: Naming) -> Result<RegisterField, Failure> {
    let Some((name, field)) = text.split_once('.') else {
        return Err(
            Failure::new(format!("`{text}` is not a field")).with_hint("write it as REG.FIELD")
        );
    };
    let id = parse_register(name, naming)?;
    RegisterField::parse_in(text, naming).map_err(|error| {
        let failure = Failure::new(format!("`{text}` is not a field")).with_cause(error);
        let fields: Vec<_> = id.fields().iter().map(|field| field.name()).collect();
        if fields.is_empty() || field.starts_with('[') {
            failure.with_hint(format!(
                "bits are fields too: {}.[3:0]",
                id.display_in(naming)
            ))
        } else {
            failure.with_hint(format!("the register's fields: {}", fields.join(", ")))
        }
    })
}

fn unknown_register(text: &str, error: cpreg::Error) -> Failure {
    let suggestions = error.suggestions().join(", ");
    let failure = Failure::new(format!("`{text}` is not a register")).with_cause(error);
    if suggestions.is_empty() {
        failure
    } else {
        failure.with_hint(format!("similar names: {suggestions}"))
    }
}

/// Parses a number, decimal or `0x` hexadecimal.
pub(crate) fn parse_number(text: &str) -> Result<u64, Failure> {
    parse_u64(text).map_err(|error| {
        Failure::new(format!("`{text}` is not a 64-bit number"))
            .with_cause(error)
            .with_hint("write it as 42 or 0x2a")
    })
}
