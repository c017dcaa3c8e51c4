//! `cpreg check SOURCE DESTINATION`: decides whether a VM loads, and reports the differences that
//! block the load.

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
    let inspect = &arguments.inspect;
    let source = Input::open(&arguments.source, inspect.verify, printer)?;
    let kvm = kvm::is_kvm_path(&arguments.destination)
        .then(kvm::open)
        .transpose()?;
    let tolerances = tolerance_file::read(&arguments.consents.tolerances)?;
    let (resolved, features) = if let Some(kvm) = &kvm {
        let mut probed =
            kvm::probe_destination(kvm, &arguments.destination, &source, &arguments.loader)?;
        kvm::decide_unknown(kvm, &mut probed, &source, &tolerances, &arguments.consents)?;
        (probed.resolved, probed.features)
    } else {
        let resolved = destination::resolve(
            &arguments.destination,
            &source,
            &arguments.loader,
            inspect.verify,
            printer,
        )?;
        (resolved, Features::NONE)
    };
    let value_format = ValueFormat::new(resolved.destination.accelerator, inspect.show_secrets);
    let mut findings = build_findings(
        &source,
        &resolved,
        &tolerances,
        &arguments.consents,
        value_format,
        printer,
    )?;
    findings.dry_run = kvm.and_then(|kvm| kvm::dry_run(&kvm, features, &findings.check.plan));
    if findings.is_loaded_by_plan()
        && findings
            .dry_run
            .as_ref()
            .is_some_and(DryRunFindings::is_confirmed)
    {
        findings.check.plan.mark_proven();
    }
    print_report(printer, &findings, inspect.format, arguments.all)?;
    Ok(status(findings.verdict()))
}

/// Prints the report of `check` and `convert`. With `all` the report also lists the registers that
/// are copied unchanged.
pub(crate) fn print_report(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    format: Format,
    all: bool,
) -> Result<(), Failure> {
    match format {
        Format::Text => report::check::text::print(printer, findings, all),
        Format::Json => print_json(printer, &report::check::model::CheckReport::from(findings))?,
    }
    Ok(())
}

/// VM to check, known from a stream or only from its host.
pub(crate) struct Subject {
    summary: SourceSummary,
    vm: Vm,
    /// Shape of the VM; `None` if only the host is known.
    shape: Option<MachineShape>,
}

impl Subject {
    /// Returns the VM in a stream.
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

    /// Returns a VM of which only the host is known.
    ///
    /// The registers of the VM have the host's reset values, or 0 where the reset value is not
    /// known.
    pub(crate) fn from_host(host: &Destination) -> Self {
        let vcpus = host.vcpus.iter().map(|vcpu| {
            let pairs = vcpu.registers().iter().map(|register| {
                let value = register.value.clone();
                (register.id, value.unwrap_or(Value::U64(0)))
            });
            Vcpu {
                // A host lists no register twice, so `from_pairs` does not fail.
                registers: Registers::from_pairs(pairs).unwrap_or_default(),
                ..Vcpu::default()
            }
        });
        Self {
            summary: SourceSummary {
                name: format!("a VM on {}", host.name),
                machine: None,
                vcpus: host.vcpus.len(),
                accelerator: host.accelerator,
                run_state: None,
                open_method: "known by its host only".to_owned(),
            },
            vm: Vm {
                vcpus: vcpus.collect(),
                source_hardware: host.hardware,
            },
            shape: None,
        }
    }
}

/// Plans the load of the VM in a stream, and prints a note for each consent without effect.
pub(crate) fn build_findings<'a>(
    source: &Input,
    resolved: &'a ResolvedDestination,
    tolerances: &'a Tolerances,
    consents: &ConsentArgs,
    value_format: ValueFormat,
    printer: &Printer,
) -> Result<CheckFindings<'a>, Failure> {
    let subject = Subject::from_stream(source)?;
    build_findings_for(
        subject,
        resolved,
        tolerances,
        consents,
        value_format,
        printer,
    )
}

/// Plans the load of a VM, and prints a note for each consent without effect.
pub(crate) fn build_findings_for<'a>(
    subject: Subject,
    resolved: &'a ResolvedDestination,
    tolerances: &'a Tolerances,
    consents: &ConsentArgs,
    value_format: ValueFormat,
    printer: &Printer,
) -> Result<CheckFindings<'a>, Failure> {
    let consents = consents::read(consents, value_format.naming)?;
    let Subject { summary, vm, shape } = subject;
    let destination = &resolved.destination;
    let is_comparable = destination
        .accelerator_difference(summary.accelerator)
        .is_none();
    let check = if is_comparable {
        let check = Check::new(&vm, destination, tolerances, &consents);
        consents::reject_high_for_plan(&consents, &check.plan, value_format.naming)?;
        for note in consents::describe_unused(&consents, &vm, &check, value_format.naming) {
            printer.note(note);
        }
        check
    } else {
        Check::incomparable()
    };
    Ok(CheckFindings {
        destination,
        provenance: &resolved.provenance,
        tolerances,
        shape: destination.shape_differences(summary.accelerator, shape.as_ref()),
        source: summary,
        sets: consents.set,
        vm,
        check,
        value_format,
        dry_run: None,
    })
}

/// Returns the exit status that stands for a verdict.
pub(crate) const fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Loads | Verdict::Converts => Status::Success,
        Verdict::Refused => Status::Refused,
        Verdict::Unknown => Status::Unknown,
    }
}
