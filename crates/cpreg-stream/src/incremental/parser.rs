//! [`IncrementalParser`]: goes over the bytes of a stream as they come, and says which may pass and which are held back.
//!
//! It owns no bytes but those it holds back: who has them shows it those that have neither passed nor been held, and it
//! says how many of them, from the first on, may go. So they pass out of the buffer that they were read into, or need
//! not even be copied there.

use std::io;

use super::device_state_buffer::DeviceStateBuffer;
use super::end_detector::EndDetector;
use super::phase::Phase;
use super::setup::StreamSetup;
use crate::cursor::Cursor;
use crate::element::{self, COMMAND, CommandCode, END, EOF, FULL, PART, SECTION_HEADER_LEN, START};
use crate::error::{Error, ErrorKind, PrependPath};
use crate::full_scan::{MAX_EARLY_LEN, ScanState};
use crate::live_sections;
use crate::section_search::{SearchContext, find_full_sections, find_full_sections_incomplete};
use crate::source::ReadAt;

/// The most that is held back, in bytes: the device state of the largest VMs takes some MiB, and their description as much.
pub const MAX_DEVICE_STATE_LEN: u64 = 256 << 20;
/// The most that may stand before RAM's pages; a copy of it is kept.
const MAX_PREFIX_LEN: u64 = 16 << 20;
/// So many bytes before the device state are kept: the last record of a `ram` section and its footer, and some more.
const RAM_TAIL_LEN: usize = 32;
/// The largest header of an element, whose end may be waited for byte by byte. What is longer (a list of RAM blocks) is
/// tried again when it has grown by a part of itself, so that bytes that drip in are not gone over a thousand times.
const MAX_HEADER_LEN: u64 = 4 << 10;

/// How many of the bytes shown may go, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// So many, from the first on, pass.
    pub forward: usize,
    /// So many behind them were held back; who showed them need not keep them.
    pub buffered: usize,
}

/// A stream that is on its way.
#[derive(Debug)]
pub struct IncrementalParser {
    /// Where in the stream the first byte stands that has neither passed nor been held.
    offset: u64,
    /// Where the next step begins; it may be past what has come.
    position: u64,
    /// No step can succeed before the stream has come up to here.
    retry_at: u64,
    state: ParserState,
    scan: Option<ScanState>,
    /// What had been seen when the package came, behind which is looked on.
    scan_at_package: Option<ScanState>,
    prefix: Vec<u8>,
    /// Where RAM's pages begin, or what else is no more part of the setup.
    prefix_end: Option<u64>,
    ram_tail: Vec<u8>,
    /// Where the device state begins.
    device_state_start: Option<u64>,
    device_state: Vec<u8>,
    buffer_limit: u64,
    /// Somebody answers the sender, who may therefore not close behind the last byte.
    is_bidirectional: bool,
    end_detector: EndDetector,
}

/// What stands at the position.
#[derive(Debug)]
enum ParserState {
    Header,
    Element,
    /// Something in the payload of a live section.
    Payload(SectionPart),
    Footer(SectionPart),
    /// Whatever it is, it is held back and not looked at before all has come.
    DeviceState,
    /// Behind the package of a postcopy migration that is answered: nothing here is this flow's.
    AfterPackage,
}

#[derive(Debug)]
struct SectionPart {
    kind: u8,
    id: u32,
    name: String,
    progress: live_sections::Progress,
}

impl Default for IncrementalParser {
    fn default() -> Self {
        Self::new()
    }
}

impl IncrementalParser {
    /// A stream of which nothing has come.
    pub fn new() -> Self {
        Self {
            offset: 0,
            position: 0,
            retry_at: 0,
            state: ParserState::Header,
            scan: None,
            scan_at_package: None,
            prefix: Vec::new(),
            prefix_end: None,
            ram_tail: Vec::new(),
            device_state_start: None,
            device_state: Vec::new(),
            buffer_limit: MAX_DEVICE_STATE_LEN,
            is_bidirectional: false,
            end_detector: EndDetector::default(),
        }
    }

