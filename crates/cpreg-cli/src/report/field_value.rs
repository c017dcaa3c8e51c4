//! A field of a register and what it holds, as each JSON document gives it.

use serde::Serialize;

use super::show::FieldValue;

/// One field.
#[derive(Serialize)]
pub(crate) struct FieldReport {
    name: &'static str,
    msb: u8,
    lsb: u8,
    value: String,
    meaning: Option<&'static str>,
}

impl FieldReport {
    pub(crate) fn of(it: &FieldValue) -> Self {
        Self {
            name: it.field.name(),
            msb: it.field.msb(),
            lsb: it.field.lsb(),
            value: format!("{:#x}", it.value),
            meaning: it.meaning,
        }
    }
}
