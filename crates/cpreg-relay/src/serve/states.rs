//! States of a connection from its first byte to its route.
//!
//! ```text
//! AwaitClient ──first bytes──────────────────────> Decided
//!   │ │  └──TLS, with certificates──> AwaitHandshake ──plain──> AwaitPlain ──> Decided
//!   │ └──silence, while other channels use TLS──> AwaitTls ──TLS──> AwaitHandshake
//!   └──silence──> AwaitEither ──first bytes of either──> Decided
//! ```
//!
//! QEMU 9.0 and later connect all multifd channels before the main channel sends its first byte,
//! and a busy source begins TLS late. For this reason the relay connects to the server only for the
//! oldest connection without a route. QEMU would take a second connection for a further channel.
//!
//! Every state but `Decided` has a timeout. [`State::transition`] is pure; `identify` waits for the
//! events.

use crate::channel::{CPR_UNSUPPORTED, Channel};

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The client may send first.
    AwaitClient,
    /// The client has not identified its channel. The relay has connected to the server, and waits
    /// for bytes of either side.
    AwaitEither,
    /// The client has sent nothing, although the other channels of its migration use TLS.
    AwaitTls,
    /// The client has begun TLS.
    AwaitHandshake,
    /// TLS is established; the client may send plain bytes.
    AwaitPlain,
    /// The route is known.
    Decided(Route),
}

/// Route of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Main channel of a migration.
    Migrate,
    /// Further channel of a migration.
    Join,
    /// Forwarded unparsed.
    Forward,
    /// Closed, for this reason.
    Close(&'static str),
}

/// Event of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The client has sent the bytes that identify its channel.
    ClientSent(Channel),
    /// The client closed the connection before it identified its channel.
    ClientClosed,
    /// The server has sent bytes, or closed the connection.
    ServerSent,
    /// The client has sent nothing for [`Timeouts::client_first`](super::Timeouts::client_first).
    Silent,
    /// The timeout of the state has passed.
    TimedOut,
    /// TLS is established.
    TlsEstablished,
    /// The handshake, or the connection to the server, failed.
    Failed,
}

/// Facts about the relay and the other connections to the same address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each fact is independent of the others"
)]
pub(super) struct Context {
    /// `true` if a migration is in progress.
    pub(super) has_session: bool,
    /// `true` if another connection uses TLS.
    pub(super) expects_tls: bool,
    /// `true` if an older connection has no route.
    pub(super) is_preceded: bool,
    /// `true` if the relay has certificates.
    pub(super) has_credentials: bool,
}

pub(super) const TLS_IN_TLS: &str = "TLS inside TLS is not QEMU's";
pub(super) const SILENT: &str = "neither side sends anything";
pub(super) const CLIENT_CLOSED: &str = "the client closed the connection";
pub(super) const TLS_FAILED: &str = "the TLS handshake failed";
pub(super) const SERVER_FAILED: &str = "nothing listens at the original address";

impl State {
    /// Returns the state after an event.
    pub(super) const fn transition(self, event: Event, context: Context) -> Self {
        let route = match (self, event) {
            (Self::Decided(_), _) => return self,
            (
                Self::AwaitClient | Self::AwaitEither | Self::AwaitTls,
                Event::ClientSent(Channel::Tls),
            ) if context.has_credentials => return Self::AwaitHandshake,
            (Self::AwaitHandshake, Event::TlsEstablished) => return Self::AwaitPlain,
            (Self::AwaitHandshake, _) => Route::Close(TLS_FAILED),
            (Self::AwaitClient, Event::Silent) if context.expects_tls => return Self::AwaitTls,
            // A channel whose source sends nothing at first: postcopy-preempt.
            (Self::AwaitClient | Self::AwaitPlain, Event::Silent) if context.has_session => {
                Route::Join
            }
            (Self::AwaitClient, Event::Silent) if !context.is_preceded => {
                return Self::AwaitEither;
            }
            (_, Event::Silent) => return self,
            (_, Event::TimedOut) => Route::Close(SILENT),
            (_, Event::ClientSent(channel)) => Self::route(channel, context),
            (_, Event::ClientClosed) => Route::Close(CLIENT_CLOSED),
            (Self::AwaitEither, Event::ServerSent) => Route::Forward,
            (Self::AwaitEither, Event::Failed) => Route::Close(SERVER_FAILED),
            // Only `AwaitEither` has a server, and only `AwaitHandshake` a handshake.
            (_, Event::ServerSent | Event::TlsEstablished | Event::Failed) => return self,
        };
        Self::Decided(route)
    }