    /// A stream whose sender gets answers: it may be a postcopy migration, and it need not be closed where it ends.
    ///
    /// [`Self::looks_complete`] tells when it is worth trying [`Self::take_device_state`]. Of a postcopy migration no more is taken
    /// than its package; what follows is RAM.
    pub fn bidirectional() -> Self {
        Self {
            is_bidirectional: true,
            ..Self::new()
        }
    }

    /// Holds back no more than so many bytes, where [`MAX_DEVICE_STATE_LEN`] is too much.
    #[must_use]
    pub fn with_buffer_limit(self, most_held: u64) -> Self {
        Self {
            buffer_limit: most_held,
            ..self
        }
    }

    /// How far the stream has come.
    pub fn phase(&self) -> Phase {
        match &self.scan {
            _ if self.device_state_start.is_some() => Phase::DeviceState,
            None => Phase::Header,
            Some(front) if front.live_open => Phase::Ram,
            Some(_) => Phase::Setup,
        }
    }

    /// What stands before RAM's pages, once the list of RAM's blocks has come.
    pub fn setup(&self) -> Option<StreamSetup> {
        let front = self.scan.as_ref()?;
        let is_there = !front.ram.blocks.is_empty() || self.device_state_start.is_some();
        is_there.then(|| StreamSetup::from_scan(front))
    }

    /// Where in the stream the first byte stands that has neither passed nor been held back.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is held back, and where in the stream it begins; nothing before device state has come, or while somebody else has it.
    pub fn device_state(&self) -> Option<(u64, &[u8])> {
        Some((self.device_state_start?, &self.device_state))
    }

    /// Goes over the bytes from [`Self::offset`] on, as far as they have come; `last` says that no more will.
    ///
    /// What is not taken is to be shown again, with more behind it. That is at most some KiB, and 1 MiB of early sections.
    /// After an error nothing more is taken; what passed before it is no complete stream.
    ///
    /// # Errors
    /// If the stream is not as QEMU writes it; if a filter cannot carry it; [`ErrorKind::Truncated`] if it was the last
    /// and what has come is not complete.
    pub fn feed(&mut self, window: &[u8], last: bool) -> Result<Consumed, Error> {
        let end = self.offset.saturating_add(window.len() as u64);
        if (last || end >= self.retry_at) && !self.has_stopped() {
            self.run_steps(window, end, last)?;
        }
        let gone_over = match self.state {
            ParserState::DeviceState => end,
            _ => self.position.min(end),
        };
        self.consume(window, gone_over)
    }

    /// The device state, if all of the stream has come.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if no device state has come.
    pub fn finish(mut self) -> Result<DeviceStateBuffer, Error> {
        self.take_device_state()
    }

    /// Whether what is held back may be all of the device state of a [`Self::bidirectional`] stream: it ends as one does that has a
    /// description, or it is a whole package. Only opening it tells; a stream without description gives no sign.
    pub fn looks_complete(&self) -> bool {
        match self.state {
            ParserState::DeviceState => self.end_detector.can_end_at(self.device_state.len()),
            ParserState::AfterPackage => self.offset >= self.position,
            _ => false,
        }
    }

    /// Whether what is held back is the package of a [`Self::bidirectional`] postcopy migration.
    pub fn has_package(&self) -> bool {
        matches!(self.state, ParserState::AfterPackage)
    }

    /// The device state that has come so far; [`Self::restore_device_state`] lets the flow go on if there must be more.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if no device state has come.
    pub fn take_device_state(&mut self) -> Result<DeviceStateBuffer, Error> {
        let (Some(front), Some(start)) = (
            self.scan_at_package.as_ref().or(self.scan.as_ref()),
            self.device_state_start,
        ) else {
            return Err(Error::truncated(self.offset, self.offset, 1));
        };
        let mut front = front.clone();
        front.ends_with_package = matches!(self.state, ParserState::AfterPackage);
        Ok(DeviceStateBuffer {
            scan: front,
            prefix: self.prefix.clone(),
            ram_tail: self.ram_tail.clone(),
            start,
            bytes: std::mem::take(&mut self.device_state),
        })
    }

