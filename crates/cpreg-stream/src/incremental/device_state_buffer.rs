//! [`DeviceStateBuffer`]: the buffered device state, with the context needed to read it.
//!
//! The buffer reads like the whole stream, at the same offsets. RAM's pages, which the parsers of
//! device state do not read, are zeros. Offsets and edits therefore apply to the stream.

use std::io::{self, BufWriter, Write};

use cpreg::vm::Vm;

use crate::convert::convert_and_open;
use crate::error::{Error, ErrorKind};
use crate::full_scan::ScanState;
use crate::replacement::{Edit, Segment};
use crate::source::ReadAt;
use crate::stream::Stream;

/// Length of the buffer for pieces of the device state.
const WRITE_BUFFER_LEN: usize = 256 << 10;

/// Complete device state of a stream.
#[derive(Debug)]
pub struct DeviceStateBuffer {
    pub(super) scan: ScanState,
    /// Bytes of the stream in front of RAM's pages.
    pub(super) prefix: Vec<u8>,
    /// Last bytes of RAM, just in front of the device state.
    pub(super) ram_tail: Vec<u8>,
    /// Offset of the device state in the stream.
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl DeviceStateBuffer {
    /// Returns the offset of the device state in the stream, which equals the number of bytes
    /// forwarded.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the number of buffered bytes.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Opens the stream that the buffer holds.
    ///
    /// # Errors
    /// Those of [`Stream::open`]; [`ErrorKind::Disagreement`] if the description is that of another
    /// stream.
    pub fn open_stream(&self) -> Result<Stream, Error> {
        Stream::resume_at(self, &self.scan, self.start)
    }

    /// Opens the stream with an edit applied.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if the edit changes forwarded bytes; those of [`Self::open_stream`].
    pub fn open_edited(&self, edit: &Edit) -> Result<Stream, Error> {
        self.check_edit(edit)?;
        Stream::resume_at(&edit.apply_to(self), &self.scan, self.start)
    }

    /// Makes the edit after which the stream holds the state `planned`.
    ///
    /// This function does for a stream in transit what [`convert`](crate::convert()) does for a
    /// file. `stream` is the result of [`Self::open_stream`].
    ///
    /// # Errors
    /// Those of [`convert`](crate::convert()); also [`ErrorKind::NotAsPlanned`] if the edit changes
    /// forwarded bytes.
    pub fn convert(&self, stream: &Stream, planned: &Vm) -> Result<Edit, Error> {
        convert_and_open(stream, self, planned, &|edit| self.open_edited(edit))
    }

    /// Writes the edited device state, which is the rest of the stream.
    ///
    /// # Errors
    /// - [`ErrorKind::BadEdit`] if the edit changes forwarded bytes, or belongs to another stream.
    /// - [`ErrorKind::Io`] and [`ErrorKind::NoSpace`] if writing fails.
    pub fn write(&self, edit: &Edit, to: &mut dyn Write) -> Result<(), Error> {
        self.check_edit(edit)?;
        // The state of each vCPU is one new piece between two old ones.
        let mut to = BufWriter::with_capacity(WRITE_BUFFER_LEN, to);
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
        let is_in_buffer = first.is_none_or(|it| it.range.start >= self.start);
        if is_in_buffer && Some(edit.old_length()) == self.total_length() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::BadEdit,
            "the bytes to change were already forwarded",
        ))
    }

    fn total_length(&self) -> Option<u64> {
        self.start.checked_add(self.bytes.len() as u64)
    }

    /// Returns the index in the buffer of an offset in the stream.
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
        let tail_start = self.start - self.ram_tail.len() as u64;
        for (start, bytes) in [
            (0, &self.prefix),
            (tail_start, &self.ram_tail),
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
