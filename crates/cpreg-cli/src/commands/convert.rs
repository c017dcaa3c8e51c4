//! `cpreg convert SOURCE DESTINATION`: writes the VM so that it loads at the destination.
//!
//! The command decides as `check` does, and writes only the changes that the plan allows. cpreg
//! then reads the converted state again, and compares that state with the plan.

use std::error::Error as _;
use std::io::{self, IsTerminal as _};
use std::path::Path;

use cpreg::vm::Vm;
use cpreg_snapshot::{Change, SavedVm};
use cpreg_stream::Stream;
use cpreg_stream::{
    Edit, ErrorKind, ExistingFile, PrefixCopy, Recovery, WriteOptions, edit_in_place,
    pending_journal, recover, write_new, write_to,
};

use super::check;
use crate::arguments;
use crate::command_line;
use crate::destination::{self, ResolvedDestination, hosts};
use crate::failure::{Failure, Status};
use crate::input::{Content, Input, Origin, VmPath, saved_failure};
use crate::interrupt;
use crate::printer::Printer;
use crate::progress::FileProgress;
use crate::source_host::SourceHost;
use crate::tolerances;
use cpreg_report::check::{CheckFindings, WrittenFile};
use cpreg_report::command::CommandKind;
use cpreg_report::value::ValueFormat;

pub(crate) fn run(
    arguments: &arguments::Convert,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let inspect = &arguments.inspect;
    let target = Target::from_arguments(arguments)?;
    match target {
        Target::StandardOutput => printer.report_to_stderr(),
        Target::File(target) => {
            let source = VmPath::new(&arguments.source);
            check_output(target, &source.file, arguments.force)?;
        }
        Target::InPlace => {}
    }
    // Hold the lock until the file is written.
    let (source, _lock) = if matches!(target, Target::InPlace) {
        recover_interrupted_edit(&VmPath::new(&arguments.source).file, printer)?;
        let (source, lock) = Input::open_to_change(&arguments.source, inspect.verify, printer)?;
        (source, Some(lock))
    } else {
        (
            hosts::open_vm(&arguments.source, inspect.verify, printer)?,
            None,
        )
    };
    if let Some(kind) = source.ramless_kind() {
        let hint = match source.origin {
            Origin::RunningQemu { .. } => {
                "save the VM to a file first: QMP `migrate` to `file:` or `exec:`"
            }
            _ => "convert the stream from which it was made",
        };
        return Err(Failure::new(format!(
            "{} is {kind} and has no RAM",
            source.path.display()
        ))
        .with_hint(hint));
    }
    let copy = start_copy(arguments, target, &source);
    let resolved = destination::resolve(
        &arguments.destination,
        &source,
        &arguments.loader,
        inspect.verify,
        printer,
    )?;
    let decided = Decided {
        source: &source,
        resolved: &resolved,
        target,
        copy,
    };
    decided.write(arguments, printer, |findings, printer| {
        let verbosity = arguments.verbosity.verbosity();
        check::print_report(printer, findings, inspect.format, verbosity)?;
        Ok(check::status(findings.verdict()))
    })
}

/// Converts a saved VM in its file for a destination, and passes the findings to `report`.
///
/// The file changes completely or not at all. An earlier change that was interrupted is completed
/// or undone first.
pub(super) fn convert_in_place<T>(
    arguments: &arguments::Convert,
    resolve: impl FnOnce(&Input, &Printer) -> Result<ResolvedDestination, Failure>,
    printer: &mut Printer,
    report: impl FnOnce(&CheckFindings<'_>, &mut Printer) -> Result<T, Failure>,
) -> Result<T, Failure> {
    recover_interrupted_edit(&arguments.source, printer)?;
    // Hold the lock until the file is written.
    let (source, _lock) = Input::open_to_change(&arguments.source, false, printer)?;
    let resolved = resolve(&source, printer)?;
    let decided = Decided {
        source: &source,
        resolved: &resolved,
        target: Target::InPlace,
        copy: None,
    };
    decided.write(arguments, printer, report)
}

/// Starts to copy RAM into the new file, while cpreg decides.
///
/// Returns `None` if the target is no new file, or if another program wrote the file of SOURCE.
fn start_copy<'a>(
    arguments: &arguments::Convert,
    target: Target<'_>,
    source: &'a Input,
) -> Option<PrefixCopy<'a>> {
    match (target, &source.origin, &source.content) {
        (Target::File(path), Origin::File { file, .. }, Content::Stream(stream)) => {
            let existing = ExistingFile::from_overwrite(arguments.force);
            let prefix_len = stream.fixed_prefix_len();
            Some(PrefixCopy::start(file, prefix_len, path, existing))
        }
        _ => None,
    }
}

