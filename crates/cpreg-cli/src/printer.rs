//! Output of a command in addition to its report: progress, log lines, and error messages.

use std::fmt::Display;
use std::io::{self, Write as _};

use anstream::stderr;
use cpreg_report::json;
use cpreg_report::names::FailureKind;
use cpreg_report::printer::escape_control;
pub(crate) use cpreg_report::printer::{Printer, style, styled};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// Progress line of a long copy on standard error, if standard error is a terminal.
#[derive(Default)]
pub(crate) struct Progress {
    /// Progress line on the terminal; `None` if no line is shown.
    line: Option<ProgressBar>,
    /// Number shown last: a percentage, or MiB if the total is not known.
    last_reported: Option<u64>,
}

impl Progress {
    /// Shows the written bytes as a percentage of `total`.
    pub(crate) fn show_percent(&mut self, done: u64, total: u64) {
        let percent = done.saturating_mul(100) / total.max(1);
        if self.last_reported != Some(percent) {
            self.last_reported = Some(percent);
            self.show(format!("writing: {percent:3} %"));
        }
    }

    /// Shows the phase and the number of forwarded bytes, at most once per 16 MiB. The total is not
    /// known.
    pub(crate) fn show_forwarded(&mut self, phase: impl Display, done: u64) {
        let mebibytes = done >> 20;
        if self.last_reported.is_none_or(|last| last + 16 <= mebibytes) {
            self.last_reported = Some(mebibytes);
            self.show(format!("forwarding: {phase:12} {mebibytes} MiB"));
        }
    }

    /// Shows the phase, the number of forwarded bytes, and the rate in MiB/s.
    pub(crate) fn show_rate(&mut self, phase: impl Display, done: u64, rate: f64) {
        let mebibytes = done >> 20;
        self.show(format!(
            "forwarding: {phase}, {mebibytes} MiB, {rate:.1} MiB/s"
        ));
    }

    /// Shows the text as the progress line.
    fn show(&mut self, text: String) {
        let line = self.line.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        line.set_message(text);
    }

    /// Removes the progress line from the terminal.
    pub(crate) fn end(&mut self) {
        self.last_reported = None;
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

/// Writes a line of a log to standard error.
pub(crate) fn log_line(text: impl Display) {
    // A failure to write to standard error can be reported nowhere.
    let _ = writeln!(stderr(), "{}", escape_control(&text.to_string(), false));
}

/// Writes the report.
///
/// # Errors
///
/// Returns an error if the report could not be written completely.
pub(crate) fn finish(printer: &mut Printer) -> Result<(), Failure> {
    let target = printer.target();
    printer
        .finish()
        .map_err(|error| output_failure(target, error))
}

/// Returns the error for output that could not be written to `target`.
pub(crate) fn output_failure(target: &str, error: io::Error) -> Failure {
    Failure::new(format!("cannot write to {target}"))
        .with_kind(FailureKind::OUTPUT)
        .with_cause(error)
}

/// Prints the text that answers a command line without a command.
pub(crate) fn print_usage(text: &str) {
    // A failure to write to standard error can be reported nowhere.
    let _ = stderr().write_all(text.as_bytes());
}

/// Prints the error of a command, with its causes and hints.
pub(crate) fn print_failure(failure: &Failure) {
    let mut stderr = stderr();
    let mut line = |style, word, text: &str| {
        // A cause may have several lines: QEMU's standard error, a place in a file.
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

/// Prints a hint after an error that is already printed.
pub(crate) fn print_hint(hint: &str) {
    let _ = writeln!(stderr(), "{}: {hint}", styled(style::HINT, "hint"));
}

/// Prints a report's model as JSON.
pub(crate) fn print_json(printer: &mut Printer, model: &impl Serialize) -> Result<(), Failure> {
    let document = json::document(model);
    printer.json(
        &document.map_err(|error| Failure::new("cannot print the report").with_cause(error))?,
    );
    Ok(())
}
