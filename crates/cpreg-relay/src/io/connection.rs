//! [`Connection`]: a reader, a writer, and a handle that shuts both down. Each part can move to
//! another thread.
//!
//! - [`Writer::finish`] on a socket half-closes it: the peer reads to the end and may still write.
//!   On a pipe or file, it closes the descriptor.
//! - [`ShutdownHandle::shutdown`] on a socket shuts both directions down and ends all waits. On
//!   pipes and files, it only ends the waits.
//! - A half may be missing (`fd:N` is a pipe). A missing reader returns the end of the input; a
//!   missing writer refuses writes.
//!
//! The [`Reader`] keeps peeked bytes and returns them again, for two reasons. A pipe supports no
//! peek, and a socket with peeked bytes is ready for `poll` although no more have arrived.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SendFlags, Shutdown, send, shutdown, sockopt};

use super::cancel::{CancelToken, wait_for};
use super::file::grow_pipe;
use crate::error::Error;

/// Idle time of a TCP connection before the first keepalive probe. Without probes, the relay would
/// not notice a peer whose host lost power.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Interval between keepalive probes, and timeout of each.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Connection in three parts, which may move to different threads. The halves close the
/// descriptors.
#[derive(Debug)]
pub struct Connection {
    /// Half that receives from the peer.
    pub reader: Reader,
    /// Half that sends to the peer.
    pub writer: Writer,
    /// Handle that shuts both halves down.
    pub shutdown_handle: ShutdownHandle,
}

impl Connection {
    /// Creates a connection from a connected stream socket.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be made non-blocking, or this process may open no more
    /// descriptors.
    pub fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        let descriptor = Arc::new(Descriptor::new(socket)?);
        Self::from_descriptors(Some(descriptor.clone()), Some(descriptor))
    }

    /// Creates a connection from a pipe or file to read and one to write; each may be missing.
    /// Pipes are enlarged.
    ///
    /// # Errors
    /// Those of [`Connection::from_socket`].
    pub fn from_halves(read: Option<OwnedFd>, write: Option<OwnedFd>) -> io::Result<Self> {
        let new = |half: Option<OwnedFd>| -> io::Result<_> {
            half.map(|half| Descriptor::new(half).map(Arc::new))
                .transpose()
        };
        Self::from_descriptors(new(read)?, new(write)?)
    }

    fn from_descriptors(
        read: Option<Arc<Descriptor>>,
        write: Option<Arc<Descriptor>>,
    ) -> io::Result<Self> {
        let shutdown_token = CancelToken::new()?;
        let weak = |half: &Option<Arc<Descriptor>>| half.as_ref().map(Arc::downgrade);
        Ok(Self {
            shutdown_handle: ShutdownHandle {
                halves: [weak(&read), weak(&write)],
                shutdown_token: shutdown_token.clone(),
            },
            reader: Reader {
                source: read,
                peeked: Vec::new(),
                shutdown_token: shutdown_token.clone(),
            },
            writer: Writer {
                sink: write,
                shutdown_token,
            },
        })
    }

    /// Returns the three parts of the connection.
    pub fn split(self) -> (Reader, Writer, ShutdownHandle) {
        (self.reader, self.writer, self.shutdown_handle)
    }

    /// Returns `true` if the peer can answer. A single pipe has one direction only.
    pub fn is_two_way(&self) -> bool {
        self.reader.source.is_some() && self.writer.sink.is_some()
    }
}

/// Non-blocking descriptor and its kind.
struct Descriptor {
    file: OwnedFd,
    is_socket: bool,
    /// Flags to restore on drop if the open file was blocking, because the parent process may share
    /// it.
    original_flags: Option<OFlags>,
}

impl Descriptor {
    fn new(file: OwnedFd) -> io::Result<Self> {
        fcntl_setfd(&file, FdFlags::CLOEXEC)?;
        let flags = fcntl_getfl(&file)?;
        fcntl_setfl(&file, flags | OFlags::NONBLOCK)?;
        let is_socket = sockopt::socket_type(&file).is_ok();
        if is_socket {
            let domain = sockopt::socket_domain(&file)?;
            if domain == AddressFamily::INET || domain == AddressFamily::INET6 {
                sockopt::set_tcp_nodelay(&file, true)?;
                sockopt::set_socket_keepalive(&file, true)?;
                sockopt::set_tcp_keepidle(&file, KEEPALIVE_IDLE)?;
                sockopt::set_tcp_keepintvl(&file, KEEPALIVE_INTERVAL)?;
                sockopt::set_tcp_keepcnt(&file, KEEPALIVE_PROBES)?;
            }
        } else {
            grow_pipe(&file);
        }
        Ok(Self {
            file,
            is_socket,
            original_flags: (!flags.contains(OFlags::NONBLOCK)).then_some(flags),
        })
    }
}

