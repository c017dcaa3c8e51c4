//! Return path from the destination to the source. The relay forwards messages as received, and can
//! insert an error message between two of them.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::io::cancel::CancelToken;
use crate::io::connection::{Reader, Writer};
use crate::return_path_parser::{ReturnPathParser, SHUT_ERROR};

/// Size of the read buffer in bytes. Messages are short; in postcopy, most are page requests.
const READ_BUFFER_LEN: usize = 64 << 10;
/// Timeout for a source that does not read. After the timeout, the relay reports the failure only
/// by closing the connection.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Return path to the source.
#[derive(Debug)]
pub(super) struct ReturnPath {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    parser: ReturnPathParser,
    /// `true` if the relay wrote a SHUT to a source that still reads.
    is_shut_delivered: bool,
}

impl ReturnPath {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            inner: Mutex::new(Inner {
                writer,
                parser: ReturnPathParser::default(),
                is_shut_delivered: false,
            }),
        }
    }

    /// Forwards messages until the destination sends no more.
    pub(super) fn run(&self, mut reader: Reader, session: &CancelToken) -> Result<(), Error> {
        let mut buffer = vec![0; READ_BUFFER_LEN];
        let mut source_reads = true;
        loop {
            let count = match reader.read(&mut buffer, session) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    let _ = self.lock().writer.finish();
                    return Err(error);
                }
            };
            let bytes = &buffer[..count];
            let mut inner = self.lock();
            inner.parser.feed(bytes);
            if source_reads {
                // A source that has closed its direction still accepts bytes, but may not read
                // them. Check before the write, because a source also closes its direction after it
                // has read a SHUT.
                let has_source_closed = inner.writer.has_peer_ended();
                // Parse the destination's last message even after the source has closed.
                match inner.writer.write_all(bytes, session) {
                    Err(error) if error.is_cancelled() => return Err(error),
                    written => source_reads = written.is_ok(),
                }
                inner.is_shut_delivered |=
                    source_reads && !has_source_closed && inner.parser.shut().is_some();
            }
        }
        // An error only means that the source has closed its connection.
        let _ = self.lock().writer.finish();
        Ok(())
    }

    /// Returns the value of the destination's SHUT; `None` if the relay has not received it.
    pub(super) fn shut(&self) -> Option<u32> {
        self.lock().parser.shut()
    }

    /// Returns `true` if the relay wrote the destination's SHUT to a source that still reads. A
    /// source that closes earlier has not received the SHUT, and may resume its guest.
    pub(super) fn is_shut_delivered(&self) -> bool {
        self.try_lock_for()
            .is_some_and(|inner| inner.is_shut_delivered)
    }

    /// Sends the source an error SHUT if the return path is at a message boundary now. Returns
    /// `true` if the relay sent it.
    pub(super) fn send_shut_error(&self) -> bool {
        // Without the SHUT, closing the connection reports the failure less clearly.
        self.try_lock_for().is_some_and(|mut inner| {
            inner.parser.is_at_message_boundary()
                && inner
                    .writer
                    .try_write(&SHUT_ERROR)
                    .is_ok_and(|written| written == SHUT_ERROR.len())
        })
    }

    /// Locks the return path within [`LOCK_TIMEOUT`]. The forwarding thread keeps the lock while
    /// the source does not read, possibly for ever.
    fn try_lock_for(&self) -> Option<MutexGuard<'_, Inner>> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match self.inner.try_lock() {
                Ok(inner) => return Some(inner),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use crate::io::connection::Connection;

    use super::*;

    /// SHUT of a destination that has loaded the VM.
    const LOADED: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

    fn connection() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let connection = Connection::from_socket(ours.into()).expect("a socket");
        (connection, theirs)
    }

    /// Returns `true` if a SHUT counts as delivered.
    fn is_delivered(source_has_left: bool) -> bool {
        let (source, source_socket) = connection();
        let (destination, mut answers) = connection();
        let return_path = ReturnPath::new(source.writer);
        if source_has_left {
            source_socket
                .shutdown(Shutdown::Write)
                .expect("an open socket");
        }
        answers.write_all(&LOADED).expect("room in the socket");
        drop(answers);
        let session = CancelToken::new().expect("a pipe");
        return_path
            .run(destination.reader, &session)
            .expect("an end");
        assert_eq!(return_path.shut(), Some(0));
        return_path.is_shut_delivered()
    }

    #[test]
    fn a_source_that_left_before_the_shut_did_not_receive_it() {
        assert!(is_delivered(false));
        assert!(!is_delivered(true));
    }
}
