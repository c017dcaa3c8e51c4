//! The main channel from the destination to the source: answers pass as they come; the relay can say between two of them that it failed.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::io::cancel::CancelToken;
use crate::io::connection::{Reader, Writer};
use crate::return_path_parser::{ReturnPathParser, SHUT_ERROR};

/// Answers are short; with postcopy they are requests for pages.
const READ_BUFFER_LEN: usize = 64 << 10;
/// How long a source that takes no answers is waited for before it is told in no other way than by closing.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// The way back to the source.
#[derive(Debug)]
pub(super) struct ReturnPath {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    parser: ReturnPathParser,
    /// Everything that has come, a SHUT among it, was handed to the source.
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

    /// Carries answers until the destination has no more.
    pub(super) fn run(&self, mut reader: Reader, session: &CancelToken) -> Result<(), Error> {
        let mut buffer = vec![0; READ_BUFFER_LEN];
        let mut is_heard = true;
        loop {
            let count = match reader.read(&mut buffer, session) {
                Ok(0) => break,
                Ok(count) => count,
                Err(fault) => {
                    let _ = self.lock().writer.finish();
                    return Err(fault);
                }
            };
            let bytes = &buffer[..count];
            let mut inner = self.lock();
            inner.parser.feed(bytes);
            if is_heard {
                // A source that has closed its direction accepts bytes and may not read them. The
                // check comes before the write, because a source closes after it has read a SHUT.
                let has_left = inner.writer.has_peer_ended();
                // What the destination says last is listened to even if the source has gone.
                match inner.writer.write_all(bytes, session) {
                    Err(fault) if fault.is_cancelled() => return Err(fault),
                    written => is_heard = written.is_ok(),
                }
                inner.is_shut_delivered |=
                    is_heard && !has_left && inner.parser.shut().is_some();
            }
        }
        // The same of a source that has gone.
        let _ = self.lock().writer.finish();
        Ok(())
    }

    /// The destination's last word, if it came.
    pub(super) fn shut(&self) -> Option<u32> {
        self.lock().parser.shut()
    }

    /// Whether the source was handed the destination's last word. One that ends its connection before that has not heard it, and may let
    /// its guest go on.
    pub(super) fn is_shut_delivered(&self) -> bool {
        self.try_lock_for()
            .is_some_and(|inner| inner.is_shut_delivered)
    }

    /// Says to the source that the destination has failed, if that can be said between two answers now. Gives whether it was.
    pub(super) fn send_shut_error(&self) -> bool {
        // Where it cannot be said, closing says the same, less clearly.
        self.try_lock_for().is_some_and(|mut inner| {
            inner.parser.is_at_message_boundary()
                && inner
                    .writer
                    .try_write(&SHUT_ERROR)
                    .is_ok_and(|written| written == SHUT_ERROR.len())
        })
    }

    /// Whoever carries answers holds this while the source takes none, which may be for ever.
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
