//! The description of the devices at the end of a stream, as an exact map of its sections.
//!
//! QEMU writes the description for `scripts/analyze-migration.py` and never reads it. Read from
//! `migration/vmstate.c` and `migration/savevm.c`, v5.2 to 11.x; tested with every recorded stream
//! of 5.2, 7.2, 10.0 and 11.1.
//!
//! | part | content |
//! |---|---|
//! | whole | `configuration` (8.2 and later), `page_size`, `devices` in wire order |
//! | device | `name`, `instance_id`; `vmsd_name`, `version`, `fields`, `subsections` |
//! | device of the old style | `name`, `instance_id`, `size` |
//! | field | `name`, `type`, `size`, perhaps `array_len` or `index`, perhaps `struct` |
//! | subsection | `vmsd_name`, `version`, `fields`, `subsections` |
//!
//! A field takes `size` bytes, times `array_len` if present. The `size` of a structure includes
//! everything inside it, subsections too. `array_len` is present only if all elements are equally
//! long.
//!
//! Types are ignored. `tmp`, `vstruct`, `qtailq` and `gtree` write their inner description into the
//! field's own object, so that keys occur twice in it. The type of null pointer markers changed its
//! name twice.
//!
//! A subsection takes 6 bytes and its name, then its fields. Live sections are not listed.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::element::CPU;
use crate::json::{Reader, SyntaxError, TokenKind, expect, read_key};

/// Parsed description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) devices: Vec<DeviceDescription>,
}

/// Description of one device's section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceDescription {
    pub(crate) name: String,
    pub(crate) instance: u32,
    pub(crate) version: Option<u32>,
    /// Length of the section's payload in bytes.
    pub(crate) size: u64,
    /// Fields of the section, kept only for `cpu` sections whose object begins with `name`. vCPUs
    /// with the same text share them.
    pub(crate) state: Option<Arc<StateDescription>>,
    /// Distance of this section's text from the text of which `state` has the ranges.
    pub(crate) state_distance: usize,
}

/// Description of a device's or subsection's fields. Ranges are of the description's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateDescription {
    pub(crate) name: String,
    pub(crate) fields: Vec<FieldDescription>,
    /// Total length of the fields in bytes, without subsections.
    pub(crate) fields_size: u64,
    /// Total length of the subsections in bytes, including their headers.
    subsections_size: u64,
    pub(crate) subsections: Vec<Self>,
    /// Range of the object, with its braces. For a `cpu` section the range begins at the value of
    /// `vmsd_name`, from where on vCPUs can have the same text.
    pub(crate) object: Range<usize>,
    /// Range of the array of subsections, with its brackets.
    pub(crate) subsections_array: Option<Range<usize>>,
}

/// Description of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldDescription {
    pub(crate) name: String,
    /// Length of one element in bytes.
    pub(crate) size: u64,
    pub(crate) count: u64,
    /// Range of the number after `array_len`.
    pub(crate) count_text: Option<Range<usize>>,
    /// Range of the number after `size`.
    pub(crate) size_text: Range<usize>,
    /// Range of the name's text, without quotes.
    pub(crate) name_text: Range<usize>,
}

impl StateDescription {
    /// Returns the number of bytes of all fields and subsections.
    pub(crate) fn size(&self) -> Option<u64> {
        self.fields_size.checked_add(self.subsections_size)
    }

    /// Returns the field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&FieldDescription> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns the subsection with this name, at any depth.
    pub(crate) fn subsection(&self, name: &str) -> Option<&Self> {
        self.subsections.iter().find_map(|subsection| {
            if subsection.name == name {
                Some(subsection)
            } else {
                subsection.subsection(name)
            }
        })
    }
}

impl Description {
    /// Parses the description's JSON text.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, SyntaxError> {
        let mut reader = Reader::new(text);
        let mut devices = None;
        expect(&mut reader, TokenKind::ObjectStart)?;
        while let Some(key) = read_key(&mut reader)? {
            if key == "devices" && devices.is_none() {
                devices = Some(parse_devices(&mut reader)?);
            } else {
                reader.skip_value()?;
            }
        }
        if let Some(token) = reader.next()? {
            return Err(SyntaxError(token.range.start));
        }
        let devices = devices.ok_or(SyntaxError(0))?;
        Ok(Self { devices })
    }
}

