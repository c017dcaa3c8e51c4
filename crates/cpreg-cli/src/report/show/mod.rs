//! The answer of `show`: what a file holds, or the part of it that was asked for.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, once, for both forms; what a value means |
//! | [`text`] | its text |
//! | [`json`] | its JSON, schema `cpreg.show/1` |

pub(crate) mod json;
pub(crate) mod text;

use cpreg::register::{Field, RegisterClass, RegisterField, RegisterId, Value, differing_fields};

use super::contents::{Contents, ExtensionRow, RegisterRow};
use super::general::General;
use super::value::Printing;

/// A register that was asked for, or one field of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) id: RegisterId,
    pub(crate) field: Option<Field>,
}

/// What is shown.
pub(crate) struct Shown<'a> {
    pub(crate) contents: &'a Contents<'a>,
    pub(crate) printing: Printing,
    /// Only these, if there are any.
    pub(crate) wanted: Vec<Wanted>,
    /// Decode fields.
    pub(crate) fields: bool,
    /// How many vCPUs are shown.
    pub(crate) chosen: usize,
    /// The core registers by vCPU.
    pub(crate) general: Vec<(usize, Vec<General>)>,
    pub(crate) registers: Vec<RegisterRow>,
    pub(crate) extensions: Vec<ExtensionRow>,
}

impl Shown<'_> {
    /// Whether a core register was asked for.
    ///
    /// By name too: under TCG `SP_EL1` is a system register's name, but no list has that register.
    pub(crate) fn wants_general(&self, general: &General) -> bool {
        self.wanted.iter().any(|wanted| {
            general.id == Some(wanted.id) || general.name == self.printing.name(wanted.id)
        })
    }

    /// The registers that were asked for and are nowhere.
    pub(crate) fn missing(&self) -> Vec<RegisterId> {
        let is_there = |wanted: &&Wanted| {
            let listed = self.registers.iter().any(|row| row.key == wanted.id);
            let mut general = self.general.iter().flat_map(|(_, registers)| registers);
            listed
                || general.any(|register| {
                    register.id == Some(wanted.id) || register.name == self.printing.name(wanted.id)
                })
        };
        let missing = self.wanted.iter().filter(|wanted| !is_there(wanted));
        missing.map(|wanted| wanted.id).collect()
    }

    /// The fields to show of a register: those asked for, or all.
    pub(crate) fn fields_of(&self, id: RegisterId, value: u64) -> Vec<FieldValue> {
        let mut chosen = self
            .wanted
            .iter()
            .filter(|wanted| wanted.id == id)
            .peekable();
        if chosen.peek().is_none() && !self.fields {
            return Vec::new();
        }
        let chosen: Option<Vec<Field>> = chosen.map(|wanted| wanted.field).collect();
        match chosen {
            Some(fields) if !fields.is_empty() => fields
                .into_iter()
                .map(|field| FieldValue::of(id, field, value))
                .collect(),
            _ => all_fields(id, value),
        }
    }
}

/// A field of a value.
pub(crate) struct FieldValue {
    pub(crate) field: Field,
    pub(crate) value: u64,
    pub(crate) meaning: Option<&'static str>,
}

impl FieldValue {
    fn of(id: RegisterId, field: Field, value: u64) -> Self {
        let value = field.extract(value);
        Self {
            field,
            value,
            meaning: RegisterField { id, field }.value_name(value),
        }
    }
}

/// All fields of a value, and the set bits that belong to none.
pub(crate) fn all_fields(id: RegisterId, value: u64) -> Vec<FieldValue> {
    let fields = id.fields_of(value);
    if fields.is_empty() {
        return Vec::new();
    }
    let named = fields.iter().map(|field| FieldValue::of(id, *field, value));
    let nameless = differing_fields(id, 0, value)
        .filter(|difference| difference.field.name().is_empty())
        .map(|difference| FieldValue::of(id, difference.field, value));
    named.chain(nameless).collect()
}

/// What a value means, where that fits beside it: the value's name, or its fields' where it has few.
pub(crate) fn meaning(id: RegisterId, value: &Value) -> Option<String> {
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
                .filter_map(|field| FieldValue::of(id, *field, value).meaning)
                .collect()
        }
        _ => Vec::new(),
    };
    (!names.is_empty()).then(|| names.join(", "))
}
