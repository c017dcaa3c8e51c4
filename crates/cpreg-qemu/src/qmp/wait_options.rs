//! [`WaitOptions`]: how long to wait for something, and what may end the wait early.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long to wait for something, and what may end the wait early.
#[derive(Clone, Copy, Debug)]
pub struct WaitOptions<'a> {
    /// How long one step (a reply, a connection, a stream that comes to its end) may take.
    pub timeout: Duration,
    /// Set from elsewhere (a signal handler) to give up at once.
    pub interrupted: Option<&'a AtomicBool>,
}

impl WaitOptions<'_> {
    /// Waits this long, and nothing ends it early.
    pub const fn with_timeout(timeout: Duration) -> Self {
        Self {
            timeout,
            interrupted: None,
        }
    }

    /// Whether somebody asked to give up.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
            .is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}
