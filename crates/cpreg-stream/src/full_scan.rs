//! Reads a stream from its first byte to its last, element by element, RAM record by record.
//!
//! The scan neither needs nor trusts a description, and parses every byte of structure. Memory
//! stays bounded because no payload is kept. [`crate::element`] has the elements.
//!
//! [`ScanState`] is the structure read so far, which decides the elements that may follow. A reader
//! of a stream in transit ([`crate::incremental`]) also keeps a [`ScanState`], and resumes the scan
//! where the device state begins.

use crate::cursor::{Cursor, LARGE_WINDOW_LEN};
use crate::element::{
    self, COMMAND, Command, CommandCode, Configuration, END, EOF, FULL, PART, START, Section,
    SectionHeader, VMDESCRIPTION,
};
use crate::error::{Error, PrependPath};
use crate::layout::{Layout, LiveSection, Package};
use crate::live_sections;
use crate::ram::{self, RamParser};
use crate::section_search::{SearchContext, find_full_sections};
use crate::source::ReadAt;

/// Maximum number of live sections; more than any machine has (RAM, bitmaps, one for each VFIO
/// device).
const MAX_LIVE_SECTIONS: usize = 4096;
/// Maximum length of early sections in bytes.
///
/// Each section has about a hundred bytes. RAM follows, which must not be searched.
pub(crate) const MAX_EARLY_LEN: u64 = 1 << 20;
/// Maximum number of commands; more than any migration sends (RECV_BITMAP and PING may repeat
/// often).
const MAX_COMMANDS: usize = 1 << 20;

/// Reads the whole stream.
pub(crate) fn read(source: &dyn ReadAt, length: u64) -> Result<Layout, Error> {
    let mut cursor = Cursor::new(source, 0, length, LARGE_WINDOW_LEN);
    element::read_header(source, &mut cursor)?;
    let configuration = element::read_configuration(&mut cursor)?;
    ScanState::new(configuration).read_to_end(&mut cursor)
}

/// State of a scan: the structure of a stream as far as it has been read.
#[derive(Clone, Debug)]
pub(crate) struct ScanState {
    pub(crate) layout: Layout,
    pub(crate) ram: RamParser,
    ram_id: Option<u32>,
    /// `true` after the first part of a live section: no early section can follow.
    pub(crate) live_open: bool,
    /// `true` while RAM has begun and not ended.
    pub(crate) ram_open: bool,
    command_count: usize,
    pub(crate) announced_capabilities: AnnouncedCapabilities,
    /// `true` if the source ends with the package and lacks RAM's last pages and EOF.
    pub(crate) ends_with_package: bool,
}

/// Capabilities of the migration that commands in front of RAM announce.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AnnouncedCapabilities {
    /// `true` after OPEN_RETURN_PATH: the destination answers.
    pub(crate) return_path: bool,
    /// `true` after POSTCOPY_ADVISE: the migration may switch to postcopy.
    pub(crate) postcopy: bool,
}

impl ScanState {
    /// Makes the state after header and configuration.
    pub(crate) fn new(configuration: Option<Configuration>) -> Self {
        Self {
            ram: RamParser::new(configuration.as_ref()),
            layout: Layout {
                configuration,
                ..Layout::default()
            },
            ram_id: None,
            live_open: false,
            ram_open: false,
            command_count: 0,
            announced_capabilities: AnnouncedCapabilities::default(),
            ends_with_package: false,
        }
    }

    /// Reads from the beginning of an element to the end of the stream.
    pub(crate) fn read_to_end(mut self, cursor: &mut Cursor<'_>) -> Result<Layout, Error> {
        self.read_elements(cursor, false)?;
        self.read_description(cursor)?;
        self.layout.record_counts = Some(self.ram.counts);
        self.layout.blocks = self.ram.blocks;
        Ok(self.layout)
    }

