//! The fields of every device, by the description: which bytes of a section are of which type.
//!
//! [`crate::vmdescription`] needs only sizes and keeps the fields of `cpu` sections; here
//! everything is kept, for whoever must know what a byte is. What a type means lives in
//! [`crate::guest_data`].
//!
//! | a field | its leaves |
//! |---|---|
//! | of a plain type | one: all of it, all elements of an array together |
//! | a structure whose description adds up to its size | those inside, once for every element |
//! | anything else (lists, trees, structures of unequal elements) | one, of the field's own type |

use std::borrow::Cow;
use std::ops::Range;

use crate::json::{Reader, SyntaxError, TokenKind, expect, read_key};

/// More leaves than the devices of any machine have; a description that claims more is not followed.
const MAX_LEAVES: usize = 1 << 20;

/// Bytes of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// QEMU's name of the type (`uint32`, `buffer`, `pci config`).
    pub(crate) kind: String,
    /// Where they stand in the section's payload.
    pub(crate) range: Range<u64>,
}

/// One device as it is described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DescribedDevice {
    pub(crate) name: String,
    state: DescribedState,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DescribedState {
    /// Of a subsection.
    name: String,
    fields: Vec<Field>,
    subsections: Vec<Self>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    kind: String,
    size: u64,
    count: u64,
    /// What each element is made of, if that adds up to its size.
    element_state: Option<DescribedState>,
}

impl DescribedDevice {
    /// What a payload of `length` bytes is made of, ascending and without gaps; `None` if the description does not fit it.
    pub(crate) fn leaves(&self, length: u64) -> Option<Vec<Leaf>> {
        if self.state.size()? != length {
            return None;
        }
        let mut leaves = Vec::new();
        let mut left = MAX_LEAVES;
        self.state.collect_leaves(0, &mut leaves, &mut left)?;
        Some(leaves)
    }
}

impl DescribedState {
    /// Bytes of all fields and subsections.
    fn size(&self) -> Option<u64> {
        let fields = self.fields.iter().try_fold(0_u64, |sum, field| {
            sum.checked_add(field.size.checked_mul(field.count)?)
        });
        self.subsections.iter().try_fold(fields?, |sum, inner| {
            sum.checked_add(inner.header_len())?
                .checked_add(inner.size()?)
        })
    }

    /// A subsection's mark, the length of its name, the name, the version.
    fn header_len(&self) -> u64 {
        1 + 1 + self.name.len() as u64 + 4
    }

    /// Adds the leaves from `at` on; says where they end. `None` if there are more than are left to be had.
    fn collect_leaves(&self, mut at: u64, leaves: &mut Vec<Leaf>, left: &mut usize) -> Option<u64> {
        for field in &self.fields {
            *left = left.checked_sub(1)?;
            let end = at.checked_add(field.size.checked_mul(field.count)?)?;
            match &field.element_state {
                Some(inside) => {
                    for _ in 0..field.count {
                        at = inside.collect_leaves(at, leaves, left)?;
                    }
                }
                None => leaves.push(Leaf {
                    kind: field.kind.clone(),
                    range: at..end,
                }),
            }
            at = end;
        }
        for inner in &self.subsections {
            at = inner.collect_leaves(at.checked_add(inner.header_len())?, leaves, left)?;
        }
        Some(at)
    }
}

/// Reads all devices of a description, in wire order.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<DescribedDevice>, SyntaxError> {
    let mut reader = Reader::new(text);
    let mut devices = Vec::new();
    expect(&mut reader, TokenKind::ObjectStart)?;
    while let Some(key) = read_key(&mut reader)? {
        if key == "devices" && devices.is_empty() {
            expect(&mut reader, TokenKind::ArrayStart)?;
            while next_element(&mut reader)? {
                devices.push(parse_device(&mut reader)?);
            }
        } else {
            reader.skip_value()?;
        }
    }
    Ok(devices)
}

