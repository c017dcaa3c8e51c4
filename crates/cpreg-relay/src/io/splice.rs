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

use super::cancel::Cancel;
use super::connection::{Reader, Writer};
use super::file::widen;
use crate::error::{Error, ErrorKind};

/// What is read at once where `splice` does not serve, in bytes.
const BUFFER: usize = 256 << 10;

/// Which side of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the bytes come from.
    Input,
    /// Where they go to.
    Output,
}

/// Why a direction ended before its end.
#[derive(Debug)]
pub struct CarryError {
    /// The side that failed; [`Side::Input`] if neither did.
    pub side: Side,
    /// How.
    pub error: Error,
    /// So many bytes had been handed to the output.
    pub carried: u64,
}

impl fmt::Display for CarryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Input => "reading",
            Side::Output => "writing",
        };
        write!(f, "{side} after {} bytes: {}", self.carried, self.error)
    }
}

/// Carries bytes until the input ends, and says how many. `counter` is added to as they go, for others to see.
///
/// The output is not finished: that is for the caller, who may know that it must not be.
///
/// # Errors
/// If one side fails or it is cancelled. All that had been taken from the input has gone on if it was the input that
/// failed.
pub fn carry(
    reader: &mut Reader,
    writer: &mut Writer,
    cancel: &Cancel,
    counter: &AtomicU64,
) -> Result<u64, CarryError> {
    let mut carrying = Carrying {
        reader,
        writer,
        cancel,
        counter,
        carried: 0,
    };
    match carrying.all() {
        Ok(()) => Ok(carrying.carried),
        Err((side, error)) => Err(CarryError {
            side,
            error,
            carried: carrying.carried,
        }),
    }
}

struct Carrying<'c> {
    reader: &'c mut Reader,
    writer: &'c mut Writer,
    cancel: &'c Cancel,
    counter: &'c AtomicU64,
    carried: u64,
}

type Outcome<T> = Result<T, (Side, Error)>;

fn input(error: Error) -> (Side, Error) {
    (Side::Input, error)
}

fn output(error: Error) -> (Side, Error) {
    (Side::Output, error)
}

/// Whether `splice` does not serve there, which it says before it has moved anything.
fn does_not_serve(error: &Error) -> bool {
    let cause = error.cause().and_then(io::Error::raw_os_error);
    error.kind() == ErrorKind::Io && cause == Some(Errno::INVAL.raw_os_error())
}

impl Carrying<'_> {
    fn all(&mut self) -> Outcome<()> {
        let looked_at = self.reader.take_looked_at();
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
    fn splice(&mut self, pipe: &Pipe) -> Outcome<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            let Some(source) = self.reader.source() else {
                return Ok(true);
            };
            let taken = self.reader.patiently(None, self.cancel, || {
                splice(source, None, &pipe.to, None, pipe.size, flags)
            });
            let taken = match taken {
                Ok(taken) => taken.unwrap_or(0),
                Err(error) if does_not_serve(&error) => return Ok(false),
                Err(error) => return Err(input(error)),
            };
            if taken == 0 {
                return Ok(true);
            }
            let mut left = taken;
            while left > 0 {
                let (sink, _) = self.writer.sink().map_err(output)?;
                let moved = self.writer.patiently(self.cancel, || {
                    splice(&pipe.from, None, sink, None, left, flags)
                });
                match moved {
                    Ok(moved) => {
                        left -= moved;
                        self.count(moved);
                    }
                    Err(error) if does_not_serve(&error) => {
                        self.empty(pipe, left)?;
                        return Ok(false);
                    }
                    Err(error) => return Err(output(error)),
                }
            }
        }
    }

    /// Writes what is left in the pipe.
    fn empty(&mut self, pipe: &Pipe, mut left: usize) -> Outcome<()> {
        let mut buffer = vec![0; BUFFER];
        while left > 0 {
            let most = left.min(BUFFER);
            let count = match rustix::io::read(&pipe.from, &mut buffer[..most]) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(input(error.into())),
            };
            self.write(&buffer[..count])?;
            left -= count;
        }
        Ok(())
    }

    fn copy(&mut self) -> Outcome<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = self.reader.read(&mut buffer, self.cancel);
            match count.map_err(input)? {
                0 => return Ok(()),
                count => self.write(&buffer[..count])?,
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Outcome<()> {
        while !bytes.is_empty() {
            let count = self.writer.write(bytes, self.cancel).map_err(output)?;
            self.count(count);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) {
        self.carried += bytes as u64;
        self.counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A pipe of our own, through which `splice` goes.
struct Pipe {
    from: OwnedFd,
    to: OwnedFd,
    /// What fits into it, in bytes.
    size: usize,
}

impl Pipe {
    fn new() -> rustix::io::Result<Self> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        widen(&to);
        let size = fcntl_getpipe_size(&to)?;
        Ok(Self { from, to, size })
    }
}
