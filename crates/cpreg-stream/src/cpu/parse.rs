//! Parses a [`Cpu`], with subsection lengths from a table, the description, or a search.

use cpreg::destination::hvf;
use cpreg::register::RegisterId;

use super::state::{
    COUNT_OFFSET, Cpu, LIST_OFFSET, MAX_REGISTERS, MAX_SECTION_LEN, Subsection,
    TRAILING_FIELDS_LEN, VERSION, be32, be64,
};
use crate::cursor::{is_name, read_bytes};
use crate::element::{CPU, FOOTER, FOOTER_LEN, SUBSECTION, Section, SectionHeader, SectionKind};
use crate::error::{Error, ErrorKind, PrependPath};
use crate::source::ReadAt;
use crate::vmdescription::StateDescription;

/// Maximum number of subsections at one level; QEMU has 20.
const MAX_SUBSECTIONS: usize = 64;

/// Name, version and content length of the subsections with the same layout in all QEMU versions.
///
/// `cpu/sme` holds 256 rows of 256 bytes, `cpu/sve` the upper parts of 32 vectors (112 bytes each)
/// and 17 predicates (32 bytes).
const KNOWN_SUBSECTIONS: [(&str, u32, usize); 12] = [
    ("cpu/vfp", 3, 576),
    ("cpu/vfp/fpcr_fpsr", 1, 16),
    ("cpu/sve", 1, 4128),
    ("cpu/sme", 1, 65536),
    ("cpu/zt0", 1, 64),
    ("cpu/serror", 1, 10),
    ("cpu/irq-line-state", 1, 4),
    ("cpu/wfxt-timer", 1, 8),
    ("cpu/syndrome64", 1, 8),
    ("cpu/pstate64", 1, 8),
    ("cpu/fpmr", 1, 8),
    ("cpu/thumb2ee", 1, 8),
];

/// Returns `true` if QEMU's register list can contain this id.
///
/// The list contains registers of AArch32 and AArch64 that have 4 or 8 bytes.
pub(crate) fn is_register(id: u64) -> bool {
    matches!(id >> 56, 0x40 | 0x60) && matches!(id >> 52 & 15, 2 | 3)
}

/// Returns the version to write for a subsection: the one in the table, else 1.
pub(crate) fn subsection_version(name: &str) -> u32 {
    KNOWN_SUBSECTIONS
        .iter()
        .find(|it| it.0 == name)
        .map_or(1, |it| it.1)
}

/// Reads and decodes a `cpu` section.
pub(crate) fn read_cpu(
    source: &dyn ReadAt,
    section: &Section,
    description: Option<&StateDescription>,
) -> Result<Cpu, Error> {
    let path = || format!("cpu[{}]", section.instance);
    let length = section.payload.end - section.payload.start;
    if length > MAX_SECTION_LEN {
        return Err(Error::malformed(
            section.range.start,
            format!("the section has {length} bytes, at most {MAX_SECTION_LEN} are possible"),
        ))
        .prepend_path(path);
    }
    let count = usize::try_from(length).unwrap_or(usize::MAX);
    let bytes = read_bytes(source, section.payload.start, count)?;
    // Ignore a description that does not fit the bytes.
    let described = description.map(|description| parse_all(section, &bytes, Some(description)));
    let (count, subsections) = match described {
        Some(Ok(described)) => described,
        _ => parse_all(section, &bytes, None).prepend_path(path)?,
    };
    Ok(Cpu {
        section: section.clone(),
        bytes,
        count,
        subsections,
    })
}

/// Rejects `cpu` sections of other architectures.
pub(crate) fn require_arm(header: &SectionHeader, start: u64) -> Result<(), Error> {
    if header.name != CPU || header.version == VERSION {
        return Ok(());
    }
    let message = if header.version == 12 {
        "a `cpu` section of version 12: this is a stream of an x86 machine".to_owned()
    } else {
        format!(
            "a `cpu` section of version {}, where Arm machines have {}: this is a stream of another \
             machine",
            header.version, VERSION
        )
    };
    Err(Error::new(ErrorKind::NotArm, message)
        .at_offset(start)
        .with_hint("only streams of arm and arm64 guests can be read"))
}

impl Cpu {
    /// Decodes `bytes`, which are the whole payload of `section`.
    pub(crate) fn parse(
        section: Section,
        bytes: Vec<u8>,
        description: Option<&StateDescription>,
    ) -> Result<Self, Error> {
        let (count, subsections) = parse_all(&section, &bytes, description)?;
        Ok(Self {
            section,
            bytes,
            count,
            subsections,
        })
    }

