//! [`ReadAt`]: random access to the bytes of a stream.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::os;

/// Bytes that can be read at any offset, in any order.
pub trait ReadAt {
    /// Returns the number of bytes.
    ///
    /// # Errors
    /// The error of the operating system, or an error if the source has no length (a pipe, a
    /// directory).
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If the source cannot supply all bytes; the content of `buffer` is unspecified after an
    /// error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Returns the file if the bytes are exactly its content.
    ///
    /// The kernel can copy the content of a file without a read into memory.
    fn as_file(&self) -> Option<&File> {
        None
    }

    /// Returns the offset of the first byte in the file that QEMU wrote.
    ///
    /// The offset is not zero for a stream that another program has put behind a header. The
    /// offsets in a mapped-ram stream count from the beginning of that file.
    fn file_offset(&self) -> u64 {
        0
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn as_file(&self) -> Option<&File> {
        (**self).as_file()
    }

    fn file_offset(&self) -> u64 {
        (**self).file_offset()
    }
}

impl ReadAt for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        os::length(self)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        os::read_exact_at(self, buffer, offset)
    }

    fn as_file(&self) -> Option<&File> {
        Some(self)
    }
}

/// Counter of bytes and calls of a source, for tests and benchmarks.
#[derive(Debug, Default)]
pub struct CountingSource<T> {
    inner: T,
    bytes: AtomicU64,
    calls: AtomicU64,
}

impl<T> CountingSource<T> {
    /// Wraps `inner`; the counts begin at zero.
    pub const fn new(inner: T) -> Self {
        Self {
            inner,
            bytes: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// Returns the number of bytes read so far. A byte that is read twice counts as two.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of reads so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl<T: ReadAt> ReadAt for CountingSource<T> {
    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.read_exact_at(buffer, offset)
    }

    fn file_offset(&self) -> u64 {
        self.inner.file_offset()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_within_bounds_only() {
        let bytes: &[u8] = b"abcdef";
        let counting = CountingSource::new(bytes);
        let mut buffer = [0; 2];
        counting.read_exact_at(&mut buffer, 4).unwrap();
        assert_eq!(&buffer, b"ef");
        assert!(counting.read_exact_at(&mut buffer, 5).is_err());
        assert!(counting.read_exact_at(&mut buffer, u64::MAX).is_err());
        assert_eq!((counting.bytes(), counting.calls()), (6, 3));
    }

    #[cfg(unix)]
    #[test]
    fn directory_has_no_length() {
        let directory = File::open("/").unwrap();
        assert_eq!(
            ReadAt::length(&directory).unwrap_err().kind(),
            io::ErrorKind::IsADirectory
        );
    }
}
