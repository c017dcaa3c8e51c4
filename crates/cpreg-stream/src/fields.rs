//! Fields of every device, from the description: the type of each byte of a section.
//!
//! [`crate::vmdescription`] needs only sizes and keeps only the fields of `cpu` sections. This
//! module keeps the fields of all devices. [`crate::guest_data`] interprets the types.
//!
//! A *leaf* is a range of bytes of one type. A field consists of these leaves:
//!
//! | field | leaves |
//! |---|---|
//! | plain type, or an array of it | one leaf |
//! | structure, if the sizes of its inner fields add up to its own | inner leaves of each element |
//! | other: list, tree, structures of different sizes | one leaf with the field's type |

use std::borrow::Cow;
use std::ops::Range;

use crate::json::{Reader, SyntaxError, TokenKind, expect, read_key};

/// Maximum number of leaves; more than any machine has. Larger descriptions are rejected.
const MAX_LEAVES: usize = 1 << 20;

/// Byte range of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// QEMU's name of the type (`uint32`, `buffer`, `pci config`).
    pub(crate) kind: String,
    /// Range in the section's payload.
    pub(crate) range: Range<u64>,
}

/// Description of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DescribedDevice {
    pub(crate) name: String,
    state: DescribedState,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DescribedState {
    /// Name, if this is a subsection.
    name: String,
    fields: Vec<Field>,
    subsections: Vec<Self>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    kind: String,
    size: u64,
    count: u64,
    /// Description of each element, if the sizes in it add up to the element's size.
    element_state: Option<DescribedState>,
}

impl DescribedDevice {
    /// Returns the leaves of a payload of `length` bytes, ascending and without gaps.
    ///
    /// `None` if the description does not match the length.
    pub(crate) fn leaves(&self, length: u64) -> Option<Vec<Leaf>> {
        if self.state.size()? != length {
            return None;
        }
        let mut leaves = Vec::new();
        let mut remaining = MAX_LEAVES;
        self.state.collect_leaves(0, &mut leaves, &mut remaining)?;
        Some(leaves)
    }
}

impl DescribedState {
    /// Returns the number of bytes of all fields and subsections.
    fn size(&self) -> Option<u64> {
        let fields = self.fields.iter().try_fold(0_u64, |sum, field| {
            sum.checked_add(field.size.checked_mul(field.count)?)
        });
        self.subsections.iter().try_fold(fields?, |sum, inner| {
            sum.checked_add(inner.header_len())?
                .checked_add(inner.size()?)
        })
    }

    /// Returns the length of a subsection's header: marker, length of the name, name, version.
    fn header_len(&self) -> u64 {
        1 + 1 + self.name.len() as u64 + 4
    }

    /// Appends the leaves, which begin at offset `at`, and returns their end. Returns `None` if
    /// there are more than `remaining`.
    fn collect_leaves(
        &self,
        mut at: u64,
        leaves: &mut Vec<Leaf>,
        remaining: &mut usize,
    ) -> Option<u64> {
        for field in &self.fields {
            *remaining = remaining.checked_sub(1)?;
            let end = at.checked_add(field.size.checked_mul(field.count)?)?;
            match &field.element_state {
                Some(element_state) => {
                    for _ in 0..field.count {
                        at = element_state.collect_leaves(at, leaves, remaining)?;
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
            at = inner.collect_leaves(at.checked_add(inner.header_len())?, leaves, remaining)?;
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

/// Returns `true` if another object begins in the open array.
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

/// Parses the object that has just begun.
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
    /// Parses the value of a member of the open object.
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
            // The description of a list contains its elements one after another in the field
            // itself. The parser skips them.
            _ => {
                reader.skip_value()?;
            }
        }
    }
    // A walk over a large array of empty elements would take long and yield no leaf.
    let size = field.size;
    let adds_up = |state: &DescribedState| size != 0 && state.size() == Some(size);
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
    fn structures_are_expanded_element_by_element() {
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
    fn inconsistent_fields_are_one_leaf() {
        let device = parse_single_device(
            r#""fields": [{"name": "s", "type": "struct", "size": 9, "struct": {"vmsd_name": "i", "fields": []}},
                {"name": "q", "type": "qtailq", "size": 3, "vmsd_name": "e", "fields": [{"name": "b", "type": "uint8", "size": 1}]}]"#,
        );
        let leaves = device.leaves(12).unwrap();
        assert_eq!(leaves, [leaf("struct", 0..9), leaf("qtailq", 9..12)]);
    }

    #[test]
    fn oversized_descriptions_are_rejected() {
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
