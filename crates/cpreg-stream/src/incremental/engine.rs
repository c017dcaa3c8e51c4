//! [`Flow`]: goes over the bytes of a stream as they come, and says which may pass and which are held back.
//!
//! It owns no bytes but those it holds back: who has them shows it those that have neither passed nor been held, and it
//! says how many of them, from the first on, may go. So they pass out of the buffer that they were read into, or need
//! not even be copied there.

use std::io;

use super::ending::Ending;
use super::held::Held;
use super::outline::Outline;
use super::phase::Phase;
use crate::cursor::Cursor;
use crate::element::{
    self, COMMAND, CommandCode, END, EOF, FULL, PART, SECTION_HEADER_LENGTH, START,
};
use crate::error::{Error, ErrorKind, Within};
use crate::front::{Front, MOST_EARLY};
use crate::live;
use crate::scan::{Surroundings, full_sections, full_sections_so_far};
use crate::source::ReadAt;

/// The most that is held back, in bytes: the device state of the largest VMs takes some MiB, and their description as much.
pub const MOST_HELD: u64 = 256 << 20;
/// The most that may stand before RAM's pages; a copy of it is kept.
const MOST_KEPT: u64 = 16 << 20;
/// So many bytes before the device state are kept: the last record of a `ram` section and its footer, and some more.
const BEFORE: usize = 32;
/// The largest header of an element, whose end may be waited for byte by byte. What is longer (a list of RAM blocks) is
/// tried again when it has grown by a part of itself, so that bytes that drip in are not gone over a thousand times.
const SMALL: u64 = 4 << 10;

/// How many of the bytes shown may go, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// So many, from the first on, pass.
    pub pass: usize,
    /// So many behind them were held back; who showed them need not keep them.
    pub held: usize,
}

/// A stream that is on its way.
#[derive(Debug)]
pub struct Flow {
    /// Where in the stream the first byte stands that has neither passed nor been held.
    at: u64,
    /// Where the next step begins; it may be past what has come.
    position: u64,
    /// No step can succeed before the stream has come up to here.
    wanted: u64,
    place: Place,
    front: Option<Front>,
    /// What had been seen when the package came, behind which is looked on.
    front_then: Option<Front>,
    kept: Vec<u8>,
    /// Where RAM's pages begin, or what else is no more part of the setup.
    kept_end: Option<u64>,
    before: Vec<u8>,
    /// Where the device state begins.
    held_from: Option<u64>,
    held: Vec<u8>,
    most_held: u64,
    /// Somebody answers the sender, who may therefore not close behind the last byte.
    is_two_way: bool,
    ending: Ending,
}

/// What stands at the position.
#[derive(Debug)]
enum Place {
    Header,
    Element,
    /// Something in the payload of a live section.
    Payload(Section),
    Footer(Section),
    /// Whatever it is, it is held back and not looked at before all has come.
    Rest,
    /// Behind the package of a postcopy migration that is answered: nothing here is this flow's.
    Behind,
}

#[derive(Debug)]
struct Section {
    kind: u8,
    id: u32,
    name: String,
    progress: live::Progress,
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

impl Flow {
    /// A stream of which nothing has come.
    pub fn new() -> Self {
        Self {
            at: 0,
            position: 0,
            wanted: 0,
            place: Place::Header,
            front: None,
            front_then: None,
            kept: Vec::new(),
            kept_end: None,
            before: Vec::new(),
            held_from: None,
            held: Vec::new(),
            most_held: MOST_HELD,
            is_two_way: false,
            ending: Ending::default(),
        }
    }

    /// A stream whose sender gets answers: it may be a postcopy migration, and it need not be closed where it ends.
    ///
    /// [`Self::may_be_complete`] tells when it is worth trying [`Self::take_held`]. Of a postcopy migration no more is taken
    /// than its package; what follows is RAM.
    pub fn two_way() -> Self {
        Self {
            is_two_way: true,
            ..Self::new()
        }
    }

    /// Holds back no more than so many bytes, where [`MOST_HELD`] is too much.
    #[must_use]
    pub fn holding_at_most(self, most_held: u64) -> Self {
        Self { most_held, ..self }
    }

