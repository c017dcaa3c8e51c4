//! From a reader to a writer: what may pass passes, the rest is held back.
//!
//! One buffer is read into and written from; nothing is moved in it but the begin of a record whose end has not come.
//! What may pass is decided in [`super::engine`]. Between two pipes the kernel moves the bytes: `super::pipes`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::engine::{Flow, cannot_write};
use super::{Held, Phase};
use crate::error::Error;

/// What is read at once: it stays in the processor's cache until it has been written.
pub(super) const BUFFER: usize = 256 << 10;
/// What a pipe is asked to hold, in bytes: the most that Linux gives to everybody.
const PIPE: usize = 1 << 20;

/// A stream on its way, and the bytes that wait for more.
pub(super) struct Pumped {
    pub(super) flow: Flow,
    pub(super) buffer: Vec<u8>,
    /// So many bytes of the buffer have come and not gone.
    pub(super) filled: usize,
}

impl Pumped {
    fn new() -> Self {
        Self {
            flow: Flow::new(),
            buffer: vec![0; BUFFER],
            filled: 0,
        }
    }

    fn pump(
        mut self,
        input: &mut dyn Read,
        output: &mut dyn Write,
        tell: &mut dyn FnMut(Phase, u64),
    ) -> Result<Held, Error> {
        loop {
            if self.filled == self.buffer.len() {
                // Something long before the pages; how long it may be is the engine's to say.
                self.buffer.resize(2 * self.filled, 0);
            }
            let count = match input.read(&mut self.buffer[self.filled..]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cannot_read(&self.flow, self.filled, error)),
            };
            self.filled += count;
            let taken = self.flow.go_over(&self.buffer[..self.filled], count == 0)?;
            output
                .write_all(&self.buffer[..taken.pass])
                .map_err(cannot_write)?;
            let gone = taken.pass + taken.held;
            self.buffer.copy_within(gone..self.filled, 0);
            self.filled -= gone;
            tell(self.flow.phase(), self.flow.offset());
            if count == 0 {
                output.flush().map_err(cannot_write)?;
                return self.flow.finish();
            }
        }
    }
}

/// Carries a stream from `input` to `output` up to its device state, which is held back until all of it has come.
///
/// `tell` hears the phase and the number of bytes that have passed, after each piece.
///
/// # Errors
/// Those of [`Flow::go_over`] and [`Flow::finish`], and if something cannot be read or written. What has been written
/// then is no complete stream.
pub fn pump(
    input: &mut dyn Read,
    output: &mut dyn Write,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<Held, Error> {
    Pumped::new().pump(input, output, tell)
}

/// The same between files, pipes and sockets; between two pipes at less cost.
///
/// # Errors
/// Those of [`pump`].
pub fn pump_files(
    input: &File,
    output: &File,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<Held, Error> {
    #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "for pipes"))]
    let mut pumped = Pumped::new();
    #[cfg(target_os = "linux")]
    if let Some(copy) = super::pipes::Copy::between(input, output) {
        copy.pump(input, output, &mut pumped, tell)?;
    }
    pumped.pump(&mut Patient(input), &mut Patient(output), tell)
}

/// A file that is waited for, even if whoever opened it made it one that does not wait.
pub(super) struct Patient<'f>(pub(super) &'f File);

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.0, PollFlags::IN)?;
                }
                other => return other,
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.0, PollFlags::OUT)?;
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits until something can be read or written.
pub(super) fn wait(file: impl AsFd, until: PollFlags) -> rustix::io::Result<()> {
    let mut files = [PollFd::new(&file, until)];
    match poll(&mut files, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The input failed, so many bytes behind what has gone.
pub(super) fn cannot_read(flow: &Flow, waiting: usize, error: io::Error) -> Error {
    Error::io("cannot read the stream", error).at(flow.offset() + waiting as u64)
}

/// Lets a pipe hold more, so that reader and writer wait for each other less often. What is no pipe stays as it is, and a
/// pipe that the system does not let grow too.
pub fn widen(pipe: impl AsFd) {
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(&pipe).is_ok_and(|size| size < PIPE) {
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pipe, PIPE);
}
