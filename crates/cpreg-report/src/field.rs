//! Fields of registers: which were asked for, what they hold, what a value means.

use cpreg::register::{
    Field, FieldDifference, RegisterClass, RegisterField, RegisterId, Value, differing_fields,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::printer::Printer;
use crate::scalar::Hex;

/// A register that was asked for, or one field of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterSelection {
    /// The register.
    pub id: RegisterId,
    /// The field.
    pub field: Option<Field>,
}

/// A field of a value.
#[derive(Debug)]
pub struct FieldValue {
    /// The field.
    pub field: Field,
    /// Its value.
    pub value: u64,
    /// Name of the value.
    pub meaning: Option<&'static str>,
}

impl FieldValue {
    pub(crate) fn new(id: RegisterId, field: Field, value: u64) -> Self {
        let value = field.extract(value);
        Self {
            field,
            value,
            meaning: RegisterField { id, field }.value_name(value),
        }
    }
}

/// All fields of a value, and the set bits that belong to none.
pub fn decode_fields(id: RegisterId, value: u64) -> Vec<FieldValue> {
    let fields = id.fields_for_value(value);
    if fields.is_empty() {
        return Vec::new();
    }
    let named = fields
        .iter()
        .map(|field| FieldValue::new(id, *field, value));
    let nameless = differing_fields(id, 0, value)
        .filter(|difference| difference.field.name().is_empty())
        .map(|difference| FieldValue::new(id, difference.field, value));
    named.chain(nameless).collect()
}

/// What a value means, where that fits beside it: the value's name, or its fields' where it has few.
pub fn meaning(id: RegisterId, value: &Value) -> Option<String> {
    let value = value.as_u64()?;
    if let Some(name) = id.value_name(value) {
        return Some(name.to_owned());
    }
    let set = |field: &&Field| field.extract(value) != 0;
    let names: Vec<_> = match id.class() {
        RegisterClass::FirmwareBitmap => {
            let set = id.fields().iter().filter(set);
            set.map(|field| field.name()).collect()
        }
        RegisterClass::Firmware => {
            let fields = id.fields().iter();
            fields
                .filter_map(|field| FieldValue::new(id, *field, value).meaning)
                .collect()
        }
        _ => Vec::new(),
    };
    (!names.is_empty()).then(|| names.join(", "))
}

/// Prints fields, a line each.
pub fn print_fields(printer: &mut Printer, fields: &[FieldValue]) {
    for FieldValue {
        field,
        value,
        meaning,
    } in fields
    {
        let bits = if field.msb() == field.lsb() {
            format!("[{}]", field.lsb())
        } else {
            format!("[{}:{}]", field.msb(), field.lsb())
        };
        let name = if field.name().is_empty() {
            "(no field)"
        } else {
            field.name()
        };
        let meaning = meaning
            .map(|meaning| format!("  {meaning}"))
            .unwrap_or_default();
        printer.line(format_args!("    {bits:<8} {name:<16} {value:#x}{meaning}"));
    }
}

/// A field of a register and what it holds, as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FieldReport {
    /// The field's name; empty for bits that belong to none.
    pub name: String,
    /// Its highest bit.
    pub msb: u8,
    /// Its lowest bit.
    pub lsb: u8,
    /// Its value.
    pub value: Hex,
    /// Meaning of the value, where it has a name, or null.
    pub meaning: Option<String>,
}

impl From<&FieldValue> for FieldReport {
    fn from(it: &FieldValue) -> Self {
        Self {
            name: it.field.name().to_owned(),
            msb: it.field.msb(),
            lsb: it.field.lsb(),
            value: it.value.into(),
            meaning: it.meaning.map(str::to_owned),
        }
    }
}

/// A field of a register that differs between two sides, as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FieldChange {
    /// The field's name; empty for bits that belong to none.
    pub name: String,
    /// Its highest bit.
    pub msb: u8,
    /// Its lowest bit.
    pub lsb: u8,
    /// Its value in A.
    pub a: Hex,
    /// Its value in B.
    pub b: Hex,
}

impl From<FieldDifference> for FieldChange {
    fn from(difference: FieldDifference) -> Self {
        Self {
            name: difference.field.name().to_owned(),
            msb: difference.field.msb(),
            lsb: difference.field.lsb(),
            a: difference.from.into(),
            b: difference.to.into(),
        }
    }
}