    /// How far the stream has come.
    pub fn phase(&self) -> Phase {
        match &self.front {
            _ if self.held_from.is_some() => Phase::DeviceState,
            None => Phase::Header,
            Some(front) if front.live_open => Phase::Ram,
            Some(_) => Phase::Setup,
        }
    }

    /// What stands before RAM's pages, once the list of RAM's blocks has come.
    pub fn outline(&self) -> Option<Outline> {
        let front = self.front.as_ref()?;
        let is_there = !front.ram.blocks.is_empty() || self.held_from.is_some();
        is_there.then(|| Outline::of(front))
    }

    /// Where in the stream the first byte stands that has neither passed nor been held back.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// What is held back, and where in the stream it begins; nothing before device state has come, or while somebody else has it.
    pub fn held(&self) -> Option<(u64, &[u8])> {
        Some((self.held_from?, &self.held))
    }

    /// Goes over the bytes from [`Self::offset`] on, as far as they have come; `last` says that no more will.
    ///
    /// What is not taken is to be shown again, with more behind it. That is at most some KiB, and 1 MiB of early sections.
    /// After an error nothing more is taken; what passed before it is no complete stream.
    ///
    /// # Errors
    /// If the stream is not as QEMU writes it; if a filter cannot carry it; [`ErrorKind::Truncated`] if it was the last
    /// and what has come is not complete.
    pub fn go_over(&mut self, window: &[u8], last: bool) -> Result<Taken, Error> {
        let end = self.at.saturating_add(window.len() as u64);
        if (last || end >= self.wanted) && !self.is_at_the_end() {
            self.steps(window, end, last)?;
        }
        let gone_over = match self.place {
            Place::Rest => end,
            _ => self.position.min(end),
        };
        self.take(window, gone_over)
    }

    /// The device state, if all of the stream has come.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if no device state has come.
    pub fn finish(mut self) -> Result<Held, Error> {
        self.take_held()
    }

    /// Whether what is held back may be all of the device state of a [`Self::two_way`] stream: it ends as one does that has a
    /// description, or it is a whole package. Only opening it tells; a stream without description gives no sign.
    pub fn may_be_complete(&self) -> bool {
        match self.place {
            Place::Rest => self.ending.fits(self.held.len()),
            Place::Behind => self.at >= self.position,
            _ => false,
        }
    }

    /// Whether what is held back is the package of a [`Self::two_way`] postcopy migration.
    pub fn holds_package(&self) -> bool {
        matches!(self.place, Place::Behind)
    }

    /// The device state that has come so far; [`Self::put_back`] lets the flow go on if there must be more.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if no device state has come.
    pub fn take_held(&mut self) -> Result<Held, Error> {
        let (Some(front), Some(start)) = (
            self.front_then.as_ref().or(self.front.as_ref()),
            self.held_from,
        ) else {
            return Err(Error::truncated(self.at, self.at, 1));
        };
        let mut front = front.clone();
        front.ends_with_package = matches!(self.place, Place::Behind);
        Ok(Held {
            front,
            kept: self.kept.clone(),
            before: self.before.clone(),
            start,
            bytes: std::mem::take(&mut self.held),
        })
    }

    /// Takes back what [`Self::take_held`] gave, if nothing was taken in between.
    pub fn put_back(&mut self, held: Held) {
        self.held = held.bytes;
    }

    /// Whether nothing more is gone over.
    fn is_at_the_end(&self) -> bool {
        matches!(self.place, Place::Rest | Place::Behind)
    }

