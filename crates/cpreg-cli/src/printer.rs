//! The only way to standard output (the answer) and standard error (talk). Colour where it is a terminal; NO_COLOR is honoured.

use std::fmt::Display;
use std::io::{self, Write};

use anstream::{AutoStream, stderr};
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

pub(crate) struct Printer {
    answer: AutoStream<io::BufWriter<io::Stdout>>,
    broken: Option<io::Error>,
}

impl Printer {
    pub(crate) fn new() -> Self {
        let choice = AutoStream::choice(&io::stdout());
        Self {
            answer: AutoStream::new(io::BufWriter::new(io::stdout()), choice),
            broken: None,
        }
    }

    /// A line of the answer.
    pub(crate) fn line(&mut self, text: impl Display) {
        if self.broken.is_none() {
            self.broken = writeln!(self.answer, "{text}").err();
        }
    }

    /// The answer as it is, ending included.
    pub(crate) fn raw(&mut self, text: &str) {
        if self.broken.is_none() {
            self.broken = self.answer.write_all(text.as_bytes()).err();
        }
    }

    /// A line beside the answer.
    pub(crate) fn note(&self, text: impl Display) {
        // Nobody is left to be told if this fails.
        let _ = writeln!(stderr(), "{}: {text}", styled(style::ASIDE, "note"));
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// If it could not be written whole.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let broken = self.broken.take().or_else(|| self.answer.flush().err());
        match broken {
            Some(error) => Err(Failure::new("cannot write to standard output").because(error)),
            None => Ok(()),
        }
    }

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
