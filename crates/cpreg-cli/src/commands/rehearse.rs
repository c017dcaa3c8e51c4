//! `cpreg rehearse SOURCE -- QEMU COMMAND…`: load it, without its RAM, into the real destination QEMU, paused, and say what happened.
//!
//! The command line becomes one that touches nothing ([`cpreg_qemu::isolate`]); that QEMU says what it has, cpreg plans
//! for it as `check` does, the VM or what `convert` would make of it is loaded, and what is there then is compared with the plan.

use std::os::unix::process::ExitStatusExt as _;

use cpreg::destination::{Accelerator, Destination, Loader, ValueOrigin};
use cpreg::plan::{LoadResult, PlanOutcome as Planned, Verdict};
use cpreg_explain::qemu;
use cpreg_qemu::isolate::{IsolatedCommand, LocalHost, OptionChange, isolate};
use cpreg_qemu::probe::detect_accelerator;
use cpreg_qemu::rehearse::{LoadOutcome, QueriedState, Rehearsal, RehearsalResult};
use cpreg_report::check::CheckFindings;
use cpreg_report::rehearse::model::{self, Replacement, UnverifiedPart};
use cpreg_report::rehearse::{self as report, RehearsalFindings, redact_command_line};
use cpreg_report::value::ValueFormat;
use cpreg_stream::Stream;
use cpreg_stream::guest_memory::find_ramless_fixups;
use cpreg_stream::{ReadAt, SectionChange};

use super::check;
use crate::arguments::{self, Format};
use crate::destination::{self, ResolvedDestination};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::interrupt;
use crate::printer::Printer;
use crate::tolerance_file;

pub(crate) fn run(
    arguments: &arguments::Rehearse,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let source = Input::open(&arguments.source, arguments.inspect.verify, printer)?;
    rehearse_input(&source, arguments, printer)
}

/// The same for a source that has been opened.
pub(crate) fn rehearse_input(
    source: &Input,
    arguments: &arguments::Rehearse,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let reading = &arguments.inspect;
    let stream = source.stream()?;
    let isolated =
        isolate(&arguments.command, &arguments.allow_option, &LocalHost).map_err(|error| {
            Failure::new("cannot rehearse with this command line").with_hinted_cause(error)
        })?;
    if let Some(reason) = &isolated.namespace_error {
        printer.note(format_args!(
            "no network namespace, and so no tap: {reason}"
        ));
    }
    let (edit, not_judged) = without_ram(source, stream, &isolated)?;
    let skeleton = edit.apply_to(source.file()?);

    let patience = interrupt::wait_options(arguments.timeout)?;
    let not_rehearsed = |error| rehearsal_failure(error, reading.show_secrets);
    let rehearsal = Rehearsal::start(&isolated.command, &patience).map_err(not_rehearsed)?;
    let named = query_destination(&rehearsal, &isolated)?;
    let printing = ValueFormat::new(named.destination.accelerator, reading.show_secrets);
    let tolerances = tolerance_file::read(&arguments.consents.tolerances)?;
    let answer = check::build_findings(
        source,
        &named,
        &tolerances,
        &arguments.consents,
        printing,
        printer,
    )?;

    let mut tried = RehearsalFindings {
        prediction: &answer,
        converted: arguments.converted,
        lacks_ram: source.ramless_kind().is_some(),
        has_changes: false,
        command: redact_command_line(&isolated.command),
        replacements: isolated.changes.iter().map(to_replacement).collect(),
        not_verified: not_judged,
        version: rehearsal.version().number(),
        package: rehearsal.version().package.clone(),
        outcome: None,
        verdict: answer.check.verdict,
        deviations: Vec::new(),
        initial_state_error: rehearsal.initial_state().err().map(ToString::to_string),
        final_state_error: None,
        stderr: Vec::new(),
    };
    // A plan for a QEMU of which nothing is known says nothing.
    if tried.initial_state_error.is_some() {
        tried.verdict = Verdict::Unknown;
    }
    // What the plan does not make loadable is not tried as if it were.
    if !arguments.converted || answer.check.plan.outcome() == Planned::Ready {
        let rehearsed = if arguments.converted {
            let repaired = convert_to_plan(&skeleton, &answer)?;
            tried.has_changes = !repaired.is_identity();
            rehearsal.load(&repaired.apply_to(&skeleton), &patience)
        } else {
            rehearsal.load(&skeleton, &patience)
        };
        evaluate(&mut tried, rehearsed.map_err(not_rehearsed)?);
    }
    match reading.format {
        Format::Text => report::text::print(printer, &tried, arguments.all),
        Format::Json => {
            let json = serde_json::to_string_pretty(&model::RehearsalReport::from(&tried));
            printer.json(&json.map_err(|error| Failure::new("cannot report").with_cause(error))?);
        }
    }
    Ok(check::status(tried.verdict))
}

/// QEMU's words; without the guest's keys, unless these were asked for.
fn redact_secrets(said: String, secrets: bool) -> String {
    if secrets {
        said
    } else {
        qemu::redact_secrets(&said)
    }
}

fn rehearsal_failure(error: cpreg_qemu::Error, secrets: bool) -> Failure {
    let said = redact_secrets(error.stderr().to_owned(), secrets);
    Failure::new("cannot rehearse with this QEMU").with_hinted_cause(error.with_stderr(said))
}

