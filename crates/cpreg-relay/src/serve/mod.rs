//! [`Server`]: many migrations at once through one listener, to which a firewall rule redirects.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | [`Server`]: accepts connections and routes each one |
//! | `states` | states of a connection, from its first byte to its route |
//! | `identify` | waits for the events that change the state |
//! | `sessions` | migrations in progress, by the address that their sources connect to |
//! | `incoming` | [`IncomingMigration`]: a migration that waits for its policy |
//! | `original_destination` | [`OriginalDestination`]: the address before the redirection |
//! | `listening_process` | the process that listens on an address |
//! | `timeouts` | [`Timeouts`]: timeouts of the states |
//!
//! ```text
//! source ──> firewall: redirect 49152-49215 ──> server ──> original address: QEMU
//! ```
//!
//! All channels to one original address belong to one migration. The first bytes decide the route,
//! because the source's QEMU sends first. The server forwards a connection unparsed if its server
//! sends first (NBD), or its first bytes are unknown.

mod identify;
mod incoming;
mod listening_process;
mod original_destination;
mod sessions;
mod states;
mod timeouts;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use incoming::IncomingMigration;
pub use listening_process::find_listening_process;
pub use original_destination::{NatTable, OriginalDestination, Redirection};
pub use timeouts::Timeouts;

use self::identify::Identification;
use self::sessions::{JoinError, Sessions};
use self::states::Route;
use crate::address::Address;
use crate::channel::Channel;
use crate::connect::{Connector, can_set_mark};
use crate::error::Error;
use crate::io::cancel::CancelToken;
use crate::io::connection::Connection;
use crate::io::duplex::forward_both_ways;
use crate::listen::Listener;
use crate::tls::TlsCredentials;

/// Mark of the packets that the relay sends. A firewall rule exempts it from the redirection.
pub const PACKET_MARK: u32 = 0x6370;

/// Maximum number of connections at the same time.
const MAX_CONNECTIONS: usize = 2048;
/// Delay before the next attempt to accept a connection after a failed one.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Event of the server, outside of a migration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerEvent<'e> {
    /// The server forwards a connection unparsed.
    Forwarding {
        /// Address that the client connected to.
        destination: SocketAddr,
        /// Kind of the connection. [`Channel::Tls`]: the server has no certificates.
        channel: Channel,
    },
    /// A connection that the server forwarded unparsed has ended.
    Forwarded {
        /// Address that the client connected to.
        destination: SocketAddr,
        /// Number of bytes in both directions.
        bytes: u64,
    },
    /// The server closed a connection.
    Rejected {
        /// Address that the client connected to, if it is known.
        destination: Option<SocketAddr>,
        /// Kind of the connection.
        channel: Channel,
        /// Reason for the rejection.
        reason: &'e str,
    },
}

/// Handler of migrations and events. The server calls it from several threads at the same time.
pub trait MigrationHandler: Sync {
    /// Handles a migration: chooses its policy, and runs it.
    fn handle(&self, migration: IncomingMigration);

    /// Handles an event.
    fn on_event(&self, event: &ServerEvent<'_>);
}

/// Server of many migrations.
pub struct Server {
    listener: Listener,
    redirection: Box<dyn OriginalDestination>,
    credentials: Option<Arc<TlsCredentials>>,
    timeouts: Timeouts,
    sessions: Arc<Sessions>,
    connection_count: AtomicUsize,
}

impl Server {
    /// Listens for redirected connections.
    ///
    /// # Errors
    /// Those of [`Listener::bind`].
    pub fn bind(listen: &Address) -> Result<Self, Error> {
        Ok(Self {
            listener: Listener::bind(listen)?,
            redirection: Box::new(NatTable),
            credentials: None,
            timeouts: Timeouts::default(),
            sessions: Arc::default(),
            connection_count: AtomicUsize::new(0),
        })
    }

    /// Sets the source of original addresses, for tests without a firewall.
    #[must_use]
    pub fn with_redirection(mut self, redirection: Box<dyn OriginalDestination>) -> Self {
        self.redirection = redirection;
        self
    }

    /// Sets the certificates of this host, with which the server terminates QEMU's TLS.
    #[must_use]
    pub fn with_tls(mut self, credentials: TlsCredentials) -> Self {
        self.credentials = Some(Arc::new(credentials));
        self
    }

    /// Sets the timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> &Address {
        self.listener.address()
    }

    /// Returns `true` if this process may set [`PACKET_MARK`].
    pub fn can_mark_packets() -> bool {
        can_set_mark(PACKET_MARK)
    }

