//! Output of a command: colour and width of its report, log lines, error messages.

use std::fmt::Display;
use std::io::{self, Write as _};

use anstream::stderr;
use clap::ColorChoice;
use cpreg_report::json;
use cpreg_report::matrix::model::LeftOutSource;
use cpreg_report::names::FailureKind;
use cpreg_report::printer::{MAX_WIDTH, escape_control};
pub(crate) use cpreg_report::printer::{Printer, style, styled};
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

use crate::failure::Failure;

/// Sets the colour of all output. `auto` honours `NO_COLOR` and `CLICOLOR_FORCE`.
pub(crate) fn set_color(choice: ColorChoice) {
    let choice = match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// Returns the columns of a report: `COLUMNS`, else the width of the terminal that shows the
/// report, else a fixed width.
pub(crate) fn report_width(is_on_stderr: bool) -> usize {
    let variable = std::env::var("COLUMNS").ok();
    let variable = variable.and_then(|text| text.parse::<usize>().ok());
    let terminal = || {
        let size = if is_on_stderr {
            terminal_size_of(io::stderr())
        } else {
            terminal_size_of(io::stdout())
        };
        size.map(|(Width(columns), _)| columns.into())
    };
    let columns = variable.filter(|columns| *columns > 0).or_else(terminal);
    columns.unwrap_or(MAX_WIDTH)
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

/// Prints an input that a command leaves out, with its error in one line.
pub(crate) fn print_left_out(input: &LeftOutSource) {
    let mut text = format!("{}: {}", input.name, input.error.message);
    for cause in &input.error.causes {
        text = format!("{text}: {cause}");
    }
    let word = styled(style::WARNING, "left out");
    // A failure to write to standard error can be reported nowhere.
    let _ = writeln!(stderr(), "{word}: {}", escape_control(&text, false));
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