/// The stream without its RAM and without what no stand-in takes, and what is not judged therefore.
fn without_ram(
    source: &Input,
    stream: &Stream,
    isolated: &IsolatedCommand,
) -> Result<(cpreg_stream::Edit, Vec<UnverifiedPart>), Failure> {
    let failure = |error| {
        Failure::new(format!("cannot read {}", source.path.display())).with_hinted_cause(error)
    };
    let memory = find_ramless_fixups(stream, source.file()?).map_err(failure)?;
    let mut changes = memory.changes;
    let mut not_judged = Vec::new();
    for unjudged in &isolated.unverified {
        let sections = stream.sections().iter().enumerate();
        let sections = sections.filter(|(_, section)| unjudged.should_skip_section(&section.name));
        let (indexes, names): (Vec<_>, Vec<_>) = sections
            .map(|(index, section)| (index, section.name.clone()))
            .unzip();
        changes.extend(
            indexes
                .into_iter()
                .map(|index| (index, SectionChange::Omit)),
        );
        not_judged.push(UnverifiedPart {
            part: unjudged.description.clone(),
            reason: unjudged.reason.to_owned(),
            loaded: false,
            sections: names,
        });
    }
    not_judged.extend(
        memory
            .unreliable_sections
            .into_iter()
            .map(|doubt| UnverifiedPart {
                part: doubt.section.clone(),
                reason: doubt.reason.to_owned(),
                loaded: true,
                sections: vec![doubt.section],
            }),
    );
    let left_out = |block: &str| {
        isolated
            .unverified
            .iter()
            .any(|it| it.should_skip_ram_block(block))
    };
    let edit = stream
        .without_ram_and_blocks(&changes, &left_out)
        .map_err(failure)?;
    Ok((edit, not_judged))
}

/// What that QEMU has: its registers at reset, its outline. Nothing is known of one that could not say.
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
    let name = |machine: &str| format!("QEMU {number}{machine}");
    let Ok(asked) = rehearsal.initial_state() else {
        return Ok(ResolvedDestination {
            destination: Destination {
                name: name(""),
                accelerator: None,
                loader,
                value_origin: ValueOrigin::Reset,
                vcpus: Vec::new(),
                shape: None,
            },
            provenance: "it was started, and could not say what it has".into(),
            origin: Box::default(),
        });
    };
    let machine = format!(", {}", asked.state.machine);
    let mut destination = destination::from_stream(name(&machine), &asked.stream)?;
    destination.loader = loader;
    // It was asked before anything arrived; what it says of that is not what it does.
    destination.value_origin = ValueOrigin::Reset;
    let accelerator = detect_accelerator(&isolated.command, asked.state.kvm);
    destination.accelerator = Accelerator::from_name(&accelerator).or(destination.accelerator);
    Ok(ResolvedDestination {
        destination,
        provenance: "it was started and asked".into(),
        origin: Box::default(),
    })
}

/// What turns the VM into the planned one.
fn convert_to_plan(
    skeleton: &dyn ReadAt,
    answer: &CheckFindings<'_>,
) -> Result<cpreg_stream::Edit, Failure> {
    let failure = |error| Failure::new("cannot make the repaired stream").with_hinted_cause(error);
    let stream = Stream::open(skeleton).map_err(failure)?;
    let planned = answer.check.plan.apply(&answer.vm);
    cpreg_stream::convert(&stream, skeleton, &planned).map_err(failure)
}

/// A part of the command line that is not as it was given, as a report has it.
fn to_replacement(change: &OptionChange) -> Replacement {
    Replacement {
        before: redact_command_line(&change.before),
        after: redact_command_line(&change.after),
        reason: change.reason.to_owned(),
    }
}

/// Takes over what happened, and what it means.
fn evaluate(tried: &mut RehearsalFindings<'_>, rehearsed: RehearsalResult) {
    let check = &tried.prediction.check;
    tried.outcome = Some(match rehearsed.outcome {
        LoadOutcome::Loaded => report::LoadOutcome::Loaded,
        LoadOutcome::Failed(status) => report::LoadOutcome::Failed {
            signal: status.signal().map(|_| status.to_string()),
        },
    });
    let said = redact_secrets(rehearsed.stderr, tried.prediction.value_format.show_secrets);
    tried.stderr = said.lines().map(str::to_owned).collect();
    let mut vm = None;
    match rehearsed.final_state {
        Some(Ok(QueriedState { stream, .. })) => match stream.vm() {
            Ok(after) => vm = Some(after),
            Err(error) => {
                tried.final_state_error = Some(cpreg_qemu::Error::from(error).to_string());
            }
        },
        Some(Err(error)) => tried.final_state_error = Some(error.to_string()),
        None => {}
    }
    let trial = match rehearsed.outcome {
        LoadOutcome::Loaded => LoadResult::Loaded(vm.as_ref()),
        LoadOutcome::Failed(_) => LoadResult::Failed {
            is_reliable: !tried.has_unverifiable_failure(),
        },
    };
    tried.verdict = match check.verdict_after(trial) {
        Verdict::Loads if tried.has_changes => Verdict::Converts,
        verdict => verdict,
    };
    if let Some(vm) = &vm {
        tried.deviations = check.plan.deviations(vm);
    }
}
