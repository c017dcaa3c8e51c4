//! [`splice_all()`]: forwards one direction of a connection without parsing it.
//!
//! | call | effect | copies |
//! |---|---|---|
//! | `write` | sends the bytes that the reader has peeked at | - |
//! | `splice` | moves bytes from the input into cpreg's pipe | none, or one in the kernel |
//! | `splice` | moves them from the pipe to the output until the pipe is empty | the same |
//!
//! Before each wait for input, the pipe is empty and all bytes taken have been forwarded. An end or
//! an error on one side thus loses no earlier bytes. Where `splice` is not supported (some files,
//! old vsock), the bytes are read and written instead.

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

/// Size of the copy buffer in bytes, used where `splice` is not supported.
const COPY_BUFFER_LEN: usize = 256 << 10;

/// Side of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopySide {
    /// Source of the bytes.
    Input,
    /// Sink of the bytes.
    Output,
}

/// Error that ended a copy early.
#[derive(Debug)]
pub struct CopyError {
    /// Side that failed; [`CopySide::Input`] if neither side failed.
    pub side: CopySide,
    /// Cause of the failure.
    pub error: Error,
    /// Number of bytes written to the output before the error.
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

/// Counter of copied bytes, which grows during a copy.
pub trait ByteCounter {
    /// Adds bytes that were written to the output.
    fn add(&self, count: u64);
}

impl ByteCounter for AtomicU64 {
    fn add(&self, count: u64) {
        self.fetch_add(count, Ordering::Relaxed);
    }
}

/// Copies bytes until the input ends, and returns their number. `counter` grows during the copy, so
/// other threads can read it.
///
/// The output stays open, because only the caller knows if it must be finished.
///
/// # Errors
/// Returns an error if one side fails or the token is cancelled. If the input failed, all bytes
/// taken from it have been forwarded.
pub fn splice_all(
    reader: &mut Reader,
    writer: &mut Writer,
    cancel: &CancelToken,
    counter: &dyn ByteCounter,
) -> Result<u64, CopyError> {
    let mut copy = SpliceCopy {
        reader,
        writer,
        cancel,
        counter,
        copied: 0,
    };
    match copy.run() {
        Ok(()) => Ok(copy.copied),
        Err((side, error)) => Err(CopyError {
            side,
            error,
            copied: copy.copied,
        }),
    }
}

struct SpliceCopy<'c> {
    reader: &'c mut Reader,
    writer: &'c mut Writer,
    cancel: &'c CancelToken,
    counter: &'c dyn ByteCounter,
    copied: u64,
}

type CopyResult<T> = Result<T, (CopySide, Error)>;

fn input_error(error: Error) -> (CopySide, Error) {
    (CopySide::Input, error)
}

fn output_error(error: Error) -> (CopySide, Error) {
    (CopySide::Output, error)
}

/// Returns `true` if `splice` does not support the descriptor, which `splice` reports before it
/// moves any byte.
fn is_splice_unsupported(error: &Error) -> bool {
    let cause = error.cause().and_then(io::Error::raw_os_error);
    error.kind() == ErrorKind::Io && cause == Some(Errno::INVAL.raw_os_error())
}

impl SpliceCopy<'_> {
    fn run(&mut self) -> CopyResult<()> {
        let peeked = self.reader.take_peeked();
        self.write(&peeked)?;
        drop(peeked);
        if let Ok(pipe) = Pipe::new()
            && self.splice(&pipe)?
        {
            return Ok(());
        }
        self.copy()
    }

    /// Forwards with `splice`. Returns `true` at the end of the input, and `false` if `splice` is
    /// not supported. The pipe is empty in both cases.
    fn splice(&mut self, pipe: &Pipe) -> CopyResult<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            let Some(source) = self.reader.source() else {
                return Ok(true);
            };
            let received = self.reader.retry_when_ready(None, self.cancel, || {
                splice(source, None, &pipe.write_end, None, pipe.size, flags)
            });
            let received = match received {
                Ok(received) => received.unwrap_or(0),
                Err(error) if is_splice_unsupported(&error) => return Ok(false),
                Err(error) => return Err(input_error(error)),
            };
            if received == 0 {
                return Ok(true);
            }
            let mut remaining = received;
            while remaining > 0 {
                let (sink, _) = self.writer.sink().map_err(output_error)?;
                let moved = self.writer.retry_when_ready(self.cancel, || {
                    splice(&pipe.read_end, None, sink, None, remaining, flags)
                });
                match moved {
                    Ok(moved) => {
                        remaining -= moved;
                        self.count(moved);
                    }
                    Err(error) if is_splice_unsupported(&error) => {
                        self.drain_pipe(pipe, remaining)?;
                        return Ok(false);
                    }
                    Err(error) => return Err(output_error(error)),
                }
            }
        }
    }

    /// Writes the `remaining` bytes of the pipe to the output.
    fn drain_pipe(&mut self, pipe: &Pipe, mut remaining: usize) -> CopyResult<()> {
        let mut buffer = vec![0; COPY_BUFFER_LEN];
        while remaining > 0 {
            let limit = remaining.min(COPY_BUFFER_LEN);
            let count = match rustix::io::read(&pipe.read_end, &mut buffer[..limit]) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(input_error(error.into())),
            };
            self.write(&buffer[..count])?;
            remaining -= count;
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
        self.counter.add(bytes as u64);
    }
}

/// Pipe of cpreg, through which `splice` moves the bytes.
struct Pipe {
    read_end: OwnedFd,
    write_end: OwnedFd,
    /// Capacity in bytes.
    size: usize,
}

impl Pipe {
    fn new() -> rustix::io::Result<Self> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        grow_pipe(&write_end);
        let size = fcntl_getpipe_size(&write_end)?;
        Ok(Self {
            read_end,
            write_end,
            size,
        })
    }
}
