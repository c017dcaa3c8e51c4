//! Opens a stream by the description at its end, which is an exact map of the device sections.
//!
//! 1. EOF and the description follow the last device: `00 06`, a length, JSON, possibly padding.
//!    Each offset with a matching length is a candidate. A candidate is accepted only if everything
//!    else in the file matches it.
//! 2. Read from the front: header, configuration, commands, early sections, the RAM block list.
//! 3. Read backwards from the description: each device's header, footer and version, and every
//!    field of `cpu`.
//!
//! The number of bytes read grows with the devices and not with RAM. RAM itself is never read, so a
//! file that is cut in RAM after pages that imitate an end is accepted. [`crate::full_scan`]
//! rejects such a file.

use std::io;

use memchr::memrchr_iter;

use crate::cpu::{self, Cpu};
use crate::cursor::{Cursor, SMALL_WINDOW_LEN, read_bytes};
use crate::element::{
    self, COMMAND, CPU, CommandCode, EOF, FOOTER, FOOTER_LEN, FULL, SECTION_HEADER_LEN, START,
    Section, SectionKind, VMDESCRIPTION,
};
use crate::error::{Error, ErrorKind};
use crate::layout::{Layout, LiveSection};
use crate::live_sections;
use crate::ram::{self, RamParser};
use crate::source::ReadAt;
use crate::vmdescription::{Description, DeviceDescription};

/// Maximum length of a description; typical are 6 KiB for each vCPU and 10 KiB for the rest.
pub(crate) const MAX_DESCRIPTION_LEN: u64 = 16 << 20;
/// Maximum number of candidates; the length must match exactly, so more than one is rare.
const MAX_CANDIDATES: usize = 16;
/// Maximum length of zeros after the stream, which a writer adds to fill a block.
const MAX_PADDING_LEN: u64 = 16 << 20;
/// Maximum length of device state that is read at once; that of 256 vCPUs with SVE has 4 MiB.
const MAX_CACHE_LEN: u64 = 16 << 20;
/// Maximum length of everything in front of RAM: configuration, commands, early sections, block
/// list.
const MAX_SETUP_LEN: u64 = 4 << 20;
/// Maximum distance between the start and the footer of a `cpu` section that is not as long as
/// described.
const MAX_CPU_SEARCH_LEN: u64 = 192 << 10;

/// Stream as its description maps it.
pub(crate) struct DescribedStream {
    pub(crate) layout: Layout,
    pub(crate) description: Description,
    /// vCPUs whose sections have the described length, in the order of the sections.
    pub(crate) cpus: Vec<Cpu>,
}

/// Section of a device, and its vCPU if the section was read as one.
struct DescribedSection {
    section: Section,
    cpu: Option<Cpu>,
}

/// Reads everything but RAM. Fails with [`ErrorKind::NoDescription`] if only a full scan can help.
pub(crate) fn read(source: &dyn ReadAt, length: u64) -> Result<DescribedStream, Error> {
    let mut cursor = Cursor::new(source, 0, length, SMALL_WINDOW_LEN);
    element::read_header(source, &mut cursor)?;
    let configuration = element::read_configuration(&mut cursor)?;
    let front = cursor.position();
    let mut first_error = None;
    for candidate in Candidates::new(source, front, length)?.take(MAX_CANDIDATES) {
        let candidate = candidate?;
        let is_empty = candidate.text == b"{}";
        let result = candidate.build_layout(source, front, length, configuration.as_ref());
        match result {
            Ok(found) => return Ok(found),
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NotArm) => {
                return Err(error);
            }
            // cpreg itself writes `{}` where there is no description.
            Err(_) if is_empty => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(match first_error {
        None => Error::new(
            ErrorKind::NoDescription,
            "the file has no description of the devices at its end",
        )
        .at_offset(length),
        Some(error) => {
            let mut message = String::from("the description at the end does not fit the devices: ");
            if !error.path().is_empty() {
                message += error.path();
                message += ": ";
            }
            message += error.message();
            Error::new(ErrorKind::NoDescription, message)
                .at_offset(error.offset().unwrap_or(length))
        }
    })
}

/// Offsets where a description can begin, the last one first.
struct Candidates<'s> {
    source: &'s dyn ReadAt,
    /// Lower bound of the search.
    search_start: u64,
    /// End of the description.
    end: u64,
    /// Block of the file in which the search runs downwards from `next`.
    block: Vec<u8>,
    block_start: u64,
    next: usize,
}