impl Descriptor {
    /// Returns `true` if the peer of a socket sends no more.
    fn has_ended(&self) -> bool {
        let mut files = [PollFd::new(&self.file, PollFlags::RDHUP)];
        self.is_socket && poll(&mut files, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(flags) = self.original_flags {
            let _ = fcntl_setfl(&self.file, flags);
        }
    }
}

/// Receiving half of a connection.
pub struct Reader {
    source: Option<Arc<Descriptor>>,
    peeked: Vec<u8>,
    shutdown_token: CancelToken,
}

impl Reader {
    /// Waits for bytes and reads them into the buffer. Returns the number of bytes read; 0 means
    /// the end.
    ///
    /// # Errors
    /// Returns an error if the token is cancelled, the connection is shut down, or the descriptor
    /// cannot be read.
    pub fn read(&mut self, buffer: &mut [u8], cancel: &CancelToken) -> Result<usize, Error> {
        if self.peeked.is_empty() {
            return Ok(self.read_descriptor(buffer, None, cancel)?.unwrap_or(0));
        }
        let count = buffer.len().min(self.peeked.len());
        buffer[..count].copy_from_slice(&self.peeked[..count]);
        self.peeked.drain(..count);
        Ok(count)
    }

    /// Reads like [`Reader::read`]; returns `None` if no bytes have arrived by the deadline.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn read_with_deadline(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
        cancel: &CancelToken,
    ) -> Result<Option<usize>, Error> {
        if self.peeked.is_empty() {
            self.read_descriptor(buffer, Some(deadline), cancel)
        } else {
            self.read(buffer, cancel).map(Some)
        }
    }

    /// Returns the next `count` bytes without consuming them; fewer if the input ends or the
    /// deadline passes first.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn peek(
        &mut self,
        count: usize,
        deadline: Option<Instant>,
        cancel: &CancelToken,
    ) -> Result<&[u8], Error> {
        while self.peeked.len() < count {
            let mut more = vec![0; count - self.peeked.len()];
            match self.read_descriptor(&mut more, deadline, cancel)? {
                Some(0) | None => break,
                Some(received) => self.peeked.extend_from_slice(&more[..received]),
            }
        }
        Ok(&self.peeked[..count.min(self.peeked.len())])
    }

    /// Returns `true` if the peer is known to send no more, because it closed its direction or the
    /// whole connection, or died. Earlier bytes may still be readable. Always `false` for pipes and
    /// a missing half.
    pub fn has_ended(&self) -> bool {
        self.source.as_deref().is_some_and(Descriptor::has_ended)
    }

    /// Takes the peeked bytes that have not been read.
    pub(crate) fn take_peeked(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.peeked)
    }

    /// Returns the descriptor to read from, if there is one.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(|source| source.file.as_fd())
    }

    fn read_descriptor(
        &self,
        buffer: &mut [u8],
        deadline: Option<Instant>,
        cancel: &CancelToken,
    ) -> Result<Option<usize>, Error> {
        let Some(source) = self.source() else {
            return Ok(Some(0));
        };
        self.retry_when_ready(deadline, cancel, || rustix::io::read(source, &mut *buffer))
    }

    /// Repeats a read call until it would not block; returns `None` if the deadline passes first.
    pub(crate) fn retry_when_ready(
        &self,
        deadline: Option<Instant>,
        cancel: &CancelToken,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<Option<usize>, Error> {
        let Some(source) = self.source() else {
            return Ok(Some(0));
        };
        let count = retry_when_ready(
            source,
            PollFlags::IN,
            deadline,
            &[cancel, &self.shutdown_token],
            call,
        )?;
        // After a shutdown by this side, a read also returns 0.
        if count == Some(0) && self.shutdown_token.is_cancelled() {
            return Err(Error::cancelled());
        }
        Ok(count)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("source", &self.source())
            .field("peeked", &self.peeked.len())
            .finish_non_exhaustive()
    }
}

/// Sending half of a connection.
pub struct Writer {
    sink: Option<Arc<Descriptor>>,
    shutdown_token: CancelToken,
}

