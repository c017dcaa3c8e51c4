//! [`IncrementalParser`]: parses a stream as it arrives, and decides which bytes are forwarded and
//! which are buffered.
//!
//! The parser owns only the buffered bytes. The caller shows the parser the bytes that are neither
//! forwarded nor buffered. The parser returns the number of bytes to forward, which the caller can
//! forward from its read buffer or without a copy in memory.

use super::device_state_buffer::DeviceStateBuffer;
use super::end_detector::EndDetector;
use super::phase::Phase;
use super::setup::StreamSetup;
use super::state::{ParserState, SectionPart};
use super::window::{Window, index};
use crate::cursor::Cursor;
use crate::element::{self, COMMAND, CommandCode, END, EOF, FULL, PART, SECTION_HEADER_LEN, START};
use crate::error::{Error, ErrorKind, PrependPath};
use crate::full_scan::{MAX_EARLY_LEN, ScanState};
use crate::live_sections;
use crate::section_search::{SearchContext, find_full_sections, find_full_sections_incomplete};

/// Maximum number of bytes that are buffered.
///
/// The device state of the largest VMs has some MiB, and their description about as much.
pub const MAX_DEVICE_STATE_LEN: u64 = 256 << 20;
/// Maximum number of bytes in front of RAM's pages; the parser keeps a copy of them.
const MAX_PREFIX_LEN: u64 = 16 << 20;
/// Number of bytes kept in front of the device state.
///
/// They include the last record of a `ram` section and its footer.
const RAM_TAIL_LEN: usize = 32;
/// Maximum length of an element's header that is retried with each new byte.
///
/// A longer header (a list of RAM blocks) is retried when it has grown by a fraction of its length.
/// The parser thus avoids a thousand attempts if bytes arrive one by one.
const MAX_HEADER_LEN: u64 = 4 << 10;

/// Number of bytes that [`IncrementalParser::feed`] consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumed {
    /// Number of bytes to forward, from the first on.
    pub forward: usize,
    /// Number of bytes after the forwarded ones that the parser has buffered; the caller can drop
    /// them.
    pub buffered: usize,
}

/// Parser of a stream in transit.
#[derive(Debug)]
pub struct IncrementalParser {
    /// Offset of the first byte that is neither forwarded nor buffered.
    offset: u64,
    /// Offset of the next step; it may be past the received bytes.
    position: u64,
    /// Offset that the stream must reach before the next step can succeed.
    retry_at: u64,
    state: ParserState,
    scan: Option<ScanState>,
    /// State of the scan at the package; `scan` continues after it.
    scan_at_package: Option<ScanState>,
    prefix: Vec<u8>,
    /// Offset of the first element after the setup, usually RAM's pages.
    prefix_end: Option<u64>,
    ram_tail: Vec<u8>,
    /// Offset of the device state.
    device_state_start: Option<u64>,
    device_state: Vec<u8>,
    buffer_limit: u64,
    /// `true` if the sender receives answers and may keep the connection open after the last byte.
    is_bidirectional: bool,
    end_detector: EndDetector,
}

impl Default for IncrementalParser {
    fn default() -> Self {
        Self::new()
    }
}

impl IncrementalParser {
    /// Makes a parser at the beginning of a stream.
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

    /// Makes a parser for a stream whose sender receives answers on a return path.
    ///
    /// The stream may be a postcopy migration, and the connection may stay open after its end.
    /// [`Self::looks_complete`] returns `true` when [`Self::take_device_state`] is worth an
    /// attempt. Of a postcopy migration only the package is buffered; RAM follows it.
    pub fn bidirectional() -> Self {
        Self {
            is_bidirectional: true,
            ..Self::new()
        }
    }

    /// Limits the buffer to `limit` bytes instead of [`MAX_DEVICE_STATE_LEN`].
    #[must_use]
    pub fn with_buffer_limit(self, limit: u64) -> Self {
        Self {
            buffer_limit: limit,
            ..self
        }
    }