struct Candidate {
    /// Offset of the element's type.
    type_offset: u64,
    text: Vec<u8>,
}

/// Length in front of the text: EOF, the element's type, the length field.
const DESCRIPTION_HEADER_LEN: u64 = 1 + 1 + 4;

impl<'s> Candidates<'s> {
    fn new(source: &'s dyn ReadAt, front: u64, length: u64) -> Result<Self, Error> {
        let end = end_before_padding(source, front, length)?;
        Ok(Self {
            source,
            search_start: front,
            end,
            block: Vec::new(),
            block_start: end,
            next: 0,
        })
    }

    fn search(&mut self) -> Result<Option<Candidate>, Error> {
        loop {
            while let Some(found) = self.rfind_header() {
                self.next = found;
                if let Some(candidate) = self.candidate_at(self.block_start + found as u64)? {
                    return Ok(Some(candidate));
                }
            }
            let low = self.search_start.max(
                self.end
                    .saturating_sub(MAX_DESCRIPTION_LEN + DESCRIPTION_HEADER_LEN),
            );
            if self.block_start <= low {
                return Ok(None);
            }
            // Blocks overlap so that every header is complete in one of them.
            let done = self.block_start;
            let start = done.saturating_sub(64 << 10).max(low);
            let stop = (done + DESCRIPTION_HEADER_LEN + 1).min(self.end);
            let count = usize::try_from(stop - start).unwrap_or(usize::MAX);
            self.block = read_bytes(self.source, start, count)?;
            self.next = usize::try_from(done - start).unwrap_or(usize::MAX);
            self.block_start = start;
        }
    }

    /// Returns the last offset in the block below `next` at which EOF and VMDESCRIPTION stand.
    fn rfind_header(&self) -> Option<usize> {
        // Blocks overlap, so the second byte is in the block too.
        let end = self.block.len().min(self.next + 1);
        // A description, which can have megabytes, contains many bytes but not this one.
        let mut ends = memrchr_iter(VMDESCRIPTION, &self.block[..end]);
        ends.find_map(|at| {
            at.checked_sub(1)
                .filter(|before| self.block[*before] == EOF)
        })
    }

    /// Returns the candidate if EOF, VMDESCRIPTION, the right length and a brace begin at `at`.
    fn candidate_at(&self, at: u64) -> Result<Option<Candidate>, Error> {
        let bytes = &self.block[self.next..];
        if bytes.len() as u64 <= DESCRIPTION_HEADER_LEN
            || bytes[0] != EOF
            || bytes[1] != VMDESCRIPTION
        {
            return Ok(None);
        }
        let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
        let start = at + DESCRIPTION_HEADER_LEN;
        if bytes[6] != b'{' || start + u64::from(length) != self.end {
            return Ok(None);
        }
        let text = read_bytes(self.source, start, length as usize)?;
        Ok(Some(Candidate {
            type_offset: at + 1,
            text,
        }))
    }
}

impl Iterator for Candidates<'_> {
    type Item = Result<Candidate, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.search().transpose()
    }
}

