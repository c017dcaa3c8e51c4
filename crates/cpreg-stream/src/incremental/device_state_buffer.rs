//! [`DeviceStateBuffer`]: what was held back of a stream, with what is needed around it to read it.
//!
//! It reads like the whole stream, at the same offsets, of which RAM's pages are zeros: nobody who opens it looks at those.
//! So what is said of a place in it, and an edit of it, are those of the stream.

use std::io::{self, Write};

use cpreg::vm::Vm;

use crate::convert::convert_and_open;
use crate::error::{Error, ErrorKind};
use crate::full_scan::ScanState;
use crate::replacement::{Edit, Segment};
use crate::source::ReadAt;
use crate::stream::Stream;

/// The device state of a stream, all of it.
#[derive(Debug)]
pub struct DeviceStateBuffer {
    pub(super) scan: ScanState,
    /// What stands before RAM's pages.
    pub(super) prefix: Vec<u8>,
    /// The bytes just before the device state: how RAM ended.
    pub(super) ram_tail: Vec<u8>,
    /// Where the device state begins.
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl DeviceStateBuffer {
    /// Where in the stream the device state begins: so many bytes have passed.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes were held back.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// Those of [`Stream::open`]; [`ErrorKind::Disagreement`] if the description is that of another stream.
    pub fn open_stream(&self) -> Result<Stream, Error> {
        Stream::resume_at(self, &self.scan, self.start)
    }

    /// Opens what an edit makes of the stream.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if it changes what has passed; those of [`Self::stream`].
    pub fn open_edited(&self, edit: &Edit) -> Result<Stream, Error> {
        self.check_edit(edit)?;
        Stream::resume_at(&edit.apply_to(self), &self.scan, self.start)
    }

    /// Makes the edit after which the stream holds the state `planned`, as
    /// [`convert`](crate::convert()) does of a file; `stream` is what [`Self::stream`] gave.
    ///
    /// # Errors
    /// Those of [`convert`](crate::convert()); [`ErrorKind::NotAsPlanned`] as well if the edit
    /// changes what has passed.
    pub fn convert(&self, stream: &Stream, planned: &Vm) -> Result<Edit, Error> {
        convert_and_open(stream, self, planned, &|edit| self.open_edited(edit))
    }

    /// Writes the device state as the edit makes it: the rest of the stream.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if the edit changes what has passed, or is one of another stream; [`ErrorKind::Io`] and
    /// [`ErrorKind::NoSpace`] if it cannot be written.
    pub fn write(&self, edit: &Edit, to: &mut dyn Write) -> Result<(), Error> {
        self.check_edit(edit)?;
        for segment in edit.segments() {
            let bytes = match segment {
                Segment::New(bytes) => bytes,
                Segment::Old(range) => {
                    let from = self.index(range.start.max(self.start));
                    &self.bytes[from..self.index(range.end).max(from)]
                }
            };
            to.write_all(bytes).map_err(Error::from_write_error)?;
        }
        to.flush().map_err(Error::from_write_error)
    }

    fn check_edit(&self, edit: &Edit) -> Result<(), Error> {
        let first = edit.replacements().first();
        let is_late = first.is_none_or(|it| it.range.start >= self.start);
        if is_late && Some(edit.old_length()) == self.total_length() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::BadEdit,
            "what would have to be changed has gone on already",
        ))
    }

    fn total_length(&self) -> Option<u64> {
        self.start.checked_add(self.bytes.len() as u64)
    }

    /// Where the byte at this offset of the stream stands in what was held back.
    fn index(&self, offset: u64) -> usize {
        let inside = offset.saturating_sub(self.start);
        usize::try_from(inside).map_or(self.bytes.len(), |it| it.min(self.bytes.len()))
    }
}

impl ReadAt for DeviceStateBuffer {
    fn length(&self) -> io::Result<u64> {
        self.total_length()
            .ok_or_else(|| io::ErrorKind::FileTooLarge.into())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(buffer.len() as u64)
            .filter(|end| self.total_length().is_some_and(|length| *end <= length))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.fill(0);
        let before = self.start - self.ram_tail.len() as u64;
        for (start, bytes) in [
            (0, &self.prefix),
            (before, &self.ram_tail),
            (self.start, &self.bytes),
        ] {
            let from = offset.max(start);
            let to = end.min(start + bytes.len() as u64);
            if let (true, Ok(at), Ok(inside), Ok(count)) = (
                from < to,
                usize::try_from(from - offset.min(from)),
                usize::try_from(from - start),
                usize::try_from(to.saturating_sub(from)),
            ) {
                buffer[at..at + count].copy_from_slice(&bytes[inside..inside + count]);
            }
        }
        Ok(())
    }
}
