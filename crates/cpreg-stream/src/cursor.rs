//! [`Cursor`]: sequential reads of big-endian numbers and names through a window.
//!
//! The cursor reads only on demand and only within its range. The window bounds the memory in use.

use crate::error::{Error, ErrorKind};
use crate::source::ReadAt;

/// Length of the window for a read of all bytes in order.
pub(crate) const LARGE_WINDOW_LEN: usize = 256 << 10;
/// Length of the window for a read of a few separate fields.
pub(crate) const SMALL_WINDOW_LEN: usize = 4 << 10;

/// Position in a source, and a window of the source's bytes around that position.
pub(crate) struct Cursor<'s> {
    source: &'s dyn ReadAt,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
    window_size: usize,
    /// `true` if the source still grows: the cursor can skip bytes past the end now.
    is_partial: bool,
}

impl<'s> Cursor<'s> {
    /// Reads the bytes from `start` to `end`, `window_size` at a time.
    pub(crate) fn new(source: &'s dyn ReadAt, start: u64, end: u64, window_size: usize) -> Self {
        Self {
            source,
            position: start,
            end,
            window: Vec::new(),
            window_start: start,
            window_size,
            is_partial: false,
        }
    }

    /// Reads the bytes from `start` to `end` of a source that still grows.
    ///
    /// Bytes after the end can be skipped before they arrive. A read past the end fails with
    /// [`ErrorKind::Truncated`] and leaves the position unchanged.
    pub(crate) fn for_partial_source(source: &'s dyn ReadAt, start: u64, end: u64) -> Self {
        Self {
            is_partial: true,
            ..Self::new(source, start, end, SMALL_WINDOW_LEN)
        }
    }

    pub(crate) fn source(&self) -> &'s dyn ReadAt {
        self.source
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.position >= self.end
    }

    /// Moves to an absolute offset. A read at an offset out of range fails.
    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Returns the next `count` bytes and moves past them; `count` is at most the window's length.
    pub(crate) fn take(&mut self, count: usize) -> Result<&[u8], Error> {
        let start = self.fill(count)?;
        self.position += count as u64;
        Ok(&self.window[start..start + count])
    }

    /// Returns the next `count` bytes without moving.
    pub(crate) fn peek(&mut self, count: usize) -> Result<&[u8], Error> {
        let start = self.fill(count)?;
        Ok(&self.window[start..start + count])
    }

    /// Fills the window with at least `count` bytes; returns the index in the window of the first
    /// one.
    fn fill(&mut self, count: usize) -> Result<usize, Error> {
        debug_assert!(count <= self.window_size);
        let available = self
            .position
            .checked_sub(self.window_start)
            .and_then(|offset| usize::try_from(offset).ok())
            .filter(|offset| {
                offset
                    .checked_add(count)
                    .is_some_and(|end| end <= self.window.len())
            });
        if let Some(offset) = available {
            return Ok(offset);
        }
        let left = self.end.saturating_sub(self.position);
        if (count as u64) > left {
            let missing = count as u64 - left;
            return Err(Error::truncated(self.position, self.end, missing));
        }
        let size = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.window_size);
        self.window.resize(size, 0);
        self.window_start = self.position;
        if let Err(error) = self.source.read_exact_at(&mut self.window, self.position) {
            self.window.clear();
            return Err(Error::io("cannot read", error).at_offset(self.position));
        }
        Ok(0)
    }

    /// Moves past `count` bytes without reading them.
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), Error> {
        let left = self.end.saturating_sub(self.position);
        if count > left && !self.is_partial {
            return Err(Error::truncated(self.position, self.end, count - left));
        }
        self.position = self.position.checked_add(count).ok_or_else(|| {
            Error::malformed(self.position, "the length exceeds that of any stream")
        })?;
        Ok(())
    }

    pub(crate) fn read_u8(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn read_be16(&mut self) -> Result<u16, Error> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn read_be32(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn read_be64(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        let mut number = [0; 8];
        number.copy_from_slice(bytes);
        Ok(u64::from_be_bytes(number))
    }

    /// Reads a name: one byte with its length, then that number of printable ASCII characters.
    pub(crate) fn read_name(&mut self) -> Result<String, Error> {
        let start = self.position;
        let length = self.read_u8()?;
        self.read_text(usize::from(length), start)
    }

    /// Reads `length` printable ASCII characters of a name that began at `start`.
    pub(crate) fn read_text(&mut self, length: usize, start: u64) -> Result<String, Error> {
        if length == 0 {
            return Err(Error::malformed(start, "the name is empty"));
        }
        let bytes = self.take(length)?;
        if !is_name(bytes) {
            return Err(Error::malformed(
                start,
                "the name has bytes that are not printable ASCII",
            ));
        }
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Returns `true` if these bytes can be a name.
///
/// QEMU makes its names from identifiers, paths and numbers.
pub(crate) fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| (0x20..0x7f).contains(byte))
}

/// Reads exactly `count` bytes into memory. The caller bounds `count`.
pub(crate) fn read_bytes(source: &dyn ReadAt, start: u64, count: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; count];
    source
        .read_exact_at(&mut bytes, start)
        .map_err(|error| Error::io("cannot read", error).at_offset(start))?;
    Ok(bytes)
}

/// Returns the length of a source.
pub(crate) fn length(source: &dyn ReadAt) -> Result<u64, Error> {
    source.length().map_err(|error| match error.kind() {
        std::io::ErrorKind::IsADirectory => {
            Error::new(ErrorKind::NotAStream, "this is a directory")
                .with_hint("give the path of a file in it")
        }
        std::io::ErrorKind::NotSeekable => Error::new(
            ErrorKind::Io,
            "a pipe or a terminal cannot be read out of order",
        )
        .with_hint("save the stream to a file first"),
        _ => Error::io("cannot get the file's length", error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let bytes: Vec<u8> = (0..64).collect();
        let mut cursor = Cursor::new(&bytes, 8, 16, 4);
        assert_eq!(cursor.read_be32().unwrap(), 0x0809_0a0b);
        assert_eq!(cursor.peek(2).unwrap(), [12, 13]);
        cursor.skip(2).unwrap();
        assert_eq!(cursor.read_be16().unwrap(), 0x0e0f);
        assert!(cursor.is_at_end());
        let error = cursor.read_u8().unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (ErrorKind::Truncated, Some(16))
        );
        assert!(cursor.skip(1).is_err());
        cursor.seek(9);
        assert_eq!(cursor.read_u8().unwrap(), 9);
    }

    #[test]
    fn skips_bytes_that_have_not_arrived() {
        let bytes = vec![0; 8];
        let mut cursor = Cursor::for_partial_source(&bytes, 0, 8);
        cursor.skip(6).unwrap();
        let error = cursor.read_be32().unwrap_err();
        assert_eq!((error.kind(), cursor.position()), (ErrorKind::Truncated, 6));
        cursor.skip(1 << 40).unwrap();
        assert_eq!(cursor.position(), (1 << 40) + 6);
        assert_eq!(cursor.read_u8().unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(
            cursor.skip(u64::MAX).unwrap_err().kind(),
            ErrorKind::Malformed
        );
    }

    #[test]
    fn names_are_printable() {
        let bytes = b"\x03ram\x00\x02a\n".to_vec();
        let mut cursor = Cursor::new(&bytes, 0, 8, 64);
        assert_eq!(cursor.read_name().unwrap(), "ram");
        assert_eq!(cursor.read_name().unwrap_err().kind(), ErrorKind::Malformed);
        assert_eq!(cursor.read_name().unwrap_err().offset(), Some(5));
    }
}
