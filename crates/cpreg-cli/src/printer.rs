//! The only way to standard output (the answer) and standard error (talk). Colour where it is a terminal; NO_COLOR is honoured.

use std::fmt::Display;
use std::fmt::Write as _;
use std::io::Write as _;

use anstream::{stderr, stdout};
use anstyle::{AnsiColor, Style};

use crate::failure::Failure;

/// Styles by what they say.
pub(crate) mod style {
    use super::{AnsiColor, Style};

    pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
    pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
    pub(crate) const DOUBT: Style = AnsiColor::Yellow.on_default().bold();
    pub(crate) const HINT: Style = AnsiColor::Cyan.on_default().bold();
    pub(crate) const NAME: Style = Style::new().bold();
    pub(crate) const ASIDE: Style = Style::new().dimmed();
}

/// Text in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Holds the answer until it is whole: a command that fails half way answers nothing.
#[derive(Default)]
pub(crate) struct Printer {
    answer: String,
}

impl Printer {
    /// A line of the answer.
    pub(crate) fn line(&mut self, text: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.answer, "{text}");
    }

    /// The answer as it is, ending included.
    pub(crate) fn raw(&mut self, text: &str) {
        self.answer.push_str(text);
    }

    /// A line beside the answer.
    #[expect(clippy::unused_self, reason = "who has the printer may print")]
    pub(crate) fn note(&self, text: impl Display) {
        // Nobody is left to be told if this fails.
        let _ = writeln!(stderr(), "{}: {text}", styled(style::ASIDE, "note"));
    }

    /// Gives the answer.
    ///
    /// # Errors
    /// If it could not be written whole.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let answer = std::mem::take(&mut self.answer);
        let mut stdout = stdout().lock();
        let written = stdout.write_all(answer.as_bytes());
        written
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::new("cannot write to standard output").because(error))
    }

    #[expect(clippy::unused_self, reason = "who has the printer may print")]
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut stderr = stderr();
        let _ = writeln!(stderr, "{}: {failure}", styled(style::BAD, "error"));
        for cause in failure.causes() {
            let _ = writeln!(stderr, "{}: {cause}", styled(style::BAD, "cause"));
        }
        for hint in failure.hints() {
            let _ = writeln!(stderr, "{}: {hint}", styled(style::HINT, "hint"));
        }
    }
}