    /// Returns the length of the payload at the beginning of `bytes`.
    ///
    /// The footer of section `id` must follow it. `offset` is the file offset of `bytes`.
    pub(crate) fn measure(bytes: &[u8], offset: u64, id: u32) -> Result<usize, Error> {
        parse_until_footer(bytes, offset, id, true).map(|(_, _, end)| end)
    }

    /// Decodes the payload at the beginning of `bytes`, which the footer must follow.
    ///
    /// `start` is the file offset of the section, `offset` that of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a subsection of unknown length: this function does not search
    /// for its end.
    pub(crate) fn parse_prefix(
        header: SectionHeader,
        start: u64,
        bytes: &[u8],
        offset: u64,
    ) -> Result<Self, Error> {
        let (count, subsections, end) = parse_until_footer(bytes, offset, header.id, false)?;
        let payload = offset..offset + end as u64;
        Ok(Self {
            section: Section {
                kind: SectionKind::Full,
                id: header.id,
                name: header.name,
                instance: header.instance,
                version: header.version,
                range: start..payload.end + FOOTER_LEN,
                payload,
            },
            bytes: bytes[..end].to_vec(),
            count,
            subsections,
        })
    }
}

/// Returns the number of registers and the subsections of `bytes`, which are the whole payload of
/// `section`.
fn parse_all(
    section: &Section,
    bytes: &[u8],
    description: Option<&StateDescription>,
) -> Result<(usize, Vec<Subsection>), Error> {
    let parser = Parser {
        bytes,
        offset: section.payload.start,
        footer: None,
        description,
        may_search: true,
    };
    let (count, subsections, end) = parser.parse_payload()?;
    if end != bytes.len() {
        return Err(Error::malformed(
            section.payload.start + end as u64,
            "unexpected bytes after the last subsection",
        ));
    }
    Ok((count, subsections))
}

/// Returns the result of [`Parser::parse_payload`] if the footer of section `id` follows.
fn parse_until_footer(
    bytes: &[u8],
    offset: u64,
    id: u32,
    may_search: bool,
) -> Result<(usize, Vec<Subsection>, usize), Error> {
    let mut footer = vec![FOOTER];
    footer.extend(id.to_be_bytes());
    let parser = Parser {
        bytes,
        offset,
        footer: Some(&footer),
        description: None,
        may_search,
    };
    let (count, subsections, end) = parser.parse_payload()?;
    if bytes[end..].starts_with(&footer) {
        return Ok((count, subsections, end));
    }
    let at = offset + end as u64;
    let remaining = bytes.len() - end;
    // Header of a subsection: marker, name length, name, version.
    let needed_len = match bytes[end..] {
        [SUBSECTION, length, ..] => 1 + 1 + usize::from(length) + 4,
        _ => footer.len(),
    };
    if remaining < needed_len {
        let missing = (needed_len - remaining) as u64;
        return Err(Error::truncated(at, at + remaining as u64, missing));
    }
    Err(Error::malformed(
        at,
        "expected a subsection or the section's footer",
    ))
}

struct Parser<'a> {
    bytes: &'a [u8],
    /// Offset of `bytes` in the file.
    offset: u64,
    /// Footer that follows the payload; `None` if the payload is all of `bytes`.
    footer: Option<&'a [u8]>,
    description: Option<&'a StateDescription>,
    /// `true` if the parser may search for the end of a subsection of unknown length.
    may_search: bool,
}

