//! A pull reader for JSON that keeps order, duplicate keys, and the offsets of all tokens.
//!
//! QEMU's description repeats keys inside one object, and an edit changes single numbers in it.
//! Both rule out a map. Only [`Reader::string`] allocates, to unescape. Nesting is bounded.
//! [`crate::vmdescription`] interprets the description.

use std::borrow::Cow;
use std::ops::Range;

/// Maximum nesting; deeper than the structures of any device.
const MAX_DEPTH: usize = 128;

/// Syntax error; holds the offset of the first invalid byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError(pub(crate) usize);

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Key,
    Text,
    Number,
    /// `true`, `false` or `null`.
    Literal,
}

/// Token and the range of its bytes; quotes of strings are not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) range: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expectation {
    /// Value; with `true` also the end of an array.
    Value(bool),
    /// Key; with `true` also the end of an object.
    Key(bool),
    /// Comma, or the end of the open container.
    CommaOrEnd,
    /// End of the text: the outermost value is complete.
    End,
}

/// Reader of the tokens of a text.
pub(crate) struct Reader<'t> {
    text: &'t [u8],
    position: usize,
    /// Open containers, outermost first: `true` for an object.
    open_containers: Vec<bool>,
    expectation: Expectation,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            position: 0,
            open_containers: Vec::new(),
            expectation: Expectation::Value(false),
        }
    }

    /// Returns the offset after the last token.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Returns the text from this offset to the end of the last token.
    pub(crate) fn text_since(&self, start: usize) -> &'t [u8] {
        &self.text[start..self.position]
    }

    /// Returns the text of a string or number.
    pub(crate) fn bytes(&self, token: &Token) -> &'t [u8] {
        &self.text[token.range.clone()]
    }

    /// Returns the text of a key or string, unescaped.
    pub(crate) fn string(&self, token: &Token) -> Result<Cow<'t, str>, SyntaxError> {
        let fault = SyntaxError(token.range.start);
        let text = std::str::from_utf8(self.bytes(token)).map_err(|_| fault)?;
        if !text.contains('\\') {
            return Ok(Cow::Borrowed(text));
        }
        unescape(text).map(Cow::Owned).ok_or(fault)
    }

    /// Returns a whole number; a negative number is returned modulo 2^64.
    pub(crate) fn integer(&self, token: &Token) -> Result<u64, SyntaxError> {
        let text = std::str::from_utf8(self.bytes(token)).unwrap_or_default();
        if token.kind == TokenKind::Number {
            if let Ok(number) = text.parse::<u64>() {
                return Ok(number);
            }
            if let Ok(number) = text.parse::<i64>() {
                return Ok(number.cast_unsigned());
            }
        }
        Err(SyntaxError(token.range.start))
    }

    /// Returns the next token; `None` after the last one.
    pub(crate) fn next(&mut self) -> Result<Option<Token>, SyntaxError> {
        loop {
            self.skip_space();
            let start = self.position;
            let Some(&byte) = self.text.get(self.position) else {
                return if self.expectation == Expectation::End {
                    Ok(None)
                } else {
                    Err(SyntaxError(start))
                };
            };
            match (self.expectation, byte) {
                (Expectation::CommaOrEnd, b',') => {
                    self.position += 1;
                    self.expectation = match self.open_containers.last() {
                        Some(true) => Expectation::Key(false),
                        _ => Expectation::Value(false),
                    };
                }
                (Expectation::Key(true) | Expectation::CommaOrEnd, b'}') => {
                    return self.close(true, TokenKind::ObjectEnd).map(Some);
                }
                (Expectation::Value(true) | Expectation::CommaOrEnd, b']') => {
                    return self.close(false, TokenKind::ArrayEnd).map(Some);
                }
                (Expectation::Key(_), b'"') => {
                    let range = self.read_quoted()?;
                    self.skip_space();
                    if self.text.get(self.position) != Some(&b':') {
                        return Err(SyntaxError(self.position));
                    }
                    self.position += 1;
                    self.expectation = Expectation::Value(false);
                    let kind = TokenKind::Key;
                    return Ok(Some(Token { kind, range }));
                }
                (Expectation::Value(_), _) => return self.read_value(byte).map(Some),
                _ => return Err(SyntaxError(start)),
            }
        }
    }

    /// Skips the next value; returns the range of its text.
    pub(crate) fn skip_value(&mut self) -> Result<Range<usize>, SyntaxError> {
        let depth = self.open_containers.len();
        let first = self.next()?.ok_or(SyntaxError(self.position))?;
        let mut end = first.range.end;
        while self.open_containers.len() > depth {
            end = self.next()?.ok_or(SyntaxError(self.position))?.range.end;
        }
        Ok(first.range.start..end)
    }

    /// Skips `rest`, which must be the remaining text of the innermost open object, from its next
    /// value to its brace. Returns `false`, without a change, if the text has other bytes here.
    pub(crate) fn skip_rest_of_object(&mut self, rest: &[u8]) -> bool {
        let is_same = self.text[self.position..].starts_with(rest);
        if is_same {
            self.position += rest.len();
            self.open_containers.pop();
            self.after_value();
        }
        is_same
    }

    fn read_value(&mut self, byte: u8) -> Result<Token, SyntaxError> {
        let start = self.position;
        let (kind, range) = match byte {
            b'{' | b'[' => {
                if self.open_containers.len() == MAX_DEPTH {
                    return Err(SyntaxError(start));
                }
                self.position += 1;
                self.open_containers.push(byte == b'{');
                let range = start..self.position;
                let (kind, expect) = if byte == b'{' {
                    (TokenKind::ObjectStart, Expectation::Key(true))
                } else {
                    (TokenKind::ArrayStart, Expectation::Value(true))
                };
                self.expectation = expect;
                return Ok(Token { kind, range });
            }
            b'"' => (TokenKind::Text, self.read_quoted()?),
            b'-' | b'0'..=b'9' => (TokenKind::Number, self.take_run(b"+-.eE0123456789")),
            b't' | b'f' | b'n' => {
                let range = self.take_run(b"aeflnrstu");
                if !matches!(&self.text[range.clone()], b"true" | b"false" | b"null") {
                    return Err(SyntaxError(start));
                }
                (TokenKind::Literal, range)
            }
            _ => return Err(SyntaxError(start)),
        };
        self.after_value();
        Ok(Token { kind, range })
    }

    fn close(&mut self, object: bool, kind: TokenKind) -> Result<Token, SyntaxError> {
        if self.open_containers.pop() != Some(object) {
            return Err(SyntaxError(self.position));
        }
        self.position += 1;
        self.after_value();
        let range = self.position - 1..self.position;
        Ok(Token { kind, range })
    }

    fn after_value(&mut self) {
        self.expectation = if self.open_containers.is_empty() {
            Expectation::End
        } else {
            Expectation::CommaOrEnd
        };
    }

    fn skip_space(&mut self) {
        self.take_run(b" \t\r\n");
    }

    fn take_run(&mut self, set: &[u8]) -> Range<usize> {
        let start = self.position;
        while self
            .text
            .get(self.position)
            .is_some_and(|byte| set.contains(byte))
        {
            self.position += 1;
        }
        start..self.position
    }

    fn read_quoted(&mut self) -> Result<Range<usize>, SyntaxError> {
        self.position += 1;
        let start = self.position;
        loop {
            match self.text.get(self.position) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(start..self.position - 1);
                }
                Some(b'\\') => self.position += 2,
                Some(0x20..) => self.position += 1,
                _ => return Err(SyntaxError(self.position.min(self.text.len()))),
            }
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match rest.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => {
                let mut code = 0;
                for _ in 0..4 {
                    code = code * 16 + rest.next()?.to_digit(16)?;
                }
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            plain @ ('"' | '\\' | '/') => out.push(plain),
            _ => return None,
        }
    }
    Some(out)
}

