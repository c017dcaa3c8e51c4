//! [`Listener`]: incoming connections.
//!
//! Only the relay's user can connect to its Unix socket, even right after its creation. The relay
//! sets the mode of the socket before it binds the socket, and the file receives the same mode
//! (Linux `unix_bind`). The relay replaces the socket file of a dead process. It replaces neither a
//! socket with a listener nor a file of another kind.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::VsockAddr;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, fchmod, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, getpeername, socket_with,
};

use crate::address::Address;
use crate::error::{Error, ErrorKind};
use crate::host_name::{self, LOOKUP_HINT, is_lookup_error};
use crate::inherited::{self, InheritedFd};
use crate::io::cancel::{CancelToken, wait_for};
use crate::io::connection::Connection;

/// Maximum number of connections that wait to be accepted. QEMU has fewer channels (at most 255 for
/// multifd, and 2 others).
const BACKLOG: i32 = 1024;

/// Source of incoming connections.
pub struct Listener {
    address: Address,
    kind: ListenerKind,
}

enum ListenerKind {
    Socket {
        socket: OwnedFd,
        /// Path of the socket file that this process created; removed when the listener is dropped.
        #[expect(dead_code, reason = "removes the socket file on drop")]
        socket_path: Option<SocketPath>,
    },
    /// Inherited connection; `None` once the caller has accepted it.
    SingleConnection(Mutex<Option<Connection>>),
}

impl Listener {
    /// Listens on an address.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] with a hint if the address is in use or not permitted;
    /// [`ErrorKind::BadAddress`] if the address cannot be listened on.
    pub fn bind(address: &Address) -> Result<Self, Error> {
        let to_error = |error: io::Error| {
            let hint = hint(address, &error);
            let error = Error::new(ErrorKind::Connection, format!("cannot listen on {address}"))
                .with_source(error);
            match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        };
        let mut bound_address = address.clone();
        let kind = match address {
            Address::Tcp { host, port } => {
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                let addresses = host_name::resolve(host, *port).map_err(to_error)?;
                let socket = TcpListener::bind(&*addresses).map_err(to_error)?;
                socket.set_nonblocking(true).map_err(to_error)?;
                bound_address = Address::Tcp {
                    host: host.to_owned(),
                    port: socket.local_addr().map_err(to_error)?.port(),
                };
                ListenerKind::Socket {
                    socket: socket.into(),
                    socket_path: None,
                }
            }
            Address::Unix(path) => {
                let (socket, socket_path) = SocketPath::bind(path, to_error)?;
                ListenerKind::Socket {
                    socket,
                    socket_path: Some(socket_path),
                }
            }
            Address::Vsock { cid, port } => {
                let (socket, port) = bind_vsock(*cid, *port).map_err(to_error)?;
                bound_address = Address::Vsock { cid: *cid, port };
                ListenerKind::Socket {
                    socket,
                    socket_path: None,
                }
            }
            Address::Fd(number) => match inherited::take(*number)? {
                InheritedFd::Connection(connection) => {
                    ListenerKind::SingleConnection(Mutex::new(Some(connection)))
                }
                InheritedFd::Listener(socket) => {
                    let result = fcntl_getfl(&socket)
                        .and_then(|flags| fcntl_setfl(&socket, flags | OFlags::NONBLOCK));
                    result.map_err(|error| to_error(error.into()))?;
                    ListenerKind::Socket {
                        socket,
                        socket_path: None,
                    }
                }
            },
            Address::Stdio => {
                ListenerKind::SingleConnection(Mutex::new(Some(inherited::take_stdio()?)))
            }
        };
        Ok(Self {
            address: bound_address,
            kind,
        })
    }

    /// Returns the address of the listener, with the host and port that were chosen.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns `true` if the listener has one inherited connection and will have no other.
    pub fn is_single(&self) -> bool {
        matches!(self.kind, ListenerKind::SingleConnection(_))
    }

    /// Waits for the next connection; `None` if `cancel` is cancelled or no further connection can
    /// arrive.
    ///
    /// # Errors
    /// Returns an error if no connection can be accepted, mostly because this process may open no
    /// more descriptors.
    pub fn accept(&self, cancel: &CancelToken) -> io::Result<Option<Connection>> {
        let accepted = self.accept_from(cancel)?;
        Ok(accepted.map(|(connection, _)| connection))
    }

