//! Descriptors that whoever started this process gave it: `fd:N` and `stdio:`.
//!
//! `fd:N` is a mere number, which safe code cannot close or read. The kernel is asked for a descriptor of the same open file
//! (`pidfd_getfd` of this very process, Linux 5.6), and the number itself is closed, since the other end of a pipe comes to
//! its end only once every descriptor of it is closed. What a process opened itself is close-on-exec here, and what it
//! inherited cannot be: so a number of ours is never taken for an inherited one, nor the same one twice.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::net::{SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::error::{Error, ErrorKind};
use crate::io::connection::Connection;

/// What an inherited descriptor is.
pub(super) enum InheritedFd {
    /// A connection, or one direction of one.
    Connection(Connection),
    /// A socket that listens.
    Listener(OwnedFd),
}

/// Takes `fd:N`.
pub(super) fn take(number: i32) -> Result<InheritedFd, Error> {
    let address = format!("fd:{number}");
    let unusable = |what: &str| Error::new(ErrorKind::BadAddress, format!("{address}: {what}"));
    let failed = |error: io::Error| {
        Error::new(ErrorKind::Connection, format!("{address} cannot be used")).with_source(error)
    };

    if !is_inherited(number) {
        return Err(
            unusable("this process did not inherit such a descriptor").with_hint(
                "let whoever starts cpreg leave it open without close-on-exec, and give it once",
            ),
        );
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|this| pidfd_getfd(this, number, PidfdGetfdFlags::empty()))
        .map_err(|error| failed(error.into()))?;
    nix::unistd::close(number).map_err(|error| failed(error.into()))?;

    if let Ok(kind) = sockopt::socket_type(&own) {
        if kind != SocketType::STREAM {
            return Err(
                unusable("this is no stream socket").with_hint("give one of type SOCK_STREAM")
            );
        }
        if sockopt::socket_acceptconn(&own).map_err(|error| failed(error.into()))? {
            return Ok(InheritedFd::Listener(own));
        }
        return Connection::from_socket(own)
            .map(InheritedFd::Connection)
            .map_err(failed);
    }
    let flags = fcntl_getfl(&own).map_err(|error| failed(error.into()))?;
    let halves = match flags & OFlags::RWMODE {
        OFlags::RDONLY => (Some(own), None),
        OFlags::WRONLY => (None, Some(own)),
        _ => {
            return Err(unusable("this is neither a socket nor one end of a pipe")
                .with_hint("give a stream socket, or a pipe or file opened to read or to write"));
        }
    };
    Connection::from_halves(halves.0, halves.1)
        .map(InheritedFd::Connection)
        .map_err(failed)
}

/// Whether this number is open and not close-on-exec. `fdinfo` has the flags in octal (Linux
/// `Documentation/filesystems/proc.rst`).
fn is_inherited(number: i32) -> bool {
    let Ok(info) = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else {
        return false;
    };
    let mut flags = info.lines().filter_map(|line| line.strip_prefix("flags:"));
    flags
        .next()
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0)
}

/// Takes standard input and output. Both are `/dev/null` afterwards, so that nothing else gets between the bytes and the
/// other end sees the end when it comes.
pub(super) fn take_stdio() -> Result<Connection, Error> {
    let take = || -> io::Result<Connection> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        let nothing = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        rustix::stdio::dup2_stdout(&nothing)?;
        let (one, other) = (fstat(&input)?, fstat(&output)?);
        let same = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
        if same && FileType::from_raw_mode(one.st_mode) == FileType::Socket {
            return Connection::from_socket(input);
        }
        Connection::from_halves(Some(input), Some(output))
    };
    take().map_err(|error| {
        Error::new(
            ErrorKind::Connection,
            "standard input and output cannot be used",
        )
        .with_source(error)
    })
}
