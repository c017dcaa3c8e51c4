//! [`Error`]: failures to connect, forward or guard, with a hint for the user.
//!
//! The whole crate has one error type, which includes [`cpreg_stream::Error`] unchanged.
//! [`Display`](fmt::Display) does not print the hint, which is a separate field.

use std::borrow::Cow;
use std::fmt;
use std::io;

use rustix::io::Errno;

/// Error of this crate.
pub struct Error(Box<Inner>);

enum Inner {
    Own {
        kind: ErrorKind,
        offset: Option<u64>,
        message: Cow<'static, str>,
        hint: Option<Cow<'static, str>>,
        source: Option<io::Error>,
    },
    Stream(cpreg_stream::Error),
}

/// Kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Address that does not parse or cannot be used for this purpose.
    BadAddress,
    /// Connection that cannot be established, or is lost.
    Connection,
    /// Operation that this side cancelled through a [`CancelToken`](crate::CancelToken) or a
    /// [`ShutdownHandle`](crate::ShutdownHandle).
    Cancelled,
    /// Connection that the peer closed, or whose peer died.
    Closed,
    /// Error that the operating system reported.
    Io,
    /// Migration that the guard does not accept; the guard started nothing.
    Guard,
    /// Stream that is damaged or cannot be forwarded.
    Stream(cpreg_stream::ErrorKind),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner::Own {
            kind,
            offset: None,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// Creates the error of a stream that is damaged or cannot be forwarded.
    pub(crate) fn stream(
        kind: cpreg_stream::ErrorKind,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::Stream(kind), message)
    }

    pub(crate) fn io(message: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, message).with_source(source)
    }

    /// Creates the error of a TLS connection.
    pub(crate) fn tls(source: rustls::Error) -> Self {
        Self::new(ErrorKind::Connection, "TLS failed").with_source(io::Error::other(source))
    }

    pub(crate) fn guard(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Guard, message)
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled by this side")
    }

    #[must_use]
    pub(crate) fn with_source(mut self, cause: io::Error) -> Self {
        if let Inner::Own { source, .. } = &mut *self.0 {
            *source = Some(cause);
        }
        self
    }

    #[must_use]
    pub(crate) fn with_offset(mut self, at: u64) -> Self {
        if let Inner::Own { offset, .. } = &mut *self.0 {
            *offset = Some(at);
        }
        self
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        if let Inner::Own { hint, .. } = &mut *self.0 {
            *hint = Some(advice.into());
        }
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Inner::Own { kind, .. } => *kind,
            Inner::Stream(error) => ErrorKind::Stream(error.kind()),
        }
    }

    /// Returns `true` if this side cancelled the operation.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }

    /// Returns `true` if the peer closed the connection.
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }

    /// Returns the stream offset of the error.
    pub fn offset(&self) -> Option<u64> {
        match &*self.0 {
            Inner::Own { offset, .. } => *offset,
            Inner::Stream(error) => error.offset(),
        }
    }

    /// Returns the path of the field with the error; empty if there is none.
    pub fn path(&self) -> &str {
        match &*self.0 {
            Inner::Own { .. } => "",
            Inner::Stream(error) => error.path(),
        }
    }

    /// Returns the message without offset and cause.
    pub fn message(&self) -> &str {
        match &*self.0 {
            Inner::Own { message, .. } => message,
            Inner::Stream(error) => error.message(),
        }
    }

    /// Returns the advice to the user. [`Display`](fmt::Display) does not print it.
    pub fn hint(&self) -> Option<&str> {
        match &*self.0 {
            Inner::Own { hint, .. } => hint.as_deref(),
            Inner::Stream(error) => error.hint(),
        }
    }

    /// Returns the error and its hint in one line.
    pub fn to_string_with_hint(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}; {hint}"),
            None => self.to_string(),
        }
    }

    /// Returns the error of the operating system, if there is one.
    pub(crate) fn cause(&self) -> Option<&io::Error> {
        match &*self.0 {
            Inner::Own { source, .. } => source.as_ref(),
            Inner::Stream(_) => None,
        }
    }

    /// Returns the error of the operating system; wraps this error if it has none.
    pub(crate) fn into_io(self) -> io::Error {
        match *self.0 {
            Inner::Own {
                source: Some(source),
                ..
            } => source,
            inner => io::Error::other(Self(Box::new(inner))),
        }
    }
}

impl From<cpreg_stream::Error> for Error {
    fn from(error: cpreg_stream::Error) -> Self {
        Self(Box::new(Inner::Stream(error)))
    }
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET | Errno::CONNABORTED | Errno::NOTCONN => {
                Self::new(ErrorKind::Closed, "the peer closed the connection")
                    .with_source(error.into())
            }
            _ => Self::io("", error.into()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Own {
                offset,
                message,
                source,
                ..
            } => {
                if let Some(offset) = offset {
                    write!(f, "at byte {offset:#x}: ")?;
                }
                f.write_str(message)?;
                match source {
                    Some(source) if message.is_empty() => write!(f, "{source}"),
                    Some(source) => write!(f, ": {source}"),
                    None => Ok(()),
                }
            }
            Inner::Stream(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Inner::Own { source, .. } => source.as_ref().map(|error| error as _),
            Inner::Stream(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn display_omits_the_hint() {
        let error = Error::new(ErrorKind::Connection, "cannot connect to tcp::1")
            .with_source(io::ErrorKind::ConnectionRefused.into())
            .with_hint("start the destination first");
        assert_eq!(
            error.to_string(),
            "cannot connect to tcp::1: connection refused"
        );
        assert_eq!(error.hint(), Some("start the destination first"));
        assert_eq!(
            error.to_string_with_hint(),
            "cannot connect to tcp::1: connection refused; start the destination first"
        );
        assert!(error.source().is_some());
        assert_eq!(error.into_io().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn stream_error_is_kept() {
        let stream = cpreg_stream::Error::truncated(0x40, 0x44, 8);
        let (text, hint) = (stream.to_string(), stream.hint().map(str::to_owned));
        let error = Error::from(stream);
        assert_eq!(
            error.kind(),
            ErrorKind::Stream(cpreg_stream::ErrorKind::Truncated)
        );
        assert_eq!((error.to_string(), error.hint()), (text, hint.as_deref()));
        assert_eq!(error.offset(), Some(0x40));
    }

    #[test]
    fn closed_connection_is_a_kind_of_its_own() {
        let closed = Error::from(Errno::CONNRESET);
        assert!(closed.is_closed() && !closed.is_cancelled());
        let other = Error::from(Errno::NOMEM);
        assert_eq!(other.kind(), ErrorKind::Io);
        assert_eq!(other.to_string(), io::Error::from(Errno::NOMEM).to_string());
        assert!(Error::cancelled().is_cancelled());
    }
}
