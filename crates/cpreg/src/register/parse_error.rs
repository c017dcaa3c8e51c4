//! [`ParseRegisterError`]: why a text is no register or field, and what may have been meant.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The longest text that is looked at. No spelling is longer.
pub(super) const LONGEST: usize = 80;

/// Why a text is no register or field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseRegisterError {
    text: String,
    kind: ParseRegisterErrorKind,
    suggestions: Vec<String>,
}

/// What is wrong with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseRegisterErrorKind {
    /// There is nothing but blanks.
    Empty,
    /// It is no name that we know, and no other spelling.
    UnknownName,
    /// The name of registers with different encodings on different CPUs.
    Ambiguous,
    /// A number in it is not one, or too large.
    OutOfRange {
        /// Which number.
        part: &'static str,
        /// The largest that it may be.
        most: u32,
    },
    /// Something is missing.
    Missing {
        /// What is missing.
        part: &'static str,
    },
    /// It is not 1 to 16 hexadecimal digits, or no key of QEMU's.
    BadHexadecimal,
    /// The register has no field of this name, or has not these bits.
    UnknownField,
}

impl ParseRegisterError {
    pub(super) fn new(text: &str, kind: ParseRegisterErrorKind) -> Self {
        let mut shown: String = text.trim().chars().take(LONGEST).collect();
        if shown.len() < text.trim().len() {
            shown.push('…');
        }
        Self {
            text: shown,
            kind,
            suggestions: Vec::new(),
        }
    }

    pub(super) fn suggesting<S: Into<String>>(
        mut self,
        suggestions: impl IntoIterator<Item = S>,
    ) -> Self {
        self.suggestions = suggestions.into_iter().map(Into::into).collect();
        self
    }

    /// What is wrong with the text.
    pub const fn kind(&self) -> ParseRegisterErrorKind {
        self.kind
    }

    /// The text, at most its first 80 characters.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What may have been meant, likeliest first. Not part of the message.
    pub fn suggestions(&self) -> &[String] {
        &self.suggestions
    }
}

impl fmt::Display for ParseRegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.kind {
            ParseRegisterErrorKind::Empty => f.write_str("no register is named"),
            ParseRegisterErrorKind::UnknownName => write!(f, "no register is called `{text}`"),
            ParseRegisterErrorKind::Ambiguous => {
                write!(f, "`{text}` is a different register on different CPUs")
            }
            ParseRegisterErrorKind::OutOfRange { part, most } => {
                write!(f, "`{text}`: {part} must be a number up to {most}")
            }
            ParseRegisterErrorKind::Missing { part } => write!(f, "`{text}`: {part} is missing"),
            ParseRegisterErrorKind::BadHexadecimal => {
                write!(f, "`{text}` is no register id in hexadecimal")
            }
            ParseRegisterErrorKind::UnknownField => {
                write!(f, "`{text}`: the register has no such field")
            }
        }
    }
}

impl core::error::Error for ParseRegisterError {}

/// Up to three of `names` that look most like `text`: those that begin with it, and those few
/// edits away.
pub(super) fn nearest(text: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    const MOST_LETTERS: usize = 40;
    let text = text.trim();
    if text.is_empty() || text.len() > MOST_LETTERS {
        return Vec::new();
    }
    let text = text.to_ascii_uppercase();
    // A third of the letters wrong, but two in any case.
    let most = (text.len() / 3).max(2);
    let mut found: Vec<(usize, &'static str)> = names
        .filter(|name| !name.contains('<') && name.len() <= MOST_LETTERS)
        .filter_map(|name| {
            let upper = name.to_ascii_uppercase();
            let continued = upper
                .strip_prefix(text.as_str())
                .is_some_and(|r| r.starts_with("_EL"));
            let distance = if continued {
                0
            } else {
                edit_distance(&text, &upper)
            };
            (distance <= most && distance < text.len()).then_some((distance, name))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// How many letters must be added, left out or changed to turn one text into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(x != y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::RegisterId;

    fn fail(text: &str) -> ParseRegisterError {
        text.parse::<RegisterId>().expect_err(text)
    }

    #[test]
    fn suggestions() {
        for (text, first) in [
            ("TCR3_EL1", "TCR_EL1"),
            ("TCR2", "TCR2_EL1"),
            ("ID_AA64MFR3_EL1", "ID_AA64MMFR3_EL1"),
            ("PSCI_VERSON", "PSCI_VERSION"),
            ("VENDOR_HYP_BMAP_3", "VENDOR_HYP_BMAP_2"),
        ] {
            let error = fail(text);
            assert_eq!(error.kind(), ParseRegisterErrorKind::UnknownName);
            assert!(
                error.suggestions().iter().any(|s| s == first),
                "{text}: {error:?}"
            );
        }
        assert_eq!(fail("nothing like it").suggestions(), &[] as &[String]);
    }

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "ABC", 3),
            ("ABC", "", 3),
            ("TCR2_EL1", "TCR2_EL1", 0),
            ("TCR2_EL1", "TCR_EL1", 1),
            ("KITTEN", "SITTING", 3),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }
}
