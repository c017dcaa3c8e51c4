//! [`Lock`]: one edit of a file at a time.

use std::fs::File;
use std::io;

use crate::error::{Error, ErrorKind};
use crate::os;

/// An edit under way keeps others from beginning one, and from taking its journal for one that was left behind.
///
/// It is advisory (`flock`), and belongs to the open file: who holds one on the source's file before it reads the stream
/// holds it still after the edit. It ends with the process. Where the filesystem knows no locks the journal alone
/// has to do.
#[derive(Debug)]
pub struct Lock {
    /// Nothing where there are no locks.
    _lock: Option<os::Lock>,
}

impl Lock {
    /// Takes it, at once or not at all.
    ///
    /// # Errors
    /// If somebody else has it ([`ErrorKind::UnfinishedEdit`]), or the file cannot be used.
    pub fn take(file: &File) -> Result<Self, Error> {
        match os::Lock::take(file) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::new(
                ErrorKind::UnfinishedEdit,
                "another process is changing the file",
            )
            .with_hint("wait until it has ended, and look at the file again")),
            Err(error) => Err(Error::io("cannot lock the file", error)),
        }
    }
}
