//! [`Error`]: what is wrong, where in the file, and what to do about it.
//!
//! The whole crate has one error type. A hint is separate from the message, so that a program
//! decides how to print it. [`Display`](fmt::Display) prints place, message and cause, not the
//! hint.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// Error of this crate.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    offset: Option<u64>,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system failed to read or write, or another program failed.
    Io,
    /// Another program uses the file.
    InUse,
    /// File of another program that this crate recognises and does not read.
    Foreign,
    /// Encrypted file.
    Encrypted,
    /// File that its writer left unfinished.
    Unfinished,
    /// File that an edit in place left unfinished.
    UnfinishedEdit,
    /// File without a saved VM, or without the VM of that name.
    NoVm,
    /// File that ends too early.
    Truncated,
    /// Bytes that the file's program never writes.
    Malformed,
    /// Data that the file's program can write and this crate cannot read.
    Unsupported,
    /// Stream in the file, which [`cpreg_stream`] cannot read; its error is the source.
    Stream,
    /// Edit that cannot be applied.
    BadEdit,
    /// Edited file that differs from the plan, which is a bug of this crate.
    NotAsPlanned,
}

impl Error {
    /// Makes an error of this kind, without place, hint or cause.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            offset: None,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// Makes the error for bytes at this offset that the file's program never writes.
    pub fn malformed(offset: u64, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Malformed, message).at_offset(offset)
    }

    /// Makes the error for a failure of the operating system.
    pub fn io(message: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, message).with_source(source)
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets the offset in the file.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Adds advice to the user.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the offset of the error, in bytes from the beginning of the file.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Returns the message, without place and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the advice to the user. [`Display`](fmt::Display) does not print it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl From<cpreg_stream::Error> for Error {
    fn from(error: cpreg_stream::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        let converted = Self::new(ErrorKind::Stream, "the VM's stream").with_source(error);
        hint.into_iter().fold(converted, Self::with_hint)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(offset) = inner.offset {
            write!(f, "at byte {offset:#x}: ")?;
        }
        f.write_str(&inner.message)?;
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|error| error as _)
    }
}
