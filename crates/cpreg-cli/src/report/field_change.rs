//! [`FieldChange`]: a field of a register that differs between two sides, as JSON has it.

use cpreg::register::FieldDifference;
use serde::Serialize;

/// A field that differs. Bits in no field have an empty name.
#[derive(Serialize)]
pub(crate) struct FieldChange {
    name: &'static str,
    msb: u8,
    lsb: u8,
    a: String,
    b: String,
}

impl FieldChange {
    pub(crate) fn of(difference: FieldDifference) -> Self {
        Self {
            name: difference.field.name(),
            msb: difference.field.msb(),
            lsb: difference.field.lsb(),
            a: format!("{:#x}", difference.from),
            b: format!("{:#x}", difference.to),
        }
    }
}
