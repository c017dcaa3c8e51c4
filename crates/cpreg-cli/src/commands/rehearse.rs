//! `cpreg rehearse SOURCE -- QEMU COMMAND…`: loads the VM, without its RAM, into the real
//! destination QEMU, paused, and reports the result.
//!
//! [`cpreg_qemu::isolate`] changes the command line so that QEMU touches nothing outside its own
//! process. cpreg starts the isolated QEMU, queries its registers and makes a plan as `check` does.
//! QEMU then loads the VM; with `--converted` QEMU loads it as `convert` would write it. cpreg
//! compares the loaded state with the plan.

use std::os::unix::process::ExitStatusExt as _;

use cpreg::destination::{Accelerator, Destination, Loader, ValueOrigin};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{LoadResult, PlanOutcome, Verdict};
use cpreg_explain::qemu;
use cpreg_qemu::isolate::{IsolatedCommand, LocalHost, OptionChange, isolate};
use cpreg_qemu::probe::detect_accelerator;
use cpreg_qemu::rehearse::{LoadOutcome, QueriedState, Rehearsal, RehearsalResult};
use cpreg_report::check::CheckFindings;
use cpreg_report::command::{CommandKind, TypedCommand};
use cpreg_report::rehearse::model::{self, Replacement, UnverifiedPart};
use cpreg_report::rehearse::{self as report, RehearsalFindings, redact_command_line};
use cpreg_report::value::ValueFormat;
use cpreg_stream::Stream;
use cpreg_stream::guest_memory::find_ramless_fixups;
use cpreg_stream::{ReadAt, SectionChange};

use super::check;
use crate::arguments::{self, Format};
use crate::command_line;
use crate::destination::{self, ResolvedDestination, hosts};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::interrupt;
use crate::printer::Printer;
use crate::source_host::SourceHost;
use crate::tolerances;

pub(crate) fn run(
    arguments: &arguments::Rehearse,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let source = hosts::open_vm(&arguments.source, arguments.inspect.verify, printer)?;
    rehearse_input(&source, arguments, printer)
}

/// Rehearses the load of a source that the caller has opened.
pub(crate) fn rehearse_input(
    source: &Input,
    arguments: &arguments::Rehearse,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let inspect = &arguments.inspect;
    let stream = source.stream()?;
    let from = SourceHost::open(&arguments.from, printer)?;
    let subject = check::Subject::from_stream(source, from.as_ref())?;
    let isolated =
        isolate(&arguments.command, &arguments.allow_option, &LocalHost).map_err(|error| {
            Failure::new("cannot rehearse with this command line").with_hinted_cause(error)
        })?;
    if let Some(reason) = &isolated.namespace_error {
        printer.note(format_args!(
            "cannot create a network namespace, so the rehearsal has no tap: {reason}"
        ));
    }
    let options = interrupt::wait_options(arguments.timeout)?;
    let to_failure = |error| rehearsal_failure(error, inspect.show_secrets);
    let rehearsal = Rehearsal::start(&isolated.command, &options).map_err(to_failure)?;
    let resolved = query_destination(&rehearsal, &isolated)?;
    let setup = missing_setup(source, stream, &rehearsal, printer)?;
    let completed = setup.apply_to(source.bytes()?);
    let stream = &Stream::open(&completed).map_err(|error| read_failure(source, error))?;
    let (edit, not_verified) = without_ram(source, stream, &completed, &isolated)?;
    let ramless_stream = edit.apply_to(&completed);
    let value_format = ValueFormat::new(resolved.destination.accelerator, inspect.show_secrets);
    let tolerances = tolerances::read(&arguments.consents.tolerances, printer)?;
    let command = typed_command(source, arguments);
    let prediction = check::build_findings(
        &subject,
        &resolved,
        check::CheckInputs {
            tolerances: &tolerances,
            consents: &arguments.consents,
            value_format,
            command: &command,
        },
        printer,
    )?;

    let mut findings = RehearsalFindings {
        prediction: &prediction,
        converted: arguments.converted,
        lacks_ram: source.ramless_kind().is_some(),
        has_changes: false,
        command: redact_command_line(&isolated.command),
        replacements: isolated.changes.iter().map(to_replacement).collect(),
        not_verified,
        version: rehearsal.version().number(),
        package: rehearsal.version().package.clone(),
        outcome: None,
        verdict: prediction.check.verdict,
        deviations: Vec::new(),
        initial_state_error: rehearsal.initial_state().err().map(ToString::to_string),
        final_state_error: None,
        stderr: Vec::new(),
    };
    // The plan needs the destination's registers to predict anything.
    if findings.initial_state_error.is_some() {
        findings.verdict = Verdict::Unknown;
    }
    // With `--converted`, load only if the plan is ready: otherwise no converted VM exists.
    // No QEMU loads the CPU state of another accelerator.
    if !prediction.is_incomparable()
        && (!arguments.converted || prediction.check.plan.outcome() == PlanOutcome::Ready)
    {
        let result = if arguments.converted {
            let edit = convert_to_plan(&ramless_stream, &prediction)?;
            findings.has_changes = !edit.is_identity();
            rehearsal.load(&edit.apply_to(&ramless_stream), &options)
        } else {
            rehearsal.load(&ramless_stream, &options)
        };
        evaluate(&mut findings, result.map_err(to_failure)?);
    }
    match inspect.format {
        Format::Text => report::text::print(printer, &findings, arguments.verbosity.verbosity()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&model::RehearsalReport::from(&findings));
            printer.json(
                &json.map_err(|error| Failure::new("cannot print the report").with_cause(error))?,
            );
        }
    }
    Ok(check::status(findings.verdict))
}

