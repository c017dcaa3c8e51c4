//! [`Error`]: why a document could not be read, or a name does not lead to a recorded host.

/// A document could not be read or written, or no recorded host is meant.
///
/// Its display is one line that names the document and, where there is one, the place in it. Advice
/// is no part of that line: see [`Error::hint`]. Programs look at [`Error::kind`]; the wording may
/// change with any version.
///
/// ```
/// use cpreg_hosts::{ErrorKind, Profile};
///
/// let error = Profile::from_json(br#"{"schema": "cpreg.profile/9"}"#).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Schema);
/// assert_eq!(error.hint(), Some("record the destination again"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    path: Option<String>,
    hint: Option<&'static str>,
    source: Option<serde_json::Error>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The document is not the JSON that it should be.
    Json,
    /// The document has another schema, perhaps that of a later version.
    Schema,
    /// A member of the document holds what it cannot hold.
    Member,
    /// The document says something twice.
    Duplicate,
    /// The document holds more than any recording does.
    TooLarge,
    /// The text form of a history is malformed.
    HostIndex,
    /// No recorded host has the name.
    UnknownName,
    /// Several recorded hosts have the name.
    AmbiguousName,
    /// The end of the name is no set of vCPU features.
    Features,
    /// The host was not recorded with these vCPU features.
    NotRecorded,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            path: None,
            hint: None,
            source: None,
        }
    }

    /// Says where in the document it is.
    pub(crate) fn with_path(self, path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..self
        }
    }

    pub(crate) fn with_hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// Returns what kind of error it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the place in the document, such as `vcpus[0].registers[3].value` or `line 7`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns what to do about it, where that does not depend on the program that reads.
    pub const fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

/// A kind of document, which its errors name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DocumentKind {
    /// Its name in messages: `recorded host`.
    pub(crate) name: &'static str,
    /// The schema that is read and written.
    pub(crate) schema: &'static str,
    /// The advice on a document of another version.
    pub(crate) version_hint: &'static str,
}

impl DocumentKind {
    /// Returns the error for a document of another schema.
    pub(crate) fn schema_error(self, schema: &str) -> Error {
        let Self {
            name, schema: own, ..
        } = self;
        let message = format!("a {name} of schema `{schema}`, where this cpreg reads `{own}`");
        Error::new(ErrorKind::Schema, message).with_hint(self.version_hint)
    }

    /// Returns the error for a document that is not the JSON that it should be.
    pub(crate) fn json_error(self, error: serde_json::Error) -> Error {
        let message = format!("not a {}: {error}", self.name);
        Error {
            source: Some(error),
            ..Error::new(ErrorKind::Json, message)
        }
    }

    /// Returns the error for a member that holds what it cannot hold.
    pub(crate) fn member_error(self, path: impl Into<String>, text: &str) -> Error {
        let path = path.into();
        let message = format!("{}: {path} holds `{text}`, which it cannot", self.name);
        Error::new(ErrorKind::Member, message).with_path(path)
    }
}
