//! [`Timeouts`]: timeouts of a connection and of a migration.

use std::time::Duration;

/// Timeouts of a connection that has no route yet, and of a migration that has begun.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// Timeout for the client to send first. After it, the relay also connects to the server, and
    /// waits for either side.
    pub client_first: Duration,
    /// Timeout for either side to identify the connection.
    pub identification: Duration,
    /// Timeout of a multifd channel that waits for its main channel, and of a main channel that
    /// waits for the end of an earlier migration to the same address.
    pub session: Duration,
    /// Timeout without a byte from the source before its RAM begins.
    pub setup: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            client_first: Duration::from_millis(200),
            identification: Duration::from_secs(10),
            session: Duration::from_secs(10),
            setup: Duration::from_secs(60),
        }
    }
}