/// Returns the end of the file without trailing zeros.
fn end_before_padding(source: &dyn ReadAt, front: u64, length: u64) -> Result<u64, Error> {
    let mut end = length;
    while end > front && length - end < MAX_PADDING_LEN {
        let count = (end - front).min(4 << 10);
        let start = end - count;
        let bytes = read_bytes(source, start, usize::try_from(count).unwrap_or(usize::MAX))?;
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(end)
}

impl Candidate {
    /// Builds the layout if the whole file matches this description; returns an error otherwise.
    fn build_layout(
        self,
        source: &dyn ReadAt,
        front: u64,
        length: u64,
        configuration: Option<&element::Configuration>,
    ) -> Result<DescribedStream, Error> {
        let start = self.type_offset + DESCRIPTION_HEADER_LEN - 1;
        let description = Description::parse(&self.text).map_err(|error| {
            Error::malformed(start + error.0 as u64, "not JSON that QEMU writes")
                .prepend_path("description")
        })?;
        let mut layout = Layout {
            configuration: configuration.cloned(),
            description: Some(start..start + self.text.len() as u64),
            end: self.type_offset,
            described_exactly: true,
            ..Layout::default()
        };
        let mut cursor = Cursor::new(
            source,
            front,
            length.min(self.type_offset),
            SMALL_WINDOW_LEN,
        );
        let mut ram = RamParser::new(configuration);
        let early_sections = read_setup(&mut cursor, &mut layout, &mut ram, &description)?;
        layout.blocks = ram.blocks;

        let devices = &description.devices[early_sections.len()..];
        let eof = self.type_offset - 1;
        let cached = CachedSource::new(source, devices, eof)?;
        let mut sections = Vec::with_capacity(devices.len());
        let mut end = eof;
        for device in devices.iter().rev() {
            let described = find_device_section(&cached, device, cursor.position(), end)?;
            let section = &described.section;
            layout.described_exactly &= section.payload.end - section.payload.start == device.size;
            end = section.range.start;
            sections.push(described);
        }
        check_live_section_end(&cached, &layout, cursor.position(), end)?;
        let mut cpus = Vec::new();
        for DescribedSection { section, cpu } in
            early_sections.into_iter().chain(sections.into_iter().rev())
        {
            layout.sections.push(section);
            cpus.extend(cpu);
        }
        check_unique_ids(&layout)?;
        Ok(DescribedStream {
            layout,
            description,
            cpus,
        })
    }
}

/// Reads everything in front of RAM's pages; returns the early devices.
fn read_setup(
    cursor: &mut Cursor<'_>,
    layout: &mut Layout,
    ram: &mut RamParser,
    description: &Description,
) -> Result<Vec<DescribedSection>, Error> {
    let mut early_sections = Vec::new();
    let begin = cursor.position();
    let mut skipped = 0;
    while cursor.position() - begin - skipped < MAX_SETUP_LEN {
        let start = cursor.position();
        match cursor.peek(1)?[0] {
            COMMAND => {
                cursor.skip(1)?;
                let command = element::read_command(cursor)?;
                if command.code == CommandCode::POSTCOPY_ADVISE && !command.payload.is_empty() {
                    ram.postcopy = true;
                }
            }
            // Early sections precede RAM or follow its START.
            FULL if early_sections.len() < description.devices.len() => {
                let device = &description.devices[early_sections.len()];
                let end = section_end(device, start);
                if end > cursor.end() {
                    return Err(
                        Error::malformed(start, "the section is longer than the file")
                            .prepend_path(&device.name),
                    );
                }
                early_sections.push(read_described_section(cursor.source(), device, start, end)?);
                cursor.seek(end);
            }
            START => {
                cursor.skip(1)?;
                let header = element::read_section_header(cursor)?;
                if header.name == "ram" {
                    ram.read_block_list_only(cursor)?;
                } else {
                    let from = cursor.position();
                    let to = from.saturating_add(MAX_SETUP_LEN).min(cursor.end());
                    let mut inner = Cursor::new(cursor.source(), from, to, SMALL_WINDOW_LEN);
                    if live_sections::skip_payload(&mut inner, &header.name, header.id).is_err() {
                        // The caller does not need the section, and its length is unknown.
                        break;
                    }
                    cursor.seek(inner.position());
                }
                element::read_footer(cursor, header.id)?;
                // The pages of mapped-ram lie between the entries of the block list.
                if header.name == "ram" {
                    skipped = ram
                        .blocks
                        .iter()
                        .filter_map(|block| block.mapped_ram.as_ref())
                        .map(|mapped| mapped.pages.end)
                        .max()
                        .map_or(0, |end| end.saturating_sub(begin));
                }
                layout.live_sections.push(LiveSection {
                    id: header.id,
                    name: header.name,
                    instance: header.instance,
                    version: header.version,
                });
            }
            _ => break,
        }
    }
    if layout.live_sections.iter().any(|live| live.name == "ram") {
        Ok(early_sections)
    } else {
        Err(Error::malformed(
            cursor.position(),
            "the list of RAM blocks is missing",
        ))
    }
}

/// Returns the end of a device's section that begins at `start`.
fn section_end(device: &DeviceDescription, start: u64) -> u64 {
    start
        .saturating_add(SECTION_HEADER_LEN + device.name.len() as u64)
        .saturating_add(device.size)
        .saturating_add(FOOTER_LEN)
}

/// Reads the section of a device that ends at `end` and begins at `low` or later.
fn find_device_section(
    source: &dyn ReadAt,
    device: &DeviceDescription,
    low: u64,
    end: u64,
) -> Result<DescribedSection, Error> {
    let length = section_end(device, 0);
    let described = end
        .checked_sub(length)
        .filter(|start| *start >= low)
        .ok_or_else(|| {
            Error::malformed(end, "the devices are longer than the file").prepend_path(&device.name)
        })
        .and_then(|start| read_described_section(source, device, start, end));
    match described {
        // An editor need not update the description, because QEMU does not read it.
        Err(error) if device.name == CPU && error.kind() != ErrorKind::NotArm => {
            let section = find_misplaced_cpu(source, device, low, end)?.ok_or(error)?;
            Ok(DescribedSection { section, cpu: None })
        }
        other => other,
    }
}

/// Reads the section of a device at exactly this range.
fn read_described_section(
    source: &dyn ReadAt,
    device: &DeviceDescription,
    start: u64,
    end: u64,
) -> Result<DescribedSection, Error> {
    let fault = |message: &'static str| Error::malformed(start, message).prepend_path(&device.name);
    let mut cursor = Cursor::new(source, start, end, 512);
    if cursor.read_u8()? != FULL {
        return Err(fault("no section begins at the described offset"));
    }
    let header = element::read_section_header(&mut cursor)?;
    if header.name != device.name || header.instance != device.instance {
        return Err(fault("another section is at the described offset"));
    }
    cpu::require_arm(&header, start)?;
    if device
        .version
        .is_some_and(|version| version != header.version)
    {
        return Err(fault("the section has another version than described"));
    }
    let payload = cursor.position()..end - FOOTER_LEN;
    cursor.seek(payload.end);
    element::read_footer(&mut cursor, header.id)
        .map_err(|error| error.prepend_path(&device.name))?;
    let section = Section {
        kind: SectionKind::Full,
        id: header.id,
        name: header.name,
        instance: header.instance,
        version: header.version,
        range: start..end,
        payload,
    };
    let is_cpu = section.name == CPU;
    let cpu = is_cpu.then(|| cpu::read_cpu(source, &section, device.state.as_deref()));
    Ok(DescribedSection {
        cpu: cpu.transpose()?,
        section,
    })
}

/// Searches for the `cpu` section that ends at `end` and is not as long as described.
fn find_misplaced_cpu(
    source: &dyn ReadAt,
    device: &DeviceDescription,
    low: u64,
    end: u64,
) -> Result<Option<Section>, Error> {
    let Some(payload_end) = end.checked_sub(FOOTER_LEN).filter(|it| *it > low) else {
        return Ok(None);
    };
    let footer = read_bytes(source, payload_end, 5)?;
    if footer[0] != FOOTER {
        return Ok(None);
    }
    let mut wanted = vec![FULL];
    wanted.extend(&footer[1..]);
    wanted.push(3);
    wanted.extend(CPU.as_bytes());
    wanted.extend(device.instance.to_be_bytes());
    wanted.extend(cpu::VERSION.to_be_bytes());

    let from = payload_end.saturating_sub(MAX_CPU_SEARCH_LEN).max(low);
    let count = usize::try_from(payload_end - from).unwrap_or(usize::MAX);
    let bytes = read_bytes(source, from, count)?;
    for (index, _) in bytes
        .windows(wanted.len())
        .enumerate()
        .rev()
        .filter(|(_, it)| *it == wanted)
    {
        let start = from + index as u64;
        let payload = start + wanted.len() as u64..payload_end;
        let section = Section {
            kind: SectionKind::Full,
            id: u32::from_be_bytes([footer[1], footer[2], footer[3], footer[4]]),
            name: CPU.into(),
            instance: device.instance,
            version: cpu::VERSION,
            range: start..end,
            payload,
        };
        let content = bytes[index + wanted.len()..].to_vec();
        if Cpu::parse(section.clone(), content, None).is_ok() {
            return Ok(Some(section));
        }
    }
    Ok(None)
}

/// Checks that a live section ends just in front of the first device after RAM.
fn check_live_section_end(
    source: &dyn ReadAt,
    layout: &Layout,
    front: u64,
    start: u64,
) -> Result<(), Error> {
    let fault = || Error::malformed(start, "no live section ends before the first device");
    let footer_start = start
        .checked_sub(FOOTER_LEN)
        .filter(|it| *it >= front.saturating_sub(FOOTER_LEN))
        .ok_or_else(fault)?;
    let footer = read_bytes(source, footer_start, 5)?;
    let id = u32::from_be_bytes([footer[1], footer[2], footer[3], footer[4]]);
    if footer[0] != FOOTER {
        return Err(fault());
    }
    let ends_ram = layout
        .live_sections
        .iter()
        .any(|live| live.id == id && live.name == "ram");
    if ends_ram && footer_start >= 8 {
        let word = read_bytes(source, footer_start - 8, 8)?;
        if word != ram::END_OF_PAYLOAD.to_be_bytes() {
            return Err(fault());
        }
    }
    Ok(())
}

fn check_unique_ids(layout: &Layout) -> Result<(), Error> {
    let mut ids: Vec<u32> = layout.sections.iter().map(|section| section.id).collect();
    ids.extend(layout.live_ids());
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::malformed(
            layout.end,
            format!("two sections have the number {}", pair[0]),
        )),
        None => Ok(()),
    }
}