    /// Returns `true` if `id` is the number of the `ram` section.
    pub(crate) fn is_ram(&self, id: u32) -> bool {
        self.ram_id == Some(id)
    }

    /// Reads elements up to EOF, or to the end of the package.
    fn read_elements(&mut self, cursor: &mut Cursor<'_>, package: bool) -> Result<(), Error> {
        loop {
            if package && cursor.is_at_end() {
                return Ok(());
            }
            let is_after_package = self.ends_with_package && self.layout.package.is_some();
            if is_after_package && cursor.is_at_end() {
                self.layout.end = cursor.position();
                return Ok(());
            }
            let start = cursor.position();
            match cursor.read_u8()? {
                EOF if !package => {
                    self.layout.end = cursor.position();
                    return Ok(());
                }
                START => {
                    let header = element::read_section_header(cursor)?;
                    self.read_start_section(cursor, header, start)?;
                }
                kind @ (PART | END) => self.read_continued_section(cursor, kind, start)?,
                FULL => self.read_full_sections(cursor, start, package)?,
                COMMAND => self.read_command(cursor, start, package)?,
                kind => {
                    return Err(Error::malformed(
                        start,
                        format!("the element type {kind:#04x} is unknown"),
                    ));
                }
            }
        }
    }

    fn read_start_section(
        &mut self,
        cursor: &mut Cursor<'_>,
        header: SectionHeader,
        start: u64,
    ) -> Result<(), Error> {
        let (id, name) = (header.id, header.name.clone());
        self.begin_section(header, start)?;
        self.skip_payload(cursor, &name, id)?;
        element::read_footer(cursor, id)
    }

    /// Records that a live section begins. An error leaves the state unchanged.
    pub(crate) fn begin_section(&mut self, header: SectionHeader, start: u64) -> Result<(), Error> {
        let known = self
            .layout
            .live_sections
            .iter()
            .any(|other| other.id == header.id);
        if known || self.layout.live_sections.len() == MAX_LIVE_SECTIONS {
            return Err(Error::malformed(
                start,
                format!("a second live section has the number {}", header.id),
            ));
        }
        if header.name == "ram" {
            if self.ram_id.is_some() || header.version != ram::VERSION {
                return Err(Error::unsupported(
                    start,
                    format!(
                        "a second ram section, or its version {} is unknown",
                        header.version
                    ),
                ));
            }
            self.ram_id = Some(header.id);
            self.ram_open = true;
        }
        self.layout.live_sections.push(LiveSection {
            id: header.id,
            name: header.name,
            instance: header.instance,
            version: header.version,
        });
        Ok(())
    }

    fn read_continued_section(
        &mut self,
        cursor: &mut Cursor<'_>,
        kind: u8,
        start: u64,
    ) -> Result<(), Error> {
        let id = cursor.read_be32()?;
        let name = self.continue_section(id, start)?;
        self.skip_payload(cursor, &name, id)?;
        self.end_part(kind, id);
        element::read_footer(cursor, id).prepend_path(|| name)
    }

    /// Records that a live section continues or ends; returns its name.
    pub(crate) fn continue_section(&mut self, id: u32, start: u64) -> Result<String, Error> {
        let Some(live) = self.layout.live_sections.iter().find(|live| live.id == id) else {
            return Err(Error::malformed(
                start,
                format!("a part of section {id}, which has not begun"),
            ));
        };
        self.live_open = true;
        Ok(live.name.clone())
    }

    /// Records that the payload of a START, PART or END section has been read.
    pub(crate) fn end_part(&mut self, kind: u8, id: u32) {
        if kind == END && self.is_ram(id) {
            self.ram_open = false;
        }
    }

    fn skip_payload(&mut self, cursor: &mut Cursor<'_>, name: &str, id: u32) -> Result<(), Error> {
        if self.is_ram(id) {
            self.ram.skip_payload(cursor)
        } else {
            live_sections::skip_payload(cursor, name, id)
        }
    }