impl Parser<'_> {
    fn require_len(&self, at: usize, count: usize) -> Result<(), Error> {
        let end = at.saturating_add(count);
        if end <= self.bytes.len() {
            return Ok(());
        }
        let missing = (end - self.bytes.len()) as u64;
        let length = self.bytes.len() as u64;
        Err(Error::truncated(
            self.offset + at as u64,
            self.offset + length,
            missing,
        ))
    }

    /// Returns the number of registers, the subsections, and the end of the payload in `bytes`.
    fn parse_payload(&self) -> Result<(usize, Vec<Subsection>, usize), Error> {
        self.require_len(0, LIST_OFFSET)?;
        let count = self.parse_count()?;
        self.check_list(count)?;
        let trailing_start = LIST_OFFSET + 16 * count;
        self.require_len(trailing_start, TRAILING_FIELDS_LEN)?;
        let (subsections, end) =
            self.parse_subsections(trailing_start + TRAILING_FIELDS_LEN, CPU)?;
        Ok((count, subsections, end))
    }

    fn parse_count(&self) -> Result<usize, Error> {
        let raw = be32(self.bytes, COUNT_OFFSET);
        match usize::try_from(raw) {
            Ok(count) if count <= MAX_REGISTERS => Ok(count),
            _ => Err(Error::malformed(
                self.offset + COUNT_OFFSET as u64,
                format!("the list has {} registers", raw.cast_signed()),
            )
            .prepend_path("cpreg_vmstate_array_len")),
        }
    }

    fn check_list(&self, count: usize) -> Result<(), Error> {
        self.require_len(LIST_OFFSET, 16 * count)
            .prepend_path(|| "cpreg_vmstate_indexes".into())?;
        let list = self.bytes.get(LIST_OFFSET..LIST_OFFSET + 8 * count);
        let ids = list.unwrap_or_default().chunks_exact(8);
        let mut previous = None;
        let mut is_of_hvf = false;
        for (index, id) in ids.enumerate() {
            let at = LIST_OFFSET + 8 * index;
            let id = be64(id, 0);
            let fault = |message: String| {
                Err(Error::malformed(self.offset + at as u64, message)
                    .prepend_path(&format!("cpreg_vmstate_indexes[{index}]")))
            };
            if !is_register(id) {
                return fault(format!("{id:#018x} is not a register of an Arm CPU"));
            }
            if !is_of_hvf && previous.is_some_and(|previous| previous >= id) {
                is_of_hvf = self.has_order_of_hvf(count);
            }
            if !is_of_hvf && previous.is_some_and(|previous| previous >= id) {
                return fault(format!("{id:#018x} is not greater than the id before it"));
            }
            previous = Some(id);
        }
        Ok(())
    }

    /// Returns `true` if the list is not sorted, as QEMU up to 10.1 has it under HVF.
    fn has_order_of_hvf(&self, count: usize) -> bool {
        let ids = (0..count).map(|index| be64(self.bytes, LIST_OFFSET + 8 * index));
        let ids: Vec<_> = ids.map(RegisterId::from_raw).collect();
        hvf::is_unsorted_order(&ids)
    }

    /// Parses the subsections that belong to `parent`; returns them and the offset after them.
    fn parse_subsections(
        &self,
        start: usize,
        parent: &str,
    ) -> Result<(Vec<Subsection>, usize), Error> {
        let mut subsections: Vec<Subsection> = Vec::new();
        let mut at = start;
        while let Some((name, version, content)) = self.peek_subsection_header(at) {
            // QEMU's loader has the same rule: a nested name begins with the parent's name and is
            // longer. The maximum length of a name therefore limits the recursion.
            if !name.starts_with(parent) || name.len() == parent.len() {
                break;
            }
            if subsections.len() == MAX_SUBSECTIONS {
                return Err(Error::malformed(
                    self.offset + at as u64,
                    "more subsections than QEMU has",
                ));
            }
            let length = self
                .content_length(name, version, content)
                .and_then(|length| self.require_len(content, length).map(|()| length))
                .prepend_path(|| name.to_owned())?;
            let (inner, end) = self.parse_subsections(content + length, name)?;
            if subsections.iter().any(|other| other.name == name) {
                return Err(Error::malformed(
                    self.offset + at as u64,
                    format!("a second {name}"),
                ));
            }
            subsections.push(Subsection {
                name: name.to_owned(),
                version,
                range: at..end,
                content_range: content..content + length,
                subsections: inner,
            });
            at = end;
        }
        Ok((subsections, at))
    }

    /// Returns name, version and content offset of the subsection at `at`, if one begins there.
    fn peek_subsection_header(&self, at: usize) -> Option<(&str, u32, usize)> {
        if *self.bytes.get(at)? != SUBSECTION {
            return None;
        }
        let length = usize::from(*self.bytes.get(at + 1)?);
        let name = self.bytes.get(at + 2..at + 2 + length)?;
        let content = at + 2 + length + 4;
        if content > self.bytes.len() || !is_name(name) || !name.starts_with(b"cpu/") {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        Some((name, be32(self.bytes, content - 4), content))
    }

    /// Returns the content length of a subsection.
    ///
    /// The length comes from the table, else from the description, else from a search for the next
    /// element. The table has the lengths that QEMU reads; QEMU ignores the description.
    fn content_length(&self, name: &str, version: u32, content: usize) -> Result<usize, Error> {
        let known = KNOWN_SUBSECTIONS
            .iter()
            .find(|it| (it.0, it.1) == (name, version));
        if let Some((_, _, length)) = known {
            return Ok(*length);
        }
        let described = self
            .description
            .and_then(|description| description.subsection(name));
        if let Some(described) = described {
            return usize::try_from(described.fields_size).map_err(|_| {
                Error::malformed(
                    self.offset + content as u64,
                    "the subsection's length in the description is too large",
                )
            });
        }
        if !self.may_search {
            return Err(Error::unsupported(
                self.offset + content as u64,
                "a subsection of unknown length",
            ));
        }
        for end in content..=self.bytes.len() {
            let ends = match self.footer {
                Some(footer) => self.bytes[end..].starts_with(footer),
                None => end == self.bytes.len(),
            };
            if ends || self.peek_subsection_header(end).is_some() {
                return Ok(end - content);
            }
        }
        Err(Error::malformed(
            self.offset + content as u64,
            "cannot find the end of the subsection",
        ))
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;

    fn section(length: usize) -> Section {
        Section {
            kind: SectionKind::Full,
            id: 7,
            name: CPU.into(),
            instance: 0,
            version: VERSION,
            range: 83..100 + length as u64 + 5,
            payload: 100..100 + length as u64,
        }
    }

    fn payload(ids: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..COUNT_OFFSET).map(|index| (index % 251) as u8).collect();
        bytes.extend((ids.len() as u32).to_be_bytes());
        for id in ids {
            bytes.extend(id.to_be_bytes());
        }
        for id in ids {
            bytes.extend((id >> 8).to_be_bytes());
        }
        bytes.extend((0..TRAILING_FIELDS_LEN).map(|index| index as u8));
        bytes
    }

    fn subsection(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
        bytes.extend([SUBSECTION, name.len() as u8]);
        bytes.extend(name.as_bytes());
        bytes.extend(1u32.to_be_bytes());
        bytes.extend(content);
    }

    const IDS: [u64; 2] = [0x4020_0000_200f_0082, 0x6030_0000_0013_c103];

    #[test]
    fn decodes_every_part() {
        let mut bytes = payload(&IDS);
        subsection(&mut bytes, "cpu/wfxt-timer", &[0xff; 8]);
        subsection(&mut bytes, "cpu/unknown", b"abc");
        subsection(&mut bytes, "cpu/unknown/inner", b"de");
        subsection(&mut bytes, "cpu/irq-line-state", &[0, 0, 0, 3]);
        let cpu = Cpu::parse(section(bytes.len()), bytes.clone(), None).unwrap();
        let registers: Vec<_> = cpu
            .registers()
            .map(|(id, value)| (id.raw(), value))
            .collect();
        assert_eq!(registers, [(IDS[0], IDS[0] >> 8), (IDS[1], IDS[1] >> 8)]);
        assert_eq!(cpu.core_fields().regs[0], 0x0001_0203);
        assert_eq!(cpu.trailing_fields().features, 0x1819_1a1b_1c1d_1e1f);
        assert_eq!(cpu.trailing_fields().power_state, 64);
        let names: Vec<_> = cpu
            .all_subsections()
            .iter()
            .map(|it| (it.name.as_str(), cpu.content(it).len()))
            .collect();
        assert_eq!(
            names,
            [
                ("cpu/wfxt-timer", 8),
                ("cpu/unknown", 3),
                ("cpu/unknown/inner", 2),
                ("cpu/irq-line-state", 4)
            ]
        );
        let length = bytes.len();
        bytes.extend(b"\x7e\0\0\0\x07\x04");
        assert_eq!(Cpu::measure(&bytes, 100, 7).unwrap(), length);
        assert_eq!(
            Cpu::measure(&bytes, 100, 8).unwrap_err().kind(),
            ErrorKind::Malformed
        );
        for cut in 0..length + 5 {
            assert!(Cpu::measure(&bytes[..cut], 100, 7).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn errors_name_the_invalid_register() {
        let parse_error = |ids: &[u64]| {
            let bytes = payload(ids);
            Cpu::parse(section(bytes.len()), bytes, None)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            parse_error(&[IDS[1], IDS[0]]),
            "cpreg_vmstate_indexes[1] at byte 0x2a8: \
             0x40200000200f0082 is not greater than the id before it"
        );
        assert!(parse_error(&[0x2030_0000_0000_0001]).contains("not a register of an Arm CPU"));
        assert!(parse_error(&[0x6040_0000_0010_0000]).contains("not a register of an Arm CPU"));
        let mut bytes = payload(&[]);
        bytes[COUNT_OFFSET] = 0x80;
        let error = Cpu::parse(section(bytes.len()), bytes, None).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the list has -2147483648 registers"),
            "{error}"
        );
        let mut bytes = payload(&IDS);
        bytes.push(0);
        assert!(Cpu::parse(section(bytes.len()), bytes, None).is_err());
    }
}