/// VM, its destination, and the place to write to.
struct Decided<'a> {
    source: &'a Input,
    resolved: &'a ResolvedDestination,
    target: Target<'a>,
    /// Copy that the write of a new file continues.
    copy: Option<PrefixCopy<'a>>,
}

impl Decided<'_> {
    /// Plans the load, writes the VM if the plan allows it, and passes the findings to `report`.
    fn write<T>(
        self,
        arguments: &arguments::Convert,
        printer: &mut Printer,
        report: impl FnOnce(&CheckFindings<'_>, &mut Printer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Self {
            source,
            resolved,
            target,
            copy,
        } = self;
        let show_secrets = arguments.inspect.show_secrets;
        let value_format = ValueFormat::new(resolved.destination.accelerator, show_secrets);
        let tolerances = tolerances::read(&arguments.consents.tolerances, printer)?;
        let from = SourceHost::open(&arguments.from, printer)?;
        let command = command_line::typed(
            CommandKind::Convert,
            [Some(&arguments.source), Some(&arguments.destination)],
            arguments.from.from.as_ref(),
            arguments.loader.loader.as_ref(),
            &arguments.consents,
        );
        let mut findings = check::build_findings(
            &check::Subject::from_stream(source, from.as_ref())?,
            resolved,
            check::CheckInputs {
                tolerances: &tolerances,
                consents: &arguments.consents,
                value_format,
                command: &command,
            },
            printer,
        )?;
        if findings.verdict().can_load() {
            findings.written = write(arguments, target, source, &findings, copy)?;
        }
        report(&findings, printer)
    }
}

/// Place to which the converted VM is written.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// New file, which appears whole or not at all.
    File(&'a Path),
    /// Standard output, with the report on standard error.
    StandardOutput,
    /// The stream itself.
    InPlace,
}

impl<'a> Target<'a> {
    fn from_arguments(arguments: &'a arguments::Convert) -> Result<Self, Failure> {
        let standard = Path::new("-");
        match arguments.output.as_deref() {
            None if !arguments.in_place => Err(Failure::new(
                "no output: `-o FILE`, `-o -` for standard output, or `--in-place`",
            )
            .with_hint("`cpreg check` only decides, and writes nothing")),
            None if arguments.source == standard => {
                Err(Failure::new("standard input cannot be changed in place")
                    .with_hint("write a new file with -o FILE, or standard output with -o -"))
            }
            None => Ok(Self::InPlace),
            Some(path) if path != standard => Ok(Self::File(path)),
            Some(_) if io::stdout().is_terminal() => {
                Err(Failure::new("standard output is a terminal")
                    .with_hint("redirect the stream to a file (> FILE) or pipe it to a program"))
            }
            Some(_) => Ok(Self::StandardOutput),
        }
    }
}

