//! `cpreg filter DESTINATION`: converts a stream from standard input to standard output.
//!
//! The stream passes in one direction only. The command forwards RAM as it arrives, and buffers the
//! device state. It decides on the device state as `check` does, and converts it as `convert` does.
//! If the machine or the RAM of the VM already blocks the load, the command forwards nothing. Only
//! the stream goes to standard output; the report goes to standard error.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;
use std::path::Path;

use cpreg::plan::Verdict;
use cpreg_relay::io::{BlockingFd, forward_files, grow_pipe};
use cpreg_stream::ErrorKind;
use cpreg_stream::incremental::{DeviceStateBuffer, SetupBuffer};

use super::{check, convert};
use crate::arguments::{self, Format};
use crate::command_line;
use crate::consents;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::{Printer, style, styled};
use crate::progress::Progress;
use crate::source_host::SourceHost;
use crate::tolerances;
use cpreg_report::check::CheckFindings;
use cpreg_report::command::{CommandKind, TypedCommand};
use cpreg_report::value::ValueFormat;

/// Name of the VM in reports.
const SOURCE_NAME: &str = "-";

fn typed_command(arguments: &arguments::Filter) -> TypedCommand {
    command_line::typed(
        CommandKind::Filter,
        [None, Some(&arguments.destination)],
        arguments.from.from.as_ref(),
        arguments.loader.loader.as_ref(),
        &arguments.consents,
    )
}

pub(crate) fn run(arguments: &arguments::Filter, printer: &mut Printer) -> Result<Status, Failure> {
    printer.report_to_stderr();
    let (input, output) = standard_streams()?;
    // Report errors in the arguments before a long stream is forwarded.
    if arguments.destination == Path::new("-") {
        return Err(
            Failure::new("DESTINATION cannot be read from standard input")
                .with_hint("standard input is the VM: name a file or a recorded host"),
        );
    }
    let spec = destination::find(&arguments.destination, false, printer)?;
    let command = typed_command(arguments);
    spec.require_possible_verdict(&command)?;
    destination::parse_loader(&arguments.loader)?;
    let tolerances = tolerances::read(&arguments.consents.tolerances, printer)?;
    let naming = ValueFormat::new(spec.accelerator(), arguments.show_secrets).naming;
    consents::read_for_any_vm(&arguments.consents, naming)?;
    let from = SourceHost::open(&arguments.from, printer)?;
    let fixed = spec.resolve_fixed(&arguments.loader)?;

    let inputs = |value_format| check::CheckInputs {
        tolerances: &tolerances,
        consents: &arguments.consents,
        value_format,
        command: &command,
    };
    let beginning = SetupBuffer::read(&mut BlockingFd(&input));
    let beginning = beginning.map_err(|error| forward_failure(error, 0))?;
    if let (Some(fixed), Some(setup)) = (&fixed, beginning.setup()) {
        let format = ValueFormat::new(fixed.destination.accelerator, arguments.show_secrets);
        let findings = check::build_setup_findings(SOURCE_NAME, setup, fixed, inputs(format))?;
        if findings.is_blocked_by_shape() {
            return report_refused_setup(arguments, &findings, printer);
        }
    }
    let device_state = forward_stream(beginning, &input, &output)?;
    let stream = device_state
        .open_stream()
        .map_err(|error| forward_failure(error, device_state.start()))?;
    let source = Input::from_live_stream(SOURCE_NAME, stream);
    let resolved = match fixed {
        Some(fixed) => fixed,
        None => spec.resolve_for_stream(&source, &arguments.loader)?,
    };
    let value_format = ValueFormat::new(resolved.destination.accelerator, arguments.show_secrets);
    let findings = check::build_findings(
        &check::Subject::from_stream(&source, from.as_ref())?,
        &resolved,
        inputs(value_format),
        printer,
    )?;
    let verdict = findings.verdict();
    let mut forwarded = device_state.start();
    if verdict.can_load() {
        let edit = convert::edit(&source, &findings, |stream, planned| {
            device_state.convert(stream, planned)
        })?;
        device_state
            .write(&edit, &mut BlockingFd(&output))
            .map_err(|error| {
                Failure::new("the device state was not written completely").with_hinted_cause(error)
            })?;
        forwarded = edit.new_length();
    }
    let verbosity = arguments.verbosity.verbosity();
    check::print_report(printer, &findings, arguments.format, verbosity)?;
    if arguments.format == Format::Text {
        print_conclusion(printer, verdict, &device_state, forwarded);
    }
    Ok(check::status(verdict))
}

/// Returns standard input and output as unbuffered files.
fn standard_streams() -> Result<(File, File), Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::new("standard input is a terminal")
            .with_hint("give the stream on standard input, from a file (< FILE) or from QEMU"));
    }
    if io::stdout().is_terminal() {
        return Err(Failure::new("standard output is a terminal")
            .with_hint("the stream is written there: redirect it to a file (> FILE) or to QEMU"));
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

/// Forwards the part of the stream that precedes the device state, and returns the device state.
fn forward_stream(
    beginning: SetupBuffer,
    input: &File,
    output: &File,
) -> Result<DeviceStateBuffer, Failure> {
    let mut progress = Progress::default();
    let mut forwarded = 0;
    let device_state = forward_files(beginning, input, output, &mut |phase, bytes| {
        forwarded = bytes;
        progress.show_forwarded(phase, bytes);
    });
    progress.end();
    device_state.map_err(|error| forward_failure(error, forwarded))
}

/// Returns the error for a stream that broke off after `forwarded` bytes.
fn forward_failure(error: cpreg_stream::Error, forwarded: u64) -> Failure {
    let is_system_error = matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace);
    let failure = Failure::new(if is_system_error {
        "cannot forward the stream"
    } else {
        "cannot filter this stream"
    })
    .with_hinted_cause(error);
    if forwarded == 0 {
        return failure;
    }
    failure.with_hint(format!(
        "{forwarded} bytes were forwarded, and no device state: no QEMU loads them as a complete \
         stream"
    ))
}

/// Reports a VM whose machine or RAM blocks the load. Nothing was forwarded.
fn report_refused_setup(
    arguments: &arguments::Filter,
    findings: &CheckFindings<'_>,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let verbosity = arguments.verbosity.verbosity();
    check::print_report(printer, findings, arguments.format, verbosity)?;
    if arguments.format == Format::Text {
        printer.paragraph(
            &format!("{}: ", styled(style::ERROR, "forwarded")),
            "nothing; the rest of the stream was not read",
        );
        printer.paragraph(
            "  note: ",
            "if the source is a QEMU, its migration fails, and its guest continues",
        );
    }
    Ok(check::status(findings.verdict()))
}

fn print_conclusion(
    printer: &mut Printer,
    verdict: Verdict,
    device_state: &DeviceStateBuffer,
    forwarded: u64,
) {
    match verdict {
        Verdict::Loads | Verdict::Converts => printer.line(format_args!(
            "{}: the whole stream, {forwarded} bytes",
            styled(style::GOOD, "forwarded")
        )),
        Verdict::Refused | Verdict::Unknown => {
            printer.paragraph(
                &format!("{}: ", styled(style::ERROR, "forwarded")),
                format_args!(
                    "the first {forwarded} bytes, without the device state ({} bytes); the \
                     destination cannot load them",
                    device_state.length()
                ),
            );
            printer.paragraph(
                "  fix: ",
                "if the source is a QEMU, its VM is stopped: resume it with QMP `cont`",
            );
        }
    }
}
