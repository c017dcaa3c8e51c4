//! Fields of registers: selection by the user, values and the meaning of values.

use cpreg::register::{
    Field, FieldDifference, RegisterClass, RegisterField, RegisterId, Value, differing_fields,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::printer::Printer;
use crate::scalar::Hex;

/// A register that the user selected, or one field of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterSelection {
    /// The register.
    pub id: RegisterId,
    /// Selected field; `None` for the whole register.
    pub field: Option<Field>,
}

/// A field of a register, and its value.
#[derive(Debug)]
pub struct FieldValue {
    /// Position and name of the field.
    pub field: Field,
    /// Value of the field, shifted to bit 0.
    pub value: u64,
    /// Name of the value; `None` if the value has no name.
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

/// Returns all fields of a value, and then its set bits that belong to no field.
pub fn decode_fields(id: RegisterId, value: u64) -> Vec<FieldValue> {
    let fields = id.fields_for_value(value);
    if fields.is_empty() {
        return Vec::new();
    }
    let known = fields
        .iter()
        .map(|field| FieldValue::new(id, *field, value));
    let unknown = differing_fields(id, 0, value)
        .filter(|difference| difference.field.name().is_empty())
        .map(|difference| FieldValue::new(id, difference.field, value));
    known.chain(unknown).collect()
}

/// Returns the name of a value; for a firmware register, the names of its field values.
pub fn meaning(id: RegisterId, value: &Value) -> Option<String> {
    let value = value.as_u64()?;
    if let Some(description) = id.describe_value(value) {
        return Some(description.into_owned());
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

/// Prints fields, one per line.
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

/// A field of a register and its value, as in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FieldReport {
    /// The field's name; empty for bits that belong to no field.
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
    fn from(field_value: &FieldValue) -> Self {
        Self {
            name: field_value.field.name().to_owned(),
            msb: field_value.field.msb(),
            lsb: field_value.field.lsb(),
            value: field_value.value.into(),
            meaning: field_value.meaning.map(str::to_owned),
        }
    }
}

/// A field of a register that differs between two sides, as in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FieldChange {
    /// The field's name; empty for bits that belong to no field.
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
