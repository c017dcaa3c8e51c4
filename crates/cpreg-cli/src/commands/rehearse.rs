//! `cpreg rehearse SOURCE -- QEMU COMMAND…`: load it, without its RAM, into the real destination QEMU, paused, and say what happened.
//!
//! The command line becomes one that touches nothing ([`cpreg_qemu::isolate`]); that QEMU says what it has, cpreg plans
//! for it as `check` does, the VM or what `convert` would make of it is loaded, and what is there then is compared with the plan.

use std::os::unix::process::ExitStatusExt as _;

use cpreg::destination::{Accelerator, Destination, Loader, ValuesAre};
use cpreg::plan::{Outcome as Planned, Trial, Verdict};
use cpreg_explain::qemu;
use cpreg_qemu::isolate::{Change, Host, Isolated, isolate};
use cpreg_qemu::probe::accelerator;
use cpreg_qemu::rehearse::{Asked, Outcome, Rehearsal, Rehearsed};
use cpreg_report::check::Answer;
use cpreg_report::rehearse::model::{self, NotJudged, Replaced};
use cpreg_report::rehearse::{self as report, Tried, printed};
use cpreg_report::value::Printing;
use cpreg_stream::Stream;
use cpreg_stream::guest_memory::without_memory;
use cpreg_stream::{ReadAt, SectionChange};

use super::check;
use crate::arguments::{self, Format};
use crate::destination::{self, Named};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::interrupt;
use crate::printer::Printer;
use crate::tolerance_file;

pub(crate) fn run(
    arguments: &arguments::Rehearse,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let source = Input::open(&arguments.source, arguments.reading.verify, printer)?;
    of(&source, arguments, printer)
}

/// The same for a source that has been opened.
pub(crate) fn of(
    source: &Input,
    arguments: &arguments::Rehearse,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let reading = &arguments.reading;
    let stream = source.stream()?;
    let isolated = isolate(&arguments.command, &arguments.keep, &Host).map_err(|error| {
        Failure::new("cannot rehearse with this command line").because_of(error)
    })?;
    if let Some(reason) = &isolated.no_namespace {
        printer.note(format_args!(
            "no network namespace, and so no tap: {reason}"
        ));
    }
    let (edit, not_judged) = skeleton(source, stream, &isolated)?;
    let skeleton = edit.over(source.file()?);

    let patience = interrupt::patience(arguments.timeout)?;
    let not_rehearsed = |error| not_rehearsed(error, reading.secrets);
    let rehearsal = Rehearsal::start(&isolated.command, &patience).map_err(not_rehearsed)?;
    let named = host(&rehearsal, &isolated)?;
    let printing = Printing::new(named.destination.accelerator, reading.secrets);
    let tolerances = tolerance_file::read(&arguments.consenting.tolerances)?;
    let answer = check::answer(
        source,
        &named,
        &tolerances,
        &arguments.consenting,
        printing,
        printer,
    )?;

    let mut tried = Tried {
        answer: &answer,
        repaired: arguments.repaired,
        lacks_ram: source.lacks_ram().is_some(),
        changed: false,
        command: printed(&isolated.command),
        replaced: isolated.changes.iter().map(replaced).collect(),
        not_judged,
        version: rehearsal.version().number(),
        package: rehearsal.version().package.clone(),
        outcome: None,
        verdict: answer.check.verdict,
        deviations: Vec::new(),
        unknown_host: rehearsal.host().err().map(ToString::to_string),
        unreadable: None,
        said: Vec::new(),
    };
    // A plan for a QEMU of which nothing is known says nothing.
    if tried.unknown_host.is_some() {
        tried.verdict = Verdict::Unknown;
    }
    // What the plan does not make loadable is not tried as if it were.
    if !arguments.repaired || answer.check.plan.outcome() == Planned::Ready {
        let rehearsed = if arguments.repaired {
            let repaired = repaired(&skeleton, &answer)?;
            tried.changed = !repaired.is_identity();
            rehearsal.load(&repaired.over(&skeleton), &patience)
        } else {
            rehearsal.load(&skeleton, &patience)
        };
        judge(&mut tried, rehearsed.map_err(not_rehearsed)?);
    }
    match reading.format {
        Format::Text => report::text::print(printer, &tried, arguments.all),
        Format::Json => {
            let json = serde_json::to_string_pretty(&model::Report::from(&tried));
            printer.json(&json.map_err(|error| Failure::new("cannot report").because(error))?);
        }
    }
    Ok(check::status(tried.verdict))
}

/// QEMU's words; without the guest's keys, unless these were asked for.
fn may_tell(said: String, secrets: bool) -> String {
    if secrets {
        said
    } else {
        qemu::without_secrets(&said)
    }
}

fn not_rehearsed(error: cpreg_qemu::Error, secrets: bool) -> Failure {
    let said = may_tell(error.said().to_owned(), secrets);
    Failure::new("cannot rehearse with this QEMU").because_of(error.with_said(said))
}

