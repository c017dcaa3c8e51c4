//! [`Timeouts`]: timeouts of a connection and of a migration.

use std::time::Duration;

/// Timeouts of a connection that has no route yet, and of a migration that has begun.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// Time for the client to speak first. After it, the relay also listens to the server.
    pub client_first: Duration,
    /// Time for either side to identify the connection.
    pub identification: Duration,
    /// Time for a multifd channel to wait for its main channel, and for a main channel to wait for
    /// the end of an earlier migration to the same address.
    pub session: Duration,
    /// Time without a byte from the source before its RAM begins.
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