/// Returns the command that the user typed, or the rehearsal that a relay makes.
fn typed_command(source: &Input, arguments: &arguments::Rehearse) -> TypedCommand {
    let typed = command_line::typed(
        CommandKind::Rehearse,
        [Some(&source.path), None],
        arguments.from.from.as_ref(),
        None,
        &arguments.consents,
    );
    let mut words = vec!["rehearse".to_owned(), typed.source.clone()];
    if arguments.converted {
        words.push("--converted".to_owned());
    }
    for option in &arguments.allow_option {
        words.extend(["--allow-option".to_owned(), option.clone()]);
    }
    words.extend(typed.options.iter().cloned());
    words.extend(["--", "COMMAND"].map(str::to_owned));
    TypedCommand { words, ..typed }
}

/// Redacts the guest's keys in QEMU's standard error, unless `show_secrets` is set.
fn redact_secrets(stderr: String, show_secrets: bool) -> String {
    if show_secrets {
        stderr
    } else {
        qemu::redact_secrets(&stderr)
    }
}

fn rehearsal_failure(error: cpreg_qemu::Error, show_secrets: bool) -> Failure {
    let stderr = redact_secrets(error.stderr().to_owned(), show_secrets);
    Failure::new("cannot rehearse with this QEMU").with_hinted_cause(error.with_stderr(stderr))
}

fn read_failure(source: &Input, error: cpreg_stream::Error) -> Failure {
    Failure::new(format!("cannot read {}", source.path.display())).with_hinted_cause(error)
}

/// Returns the edit that gives a device state the machine type and the RAM blocks of the started
/// QEMU; the identity for a stream that has its own.
fn missing_setup(
    source: &Input,
    stream: &Stream,
    rehearsal: &Rehearsal,
    printer: &Printer,
) -> Result<cpreg_stream::Edit, Failure> {
    let initial_state = rehearsal.initial_state().ok();
    let Some(initial_state) = initial_state.filter(|_| stream.is_device_state_only()) else {
        return Ok(cpreg_stream::Edit::identity(stream.length()));
    };
    printer.note(format_args!(
        "{} holds devices only; the rehearsal takes the machine type and the RAM blocks of this \
         QEMU, and does not compare them",
        source.name()
    ));
    let edit = stream.with_setup_of(&initial_state.stream);
    edit.map_err(|error| read_failure(source, error))
}

/// Returns the stream without RAM and without the sections that no stand-in device loads.
///
/// The second value lists the parts of the VM that the rehearsal therefore does not verify.
fn without_ram(
    source: &Input,
    stream: &Stream,
    bytes: &dyn ReadAt,
    isolated: &IsolatedCommand,
) -> Result<(cpreg_stream::Edit, Vec<UnverifiedPart>), Failure> {
    let failure = |error| read_failure(source, error);
    let memory = find_ramless_fixups(stream, bytes).map_err(failure)?;
    let mut changes = memory.changes;
    let mut not_verified = Vec::new();
    for unverified in &isolated.unverified {
        let sections = stream.sections().iter().enumerate();
        let sections =
            sections.filter(|(_, section)| unverified.should_skip_section(&section.name));
        let (indexes, names): (Vec<_>, Vec<_>) = sections
            .map(|(index, section)| (index, section.name.clone()))
            .unzip();
        changes.extend(
            indexes
                .into_iter()
                .map(|index| (index, SectionChange::Omit)),
        );
        not_verified.push(UnverifiedPart {
            part: unverified.description.clone(),
            reason: unverified.reason.to_owned(),
            loaded: false,
            sections: names,
        });
    }
    not_verified.extend(
        memory
            .unreliable_sections
            .into_iter()
            .map(|unreliable| UnverifiedPart {
                part: unreliable.section.clone(),
                reason: unreliable.reason.to_owned(),
                loaded: true,
                sections: vec![unreliable.section],
            }),
    );
    let is_skipped = |block: &str| {
        isolated
            .unverified
            .iter()
            .any(|unverified| unverified.should_skip_ram_block(block))
    };
    let edit = stream
        .without_ram_and_blocks(&changes, &is_skipped)
        .map_err(failure)?;
    Ok((edit, not_verified))
}

