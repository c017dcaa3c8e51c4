//! [`Error`]: why a text is none that the core understands.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The longest text that is looked at. No spelling is longer.
pub(crate) const MAX_TEXT_LEN: usize = 80;

/// A text names no register, field or loader.
///
/// Its display is one line, whose wording may change with any version. What may have been meant and what to write instead are no part of
/// that line: see [`Error::suggestions`] and [`Error::hint`]. Programs look at [`Error::kind`].
///
/// ```
/// use cpreg::ErrorKind;
/// use cpreg::register::RegisterId;
///
/// let error = "TCR3_EL1".parse::<RegisterId>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::UnknownName);
/// assert_eq!(error.to_string(), "no register is called `TCR3_EL1`");
/// assert!(error.suggestions().iter().any(|name| name == "TCR_EL1"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    text: String,
    kind: ErrorKind,
    suggestions: Vec<String>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text of a register has nothing but blanks.
    Empty,
    /// The text is no name of a register, and no other spelling of one.
    UnknownName,
    /// The name is that of registers with different encodings on different CPUs.
    Ambiguous,
    /// A number in the text is none, or too large.
    OutOfRange {
        /// The number in question.
        part: &'static str,
        /// The largest that it may be.
        max: u32,
    },
    /// Something is missing in the text.
    Missing {
        /// The missing part.
        part: &'static str,
    },
    /// The text is not 1 to 16 hexadecimal digits, or no key of QEMU's.
    BadHexadecimal,
    /// The register has no field of this name, or has not these bits.
    UnknownField,
    /// The text is no name of a loader.
    UnknownLoader,
}

impl Error {
    pub(crate) fn new(text: &str, kind: ErrorKind) -> Self {
        let mut shown: String = text.trim().chars().take(MAX_TEXT_LEN).collect();
        if shown.len() < text.trim().len() {
            shown.push('…');
        }
        Self {
            text: shown,
            kind,
            suggestions: Vec::new(),
        }
    }

    pub(crate) fn with_suggestions<S: Into<String>>(
        mut self,
        suggestions: impl IntoIterator<Item = S>,
    ) -> Self {
        self.suggestions = suggestions.into_iter().map(Into::into).collect();
        self
    }

    /// Returns what kind of error it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the text, at most its first 80 characters.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns what may have been meant, likeliest first. It is no part of the message.
    pub fn suggestions(&self) -> &[String] {
        &self.suggestions
    }

    /// Returns what to write instead. It is no part of the message.
    pub const fn hint(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::UnknownLoader => Some(
                "write it as qemu-MAJOR.MINOR, such as qemu-10.0, or as cpreg for a VMM that loads \
                 through cpreg",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.kind {
            ErrorKind::Empty => f.write_str("no register is named"),
            ErrorKind::UnknownName => write!(f, "no register is called `{text}`"),
            ErrorKind::Ambiguous => {
                write!(f, "`{text}` is a different register on different CPUs")
            }
            ErrorKind::OutOfRange { part, max: most } => {
                write!(f, "`{text}`: {part} must be a number up to {most}")
            }
            ErrorKind::Missing { part } => write!(f, "`{text}`: {part} is missing"),
            ErrorKind::BadHexadecimal => {
                write!(f, "`{text}` is no register id in hexadecimal")
            }
            ErrorKind::UnknownField => {
                write!(f, "`{text}`: the register has no such field")
            }
            ErrorKind::UnknownLoader => f.write_str("not a loader cpreg knows"),
        }
    }
}

impl core::error::Error for Error {}