    /// Takes back what [`Self::take_device_state`] gave, if nothing was taken in between.
    pub fn restore_device_state(&mut self, held: DeviceStateBuffer) {
        self.device_state = held.bytes;
    }

    /// Whether nothing more is gone over.
    fn has_stopped(&self) -> bool {
        matches!(
            self.state,
            ParserState::DeviceState | ParserState::AfterPackage
        )
    }

    fn run_steps(&mut self, window: &[u8], end: u64, last: bool) -> Result<(), Error> {
        let source = Window {
            start: self.offset,
            bytes: window,
        };
        let mut cursor = Cursor::for_partial_source(&source, self.position, end);
        while self.position < end && !self.has_stopped() {
            let result = if matches!(self.state, ParserState::Header) {
                self.read_header(&source, &mut cursor, last)
            } else {
                self.step(&source, &mut cursor, last)
            };
            match result {
                Ok(()) => self.position = cursor.position(),
                Err(error) if error.kind() == ErrorKind::Truncated && !last => {
                    let begun = end - self.position;
                    let more = if begun > MAX_HEADER_LEN { begun / 8 } else { 0 };
                    self.retry_at = cursor.position().max(end).saturating_add(1 + more);
                    cursor.seek(self.position);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if last && end == 0 {
            return Err(Error::new(ErrorKind::NotAStream, "nothing came").at_offset(0));
        }
        let is_complete = self.device_state_start.is_some() && self.position <= end;
        if last && !is_complete {
            // What lies between elements has no begin of its own.
            let missing = self.position.saturating_sub(end).max(1);
            return Err(Error::truncated(self.position.min(end), end, missing));
        }
        Ok(())
    }

    /// Lets the bytes up to `to` go.
    fn consume(&mut self, window: &[u8], to: u64) -> Result<Consumed, Error> {
        let all = index(to - self.offset).min(window.len());
        let pass = match self.device_state_start {
            Some(from) => index(from.saturating_sub(self.offset)).min(all),
            None => all,
        };
        let passing = &window[..pass];
        // Up to RAM's pages, which begin somewhere in here or have not begun.
        let kept = match self.prefix_end {
            Some(end) => index(end.saturating_sub(self.offset)).min(pass),
            None => pass,
        };
        if (self.prefix.len() + kept) as u64 > MAX_PREFIX_LEN {
            return Err(Error::unsupported(
                self.offset,
                format!("more than {} MiB before RAM's pages", MAX_PREFIX_LEN >> 20),
            ));
        }
        self.prefix.extend_from_slice(&passing[..kept]);
        let newest = &passing[pass.saturating_sub(RAM_TAIL_LEN)..];
        let room = RAM_TAIL_LEN - newest.len();
        self.ram_tail
            .drain(..self.ram_tail.len().saturating_sub(room));
        self.ram_tail.extend_from_slice(newest);

        let held = &window[pass..all];
        if (self.device_state.len() + held.len()) as u64 > self.buffer_limit {
            return Err(Error::unsupported(
                self.offset,
                format!(
                    "more than {} bytes of device state: so much is not held back",
                    self.buffer_limit
                ),
            )
            .with_hint("save the VM to a file, and change that with `cpreg convert`"));
        }
        self.device_state.extend_from_slice(held);
        if self.is_bidirectional {
            self.end_detector.search(&self.device_state);
        }
        self.offset += all as u64;
        Ok(Consumed {
            forward: pass,
            buffered: all - pass,
        })
    }

    fn read_header(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        // As many as tell what else it is.
        const IDENTIFICATION_LEN: u64 = 16;
        if cursor.end() < IDENTIFICATION_LEN && !last {
            return Err(Error::truncated(
                0,
                cursor.end(),
                IDENTIFICATION_LEN - cursor.end(),
            ));
        }
        element::read_header(source, cursor)?;
        let configuration = element::read_configuration(cursor)?;
        if configuration
            .as_ref()
            .is_some_and(|it| it.has_capability("mapped-ram"))
        {
            return Err(Error::unsupported(
                0,
                "a mapped-ram stream, whose pages have fixed places in a file: it cannot be read \
                 from a pipe",
            )
            .with_hint(
                "change the file itself with `cpreg convert --in-place`, and let QEMU load it \
                 with file:",
            ));
        }
        self.scan = Some(ScanState::new(configuration));
        self.state = ParserState::Element;
        Ok(())
    }

    /// One element's header, one record, one footer. After an error nothing has changed.
    fn step(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        let is_held = self.device_state_start.is_some();
        let Some(front) = &mut self.scan else {
            return Ok(());
        };
        match &mut self.state {
            ParserState::Payload(section) => {
                let is_ram = front.is_ram(section.id);
                let is_last = if is_ram {
                    let gone_over = source
                        .bytes_from(cursor.position())
                        .filter(|_| !is_held)
                        .map_or(0, |bytes| front.ram.skip_pages(bytes));
                    if gone_over > 0 {
                        return cursor.skip(gone_over as u64);
                    }
                    let before = front.ram.page_record_count();
                    let at = cursor.position();
                    let is_last = front.ram.step(cursor)?;
                    if is_held && front.ram.page_record_count() > before {
                        return Err(live_postcopy_error(at));
                    }
                    is_last
                } else {
                    live_sections::step(cursor, &section.name, section.id, &mut section.progress)?
                };
                if is_last {
                    front.end_part(section.kind, section.id);
                    self.advance();
                }
                Ok(())
            }
            ParserState::Footer(section) => {
                element::read_footer(cursor, section.id).prepend_path(|| section.name.clone())?;
                self.state = ParserState::Element;
                Ok(())
            }
            _ => self.read_element(source, cursor, last),
        }
    }

    /// From the payload to the footer.
    fn advance(&mut self) {
        self.state = match std::mem::replace(&mut self.state, ParserState::Element) {
            ParserState::Payload(section) => ParserState::Footer(section),
            other => other,
        };
    }

    fn read_element(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        let Some(front) = &mut self.scan else {
            return Ok(());
        };
        let is_held = self.device_state_start.is_some();
        let start = cursor.position();
        match cursor.read_u8()? {
            START => {
                let header = element::read_section_header(cursor)?;
                let section = SectionPart {
                    kind: START,
                    id: header.id,
                    name: header.name.clone(),
                    progress: live_sections::Progress::default(),
                };
                front.begin_section(header, start)?;
                self.state = ParserState::Payload(section);
            }
            kind @ (PART | END) => {
                let id = cursor.read_be32()?;
                let name = front.continue_section(id, start)?;
                self.prefix_end.get_or_insert(start);
                self.state = ParserState::Payload(SectionPart {
                    kind,
                    id,
                    name,
                    progress: live_sections::Progress::default(),
                });
            }
            FULL if is_held => {
                return Err(Error::malformed(
                    start,
                    "a device behind the package of devices",
                ));
            }
            FULL if !front.live_open => self.read_early_sections(source, cursor, start, last)?,
            FULL if front.ram_open => {
                return Err(Error::unsupported(
                    start,
                    "device state, and RAM has not ended: a background snapshot, which goes on \
                     with older pages than it began with",
                )
                .with_hint("save it to a file, and change that with `cpreg convert`"));
            }
            FULL | EOF => self.start_buffering(start),
            COMMAND => {
                let command = element::read_command(cursor)?;
                match command.code {
                    CommandCode::PACKAGED if !is_held => {
                        cursor.seek(command.payload.start);
                        let length = cursor.read_be32()?;
                        cursor.skip(length.into())?;
                        self.scan_at_package = Some(front.clone());
                        self.prefix_end.get_or_insert(start);
                        self.device_state_start = Some(start);
                        if self.is_bidirectional {
                            self.state = ParserState::AfterPackage;
                        }
                    }
                    CommandCode::PACKAGED => {
                        return Err(Error::malformed(start, "a second package"));
                    }
                    CommandCode::ENABLE_COLO => {
                        return Err(Error::unsupported(
                            start,
                            "COLO: the state of the VM is sent again and again, both ways",
                        )
                        .with_hint("migrate without the capability x-colo"));
                    }
                    _ => front.apply_command(&command, start)?,
                }
            }
            kind => {
                return Err(Error::malformed(
                    start,
                    format!("an element of the unknown type {kind:#04x}"),
                ));
            }
        }
        Ok(())
    }

    /// Everything from here on is held back.
    fn start_buffering(&mut self, start: u64) {
        self.prefix_end.get_or_insert(start);
        self.device_state_start.get_or_insert(start);
        self.state = ParserState::DeviceState;
    }

    /// FULL sections before the first page: virtio-mem's, which pass. They are searched for their ends, among neighbours
    /// that are known, as long as nothing that may still come could change what is found.
    fn read_early_sections(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        start: u64,
        last: bool,
    ) -> Result<(), Error> {
        let Some(front) = &mut self.scan else {
            return Ok(());
        };
        let live: Vec<u32> = front
            .layout
            .live_sections
            .iter()
            .map(|live| live.id)
            .collect();
        let surroundings = SearchContext {
            live_ids: &live,
            allows_start: true,
            in_package: false,
            only_eof: false,
        };
        let most = start.saturating_add(MAX_EARLY_LEN);
        let end = cursor.end().min(most);
        let (sections, next) = if last {
            find_full_sections(source, start, end, &surroundings)?
        } else if end == most {
            // More would not help.
            find_full_sections(source, start, end, &surroundings).map_err(|error| {
                let what = "the end of this section is not found, and RAM's pages must follow it";
                match error.kind() {
                    ErrorKind::Truncated => Error::malformed(start, what),
                    _ => error,
                }
            })?
        } else {
            let found = find_full_sections_incomplete(source, start, end, &surroundings);
            // The same error as where bytes are missing: it is tried again.
            found.ok_or_else(|| Error::truncated(start, end, SECTION_HEADER_LEN))?
        };
        cursor.seek(next);
        if cursor.peek(1)?[0] == EOF {
            // A stream without pages: these are its devices.
            self.start_buffering(start);
            return Ok(());
        }
        if let Some(section) = sections.iter().find(|section| section.name == "cpu") {
            return Err(
                Error::unsupported(section.range.start, "CPU state before RAM's pages")
                    .prepend_path("cpu"),
            );
        }
        front.add_sections(sections)
    }
}

/// Pages that are sent when the guest runs at the destination already, which asks for them on the way back.
fn live_postcopy_error(at: u64) -> Error {
    Error::unsupported(
        at,
        "pages behind the device state: a postcopy migration, in which the destination asks for \
         pages; nothing goes back through a filter",
    )
    .with_hint(
        "migrate without postcopy (do not send migrate-start-postcopy); a migration that was \
         saved to a file this way can be changed there with `cpreg convert`",
    )
    .prepend_path("ram")
}

/// A number of bytes in a window, which fits in memory.
fn index(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Some bytes of a stream, at their offsets.
struct Window<'w> {
    start: u64,
    bytes: &'w [u8],
}

impl Window<'_> {
    /// The bytes from this offset on.
    fn bytes_from(&self, offset: u64) -> Option<&[u8]> {
        self.bytes.get(index(offset.checked_sub(self.start)?)..)
    }
}

impl ReadAt for Window<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.start.saturating_add(self.bytes.len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self
            .bytes_from(offset)
            .and_then(|bytes| bytes.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}
