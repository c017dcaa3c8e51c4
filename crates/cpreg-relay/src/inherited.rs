//! Descriptors inherited from the parent process: `fd:N` and `stdio:`.
//!
//! `fd:N` is a plain number, which safe code can neither close nor read. cpreg duplicates the
//! descriptor with `pidfd_getfd` on its own process (Linux 5.6) and closes the number. The number
//! must be closed, because the peer of a pipe sees its end only once all descriptors are closed.
//!
//! Descriptors that cpreg opens are close-on-exec; inherited ones cannot be. The flag thus shows if
//! `fd:N` is inherited, and the same number cannot be used twice.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::net::{SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::error::{Error, ErrorKind};
use crate::io::connection::Connection;

/// Kind of an inherited descriptor.
pub(super) enum InheritedFd {
    /// Connection, or one direction of one.
    Connection(Connection),
    /// Listening socket.
    Listener(OwnedFd),
}

/// Takes over the descriptor of `fd:N`; `number` is N.
pub(super) fn take(number: i32) -> Result<InheritedFd, Error> {
    let address = format!("fd:{number}");
    let unusable = |reason: &str| Error::new(ErrorKind::BadAddress, format!("{address}: {reason}"));
    let failed = |error: io::Error| {
        Error::new(ErrorKind::Connection, format!("cannot use {address}")).with_source(error)
    };

    if !is_inherited(number) {
        return Err(
            unusable("this process did not inherit the descriptor").with_hint(
                "have the program that starts cpreg leave it open without close-on-exec, and use \
                 it once",
            ),
        );
    }
    let duplicate = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|process| pidfd_getfd(process, number, PidfdGetfdFlags::empty()))
        .map_err(|error| failed(error.into()))?;
    nix::unistd::close(number).map_err(|error| failed(error.into()))?;

    if let Ok(kind) = sockopt::socket_type(&duplicate) {
        if kind != SocketType::STREAM {
            return Err(
                unusable("this is not a stream socket").with_hint("use one of type SOCK_STREAM")
            );
        }
        if sockopt::socket_acceptconn(&duplicate).map_err(|error| failed(error.into()))? {
            return Ok(InheritedFd::Listener(duplicate));
        }
        return Connection::from_socket(duplicate)
            .map(InheritedFd::Connection)
            .map_err(failed);
    }
    let flags = fcntl_getfl(&duplicate).map_err(|error| failed(error.into()))?;
    let (read, write) = match flags & OFlags::RWMODE {
        OFlags::RDONLY => (Some(duplicate), None),
        OFlags::WRONLY => (None, Some(duplicate)),
        _ => {
            return Err(
                unusable("this is neither a socket nor one end of a pipe").with_hint(
                    "use a stream socket, or a pipe or file opened for reading or for writing",
                ),
            );
        }
    };
    Connection::from_halves(read, write)
        .map(InheritedFd::Connection)
        .map_err(failed)
}

/// Returns `true` if this descriptor is open and not close-on-exec. `fdinfo` has the flags in octal
/// (Linux `Documentation/filesystems/proc.rst`).
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

/// Takes over standard input and output, and replaces both by `/dev/null`. No other output can then
/// mix with the stream, and the peer sees its end once the connection closes.
pub(super) fn take_stdio() -> Result<Connection, Error> {
    let take = || -> io::Result<Connection> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        let (input_stat, output_stat) = (fstat(&input)?, fstat(&output)?);
        let same =
            (input_stat.st_dev, input_stat.st_ino) == (output_stat.st_dev, output_stat.st_ino);
        if same && FileType::from_raw_mode(input_stat.st_mode) == FileType::Socket {
            return Connection::from_socket(input);
        }
        Connection::from_halves(Some(input), Some(output))
    };
    take().map_err(|error| {
        Error::new(
            ErrorKind::Connection,
            "cannot use standard input and output",
        )
        .with_source(error)
    })
}