    /// Returns the current phase of the stream.
    pub fn phase(&self) -> Phase {
        match &self.scan {
            _ if self.device_state_start.is_some() => Phase::DeviceState,
            None => Phase::Header,
            Some(scan) if scan.live_open => Phase::Ram,
            Some(_) => Phase::Setup,
        }
    }

    /// Returns the data in front of RAM's pages; `None` before the list of RAM blocks has arrived.
    pub fn setup(&self) -> Option<StreamSetup> {
        let scan = self.scan.as_ref()?;
        let has_setup = !scan.ram.blocks.is_empty() || self.device_state_start.is_some();
        has_setup.then(|| StreamSetup::from_scan(scan))
    }

    /// Returns the offset of the first byte that is neither forwarded nor buffered.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the offset and the bytes of the buffered device state.
    ///
    /// `None` before the device state arrives. The bytes are empty after
    /// [`Self::take_device_state`].
    pub fn device_state(&self) -> Option<(u64, &[u8])> {
        Some((self.device_state_start?, &self.device_state))
    }

    /// Parses the received bytes from [`Self::offset`] on; `last` means that no more bytes will
    /// follow.
    ///
    /// If bytes remain unconsumed, the caller must pass them again, followed by more bytes. These
    /// remaining bytes are at most some KiB, or 1 MiB if they are early sections. After an error,
    /// the parser consumes nothing more. The bytes forwarded before the error are not a complete
    /// stream.
    ///
    /// # Errors
    /// - If the stream is not as QEMU writes it, or a filter cannot forward it.
    /// - [`ErrorKind::Truncated`] if `last` is set and the stream is incomplete.
    pub fn feed(&mut self, window: &[u8], last: bool) -> Result<Consumed, Error> {
        let end = self.offset.saturating_add(window.len() as u64);
        if (last || end >= self.retry_at) && !self.has_stopped() {
            self.run_steps(window, end, last)?;
        }
        let parsed_end = match self.state {
            ParserState::DeviceState => end,
            _ => self.position.min(end),
        };
        self.consume(window, parsed_end)
    }

    /// Returns the device state after the end of the stream.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if no device state has arrived.
    pub fn finish(mut self) -> Result<DeviceStateBuffer, Error> {
        self.take_device_state()
    }

    /// Returns `true` if the device state of a [`Self::bidirectional`] stream may be complete.
    ///
    /// A stream that looks complete ends like a stream with a description, or is a whole package.
    /// Only opening the stream proves that it is complete. A stream without a description never
    /// looks complete.
    pub fn looks_complete(&self) -> bool {
        match self.state {
            ParserState::DeviceState => self.end_detector.can_end_at(self.device_state.len()),
            ParserState::AfterPackage => self.offset >= self.position,
            _ => false,
        }
    }

    /// Returns `true` if the buffer holds the package of a [`Self::bidirectional`] postcopy
    /// migration.
    pub fn has_package(&self) -> bool {
        matches!(self.state, ParserState::AfterPackage)
    }

    /// Takes the device state received so far.
    ///
    /// If more bytes must follow, [`Self::restore_device_state`] puts the device state back.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if no device state has arrived.
    pub fn take_device_state(&mut self) -> Result<DeviceStateBuffer, Error> {
        let (Some(scan), Some(start)) = (
            self.scan_at_package.as_ref().or(self.scan.as_ref()),
            self.device_state_start,
        ) else {
            return Err(Error::truncated(self.offset, self.offset, 1));
        };
        let mut scan = scan.clone();
        scan.ends_with_package = matches!(self.state, ParserState::AfterPackage);
        Ok(DeviceStateBuffer {
            scan,
            prefix: self.prefix.clone(),
            ram_tail: self.ram_tail.clone(),
            start,
            bytes: std::mem::take(&mut self.device_state),
        })
    }

    /// Puts back the result of [`Self::take_device_state`], before any other bytes are consumed.
    pub fn restore_device_state(&mut self, buffer: DeviceStateBuffer) {
        self.device_state = buffer.bytes;
    }