    /// Waits for the next connection like [`Self::accept`]. Returns it with the address of its
    /// peer, if the peer has an IP address.
    pub(crate) fn accept_from(
        &self,
        cancel: &CancelToken,
    ) -> io::Result<Option<(Connection, Option<SocketAddr>)>> {
        let socket = match &self.kind {
            ListenerKind::Socket { socket, .. } => socket,
            ListenerKind::SingleConnection(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(connection.take().map(|connection| (connection, None)));
            }
        };
        loop {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            match accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(connection) => {
                    let peer = getpeername(&connection).ok();
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer?).ok());
                    let connection = Connection::from_socket(connection)?;
                    return Ok(Some((connection, peer)));
                }
                // The peer closed the connection before the listener accepted it.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => match wait_for(socket, PollFlags::IN, None, &[cancel]) {
                    Ok(_) => {}
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Err(error.into_io()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.address).finish()
    }
}

/// Returns a hint for a failed bind.
fn hint(address: &Address, error: &io::Error) -> Option<&'static str> {
    if is_lookup_error(error) {
        return Some(LOOKUP_HINT);
    }
    let unix = matches!(address, Address::Unix(_));
    Some(match error.kind() {
        io::ErrorKind::AddrInUse if !unix => {
            "another process listens on this address: use another port, or 0 for a free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: use one of its addresses, or leave it empty for \
             loopback"
        }
        io::ErrorKind::NotFound if unix => "create the directory first",
        io::ErrorKind::PermissionDenied if unix => {
            "use a path in a directory that the user of cpreg may write to"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: use a higher one",
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename if unix => {
            "a socket path has at most 107 bytes: use a shorter one"
        }
        _ if matches!(address, Address::Vsock { .. }) => {
            "check that /dev/vsock exists (vhost_vsock on a host, a vsock device in a VM)"
        }
        _ => return None,
    })
}

fn bind_vsock(cid: u32, port: u32) -> io::Result<(OwnedFd, u32)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &VsockAddr::new(cid, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    let bound: VsockAddr = nix::sys::socket::getsockname(socket.as_raw_fd())?;
    Ok((socket, bound.port()))
}

/// Socket file that this process created.
struct SocketPath {
    path: PathBuf,
    /// Device and inode of the file, which show if another process has replaced it.
    identity: (u64, u64),
}

impl SocketPath {
    fn bind(
        path: &Path,
        to_error: impl Fn(io::Error) -> Error + Copy,
    ) -> Result<(OwnedFd, Self), Error> {
        let address = SocketAddrUnix::new(path).map_err(|error| to_error(error.into()))?;
        remove_stale_socket(path, &address, to_error)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let bind = || -> io::Result<_> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)?;
            rustix::net::bind(&socket, &address)?;
            let socket_path = Self {
                identity: identity(path)?,
                path: std::path::absolute(path)?,
            };
            rustix::net::listen(&socket, BACKLOG)?;
            Ok((socket, socket_path))
        };
        bind().map_err(to_error)
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|current| current == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes the socket file of a dead process.
fn remove_stale_socket(
    path: &Path,
    address: &SocketAddrUnix,
    to_error: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(to_error(error)),
    };
    let in_use = |hint| to_error(io::ErrorKind::AddrInUse.into()).with_hint(hint);
    if !metadata.file_type().is_socket() {
        return Err(in_use(
            "a file that is not a socket exists at this path: remove it, or use another path",
        ));
    }
    // `connect` of a datagram socket shows if the path has a listener, but makes no connection. A
    // waiting QEMU would treat a connection as its incoming migration.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(|error| to_error(error.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {}
        Err(error) if error != Errno::PROTOTYPE => return Err(to_error(error.into())),
        _ => {
            return Err(in_use(
                "another process listens on this socket: stop it, or use another path",
            ));
        }
    }
    // The path must still be the socket that had no listener.
    if identity(path).is_ok_and(|current| current == (metadata.dev(), metadata.ino())) {
        std::fs::remove_file(path).map_err(to_error)?;
    }
    Ok(())
}
