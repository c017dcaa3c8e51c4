//! [`Relay`]: waits for the main channel of a migration and connects it to the destination.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::channel::{CPR_UNSUPPORTED, Channel, MAGIC_LEN};
use crate::connect::Connector;
use crate::error::{Error, ErrorKind};
use crate::event::Observer;
use crate::io::cancel::CancelToken;
use crate::io::connection::Connection;
use crate::listen::Listener;
use crate::policy::MigrationPolicy;
use crate::session::{MigrationResult, Session};

/// Timeout for a new connection to send the bytes that identify its channel.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of connections before the main channel. No migration has more.
const MAX_PENDING_CONNECTIONS: usize = 256;

/// Reason not to forward TLS.
const TLS_UNSUPPORTED: &str = "TLS by QEMU itself (tls-creds): the stream is end-to-end \
 encrypted, and a relay cannot edit it";

/// Relay that listens on one address and forwards to a destination.
#[derive(Debug)]
pub struct Relay {
    listener: Listener,
    destination: Connector,
}

impl Relay {
    /// Listens for migrations. The relay connects to the destination only when one begins.
    ///
    /// # Errors
    /// Those of [`Listener::bind`].
    pub fn bind(listen: &Address, connect: Address) -> Result<Self, Error> {
        Ok(Self {
            listener: Listener::bind(listen)?,
            destination: Connector::new(connect),
        })
    }

    /// Returns the address on which the relay listens, with the host and port that were chosen.
    pub fn address(&self) -> &Address {
        self.listener.address()
    }

    /// Returns `true` if the relay serves one migration at most, over an inherited connection.
    pub fn is_single(&self) -> bool {
        self.listener.is_single()
    }

    /// Waits for one migration and forwards it; `None` if `user` is cancelled or no further
    /// migration can begin.
    ///
    /// `user` can cancel the wait, and also the migration until the relay has received all device
    /// state. After that, only the two QEMUs can end the migration.
    ///
    /// # Errors
    /// Returns an error if no connection can be accepted, the migration cannot be forwarded, or the
    /// destination cannot be reached. The relay notifies the source by closing its connection.
    pub fn serve_migration(
        &self,
        policy: &mut dyn MigrationPolicy,
        observer: &dyn Observer,
        user: &CancelToken,
    ) -> Result<Option<MigrationResult>, Error> {
        let session = Session::new(&self.listener, &self.destination, observer)?;
        let mut multifd_channels = Vec::new();
        let (channel, source) = loop {
            let accepted = self.listener.accept(user);
            let accepted = accepted.map_err(|error| {
                Error::new(ErrorKind::Connection, "cannot accept a connection").with_source(error)
            })?;
            let Some(mut connection) = accepted else {
                return Ok(None);
            };
            let deadline = Instant::now() + IDENTIFY_TIMEOUT;
            let channel = match connection.reader.peek(MAGIC_LEN, Some(deadline), user) {
                Ok(channel) => Channel::identify(channel),
                Err(error) if error.is_cancelled() => return Ok(None),
                Err(_) => None,
            };
            match channel {
                Some(channel @ (Channel::Main | Channel::PostcopyRecovery)) => {
                    break (channel, connection);
                }
                Some(Channel::Multifd) if multifd_channels.len() < MAX_PENDING_CONNECTIONS => {
                    multifd_channels.push(connection);
                }
                Some(channel @ Channel::Tls) => {
                    session.reject(channel, &connection, TLS_UNSUPPORTED);
                    return Err(unsupported_error(TLS_UNSUPPORTED).with_hint(
                        "switch tls-creds off on both QEMUs, and protect the connection by \
                             other means \
                             (ssh -L, stunnel, a unix socket through an encrypted tunnel)",
                    ));
                }
                Some(channel @ Channel::Cpr) => {
                    session.reject(channel, &connection, CPR_UNSUPPORTED);
                    return Err(unsupported_error(CPR_UNSUPPORTED)
                        .with_hint("migrate with the mode `normal`"));
                }
                other => session.reject(
                    other.unwrap_or(Channel::Other),
                    &connection,
                    "this is not a QEMU migration",
                ),
            }
            if self.is_single() {
                return Err(Error::stream(
                    cpreg_stream::ErrorKind::NotAStream,
                    "the inherited connection does not carry a QEMU migration",
                )
                .with_offset(0));
            }
        };
        // Reject channels of a migration that ended before the relay accepted its main channel.
        multifd_channels.retain(|other: &Connection| {
            let is_open = !other.reader.has_ended();
            if !is_open {
                session.reject(Channel::Multifd, other, "the peer has closed it");
            }
            is_open
        });
        let destination = self.destination.connect(user).inspect_err(|_| {
            source.shutdown_handle.shutdown();
        })?;
        session.report_connected(channel);
        Ok(Some(session.run(
            channel,
            source,
            destination,
            multifd_channels,
            policy,
            user,
        )))
    }
}

/// Returns the error for a migration that no relay can forward.
fn unsupported_error(reason: &'static str) -> Error {
    Error::stream(cpreg_stream::ErrorKind::Unsupported, reason).with_offset(0)
}
