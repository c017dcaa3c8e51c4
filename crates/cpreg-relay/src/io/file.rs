//! [`BlockingFd`]: files that are waited for; and pipes that hold more.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// What a pipe is asked to hold, in bytes: the most that Linux gives to everybody.
const PIPE_CAPACITY: usize = 1 << 20;

/// A file that is waited for, even if whoever opened it made it one that does not wait.
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

/// Waits until something can be read or written.
pub(super) fn wait(file: impl AsFd, until: PollFlags) -> rustix::io::Result<()> {
    let mut files = [PollFd::new(&file, until)];
    match poll(&mut files, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets a pipe hold more, so that reader and writer wait for each other less often. What is no pipe stays as it is, and a
/// pipe that the system does not let grow too.
pub fn grow_pipe(pipe: impl AsFd) {
    if rustix::pipe::fcntl_getpipe_size(&pipe).is_ok_and(|size| size < PIPE_CAPACITY) {
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_CAPACITY);
    }
}
