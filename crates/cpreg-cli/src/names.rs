//! Names of registers, fields, values and features, and numbers, as a user types them.

use cpreg::destination::Features;
use cpreg::register::{Naming, RegisterField, RegisterId, parse_u64};

use crate::failure::Failure;
use crate::suggestion;

/// Parses the name or id of a register in any of its spellings.
pub(crate) fn parse_register(text: &str, naming: Naming) -> Result<RegisterId, Failure> {
    RegisterId::parse_in(text, naming).map_err(|error| unknown_register(text, error))
}

/// Parses a set of vCPU features of the option `--features`: `pmu,sve`.
pub(crate) fn parse_features(names: &str) -> Result<Features, Failure> {
    Features::from_names(names).ok_or_else(|| {
        Failure::new(format!("--features {names}: not a set of vCPU features"))
            .with_hint("separate features with commas, such as pmu,sve, or write none")
    })
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
    let mut failure = Failure::new(format!("`{text}` is not a register")).with_cause(error);
    let topic = suggestion::find_topic(text);
    if let Some(topic) = topic {
        failure = failure.with_hint(format!(
            "registers and fields of {}: {}",
            topic.name,
            topic.registers.join(", ")
        ));
    }
    // Names of similar spelling only distract from the registers of a topic.
    if suggestions.is_empty() || topic.is_some() {
        failure
    } else {
        failure.with_hint(format!("similar names: {suggestions}"))
    }
}

/// Bits of a register, and a value of these bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BitsValue {
    /// Bits that the value is about; all bits for a whole register.
    pub(crate) mask: u64,
    /// Value of the bits, in their place.
    pub(crate) value: u64,
}

/// Parses a value of a register: a number, or the name of a value.
///
/// A name of the whole value (`1.1` of PSCI_VERSION) and a number stand for all bits. A name of the
/// only field with named values (`not-required`) stands for the bits of that field.
pub(crate) fn parse_register_value(id: RegisterId, text: &str) -> Result<BitsValue, Failure> {
    if let Some(value) = id.value_by_name(text) {
        return Ok(BitsValue {
            mask: u64::MAX,
            value,
        });
    }
    let in_field = id.named_field().and_then(|field| {
        let value = RegisterField { id, field }.value_by_name(text)?;
        Some(BitsValue {
            mask: field.mask(),
            value: field.insert(0, value)?,
        })
    });
    if let Some(in_field) = in_field {
        return Ok(in_field);
    }
    let value = parse_named_number(text, value_names(id))?;
    if let Some(bytes @ 1..=7) = id.size_bytes()
        && value >> (8 * bytes) != 0
    {
        return Err(out_of_range(value, 8 * bytes));
    }
    Ok(BitsValue {
        mask: u64::MAX,
        value,
    })
}

/// Returns the named values that [`parse_register_value`] accepts.
pub(crate) fn value_names(id: RegisterId) -> Vec<(u64, &'static str)> {
    let field = id.named_field().into_iter();
    let of_field = field.flat_map(|field| RegisterField { id, field }.named_values());
    id.named_values().chain(of_field).collect()
}

/// Parses a value of a field: a number, or the name of a value.
pub(crate) fn parse_field_value(field: RegisterField, text: &str) -> Result<u64, Failure> {
    if let Some(value) = field.value_by_name(text) {
        return Ok(value);
    }
    let value = parse_named_number(text, field.named_values())?;
    if field.field.insert(0, value).is_none() {
        return Err(out_of_range(value, usize::from(field.field.width())));
    }
    Ok(value)
}

/// Parses a number. An error lists the names that stand for a number.
fn parse_named_number(
    text: &str,
    names: impl IntoIterator<Item = (u64, &'static str)>,
) -> Result<u64, Failure> {
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    parse_u64(text).map_err(|error| {
        if names.is_empty() {
            return not_a_number(text, error);
        }
        // Two versions differ in a digit, although neither is a misspelling of the other.
        let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic());
        let nearest = suggestion::find_nearest(text, names.iter().copied());
        let nearest = nearest.filter(|_| is_word);
        let failure = Failure::new(format!(
            "`{text}` is neither a 64-bit number nor the name of a value"
        ))
        .with_hint(format!(
            "write a number as 42 or 0x2a; the names: {}",
            names.join(", ")
        ));
        nearest.into_iter().fold(failure, |failure, name| {
            failure.with_hint(format!("similar name: {name}"))
        })
    })
}

fn out_of_range(value: u64, bits: usize) -> Failure {
    let s = if bits == 1 { "" } else { "s" };
    Failure::new(format!("{value:#x} does not fit into {bits} bit{s}"))
}

/// Parses a number, decimal or `0x` hexadecimal.
pub(crate) fn parse_number(text: &str) -> Result<u64, Failure> {
    parse_u64(text).map_err(|error| not_a_number(text, error))
}

fn not_a_number(text: &str, error: std::num::ParseIntError) -> Failure {
    Failure::new(format!("`{text}` is not a 64-bit number"))
        .with_cause(error)
        .with_hint("write it as 42 or 0x2a")
}