    /// Serves migrations until `user` is cancelled. This also cancels migrations whose device state
    /// has not arrived.
    ///
    /// # Errors
    /// Returns an error if no token can be created.
    pub fn run(&self, handler: &dyn MigrationHandler, user: &CancelToken) -> Result<(), Error> {
        thread::scope(|scope| {
            for number in 0.. {
                let accepted = match self.listener.accept_from(user) {
                    Ok(Some(accepted)) => accepted,
                    Ok(None) => break,
                    Err(_) => {
                        // Usually no descriptor is free until a connection ends.
                        let _ = user.wait(Some(Instant::now() + ACCEPT_RETRY_DELAY));
                        continue;
                    }
                };
                let count = self.connection_count.fetch_add(1, Ordering::Relaxed);
                let guard = CountGuard(&self.connection_count);
                if count >= MAX_CONNECTIONS {
                    handler.on_event(&ServerEvent::Rejected {
                        destination: None,
                        channel: Channel::Other,
                        reason: "too many connections",
                    });
                    continue;
                }
                let thread = thread::Builder::new().name("connection".to_owned());
                // Without a thread the connection closes, and the client may try again.
                let _ = thread.spawn_scoped(scope, move || {
                    let _guard = guard;
                    self.serve(number, accepted, handler, user);
                });
            }
            Ok(())
        })
    }

    /// Serves one connection.
    fn serve(
        &self,
        number: usize,
        (connection, peer): (Connection, Option<SocketAddr>),
        handler: &dyn MigrationHandler,
        user: &CancelToken,
    ) {
        let reject = |destination, channel, reason: &str| {
            handler.on_event(&ServerEvent::Rejected {
                destination,
                channel,
                reason,
            });
        };
        let destination = match self.original_destination(&connection) {
            Ok(Redirection::From(destination)) => destination,
            Ok(Redirection::None) => {
                let reason = "the connection was not redirected: no original address";
                return reject(None, Channel::Other, reason);
            }
            Err(error) => {
                let reason = format!("the original address is not known: {error}");
                return reject(None, Channel::Other, &reason);
            }
        };
        let connector = Connector::new(Address::from(destination)).with_mark(PACKET_MARK);
        let pending = Sessions::add_pending(&self.sessions, destination, number);
        let identification = Identification {
            connection,
            connector: &connector,
            pending: &pending,
            credentials: self.credentials.as_ref(),
            timeouts: self.timeouts,
        };
        let identified = identification.run(user);
        let is_tls = identified.is_tls;
        let rejected = match identified.route {
            Route::Forward => {
                drop(pending);
                let pair = (identified.connection, identified.destination);
                let address = (destination, identified.channel);
                forward_unparsed(address, pair, &connector, handler, user);
                return;
            }
            Route::Join => {
                let deadline = Instant::now() + self.timeouts.session;
                match self
                    .sessions
                    .join(destination, identified.connection, deadline, user)
                {
                    Ok(()) => return,
                    Err(JoinError) => "no main channel of this migration",
                }
            }
            Route::Migrate => {
                let deadline = Instant::now() + self.timeouts.session;
                match Sessions::begin(&self.sessions, destination, is_tls, deadline, user) {
                    Ok(queue) => {
                        drop(pending);
                        let credentials = self.credentials.clone().filter(|_| is_tls);
                        handler.handle(IncomingMigration {
                            channel: identified.channel,
                            peer,
                            original_destination: destination,
                            source: identified.connection,
                            destination: identified.destination,
                            connector: connector.clone().with_tls(credentials),
                            queue,
                            setup_timeout: self.timeouts.setup,
                        });
                        return;
                    }
                    Err(JoinError) => "another migration is in progress",
                }
            }
            Route::Close(reason) => {
                let reason = identified.error.as_deref().unwrap_or(reason);
                return reject(Some(destination), identified.channel, reason);
            }
        };
        reject(Some(destination), identified.channel, rejected);
    }

    /// Returns the address before the redirection. A connection to the relay's own address has
    /// none, because the relay would connect to itself.
    fn original_destination(&self, connection: &Connection) -> io::Result<Redirection> {
        let Some(socket) = connection.reader.source() else {
            return Ok(Redirection::None);
        };
        self.redirection.original_destination(socket)
    }
}

/// Forwards a connection unparsed.
fn forward_unparsed(
    (destination, channel): (SocketAddr, Channel),
    (client, server): (Connection, Option<Connection>),
    connector: &Connector,
    handler: &dyn MigrationHandler,
    user: &CancelToken,
) {
    let server = server.map_or_else(|| connector.connect(user), Ok);
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            return handler.on_event(&ServerEvent::Rejected {
                destination: Some(destination),
                channel: Channel::Other,
                reason: &error.to_string_with_hint(),
            });
        }
    };
    handler.on_event(&ServerEvent::Forwarding {
        destination,
        channel,
    });
    let bytes = AtomicU64::new(0);
    // The error is not logged: both peers notice the end of the connection.
    let _ = forward_both_ways(client, server, user, &bytes, |_, _| ());
    handler.on_event(&ServerEvent::Forwarded {
        destination,
        bytes: bytes.load(Ordering::Relaxed),
    });
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Guard that decrements a counter when it is dropped.
struct CountGuard<'c>(&'c AtomicUsize);

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