/// Reads a token, which must be of this kind; returns its offset.
pub(crate) fn expect(reader: &mut Reader<'_>, kind: TokenKind) -> Result<usize, SyntaxError> {
    match reader.next()? {
        Some(token) if token.kind == kind => Ok(token.range.start),
        Some(token) => Err(SyntaxError(token.range.start)),
        None => Err(SyntaxError(0)),
    }
}

/// Returns the next key of the open object, `None` at its end.
pub(crate) fn read_key<'t>(reader: &mut Reader<'t>) -> Result<Option<Cow<'t, str>>, SyntaxError> {
    match reader.next()? {
        Some(token) if token.kind == TokenKind::Key => reader.string(&token).map(Some),
        Some(token) if token.kind == TokenKind::ObjectEnd => Ok(None),
        Some(token) => Err(SyntaxError(token.range.start)),
        None => Err(SyntaxError(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<(TokenKind, String)>, SyntaxError> {
        let mut reader = Reader::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(token) = reader.next()? {
            all.push((token.kind, text[token.range].to_owned()));
        }
        Ok(all)
    }

    #[test]
    fn duplicate_keys_are_returned_twice() {
        let all = tokens(r#"{ "a" : [1, -2.5e3, "x\"y", true], "a":{}, "b":[] }"#).unwrap();
        let keys: Vec<_> = all
            .iter()
            .filter(|(kind, _)| *kind == TokenKind::Key)
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(keys, ["a", "a", "b"]);
        assert_eq!(all[3], (TokenKind::Number, "1".into()));
        assert_eq!(all[5], (TokenKind::Text, r#"x\"y"#.into()));
    }

    #[test]
    fn invalid_json_is_rejected() {
        for text in [
            "",
            "{",
            "}",
            "{]",
            "[}",
            "{1:2}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            "[1,]",
            r#"{"a":1,}"#,
            "[1 2]",
            "1 2",
            "\"\n\"",
            r#"""#,
            r#""\"#,
            "tru",
            "nulll",
            "[1,,2]",
            "{,}",
        ] {
            assert!(tokens(text).is_err(), "{text}");
        }
        assert!(tokens(&"[".repeat(MAX_DEPTH + 1)).is_err());
        let deep = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert!(tokens(&deep).is_ok());
    }

    #[test]
    fn skips_and_unescapes() {
        let text = br#"{"skip": {"deep": [1, {"x": 2}]}, "n\u0061me\n": -1}"#;
        let mut reader = Reader::new(text);
        reader.next().unwrap();
        reader.next().unwrap();
        let skipped = reader.skip_value().unwrap();
        assert_eq!(&text[skipped], br#"{"deep": [1, {"x": 2}]}"#);
        let key = reader.next().unwrap().unwrap();
        assert_eq!(reader.string(&key).unwrap(), "name\n");
        let number = reader.next().unwrap().unwrap();
        assert_eq!(reader.integer(&number).unwrap(), u64::MAX);
        assert_eq!(unescape(r"\x"), None);
    }
}
