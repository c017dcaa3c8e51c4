//! Search for known words in a line.
//!
//! Every logger adds text of its own: times, names of programs and hosts, JSON. A logger also joins
//! several lines. The search therefore finds the known words anywhere in a line. A line is hostile
//! input, so the searched length and the number of statements are bounded.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use cpreg::destination::VersionRange;
use cpreg::errno::Errno;

use crate::message::{Emitter, Statement, Symptom};

/// Maximum length of the searched part of a line, in bytes.
pub const MAX_LINE_LEN: usize = 64 << 10;
/// Maximum number of statements found in one line.
pub const MAX_STATEMENTS_PER_LINE: usize = 256;
/// Maximum length of a name in a line (of a device, a block, a VM), in bytes.
const MAX_NAME_LEN: usize = 256;
/// Maximum number of bytes that a parser reads after the known words.
const MAX_LOOKAHEAD_LEN: usize = 4096;

/// Words that begin a known statement, and the parser of the text that follows.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// First words of the statement, in ASCII.
    pub prefix: &'static str,
    /// Versions that print the statement in this form.
    pub versions: VersionRange,
    /// Parser of the text after the prefix. Returns `None` if the text does not match.
    pub parse: fn(&mut Cursor<'_>) -> Option<Symptom>,
}

impl Pattern {
    /// Makes the pattern of a statement that every version prints in this form.
    pub const fn for_any_version(
        prefix: &'static str,
        parse: fn(&mut Cursor<'_>) -> Option<Symptom>,
    ) -> Self {
        Self {
            prefix,
            versions: VersionRange::ANY,
            parse,
        }
    }
}

/// Patterns of one program.
#[derive(Clone, Copy, Debug)]
pub struct PatternTable {
    /// Program that prints the lines.
    pub emitter: Emitter,
    /// Patterns of the program.
    pub patterns: &'static [Pattern],
}

/// Search for all patterns of several programs in one pass over a line.
///
/// A [`PrefixIndex`] finds the few places where a pattern may begin.
#[derive(Debug)]
pub struct Scanner {
    tables: &'static [PatternTable],
    index: PrefixIndex,
}

impl Scanner {
    /// Builds the search, at compile time for a `static`.
    ///
    /// # Panics
    ///
    /// Panics if a prefix is shorter than [`PrefixIndex::KEY_LEN`].
    pub const fn new(tables: &'static [PatternTable]) -> Self {
        let mut index = PrefixIndex::new();
        index.add_tables(tables);
        Self { tables, index }
    }

    /// Finds all statements in a line, in order, each with its byte offset.
    pub fn scan(&self, line: &str) -> Vec<(usize, Statement)> {
        let mut statements = Vec::new();
        for at in self.index.candidates(line.as_bytes()) {
            // A key is ASCII, but its hash may be that of other bytes.
            let Some(rest) = line.get(at..) else {
                continue;
            };
            for table in self.tables {
                for pattern in table.patterns {
                    if statements.len() >= MAX_STATEMENTS_PER_LINE {
                        return statements;
                    }
                    let Some(after) = rest.strip_prefix(pattern.prefix) else {
                        continue;
                    };
                    if let Some(symptom) = (pattern.parse)(&mut Cursor(after)) {
                        let statement = Statement {
                            symptom,
                            emitter: table.emitter,
                            versions: pattern.versions,
                        };
                        statements.push((at, statement));
                    }
                }
            }
        }
        statements
    }
}

/// Set of the first bytes of known words. A lookup mostly costs one hash of four bytes.
///
/// The set may contain other bytes by chance, so a candidate must be compared with the words. A
/// second hash makes that rare.
#[derive(Clone, Copy, Debug)]
pub struct PrefixIndex {
    first: [u64; Self::LEN],
    second: [u64; Self::LEN],
}

impl PrefixIndex {
    /// Number of first bytes that the index compares.
    pub const KEY_LEN: usize = 4;
    const LEN: usize = 256;

    /// Returns an empty set.
    #[expect(clippy::new_without_default, reason = "a constant function")]
    pub const fn new() -> Self {
        Self {
            first: [0; Self::LEN],
            second: [0; Self::LEN],
        }
    }

    /// Adds the first bytes of all patterns of the tables.
    pub const fn add_tables(&mut self, tables: &[PatternTable]) {
        let mut table = 0;
        while table < tables.len() {
            let patterns = tables[table].patterns;
            let mut pattern = 0;
            while pattern < patterns.len() {
                self.add_word(patterns[pattern].prefix);
                pattern += 1;
            }
            table += 1;
        }
    }

    /// Adds the first bytes of each word.
    pub const fn add_words(&mut self, words: &[&str]) {
        let mut index = 0;
        while index < words.len() {
            self.add_word(words[index]);
            index += 1;
        }
    }

    const fn add_word(&mut self, word: &str) {
        let word = word.as_bytes();
        assert!(word.len() >= Self::KEY_LEN, "a word of at least 4 bytes");
        let [first, second] = Self::hashes([word[0], word[1], word[2], word[3]]);
        self.first[first / 64] |= 1 << (first % 64);
        self.second[second / 64] |= 1 << (second % 64);
    }