    /// Returns the route of an identified channel.
    const fn route(channel: Channel, context: Context) -> Route {
        match channel {
            Channel::Main | Channel::PostcopyRecovery => Route::Migrate,
            Channel::Multifd => Route::Join,
            Channel::Tls if context.has_credentials => Route::Close(TLS_IN_TLS),
            // The migration has the same result as without the relay.
            Channel::Tls => Route::Forward,
            Channel::Cpr => Route::Close(CPR_UNSUPPORTED),
            Channel::Other if context.has_session => Route::Join,
            Channel::Other => Route::Forward,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State::{AwaitClient, AwaitEither, AwaitHandshake, AwaitPlain, AwaitTls, Decided};
    use super::*;

    const PLAIN: Context = Context {
        has_session: false,
        expects_tls: false,
        is_preceded: false,
        has_credentials: false,
    };
    const IN_SESSION: Context = Context {
        has_session: true,
        ..PLAIN
    };
    const PRECEDED: Context = Context {
        is_preceded: true,
        ..PLAIN
    };
    const WITH_TLS: Context = Context {
        has_credentials: true,
        ..PLAIN
    };
    const BESIDE_TLS: Context = Context {
        expects_tls: true,
        ..WITH_TLS
    };
    const IN_TLS_SESSION: Context = Context {
        has_session: true,
        ..BESIDE_TLS
    };

    const fn sent(channel: Channel) -> Event {
        Event::ClientSent(channel)
    }

    const fn close(reason: &'static str) -> State {
        Decided(Route::Close(reason))
    }

    fn assert_transitions(table: &[(State, Event, Context, State)]) {
        for &(state, event, context, expected) in table {
            let next = state.transition(event, context);
            assert_eq!(next, expected, "{state:?} {event:?} {context:?}");
        }
    }

    #[test]
    fn channels_have_routes() {
        let (migrate, join) = (Decided(Route::Migrate), Decided(Route::Join));
        let main = sent(Channel::Main);
        assert_transitions(&[
            (AwaitClient, main, PLAIN, migrate),
            (AwaitEither, main, PLAIN, migrate),
            (AwaitPlain, main, WITH_TLS, migrate),
            (AwaitClient, sent(Channel::PostcopyRecovery), PLAIN, migrate),
            (AwaitClient, sent(Channel::Multifd), PLAIN, join),
            (AwaitPlain, sent(Channel::Multifd), WITH_TLS, join),
            (
                AwaitClient,
                sent(Channel::Cpr),
                PLAIN,
                close(CPR_UNSUPPORTED),
            ),
            // A second main channel waits for the end of the first migration.
            (AwaitClient, main, IN_SESSION, migrate),
            // Unknown protocols.
            (
                AwaitClient,
                sent(Channel::Other),
                PLAIN,
                Decided(Route::Forward),
            ),
            (AwaitClient, sent(Channel::Other), IN_SESSION, join),
        ]);
    }

    #[test]
    fn silence_and_ends() {
        let (silence, timeout) = (Event::Silent, Event::TimedOut);
        let join = Decided(Route::Join);
        assert_transitions(&[
            (AwaitClient, silence, PLAIN, AwaitEither),
            (AwaitClient, silence, IN_SESSION, join),
            (AwaitClient, silence, PRECEDED, AwaitClient),
            (AwaitClient, silence, BESIDE_TLS, AwaitTls),
            (AwaitClient, silence, IN_TLS_SESSION, AwaitTls),
            (AwaitTls, silence, IN_TLS_SESSION, AwaitTls),
            (AwaitPlain, silence, IN_TLS_SESSION, join),
            // The main channel sends nothing until the multifd channels are connected.
            (AwaitPlain, silence, BESIDE_TLS, AwaitPlain),
            (AwaitPlain, timeout, WITH_TLS, close(SILENT)),
            (AwaitEither, silence, PLAIN, AwaitEither),
            (AwaitEither, timeout, PLAIN, close(SILENT)),
            (
                AwaitEither,
                Event::ServerSent,
                PLAIN,
                Decided(Route::Forward),
            ),
            (
                AwaitClient,
                Event::ClientClosed,
                PLAIN,
                close(CLIENT_CLOSED),
            ),
            (
                AwaitEither,
                Event::ClientClosed,
                PLAIN,
                close(CLIENT_CLOSED),
            ),
            (AwaitEither, Event::Failed, PLAIN, close(SERVER_FAILED)),
        ]);
    }

    #[test]
    fn tls_without_credentials_passes_unparsed() {
        let hello = sent(Channel::Tls);
        assert_transitions(&[
            (AwaitClient, hello, PLAIN, Decided(Route::Forward)),
            (AwaitClient, hello, IN_SESSION, Decided(Route::Forward)),
            (AwaitClient, hello, WITH_TLS, AwaitHandshake),
            (AwaitEither, hello, WITH_TLS, AwaitHandshake),
            (AwaitTls, hello, IN_TLS_SESSION, AwaitHandshake),
            (AwaitHandshake, Event::TlsEstablished, WITH_TLS, AwaitPlain),
            (AwaitHandshake, Event::Failed, WITH_TLS, close(TLS_FAILED)),
            (AwaitHandshake, Event::TimedOut, WITH_TLS, close(TLS_FAILED)),
            (AwaitPlain, hello, WITH_TLS, close(TLS_IN_TLS)),
        ]);
    }

    #[test]
    fn no_state_outlasts_its_timeout() {
        for context in [PLAIN, IN_SESSION, PRECEDED, BESIDE_TLS, IN_TLS_SESSION] {
            for state in [
                AwaitClient,
                AwaitEither,
                AwaitTls,
                AwaitHandshake,
                AwaitPlain,
            ] {
                let next = state.transition(Event::TimedOut, context);
                assert!(matches!(next, Decided(_)), "{state:?} {context:?}");
            }
        }
    }

    #[test]
    fn a_route_is_final() {
        for event in [
            Event::TimedOut,
            Event::ServerSent,
            Event::ClientSent(Channel::Main),
        ] {
            let decided = Decided(Route::Forward);
            assert_eq!(decided.transition(event, PLAIN), decided);
        }
    }
}