impl Writer {
    /// Waits for space and writes as many bytes as possible. Returns the number of bytes written.
    ///
    /// # Errors
    /// Returns an error if the token is cancelled, the connection is shut down or finished, or the
    /// peer has closed it.
    pub fn write(&mut self, bytes: &[u8], cancel: &CancelToken) -> Result<usize, Error> {
        let (sink, is_socket) = self.sink()?;
        self.retry_when_ready(cancel, || {
            if is_socket {
                send(sink, bytes, SendFlags::NOSIGNAL)
            } else {
                rustix::io::write(sink, bytes)
            }
        })
    }

    /// Writes all bytes, however long the peer takes.
    ///
    /// # Errors
    /// Those of [`Writer::write`]; the writer may have sent some of the bytes.
    pub fn write_all(&mut self, mut bytes: &[u8], cancel: &CancelToken) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = self.write(bytes, cancel)?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes as many bytes as possible without waiting, perhaps none. Returns the number written.
    ///
    /// # Errors
    /// Returns an error if the peer has closed the connection, or this direction is finished.
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let (sink, is_socket) = self.sink()?;
        let written = if is_socket {
            send(sink, bytes, SendFlags::NOSIGNAL)
        } else {
            rustix::io::write(sink, bytes)
        };
        match written {
            Err(Errno::AGAIN) => Ok(0),
            other => Ok(other?),
        }
    }

    /// Returns `true` if the peer is known to send no more, like [`Reader::has_ended`].
    pub(crate) fn has_peer_ended(&self) -> bool {
        self.sink.as_deref().is_some_and(Descriptor::has_ended)
    }

    /// Closes this direction. Bytes written earlier still arrive; later writes fail.
    ///
    /// # Errors
    /// Returns an error if the peer has closed the connection.
    pub fn finish(&mut self) -> Result<(), Error> {
        if let Some(sink) = self.sink.take()
            && sink.is_socket
        {
            shutdown(&sink.file, Shutdown::Write)?;
        }
        Ok(())
    }

    /// Returns the descriptor to write to, and `true` if it is a socket.
    pub(crate) fn sink(&self) -> Result<(BorrowedFd<'_>, bool), Error> {
        match &self.sink {
            Some(sink) => Ok((sink.file.as_fd(), sink.is_socket)),
            None => Err(Errno::PIPE.into()),
        }
    }

    /// Repeats a write call until it would not block.
    pub(crate) fn retry_when_ready(
        &self,
        cancel: &CancelToken,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<usize, Error> {
        let (sink, _) = self.sink()?;
        let cancels = [cancel, &self.shutdown_token];
        match retry_when_ready(sink, PollFlags::OUT, None, &cancels, call) {
            Ok(count) => Ok(count.unwrap_or(0)),
            Err(_) if self.shutdown_token.is_cancelled() => Err(Error::cancelled()),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("sink", &self.sink.as_ref().map(|sink| &sink.file))
            .finish_non_exhaustive()
    }
}

/// Handle that shuts a connection down from any thread. The handle does not keep the connection
/// open.
#[derive(Clone)]
pub struct ShutdownHandle {
    halves: [Option<Weak<Descriptor>>; 2],
    shutdown_token: CancelToken,
}

impl ShutdownHandle {
    /// Shuts the connection down. Pending reads and writes return
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and the peer of a socket sees the
    /// end.
    pub fn shutdown(&self) {
        self.shutdown_token.cancel();
        let halves = self.halves.iter().flatten();
        for half in halves.filter_map(Weak::upgrade) {
            if half.is_socket {
                // The call fails if the socket is not connected any more, which is the desired
                // state.
                let _ = shutdown(&half.file, Shutdown::Both);
            }
        }
    }

    /// Returns `true` if the connection has been shut down.
    pub fn is_shut_down(&self) -> bool {
        self.shutdown_token.is_cancelled()
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShutdownHandle")
            .field(&self.is_shut_down())
            .finish()
    }
}

/// Repeats a call until it would not block; returns `None` if the deadline passes first.
fn retry_when_ready(
    file: BorrowedFd<'_>,
    flags: PollFlags,
    deadline: Option<Instant>,
    cancels: &[&CancelToken],
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Result<Option<usize>, Error> {
    loop {
        // Check here as well, because a call that never blocks never waits for the tokens.
        if cancels.iter().any(|cancel| cancel.is_cancelled()) {
            return Err(Error::cancelled());
        }
        match call() {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !wait_for(file, flags, deadline, cancels)? {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