/// Source that caches the bytes in front of a given offset.
struct CachedSource<'s> {
    source: &'s dyn ReadAt,
    start: u64,
    bytes: Vec<u8>,
}

impl<'s> CachedSource<'s> {
    /// Caches the bytes of these devices in front of `end`; caches nothing if they exceed the
    /// maximum.
    fn new(source: &'s dyn ReadAt, devices: &[DeviceDescription], end: u64) -> Result<Self, Error> {
        // Add a reserve for sections that are longer than described.
        let length = devices.iter().fold(16 << 10, |sum: u64, device| {
            sum.saturating_add(section_end(device, 0))
        });
        let start = if length <= MAX_CACHE_LEN {
            end.saturating_sub(length)
        } else {
            end
        };
        let count = usize::try_from(end - start).unwrap_or(usize::MAX);
        Ok(Self {
            source,
            start,
            bytes: read_bytes(source, start, count)?,
        })
    }
}

impl ReadAt for CachedSource<'_> {
    fn length(&self) -> io::Result<u64> {
        self.source.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match offset.checked_sub(self.start) {
            Some(inside) if self.bytes.read_exact_at(buffer, inside).is_ok() => Ok(()),
            _ => self.source.read_exact_at(buffer, offset),
        }
    }

    fn file_offset(&self) -> u64 {
        self.source.file_offset()
    }
}
