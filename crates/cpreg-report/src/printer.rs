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
    pub const ERROR: Style = AnsiColor::Red.on_default().bold();
    /// Something is not known, or changes.
    pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    /// Advice.
    pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
    /// A name.
    pub const NAME: Style = Style::new().bold();
    /// Things that matter less.
    pub const DIM: Style = Style::new().dimmed();
}

/// All of them; no other sequence reaches a terminal.
const STYLES: [Style; 6] = [
    style::GOOD,
    style::ERROR,
    style::WARNING,
    style::HINT,
    style::NAME,
    style::DIM,
];

/// Whether a terminal would do something else with it than show it in its place.
const fn should_escape(character: char) -> bool {
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
pub fn escape_control(text: &str, keeps_lines: bool) -> String {
    let mut harmless = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after_style = (character == '\x1b')
            .then(|| {
                STYLES
                    .iter()
                    .find_map(|style| style_sequence_len(*style, rest))
            })
            .flatten();
        if let Some(length) = after_style {
            harmless.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if should_escape(character) && !(keeps_lines && character == '\n') {
            harmless.extend(character.escape_default());
        } else {
            harmless.push(character);
        }
        rest = &rest[character.len_utf8()..];
    }
    harmless
}

/// How long this style's beginning or end is, if the text begins with it.
fn style_sequence_len(style: Style, text: &str) -> Option<usize> {
    [style.render().to_string(), style.render_reset().to_string()]
        .into_iter()
        .find(|sequence| text.starts_with(sequence))
        .map(|sequence| sequence.len())
}

/// JSON with escapes in place of what is no text; it stands in strings only, line ends aside.
fn escape_control_json(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        if should_escape(character) && character != '\n' {
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
    text: String,
    /// The answer goes to standard error: standard output is taken by something else.
    writes_to_stderr: bool,
}

impl Printer {
    /// A line of the answer.
    pub fn line(&mut self, text: impl Display) {
        self.text
            .push_str(&escape_control(&text.to_string(), false));
        self.text.push('\n');
    }

    /// The answer of another printer.
    pub fn append(&mut self, other: &str) {
        self.text.push_str(other);
    }

    /// The answer so far, which is not given then.
    pub fn into_text(self) -> String {
        self.text
    }

    /// The answer as JSON, ending included.
    pub fn json(&mut self, text: &str) {
        self.text.push_str(&escape_control_json(text));
    }

    /// From now on the answer goes to standard error, because standard output is a stream.
    pub fn report_to_stderr(&mut self) {
        self.writes_to_stderr = true;
    }

    /// A line beside the answer.
    pub fn note(&self, text: impl Display) {
        // Nobody is left to be told if this fails.
        let text = escape_control(&text.to_string(), false);
        let _ = writeln!(stderr(), "{}: {text}", styled(style::DIM, "note"));
    }

    /// Gives the answer.
    ///
    /// # Errors
    /// If it could not be written whole.
    pub fn finish(&mut self) -> io::Result<()> {
        let answer = std::mem::take(&mut self.text);
        if self.writes_to_stderr {
            return stderr().write_all(answer.as_bytes());
        }
        let mut stdout = stdout().lock();
        stdout.write_all(answer.as_bytes())?;
        stdout.flush()
    }

    /// Where [`Self::finish`] writes: `standard output`, or `standard error`.
    pub const fn target(&self) -> &'static str {
        if self.writes_to_stderr {
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
        assert_eq!(escape_control(&name, false), expected);
        assert_eq!(
            escape_control("a\nb\u{9b}c\u{202e}d é ×", false),
            "a\\nb\\u{9b}c\\u{202e}d é ×"
        );
        assert_eq!(escape_control("a\n\r", true), "a\n\\r");
    }

    #[test]
    fn json_means_the_same() {
        let text = "a\u{7f}\u{9b}\u{202e}z".to_owned();
        let json = escape_control_json(&serde_json::to_string_pretty(&[&text]).expect("text"));
        assert!(
            !json.chars().any(|it| it != '\n' && should_escape(it)),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&json).expect("JSON"),
            [text]
        );
    }
}
