//! [`Connection`]: bytes both ways, in two halves for two threads, and something that ends both from a third.
//!
//! | what | a socket | two pipes, or files |
//! |---|---|---|
//! | [`Writer::finish`] | half-closed: the other end reads up to the end, and may go on writing | the pipe is closed |
//! | [`ShutdownHandle::cut`] | shut down both ways, and whoever waits here comes back | whoever waits here comes back |
//! | one of two is missing (`fd:N` is a pipe) | - | the reader is at its end; the writer refuses |
//!
//! Bytes that were only looked at are kept in the [`Reader`] and come once more, since a pipe cannot be peeked at, and a
//! socket that has been peeked at is ready for `poll` although no more has come.

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

/// How long TCP is silent before it asks whether the other end is there: a host that lost its power closes nothing.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// How long it waits for an answer, and how often it asks.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// A connection. Its parts may go to different threads; the descriptors are closed with the halves.
#[derive(Debug)]
pub struct Connection {
    /// What the other end sends.
    pub reader: Reader,
    /// What it is sent.
    pub writer: Writer,
    /// Ends both.
    pub shutdown_handle: ShutdownHandle,
}

impl Connection {
    /// A stream socket that is connected.
    ///
    /// # Errors
    /// If it cannot be made one that does not wait, or this process may open no more descriptors.
    pub fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        let descriptor = Arc::new(Descriptor::new(socket)?);
        Self::from_descriptors(Some(descriptor.clone()), Some(descriptor))
    }

    /// A pipe to read and a pipe to write, or files; each may be missing. Pipes are widened.
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
        let cut = CancelToken::new()?;
        let weak = |half: &Option<Arc<Descriptor>>| half.as_ref().map(Arc::downgrade);
        Ok(Self {
            shutdown_handle: ShutdownHandle {
                halves: [weak(&read), weak(&write)],
                shutdown_token: cut.clone(),
            },
            reader: Reader {
                source: read,
                peeked: Vec::new(),
                shutdown_token: cut.clone(),
            },
            writer: Writer {
                sink: write,
                shutdown_token: cut,
            },
        })
    }

    /// Its parts.
    pub fn split(self) -> (Reader, Writer, ShutdownHandle) {
        (self.reader, self.writer, self.shutdown_handle)
    }

    /// Whether the other end can answer: a single pipe goes one way.
    pub fn is_two_way(&self) -> bool {
        self.reader.source.is_some() && self.writer.sink.is_some()
    }
}

/// A descriptor that does not wait, and which sort it is of.
struct Descriptor {
    file: OwnedFd,
    is_socket: bool,
    /// What the open file was if it waited, to be set again: it may be shared with whoever started this process.
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
    fn has_ended(&self) -> bool {
        let mut ends = [PollFd::new(&self.file, PollFlags::RDHUP)];
        self.is_socket && poll(&mut ends, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(was) = self.original_flags {
            let _ = fcntl_setfl(&self.file, was);
        }
    }
}

/// What the other end sends.
pub struct Reader {
    source: Option<Arc<Descriptor>>,
    peeked: Vec<u8>,
    shutdown_token: CancelToken,
}

impl Reader {
    /// Waits for bytes and takes as many as there are and fit; 0 is the end.
    ///
    /// # Errors
    /// If it is cancelled or cut, or cannot be read.
    pub fn read(&mut self, buffer: &mut [u8], cancel: &CancelToken) -> Result<usize, Error> {
        if self.peeked.is_empty() {
            return Ok(self.take(buffer, None, cancel)?.unwrap_or(0));
        }
        let count = buffer.len().min(self.peeked.len());
        buffer[..count].copy_from_slice(&self.peeked[..count]);
        self.peeked.drain(..count);
        Ok(count)
    }

    /// Like [`Reader::read`], and comes back with nothing if nothing has come until then.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn read_with_deadline(
        &mut self,
        buffer: &mut [u8],
        until: Instant,
        cancel: &CancelToken,
    ) -> Result<Option<usize>, Error> {
        if self.peeked.is_empty() {
            self.take(buffer, Some(until), cancel)
        } else {
            self.read(buffer, cancel).map(Some)
        }
    }