/// The stream without its RAM and without what no stand-in takes, and what is not judged therefore.
fn skeleton(
    source: &Input,
    stream: &Stream,
    isolated: &Isolated,
) -> Result<(cpreg_stream::Edit, Vec<NotJudged>), Failure> {
    let failure =
        |error| Failure::new(format!("cannot read {}", source.path.display())).because_of(error);
    let memory = without_memory(stream, source.file()?).map_err(failure)?;
    let mut changes = memory.changes;
    let mut not_judged = Vec::new();
    for unjudged in &isolated.unjudged {
        let sections = stream.sections().iter().enumerate();
        let sections = sections.filter(|(_, section)| unjudged.covers(&section.name));
        let (indexes, names): (Vec<_>, Vec<_>) = sections
            .map(|(index, section)| (index, section.name.clone()))
            .unzip();
        changes.extend(
            indexes
                .into_iter()
                .map(|index| (index, SectionChange::LeaveOut)),
        );
        not_judged.push(NotJudged {
            what: unjudged.what.clone(),
            reason: unjudged.reason.to_owned(),
            loaded: false,
            sections: names,
        });
    }
    not_judged.extend(memory.doubts.into_iter().map(|doubt| NotJudged {
        what: doubt.section.clone(),
        reason: doubt.reason.to_owned(),
        loaded: true,
        sections: vec![doubt.section],
    }));
    let left_out = |block: &str| {
        isolated
            .unjudged
            .iter()
            .any(|it| it.covers_ram_block(block))
    };
    let edit = stream
        .without_ram_and(&changes, &left_out)
        .map_err(failure)?;
    Ok((edit, not_judged))
}

/// What that QEMU has: its registers at reset, its outline. Nothing is known of one that could not say.
fn host(rehearsal: &Rehearsal, isolated: &Isolated) -> Result<Named, Failure> {
    let version = rehearsal.version();
    let number = version.number();
    let loader = u16::try_from(version.major)
        .ok()
        .zip(u16::try_from(version.minor).ok())
        .map(|(major, minor)| Loader::qemu(major, minor));
    let name = |machine: &str| format!("QEMU {number}{machine}");
    let Ok(asked) = rehearsal.host() else {
        return Ok(Named {
            destination: Destination {
                name: name(""),
                accelerator: None,
                loader,
                values: ValuesAre::AtReset,
                vcpus: Vec::new(),
                shape: None,
            },
            evidence: "it was started, and could not say what it has".into(),
            recorded: Box::default(),
        });
    };
    let machine = format!(", {}", asked.state.machine);
    let mut destination = destination::of_stream(name(&machine), &asked.stream)?;
    destination.loader = loader;
    // It was asked before anything arrived; what it says of that is not what it does.
    destination.values = ValuesAre::AtReset;
    let accelerator = accelerator(&isolated.command, asked.state.kvm);
    destination.accelerator = Accelerator::from_name(&accelerator).or(destination.accelerator);
    Ok(Named {
        destination,
        evidence: "it was started and asked".into(),
        recorded: Box::default(),
    })
}

/// What turns the VM into the planned one.
fn repaired(skeleton: &dyn ReadAt, answer: &Answer<'_>) -> Result<cpreg_stream::Edit, Failure> {
    let failure = |error| Failure::new("cannot make the repaired stream").because_of(error);
    let stream = Stream::open(skeleton).map_err(failure)?;
    let planned = answer.check.plan.result(&answer.vm);
    cpreg_stream::convert(&stream, skeleton, &planned).map_err(failure)
}

/// A part of the command line that is not as it was given, as a report has it.
fn replaced(change: &Change) -> Replaced {
    Replaced {
        was: printed(&change.was),
        now: printed(&change.now),
        reason: change.reason.to_owned(),
    }
}

/// Takes over what happened, and what it means.
fn judge(tried: &mut Tried<'_>, rehearsed: Rehearsed) {
    let check = &tried.answer.check;
    tried.outcome = Some(match rehearsed.outcome {
        Outcome::Loaded => report::Outcome::Loaded,
        Outcome::Failed(status) => report::Outcome::Failed {
            signal: status.signal().map(|_| status.to_string()),
        },
    });
    let said = may_tell(rehearsed.said, tried.answer.printing.secrets);
    tried.said = said.lines().map(str::to_owned).collect();
    let mut vm = None;
    match rehearsed.after {
        Some(Ok(Asked { stream, .. })) => match stream.vm() {
            Ok(after) => vm = Some(after),
            Err(error) => {
                tried.unreadable = Some(cpreg_qemu::Error::from(error).to_string());
            }
        },
        Some(Err(error)) => tried.unreadable = Some(error.to_string()),
        None => {}
    }
    let trial = match rehearsed.outcome {
        Outcome::Loaded => Trial::Loaded(vm.as_ref()),
        Outcome::Failed(_) => Trial::Failed {
            believed: !tried.failed_for_want_of_memory(),
        },
    };
    tried.verdict = match check.verdict_after(trial) {
        Verdict::Loads if tried.changed => Verdict::Converts,
        verdict => verdict,
    };
    if let Some(vm) = &vm {
        tried.deviations = check.plan.deviations(vm);
    }
}
