//! `cpreg convert SOURCE --to DESTINATION`: write the VM so that it loads there.
//!
//! Decides as `check` does, and writes only what the plan allows. What was written is read again and compared with the plan.

use std::error::Error as _;
use std::io;
use std::path::Path;

use cpreg::plan::Verdict;
use cpreg::vm::Vm;
use cpreg_stream::Stream;
use cpreg_stream::{
    Edit, ErrorKind, Recovery, WriteOptions, edit_in_place, pending_journal, recover, write_new,
};

use super::check;
use crate::arguments::{self, Format};
use crate::destination;
use crate::failure::{Failure, Status};
use crate::input::{Input, Origin};
use crate::printer::{Printer, Progress, style, styled};
use crate::tolerance_file;
use cpreg_report::check::CheckFindings;
use cpreg_report::value::ValueFormat;

pub(crate) fn run(
    arguments: &arguments::Convert,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let reading = &arguments.inspect;
    reject_standard_streams(arguments)?;
    if let Some(target) = &arguments.output {
        check_output(target, &arguments.source, arguments.force)?;
    }
    // The lock is held until the file is written.
    let (source, _lock) = if arguments.in_place {
        recover_interrupted_edit(&arguments.source, printer)?;
        let (source, lock) = Input::open_to_change(&arguments.source, reading.verify, printer)?;
        (source, Some(lock))
    } else {
        (
            Input::open(&arguments.source, reading.verify, printer)?,
            None,
        )
    };
    if let Some(what) = source.ramless_kind() {
        let hint = match source.origin {
            Origin::RunningQemu { .. } => {
                "save the VM to a file first: QMP `migrate` to `file:` or `exec:`"
            }
            _ => "convert the stream that it was made from",
        };
        return Err(Failure::new(format!(
            "{} is {what} and has no RAM",
            source.path.display()
        ))
        .with_hint(hint));
    }
    let named = destination::resolve(
        &arguments.to,
        &source,
        &arguments.loader,
        reading.verify,
        printer,
    )?;
    let printing = ValueFormat::new(named.destination.accelerator, reading.show_secrets);
    let tolerances = tolerance_file::read(&arguments.consents.tolerances)?;
    let answer = check::build_findings(
        &source,
        &named,
        &tolerances,
        &arguments.consents,
        printing,
        printer,
    )?;
    let verdict = answer.verdict();
    if matches!(verdict, Verdict::Loads | Verdict::Converts) {
        write(arguments, &source, &answer)?;
    }
    check::print_report(printer, &answer, reading.format, false)?;
    if reading.format == Format::Text {
        conclude(arguments, printer, verdict);
    }
    Ok(check::status(verdict))
}

/// `-` is standard input where something is read; nothing is written there, for it could not appear whole or not at all.
fn reject_standard_streams(arguments: &arguments::Convert) -> Result<(), Failure> {
    let standard = Path::new("-");
    if arguments.in_place && arguments.source == standard {
        return Err(Failure::new("standard input cannot be changed in place")
            .with_hint("write a new file with -o FILE"));
    }
    if arguments.output.as_deref() == Some(standard) {
        return Err(Failure::new("a stream is not written to standard output")
            .with_cause(io::Error::other("it would not appear whole or not at all"))
            .with_hint("give the name of a new file; one that is called `-` is ./-"));
    }
    Ok(())
}

/// What can be said of the output before a stream of many gigabytes is read.
pub(super) fn check_output(target: &Path, source: &Path, force: bool) -> Result<(), Failure> {
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::new(format!("cannot write {}", target.display()))
            .with_cause(io::Error::other(format!(
                "there is no folder {}",
                folder.display()
            )))
            .with_hint("make it, or give another place"));
    }
    let same = target.canonicalize().ok().zip(source.canonicalize().ok());
    if same.is_some_and(|(target, source)| target == source) {
        return Err(
            Failure::new(format!("{} is the input itself", target.display()))
                .with_hint("give another name, or change it with --in-place instead of -o"),
        );
    }
    let is_file = target
        .symlink_metadata()
        .is_ok_and(|it| it.is_file() || it.is_symlink());
    if is_file && !force {
        return Err(already_exists(target));
    }
    Ok(())
}

pub(super) fn already_exists(target: &Path) -> Failure {
    Failure::new(format!("{} is there already", target.display()))
        .with_hint("give another name, or replace it with --force")
}

