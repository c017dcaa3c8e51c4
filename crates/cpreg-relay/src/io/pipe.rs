//! From pipe to pipe: the bytes that pass are moved by the kernel and never written from here.
//!
//! | step | what | copies |
//! |---|---|---|
//! | `tee` | the input's pages appear in a pipe of our own as well, and stay in the input | none |
//! | `read` | from our own pipe into the buffer that the engine goes over | one |
//! | `splice` | what may pass goes from the input to the output | none |
//! | `read` | what may not: the begin of a record whose end has not come, device state | one, of little |
//!
//! `cat` copies each byte twice. What may pass is decided by the [`Flow`].

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, pipe_with, splice, tee};

use cpreg_stream::Error;
use cpreg_stream::incremental::{IncrementalParser, Phase};

use super::file::{BlockingFd, grow_pipe, wait};

/// Size of a piece, in bytes: it stays in the processor's cache until it has gone on.
const CHUNK_LEN: usize = 256 << 10;

/// A pipe of our own into which the input is teed.
pub(super) struct TeePipe {
    read_end: File,
    write_end: OwnedFd,
}

impl TeePipe {
    /// A pipe, if these two are pipes.
    pub(super) fn for_pipes(input: &File, output: &File) -> Option<Self> {
        fcntl_getpipe_size(input).ok()?;
        fcntl_getpipe_size(output).ok()?;
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        grow_pipe(&to);
        Some(Self {
            read_end: from.into(),
            write_end: to,
        })
    }

    /// Carries a stream up to where its device state begins, or to its end, or where `tee` and `splice` do not serve. What
    /// it gives then has been taken from the input and has neither passed nor been held back.
    pub(super) fn forward(
        mut self,
        input: &File,
        output: &File,
        flow: &mut IncrementalParser,
        tell: &mut dyn FnMut(Phase, u64),
    ) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        let mut carried = 0;
        while flow.phase() < Phase::DeviceState {
            buffer.resize(buffer.len().max(carried + CHUNK_LEN), 0);
            let teed = retry_when_ready(input, PollFlags::IN, || {
                tee(input, &self.write_end, CHUNK_LEN, SpliceFlags::empty())
            });
            let count = match teed {
                // Its end, which is seen once more; or nothing that can be teed.
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let end = carried + count;
            self.read_end
                .read_exact(&mut buffer[carried..end])
                .map_err(|error| Error::from_read_error(flow.offset() + carried as u64, error))?;
            let taken = flow.feed(&buffer[..end], false)?;

            let from_buffer = taken.forward.min(carried);
            BlockingFd(output)
                .write_all(&buffer[..from_buffer])
                .map_err(Error::from_write_error)?;
            let mut moved = carried.max(taken.forward);
            splice_exact(input, output, moved - carried).map_err(Error::from_write_error)?;
            // What stays is taken from the input: it is in the buffer already, and comes once more.
            moved = moved.min(end);
            BlockingFd(input)
                .read_exact(&mut buffer[moved..end])
                .map_err(|error| {
                    Error::from_read_error(flow.offset() + (end - moved) as u64, error)
                })?;
            let gone = taken.forward + taken.buffered;
            buffer.copy_within(gone..end, 0);
            carried = end - gone;
            tell(flow.phase(), flow.offset());
        }
        buffer.truncate(carried);
        Ok(buffer)
    }
}

/// Moves so many bytes, which are there, from one pipe to the other.
fn splice_exact(input: impl AsFd, output: impl AsFd, count: usize) -> io::Result<()> {
    let mut left = count;
    while left > 0 {
        let moved = retry_when_ready(&output, PollFlags::OUT, || {
            let flags = SpliceFlags::MOVE;
            splice(&input, None, &output, None, left, flags)
        })?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left -= moved;
    }
    Ok(())
}

/// Calls until no signal comes between, and waits for a pipe that whoever opened it made one that does not wait.
fn retry_when_ready<T>(
    pipe: impl AsFd,
    until: PollFlags,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&pipe, until)?,
            other => return other,
        }
    }
}
