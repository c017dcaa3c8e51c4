//! `cpreg filter --to DEST`: a stream from standard input to standard output, so that it loads there.
//!
//! One way. RAM passes as it comes; the device state is held back, decided about as `check` does, and changed as `convert` would
//! change it in a file. Standard output holds the stream and nothing else; the report goes to standard error.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::path::Path;

use cpreg::plan::Verdict;
use cpreg_relay::io::{Patient, pump_files, widen};
use cpreg_stream::ErrorKind;
use cpreg_stream::incremental::Held;

use super::{check, convert};
use crate::arguments::{self, Format};
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::{Printer, Progress, style, styled};
use crate::tolerance_file;
use cpreg_report::value::Printing;

pub(crate) fn run(arguments: &arguments::Filter, printer: &mut Printer) -> Result<Status, Failure> {
    printer.answer_beside();
    let (input, output) = standard_streams()?;
    // Whatever is wrong with the arguments is said before a long stream has passed.
    if arguments.to == Path::new("-") {
        return Err(Failure::new("DEST cannot be read from standard input")
            .hint("the VM comes from there: name a file or a recorded host"));
    }
    let found = destination::find(&arguments.to, false, printer)?;
    destination::loader(&arguments.going)?;
    let tolerances = tolerance_file::read(&arguments.consenting.tolerances)?;
    let naming = Printing::new(found.accelerator(), arguments.secrets).naming;
    consents::read(&arguments.consenting, naming)?;

    let held = carry(&input, &output)?;
    let stream = held
        .stream()
        .map_err(|error| stopped(error, held.start()))?;
    let source = Input::of_what_passed("-", stream);
    let named = found.named_for(&source, &arguments.going)?;
    let printing = Printing::new(named.destination.accelerator, arguments.secrets);
    let answer = check::answer(
        &source,
        &named,
        &tolerances,
        &arguments.consenting,
        printing,
        printer,
    )?;
    let verdict = answer.verdict();
    let mut passed = held.start();
    if matches!(verdict, Verdict::Loads | Verdict::Converts) {
        let edit = convert::edit(&source, &answer, |stream, planned| {
            held.convert(stream, planned)
        })?;
        held.write(&edit, &mut Patient(&output)).map_err(|error| {
            Failure::new("the device state was not written to its end").because_of(error)
        })?;
        passed = edit.new_length();
    }
    check::report(printer, &answer, arguments.format, false)?;
    if arguments.format == Format::Text {
        conclude(printer, verdict, &held, passed);
    }
    Ok(check::status(verdict))
}

/// Standard input and output as files, without a buffer between.
fn standard_streams() -> Result<(File, File), Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::new("standard input is a terminal")
            .hint("the stream comes from there: from a file (< FILE) or from QEMU"));
    }
    if io::stdout().is_terminal() {
        return Err(Failure::new("standard output is a terminal")
            .hint("the stream goes there: to a file (> FILE) or to QEMU"));
    }
    let input = io::stdin().as_fd().try_clone_to_owned();
    let input =
        input.map_err(|error| Failure::new("standard input cannot be read").because(error))?;
    let output = io::stdout().as_fd().try_clone_to_owned();
    let output =
        output.map_err(|error| Failure::new("standard output cannot be written").because(error))?;
    widen(&input);
    widen(&output);
    Ok((input.into(), output.into()))
}

/// Lets pass what may pass.
fn carry(input: &File, output: &File) -> Result<Held, Failure> {
    let mut progress = Progress::default();
    let mut passed = 0;
    let held = pump_files(input, output, &mut |phase, so_far| {
        passed = so_far;
        progress.tell_passed(phase, so_far);
    });
    progress.end();
    held.map_err(|error| stopped(error, passed))
}

/// The stream did not come to its end.
fn stopped(error: cpreg_stream::Error, passed: u64) -> Failure {
    let is_of_the_system = matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace);
    let failure = Failure::new(if is_of_the_system {
        "the stream cannot be passed on"
    } else {
        "this stream is not passed on"
    })
    .because_of(error);
    if passed == 0 {
        return failure;
    }
    failure.hint(format!(
        "{passed} bytes went on, and no device state: whoever got them cannot take them for a \
         complete stream"
    ))
}

fn conclude(printer: &mut Printer, verdict: Verdict, held: &Held, passed: u64) {
    match verdict {
        Verdict::Loads | Verdict::Converts => printer.line(format_args!(
            "{}: all of it, {passed} bytes",
            styled(style::GOOD, "passed on")
        )),
        Verdict::Refused | Verdict::Unknown => {
            printer.line(format_args!(
                "{}: the first {passed} bytes, and no device state ({} bytes): the destination \
                 cannot load that",
                styled(style::BAD, "passed on"),
                held.length()
            ));
            printer.line(
                "  do: if a QEMU is sending, the VM is there, stopped: QMP `cont` lets it go on",
            );
        }
    }
}
