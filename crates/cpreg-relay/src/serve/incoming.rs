//! [`IncomingMigration`]: a migration with its main channel, before the choice of its policy.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::sessions::SessionQueue;
use crate::channel::Channel;
use crate::connect::Connector;
use crate::error::Error;
use crate::event::Observer;
use crate::io::cancel::CancelToken;
use crate::io::connection::Connection;
use crate::policy::MigrationPolicy;
use crate::session::{MigrationResult, Session};

/// Migration whose main channel has arrived. Dropping it closes the connection, and the VM stays at
/// the source.
pub struct IncomingMigration {
    pub(super) channel: Channel,
    pub(super) peer: Option<SocketAddr>,
    pub(super) original_destination: SocketAddr,
    pub(super) source: Connection,
    /// Connection to the destination, if the identification of the source needed one.
    pub(super) destination: Option<Connection>,
    pub(super) connector: Connector,
    pub(super) queue: SessionQueue,
    pub(super) setup_timeout: Duration,
}

impl IncomingMigration {
    /// Returns the kind of the main channel: [`Channel::Main`] or [`Channel::PostcopyRecovery`].
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// Returns the address of the source, if it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the address at which the destination's QEMU listens.
    pub fn original_destination(&self) -> SocketAddr {
        self.original_destination
    }

    /// Forwards the migration to its end.
    ///
    /// # Errors
    /// Returns an error if the destination cannot be reached. The relay notifies the source by
    /// closing its connection.
    pub fn run(
        self,
        policy: &mut dyn MigrationPolicy,
        observer: &dyn Observer,
        user: &CancelToken,
    ) -> Result<MigrationResult, Error> {
        let session = Session::new(&self.queue, &self.connector, observer)?
            .with_setup_timeout(self.setup_timeout);
        let destination = match self.destination {
            Some(destination) => self.connector.secure(destination, user)?,
            None => self.connector.connect(user)?,
        };
        session.report_connected(self.channel);
        Ok(session.run(
            self.channel,
            self.source,
            destination,
            Vec::new(),
            policy,
            user,
        ))
    }
}

impl fmt::Debug for IncomingMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingMigration")
            .field("channel", &self.channel)
            .field("peer", &self.peer)
            .field("original_destination", &self.original_destination)
            .finish_non_exhaustive()
    }
}
