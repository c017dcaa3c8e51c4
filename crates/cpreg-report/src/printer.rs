//! The only way to standard output (the answer) and standard error (talk). Colour where it is a terminal; NO_COLOR is honoured.
//!
//! Names in files come from whoever wrote the file. Nothing in them moves a cursor, begins a line or turns text around: what
//! is no text is printed as an escape, whichever report it is in.

use std::fmt::Display;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use anstream::{stderr, stdout};
use anstyle::{AnsiColor, Style};

/// Styles by what they say.
pub mod style {
    use super::{AnsiColor, Style};

    /// Nothing is wrong.
    pub const GOOD: Style = AnsiColor::Green.on_default().bold();
    /// Something is wrong.
    pub const BAD: Style = AnsiColor::Red.on_default().bold();
    /// Something is not known, or changes.
    pub const DOUBT: Style = AnsiColor::Yellow.on_default().bold();
    /// Advice.
    pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
    /// A name.
    pub const NAME: Style = Style::new().bold();
    /// Things that matter less.
    pub const ASIDE: Style = Style::new().dimmed();
}

/// All of them; no other sequence reaches a terminal.
const STYLES: [Style; 6] = [
    style::GOOD,
    style::BAD,
    style::DOUBT,
    style::HINT,
    style::NAME,
    style::ASIDE,
];

/// Whether a terminal would do something else with it than show it in its place.
const fn is_no_text(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// The text, with an escape in place of what is no text and none of our own styles.
pub fn harmless(text: &str, keeps_lines: bool) -> String {
    let mut harmless = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after_style = (character == '\x1b')
            .then(|| STYLES.iter().find_map(|style| style_at(*style, rest)))
            .flatten();
        if let Some(length) = after_style {
            harmless.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if is_no_text(character) && !(keeps_lines && character == '\n') {
            harmless.extend(character.escape_default());
        } else {
            harmless.push(character);
        }
        rest = &rest[character.len_utf8()..];
    }
    harmless
}

/// How long this style's beginning or end is, if the text begins with it.
fn style_at(style: Style, text: &str) -> Option<usize> {
    [style.render().to_string(), style.render_reset().to_string()]
        .into_iter()
        .find(|sequence| text.starts_with(sequence))
        .map(|sequence| sequence.len())
}

/// JSON with escapes in place of what is no text; it stands in strings only, line ends aside.
fn harmless_json(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        if is_no_text(character) && character != '\n' {
            // Writing to a string cannot fail; all of them have four digits.
            let _ = write!(harmless, "\\u{:04x}", u32::from(character));
        } else {
            harmless.push(character);
        }
    }
    harmless
}

/// Text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Holds the answer until it is whole: a command that fails half way answers nothing.
#[derive(Debug, Default)]
pub struct Printer {
    answer: String,
    /// The answer goes to standard error: standard output is taken by something else.
    is_beside: bool,
}

impl Printer {
    /// A line of the answer.
    pub fn line(&mut self, text: impl Display) {
        self.answer.push_str(&harmless(&text.to_string(), false));
        self.answer.push('\n');
    }

    /// The answer of another printer.
    pub fn whole(&mut self, other: &str) {
        self.answer.push_str(other);
    }

    /// The answer so far, which is not given then.
    pub fn into_answer(self) -> String {
        self.answer
    }

    /// The answer as JSON, ending included.
    pub fn json(&mut self, text: &str) {
        self.answer.push_str(&harmless_json(text));
    }

    /// From now on the answer goes to standard error, because standard output is a stream.
    pub fn answer_beside(&mut self) {
        self.is_beside = true;
    }

    /// A line beside the answer.
    pub fn note(&self, text: impl Display) {
        // Nobody is left to be told if this fails.
        let text = harmless(&text.to_string(), false);
        let _ = writeln!(stderr(), "{}: {text}", styled(style::ASIDE, "note"));
    }

    /// Gives the answer.
    ///
    /// # Errors
    /// If it could not be written whole.
    pub fn finish(&mut self) -> io::Result<()> {
        let answer = std::mem::take(&mut self.answer);
        if self.is_beside {
            return stderr().write_all(answer.as_bytes());
        }
        let mut stdout = stdout().lock();
        stdout.write_all(answer.as_bytes())?;
        stdout.flush()
    }

    /// Where [`Self::finish`] writes: `standard output`, or `standard error`.
    pub const fn target(&self) -> &'static str {
        if self.is_beside {
            "standard error"
        } else {
            "standard output"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_styles_pass() {
        let name = styled(style::NAME, "PC\x1b[2J");
        let expected = format!("{}PC\\u{{1b}}[2J{:#}", style::NAME, style::NAME);
        assert_eq!(harmless(&name, false), expected);
        assert_eq!(
            harmless("a\nb\u{9b}c\u{202e}d é ×", false),
            "a\\nb\\u{9b}c\\u{202e}d é ×"
        );
        assert_eq!(harmless("a\n\r", true), "a\n\\r");
    }

    #[test]
    fn json_means_the_same() {
        let text = "a\u{7f}\u{9b}\u{202e}z".to_owned();
        let json = harmless_json(&serde_json::to_string_pretty(&[&text]).expect("text"));
        assert!(
            !json.chars().any(|it| it != '\n' && is_no_text(it)),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&json).expect("JSON"),
            [text]
        );
    }
}
