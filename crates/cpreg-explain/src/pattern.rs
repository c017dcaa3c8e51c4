//! Looking for known words in a line.
//!
//! What stands before and around them (times, names of programs and hosts, JSON, several lines in one) differs with every logger, so words are
//! looked for anywhere. A line is taken as hostile: what is looked at and what is found are bounded.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use cpreg::destination::VersionRange;
use cpreg::errno::Errno;

use crate::message::{Emitter, Statement, Symptom};

/// More of a line is not looked at.
pub const MAX_LINE_LEN: usize = 64 << 10;
/// More is not found in a line.
pub const MAX_STATEMENTS_PER_LINE: usize = 256;
/// A name in a line (of a device, a block, a VM) is not longer.
const MAX_NAME_LEN: usize = 256;
/// What is read on from known words.
const MAX_LOOKAHEAD_LEN: usize = 4096;

/// Words that begin something known, and how to read on.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// What it begins with; ASCII.
    pub prefix: &'static str,
    /// The versions that put it so.
    pub versions: VersionRange,
    /// Reads what follows; `None` if it is something else.
    pub parse: fn(&mut Cursor<'_>) -> Option<Symptom>,
}

/// Everything that is known in the line, in its order, each with where it begins.
pub fn scan(line: &str, speaker: Emitter, phrases: &[Pattern]) -> Vec<(usize, Statement)> {
    let mut found = Vec::new();
    for phrase in phrases {
        for (at, words) in line.match_indices(phrase.prefix) {
            if found.len() >= MAX_STATEMENTS_PER_LINE {
                break;
            }
            let mut rest = Cursor(&line[at + words.len()..]);
            if let Some(symptom) = (phrase.parse)(&mut rest) {
                found.push((
                    at,
                    Statement {
                        symptom,
                        emitter: speaker,
                        versions: phrase.versions,
                    },
                ));
            }
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found
}

/// The line without what loggers do to text: escaped line ends and quotes. Cut at [`LONGEST_LINE`].
pub fn unescape(line: &str) -> String {
    const ESCAPES: [(&str, &str); 10] = [
        ("\\r\\n", "\n"),
        ("\\n", "\n"),
        ("&#10;", "\n"),
        ("#012", "\n"),
        ("^M", "\n"),
        ("\\\"", "\""),
        ("\\'", "'"),
        ("&#39;", "'"),
        ("&quot;", "\""),
        ("&lt;", "<"),
    ];
    let line = truncate(line, MAX_LINE_LEN);
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        // All of them begin with one of these, which are rare.
        let escape = matches!(character, '\\' | '&' | '#' | '^')
            .then(|| ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape)))
            .flatten();
        if let Some((escape, meant)) = escape {
            plain.push_str(meant);
            rest = &rest[escape.len()..];
        } else {
            plain.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    plain
}

/// The text's first bytes, whole characters.
pub fn truncate(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(pub &'a str);

impl<'a> Cursor<'a> {
    /// These very words.
    pub fn expect(&mut self, words: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(words)?;
        Some(())
    }

    /// What stands before these words on the same line; they are eaten as well.
    pub fn take_until(&mut self, words: &str) -> Option<&'a str> {
        let (before, _) = truncate(self.0, MAX_NAME_LEN + words.len()).split_once(words)?;
        if before.contains(['\n', '\r']) {
            return None;
        }
        self.0 = &self.0[before.len() + words.len()..];
        Some(before)
    }

    /// The rest of the same line, as much of it as words that belong together take.
    pub fn rest_of_line(&self) -> &'a str {
        let near = truncate(self.0, MAX_LOOKAHEAD_LEN);
        near.split(['\n', '\r']).next().unwrap_or(near)
    }

    /// A name: letters, digits and what device and block names have besides.
    pub fn parse_name(&mut self) -> Option<&'a str> {
        let end = self
            .0
            .find(|character: char| {
                !character.is_ascii_alphanumeric() && !"._-/@[]".contains(character)
            })
            .unwrap_or(self.0.len());
        let name = truncate(&self.0[..end], MAX_NAME_LEN);
        self.0 = &self.0[name.len()..];
        (!name.is_empty()).then_some(name)
    }

    /// A decimal number with or without sign.
    pub fn parse_i64(&mut self) -> Option<i64> {
        let sign = usize::from(self.0.starts_with('-'));
        let digits = self.digits_end(sign, |digit| digit.is_ascii_digit());
        let number = self.0[..digits].parse().ok()?;
        self.0 = &self.0[digits..];
        Some(number)
    }

    /// A number that is not negative and fits.
    pub fn parse_u32(&mut self) -> Option<u32> {
        let mut ahead = *self;
        let number = u32::try_from(ahead.parse_i64()?).ok()?;
        *self = ahead;
        Some(number)
    }

    /// A decimal number of 64 bits without sign.
    pub fn parse_u64(&mut self) -> Option<u64> {
        let digits = self.digits_end(0, |digit| digit.is_ascii_digit());
        let number = self.0[..digits].parse().ok()?;
        self.0 = &self.0[digits..];
        Some(number)
    }

    /// A hexadecimal number, with or without 0x.
    pub fn parse_hex(&mut self) -> Option<u64> {
        let bare = self.0.strip_prefix("0x").unwrap_or(self.0);
        let digits = Cursor(bare).digits_end(0, |digit| digit.is_ascii_hexdigit());
        let number = u64::from_str_radix(&bare[..digits], 16).ok()?;
        self.0 = &bare[digits..];
        Some(number)
    }

    fn digits_end(&self, from: usize, is_digit: impl Fn(char) -> bool) -> usize {
        self.0[from..]
            .find(|character: char| !is_digit(character))
            .map_or(self.0.len(), |end| from + end)
    }

    /// An error: by name, `(os error 22)` or both.
    pub fn parse_errno(&mut self) -> Option<Errno> {
        let named = Errno::parse_prefix(self.0);
        if let Some((errno, length)) = named {
            self.0 = &self.0[length..];
            return Some(errno);
        }
        let (_, after) = self.rest_of_line().split_once("os error ")?;
        let number = Cursor(after).parse_u32()?;
        u16::try_from(number).ok().map(Errno)
    }
}

