//! A pull reader for JSON that keeps order, duplicate keys, and the place of everything.
//!
//! QEMU's description repeats keys inside one object, and an edit changes single numbers in it;
//! both rule out a map. Nothing is allocated but what [`Token::text`] unescapes. Nesting is bounded.
//! What the description means lives in [`crate::vmdescription`].

use std::borrow::Cow;
use std::ops::Range;

/// Deeper than any device nests its structures.
const MOST_DEPTH: usize = 128;

/// The place of the byte that cannot be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) usize);

/// What sort of token this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Key,
    Text,
    Number,
    /// `true`, `false`, `null`.
    Word,
}

/// A token and its bytes; those of strings are without the quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) range: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// A value; the end of an array too, if `true`.
    Value(bool),
    /// A key; the end of an object too, if `true`.
    Key(bool),
    /// A comma, or the end of what is open.
    CommaOrEnd,
    /// Nothing: the outermost value is complete.
    Nothing,
}

/// Takes tokens from a text.
pub(crate) struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    /// What is open: `true` for an object.
    open: Vec<bool>,
    expect: Expect,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            at: 0,
            open: Vec::new(),
            expect: Expect::Value(false),
        }
    }

    /// The offset behind the last token.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The text of a string or number.
    pub(crate) fn bytes(&self, token: &Token) -> &'t [u8] {
        &self.text[token.range.clone()]
    }

    /// The text of a key or string, unescaped.
    pub(crate) fn string(&self, token: &Token) -> Result<Cow<'t, str>, Fault> {
        let fault = Fault(token.range.start);
        let text = std::str::from_utf8(self.bytes(token)).map_err(|_| fault)?;
        if !text.contains('\\') {
            return Ok(Cow::Borrowed(text));
        }
        unescape(text).map(Cow::Owned).ok_or(fault)
    }

    /// A whole number; a negative one is taken modulo 2^64.
    pub(crate) fn integer(&self, token: &Token) -> Result<u64, Fault> {
        let text = std::str::from_utf8(self.bytes(token)).unwrap_or_default();
        if token.kind == TokenKind::Number {
            if let Ok(number) = text.parse::<u64>() {
                return Ok(number);
            }
            if let Ok(number) = text.parse::<i64>() {
                return Ok(number.cast_unsigned());
            }
        }
        Err(Fault(token.range.start))
    }

    /// The next token; `None` behind the last one.
    pub(crate) fn next(&mut self) -> Result<Option<Token>, Fault> {
        loop {
            self.space();
            let start = self.at;
            let Some(&byte) = self.text.get(self.at) else {
                return if self.expect == Expect::Nothing {
                    Ok(None)
                } else {
                    Err(Fault(start))
                };
            };
            match (self.expect, byte) {
                (Expect::CommaOrEnd, b',') => {
                    self.at += 1;
                    self.expect = match self.open.last() {
                        Some(true) => Expect::Key(false),
                        _ => Expect::Value(false),
                    };
                }
                (Expect::Key(true) | Expect::CommaOrEnd, b'}') => {
                    return self.close(true, TokenKind::ObjectEnd).map(Some);
                }
                (Expect::Value(true) | Expect::CommaOrEnd, b']') => {
                    return self.close(false, TokenKind::ArrayEnd).map(Some);
                }
                (Expect::Key(_), b'"') => {
                    let range = self.quoted()?;
                    self.space();
                    if self.text.get(self.at) != Some(&b':') {
                        return Err(Fault(self.at));
                    }
                    self.at += 1;
                    self.expect = Expect::Value(false);
                    let kind = TokenKind::Key;
                    return Ok(Some(Token { kind, range }));
                }
                (Expect::Value(_), _) => return self.value(byte).map(Some),
                _ => return Err(Fault(start)),
            }
        }
    }

    /// Goes over the value that comes next, whatever it is; says where it stands.
    pub(crate) fn skip_value(&mut self) -> Result<Range<usize>, Fault> {
        let depth = self.open.len();
        let first = self.next()?.ok_or(Fault(self.at))?;
        let mut end = first.range.end;
        while self.open.len() > depth {
            end = self.next()?.ok_or(Fault(self.at))?.range.end;
        }
        Ok(first.range.start..end)
    }

    fn value(&mut self, byte: u8) -> Result<Token, Fault> {
        let start = self.at;
        let (kind, range) = match byte {
            b'{' | b'[' => {
                if self.open.len() == MOST_DEPTH {
                    return Err(Fault(start));
                }
                self.at += 1;
                self.open.push(byte == b'{');
                let range = start..self.at;
                let (kind, expect) = if byte == b'{' {
                    (TokenKind::ObjectStart, Expect::Key(true))
                } else {
                    (TokenKind::ArrayStart, Expect::Value(true))
                };
                self.expect = expect;
                return Ok(Token { kind, range });
            }
            b'"' => (TokenKind::Text, self.quoted()?),
            b'-' | b'0'..=b'9' => (TokenKind::Number, self.run(b"+-.eE0123456789")),
            b't' | b'f' | b'n' => {
                let range = self.run(b"aeflnrstu");
                if !matches!(&self.text[range.clone()], b"true" | b"false" | b"null") {
                    return Err(Fault(start));
                }
                (TokenKind::Word, range)
            }
            _ => return Err(Fault(start)),
        };
        self.after_value();
        Ok(Token { kind, range })
    }

    fn close(&mut self, object: bool, kind: TokenKind) -> Result<Token, Fault> {
        if self.open.pop() != Some(object) {
            return Err(Fault(self.at));
        }
        self.at += 1;
        self.after_value();
        let range = self.at - 1..self.at;
        Ok(Token { kind, range })
    }

    fn after_value(&mut self) {
        self.expect = if self.open.is_empty() {
            Expect::Nothing
        } else {
            Expect::CommaOrEnd
        };
    }

    fn space(&mut self) {
        self.run(b" \t\r\n");
    }

    fn run(&mut self, set: &[u8]) -> Range<usize> {
        let start = self.at;
        while self
            .text
            .get(self.at)
            .is_some_and(|byte| set.contains(byte))
        {
            self.at += 1;
        }
        start..self.at
    }

    fn quoted(&mut self) -> Result<Range<usize>, Fault> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                Some(b'\\') => self.at += 2,
                Some(0x20..) => self.at += 1,
                _ => return Err(Fault(self.at.min(self.text.len()))),
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

