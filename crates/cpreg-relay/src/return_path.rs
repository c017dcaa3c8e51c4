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
                // What the destination says last is listened to even if the source has gone.
                match inner.writer.write_all(bytes, session) {
                    Err(fault) if fault.is_cancelled() => return Err(fault),
                    written => is_heard = written.is_ok(),
                }
                inner.is_told = is_heard && inner.answers.shut().is_some();
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
