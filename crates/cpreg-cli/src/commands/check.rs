//! `cpreg check SOURCE DESTINATION`: will it load there? why not? what to do?

use cpreg::destination::{Destination, Features};
use cpreg::plan::{Check, Verdict};
use cpreg::register::Value;
use cpreg::shape::MachineShape;
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_report as report;
use cpreg_report::check::{CheckFindings, SourceSummary};
use cpreg_report::dry_run::DryRunFindings;
use cpreg_report::value::ValueFormat;

use crate::arguments;
use crate::arguments::{ConsentArgs, Format};
use crate::consents;
use crate::destination::{self, ResolvedDestination, kvm};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::{Printer, print_json};
use crate::tolerance_file;

pub(crate) fn run(arguments: &arguments::Check, printer: &mut Printer) -> Result<Status, Failure> {
    let reading = &arguments.inspect;
    let source = Input::open(&arguments.source, reading.verify, printer)?;
    let kvm = kvm::is_kvm_path(&arguments.destination)
        .then(kvm::open)
        .transpose()?;
    let tolerances = tolerance_file::read(&arguments.consents.tolerances)?;
    let (named, features) = if let Some(kvm) = &kvm {
        let mut asked =
            kvm::probe_destination(kvm, &arguments.destination, &source, &arguments.loader)?;
        kvm::decide_unknown(kvm, &mut asked, &source, &tolerances, &arguments.consents)?;
        (asked.resolved, asked.features)
    } else {
        let (dest, going) = (&arguments.destination, &arguments.loader);
        let named = destination::resolve(dest, &source, going, reading.verify, printer)?;
        (named, Features::NONE)
    };
    let printing = ValueFormat::new(named.destination.accelerator, reading.show_secrets);
    let mut answer = build_findings(
        &source,
        &named,
        &tolerances,
        &arguments.consents,
        printing,
        printer,
    )?;
    answer.dry_run = kvm.and_then(|kvm| kvm::dry_run(&kvm, features, &answer.check.plan));
    if answer.is_loaded_by_plan()
        && answer
            .dry_run
            .as_ref()
            .is_some_and(DryRunFindings::is_confirmed)
    {
        answer.check.plan.mark_proven();
    }
    print_report(printer, &answer, reading.format, arguments.all)?;
    Ok(status(answer.verdict()))
}

/// Reports, for `check` and `convert` alike. `all`: also what is simply copied.
pub(crate) fn print_report(
    printer: &mut Printer,
    answer: &CheckFindings<'_>,
    format: Format,
    all: bool,
) -> Result<(), Failure> {
    match format {
        Format::Text => report::check::text::print(printer, answer, all),
        Format::Json => print_json(printer, &report::check::model::CheckReport::from(answer))?,
    }
    Ok(())
}

/// Whose registers are looked at.
pub(crate) struct Subject {
    summary: SourceSummary,
    vm: Vm,
    /// Its outline, if it has one.
    shape: Option<MachineShape>,
}

impl Subject {
    /// The VM in a stream.
    pub(crate) fn from_stream(source: &Input) -> Result<Self, Failure> {
        let stream = source.stream()?;
        let vm = stream.vm().map_err(|error| {
            Failure::new(format!("cannot use {}", source.path.display())).with_cause(error)
        })?;
        let shape = stream.shape();
        Ok(Self {
            summary: SourceSummary {
                name: source.name(),
                machine: shape.machine.clone(),
                vcpus: shape.vcpu_count,
                accelerator: stream.accelerator(),
                run_state: stream.run_state().map(str::to_owned),
                open_method: stream.open_method().to_string(),
            },
            vm,
            shape: Some(shape),
        })
    }

    /// A VM of which nothing is known but the host that it runs on: its registers hold what they hold there at reset, and those of which
    /// even that is not known hold 0.
    pub(crate) fn from_host(host: &Destination) -> Self {
        let vcpus = host.vcpus.iter().map(|vcpu| {
            let pairs = vcpu.registers().iter().map(|register| {
                let value = register.value.clone();
                (register.id, value.unwrap_or(Value::U64(0)))
            });
            Vcpu {
                // A host lists no register twice.
                registers: Registers::from_pairs(pairs).unwrap_or_default(),
                extensions: Vec::new(),
            }
        });
        Self {
            summary: SourceSummary {
                name: format!("a VM on {}", host.name),
                machine: None,
                vcpus: host.vcpus.len(),
                accelerator: host.accelerator,
                run_state: None,
                open_method: "of which its host is known".to_owned(),
            },
            vm: Vm {
                vcpus: vcpus.collect(),
            },
            shape: None,
        }
    }
}

/// Plans, for `check` and `convert` alike; what the user decided and decides nothing is told at once.
pub(crate) fn build_findings<'a>(
    source: &Input,
    named: &'a ResolvedDestination,
    tolerances: &'a Tolerances,
    consenting: &ConsentArgs,
    printing: ValueFormat,
    printer: &Printer,
) -> Result<CheckFindings<'a>, Failure> {
    let subject = Subject::from_stream(source)?;
    build_findings_for(subject, named, tolerances, consenting, printing, printer)
}

/// The same, whatever the VM is known from.
pub(crate) fn build_findings_for<'a>(
    subject: Subject,
    named: &'a ResolvedDestination,
    tolerances: &'a Tolerances,
    consenting: &ConsentArgs,
    printing: ValueFormat,
    printer: &Printer,
) -> Result<CheckFindings<'a>, Failure> {
    let consents = consents::read(consenting, printing.naming)?;
    let Subject {
        summary: about,
        vm,
        shape,
    } = subject;
    if let (Some(here), Some(there)) = (about.accelerator, named.destination.accelerator)
        && here != there
    {
        return Err(Failure::new(format!(
            "{} ran under {here}, and {} is a destination under {there}",
            about.name, named.destination.name
        ))
        .with_hint("a VM moves only between hosts that execute it the same way"));
    }
    let check = Check::new(&vm, &named.destination, tolerances, &consents);
    for note in consents::describe_unused(&consents, &vm, &check, printing.naming) {
        printer.note(note);
    }
    let shapes = shape.as_ref().zip(named.destination.shape.as_ref());
    Ok(CheckFindings {
        source: about,
        destination: &named.destination,
        provenance: &named.provenance,
        tolerances,
        shape: shapes
            .map(|(here, there)| here.differences(there))
            .unwrap_or_default(),
        sets: consents.set,
        vm,
        check,
        value_format: printing,
        dry_run: None,
    })
}

/// The exit status that goes with a verdict.
pub(crate) const fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Loads | Verdict::Converts => Status::Success,
        Verdict::Refused => Status::Refused,
        Verdict::Unknown => Status::Unknown,
    }
}
