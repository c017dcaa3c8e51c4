//! Copying stretches of one file into another: holes stay holes, and the kernel moves the bytes
//! where it can.
//!
//! Which stretches, and what happens to the file afterwards, lives in [`crate::write`].

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::os;
use crate::source::ReadAt;

/// How much is copied between two reports of progress.
const PROGRESS_INTERVAL_BYTES: u64 = 64 << 20;
/// The buffer where bytes must be read and written.
const BUFFER_LEN: usize = 1 << 20;
/// Zeros of this length and alignment are left as holes where holes cannot be asked for.
const HOLE_LEN: usize = 4 << 10;

/// Why a copy stopped.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(u64, io::Error),
    Write(io::Error),
}

/// Makes `to` share all blocks of `from`, if the filesystem can do that.
#[cfg(target_os = "linux")]
pub(crate) fn share_all(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// No other system has it in a form that fills an open file.
#[cfg(not(target_os = "linux"))]
pub(crate) fn share_all(_from: &File, _to: &File) -> bool {
    false
}

/// Copies the bytes `range` of `from` to offset `at` of `to`, where there is nothing yet.
///
/// Calls `done` with the bytes that were copied or skipped since the last call.
pub(crate) fn copy(
    from: &dyn ReadAt,
    range: Range<u64>,
    to: &File,
    at: u64,
    done: &mut dyn FnMut(u64),
) -> Result<(), CopyError> {
    let Some(file) = from.as_file() else {
        return read_and_write(from, range, to, at, done);
    };
    let mut start = range.start;
    while start < range.end {
        let data = next_data(file, start..range.end);
        done(data.start - start);
        let mut position = data.start;
        while position < data.end {
            let end = data.end.min(position + PROGRESS_INTERVAL_BYTES);
            let target = at + (position - range.start);
            let copied = move_data(file, position..end, to, target)?;
            if copied == 0 {
                read_and_write(from, position..end, to, target, done)?;
                position = end;
            } else {
                done(copied);
                position += copied;
            }
        }
        start = data.end;
    }
    Ok(())
}

/// The next stretch that is no hole; empty at the end of `range` if there is none.
#[cfg(target_os = "linux")]
fn next_data(file: &File, range: Range<u64>) -> Range<u64> {
    use rustix::fs::{SeekFrom, seek};

    let start = match seek(file, SeekFrom::Data(range.start)) {
        Ok(start) => start.min(range.end),
        // Nothing but a hole up to the end of the file.
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

/// Lets the kernel copy; says how much it did, 0 if it cannot.
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
        // Whatever else is wrong shows when the bytes are read and written, if it is wrong there.
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
    done: &mut dyn FnMut(u64),
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
        done(count as u64);
    }
    Ok(())
}
