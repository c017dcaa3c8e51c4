//! Forwarding from pipe to pipe: the kernel moves nearly all bytes, and cpreg only reads a copy.
//!
//! | call | effect | copies |
//! |---|---|---|
//! | `tee` | the input's pages also appear in cpreg's pipe, and stay in the input | none |
//! | `read` | from cpreg's pipe into the buffer of the parser | one |
//! | `splice` | forwarded bytes move from the input to the output | none |
//! | `read` | bytes not forwarded yet: the start of an incomplete record, device state | one |
//!
//! For comparison, `cat` copies each byte twice. The [`IncrementalParser`] decides which bytes are
//! forwarded.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, pipe_with, splice, tee};

use cpreg_stream::Error;
use cpreg_stream::incremental::{IncrementalParser, Phase};

use super::file::{BlockingFd, grow_pipe, wait};

/// Size in bytes of a chunk, which stays in the CPU cache until the kernel has forwarded it.
const CHUNK_LEN: usize = 256 << 10;

/// Pipe of cpreg that receives a copy of the input.
pub(super) struct TeePipe {
    read_end: File,
    write_end: OwnedFd,
}

impl TeePipe {
    /// Creates the pipe if both files are pipes.
    pub(super) fn for_pipes(input: &File, output: &File) -> Option<Self> {
        fcntl_getpipe_size(input).ok()?;
        fcntl_getpipe_size(output).ok()?;
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        grow_pipe(&write_end);
        Some(Self {
            read_end: read_end.into(),
            write_end,
        })
    }

    /// Forwards a stream up to its device state, its end, or a file that does not support `tee` or
    /// `splice`.
    ///
    /// `unparsed` are the bytes that were taken from the input but neither forwarded nor buffered.
    /// Returns those of the end.
    pub(super) fn forward(
        mut self,
        input: &File,
        output: &File,
        parser: &mut IncrementalParser,
        unparsed: Vec<u8>,
        on_progress: &mut dyn FnMut(Phase, u64),
    ) -> Result<Vec<u8>, Error> {
        let mut pending = unparsed.len();
        let mut buffer = unparsed;
        while parser.phase() < Phase::DeviceState {
            buffer.resize(buffer.len().max(pending + CHUNK_LEN), 0);
            let teed = retry_when_ready(input, PollFlags::IN, || {
                tee(input, &self.write_end, CHUNK_LEN, SpliceFlags::empty())
            });
            let count = match teed {
                // The input has ended or does not support `tee`. The caller continues with `read`.
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let end = pending + count;
            self.read_end
                .read_exact(&mut buffer[pending..end])
                .map_err(|error| Error::from_read_error(parser.offset() + pending as u64, error))?;
            let consumed = parser.feed(&buffer[..end], false)?;

            let from_buffer = consumed.forward.min(pending);
            BlockingFd(output)
                .write_all(&buffer[..from_buffer])
                .map_err(Error::from_write_error)?;
            let mut removed = pending.max(consumed.forward);
            splice_exact(input, output, removed - pending).map_err(Error::from_write_error)?;
            // The buffer already has the other bytes of the chunk; remove them from the input.
            removed = removed.min(end);
            BlockingFd(input)
                .read_exact(&mut buffer[removed..end])
                .map_err(|error| {
                    Error::from_read_error(parser.offset() + (end - removed) as u64, error)
                })?;
            let consumed_len = consumed.forward + consumed.buffered;
            buffer.copy_within(consumed_len..end, 0);
            pending = end - consumed_len;
            on_progress(parser.phase(), parser.offset());
        }
        buffer.truncate(pending);
        Ok(buffer)
    }
}

/// Moves `count` available bytes from one pipe to the other.
fn splice_exact(input: impl AsFd, output: impl AsFd, count: usize) -> io::Result<()> {
    let mut remaining = count;
    while remaining > 0 {
        let moved = retry_when_ready(&output, PollFlags::OUT, || {
            let flags = SpliceFlags::MOVE;
            splice(&input, None, &output, None, remaining, flags)
        })?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        remaining -= moved;
    }
    Ok(())
}

/// Retries a call on `EINTR`, and waits for a non-blocking pipe.
fn retry_when_ready<T>(
    pipe: impl AsFd,
    flags: PollFlags,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&pipe, flags)?,
            other => return other,
        }
    }
}