/// Whether another object begins in the array that is open.
fn next_element(reader: &mut Reader<'_>) -> Result<bool, SyntaxError> {
    match reader.next()? {
        Some(token) if token.kind == TokenKind::ObjectStart => Ok(true),
        Some(token) if token.kind == TokenKind::ArrayEnd => Ok(false),
        Some(token) => Err(SyntaxError(token.range.start)),
        None => Err(SyntaxError(0)),
    }
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, SyntaxError> {
    match reader.next()? {
        Some(token) if token.kind == TokenKind::Text => reader.string(&token).map(Cow::into_owned),
        Some(token) => Err(SyntaxError(token.range.start)),
        None => Err(SyntaxError(0)),
    }
}

fn read_integer(reader: &mut Reader<'_>) -> Result<u64, SyntaxError> {
    let token = reader.next()?.ok_or(SyntaxError(0))?;
    reader.integer(&token)
}

/// The object that has just begun.
fn parse_device(reader: &mut Reader<'_>) -> Result<DescribedDevice, SyntaxError> {
    let mut device = DescribedDevice::default();
    while let Some(key) = read_key(reader)? {
        match &*key {
            "name" => device.name = read_text(reader)?,
            other => device.state.parse_member(other, reader)?,
        }
    }
    Ok(device)
}

fn parse_state(reader: &mut Reader<'_>) -> Result<DescribedState, SyntaxError> {
    let mut state = DescribedState::default();
    while let Some(key) = read_key(reader)? {
        state.parse_member(&key, reader)?;
    }
    Ok(state)
}

impl DescribedState {
    /// Takes the value of a member of the object that is open.
    fn parse_member(&mut self, key: &str, reader: &mut Reader<'_>) -> Result<(), SyntaxError> {
        match key {
            "vmsd_name" => self.name = read_text(reader)?,
            "fields" => {
                expect(reader, TokenKind::ArrayStart)?;
                while next_element(reader)? {
                    self.fields.push(parse_field(reader)?);
                }
            }
            "subsections" => {
                expect(reader, TokenKind::ArrayStart)?;
                while next_element(reader)? {
                    self.subsections.push(parse_state(reader)?);
                }
            }
            _ => {
                reader.skip_value()?;
            }
        }
        Ok(())
    }
}

fn parse_field(reader: &mut Reader<'_>) -> Result<Field, SyntaxError> {
    let mut field = Field {
        kind: String::new(),
        size: 0,
        count: 1,
        element_state: None,
    };
    while let Some(key) = read_key(reader)? {
        match &*key {
            "type" => field.kind = read_text(reader)?,
            "size" => field.size = read_integer(reader)?,
            "array_len" => field.count = read_integer(reader)?,
            "struct" => {
                expect(reader, TokenKind::ObjectStart)?;
                field.element_state = Some(parse_state(reader)?);
            }
            // A list's elements are described in the field itself, one after another: not followed.
            _ => {
                reader.skip_value()?;
            }
        }
    }
    // A list of nothing would be gone through element by element.
    let size = field.size;
    let adds_up = |inside: &DescribedState| size != 0 && inside.size() == Some(size);
    field.element_state = field.element_state.filter(adds_up);
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_single_device(members: &str) -> DescribedDevice {
        let text = format!(r#"{{"page_size": 4096, "devices": [{{"name": "x", {members}}}]}}"#);
        parse(text.as_bytes()).unwrap().remove(0)
    }

    fn leaf(kind: &str, range: Range<u64>) -> Leaf {
        let kind = kind.to_owned();
        Leaf { kind, range }
    }

    #[test]
    fn structures_are_followed_element_by_element() {
        let device = parse_single_device(
            r#""fields": [
                {"name": "a", "type": "uint8", "size": 1},
                {"name": "s", "type": "struct", "array_len": 2, "size": 5, "struct": {"vmsd_name": "i", "fields": [
                    {"name": "b", "type": "uint8", "size": 1},
                    {"name": "c", "type": "buffer", "size": 4}]}}],
             "subsections": [{"vmsd_name": "x/y", "version": 1, "fields": [
                    {"name": "d", "type": "uint16", "array_len": 3, "size": 2}]}]"#,
        );
        assert_eq!(
            device.leaves(11 + 9 + 6).unwrap(),
            [
                leaf("uint8", 0..1),
                leaf("uint8", 1..2),
                leaf("buffer", 2..6),
                leaf("uint8", 6..7),
                leaf("buffer", 7..11),
                leaf("uint16", 20..26),
            ]
        );
        assert_eq!(device.leaves(25), None);
    }

    #[test]
    fn what_does_not_add_up_is_one_leaf() {
        let device = parse_single_device(
            r#""fields": [{"name": "s", "type": "struct", "size": 9, "struct": {"vmsd_name": "i", "fields": []}},
                {"name": "q", "type": "qtailq", "size": 3, "vmsd_name": "e", "fields": [{"name": "b", "type": "uint8", "size": 1}]}]"#,
        );
        let leaves = device.leaves(12).unwrap();
        assert_eq!(leaves, [leaf("struct", 0..9), leaf("qtailq", 9..12)]);
    }

    #[test]
    fn a_description_that_claims_too_much_is_not_followed() {
        let inner = r#"{"name": "b", "type": "uint8", "size": 1}"#;
        let device = parse_single_device(&format!(
            r#""fields": [{{"name": "s", "type": "struct", "array_len": {}, "size": 1, "struct": {{"fields": [{inner}]}}}}]"#,
            u64::MAX
        ));
        assert_eq!(device.leaves(u64::MAX), None);
        let overflows = parse_single_device(&format!(
            r#""fields": [{{"name": "s", "type": "u", "array_len": {}, "size": 2}}]"#,
            u64::MAX
        ));
        assert_eq!(overflows.leaves(7), None);
    }
}
