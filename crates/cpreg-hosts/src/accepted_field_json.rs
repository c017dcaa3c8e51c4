//! [`AcceptedFieldJson`]: the accepted values of an ID register's field in JSON documents.

use cpreg::destination::{AcceptedField, AcceptedFields, DroppedValues};
use cpreg::register::parse_hexadecimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{DocumentKind, Error};

/// Accepted values of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AcceptedFieldJson {
    /// Most and least significant bit.
    bits: [u8; 2],
    /// Set of values that the register keeps; bit `n` stands for value `n`.
    kept: String,
    /// Sets of values that KVM accepts, each with the value that the field reads after the write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<(String, u8)>,
}

impl AcceptedFieldJson {
    pub(crate) fn from_field(field: &AcceptedField) -> Self {
        let dropped = field.dropped().iter();
        Self {
            bits: [field.msb(), field.lsb()],
            kept: format!("{:#x}", field.kept()),
            dropped: dropped
                .map(|group| (format!("{:#x}", group.values), group.reads))
                .collect(),
        }
    }

    fn to_field(&self) -> Option<AcceptedField> {
        let [msb, lsb] = self.bits;
        let dropped = self.dropped.iter().map(|(values, reads)| {
            Some(DroppedValues {
                reads: *reads,
                values: parse_hexadecimal(values)?,
            })
        });
        let dropped = dropped.collect::<Option<_>>()?;
        AcceptedField::new(msb, lsb, parse_hexadecimal(&self.kept)?, dropped)
    }
}

/// Parses the fields of one register; `path` returns the path of a field by its number.
pub(crate) fn parse_fields(
    document: DocumentKind,
    fields: &[AcceptedFieldJson],
    path: impl Fn(usize) -> String,
) -> Result<Vec<AcceptedField>, Error> {
    let mut parsed = Vec::with_capacity(fields.len());
    for (number, field) in fields.iter().enumerate() {
        let invalid = || document.member_error(path(number), &field.kept);
        parsed.push(field.to_field().ok_or_else(invalid)?);
        // A field that shares a bit with an earlier one is the malformed one.
        AcceptedFields::new(None, parsed.clone()).ok_or_else(invalid)?;
    }
    parsed.sort_unstable_by_key(AcceptedField::lsb);
    Ok(parsed)
}