    /// The next bytes, which stay: so many, or fewer if the end comes before them or they have not come until then.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn peek(
        &mut self,
        count: usize,
        until: Option<Instant>,
        cancel: &CancelToken,
    ) -> Result<&[u8], Error> {
        while self.peeked.len() < count {
            let mut more = vec![0; count - self.peeked.len()];
            match self.take(&mut more, until, cancel)? {
                Some(0) | None => break,
                Some(taken) => self.peeked.extend_from_slice(&more[..taken]),
            }
        }
        Ok(&self.peeked[..count.min(self.peeked.len())])
    }

    /// Whether the other end sends no more, for what can be seen now: it has closed its direction or all, or has died. Bytes
    /// that came before that may still be read. Of a pipe and where there is nothing to read from nothing is known.
    pub fn has_ended(&self) -> bool {
        self.source.as_deref().is_some_and(Descriptor::has_ended)
    }

    /// What has been looked at and not been read, which is taken away.
    pub(crate) fn take_peeked(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.peeked)
    }

    /// What is read from, if there is anything.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(|source| source.file.as_fd())
    }

    fn take(
        &self,
        buffer: &mut [u8],
        until: Option<Instant>,
        cancel: &CancelToken,
    ) -> Result<Option<usize>, Error> {
        let Some(source) = self.source() else {
            return Ok(Some(0));
        };
        self.retry_when_ready(until, cancel, || rustix::io::read(source, &mut *buffer))
    }

    /// Calls until it need not wait, or until then.
    pub(crate) fn retry_when_ready(
        &self,
        until: Option<Instant>,
        cancel: &CancelToken,
        call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<Option<usize>, Error> {
        let Some(source) = self.source() else {
            return Ok(Some(0));
        };
        let count = retry_when_ready(
            source,
            PollFlags::IN,
            until,
            &[cancel, &self.shutdown_token],
            call,
        )?;
        // Cutting shuts a socket down, which looks like an end that the other side made.
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

/// What the other end is sent.
pub struct Writer {
    sink: Option<Arc<Descriptor>>,
    shutdown_token: CancelToken,
}

impl Writer {
    /// Waits for room and writes as much as there is room for; says how much.
    ///
    /// # Errors
    /// If it is cancelled or cut, or the other end has gone, or it has been finished.
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

    /// Writes all of it, however long the other end takes.
    ///
    /// # Errors
    /// Those of [`Writer::write`]; some of the bytes may have gone then.
    pub fn write_all(&mut self, mut bytes: &[u8], cancel: &CancelToken) -> Result<(), Error> {
        while !bytes.is_empty() {
            let written = self.write(bytes, cancel)?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes what there is room for now, which may be nothing; says how much.
    ///
    /// # Errors
    /// If the other end has gone, or it has been finished.
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

    /// Whether the other end sends no more: see [`Reader::has_ended`].
    pub(crate) fn has_peer_ended(&self) -> bool {
        self.sink.as_deref().is_some_and(Descriptor::has_ended)
    }

    /// Says that no more comes; what has been written before still arrives. Nothing can be written after.
    ///
    /// # Errors
    /// If the other end has gone.
    pub fn finish(&mut self) -> Result<(), Error> {
        if let Some(sink) = self.sink.take()
            && sink.is_socket
        {
            shutdown(&sink.file, Shutdown::Write)?;
        }
        Ok(())
    }

    /// What is written to, and whether it is a socket.
    pub(crate) fn sink(&self) -> Result<(BorrowedFd<'_>, bool), Error> {
        match &self.sink {
            Some(sink) => Ok((sink.file.as_fd(), sink.is_socket)),
            None => Err(Errno::PIPE.into()),
        }
    }

    /// Calls until it need not wait.
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
            Err(fault) => Err(fault),
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

/// Ends a connection from any thread. It does not keep the connection open.
#[derive(Clone)]
pub struct ShutdownHandle {
    halves: [Option<Weak<Descriptor>>; 2],
    shutdown_token: CancelToken,
}

impl ShutdownHandle {
    /// Ends it: whoever reads or writes here is told
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and a socket's other end sees that it
    /// is over.
    pub fn shutdown(&self) {
        self.shutdown_token.cancel();
        let halves = self.halves.iter().flatten();
        for half in halves.filter_map(Weak::upgrade) {
            if half.is_socket {
                // A socket that is not connected any more is what is wanted.
                let _ = shutdown(&half.file, Shutdown::Both);
            }
        }
    }

    /// Whether it has been cut.
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

/// Calls until it need not wait; nothing if that has not come until then.
fn retry_when_ready(
    file: BorrowedFd<'_>,
    what: PollFlags,
    until: Option<Instant>,
    cancels: &[&CancelToken],
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Result<Option<usize>, Error> {
    loop {
        // Where there is always something to do nobody waits, and whoever cancels is heard all the same.
        if cancels.iter().any(|cancel| cancel.is_cancelled()) {
            return Err(Error::cancelled());
        }
        match call() {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !wait_for(file, what, until, cancels)? {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
