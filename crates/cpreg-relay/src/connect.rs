//! [`connect()`]: a connection that we make.
//!
//! A name of a host may have several addresses, which are tried one after the other. Looking a name up is the system's, and
//! is the one thing here that cannot be cancelled.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::VsockAddr;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};

use crate::address::Address;
use crate::error::{Error, ErrorKind};
use crate::inherited::{self, InheritedFd};
use crate::io::cancel::{CancelToken, wait_for};
use crate::io::connection::Connection;

/// How long to wait until somebody is asked again whose queue of connections is full: Linux has nothing to wait for there.
const BACKLOG_RETRY_DELAY: Duration = Duration::from_millis(10);
/// How long a connection to the destination may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the VMs go.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    address: Address,
}

impl Connector {
    pub(super) const fn new(address: Address) -> Self {
        Self { address }
    }

    pub(super) fn connect(&self, cancel: &CancelToken) -> Result<Connection, Error> {
        connect(&self.address, CONNECT_TIMEOUT, cancel)
    }
}

/// Connects to an address, which takes at most so long; an inherited connection is taken as it is.
///
/// # Errors
/// [`ErrorKind::Connection`] if nobody answers there, with what to do about it; [`ErrorKind::BadAddress`] if one cannot
/// connect to this.
pub fn connect(
    address: &Address,
    timeout: Duration,
    cancel: &CancelToken,
) -> Result<Connection, Error> {
    let until = Instant::now().checked_add(timeout);
    let failed = |error: io::Error| {
        let hint = hint(address, &error);
        let failed = Error::new(
            ErrorKind::Connection,
            format!("cannot connect to {address}"),
        )
        .with_source(error);
        match hint {
            Some(hint) => failed.with_hint(hint),
            None => failed,
        }
    };
    let socket = match address {
        Address::Tcp { host, port } => connect_tcp(host, *port, until, cancel),
        Address::Unix(path) => SocketAddrUnix::new(path.as_path())
            .map_err(Into::into)
            .and_then(|path| {
                connect_socket(AddressFamily::UNIX, until, cancel, |socket| {
                    rustix::net::connect(socket, &path)
                })
            }),
        Address::Vsock { cid, port } => {
            connect_socket(AddressFamily::VSOCK, until, cancel, |socket| {
                nix::sys::socket::connect(socket.as_raw_fd(), &VsockAddr::new(*cid, *port))
                    .map_err(|error| Errno::from_raw_os_error(error as i32))
            })
        }
        Address::Fd(number) => {
            return match inherited::take(*number)? {
                InheritedFd::Connection(connection) => Ok(connection),
                InheritedFd::Listener(_) => Err(Error::new(
                    ErrorKind::BadAddress,
                    format!("{address} is a socket that listens: nothing can be sent there"),
                )
                .with_hint("give one that is connected, or give it as the address to listen on")),
            };
        }
        Address::Stdio => return inherited::take_stdio(),
    };
    socket.and_then(Connection::from_socket).map_err(failed)
}

/// What to do about it.
fn hint(address: &Address, error: &io::Error) -> Option<String> {
    let unix = matches!(address, Address::Unix(_));
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused if unix => "the socket is there and nobody listens on \
                                                     it: is the destination QEMU still running?"
            .to_owned(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => format!(
            "nobody listens there: start the destination QEMU with `-incoming {address}` first"
        ),
        io::ErrorKind::NotFound if unix => format!(
            "there is no such socket: start the destination QEMU with `-incoming {address}` first"
        ),
        io::ErrorKind::PermissionDenied if unix => {
            "run cpreg as the user that QEMU runs as, or let it use the socket".to_owned()
        }
        io::ErrorKind::TimedOut => {
            "nothing answers: look at the address, and at a firewall in between".to_owned()
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename if unix => {
            "a path of a socket has at most 107 bytes: give a shorter one".to_owned()
        }
        _ if matches!(address, Address::Vsock { .. }) => "look at the CID, and whether /dev/vsock \
                                                          is there (vhost_vsock on a host, a \
                                                          vsock device in a VM)"
            .to_owned(),
        _ => return None,
    })
}

fn connect_tcp(
    host: &str,
    port: u16,
    until: Option<Instant>,
    cancel: &CancelToken,
) -> io::Result<OwnedFd> {
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = connect_socket(family, until, cancel, |socket| {
            rustix::net::connect(socket, &address)
        });
        match socket {
            Ok(socket) => return Ok(socket),
            Err(error) if cancel.is_cancelled() => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket of that family, connected.
fn connect_socket(
    family: AddressFamily,
    until: Option<Instant>,
    cancel: &CancelToken,
    connect: impl Fn(&OwnedFd) -> rustix::io::Result<()>,
) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&socket) {
            Ok(()) | Err(Errno::ISCONN) => return Ok(socket),
            Err(Errno::INPROGRESS | Errno::INTR) => {
                let ready = wait_for(&socket, PollFlags::OUT, until, &[cancel]);
                if !ready.map_err(to_io_error)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                sockopt::socket_error(&socket)??;
                return Ok(socket);
            }
            Err(Errno::AGAIN) => {
                if until.is_some_and(|until| Instant::now() >= until) {
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