/// Checks that the output can be written, before cpreg reads a stream of many gigabytes.
pub(super) fn check_output(target: &Path, source: &Path, force: bool) -> Result<(), Failure> {
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::new(format!("cannot write {}", target.display()))
            .with_path(target)
            .with_cause(io::Error::other(format!(
                "the folder {} does not exist",
                folder.display()
            )))
            .with_hint("create the folder, or choose another"));
    }
    let same = target.canonicalize().ok().zip(source.canonicalize().ok());
    if same.is_some_and(|(target, source)| target == source) {
        return Err(
            Failure::new(format!("the output {} is the input", target.display()))
                .with_hint("choose another name, or use --in-place instead of -o"),
        );
    }
    let is_file = target
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() || metadata.is_symlink());
    if is_file && !force {
        return Err(already_exists(target));
    }
    Ok(())
}

pub(super) fn already_exists(target: &Path) -> Failure {
    Failure::new(format!("{} already exists", target.display()))
        .with_path(target)
        .with_hint("choose another name, or replace it with --force")
}

/// Writes the converted VM. Returns `None` if SOURCE needs no change in place.
fn write(
    arguments: &arguments::Convert,
    target: Target<'_>,
    source: &Input,
    findings: &CheckFindings<'_>,
    copy: Option<PrefixCopy<'_>>,
) -> Result<Option<WrittenFile>, Failure> {
    if let (Some(_), Origin::Saved { vm, file, .. }) = (source.registers(), &source.origin) {
        let planned = findings.check.plan.apply(&findings.vm);
        let is_unchanged = planned.is_same_state(&findings.vm);
        if matches!(target, Target::InPlace) && is_unchanged {
            return Ok(None);
        }
        let change = Change::Registers(&planned);
        return write_saved_vm(arguments, target, (source, vm, file), change);
    }
    let bytes = source.bytes()?;
    let edit = edit(source, findings, |stream, planned| {
        cpreg_stream::convert(stream, bytes, planned)
    })?;
    if let Origin::Saved { vm, file, .. } = &source.origin {
        return write_saved_vm(arguments, target, (source, vm, file), Change::Stream(&edit));
    }
    let (path, is_in_place) = match target {
        Target::File(path) => {
            write_new_file(arguments, source, &edit, path, copy)?;
            (path, false)
        }
        Target::StandardOutput => {
            write_standard_output(source, &edit)?;
            (Path::new("-"), false)
        }
        Target::InPlace => {
            reject_compressed(source)?;
            if edit.is_identity() {
                return Ok(None);
            }
            write_in_place(source, &edit)?;
            (&*arguments.source, true)
        }
    };
    Ok(Some(WrittenFile {
        path: path.display().to_string(),
        bytes: edit.new_length(),
        is_in_place,
    }))
}

/// Writes the changed VM into a file of the same kind as SOURCE.
fn write_saved_vm(
    arguments: &arguments::Convert,
    target: Target<'_>,
    (source, vm, file): (&Input, &SavedVm, &Path),
    change: Change<'_>,
) -> Result<Option<WrittenFile>, Failure> {
    let progress_of = |path| FileProgress::new("writing", path, 0);
    let (path, written) = match target {
        Target::File(path) => {
            let progress = progress_of(path);
            let mut on_progress = |done, total| progress.advance_to_of(done, total);
            let written = vm.write_new(change, path, arguments.force, &mut on_progress);
            (path, written)
        }
        Target::StandardOutput => {
            return Err(Failure::new(format!(
                "{} is a saved VM in the file of another program, which cannot be written to \
                 standard output",
                source.path.display()
            ))
            .with_hint("write a file of the same kind with -o FILE"));
        }
        Target::InPlace => {
            reject_compressed(source)?;
            if matches!(change, Change::Stream(edit) if edit.is_identity()) {
                return Ok(None);
            }
            ignore_interrupt()?;
            let progress = progress_of(file);
            let mut on_progress = |done, total| progress.advance_to_of(done, total);
            (file, vm.write_in_place(change, &mut on_progress))
        }
    };
    let bytes = written.map_err(|error| {
        if !arguments.force && matches!(target, Target::File(path) if path.is_file()) {
            return already_exists(path);
        }
        let action = match target {
            Target::InPlace => "change",
            _ => "write",
        };
        saved_failure(action, path, error)
    })?;
    Ok(Some(WrittenFile {
        path: path.display().to_string(),
        bytes,
        is_in_place: matches!(target, Target::InPlace),
    }))
}

