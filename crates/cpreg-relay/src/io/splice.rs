//! [`carry()`]: one direction of a connection whose bytes nobody looks at.
//!
//! | step | what | copies |
//! |---|---|---|
//! | `write` | what somebody looked at before | - |
//! | `splice` | from the input into a pipe of our own | none, or one in the kernel |
//! | `splice` | from the pipe to the output, until the pipe is empty | none, or one in the kernel |
//!
//! Between two waits the pipe is empty: what has been taken has gone on, so an end or a fault on the one side loses nothing
//! of what came before. Where `splice` does not serve (some files, old vsock), the bytes are read and written instead.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, pipe_with, splice};

use super::cancel::CancelToken;
use super::connection::{Reader, Writer};
use super::file::grow_pipe;
use crate::error::{Error, ErrorKind};

/// What is read at once where `splice` does not serve, in bytes.
const COPY_BUFFER_LEN: usize = 256 << 10;

/// Which side of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopySide {
    /// Where the bytes come from.
    Input,
    /// Where they go to.
    Output,
}

/// Why a direction ended before its end.
#[derive(Debug)]
pub struct CopyError {
    /// The side that failed; [`Side::Input`] if neither did.
    pub side: CopySide,
    /// How.
    pub error: Error,
    /// So many bytes had been handed to the output.
    pub copied: u64,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            CopySide::Input => "reading",
            CopySide::Output => "writing",
        };
        write!(f, "{side} after {} bytes: {}", self.copied, self.error)
    }
}

/// Carries bytes until the input ends, and says how many. `counter` is added to as they go, for others to see.
///
/// The output is not finished: that is for the caller, who may know that it must not be.
///
/// # Errors
/// If one side fails or it is cancelled. All that had been taken from the input has gone on if it was the input that
/// failed.
pub fn splice_all(
    reader: &mut Reader,
    writer: &mut Writer,
    cancel: &CancelToken,
    counter: &AtomicU64,
) -> Result<u64, CopyError> {
    let mut carrying = SpliceCopy {
        reader,
        writer,
        cancel,
        counter,
        copied: 0,
    };
    match carrying.run() {
        Ok(()) => Ok(carrying.copied),
        Err((side, error)) => Err(CopyError {
            side,
            error,
            copied: carrying.copied,
        }),
    }
}

struct SpliceCopy<'c> {
    reader: &'c mut Reader,
    writer: &'c mut Writer,
    cancel: &'c CancelToken,
    counter: &'c AtomicU64,
    copied: u64,
}

type CopyResult<T> = Result<T, (CopySide, Error)>;

fn input_error(error: Error) -> (CopySide, Error) {
    (CopySide::Input, error)
}

fn output_error(error: Error) -> (CopySide, Error) {
    (CopySide::Output, error)
}

/// Whether `splice` does not serve there, which it says before it has moved anything.
fn is_splice_unsupported(error: &Error) -> bool {
    let cause = error.cause().and_then(io::Error::raw_os_error);
    error.kind() == ErrorKind::Io && cause == Some(Errno::INVAL.raw_os_error())
}

impl SpliceCopy<'_> {
    fn run(&mut self) -> CopyResult<()> {
        let looked_at = self.reader.take_peeked();
        self.write(&looked_at)?;
        drop(looked_at);
        if let Ok(pipe) = Pipe::new()
            && self.splice(&pipe)?
        {
            return Ok(());
        }
        self.copy()
    }

    /// Whether it got to the end; if not, `splice` does not serve, and nothing is left in the pipe.
    fn splice(&mut self, pipe: &Pipe) -> CopyResult<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            let Some(source) = self.reader.source() else {
                return Ok(true);
            };
            let taken = self.reader.retry_when_ready(None, self.cancel, || {
                splice(source, None, &pipe.write_end, None, pipe.size, flags)
            });
            let taken = match taken {
                Ok(taken) => taken.unwrap_or(0),
                Err(error) if is_splice_unsupported(&error) => return Ok(false),
                Err(error) => return Err(input_error(error)),
            };
            if taken == 0 {
                return Ok(true);
            }
            let mut left = taken;
            while left > 0 {
                let (sink, _) = self.writer.sink().map_err(output_error)?;
                let moved = self.writer.retry_when_ready(self.cancel, || {
                    splice(&pipe.read_end, None, sink, None, left, flags)
                });
                match moved {
                    Ok(moved) => {
                        left -= moved;
                        self.count(moved);
                    }
                    Err(error) if is_splice_unsupported(&error) => {
                        self.empty(pipe, left)?;
                        return Ok(false);
                    }
                    Err(error) => return Err(output_error(error)),
                }
            }
        }
    }

    /// Writes what is left in the pipe.
    fn empty(&mut self, pipe: &Pipe, mut left: usize) -> CopyResult<()> {
        let mut buffer = vec![0; COPY_BUFFER_LEN];
        while left > 0 {
            let most = left.min(COPY_BUFFER_LEN);
            let count = match rustix::io::read(&pipe.read_end, &mut buffer[..most]) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(input_error(error.into())),
            };
            self.write(&buffer[..count])?;
            left -= count;
        }
        Ok(())
    }

    fn copy(&mut self) -> CopyResult<()> {
        let mut buffer = vec![0; COPY_BUFFER_LEN];
        loop {
            let count = self.reader.read(&mut buffer, self.cancel);
            match count.map_err(input_error)? {
                0 => return Ok(()),
                count => self.write(&buffer[..count])?,
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> CopyResult<()> {
        while !bytes.is_empty() {
            let count = self
                .writer
                .write(bytes, self.cancel)
                .map_err(output_error)?;
            self.count(count);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) {
        self.copied += bytes as u64;
        self.counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A pipe of our own, through which `splice` goes.
struct Pipe {
    read_end: OwnedFd,
    write_end: OwnedFd,
    /// What fits into it, in bytes.
    size: usize,
}

impl Pipe {
    fn new() -> rustix::io::Result<Self> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        grow_pipe(&to);
        let size = fcntl_getpipe_size(&to)?;
        Ok(Self {
            read_end: from,
            write_end: to,
            size,
        })
    }
}
