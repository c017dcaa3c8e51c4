//! Copies byte ranges of one file into another. Holes stay holes, and the kernel copies the bytes
//! where it can.
//!
//! The copied bytes are on their way to the disk while the copy continues ([`Writeback`]), so that
//! the sync at the end waits only for the last ones. [`crate::write`] and [`crate::prefix_copy`]
//! choose the ranges.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::os;
use crate::source::ReadAt;

/// Maximum number of bytes copied between two progress reports, and between two starts of the
/// write-back.
pub(crate) const PIECE_LEN: u64 = 4 << 20;
/// Length in bytes of the copy buffer, used where the kernel cannot copy.
const BUFFER_LEN: usize = 1 << 20;
/// Length and alignment in bytes of zeros that become holes where the filesystem reports no holes.
const HOLE_LEN: usize = 4 << 10;

/// Reason why a copy stopped.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(u64, io::Error),
    Write(io::Error),
}

/// Makes `to` share all blocks of `from`; returns `false` if the filesystem cannot do that.
#[cfg(target_os = "linux")]
pub(crate) fn share_all(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Returns `false`: other systems cannot share blocks with an open file.
#[cfg(not(target_os = "linux"))]
pub(crate) fn share_all(_from: &File, _to: &File) -> bool {
    false
}

/// Copies the bytes `range` of `from` to offset `at` of `to`, which must be a hole.
///
/// Calls `progress` with the number of bytes copied or skipped since the last call.
pub(crate) fn copy(
    from: &dyn ReadAt,
    range: Range<u64>,
    to: &File,
    at: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), CopyError> {
    let file = from.as_file();
    let mut writeback = Writeback::default();
    let mut start = range.start;
    while start < range.end {
        let data = match file {
            Some(file) => next_data(file, start..range.end),
            None => start..range.end,
        };
        progress(data.start - start);
        let mut position = data.start;
        while position < data.end {
            let end = data.end.min(position + PIECE_LEN);
            let target = at + (position - range.start);
            let copied = match file {
                Some(file) => move_data(file, position..end, to, target)?,
                None => 0,
            };
            if copied == 0 {
                read_and_write(from, position..end, to, target, progress)?;
                position = end;
            } else {
                progress(copied);
                position += copied;
            }
            writeback.add(to, target..at + (position - range.start));
        }
        start = data.end;
    }
    Ok(())
}

/// Copied bytes that no write-back has started for.
#[derive(Default)]
struct Writeback {
    /// Offset of the first of these bytes in the new file.
    start: u64,
    count: u64,
}

impl Writeback {
    /// Adds bytes of the file, and starts the write-back once there are [`PIECE_LEN`] bytes.
    ///
    /// A data range may have one page only. A start of the write-back for each would cost more than
    /// the copy.
    fn add(&mut self, file: &File, range: Range<u64>) {
        if self.count == 0 {
            self.start = range.start;
        }
        self.count += range.end - range.start;
        if self.count >= PIECE_LEN {
            start_writeback(file, self.start..range.end);
            self.count = 0;
        }
    }
}

/// Makes the kernel write the bytes to the disk, without waiting for it.
#[cfg(target_os = "linux")]
fn start_writeback(file: &File, range: Range<u64>) {
    use std::num::NonZeroU64;

    use rustix::fs::{Advice, fadvise};

    // The advice starts the write-back of dirty pages and drops clean ones. So it does not drop
    // these pages, which have just become dirty. If it fails, the sync writes everything.
    let length = NonZeroU64::new(range.end - range.start);
    let _ = fadvise(file, range.start, length, Advice::DontNeed);
}

/// Does nothing: the sync writes everything.
#[cfg(not(target_os = "linux"))]
fn start_writeback(_file: &File, _range: Range<u64>) {}

/// Returns the next data range; it is empty at the end of `range` if only a hole follows.
#[cfg(target_os = "linux")]
fn next_data(file: &File, range: Range<u64>) -> Range<u64> {
    use rustix::fs::{SeekFrom, seek};

    let start = match seek(file, SeekFrom::Data(range.start)) {
        Ok(start) => start.min(range.end),
        // Only a hole follows up to the end of the file.
        Err(rustix::io::Errno::NXIO) => range.end,
        Err(_) => return range,
    };
    if start == range.end {
        return start..start;
    }
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(range.end);
    start..end.clamp(start + 1, range.end)
}

#[cfg(not(target_os = "linux"))]
fn next_data(_file: &File, range: Range<u64>) -> Range<u64> {
    range
}

/// Makes the kernel copy `range`; returns the number of bytes copied, 0 if the kernel cannot copy.
#[cfg(target_os = "linux")]
fn move_data(from: &File, range: Range<u64>, to: &File, at: u64) -> Result<u64, CopyError> {
    use rustix::io::Errno;

    let (mut read, mut write) = (range.start, at);
    let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), count) {
        Ok(copied) => Ok(copied as u64),
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            Err(CopyError::Write(error.into()))
        }
        // The read and write that follow report any other error that matters.
        Err(_) => Ok(0),
    }
}

#[cfg(not(target_os = "linux"))]
fn move_data(_: &File, _: Range<u64>, _: &File, _: u64) -> Result<u64, CopyError> {
    Ok(0)
}

fn read_and_write(
    from: &dyn ReadAt,
    range: Range<u64>,
    to: &File,
    at: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<(), CopyError> {
    let mut buffer = Vec::new();
    let mut position = range.start;
    while position < range.end {
        let count = usize::try_from(range.end - position)
            .unwrap_or(usize::MAX)
            .min(BUFFER_LEN);
        buffer.resize(count, 0);
        from.read_exact_at(&mut buffer, position)
            .map_err(|error| CopyError::Read(position, error))?;
        let target = at + (position - range.start);
        for (index, chunk) in buffer.chunks(HOLE_LEN).enumerate() {
            if chunk.iter().any(|byte| *byte != 0) {
                let target = target + (index * HOLE_LEN) as u64;
                os::write_all_at(to, chunk, target).map_err(CopyError::Write)?;
            }
        }
        position += count as u64;
        progress(count as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writeback_starts_for_whole_pieces() {
        let file = tempfile::tempfile().unwrap();
        let mut writeback = Writeback::default();
        let page = 4096;
        // Every second page holds data.
        for index in 0..PIECE_LEN / page - 1 {
            let start = 2 * index * page;
            writeback.add(&file, start..start + page);
            assert_eq!((writeback.start, writeback.count), (0, (index + 1) * page));
        }
        let end = 2 * PIECE_LEN;
        writeback.add(&file, end - 2 * page..end - page);
        assert_eq!(writeback.count, 0);
        writeback.add(&file, end..end + page);
        assert_eq!((writeback.start, writeback.count), (end, page));
    }
}