/// Returns the offset of the next object in the open array, or the end of the array as `Err`.
fn next_element(reader: &mut Reader<'_>) -> Result<Result<usize, usize>, SyntaxError> {
    match reader.next()? {
        Some(token) if token.kind == TokenKind::ObjectStart => Ok(Ok(token.range.start)),
        Some(token) if token.kind == TokenKind::ArrayEnd => Ok(Err(token.range.end)),
        Some(token) => Err(SyntaxError(token.range.start)),
        None => Err(SyntaxError(0)),
    }
}

fn read_text<'t>(reader: &mut Reader<'t>) -> Result<(Cow<'t, str>, Range<usize>), SyntaxError> {
    match reader.next()? {
        Some(token) if token.kind == TokenKind::Text => Ok((reader.string(&token)?, token.range)),
        Some(token) => Err(SyntaxError(token.range.start)),
        None => Err(SyntaxError(0)),
    }
}

fn read_integer(reader: &mut Reader<'_>) -> Result<(u64, Range<usize>), SyntaxError> {
    let token = reader.next()?.ok_or(SyntaxError(0))?;
    Ok((reader.integer(&token)?, token.range))
}

/// Returns the lower half of a number that QEMU prints signed or unsigned.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half is the sign"
)]
fn low_u32(number: u64) -> u32 {
    number as u32
}

fn parse_devices(reader: &mut Reader<'_>) -> Result<Vec<DeviceDescription>, SyntaxError> {
    expect(reader, TokenKind::ArrayStart)?;
    let mut devices = Vec::new();
    let mut last_cpu = None;
    while let Ok(start) = next_element(reader)? {
        devices.push(parse_device(reader, start, &mut last_cpu)?);
    }
    Ok(devices)
}

/// Description of a `cpu` section from the value of `vmsd_name` on. The vCPUs of a VM have the same
/// text here, so it is parsed once.
struct ParsedCpu<'t> {
    text: &'t [u8],
    /// Offset of the text in the description.
    start: usize,
    version: Option<u32>,
    state: Arc<StateDescription>,
}

fn parse_device<'t>(
    reader: &mut Reader<'t>,
    start: usize,
    last_cpu: &mut Option<ParsedCpu<'t>>,
) -> Result<DeviceDescription, SyntaxError> {
    let fault = SyntaxError(start);
    let mut name = None;
    let mut instance = None;
    let mut plain_size = None;
    let mut version = None;
    let mut state = StateDescription::default();
    let mut has_state = false;
    // Start of the text for `last_cpu`, if no other key than QEMU's follows.
    let mut cpu_start = None;
    let mut shared = None;
    while let Some(key) = read_key(reader)? {
        match &*key {
            "name" => {
                name = Some(read_text(reader)?.0.into_owned());
                cpu_start = None;
            }
            "instance_id" => {
                instance = Some(low_u32(read_integer(reader)?.0));
                cpu_start = None;
            }
            "size" => {
                plain_size = Some(read_integer(reader)?.0);
                cpu_start = None;
            }
            "version" => version = Some(low_u32(read_integer(reader)?.0)),
            "vmsd_name" => {
                let is_first = is_cpu(name.as_ref()) && !has_state && version.is_none();
                cpu_start = is_first.then(|| reader.position());
                has_state = true;
                if let Some(start) = cpu_start
                    && let Some(cpu) = last_cpu
                    && reader.skip_rest_of_object(cpu.text)
                {
                    version = cpu.version;
                    shared = Some((cpu.state.clone(), start - cpu.start));
                    break;
                }
                state.name = read_text(reader)?.0.into_owned();
            }
            "fields" => parse_fields(reader, &mut state, is_cpu(name.as_ref()))?,
            "subsections" => parse_subsections(reader, &mut state, is_cpu(name.as_ref()))?,
            _ => {
                reader.skip_value()?;
            }
        }
    }
    let (state, state_distance) = shared.unwrap_or_else(|| {
        state.object = cpu_start.unwrap_or(start)..reader.position();
        (Arc::new(state), 0)
    });
    if let Some(start) = cpu_start {
        *last_cpu = Some(ParsedCpu {
            text: reader.text_since(start),
            start: start - state_distance,
            version,
            state: state.clone(),
        });
    }
    let name = name.ok_or(fault)?;
    let size = match (has_state, plain_size) {
        (true, _) => state.size().ok_or(fault)?,
        (false, Some(size)) => size,
        (false, None) => return Err(fault),
    };
    Ok(DeviceDescription {
        instance: instance.ok_or(fault)?,
        version,
        size,
        state: (has_state && name == CPU).then_some(state),
        state_distance,
        name,
    })
}

