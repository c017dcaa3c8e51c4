//! What a command says beside its report: progress, log lines, and why it failed.

use std::fmt::Display;
use std::io::Write as _;

use anstream::stderr;
use cpreg_report::json;
use cpreg_report::printer::escape_control;
pub(crate) use cpreg_report::printer::{Printer, style, styled};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// Progress line of a long copy on standard error, if standard error is a terminal.
#[derive(Default)]
pub(crate) struct Progress {
    /// Line on the terminal, while it is shown.
    line: Option<ProgressBar>,
    /// Percent shown last; or MiB, if the total is not known.
    last_reported: Option<u64>,
}

impl Progress {
    /// Tells how many bytes of how many are done.
    pub(crate) fn show_percent(&mut self, done: u64, all: u64) {
        let percent = done.saturating_mul(100) / all.max(1);
        if self.last_reported != Some(percent) {
            self.last_reported = Some(percent);
            self.show(format!("writing: {percent:3} %"));
        }
    }

    /// Tells where something is and how many bytes have passed, of nobody knows how many.
    pub(crate) fn show_forwarded(&mut self, place: impl Display, done: u64) {
        let mebibytes = done >> 20;
        if self.last_reported.is_none_or(|it| it + 16 <= mebibytes) {
            self.last_reported = Some(mebibytes);
            self.show(format!("passing: {place:12} {mebibytes} MiB"));
        }
    }

    /// Tells where something is, how many bytes have passed, and how many MiB each second.
    pub(crate) fn show_rate(&mut self, place: impl Display, done: u64, rate: f64) {
        let mebibytes = done >> 20;
        self.show(format!(
            "passing: {place}, {mebibytes} MiB, {rate:.1} MiB/s"
        ));
    }

    /// Shows this text as the line.
    fn show(&mut self, text: String) {
        let line = self.line.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        line.set_message(text);
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        self.last_reported = None;
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

/// A line of a log, on standard error.
pub(crate) fn log_line(text: impl Display) {
    // Nobody is left to be told if this fails.
    let _ = writeln!(stderr(), "{}", escape_control(&text.to_string(), false));
}

/// Gives the answer.
///
/// # Errors
/// If it could not be written whole.
pub(crate) fn finish(printer: &mut Printer) -> Result<(), Failure> {
    printer.finish().map_err(|error| {
        Failure::new(format!("cannot write to {}", printer.target())).with_cause(error)
    })
}

/// Says why a command failed.
pub(crate) fn print_failure(failure: &Failure) {
    let mut stderr = stderr();
    let mut line = |style, word, text: &str| {
        // A cause may have several lines: what QEMU said, where in a file it is wrong.
        let text = escape_control(text, word == "cause");
        let _ = writeln!(stderr, "{}: {text}", styled(style, word));
    };
    line(style::ERROR, "error", &failure.to_string());
    for cause in failure.causes() {
        line(style::ERROR, "cause", &cause);
    }
    for hint in failure.hints() {
        line(style::HINT, "hint", hint);
    }
}

/// Answers with a report's model as JSON.
pub(crate) fn print_json(printer: &mut Printer, model: &impl Serialize) -> Result<(), Failure> {
    let document = json::document(model);
    printer.json(&document.map_err(|error| Failure::new("cannot report").with_cause(error))?);
    Ok(())
}
