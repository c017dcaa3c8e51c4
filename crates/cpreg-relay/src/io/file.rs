//! [`BlockingFd`]: files with blocking reads and writes; [`grow_pipe`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Requested pipe capacity in bytes: the maximum that Linux grants to unprivileged processes.
const PIPE_CAPACITY: usize = 1 << 20;

/// File whose reads and writes block, even if it was opened non-blocking.
#[derive(Debug)]
pub struct BlockingFd<'f>(pub &'f File);

impl Read for BlockingFd<'_> {
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

impl Write for BlockingFd<'_> {
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

/// Waits until the file can be read or written, according to `flags`.
pub(super) fn wait(file: impl AsFd, flags: PollFlags) -> rustix::io::Result<()> {
    let mut files = [PollFd::new(&file, flags)];
    match poll(&mut files, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Enlarges a pipe so that its reader and writer wait for each other less often. Other files stay
/// unchanged, as does a pipe whose growth the system refuses.
pub fn grow_pipe(pipe: impl AsFd) {
    if rustix::pipe::fcntl_getpipe_size(&pipe).is_ok_and(|size| size < PIPE_CAPACITY) {
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_CAPACITY);
    }
}
