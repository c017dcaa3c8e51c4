//! [`Error`]: a text that names no register, field or loader.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Maximum length of a text that cpreg parses. No valid spelling is longer.
pub(crate) const MAX_TEXT_LEN: usize = 80;

/// Error for a text that names no register, field or loader.
///
/// `Display` prints one line, whose wording may change with any version. The line contains no
/// suggestions and no hint: see [`Error::suggestions`] and [`Error::hint`]. Programs should match
/// on [`Error::kind`].
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

/// Kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The register's text is empty or blank.
    Empty,
    /// The text is neither a register's name nor another spelling of a register.
    UnknownName,
    /// The name denotes registers with different encodings on different CPUs.
    Ambiguous,
    /// A part of the text is not a number, or the number is too large.
    OutOfRange {
        /// Name of the part, for messages.
        part: &'static str,
        /// Largest valid number.
        max: u32,
    },
    /// A part of the text is missing.
    Missing {
        /// Name of the missing part, for messages.
        part: &'static str,
    },
    /// The text is not 1 to 16 hexadecimal digits, or is not a valid QEMU key.
    BadHexadecimal,
    /// The register has no field of this name, or lacks these bits.
    UnknownField,
    /// The text is not a loader's name.
    UnknownLoader,
}

impl Error {
    pub(crate) fn new(text: &str, kind: ErrorKind) -> Self {
        let mut excerpt: String = text.trim().chars().take(MAX_TEXT_LEN).collect();
        if excerpt.len() < text.trim().len() {
            excerpt.push('…');
        }
        Self {
            text: excerpt,
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

    /// Returns the kind of the error.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the text without surrounding blanks. A text of more than 80 characters is cut there
    /// and ends in `…`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns similar valid names, which `Display` does not print. The most likely name comes
    /// first.
    pub fn suggestions(&self) -> &[String] {
        &self.suggestions
    }

    /// Returns a hint about the expected syntax, which `Display` does not print.
    pub const fn hint(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::UnknownLoader => Some(
                "use a name such as qemu-10.0, firecracker-1.14 or cloud-hypervisor-53, or cpreg \
                 for a VMM that loads through cpreg",
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
            ErrorKind::OutOfRange { part, max } => {
                write!(f, "`{text}`: {part} must be a number up to {max}")
            }
            ErrorKind::Missing { part } => write!(f, "`{text}`: {part} is missing"),
            ErrorKind::BadHexadecimal => {
                write!(f, "`{text}` is not a hexadecimal register id")
            }
            ErrorKind::UnknownField => {
                write!(f, "`{text}`: the register has no such field")
            }
            ErrorKind::UnknownLoader => f.write_str("not a loader cpreg knows"),
        }
    }
}

impl core::error::Error for Error {}
