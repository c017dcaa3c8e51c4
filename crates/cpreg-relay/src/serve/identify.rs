//! [`Identification`]: waits for the events that decide the route of a connection.

use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::sessions::PendingConnection;
use super::states::{Event, Route, State};
use super::timeouts::Timeouts;
use crate::channel::{Channel, MAGIC_LEN};
use crate::connect::Connector;
use crate::error::Error;
use crate::io::cancel::{CancelToken, wait};
use crate::io::connection::{Connection, Reader};
use crate::tls::TlsCredentials;

/// Connection without a route.
pub(super) struct Identification<'i> {
    pub(super) connection: Connection,
    pub(super) connector: &'i Connector,
    pub(super) pending: &'i PendingConnection,
    pub(super) credentials: Option<&'i Arc<TlsCredentials>>,
    pub(super) timeouts: Timeouts,
}

/// Connection with its route.
pub(super) struct Identified {
    pub(super) connection: Connection,
    /// Connection to the original address, if the identification needed one.
    pub(super) destination: Option<Connection>,
    pub(super) channel: Channel,
    pub(super) is_tls: bool,
    pub(super) route: Route,
    /// Error that decided the route, with more detail than the route's reason.
    pub(super) error: Option<String>,
}

impl Identification<'_> {
    /// Waits until the route is known. Each state has a timeout.
    pub(super) fn run(self, cancel: &CancelToken) -> Identified {
        let timeouts = self.timeouts;
        let mut state = State::AwaitClient;
        let mut deadline = Instant::now() + timeouts.identification;
        let mut identified = Identified {
            connection: self.connection,
            destination: None,
            channel: Channel::Other,
            is_tls: false,
            route: Route::Forward,
            error: None,
        };
        loop {
            let event = match state {
                State::AwaitClient | State::AwaitPlain | State::AwaitTls => {
                    let silence = Instant::now() + timeouts.client_first;
                    let client = &mut identified.connection.reader;
                    match peek(client, silence.min(deadline), cancel) {
                        Event::Silent if Instant::now() >= deadline => Event::TimedOut,
                        event => event,
                    }
                }
                State::AwaitEither => identified.await_either(self.connector, deadline, cancel),
                State::AwaitHandshake => match self.credentials {
                    Some(credentials) => {
                        self.pending.set_tls();
                        identified.establish_tls(credentials, cancel)
                    }
                    None => Event::Failed,
                },
                State::Decided(route) => {
                    identified.route = route;
                    return identified;
                }
            };
            if let Event::ClientSent(channel) = event {
                identified.channel = channel;
            }
            // Other connections may have arrived during the wait.
            let context = self.pending.context(self.credentials.is_some());
            let next = state.transition(event, context);
            if next != state {
                deadline = Instant::now() + timeouts.identification;
            }
            state = next;
        }
    }
}

impl Identified {
    /// Connects to the original address, and waits for the first bytes of either side.
    fn await_either(
        &mut self,
        connector: &Connector,
        deadline: Instant,
        cancel: &CancelToken,
    ) -> Event {
        match connector.connect(cancel) {
            Ok(server) => {
                let server = self.destination.insert(server);
                let client = &mut self.connection.reader;
                await_either(client, &mut server.reader, deadline, cancel)
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Terminates the TLS of the client's connection.
    fn establish_tls(&mut self, credentials: &TlsCredentials, cancel: &CancelToken) -> Event {
        let placeholder = match Connection::from_halves(None, None) {
            Ok(placeholder) => placeholder,
            Err(error) => return self.fail(&Error::io("no descriptor is free", error)),
        };
        let encrypted = std::mem::replace(&mut self.connection, placeholder);
        match credentials.accept(encrypted, cancel) {
            Ok(plain) => {
                self.connection = plain;
                self.is_tls = true;
                Event::TlsEstablished
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &Error) -> Event {
        self.error = Some(error.to_string_with_hint());
        Event::Failed
    }
}

/// Waits for the client's first bytes.
fn peek(client: &mut Reader, deadline: Instant, cancel: &CancelToken) -> Event {
    let Ok(first) = client.peek(MAGIC_LEN, Some(deadline), cancel) else {
        return Event::ClientClosed;
    };
    let is_incomplete = first.len() < MAGIC_LEN;
    match Channel::identify(first) {
        Some(channel) => Event::ClientSent(channel),
        None if is_incomplete && client.has_ended() => Event::ClientClosed,
        None => Event::Silent,
    }
}

/// Waits for the first bytes of the client or the server.
fn await_either(
    client: &mut Reader,
    server: &mut Reader,
    deadline: Instant,
    cancel: &CancelToken,
) -> Event {
    loop {
        {
            let files: Vec<_> = [client.source(), server.source()]
                .into_iter()
                .flatten()
                .map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN))
                .collect();
            match wait(&files, Some(deadline), &[cancel]) {
                Ok(true) => {}
                Ok(false) => return Event::TimedOut,
                Err(_) => return Event::ClientClosed,
            }
        }
        let now = Instant::now();
        match peek(client, now, cancel) {
            Event::Silent => {}
            event => return event,
        }
        let has_sent = server
            .peek(1, Some(now), cancel)
            .is_ok_and(|first| !first.is_empty());
        if has_sent || server.has_ended() {
            return Event::ServerSent;
        }
    }
}
