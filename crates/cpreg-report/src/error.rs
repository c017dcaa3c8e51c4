//! [`Error`]: why there is no report.

use std::fmt;

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: String,
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A host was not recorded for guests with these features.
    GuestNotRecorded,
    /// Two hosts were recorded for no guests with the same features.
    NoCommonGuests,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, message: String, hint: String) -> Self {
        Self {
            kind,
            message,
            hint,
        }
    }

    /// The kind of it.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
