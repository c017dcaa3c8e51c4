//! [`Edit`]: byte ranges of a file and their replacements.
//!
//! [`crate::edit`] makes edits; [`crate::write`] and [`crate::in_place`] apply them to a file.

use std::fmt;
use std::io;
use std::ops::Range;

use crate::source::ReadAt;

/// Byte range of the old file and its replacement.
#[derive(Clone, PartialEq, Eq)]
pub struct Replacement {
    /// Range of the replaced bytes in the old file.
    pub range: Range<u64>,
    /// New bytes, not necessarily of the same number.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Replacement {
    /// Formats without content, which may be the guest's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replacement")
            .field("range", &self.range)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Replacements that turn one stream into another, ascending and not adjacent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    replacements: Vec<Replacement>,
    old_length: u64,
    new_length: u64,
}

/// Byte range of the new file and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment<'e> {
    /// Byte range of the old file.
    Old(Range<u64>),
    /// New bytes.
    New(&'e [u8]),
}

impl Edit {
    /// Makes the edit with these replacements for a file of this length.
    ///
    /// The ranges must not overlap and must lie in the file.
    pub fn new(mut replacements: Vec<Replacement>, old_length: u64) -> Self {
        replacements.retain(|it| !(it.range.is_empty() && it.bytes.is_empty()));
        replacements.sort_by_key(|it| it.range.start);
        let new_length = replacements.iter().fold(old_length, |length, it| {
            length - (it.range.end - it.range.start) + it.bytes.len() as u64
        });
        Self {
            replacements,
            old_length,
            new_length,
        }
    }

    /// Makes the edit that leaves a file of this length unchanged.
    ///
    /// The caller can write bytes in memory with this edit, in the same way as an edited file.
    pub fn identity(length: u64) -> Self {
        Self::new(Vec::new(), length)
    }

    /// Returns the edit of a file in which the edited bytes follow a header of this length.
    #[must_use]
    pub fn behind_header(&self, header_length: u64) -> Self {
        let shift = |it: &Replacement| Replacement {
            range: it.range.start + header_length..it.range.end + header_length,
            bytes: it.bytes.clone(),
        };
        let replacements = self.replacements.iter().map(shift).collect();
        Self::new(replacements, header_length + self.old_length)
    }

    /// Returns `true` if nothing changes.
    pub fn is_identity(&self) -> bool {
        self.replacements.is_empty()
    }

    /// Returns the replacements, ascending.
    pub fn replacements(&self) -> &[Replacement] {
        &self.replacements
    }

    /// Returns the length of the file that the edit was made for.
    pub fn old_length(&self) -> u64 {
        self.old_length
    }

    /// Returns the length of the edited file.
    pub fn new_length(&self) -> u64 {
        self.new_length
    }

    /// Returns the edited file's content, in order.
    pub fn segments(&self) -> Vec<Segment<'_>> {
        let mut segments = Vec::with_capacity(2 * self.replacements.len() + 1);
        let mut at = 0;
        for replacement in &self.replacements {
            if at < replacement.range.start {
                segments.push(Segment::Old(at..replacement.range.start));
            }
            if !replacement.bytes.is_empty() {
                segments.push(Segment::New(&replacement.bytes));
            }
            at = replacement.range.end;
        }
        if at < self.old_length {
            segments.push(Segment::Old(at..self.old_length));
        }
        segments
    }

    /// Returns the edited file as a source, which composes each read from `source` and the new
    /// bytes.
    pub fn apply_to<'e>(&'e self, source: &'e dyn ReadAt) -> EditedSource<'e> {
        let mut start = 0;
        let segments = self
            .segments()
            .into_iter()
            .map(|segment| {
                let at = start;
                start += segment.length();
                (at, segment)
            })
            .collect();
        EditedSource {
            source,
            segments,
            length: self.new_length,
        }
    }
}

impl Segment<'_> {
    /// Returns the number of bytes of the segment.
    pub fn length(&self) -> u64 {
        match self {
            Self::Old(range) => range.end - range.start,
            Self::New(bytes) => bytes.len() as u64,
        }
    }
}

/// Edited file that has not been written; see [`Edit::apply_to`].
pub struct EditedSource<'e> {
    source: &'e dyn ReadAt,
    /// Segments with their offsets in the edited file.
    segments: Vec<(u64, Segment<'e>)>,
    length: u64,
}

impl fmt::Debug for EditedSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EditedSource")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl ReadAt for EditedSource<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        let mut index = self
            .segments
            .partition_point(|(start, _)| *start <= offset)
            .saturating_sub(1);
        while done < buffer.len() {
            let (start, segment) = self
                .segments
                .get(index)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let inside = offset + done as u64 - start;
            let left = segment.length().saturating_sub(inside);
            let count = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len() - done);
            let part = &mut buffer[done..done + count];
            match segment {
                Segment::Old(range) => self.source.read_exact_at(part, range.start + inside)?,
                Segment::New(bytes) => bytes.read_exact_at(part, inside)?,
            }
            done += count;
            index += 1;
        }
        Ok(())
    }

    fn file_offset(&self) -> u64 {
        self.source.file_offset()
    }
}