/// Takes a token of this kind, and gives where it begins.
pub(crate) fn expect(reader: &mut Reader<'_>, kind: TokenKind) -> Result<usize, Fault> {
    match reader.next()? {
        Some(token) if token.kind == kind => Ok(token.range.start),
        Some(token) => Err(Fault(token.range.start)),
        None => Err(Fault(0)),
    }
}

/// The next key of the object that is open, `None` at its end.
pub(crate) fn key<'t>(reader: &mut Reader<'t>) -> Result<Option<Cow<'t, str>>, Fault> {
    match reader.next()? {
        Some(token) if token.kind == TokenKind::Key => reader.string(&token).map(Some),
        Some(token) if token.kind == TokenKind::ObjectEnd => Ok(None),
        Some(token) => Err(Fault(token.range.start)),
        None => Err(Fault(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<(TokenKind, String)>, Fault> {
        let mut reader = Reader::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(token) = reader.next()? {
            all.push((token.kind, text[token.range].to_owned()));
        }
        Ok(all)
    }

    #[test]
    fn gives_duplicate_keys_twice() {
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
    fn refuses_what_is_no_json() {
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
        assert!(tokens(&"[".repeat(MOST_DEPTH + 1)).is_err());
        let deep = "[".repeat(MOST_DEPTH) + &"]".repeat(MOST_DEPTH);
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