fn is_cpu(name: Option<&String>) -> bool {
    name.is_some_and(|name| name == CPU)
}

/// Adds up the sizes of the fields; stores the fields if `keep`.
fn parse_fields(
    reader: &mut Reader<'_>,
    state: &mut StateDescription,
    keep: bool,
) -> Result<(), SyntaxError> {
    expect(reader, TokenKind::ArrayStart)?;
    while let Ok(start) = next_element(reader)? {
        let field = parse_field(reader, start, keep)?;
        state.fields_size = field
            .size
            .checked_mul(field.count)
            .and_then(|size| size.checked_add(state.fields_size))
            .ok_or(SyntaxError(start))?;
        if keep {
            state.fields.push(field);
        }
    }
    Ok(())
}

fn parse_field(
    reader: &mut Reader<'_>,
    start: usize,
    keep: bool,
) -> Result<FieldDescription, SyntaxError> {
    let mut field = FieldDescription {
        count: 1,
        ..FieldDescription::default()
    };
    let mut has_size = false;
    while let Some(key) = read_key(reader)? {
        match &*key {
            "name" => {
                let (name, range) = read_text(reader)?;
                field.name_text = range;
                if keep {
                    field.name = name.into_owned();
                }
            }
            "size" => {
                (field.size, field.size_text) = read_integer(reader)?;
                has_size = true;
            }
            "array_len" => {
                let (count, range) = read_integer(reader)?;
                field.count = count;
                field.count_text = Some(range);
            }
            // The `size` of a field includes everything inside it; keys may repeat.
            _ => {
                reader.skip_value()?;
            }
        }
    }
    if has_size {
        Ok(field)
    } else {
        Err(SyntaxError(start))
    }
}

fn parse_subsections(
    reader: &mut Reader<'_>,
    state: &mut StateDescription,
    keep: bool,
) -> Result<(), SyntaxError> {
    let array = expect(reader, TokenKind::ArrayStart)?;
    loop {
        match next_element(reader)? {
            Ok(start) => {
                let subsection = parse_subsection(reader, start, keep)?;
                // Marker, length of the name, name, version.
                let header = 1 + 1 + subsection.name.len() as u64 + 4;
                state.subsections_size = subsection
                    .size()
                    .and_then(|size| size.checked_add(header))
                    .and_then(|size| size.checked_add(state.subsections_size))
                    .ok_or(SyntaxError(start))?;
                if keep {
                    state.subsections.push(subsection);
                }
            }
            Err(end) => {
                state.subsections_array = Some(array..end);
                return Ok(());
            }
        }
    }
}

