//! [`WaitOptions`]: timeout and interrupt flag of an operation that waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Timeout and interrupt flag of an operation that waits.
#[derive(Clone, Copy, Debug)]
pub struct WaitOptions<'a> {
    /// Timeout for each step (a reply, a connection, the end of a stream).
    pub timeout: Duration,
    /// Flag that makes the operation give up at once; a signal handler may set it.
    pub interrupted: Option<&'a AtomicBool>,
}

impl WaitOptions<'_> {
    /// Creates options with this timeout and no interrupt flag.
    pub const fn with_timeout(timeout: Duration) -> Self {
        Self {
            timeout,
            interrupted: None,
        }
    }

    /// Returns `true` if the interrupt flag is set.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}