/// Returns the edit that makes the changes of the plan.
pub(super) fn edit(
    source: &Input,
    findings: &CheckFindings<'_>,
    convert: impl FnOnce(&Stream, &Vm) -> Result<Edit, cpreg_stream::Error>,
) -> Result<Edit, Failure> {
    let stream = source.stream()?;
    let planned = findings.check.plan.apply(&findings.vm);
    convert(stream, &planned).map_err(|error| conversion_failure(source.path.display(), &error))
}

/// Returns the error for a planned state that could not be written into the stream `name`.
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

pub(super) fn stream_failure(action: &str, path: &Path, error: cpreg_stream::Error) -> Failure {
    Failure::new(format!("cannot {action} {}", path.display()))
        .with_path(path)
        .with_hinted_cause(error)
}

fn write_new_file(
    arguments: &arguments::Convert,
    source: &Input,
    edit: &Edit,
    target: &Path,
    copy: Option<PrefixCopy<'_>>,
) -> Result<(), Failure> {
    let progress = FileProgress::new("writing", target, edit.new_length());
    let mut on_progress = |done, total| progress.advance_to_of(done, total);
    let result = if let Some(copy) = copy {
        copy.finish(edit, Some(&mut on_progress))
    } else {
        let options = WriteOptions {
            overwrite: arguments.force,
            progress: Some(&mut on_progress),
        };
        write_new(source.bytes()?, edit, target, options)
    };
    drop(progress);
    result.map_err(|error| {
        if !arguments.force && target.is_file() {
            return already_exists(target);
        }
        stream_failure("write", target, error)
    })
}

/// Writes standard output, which the reader gets as it is written.
fn write_standard_output(source: &Input, edit: &Edit) -> Result<(), Failure> {
    let progress = FileProgress::new("writing", Path::new("standard output"), edit.new_length());
    let mut on_progress = |done, total| progress.advance_to_of(done, total);
    let mut output = io::stdout().lock();
    let result = write_to(source.bytes()?, edit, &mut output, &mut on_progress);
    drop(progress);
    result.map_err(|error| {
        Failure::new("standard output was not written completely")
            .with_hinted_cause(error)
            .with_hint("the reader has an incomplete stream, which no QEMU loads")
    })
}

/// Rejects a compressed SOURCE, which cannot be changed in place.
fn reject_compressed(source: &Input) -> Result<(), Failure> {
    if let Some(compression) = source.compression() {
        return Err(Failure::new(format!(
            "{} is compressed with {compression} and cannot be changed in place",
            source.path.display()
        ))
        .with_hint("decompress it, or write a new file with -o FILE"));
    }
    Ok(())
}

/// Makes the command ignore Ctrl-C until a change in place is complete.
///
/// Ctrl-C may end the writing of a new file, because an incomplete file has no name. A change in
/// place takes milliseconds.
fn ignore_interrupt() -> Result<(), Failure> {
    interrupt::on_interrupt(|| {})
}

fn write_in_place(source: &Input, edit: &Edit) -> Result<(), Failure> {
    ignore_interrupt()?;
    edit_in_place(source.bytes()?, edit, &source.path)
        .map_err(|error| stream_failure("change", &source.path, error))
}

/// Completes or undoes an earlier edit in place that was interrupted and left a journal.
fn recover_interrupted_edit(path: &Path, printer: &Printer) -> Result<(), Failure> {
    if pending_journal(path).is_none() {
        return Ok(());
    }
    let recovery = recover(path).map_err(|error| stream_failure("recover", path, error))?;
    let result = match recovery {
        Recovery::NotNeeded => return Ok(()),
        Recovery::Completed => "completed",
        _ => "undone",
    };
    printer.note(format_args!(
        "an earlier change of {} was interrupted, and is now {result}; the file is complete",
        path.display()
    ));
    Ok(())
}
