//! [`Listener`]: connections that others make.
//!
//! A Unix socket is one that only its user may connect to, from the moment it is there: a socket's own mode, which is set
//! before it is bound, is the mode its name is made with (Linux `unix_bind`). A name that a dead process left behind is
//! replaced; one behind which somebody listens is not, nor a file of another kind.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::VsockAddr;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, fchmod, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, socket_with,
};

use crate::address::Address;
use crate::error::{Error, ErrorKind};
use crate::inherited::{self, InheritedFd};
use crate::io::cancel::{CancelToken, wait_for};
use crate::io::connection::Connection;

/// How many connections may wait to be accepted: more than QEMU has channels (multifd: at most 255, and 2).
const BACKLOG: i32 = 1024;

/// Where connections come in.
pub struct Listener {
    address: Address,
    kind: ListenerKind,
}

enum ListenerKind {
    Socket {
        socket: OwnedFd,
        /// The name in the file system.
        #[expect(dead_code, reason = "it is there to be removed when it is dropped")]
        socket_path: Option<SocketPath>,
    },
    /// One that was there from the start, until it has been accepted.
    SingleConnection(Mutex<Option<Connection>>),
}

impl Listener {
    /// Listens on an address.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] if the address is in use or may not be used, with what to do about it;
    /// [`ErrorKind::BadAddress`] if one cannot listen on this.
    pub fn bind(address: &Address) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            let hint = hint(address, &error);
            let failed = Error::new(ErrorKind::Connection, format!("cannot listen on {address}"))
                .with_source(error);
            match hint {
                Some(hint) => failed.with_hint(hint),
                None => failed,
            }
        };
        let mut real = address.clone();
        let from = match address {
            Address::Tcp { host, port } => {
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                let socket = TcpListener::bind((host, *port)).map_err(failed)?;
                socket.set_nonblocking(true).map_err(failed)?;
                real = Address::Tcp {
                    host: host.to_owned(),
                    port: socket.local_addr().map_err(failed)?.port(),
                };
                ListenerKind::Socket {
                    socket: socket.into(),
                    socket_path: None,
                }
            }
            Address::Unix(path) => {
                let (socket, name) = SocketPath::bind(path, failed)?;
                ListenerKind::Socket {
                    socket,
                    socket_path: Some(name),
                }
            }
            Address::Vsock { cid, port } => {
                let (socket, port) = bind_vsock(*cid, *port).map_err(failed)?;
                real = Address::Vsock { cid: *cid, port };
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
                    let not_waiting = fcntl_getfl(&socket)
                        .and_then(|flags| fcntl_setfl(&socket, flags | OFlags::NONBLOCK));
                    not_waiting.map_err(|error| failed(error.into()))?;
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
            address: real,
            kind: from,
        })
    }

    /// Where it listens: with the host and the port that were chosen, if it was to choose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether there is one connection and there will be no other.
    pub fn is_single(&self) -> bool {
        matches!(self.kind, ListenerKind::SingleConnection(_))
    }

    /// Waits for the next connection; none if it is cancelled, or there will be no other.
    ///
    /// # Errors
    /// If no connection can be taken: mostly because this process may open no more descriptors.
    pub fn accept(&self, cancel: &CancelToken) -> io::Result<Option<Connection>> {
        let socket = match &self.kind {
            ListenerKind::Socket { socket, .. } => socket,
            ListenerKind::SingleConnection(once) => {
                return Ok(once.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        };
        loop {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            match accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(connection) => return Connection::from_socket(connection).map(Some),
                // Gone before it was taken.
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

/// What to do about it.
fn hint(address: &Address, error: &io::Error) -> Option<&'static str> {
    let unix = matches!(address, Address::Unix(_));
    Some(match error.kind() {
        io::ErrorKind::AddrInUse if !unix => {
            "somebody listens there already: give another port, or 0 for one that is free"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: give one of its own, or none for loopback"
        }
        io::ErrorKind::NotFound if unix => "make the folder first",
        io::ErrorKind::PermissionDenied if unix => {
            "give a path in a folder that the user who runs cpreg may write to"
        }
        io::ErrorKind::PermissionDenied => "a port below 1024 is the system's: give a higher one",
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename if unix => {
            "a path of a socket has at most 107 bytes: give a shorter one"
        }
        _ if matches!(address, Address::Vsock { .. }) => {
            "look whether /dev/vsock is there (vhost_vsock on a host, a vsock device in a VM)"
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

/// The name of a Unix socket that this process made.
struct SocketPath {
    path: PathBuf,
    /// Device and inode: what it is if nobody put another in its place.
    identity: (u64, u64),
}

impl SocketPath {
    fn bind(
        path: &Path,
        failed: impl Fn(io::Error) -> Error + Copy,
    ) -> Result<(OwnedFd, Self), Error> {
        let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
        remove_stale_socket(path, &address, failed)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let make = || -> io::Result<_> {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            fchmod(socket.as_fd(), Mode::RUSR | Mode::WUSR)?;
            rustix::net::bind(&socket, &address)?;
            let name = Self {
                identity: identity(path)?,
                path: std::path::absolute(path)?,
            };
            rustix::net::listen(&socket, BACKLOG)?;
            Ok((socket, name))
        };
        make().map_err(failed)
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|is| is == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a name that a dead process left behind.
fn remove_stale_socket(
    path: &Path,
    address: &SocketAddrUnix,
    failed: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let in_use = |hint| failed(io::ErrorKind::AddrInUse.into()).with_hint(hint);
    if !there.file_type().is_socket() {
        return Err(in_use(
            "a file is there that is no socket: remove it, or give another path",
        ));
    }
    // A datagram socket is told what is behind the name without whoever listens there getting a connection: a QEMU would
    // take that for the migration it waits for.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let asks = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(|error| failed(error.into()))?;
    match rustix::net::connect(&asks, address) {
        Err(Errno::CONNREFUSED) => {}
        Err(error) if error != Errno::PROTOTYPE => return Err(failed(error.into())),
        _ => {
            return Err(in_use(
                "another process has this socket: stop it, or give another path",
            ));
        }
    }
    // Still the one that nobody listened on.
    if identity(path).is_ok_and(|is| is == (there.dev(), there.ino())) {
        std::fs::remove_file(path).map_err(failed)?;
    }
    Ok(())
}
