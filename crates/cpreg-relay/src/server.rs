//! [`Relay`]: waits for the main channel of a migration, and connects it to the destination.

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

/// How long a connection may take to say what it is before it is taken for none of ours.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// More connections than any migration has before its main one.
const MAX_PENDING_CONNECTIONS: usize = 256;

/// Why TLS is not carried.
const TLS_UNSUPPORTED: &str = "TLS by QEMU itself (tls-creds): it is encrypted from end to end, and nobody \
                   between can repair it";

/// A place where VMs come from, and one where they go.
#[derive(Debug)]
pub struct Relay {
    listener: Listener,
    destination: Connector,
}

impl Relay {
    /// Listens; nobody is connected to before a migration has come.
    ///
    /// # Errors
    /// Those of [`Listener::bind`].
    pub fn bind(listen: &Address, connect: Address) -> Result<Self, Error> {
        Ok(Self {
            listener: Listener::bind(listen)?,
            destination: Connector::new(connect),
        })
    }

    /// Where it listens: with the host and the port that were chosen, if it was to choose.
    pub fn address(&self) -> &Address {
        self.listener.address()
    }

    /// Whether there is one migration at most: it comes over a connection that is there already.
    pub fn is_single(&self) -> bool {
        self.listener.is_single()
    }

    /// Waits for one migration and carries it; none if `user` has been cancelled, or no other can come.
    ///
    /// `user` ends the waiting and the migration up to the moment when all of its device state has come; behind that it is too
    /// late, and nothing but the two QEMUs ends it.
    ///
    /// # Errors
    /// If no connection can be taken; if what came cannot be carried, or the destination cannot be connected to: the source
    /// has been told then, by closing.
    pub fn serve_migration(
        &self,
        judge: &mut dyn MigrationPolicy,
        observer: &dyn Observer,
        user: &CancelToken,
    ) -> Result<Option<MigrationResult>, Error> {
        let session = Session::new(&self.listener, &self.destination, observer)?;
        let mut others = Vec::new();
        let (channel, source) = loop {
            let accepted = self.listener.accept(user);
            let accepted = accepted.map_err(|error| {
                Error::new(ErrorKind::Connection, "cannot take a connection").with_source(error)
            })?;
            let Some(mut connection) = accepted else {
                return Ok(None);
            };
            let until = Instant::now() + IDENTIFY_TIMEOUT;
            let first = match connection.reader.peek(MAGIC_LEN, Some(until), user) {
                Ok(first) => Channel::identify(first),
                Err(fault) if fault.is_cancelled() => return Ok(None),
                Err(_) => None,
            };
            match first {
                Some(channel @ (Channel::Main | Channel::PostcopyRecovery)) => {
                    break (channel, connection);
                }
                Some(Channel::Multifd) if others.len() < MAX_PENDING_CONNECTIONS => {
                    others.push(connection)
                }
                Some(channel @ Channel::Tls) => {
                    session.reject(channel, &connection, TLS_UNSUPPORTED);
                    return Err(unsupported_error(TLS_UNSUPPORTED).with_hint(
                        "switch tls-creds off on both QEMUs, and protect the connection otherwise \
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
                    "it is no migration of QEMU",
                ),
            }
            if self.is_single() {
                return Err(Error::stream(
                    cpreg_stream::ErrorKind::NotAStream,
                    "what came over the one connection there is, is no migration of QEMU",
                )
                .with_offset(0));
            }
        };
        // Channels of a migration that ended before its main one was taken are none of this one.
        others.retain(|other: &Connection| {
            let is_there = !other.reader.has_ended();
            if !is_there {
                session.reject(Channel::Multifd, other, "whoever made it has closed it");
            }
            is_there
        });
        let destination = self.destination.connect(user).inspect_err(|_| {
            source.shutdown_handle.shutdown();
        })?;
        session.report_connected(channel);
        Ok(Some(session.run(
            channel,
            source,
            destination,
            others,
            judge,
            user,
        )))
    }
}

/// A migration that no relay can carry.
fn unsupported_error(why: &'static str) -> Error {
    Error::stream(cpreg_stream::ErrorKind::Unsupported, why).with_offset(0)
}