/// Returns the started QEMU as a destination, with its registers at reset and its shape.
///
/// The destination has no vCPUs and no shape if the state of QEMU could not be queried.
fn query_destination(
    rehearsal: &Rehearsal,
    isolated: &IsolatedCommand,
) -> Result<ResolvedDestination, Failure> {
    let version = rehearsal.version();
    let number = version.number();
    let loader = u16::try_from(version.major)
        .ok()
        .zip(u16::try_from(version.minor).ok())
        .map(|(major, minor)| Loader::qemu(major, minor));
    let name = |suffix: &str| format!("QEMU {number}{suffix}");
    let Ok(initial) = rehearsal.initial_state() else {
        return Ok(ResolvedDestination {
            destination: Destination {
                name: name(""),
                accelerator: None,
                loader,
                value_origin: ValueOrigin::Reset,
                vcpus: Vec::new(),
                kernel_version: None,
                hardware: HardwareFacts::UNKNOWN,
                shape: None,
            },
            provenance: "it was started, and its state could not be queried".into(),
            origin: Box::default(),
            assumption: None,
            unrecorded_kernel: None,
            alternatives: Vec::new(),
        });
    };
    let machine_suffix = format!(", {}", initial.state.machine);
    let mut destination = destination::from_stream(name(&machine_suffix), &initial.stream)?;
    destination.loader = loader;
    // cpreg queried QEMU before the load, so the values are reset values.
    destination.value_origin = ValueOrigin::Reset;
    let accelerator = detect_accelerator(&isolated.command, initial.state.kvm);
    destination.accelerator = Accelerator::from_name(&accelerator).or(destination.accelerator);
    Ok(ResolvedDestination {
        destination,
        provenance: "it was started and queried".into(),
        origin: Box::default(),
        assumption: None,
        unrecorded_kernel: None,
        alternatives: Vec::new(),
    })
}

/// Returns the edit that converts the VM as planned.
fn convert_to_plan(
    ramless_stream: &dyn ReadAt,
    findings: &CheckFindings<'_>,
) -> Result<cpreg_stream::Edit, Failure> {
    let failure = |error| Failure::new("cannot convert the stream").with_hinted_cause(error);
    let stream = Stream::open(ramless_stream).map_err(failure)?;
    let planned = findings.check.plan.apply(&findings.vm);
    cpreg_stream::convert(&stream, ramless_stream, &planned).map_err(failure)
}

/// Converts a changed option of the command line to its form in the report.
fn to_replacement(change: &OptionChange) -> Replacement {
    Replacement {
        before: redact_command_line(&change.before),
        after: redact_command_line(&change.after),
        reason: change.reason.to_owned(),
    }
}

/// Adds the result of the load and the verdict to the findings.
fn evaluate(findings: &mut RehearsalFindings<'_>, result: RehearsalResult) {
    let check = &findings.prediction.check;
    findings.outcome = Some(match result.outcome {
        LoadOutcome::Loaded => report::LoadOutcome::Loaded,
        LoadOutcome::Failed(status) => report::LoadOutcome::Failed {
            signal: status.signal().map(|_| status.to_string()),
        },
    });
    let show_secrets = findings.prediction.value_format.show_secrets;
    let stderr = redact_secrets(result.stderr, show_secrets);
    findings.stderr = stderr.lines().map(str::to_owned).collect();
    let mut loaded_vm = None;
    match result.final_state {
        Some(Ok(QueriedState { stream, .. })) => match stream.vm() {
            Ok(vm) => loaded_vm = Some(vm),
            Err(error) => {
                findings.final_state_error = Some(cpreg_qemu::Error::from(error).to_string());
            }
        },
        Some(Err(error)) => findings.final_state_error = Some(error.to_string()),
        None => {}
    }
    let load_result = match result.outcome {
        LoadOutcome::Loaded => LoadResult::Loaded(loaded_vm.as_ref()),
        LoadOutcome::Failed(_) => LoadResult::Failed {
            is_reliable: !findings.has_unverifiable_failure(),
        },
    };
    findings.verdict = match check.verdict_after(load_result) {
        Verdict::Loads if findings.has_changes => Verdict::Converts,
        verdict => verdict,
    };
    if let Some(vm) = &loaded_vm {
        findings.deviations = check.plan.deviations(vm);
    }
}
