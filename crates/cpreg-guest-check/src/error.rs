//! [`Error`]: error of a command of this crate.

use std::io;
use std::path::PathBuf;

/// Error of a command. Its exit status is 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine is no arm64 Linux.
    #[error("guest-check runs inside an arm64 Linux guest; this program is for another machine")]
    WrongMachine,
    /// A file or a call of Linux failed.
    #[error("{subject}: {error}")]
    Io {
        /// File or call.
        subject: String,
        /// Error of Linux.
        error: io::Error,
    },
    /// A record is no document of this program.
    #[error("{}: no record of guest-check: {reason}", path.display())]
    Record {
        /// File of the record.
        path: PathBuf,
        /// Reason, in words.
        reason: String,
    },
    /// A report has no JSON form.
    #[error("the report has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Returns the error of a file or call.
    pub fn io(subject: impl Into<String>, error: io::Error) -> Self {
        Self::Io {
            subject: subject.into(),
            error,
        }
    }
}