    fn steps(&mut self, window: &[u8], end: u64, last: bool) -> Result<(), Error> {
        let source = Window {
            start: self.at,
            bytes: window,
        };
        let mut cursor = Cursor::of_what_came(&source, self.position, end);
        while self.position < end && !self.is_at_the_end() {
            let result = if matches!(self.place, Place::Header) {
                self.header(&source, &mut cursor, last)
            } else {
                self.step(&source, &mut cursor, last)
            };
            match result {
                Ok(()) => self.position = cursor.position(),
                Err(error) if error.kind() == ErrorKind::Truncated && !last => {
                    let begun = end - self.position;
                    let more = if begun > SMALL { begun / 8 } else { 0 };
                    self.wanted = cursor.position().max(end).saturating_add(1 + more);
                    cursor.seek(self.position);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if last && end == 0 {
            return Err(Error::new(ErrorKind::NotAStream, "nothing came").at(0));
        }
        let is_complete = self.held_from.is_some() && self.position <= end;
        if last && !is_complete {
            // What lies between elements has no begin of its own.
            let missing = self.position.saturating_sub(end).max(1);
            return Err(Error::truncated(self.position.min(end), end, missing));
        }
        Ok(())
    }

    /// Lets the bytes up to `to` go.
    fn take(&mut self, window: &[u8], to: u64) -> Result<Taken, Error> {
        let all = index(to - self.at).min(window.len());
        let pass = match self.held_from {
            Some(from) => index(from.saturating_sub(self.at)).min(all),
            None => all,
        };
        let passing = &window[..pass];
        // Up to RAM's pages, which begin somewhere in here or have not begun.
        let kept = match self.kept_end {
            Some(end) => index(end.saturating_sub(self.at)).min(pass),
            None => pass,
        };
        if (self.kept.len() + kept) as u64 > MOST_KEPT {
            return Err(Error::unsupported(
                self.at,
                format!("more than {} MiB before RAM's pages", MOST_KEPT >> 20),
            ));
        }
        self.kept.extend_from_slice(&passing[..kept]);
        let newest = &passing[pass.saturating_sub(BEFORE)..];
        let room = BEFORE - newest.len();
        self.before.drain(..self.before.len().saturating_sub(room));
        self.before.extend_from_slice(newest);

        let held = &window[pass..all];
        if (self.held.len() + held.len()) as u64 > self.most_held {
            return Err(Error::unsupported(
                self.at,
                format!(
                    "more than {} bytes of device state: so much is not held back",
                    self.most_held
                ),
            )
            .with_hint("save the VM to a file, and change that with `cpreg convert`"));
        }
        self.held.extend_from_slice(held);
        if self.is_two_way {
            self.ending.search(&self.held);
        }
        self.at += all as u64;
        Ok(Taken {
            pass,
            held: all - pass,
        })
    }

    fn header(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        // As many as tell what else it is.
        const ENOUGH: u64 = 16;
        if cursor.end() < ENOUGH && !last {
            return Err(Error::truncated(0, cursor.end(), ENOUGH - cursor.end()));
        }
        element::header(source, cursor)?;
        let configuration = element::configuration(cursor)?;
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
        self.front = Some(Front::new(configuration));
        self.place = Place::Element;
        Ok(())
    }

    /// One element's header, one record, one footer. After an error nothing has changed.
    fn step(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        let is_held = self.held_from.is_some();
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        match &mut self.place {
            Place::Payload(section) => {
                let is_ram = front.is_ram(section.id);
                let is_last = if is_ram {
                    let gone_over = source
                        .from(cursor.position())
                        .filter(|_| !is_held)
                        .map_or(0, |bytes| front.ram.pages(bytes));
                    if gone_over > 0 {
                        return cursor.skip(gone_over as u64);
                    }
                    let before = front.ram.contents();
                    let at = cursor.position();
                    let is_last = front.ram.step(cursor)?;
                    if is_held && front.ram.contents() > before {
                        return Err(live_postcopy(at));
                    }
                    is_last
                } else {
                    live::step(cursor, &section.name, section.id, &mut section.progress)?
                };
                if is_last {
                    front.part_ends(section.kind, section.id);
                    self.advance();
                }
                Ok(())
            }
            Place::Footer(section) => {
                element::footer(cursor, section.id).within(|| section.name.clone())?;
                self.place = Place::Element;
                Ok(())
            }
            _ => self.element(source, cursor, last),
        }
    }

    /// From the payload to the footer.
    fn advance(&mut self) {
        self.place = match std::mem::replace(&mut self.place, Place::Element) {
            Place::Payload(section) => Place::Footer(section),
            other => other,
        };
    }

    fn element(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        last: bool,
    ) -> Result<(), Error> {
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        let is_held = self.held_from.is_some();
        let start = cursor.position();
        match cursor.u8()? {
            START => {
                let header = element::section_header(cursor)?;
                let section = Section {
                    kind: START,
                    id: header.id,
                    name: header.name.clone(),
                    progress: live::Progress::default(),
                };
                front.begins(header, start)?;
                self.place = Place::Payload(section);
            }
            kind @ (PART | END) => {
                let id = cursor.be32()?;
                let name = front.goes_on(id, start)?;
                self.kept_end.get_or_insert(start);
                self.place = Place::Payload(Section {
                    kind,
                    id,
                    name,
                    progress: live::Progress::default(),
                });
            }
            FULL if is_held => {
                return Err(Error::malformed(
                    start,
                    "a device behind the package of devices",
                ));
            }
            FULL if !front.live_open => self.early_sections(source, cursor, start, last)?,
            FULL if front.ram_open => {
                return Err(Error::unsupported(
                    start,
                    "device state, and RAM has not ended: a background snapshot, which goes on \
                     with older pages than it began with",
                )
                .with_hint("save it to a file, and change that with `cpreg convert`"));
            }
            FULL | EOF => self.hold(start),
            COMMAND => {
                let command = element::command(cursor)?;
                match command.code {
                    CommandCode::PACKAGED if !is_held => {
                        cursor.seek(command.payload.start);
                        let length = cursor.be32()?;
                        cursor.skip(length.into())?;
                        self.front_then = Some(front.clone());
                        self.kept_end.get_or_insert(start);
                        self.held_from = Some(start);
                        if self.is_two_way {
                            self.place = Place::Behind;
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
                    _ => front.commanded(&command, start)?,
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
    fn hold(&mut self, start: u64) {
        self.kept_end.get_or_insert(start);
        self.held_from.get_or_insert(start);
        self.place = Place::Rest;
    }

    /// FULL sections before the first page: virtio-mem's, which pass. They are searched for their ends, among neighbours
    /// that are known, as long as nothing that may still come could change what is found.
    fn early_sections(
        &mut self,
        source: &Window<'_>,
        cursor: &mut Cursor<'_>,
        start: u64,
        last: bool,
    ) -> Result<(), Error> {
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        let live: Vec<u32> = front.layout.live.iter().map(|live| live.id).collect();
        let surroundings = Surroundings {
            live: &live,
            early: true,
            package: false,
            last: false,
        };
        let most = start.saturating_add(MOST_EARLY);
        let end = cursor.end().min(most);
        let (sections, next) = if last {
            full_sections(source, start, end, &surroundings)?
        } else if end == most {
            // More would not help.
            full_sections(source, start, end, &surroundings).map_err(|error| {
                let what = "the end of this section is not found, and RAM's pages must follow it";
                match error.kind() {
                    ErrorKind::Truncated => Error::malformed(start, what),
                    _ => error,
                }
            })?
        } else {
            let found = full_sections_so_far(source, start, end, &surroundings);
            // The same error as where bytes are missing: it is tried again.
            found.ok_or_else(|| Error::truncated(start, end, SECTION_HEADER_LENGTH))?
        };
        cursor.seek(next);
        if cursor.peek(1)?[0] == EOF {
            // A stream without pages: these are its devices.
            self.hold(start);
            return Ok(());
        }
        if let Some(section) = sections.iter().find(|section| section.name == "cpu") {
            return Err(
                Error::unsupported(section.range.start, "CPU state before RAM's pages")
                    .within("cpu"),
            );
        }
        front.found(sections)
    }
}

/// Pages that are sent when the guest runs at the destination already, which asks for them on the way back.
fn live_postcopy(at: u64) -> Error {
    Error::unsupported(
        at,
        "pages behind the device state: a postcopy migration, in which the destination asks for \
         pages; nothing goes back through a filter",
    )
    .with_hint(
        "migrate without postcopy (do not send migrate-start-postcopy); a migration that was \
         saved to a file this way can be changed there with `cpreg convert`",
    )
    .within("ram")
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
    fn from(&self, offset: u64) -> Option<&[u8]> {
        self.bytes.get(index(offset.checked_sub(self.start)?)..)
    }
}

impl ReadAt for Window<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.start.saturating_add(self.bytes.len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self
            .from(offset)
            .and_then(|bytes| bytes.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}