    fn read_full_sections(
        &mut self,
        cursor: &mut Cursor<'_>,
        start: u64,
        package: bool,
    ) -> Result<(), Error> {
        // Early sections precede the pages, all others follow them. Only a background snapshot does
        // not end RAM: its device sections continue up to EOF.
        let early = !self.live_open;
        let snapshot = self.ram_open && self.live_open && !package;
        let context = SearchContext {
            live_ids: &self.layout.live_ids(),
            allows_start: early,
            in_package: package,
            only_eof: snapshot,
        };
        let end = if early && !package {
            cursor.end().min(start.saturating_add(MAX_EARLY_LEN))
        } else {
            cursor.end()
        };
        let (sections, next) = find_full_sections(cursor.source(), start, end, &context)?;
        self.add_sections(sections)?;
        cursor.seek(next);
        Ok(())
    }

    /// Records device sections that have been read.
    pub(crate) fn add_sections(&mut self, sections: Vec<Section>) -> Result<(), Error> {
        for section in &sections {
            if self.layout.sections.iter().any(|it| it.id == section.id) {
                return Err(Error::malformed(
                    section.range.start,
                    format!("a second section has the number {}", section.id),
                ));
            }
        }
        self.layout.sections.extend(sections);
        Ok(())
    }

    fn read_command(
        &mut self,
        cursor: &mut Cursor<'_>,
        start: u64,
        package: bool,
    ) -> Result<(), Error> {
        let command = element::read_command(cursor)?;
        self.apply_command(&command, start)?;
        if command.code == CommandCode::PACKAGED {
            if package || self.layout.package.is_some() {
                return Err(Error::malformed(
                    start,
                    "a second package, or one inside another",
                ));
            }
            self.read_package(cursor, command.payload.start)?;
        }
        Ok(())
    }

    /// Records a command that has been read; its payload may still be missing.
    pub(crate) fn apply_command(&mut self, command: &Command, start: u64) -> Result<(), Error> {
        self.command_count += 1;
        if self.command_count > MAX_COMMANDS {
            return Err(Error::malformed(
                start,
                "more commands than any migration sends",
            ));
        }
        match command.code {
            CommandCode::OPEN_RETURN_PATH => self.announced_capabilities.return_path = true,
            CommandCode::POSTCOPY_ADVISE => {
                self.announced_capabilities.postcopy = true;
                // An advice for bitmaps only has no payload and does not change RAM.
                self.ram.postcopy |= !command.payload.is_empty();
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the device state of a postcopy migration, a nested stream with a length.
    fn read_package(&mut self, cursor: &mut Cursor<'_>, length_field: u64) -> Result<(), Error> {
        let start = cursor.position();
        cursor.seek(length_field);
        let length = u64::from(cursor.read_be32()?);
        cursor.skip(length)?;
        let end = start + length;
        let mut inner = Cursor::new(cursor.source(), start, end, LARGE_WINDOW_LEN);
        self.read_elements(&mut inner, true)
            .prepend_path(|| "package".into())?;
        self.layout.package = Some(Package {
            length_field,
            range: start..end,
        });
        Ok(())
    }

    /// Reads the description after EOF, if there is one.
    fn read_description(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        if cursor.is_at_end() || cursor.peek(1)?[0] != VMDESCRIPTION {
            return Ok(());
        }
        let hint = || {
            format!(
                "the VM's state is complete, and QEMU does not read the description: \
                 cut the file to {} bytes to remove it",
                self.layout.end
            )
        };
        cursor.skip(1)?;
        let length = cursor
            .read_be32()
            .map_err(|error| error.prepend_path("description").with_hint(hint()))?;
        let start = cursor.position();
        cursor
            .skip(u64::from(length))
            .map_err(|error| error.prepend_path("description").with_hint(hint()))?;
        self.layout.description = Some(start..cursor.position());
        Ok(())
    }
}