fn conclude(arguments: &arguments::Convert, printer: &mut Printer, verdict: Verdict) {
    let target = arguments.output.as_deref().unwrap_or(&arguments.source);
    match verdict {
        Verdict::Loads | Verdict::Converts => printer.line(format_args!(
            "{}: {}",
            styled(style::GOOD, "written"),
            target.display()
        )),
        Verdict::Refused | Verdict::Unknown => printer.line(format_args!(
            "{}: nothing; {} is as it was",
            styled(style::ERROR, "written"),
            arguments.source.display()
        )),
    }
}

fn write(
    arguments: &arguments::Convert,
    source: &Input,
    answer: &CheckFindings<'_>,
) -> Result<(), Failure> {
    let file = source.file()?;
    let edit = edit(source, answer, |stream, planned| {
        cpreg_stream::convert(stream, file, planned)
    })?;
    match &arguments.output {
        Some(target) => write_new_file(arguments, source, &edit, target),
        None => in_place(source, &edit),
    }
}

/// The edit that the plan asks for, which `convert` makes, and compares with the plan.
pub(super) fn edit(
    source: &Input,
    answer: &CheckFindings<'_>,
    convert: impl FnOnce(&Stream, &Vm) -> Result<Edit, cpreg_stream::Error>,
) -> Result<Edit, Failure> {
    let stream = source.stream()?;
    let planned = answer.check.plan.apply(&answer.vm);
    convert(stream, &planned).map_err(|error| conversion_failure(source.path.display(), &error))
}

/// The planned state could not be put into the stream that is called `name`.
pub(super) fn conversion_failure(
    name: impl std::fmt::Display,
    error: &cpreg_stream::Error,
) -> Failure {
    if error.kind() != ErrorKind::NotAsPlanned {
        return Failure::new(format!("cannot use {name}")).with_inline_cause(error);
    }
    let failure = Failure::new(error.message());
    let cause = error.source();
    let failure = match cause.and_then(|cause| cause.downcast_ref::<cpreg_stream::Error>()) {
        Some(cause) => failure.with_inline_cause(cause),
        None => failure,
    };
    let hint = error.hint().map(str::to_owned);
    hint.into_iter().fold(failure, Failure::with_hint)
}

pub(super) fn stream_failure(what: &str, path: &Path, error: cpreg_stream::Error) -> Failure {
    Failure::new(format!("cannot {what} {}", path.display())).with_hinted_cause(error)
}

fn write_new_file(
    arguments: &arguments::Convert,
    source: &Input,
    edit: &Edit,
    target: &Path,
) -> Result<(), Failure> {
    let mut progress = Progress::default();
    let mut tell = |done, all| progress.show_percent(done, all);
    let options = WriteOptions {
        overwrite: arguments.force,
        progress: Some(&mut tell),
    };
    let written = write_new(source.file()?, edit, target, options);
    progress.end();
    written.map_err(|error| {
        if !arguments.force && target.is_file() {
            return already_exists(target);
        }
        stream_failure("write", target, error)
    })
}

fn in_place(source: &Input, edit: &Edit) -> Result<(), Failure> {
    if let Some(packed) = source.compression() {
        return Err(Failure::new(format!(
            "{} is packed with {packed} and cannot be changed in place",
            source.path.display()
        ))
        .with_hint("unpack it, or write a new file with -o FILE"));
    }
    // A new file has no name until it is whole, so Ctrl-C may end that; a change in place, which takes milliseconds, is
    // rather brought to its end.
    ctrlc::set_handler(|| {})
        .map_err(|error| Failure::new("cannot prepare for Ctrl-C").with_cause(error))?;
    edit_in_place(source.file()?, edit, &source.path)
        .map_err(|error| stream_failure("change", &source.path, error))
}

/// An edit in place that was killed left a journal: it is brought to its end before anything else.
fn recover_interrupted_edit(path: &Path, printer: &Printer) -> Result<(), Failure> {
    if pending_journal(path).is_none() {
        return Ok(());
    }
    let recovery = recover(path).map_err(|error| stream_failure("bring back", path, error))?;
    let which = match recovery {
        Recovery::NotNeeded => return Ok(()),
        Recovery::Completed => "as it was to become",
        _ => "as it was before",
    };
    printer.note(format_args!(
        "an earlier change of {} was interrupted; the file is whole again, {which}",
        path.display()
    ));
    Ok(())
}