    const fn hashes(key: [u8; Self::KEY_LEN]) -> [usize; 2] {
        // The upper 14 bits of each product address a set. The first multiplier is 2^32 divided by
        // the golden ratio, the second another odd number.
        let key = u32::from_le_bytes(key);
        [
            (key.wrapping_mul(0x9e37_79b1) >> 18) as usize,
            (key.wrapping_mul(0x85eb_ca6b) >> 18) as usize,
        ]
    }

    /// Returns `true` if one of the words may occur in the text.
    pub fn may_occur(&self, text: &[u8]) -> bool {
        self.candidates(text).next().is_some()
    }

    /// Returns the offsets at which one of the words may begin.
    pub fn candidates<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let keys = text.windows(Self::KEY_LEN).enumerate();
        keys.filter_map(|(at, key)| {
            let [first, second] = Self::hashes([key[0], key[1], key[2], key[3]]);
            let is_known = self.first[first / 64] >> (first % 64) & 1 == 1
                && self.second[second / 64] >> (second % 64) & 1 == 1;
            is_known.then_some(at)
        })
    }
}

/// Replaces escaped line ends and quotes, which loggers write. Truncates the text at
/// [`MAX_LINE_LEN`].
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
        // Every escape begins with one of these characters, which are rare.
        let escape = matches!(character, '\\' | '&' | '#' | '^')
            .then(|| ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape)))
            .flatten();
        if let Some((escape, replacement)) = escape {
            plain.push_str(replacement);
            rest = &rest[escape.len()..];
        } else {
            plain.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    plain
}

/// Truncates the text to at most `max_len` bytes, at a character boundary.
pub fn truncate(text: &str, max_len: usize) -> &str {
    let mut end = text.len().min(max_len);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Rest of a line, from which a parser consumes text.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(pub &'a str);

impl<'a> Cursor<'a> {
    /// Consumes `words`; returns `None` if the rest begins with other text.
    pub fn expect(&mut self, words: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(words)?;
        Some(())
    }

    /// Returns the text in front of `words` on the same line, and consumes the text and the words.
    pub fn take_until(&mut self, words: &str) -> Option<&'a str> {
        let (before, _) = truncate(self.0, MAX_NAME_LEN + words.len()).split_once(words)?;
        if before.contains(['\n', '\r']) {
            return None;
        }
        self.0 = &self.0[before.len() + words.len()..];
        Some(before)
    }

    /// Returns the rest of the same line, up to `MAX_LOOKAHEAD_LEN` bytes.
    pub fn rest_of_line(&self) -> &'a str {
        let near = truncate(self.0, MAX_LOOKAHEAD_LEN);
        near.split(['\n', '\r']).next().unwrap_or(near)
    }

    /// Parses a name: letters, digits and the punctuation of device and block names.
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

    /// Parses a decimal number with or without sign.
    pub fn parse_i64(&mut self) -> Option<i64> {
        let sign = usize::from(self.0.starts_with('-'));
        let digits = self.digits_end(sign, |digit| digit.is_ascii_digit());
        let number = self.0[..digits].parse().ok()?;
        self.0 = &self.0[digits..];
        Some(number)
    }

    /// Parses a decimal number of up to 32 bits that is not negative.
    pub fn parse_u32(&mut self) -> Option<u32> {
        let mut cursor = *self;
        let number = u32::try_from(cursor.parse_i64()?).ok()?;
        *self = cursor;
        Some(number)
    }

    /// Parses a decimal number of up to 64 bits without sign.
    pub fn parse_u64(&mut self) -> Option<u64> {
        let digits = self.digits_end(0, |digit| digit.is_ascii_digit());
        let number = self.0[..digits].parse().ok()?;
        self.0 = &self.0[digits..];
        Some(number)
    }

    /// Parses a hexadecimal number of up to 64 bits, with or without `0x`.
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

    /// Parses an error: its text, `(os error 22)` or both.
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

/// Returns a trimmed and truncated copy of a name, for [`Symptom`]s.
pub fn to_name(name: &str) -> String {
    truncate(name.trim(), MAX_NAME_LEN).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_unescaped_and_truncated() {
        assert_eq!(
            unescape("a\\nb&#10;c \\\"d\\\" &#39;e&#39;"),
            "a\nb\nc \"d\" 'e'"
        );
        let long = "ä".repeat(MAX_LINE_LEN);
        assert!(unescape(&long).len() <= MAX_LINE_LEN);
    }

    #[test]
    fn index_finds_every_word() {
        const WORDS: [&str; 3] = ["Failed to load ", "ioctl(", "kvm:"];
        let mut index = PrefixIndex::new();
        index.add_words(&WORDS);
        for word in WORDS {
            let text = alloc::format!("x {word} y");
            assert!(
                index.candidates(text.as_bytes()).any(|at| at == 2),
                "{word}"
            );
        }
        assert!(!index.may_occur(b"kvm"));
        assert!(!index.may_occur(b"0123456789"));
        assert!(!PrefixIndex::new().may_occur(b"Failed to load x"));
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
