//! [`ConnectionSource`]: the source of a migration's connections: a listener of its own, or the
//! server that shares one listener among many migrations.

use std::io;

use crate::io::cancel::CancelToken;
use crate::io::connection::Connection;
use crate::listen::Listener;

/// Source of the connections of one migration.
pub(super) trait ConnectionSource: Sync {
    /// Waits for the next connection; `None` if `cancel` is cancelled or no further connection can
    /// arrive.
    ///
    /// # Errors
    /// Returns an error if no connection can be accepted now.
    fn accept(&self, cancel: &CancelToken) -> io::Result<Option<Connection>>;

    /// Handles the end of the main channel: later connections belong to another migration.
    fn end_migration(&self) {}
}

impl ConnectionSource for Listener {
    fn accept(&self, cancel: &CancelToken) -> io::Result<Option<Connection>> {
        Self::accept(self, cancel)
    }
}
