//! What a command says beside its report: progress, log lines, and why it failed.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use anstream::stderr;
use cpreg_report::json;
use cpreg_report::printer::harmless;
pub(crate) use cpreg_report::printer::{Printer, style, styled};

use serde::Serialize;

use crate::failure::Failure;

/// A line on standard error that tells how far a long copy is; nothing where standard error is no terminal.
pub(crate) struct Progress {
    is_shown: bool,
    /// What was told last: percent, or MiB where nobody knows of how many.
    told: Option<u64>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            told: None,
        }
    }

    /// Tells how many bytes of how many are done.
    pub(crate) fn tell(&mut self, done: u64, all: u64) {
        let percent = done.saturating_mul(100) / all.max(1);
        if self.is_shown && self.told != Some(percent) {
            self.told = Some(percent);
            let _ = write!(stderr(), "\rwriting: {percent:3} %");
        }
    }

    /// Tells where something is and how many bytes have passed, of nobody knows how many.
    pub(crate) fn tell_passed(&mut self, place: impl Display, done: u64) {
        let mebibytes = done >> 20;
        if self.is_shown && self.told.is_none_or(|it| it + 16 <= mebibytes) {
            self.told = Some(mebibytes);
            let _ = write!(stderr(), "\rpassing: {place:12} {mebibytes} MiB");
        }
    }

    /// Tells where something is, how many bytes have passed, and how many MiB each second.
    pub(crate) fn tell_rate(&mut self, place: impl Display, done: u64, rate: f64) {
        if self.is_shown {
            let mebibytes = done >> 20;
            self.told = Some(mebibytes);
            let line = format!("passing: {place}, {mebibytes} MiB, {rate:.1} MiB/s");
            let _ = write!(stderr(), "\r{line:60}");
        }
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if self.told.take().is_some() {
            let _ = write!(stderr(), "\r{:60}\r", "");
        }
    }
}

/// A line of a log, on standard error.
pub(crate) fn log_line(text: impl Display) {
    // Nobody is left to be told if this fails.
    let _ = writeln!(stderr(), "{}", harmless(&text.to_string(), false));
}

/// Gives the answer.
///
/// # Errors
/// If it could not be written whole.
pub(crate) fn finish(printer: &mut Printer) -> Result<(), Failure> {
    printer.finish().map_err(|error| {
        Failure::new(format!("cannot write to {}", printer.target())).because(error)
    })
}

/// Says why a command failed.
pub(crate) fn print_failure(failure: &Failure) {
    let mut stderr = stderr();
    let mut line = |style, word, text: &str| {
        // A cause may have several lines: what QEMU said, where in a file it is wrong.
        let text = harmless(text, word == "cause");
        let _ = writeln!(stderr, "{}: {text}", styled(style, word));
    };
    line(style::BAD, "error", &failure.to_string());
    for cause in failure.causes() {
        line(style::BAD, "cause", &cause);
    }
    for hint in failure.hints() {
        line(style::HINT, "hint", hint);
    }
}

/// Answers with a report's model as JSON.
pub(crate) fn print_json(printer: &mut Printer, model: &impl Serialize) -> Result<(), Failure> {
    let document = json::document(model);
    printer.json(&document.map_err(|error| Failure::new("cannot report").because(error))?);
    Ok(())
}
