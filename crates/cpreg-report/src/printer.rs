//! [`Printer`], the only path to standard output (reports) and standard error (notes).
//!
//! Output is coloured on a terminal; `--color`, `NO_COLOR` and `CLICOLOR_FORCE` are honoured. No
//! statement is made by colour alone.
//!
//! The author of an input file controls the names in the file. The printer writes control
//! characters and bidirectional marks as escapes. No name can therefore move the cursor, begin a
//! line or reverse the direction of text.

use std::fmt::Display;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use anstream::{stderr, stdout};
use anstyle::{AnsiColor, Style};
use textwrap::core::display_width;

use crate::text::wrap::columns;

/// Columns of a report that does not go to a terminal, and the most columns on a terminal.
pub const MAX_WIDTH: usize = 100;
/// Fewest columns of a report. A narrower terminal wraps the lines itself.
pub const MIN_WIDTH: usize = 40;

/// Amount of text in a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// The verdict only.
    Quiet,
    /// The verdict, the next command, what blocks the load, what the guest could notice.
    #[default]
    Short,
    /// Everything.
    Verbose,
}

/// Styles by meaning.
pub mod style {
    use super::{AnsiColor, Style};

    /// A good result.
    pub const GOOD: Style = AnsiColor::Green.on_default().bold();
    /// An error or a refusal.
    pub const ERROR: Style = AnsiColor::Red.on_default().bold();
    /// An unknown result, or a change.
    pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
    /// Advice.
    pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
    /// A name.
    pub const NAME: Style = Style::new().bold();
    /// Less important text.
    pub const DIM: Style = Style::new().dimmed();
}

/// All styles; no other escape sequence reaches a terminal.
const STYLES: [Style; 6] = [
    style::GOOD,
    style::ERROR,
    style::WARNING,
    style::HINT,
    style::NAME,
    style::DIM,
];

/// Returns `true` if a terminal acts on the character, or does not show the character in its place.
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

/// Returns the text with control characters escaped, except for cpreg's own styles.
///
/// Line ends are escaped unless `keeps_lines` is set.
pub fn escape_control(text: &str, keeps_lines: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
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
            escaped.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if should_escape(character) && !(keeps_lines && character == '\n') {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
        rest = &rest[character.len_utf8()..];
    }
    escaped
}

/// Returns the length of the style's start or reset sequence, if the text begins with one of them.
fn style_sequence_len(style: Style, text: &str) -> Option<usize> {
    [style.render().to_string(), style.render_reset().to_string()]
        .into_iter()
        .find(|sequence| text.starts_with(sequence))
        .map(|sequence| sequence.len())
}

/// Returns JSON with control characters escaped.
///
/// Except for line ends, such characters occur only inside strings of a JSON document.
fn escape_control_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if should_escape(character) && character != '\n' {
            // Writing to a string cannot fail; all escaped characters have four digits.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Returns text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns a heading of a report's section.
pub fn heading(text: impl Display) -> String {
    styled(style::NAME, text)
}

/// Buffer of a report until the report is complete, so that a command that fails prints no part of
/// it.
#[derive(Debug)]
pub struct Printer {
    text: String,
    /// Columns of wrapped text.
    width: usize,
    /// `true` if the report goes to standard error, because standard output carries a stream.
    writes_to_stderr: bool,
}

impl Default for Printer {
    fn default() -> Self {
        Self::with_width(MAX_WIDTH)
    }
}

impl Printer {
    /// Returns an empty printer that wraps text to `columns`, limited to [`MIN_WIDTH`] and
    /// [`MAX_WIDTH`].
    pub fn with_width(columns: usize) -> Self {
        Self {
            text: String::new(),
            width: columns.clamp(MIN_WIDTH, MAX_WIDTH),
            writes_to_stderr: false,
        }
    }

    /// Returns an empty printer of the same width.
    #[must_use]
    pub fn new_buffer(&self) -> Self {
        Self::with_width(self.width)
    }

    /// Returns the columns of wrapped text.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Adds text after `begin`, wrapped to the printer's width. Further lines are indented to the
    /// end of `begin`. Commands between backticks stay on one line.
    pub fn paragraph(&mut self, begin: &str, text: impl Display) {
        // Escape first: a line end in a name is no space.
        let text = escape_control(&text.to_string(), false);
        let indent = display_width(begin);
        let mut lines = columns(&text, self.width.saturating_sub(indent)).into_iter();
        self.line(format_args!("{begin}{}", lines.next().unwrap_or_default()));
        for line in lines {
            self.line(format_args!("{}{line}", " ".repeat(indent)));
        }
    }

    /// Adds a line to the report, without its line end.
    pub fn line(&mut self, text: impl Display) {
        self.text
            .push_str(&escape_control(&text.to_string(), false));
        self.text.push('\n');
    }

    /// Adds the text of another printer, as [`Self::into_text`] returns it.
    pub fn append(&mut self, other: &str) {
        self.text.push_str(other);
    }

    /// Returns the report instead of printing it.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Adds a JSON document; `text` includes its line end.
    pub fn json(&mut self, text: &str) {
        self.text.push_str(&escape_control_json(text));
    }

    /// Sends the report to standard error, because standard output carries a stream.
    pub fn report_to_stderr(&mut self) {
        self.writes_to_stderr = true;
    }

    /// Prints a note to standard error at once.
    pub fn note(&self, text: impl Display) {
        // A failure to write to standard error can be reported nowhere.
        let text = escape_control(&text.to_string(), false);
        let _ = writeln!(stderr(), "{}: {text}", styled(style::DIM, "note"));
    }

    /// Prints the report.
    ///
    /// # Errors
    /// Returns an error if the report could not be written completely.
    pub fn finish(&mut self) -> io::Result<()> {
        let report = std::mem::take(&mut self.text);
        if self.writes_to_stderr {
            return stderr().write_all(report.as_bytes());
        }
        let mut stdout = stdout().lock();
        stdout.write_all(report.as_bytes())?;
        stdout.flush()
    }

    /// Returns the target of [`Self::finish`]: `standard output` or `standard error`.
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
    fn only_styles_of_cpreg_are_kept() {
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
    fn paragraphs_are_wrapped_and_indented() {
        let mut printer = Printer::with_width(0);
        let begin = format!("  {}  ", styled(style::ERROR, "refused"));
        printer.paragraph(
            &begin,
            "one `cpreg check a b` and the last words\nof a name",
        );
        let expected = "one `cpreg check a b` and the\n           last words\\nof a name\n";
        assert_eq!(printer.into_text(), format!("{begin}{expected}"));
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let text = "a\u{7f}\u{9b}\u{202e}z".to_owned();
        let json = escape_control_json(&serde_json::to_string_pretty(&[&text]).expect("text"));
        assert!(
            !json
                .chars()
                .any(|character| character != '\n' && should_escape(character)),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<Vec<String>>(&json).expect("JSON"),
            [text]
        );
    }
}
