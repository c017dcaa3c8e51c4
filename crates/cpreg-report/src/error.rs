//! [`Error`] of making or reading a report.

use std::error;
use std::io;

/// An error of making or reading a report.
///
/// `Display` writes one line without advice; [`Error::hint`] returns the advice. Programs match on
/// [`Error::kind`], because the wording may change with any version.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    path: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// Kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A host has no recording for guests with these features.
    GuestNotRecorded,
    /// Two hosts have no recordings for guests with the same features.
    NoCommonGuests,
    /// The document is not JSON, or not the JSON of a report.
    Json,
    /// The document has another schema.
    Schema,
    /// A member of the document has an invalid value.
    Member,
    /// A stream could not be compressed.
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

    /// Creates an error about a recorded host that lacks the recordings for the request.
    pub(crate) fn for_host(kind: ErrorKind, message: String, hint: String) -> Self {
        Self {
            hint: Some(hint),
            ..Self::new(kind, message)
        }
    }

    /// Creates an error about a member that reports share with profiles.
    pub(crate) fn shared_member(error: &cpreg_hosts::Error) -> Self {
        Self {
            path: error.path().map(str::to_owned),
            ..Self::new(ErrorKind::Member, error.to_string())
        }
    }

    /// Creates an error about a document that is not the JSON of a report.
    pub(crate) fn invalid_json(error: serde_json::Error) -> Self {
        Self {
            source: Some(Box::new(error)),
            ..Self::new(ErrorKind::Json, "")
        }
        .with_context("not a report")
    }

    /// Creates an error about a stream that could not be compressed.
    pub(crate) fn encoding(error: io::Error) -> Self {
        Self {
            source: Some(Box::new(error)),
            ..Self::new(ErrorKind::Encoding, "")
        }
        .with_context("cannot compress the stream")
    }

    /// Sets the message to the context, followed by the source error.
    fn with_context(mut self, context: &str) -> Self {
        if let Some(source) = &self.source {
            self.message = format!("{context}: {source}");
        }
        self
    }

    /// Creates an error about a document of another schema.
    pub(crate) fn schema_mismatch(schema: &str, supported: &str) -> Self {
        let message =
            format!("the report has schema `{schema}`, and this cpreg reads `{supported}`");
        let hint = "read the report with the cpreg that wrote it, or with a later one";
        Self {
            hint: Some(hint.to_owned()),
            ..Self::new(ErrorKind::Schema, message)
        }
    }

    /// Creates an error about an invalid member; the message is the path and then the problem.
    pub(crate) fn invalid_member(path: impl Into<String>, problem: impl AsRef<str>) -> Self {
        let path = path.into();
        let message = format!("report: {path} {}", problem.as_ref());
        Self {
            path: Some(path),
            ..Self::new(ErrorKind::Member, message)
        }
    }

    /// Returns the kind of error.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the path of the member, such as `redactions.registers[0].id`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns advice: the next step.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