/// Parses a subsection. The reader bounds the nesting.
fn parse_subsection(
    reader: &mut Reader<'_>,
    start: usize,
    keep: bool,
) -> Result<StateDescription, SyntaxError> {
    let mut state = StateDescription::default();
    loop {
        let token = reader.next()?.ok_or(SyntaxError(start))?;
        if token.kind == TokenKind::ObjectEnd {
            state.object = start..token.range.end;
            break;
        }
        match reader.bytes(&token) {
            b"vmsd_name" => state.name = read_text(reader)?.0.into_owned(),
            b"fields" => parse_fields(reader, &mut state, keep)?,
            b"subsections" => parse_subsections(reader, &mut state, keep)?,
            _ => {
                reader.skip_value()?;
            }
        }
    }
    if state.name.is_empty() {
        return Err(SyntaxError(start));
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_single_device(device: &str) -> Result<DeviceDescription, SyntaxError> {
        let text = format!(r#"{{"page_size": 4096, "devices": [{device}]}}"#);
        Ok(Description::parse(text.as_bytes())?.devices.remove(0))
    }

    fn size(fields: &str) -> u64 {
        let device = format!(
            r#"{{"name": "x", "instance_id": 0, "vmsd_name": "x", "version": 1, "fields": [{fields}]}}"#
        );
        parse_single_device(&device).unwrap().size
    }

    #[test]
    fn field_sizes_of_every_kind_are_added_up() {
        assert_eq!(size(r#"{"name": "a", "type": "uint32", "size": 4}"#), 4);
        assert_eq!(
            size(r#"{"name": "a", "array_len": 5, "type": "uint32", "size": 4}"#),
            20
        );
        assert_eq!(
            size(
                r#"{"name": "a", "index": 0, "type": "uint8", "size": 1}, {"name": "a", "index": 1, "type": "uint8", "size": 2}"#
            ),
            3
        );
        // A structure's size includes its inside; an array of structures has the size of one.
        assert_eq!(
            size(
                r#"{"name": "s", "array_len": 2, "type": "struct", "struct": {"vmsd_name": "v", "version": 1, "fields": [{"name": "b", "type": "uint8", "size": 1}]}, "size": 7}"#
            ),
            14
        );
        // A list's inner descriptions are repeated keys of the field itself.
        assert_eq!(
            size(
                r#"{"name": "q", "type": "qtailq", "vmsd_name": "e", "version": 1, "fields": [{"name": "b", "type": "uint8", "size": 1}], "vmsd_name": "e", "version": 1, "fields": [{"name": "b", "type": "uint8", "size": 1}], "size": 5}"#
            ),
            5
        );
        // Null pointer markers under three names; a field that is absent.
        for kind in ["uint64", "nullptr", "ptr-marker"] {
            assert_eq!(
                size(&format!(
                    r#"{{"name": "p", "index": 3, "type": "{kind}", "size": 1}}"#
                )),
                1
            );
        }
        assert_eq!(size(r#"{"name": "c", "type": "uint64", "size": 0}"#), 0);
    }

    #[test]
    fn subsection_sizes_include_names() {
        let device = parse_single_device(
            r#"{"name": "cpu", "instance_id": 1, "vmsd_name": "cpu", "version": 22, "fields": [
                {"name": "n", "array_len": 3, "type": "uint64", "size": 8}],
                "subsections": [{"vmsd_name": "cpu/vfp", "version": 3, "fields": [
                    {"name": "x", "type": "uint32", "size": 4}],
                    "subsections": [{"vmsd_name": "cpu/vfp/y", "version": 1, "fields": []}]}]}"#,
        )
        .unwrap();
        assert_eq!(device.size, 24 + (6 + 7 + 4) + (6 + 9));
        assert_eq!((device.instance, device.version), (1, Some(22)));
        let state = device.state.unwrap();
        assert_eq!(state.field("n").unwrap().count, 3);
        assert_eq!(state.subsection("cpu/vfp/y").unwrap().fields_size, 0);
    }

    /// Device whose description has these keys after `vmsd_name`.
    fn cpu(instance: u32, rest: &str) -> String {
        format!(r#"{{"name": "cpu", "instance_id": {instance}, "vmsd_name": "cpu", {rest}}}"#)
    }

    fn move_ranges(state: &mut StateDescription, distance: usize) {
        let moved = |range: &Range<usize>| range.start + distance..range.end + distance;
        for field in &mut state.fields {
            field.count_text = field.count_text.as_ref().map(moved);
            field.size_text = moved(&field.size_text);
            field.name_text = moved(&field.name_text);
        }
        state.object = moved(&state.object);
        state.subsections_array = state.subsections_array.as_ref().map(moved);
        for subsection in &mut state.subsections {
            move_ranges(subsection, distance);
        }
    }

    /// Returns the device with ranges of the whole text.
    fn with_own_ranges(device: &DeviceDescription) -> DeviceDescription {
        let mut own = device.clone();
        if let Some(state) = &device.state {
            let mut state = StateDescription::clone(state);
            move_ranges(&mut state, device.state_distance);
            own.state = Some(Arc::new(state));
            own.state_distance = 0;
        }
        own
    }

    #[test]
    fn equal_descriptions_of_vcpus_are_parsed_as_if_each_stood_alone() {
        let fields = r#""version": 22, "fields": [
            {"name": "n", "array_len": 3, "type": "uint64", "size": 8}, {"name": "p", "size": 4}],
            "subsections": [{"vmsd_name": "cpu/vfp", "version": 3, "fields": [
                {"name": "x", "type": "uint32", "size": 4}],
                "subsections": [{"vmsd_name": "cpu/vfp/y", "version": 1, "fields": []}]}]"#;
        let other_length = fields.replace(r#""array_len": 3"#, r#""array_len": 41"#);
        // Here the keys after `vmsd_name` change the section itself.
        let other_name = format!(r#"{fields}, "name": "other", "instance_id": 9"#);
        let devices = [
            cpu(0, fields),
            cpu(1, fields),
            r#"{"name": "timer", "instance_id": 0, "size": 9}"#.to_owned(),
            cpu(12, fields),
            cpu(3, &other_length),
            cpu(4, &other_length),
            cpu(5, fields),
            cpu(6, &other_name),
            cpu(7, &other_name),
            cpu(8, fields),
            cpu(9, r#""fields": []"#),
            cpu(10, r#""fields": []"#),
        ];
        let alone = |number: usize| {
            // The text in front of a device has the same length in both descriptions.
            let padding: Vec<_> = devices
                .iter()
                .take(number)
                .map(|it| " ".repeat(it.len() + 1))
                .collect();
            let text = format!(
                r#"{{"devices": [{}{}]}}"#,
                padding.concat(),
                devices[number]
            );
            Description::parse(text.as_bytes())
                .unwrap()
                .devices
                .remove(0)
        };
        let together = format!(r#"{{"devices": [{}]}}"#, devices.join(","));
        let parsed = Description::parse(together.as_bytes()).unwrap().devices;
        assert_eq!(parsed.len(), devices.len());
        for (number, device) in parsed.iter().enumerate() {
            assert_eq!(with_own_ranges(device), alone(number), "{number}");
        }
        let is_shared = |one: usize, other: usize| {
            let [one, other] = [one, other].map(|it| parsed[it].state.as_ref().unwrap());
            Arc::ptr_eq(one, other)
        };
        assert!(is_shared(0, 1) && is_shared(1, 3) && is_shared(4, 5) && !is_shared(3, 4));
        // A text that ends too early is no description, also after an equal start.
        let cut = together.rfind('}').unwrap() - 1;
        for end in cut - 300..cut {
            assert!(
                Description::parse(&together.as_bytes()[..end]).is_err(),
                "{end}"
            );
        }
    }

    #[test]
    fn old_style_devices_are_read() {
        let device = parse_single_device(
            r#"{ "name" : "slirp", "instance_id" : 0, "size" : 9,
                "fields" : [ { "name" : "data", "size" : 9, "type" : "buffer" } ] }"#,
        )
        .unwrap();
        assert_eq!((device.size, device.state), (9, None));
    }

    #[test]
    fn overflowing_and_missing_sizes_are_rejected() {
        let huge = u64::MAX;
        let field = format!(r#"{{"name": "a", "array_len": {huge}, "type": "u", "size": 2}}"#);
        assert!(parse_single_device(&format!(r#"{{"name": "x", "instance_id": 0, "vmsd_name": "x", "version": 1, "fields": [{field}]}}"#)).is_err());
        assert!(parse_single_device(r#"{"name": "x", "instance_id": 0}"#).is_err());
        assert!(parse_single_device(r#"{"name": "x", "size": 0}"#).is_err());
        assert!(Description::parse(br#"{"devices": []} x"#).is_err());
        assert!(Description::parse(b"{}").is_err());
    }
}
