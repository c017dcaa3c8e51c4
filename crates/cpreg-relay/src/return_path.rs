//! The main channel from the destination to the source: answers pass as they come; the relay can say between two of them that it failed.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::io::cancel::Cancel;
use crate::io::connection::{Reader, Writer};
use crate::return_path_parser::{Answers, FAILED};

/// Answers are short; with postcopy they are requests for pages.
const BUFFER: usize = 64 << 10;
/// How long a source that takes no answers is waited for before it is told in no other way than by closing.
const PATIENCE: Duration = Duration::from_millis(500);

/// The way back to the source.
#[derive(Debug)]
pub(super) struct Back {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Writer,
    answers: Answers,
    /// Everything that has come, a SHUT among it, was handed to the source.
    is_told: bool,
}

impl Back {
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            inner: Mutex::new(Inner {
                writer,
                answers: Answers::default(),
                is_told: false,
            }),
        }
    }

    /// Carries answers until the destination has no more.
    pub(super) fn run(&self, mut reader: Reader, session: &Cancel) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
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
            inner.answers.go_over(bytes);
            if is_heard {
                // A source that has ended its direction takes bytes and may not read them: the answer is
                // not delivered then. Looked at before the write, because a source closes after it.
                let has_left = inner.writer.other_has_ended();
                // What the destination says last is listened to even if the source has gone.
                match inner.writer.write_all(bytes, session) {
                    Err(fault) if fault.is_cancelled() => return Err(fault),
                    written => is_heard = written.is_ok(),
                }
                inner.is_told =
                    inner.is_told || is_heard && !has_left && inner.answers.shut().is_some();
            }
        }
        // The same of a source that has gone.
        let _ = self.lock().writer.finish();
        Ok(())
    }

    /// The destination's last word, if it came.
    pub(super) fn shut(&self) -> Option<u32> {
        self.lock().answers.shut()
    }

    /// Whether the source was handed the destination's last word. One that ends its connection before that has not heard it, and may let
    /// its guest go on.
    pub(super) fn is_told(&self) -> bool {
        self.lock_soon().is_some_and(|inner| inner.is_told)
    }

    /// Says to the source that the destination has failed, if that can be said between two answers now. Gives whether it was.
    pub(super) fn say_failed(&self) -> bool {
        // Where it cannot be said, closing says the same, less clearly.
        self.lock_soon().is_some_and(|mut inner| {
            inner.answers.is_between()
                && inner
                    .writer
                    .try_write(&FAILED)
                    .is_ok_and(|written| written == FAILED.len())
        })
    }

    /// Whoever carries answers holds this while the source takes none, which may be for ever.
    fn lock_soon(&self) -> Option<MutexGuard<'_, Inner>> {
        let deadline = Instant::now() + PATIENCE;
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

    const LOADED: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];

    fn connection() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        (
            Connection::from_socket(ours.into()).expect("a socket"),
            theirs,
        )
    }

    /// Returns `true` if the source counts as told of an answer.
    fn is_told(source_leaves: bool) -> bool {
        let (source, its_socket) = connection();
        let (destination, mut answers) = connection();
        let back = Back::new(source.writer);
        if source_leaves {
            its_socket
                .shutdown(Shutdown::Write)
                .expect("an open socket");
        }
        answers.write_all(&LOADED).expect("room in the socket");
        drop(answers);
        let session = Cancel::new().expect("a pipe");
        back.run(destination.reader, &session).expect("an end");
        assert_eq!(back.shut(), Some(0));
        back.is_told()
    }

    #[test]
    fn a_source_that_left_before_the_answer_is_not_told() {
        assert!(is_told(false));
        assert!(!is_told(true));
    }
}
