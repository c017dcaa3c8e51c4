//! `cpreg filter --to DESTINATION`: a stream from standard input to standard output, so that it loads there.
//!
//! One way. RAM passes as it comes; the device state is held back, decided about as `check` does, and changed as `convert` would
//! change it in a file. Standard output holds the stream and nothing else; the report goes to standard error.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::path::Path;

use cpreg::plan::Verdict;
use cpreg_relay::io::{BlockingFd, forward_files, grow_pipe};
use cpreg_stream::ErrorKind;
use cpreg_stream::incremental::DeviceStateBuffer;

use super::{check, convert};
use crate::arguments::{self, Format};
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::{Printer, Progress, style, styled};
use crate::tolerance_file;
use cpreg_report::value::ValueFormat;

pub(crate) fn run(arguments: &arguments::Filter, printer: &mut Printer) -> Result<Status, Failure> {
    printer.report_to_stderr();
    let (input, output) = standard_streams()?;
    // Whatever is wrong with the arguments is said before a long stream has passed.
    if arguments.to == Path::new("-") {
        return Err(
            Failure::new("DESTINATION cannot be read from standard input")
                .with_hint("the VM comes from there: name a file or a recorded host"),
        );
    }
    let found = destination::find(&arguments.to, false, printer)?;
    destination::parse_loader(&arguments.loader)?;
    let tolerances = tolerance_file::read(&arguments.consents.tolerances)?;
    let naming = ValueFormat::new(found.accelerator(), arguments.show_secrets).naming;
    consents::read(&arguments.consents, naming)?;

    let held = forward_stream(&input, &output)?;
    let stream = held
        .open_stream()
        .map_err(|error| forward_failure(error, held.start()))?;
    let source = Input::from_live_stream("-", stream);
    let named = found.resolve_for_stream(&source, &arguments.loader)?;
    let printing = ValueFormat::new(named.destination.accelerator, arguments.show_secrets);
    let answer = check::build_findings(
        &source,
        &named,
        &tolerances,
        &arguments.consents,
        printing,
        printer,
    )?;
    let verdict = answer.verdict();
    let mut passed = held.start();
    if matches!(verdict, Verdict::Loads | Verdict::Converts) {
        let edit = convert::edit(&source, &answer, |stream, planned| {
            held.convert(stream, planned)
        })?;
        held.write(&edit, &mut BlockingFd(&output))
            .map_err(|error| {
                Failure::new("the device state was not written to its end").with_hinted_cause(error)
            })?;
        passed = edit.new_length();
    }
    check::print_report(printer, &answer, arguments.format, false)?;
    if arguments.format == Format::Text {
        conclude(printer, verdict, &held, passed);
    }
    Ok(check::status(verdict))
}

/// Standard input and output as files, without a buffer between.
fn standard_streams() -> Result<(File, File), Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::new("standard input is a terminal")
            .with_hint("the stream comes from there: from a file (< FILE) or from QEMU"));
    }
    if io::stdout().is_terminal() {
        return Err(Failure::new("standard output is a terminal")
            .with_hint("the stream goes there: to a file (> FILE) or to QEMU"));
    }
    let input = io::stdin().as_fd().try_clone_to_owned();
    let input =
        input.map_err(|error| Failure::new("standard input cannot be read").with_cause(error))?;
    let output = io::stdout().as_fd().try_clone_to_owned();
    let output = output
        .map_err(|error| Failure::new("standard output cannot be written").with_cause(error))?;
    grow_pipe(&input);
    grow_pipe(&output);
    Ok((input.into(), output.into()))
}

/// Lets pass what may pass.
fn forward_stream(input: &File, output: &File) -> Result<DeviceStateBuffer, Failure> {
    let mut progress = Progress::default();
    let mut passed = 0;
    let held = forward_files(input, output, &mut |phase, so_far| {
        passed = so_far;
        progress.show_forwarded(phase, so_far);
    });
    progress.end();
    held.map_err(|error| forward_failure(error, passed))
}

/// The stream did not come to its end.
fn forward_failure(error: cpreg_stream::Error, passed: u64) -> Failure {
    let is_of_the_system = matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace);
    let failure = Failure::new(if is_of_the_system {
        "the stream cannot be passed on"
    } else {
        "this stream is not passed on"
    })
    .with_hinted_cause(error);
    if passed == 0 {
        return failure;
    }
    failure.with_hint(format!(
        "{passed} bytes went on, and no device state: whoever got them cannot take them for a \
         complete stream"
    ))
}

fn conclude(printer: &mut Printer, verdict: Verdict, held: &DeviceStateBuffer, passed: u64) {
    match verdict {
        Verdict::Loads | Verdict::Converts => printer.line(format_args!(
            "{}: all of it, {passed} bytes",
            styled(style::GOOD, "passed on")
        )),
        Verdict::Refused | Verdict::Unknown => {
            printer.line(format_args!(
                "{}: the first {passed} bytes, and no device state ({} bytes): the destination \
                 cannot load that",
                styled(style::ERROR, "passed on"),
                held.length()
            ));
            printer.line(
                "  do: if a QEMU is sending, the VM is there, stopped: QMP `cont` lets it go on",
            );
        }
    }
}