    /// Returns `true` if the parser has stopped parsing.
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
                    let received = end - self.position;
                    let more = if received > MAX_HEADER_LEN {
                        received / 8
                    } else {
                        0
                    };
                    self.retry_at = cursor.position().max(end).saturating_add(1 + more);
                    cursor.seek(self.position);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if last && end == 0 {
            return Err(Error::new(ErrorKind::NotAStream, "the input is empty").at_offset(0));
        }
        let is_complete = self.device_state_start.is_some() && self.position <= end;
        if last && !is_complete {
            // The missing element has not begun, so report the end of the bytes.
            let missing = self.position.saturating_sub(end).max(1);
            return Err(Error::truncated(self.position.min(end), end, missing));
        }
        Ok(())
    }

    /// Consumes the bytes up to offset `end`.
    fn consume(&mut self, window: &[u8], end: u64) -> Result<Consumed, Error> {
        let consumed_len = index(end - self.offset).min(window.len());
        let forward_len = match self.device_state_start {
            Some(start) => index(start.saturating_sub(self.offset)).min(consumed_len),
            None => consumed_len,
        };
        let forwarded = &window[..forward_len];
        // The prefix ends at RAM's pages, in these bytes or later.
        let prefix_len = match self.prefix_end {
            Some(end) => index(end.saturating_sub(self.offset)).min(forward_len),
            None => forward_len,
        };
        if (self.prefix.len() + prefix_len) as u64 > MAX_PREFIX_LEN {
            return Err(Error::unsupported(
                self.offset,
                format!("more than {} MiB before RAM's pages", MAX_PREFIX_LEN >> 20),
            ));
        }
        self.prefix.extend_from_slice(&forwarded[..prefix_len]);
        let newest = &forwarded[forward_len.saturating_sub(RAM_TAIL_LEN)..];
        let room = RAM_TAIL_LEN - newest.len();
        self.ram_tail
            .drain(..self.ram_tail.len().saturating_sub(room));
        self.ram_tail.extend_from_slice(newest);

        let buffered = &window[forward_len..consumed_len];
        if (self.device_state.len() + buffered.len()) as u64 > self.buffer_limit {
            return Err(Error::unsupported(
                self.offset,
                format!(
                    "the device state exceeds {} bytes, the limit of the buffer",
                    self.buffer_limit
                ),
            )
            .with_hint("save the VM to a file, and change that with `cpreg convert`"));
        }
        self.device_state.extend_from_slice(buffered);
        if self.is_bidirectional {
            self.end_detector.search(&self.device_state);
        }
        self.offset += consumed_len as u64;
        Ok(Consumed {
            forward: forward_len,
            buffered: consumed_len - forward_len,
        })
    }

    fn read_header(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        // Number of bytes that identify other formats.
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
                "a mapped-ram stream, whose pages have fixed offsets in a file: it cannot be read \
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

    /// Parses one element's header, one record or one footer. An error leaves the state unchanged.
    fn step(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        let is_buffering = self.device_state_start.is_some();
        let Some(scan) = &mut self.scan else {
            return Ok(());
        };
        match &mut self.state {
            ParserState::Payload(section) => {
                let is_ram = scan.is_ram(section.id);
                let is_last = if is_ram {
                    let skipped = source
                        .bytes_from(cursor.position())
                        .filter(|_| !is_buffering)
                        .map_or(0, |bytes| scan.ram.skip_pages(bytes));
                    if skipped > 0 {
                        return cursor.skip(skipped as u64);
                    }
                    let before = scan.ram.page_record_count();
                    let at = cursor.position();
                    let is_last = scan.ram.step(cursor)?;
                    if is_buffering && scan.ram.page_record_count() > before {
                        return Err(live_postcopy_error(at));
                    }
                    is_last
                } else {
                    live_sections::step(cursor, &section.name, section.id, &mut section.progress)?
                };
                if is_last {
                    scan.end_part(section.kind, section.id);
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

    /// Advances from the payload to the footer.
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
        let Some(scan) = &mut self.scan else {
            return Ok(());
        };
        let is_buffering = self.device_state_start.is_some();
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
                scan.begin_section(header, start)?;
                self.state = ParserState::Payload(section);
            }
            kind @ (PART | END) => {
                let id = cursor.read_be32()?;
                let name = scan.continue_section(id, start)?;
                self.prefix_end.get_or_insert(start);
                self.state = ParserState::Payload(SectionPart {
                    kind,
                    id,
                    name,
                    progress: live_sections::Progress::default(),
                });
            }
            FULL if is_buffering => {
                return Err(Error::malformed(
                    start,
                    "a device after the package of devices",
                ));
            }
            FULL if !scan.live_open => self.read_early_sections(source, cursor, start, last)?,
            FULL if scan.ram_open => {
                return Err(Error::unsupported(
                    start,
                    "device state before the end of RAM: a background snapshot, which continues \
                     with older pages than it began with",
                )
                .with_hint("save it to a file, and change that with `cpreg convert`"));
            }
            FULL | EOF => self.start_buffering(start),
            COMMAND => {
                let command = element::read_command(cursor)?;
                match command.code {
                    CommandCode::PACKAGED if !is_buffering => {
                        cursor.seek(command.payload.start);
                        let length = cursor.read_be32()?;
                        cursor.skip(length.into())?;
                        self.scan_at_package = Some(scan.clone());
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
                            "COLO: the state of the VM is sent repeatedly in both directions",
                        )
                        .with_hint("migrate without the capability x-colo"));
                    }
                    _ => scan.apply_command(&command, start)?,
                }
            }
            kind => {
                return Err(Error::malformed(
                    start,
                    format!("the element type {kind:#04x} is unknown"),
                ));
            }
        }
        Ok(())
    }

    /// Buffers everything from `start` on.
    fn start_buffering(&mut self, start: u64) {
        self.prefix_end.get_or_insert(start);
        self.device_state_start.get_or_insert(start);
        self.state = ParserState::DeviceState;
    }

    /// Reads the FULL sections in front of the first page (virtio-mem's), which are forwarded.
    ///
    /// The search finds their ends among known neighbours. This function accepts a result only if
    /// later bytes cannot change it.
    fn read_early_sections(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        start: u64,
        last: bool,
    ) -> Result<(), Error> {
        let Some(scan) = &mut self.scan else {
            return Ok(());
        };
        let context = SearchContext {
            live_ids: &scan.layout.live_ids(),
            allows_start: true,
            in_package: false,
            only_eof: false,
        };
        let limit = start.saturating_add(MAX_EARLY_LEN);
        let end = cursor.end().min(limit);
        let (sections, next) = if last {
            find_full_sections(source, start, end, &context)?
        } else if end == limit {
            // More bytes would not help.
            find_full_sections(source, start, end, &context).map_err(|error| {
                let message =
                    "the end of this section is not found, and RAM's pages must follow it";
                match error.kind() {
                    ErrorKind::Truncated => Error::malformed(start, message),
                    _ => error,
                }
            })?
        } else {
            let found = find_full_sections_incomplete(source, start, end, &context);
            // Return the error for missing bytes, so that the caller retries.
            found.ok_or_else(|| Error::truncated(start, end, SECTION_HEADER_LEN))?
        };
        cursor.seek(next);
        if cursor.peek(1)?[0] == EOF {
            // In a stream without pages, these sections are the devices.
            self.start_buffering(start);
            return Ok(());
        }
        if let Some(section) = sections.iter().find(|section| section.name == "cpu") {
            return Err(
                Error::unsupported(section.range.start, "CPU state before RAM's pages")
                    .prepend_path("cpu"),
            );
        }
        scan.add_sections(sections)
    }
}

/// Makes the error for pages of a running postcopy migration. The destination requests such pages
/// on the return path.
fn live_postcopy_error(at: u64) -> Error {
    Error::unsupported(
        at,
        "pages after the device state: a postcopy migration, in which the destination requests \
         pages; a filter has no return path",
    )
    .with_hint(
        "migrate without postcopy (do not send migrate-start-postcopy); a migration that was \
         saved to a file this way can be changed there with `cpreg convert`",
    )
    .prepend_path("ram")
}
