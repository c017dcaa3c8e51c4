//! [`Error`]: why there is no report, or a report could not be read.

use std::error;
use std::io;

/// There is no report, or a report could not be read.
///
/// Its display is one line. Advice is no part of that line: see [`Error::hint`]. Programs look at
/// [`Error::kind`]; the wording may change with any version.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    path: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A host was not recorded for guests with these features.
    GuestNotRecorded,
    /// Two hosts were recorded for no guests with the same features.
    NoCommonGuests,
    /// The document is not the JSON that a report is.
    Json,
    /// The document has another schema.
    Schema,
    /// A member of the document holds what it cannot hold.
    Member,
    /// A stream could not be packed.
    Encoding,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            path: None,
            hint: None,
            source: None,
        }
    }

    /// A recorded host that does not fit, and what to do.
    pub(crate) fn for_host(kind: ErrorKind, message: String, hint: String) -> Self {
        Self {
            hint: Some(hint),
            ..Self::new(kind, message)
        }
    }

    /// A document that is not the JSON that a report is.
    pub(crate) fn invalid_json(error: serde_json::Error) -> Self {
        Self {
            source: Some(Box::new(error)),
            ..Self::new(ErrorKind::Json, "")
        }
        .with_context("not a report")
    }

    /// A stream that could not be packed.
    pub(crate) fn encoding(error: io::Error) -> Self {
        Self {
            source: Some(Box::new(error)),
            ..Self::new(ErrorKind::Encoding, "")
        }
        .with_context("cannot pack the stream")
    }

    /// Puts the source behind these words.
    fn with_context(mut self, words: &str) -> Self {
        if let Some(source) = &self.source {
            self.message = format!("{words}: {source}");
        }
        self
    }

    /// A document of another schema.
    pub(crate) fn schema_mismatch(schema: &str, own: &str) -> Self {
        let message = format!(
            "a report of schema `{schema}`, where this cpreg reads `{own}`: read it with the cpreg that wrote it, or a later one"
        );
        Self::new(ErrorKind::Schema, message)
    }

    /// A member of a report that is not as it should be.
    pub(crate) fn invalid_member(path: impl Into<String>, what: impl AsRef<str>) -> Self {
        let path = path.into();
        let message = format!("report: {path} {}", what.as_ref());
        Self {
            path: Some(path),
            ..Self::new(ErrorKind::Member, message)
        }
    }

    /// Returns the kind of error.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the place in the document, such as `redactions.registers[0].id`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
