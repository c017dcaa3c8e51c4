//! [`Lock`]: one edit of a file at a time.

use std::fs::File;
use std::io;

use crate::error::{Error, ErrorKind};
use crate::os;

/// Lock that keeps other processes from editing or recovering the file.
///
/// The lock is advisory (`flock`) and belongs to the open file. A caller that locks the source's
/// file before it reads the stream still holds the lock after the edit. The lock ends with the
/// process. On filesystems without locks only the journal protects the file.
#[derive(Debug)]
pub struct Lock {
    /// `None` on filesystems without locks.
    _lock: Option<os::Lock>,
}

impl Lock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`ErrorKind::UnfinishedEdit`] if another process holds the lock; an I/O error if the file
    /// cannot be locked.
    pub fn take(file: &File) -> Result<Self, Error> {
        match os::Lock::take(file) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::new(
                ErrorKind::UnfinishedEdit,
                "another process is changing the file",
            )
            .with_hint("wait until it has ended, and check the file again")),
            Err(error) => Err(Error::io("cannot lock the file", error)),
        }
    }
}
