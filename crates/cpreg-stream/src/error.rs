//! [`Error`]: what is wrong, where in the file, and what to do about it.
//!
//! The whole crate has one error type. A hint is separate from the message, so that a program
//! decides how to print it. [`Display`](fmt::Display) prints place, message and cause, not the
//! hint.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// Error of this crate.
///
/// An error names its place twice where possible: by the byte offset in the file and by the path of
/// the field (`cpu[1].cpreg_vmstate_indexes[57]`).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    offset: Option<u64>,
    path: String,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system failed to read or write.
    Io,
    /// No space is left for the output.
    NoSpace,
    /// File that is neither a QEMU migration stream nor a known relative of one.
    NotAStream,
    /// Stream of a version that QEMU itself no longer loads.
    ObsoleteVersion,
    /// Multifd channel of a migration: pages only, no CPU state.
    MultifdChannel,
    /// Save image of libvirt, which contains a stream.
    LibvirtImage,
    /// Disk image in qcow2 format.
    Qcow2Image,
    /// Encrypted connection, in which no stream can be read.
    Tls,
    /// File that an edit in place left unfinished.
    UnfinishedEdit,
    /// Stream of a machine that is not Arm.
    NotArm,
    /// Stream that ends too early.
    Truncated,
    /// Bytes that no QEMU writes.
    Malformed,
    /// Data that QEMU can write and this crate cannot read.
    Unsupported,
    /// Description of the devices that is missing at the end of the stream or does not match the
    /// devices.
    NoDescription,
    /// Full scan that finds another stream than the description.
    Disagreement,
    /// Edit that cannot be applied.
    BadEdit,
    /// Edited stream that differs from the plan, which is a bug of this crate.
    NotAsPlanned,
}

/// Length in bytes of the longest integer in a stream.
const MAX_INTEGER_LEN: u64 = 8;

impl Error {
    /// Makes an error of this kind, without place, hint or cause.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            offset: None,
            path: String::new(),
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// Makes the error for bytes at this offset that no QEMU writes.
    pub fn malformed(offset: u64, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Malformed, message).at_offset(offset)
    }

    /// Makes the error for data at this offset that QEMU can write and this crate cannot read.
    pub fn unsupported(offset: u64, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message).at_offset(offset)
    }

    /// Makes the error for a stream that ends at `end`.
    ///
    /// The element that begins at `offset` lacks at least `missing` bytes. The stream may lack more
    /// after them. So the message has no number if a single integer is incomplete: the number would
    /// look like the length of what is missing.
    pub fn truncated(offset: u64, end: u64, missing: u64) -> Self {
        let message = if missing <= MAX_INTEGER_LEN {
            format!("the stream ends too early, at {end:#x}")
        } else {
            format!(
                "the stream ends too early, at {end:#x}: it lacks at least {missing} bytes of this \
                 part, and all that follows"
            )
        };
        Self::new(ErrorKind::Truncated, message)
            .at_offset(offset)
            .with_hint("get a complete copy of the file, or save the VM again")
    }

    /// Makes the error for a failure of the operating system.
    pub fn io(message: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let mut error = if full {
            Self::new(ErrorKind::NoSpace, message)
                .with_hint("free some space, or choose another place for the output")
        } else {
            Self::new(ErrorKind::Io, message)
        };
        error.0.source = Some(source.into());
        error
    }

    /// Makes the error for an output that accepts no more of a stream.
    pub fn from_write_error(error: io::Error) -> Self {
        let is_closed = error.kind() == io::ErrorKind::BrokenPipe;
        let error = Self::io("cannot write the stream", error);
        if is_closed {
            error.with_hint("the reader has closed its end: see its messages")
        } else {
            error
        }
    }

    /// Makes the error for an input that fails at this offset of a stream.
    pub fn from_read_error(offset: u64, error: io::Error) -> Self {
        Self::io("cannot read the stream", error).at_offset(offset)
    }

    /// Adds the cause.
    #[must_use]
    pub(crate) fn with_source(
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
    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Prepends a segment to the path.
    #[must_use]
    pub(crate) fn prepend_path(mut self, segment: &str) -> Self {
        if self.0.path.is_empty() {
            segment.clone_into(&mut self.0.path);
        } else {
            self.0.path = format!("{segment}.{}", self.0.path);
        }
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

    /// Returns the path of the field, or an empty string.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Returns the message, without place and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the error and its hint in one line.
    pub fn to_string_with_hint(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}; {hint}"),
            None => self.to_string(),
        }
    }

    /// Returns the advice to the user. [`Display`](fmt::Display) does not print it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        match (inner.path.is_empty(), inner.offset) {
            (true, None) => {}
            (true, Some(offset)) => write!(f, "at byte {offset:#x}: ")?,
            (false, None) => write!(f, "{}: ", inner.path)?,
            (false, Some(offset)) => write!(f, "{} at byte {offset:#x}: ", inner.path)?,
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

/// Extension of [`Result`] that adds the path of a field to an error.
pub(crate) trait PrependPath<T> {
    /// Calls `segment` only if there is an error.
    fn prepend_path(self, segment: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> PrependPath<T> for Result<T, Error> {
    fn prepend_path(self, segment: impl FnOnce() -> String) -> Self {
        self.map_err(|error| error.prepend_path(&segment()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_has_place_and_message_without_hint() {
        let error = Error::truncated(0x40, 0x44, 8)
            .prepend_path("pc")
            .prepend_path("cpu[1]");
        assert_eq!(
            error.to_string(),
            "cpu[1].pc at byte 0x40: the stream ends too early, at 0x44"
        );
        let page = Error::truncated(0x40, 0x44, 4092);
        assert_eq!(
            page.to_string(),
            "at byte 0x40: the stream ends too early, at 0x44: it lacks at least 4092 bytes of \
             this part, and all that follows"
        );
        assert_eq!(
            error.hint(),
            Some("get a complete copy of the file, or save the VM again")
        );
        assert_eq!(error.kind(), ErrorKind::Truncated);
        assert_eq!((error.offset(), error.path()), (Some(0x40), "cpu[1].pc"));
    }

    #[test]
    fn full_disk_has_a_kind_of_its_own() {
        let full = Error::io("cannot write", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.kind(), ErrorKind::NoSpace);
        let other = Error::io(
            "cannot write",
            io::Error::from(io::ErrorKind::PermissionDenied),
        );
        assert_eq!(other.kind(), ErrorKind::Io);
        assert!(other.to_string().contains("permission denied"), "{other}");
    }
}
