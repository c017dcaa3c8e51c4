//! [`Window`]: the bytes of a stream that the caller shows to the parser.

use std::io;

use crate::source::ReadAt;

/// Window of a stream's bytes at their offsets.
pub(super) struct Window<'w> {
    pub(super) start: u64,
    pub(super) bytes: &'w [u8],
}

impl Window<'_> {
    /// Returns the bytes from this offset on.
    pub(super) fn bytes_from(&self, offset: u64) -> Option<&[u8]> {
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

/// Converts a number of bytes in a window, which is in memory.
pub(super) fn index(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
