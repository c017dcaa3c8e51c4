//! [`Error`]: an unreadable document, or a name that matches no recorded host.

/// Error of reading or writing a document, or of resolving a host's name.
///
/// `Display` prints one line with the kind of document and, if known, the place in the document.
/// [`Error::hint`] returns advice. Programs should match on [`Error::kind`], because the wording
/// may change with any version.
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
    /// The document is not JSON, or its members have the wrong types.
    Json,
    /// The document has another schema, such as the schema of a later version.
    Schema,
    /// A member of the document has an invalid value.
    Member,
    /// The document contains an element twice.
    Duplicate,
    /// The document exceeds a size limit that no recording reaches.
    TooLarge,
    /// The text form of a host index is malformed.
    HostIndex,
    /// No recorded host has the name.
    UnknownName,
    /// No recorded host has the CPU in the name.
    UnknownCpu,
    /// Several recorded hosts match the name.
    AmbiguousName,
    /// The last part of the name is not a set of vCPU features.
    Features,
    /// The host was not recorded with these vCPU features.
    NotRecorded,
}

impl Error {
    /// Returns the error for a host whose registers were not recorded.
    pub fn not_recorded(name: &str) -> Self {
        let message = format!("{name} was not recorded, so its registers are not known");
        Self::new(ErrorKind::NotRecorded, message)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            path: None,
            hint: None,
            source: None,
        }
    }

    /// Sets the place in the document.
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

    /// Returns the kind of the error.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the place in the document, such as `vcpus[0].registers[3].value` or `line 7`, if
    /// known.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns advice for the user, if there is any.
    pub const fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

/// A kind of document, for error messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DocumentKind {
    /// Name in messages: `recorded host`.
    pub(crate) name: &'static str,
    /// Schema that is read and written.
    pub(crate) schema: &'static str,
    /// Advice for the user of a document of another version.
    pub(crate) version_hint: &'static str,
}

impl DocumentKind {
    /// Returns the error for a document of another schema.
    pub(crate) fn schema_error(self, schema: &str) -> Error {
        let Self {
            name,
            schema: supported,
            ..
        } = self;
        let message = format!("the {name} has schema `{schema}`; this cpreg reads `{supported}`");
        Error::new(ErrorKind::Schema, message).with_hint(self.version_hint)
    }

    /// Returns the error for a document that is not JSON or lacks members.
    pub(crate) fn json_error(self, error: serde_json::Error) -> Error {
        let message = format!("not a {}: {error}", self.name);
        Error {
            source: Some(error),
            ..Error::new(ErrorKind::Json, message)
        }
    }

    /// Returns the error for a member with an invalid value.
    pub(crate) fn member_error(self, path: impl Into<String>, text: &str) -> Error {
        let path = path.into();
        let message = format!("{}: {path}: invalid value `{text}`", self.name);
        Error::new(ErrorKind::Member, message).with_path(path)
    }
}
