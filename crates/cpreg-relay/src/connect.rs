//! [`connect()`]: an outgoing connection.
//!
//! A host name may have several addresses, which [`connect()`] tries one after the other. The
//! system resolves names; this is the only step that cannot be cancelled.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::VsockAddr;
use nix::sys::socket::sockopt::Mark;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};

use crate::address::Address;
use crate::error::{Error, ErrorKind};
use crate::host_name::{self, LOOKUP_HINT, is_lookup_error};
use crate::inherited::{self, InheritedFd};
use crate::io::cancel::{CancelToken, wait_for};
use crate::io::connection::Connection;
use crate::tls::TlsCredentials;

/// Delay before the next attempt if the listener's backlog is full. Linux has no event for a free
/// place in the backlog.
const BACKLOG_RETRY_DELAY: Duration = Duration::from_millis(10);
/// Timeout for a connection to the destination.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Connector to the destination.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    address: Address,
    /// Mark of the packets (`SO_MARK`); `None` for no mark.
    mark: Option<u32>,
    /// Credentials of a destination that expects TLS.
    tls: Option<Arc<TlsCredentials>>,
}

impl Connector {
    pub(super) const fn new(address: Address) -> Self {
        Self {
            address,
            mark: None,
            tls: None,
        }
    }

    /// Sets the mark of the packets that this process sends.
    pub(super) const fn with_mark(mut self, mark: u32) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Sets the credentials of a destination that expects TLS.
    pub(super) fn with_tls(mut self, credentials: Option<Arc<TlsCredentials>>) -> Self {
        self.tls = credentials;
        self
    }

    pub(super) fn connect(&self, cancel: &CancelToken) -> Result<Connection, Error> {
        let connection = connect_with_mark(&self.address, self.mark, CONNECT_TIMEOUT, cancel)?;
        self.secure(connection, cancel)
    }

    /// Begins TLS on a connection to the destination, if the destination expects TLS.
    pub(super) fn secure(
        &self,
        connection: Connection,
        cancel: &CancelToken,
    ) -> Result<Connection, Error> {
        match &self.tls {
            Some(credentials) => credentials.connect(connection, cancel),
            None => Ok(connection),
        }
    }
}

/// Returns `true` if this process may set the mark of its packets.
pub(super) fn can_set_mark(mark: u32) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
        .is_ok_and(|socket| nix::sys::socket::setsockopt(&socket, Mark, &mark).is_ok())
}

/// Connects to an address within the timeout; returns an inherited connection unchanged.
///
/// # Errors
/// [`ErrorKind::Connection`] if nothing answers at the address, with a hint;
/// [`ErrorKind::BadAddress`] if the address cannot be connected to.
pub fn connect(
    address: &Address,
    timeout: Duration,
    cancel: &CancelToken,
) -> Result<Connection, Error> {
    connect_with_mark(address, None, timeout, cancel)
}

/// Connects like [`connect`], with a mark on the packets of a TCP connection. A process without the
/// right to set the mark connects without it.
fn connect_with_mark(
    address: &Address,
    mark: Option<u32>,
    timeout: Duration,
    cancel: &CancelToken,
) -> Result<Connection, Error> {
    let deadline = Instant::now().checked_add(timeout);
    let to_error = |error: io::Error| {
        let hint = hint(address, &error);
        let error = Error::new(
            ErrorKind::Connection,
            format!("cannot connect to {address}"),
        )
        .with_source(error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    };
    let socket = match address {
        Address::Tcp { host, port } => connect_tcp(host, *port, mark, deadline, cancel),
        Address::Unix(path) => SocketAddrUnix::new(path.as_path())
            .map_err(Into::into)
            .and_then(|path| {
                connect_socket(AddressFamily::UNIX, deadline, cancel, |socket| {
                    rustix::net::connect(socket, &path)
                })
            }),
        Address::Vsock { cid, port } => {
            connect_socket(AddressFamily::VSOCK, deadline, cancel, |socket| {
                nix::sys::socket::connect(socket.as_raw_fd(), &VsockAddr::new(*cid, *port))
                    .map_err(|error| Errno::from_raw_os_error(error as i32))
            })
        }
        Address::Fd(number) => {
            return match inherited::take(*number)? {
                InheritedFd::Connection(connection) => Ok(connection),
                InheritedFd::Listener(_) => Err(Error::new(
                    ErrorKind::BadAddress,
                    format!("{address} is a listening socket: it cannot send"),
                )
                .with_hint("pass a connected socket, or use this one as the address to listen on")),
            };
        }
        Address::Stdio => return inherited::take_stdio(),
    };
    socket.and_then(Connection::from_socket).map_err(to_error)
}

/// Returns a hint for a failed connection.
fn hint(address: &Address, error: &io::Error) -> Option<String> {
    if is_lookup_error(error) {
        return Some(LOOKUP_HINT.to_owned());
    }
    let unix = matches!(address, Address::Unix(_));
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused if unix => {
            "the socket exists but no process listens on it: \
 check that the destination QEMU still runs"
                .to_owned()
        }
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => format!(
            "no process listens on this address: \
 start the destination QEMU with `-incoming {address}` first"
        ),
        io::ErrorKind::NotFound if unix => format!(
            "the socket does not exist: \
 start the destination QEMU with `-incoming {address}` first"
        ),
        io::ErrorKind::PermissionDenied if unix => "run cpreg as the user that QEMU runs as, or \
 give this user access to the socket"
            .to_owned(),
        io::ErrorKind::TimedOut => {
            "nothing answers: check the address and the firewalls on the way".to_owned()
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename if unix => {
            "a socket path has at most 107 bytes: use a shorter one".to_owned()
        }
        _ if matches!(address, Address::Vsock { .. }) => {
            "check the CID and that /dev/vsock exists (vhost_vsock on a host, \
 a vsock device in a VM)"
                .to_owned()
        }
        _ => return None,
    })
}

fn connect_tcp(
    host: &str,
    port: u16,
    mark: Option<u32>,
    deadline: Option<Instant>,
    cancel: &CancelToken,
) -> io::Result<OwnedFd> {
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host_name::resolve(host, port)? {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = connect_socket(family, deadline, cancel, |socket| {
            if let Some(mark) = mark {
                let _ = nix::sys::socket::setsockopt(socket, Mark, &mark);
            }
            rustix::net::connect(socket, &address)
        });
        match socket {
            Ok(socket) => return Ok(socket),
            Err(error) if cancel.is_cancelled() => return Err(error),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// Returns a connected socket of the given family.
fn connect_socket(
    family: AddressFamily,
    deadline: Option<Instant>,
    cancel: &CancelToken,
    connect: impl Fn(&OwnedFd) -> rustix::io::Result<()>,
) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&socket) {
            Ok(()) | Err(Errno::ISCONN) => return Ok(socket),
            Err(Errno::INPROGRESS | Errno::INTR) => {
                let ready = wait_for(&socket, PollFlags::OUT, deadline, &[cancel]);
                if !ready.map_err(to_io_error)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                sockopt::socket_error(&socket)??;
                return Ok(socket);
            }
            Err(Errno::AGAIN) => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                if cancel.wait(Some(Instant::now() + BACKLOG_RETRY_DELAY))? {
                    return Err(to_io_error(Error::cancelled()));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn to_io_error(error: Error) -> io::Error {
    if error.is_cancelled() {
        return io::Error::new(io::ErrorKind::Interrupted, error.to_string());
    }
    error.into_io()
}