/// A name as its own text, for [`Symptom`]s.
pub fn to_name(name: &str) -> String {
    truncate(name.trim(), MAX_NAME_LEN).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_lines_cut() {
        assert_eq!(
            unescape("a\\nb&#10;c \\\"d\\\" &#39;e&#39;"),
            "a\nb\nc \"d\" 'e'"
        );
        let long = "ä".repeat(MAX_LINE_LEN);
        assert!(unescape(&long).len() <= MAX_LINE_LEN);
    }

    #[test]
    fn numbers_are_read_and_bounded() {
        assert_eq!(Cursor("-5 x").parse_i64(), Some(-5));
        assert_eq!(Cursor("99999999999999999999").parse_i64(), None);
        assert_eq!(Cursor("-").parse_i64(), None);
        assert_eq!(Cursor("0x1f:").parse_hex(), Some(0x1f));
        assert_eq!(Cursor("1fffffffffffffffff").parse_hex(), None);
        assert_eq!(Cursor("x").parse_hex(), None);
        assert_eq!(Cursor("-1").parse_u32(), None);
    }

    #[test]
    fn errors_are_read_by_name_and_by_number() {
        assert_eq!(
            Cursor("Invalid argument: more").parse_errno(),
            Some(Errno::EINVAL)
        );
        assert_eq!(
            Cursor("Weird (os error 16)").parse_errno(),
            Some(Errno::EBUSY)
        );
        assert_eq!(Cursor("Weird").parse_errno(), None);
        assert_eq!(Cursor("Weird\n(os error 16)").parse_errno(), None);
    }
}
