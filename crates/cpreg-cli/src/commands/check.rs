//! `cpreg check SOURCE DESTINATION`: decides whether a VM loads, and reports the differences that
//! block the load.

use std::path::Path;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::{Destination, Features};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Check, Consents, Verdict};
use cpreg::register::Value;
use cpreg::shape::MachineShape;
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_report as report;
use cpreg_report::check::{CheckFindings, SourceKind, SourceSummary};
use cpreg_report::command::{CommandKind, TypedCommand};
use cpreg_report::dry_run::DryRunFindings;
use cpreg_report::printer::Verbosity;
use cpreg_report::value::ValueFormat;

use crate::arguments;
use crate::arguments::{ConsentArgs, Format};
use crate::command_line;
use crate::consents;
use crate::destination::hosts::{self, Guest, HostOrFile};
use crate::destination::{self, ResolvedDestination, kvm};
use crate::failure::{Failure, Status};
use crate::input::{Content, Input, Origin};
use crate::printer::{Printer, print_json};
use crate::source_host::{self, SourceHost};
use crate::tolerance_file;

pub(crate) fn run(arguments: &arguments::Check, printer: &mut Printer) -> Result<Status, Failure> {
    let inspect = &arguments.inspect;
    let source = match Source::open(&arguments.source, inspect.verify, printer)? {
        Source::Vm(source) => *source,
        Source::NewVm(new_vm) => return check_new_vm(*new_vm, arguments, printer),
    };
    let from = SourceHost::open(&arguments.from, printer)?;
    let subject = Subject::from_stream(&source, from.as_ref())?;
    let kvm = kvm::is_kvm_path(&arguments.destination)
        .then(kvm::open)
        .transpose()?;
    let tolerances = tolerance_file::read(&arguments.consents.tolerances, printer)?;
    let (resolved, guest) = if let Some(kvm) = &kvm {
        let guest = kvm::guest_features(&arguments.destination, &source)?;
        let mut resolved =
            kvm::probe_destination(kvm, &arguments.destination, &source, &arguments.loader)?;
        let decide_unknown = |features, destination| {
            let consents = &arguments.consents;
            kvm::decide_unknown(kvm, features, destination, &source, &tolerances, consents)
        };
        decide_unknown(guest.features, &mut resolved.destination)?;
        if let Some(alternative) = &mut resolved.alternative {
            decide_unknown(guest.without_undetermined(), &mut alternative.destination)?;
        }
        (resolved, guest)
    } else {
        let resolved = destination::resolve(
            &arguments.destination,
            &source,
            &arguments.loader,
            inspect.verify,
            printer,
        )?;
        (resolved, GuestFeatures::determined(Features::NONE))
    };
    let value_format = ValueFormat::new(resolved.destination.accelerator, inspect.show_secrets);
    let command = typed_command(arguments);
    let inputs = CheckInputs {
        tolerances: &tolerances,
        consents: &arguments.consents,
        value_format,
        command: &command,
    };
    let findings =
        build_findings_with(subject, &resolved, inputs, printer, |findings, is_full| {
            let Some(kvm) = &kvm else {
                return;
            };
            let features = if is_full {
                guest.features
            } else {
                guest.without_undetermined()
            };
            findings.dry_run = kvm::dry_run(kvm, features, &findings.check.plan);
            let dry_run = findings.dry_run.as_ref();
            if findings.is_loaded_by_plan() && dry_run.is_some_and(DryRunFindings::is_confirmed) {
                findings.check.plan.mark_proven();
            }
        })?;
    let verbosity = arguments.verbosity.verbosity();
    print_report(printer, &findings, inspect.format, verbosity)?;
    Ok(status(findings.verdict()))
}

fn typed_command(arguments: &arguments::Check) -> TypedCommand {
    command_line::typed(
        CommandKind::Check,
        [Some(&arguments.source), Some(&arguments.destination)],
        arguments.from.from.as_ref(),
        arguments.loader.loader.as_ref(),
        &arguments.consents,
    )
}

/// Checks a VM of which only the host is known.
fn check_new_vm(
    new_vm: NewVm,
    arguments: &arguments::Check,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let inspect = &arguments.inspect;
    if let Some(from) = &arguments.from.from {
        return Err(Failure::new(format!(
            "--from {}: {} is a host itself",
            from.display(),
            new_vm.host.name
        ))
        .with_hint("omit --from, which names the host of a VM in a stream"));
    }
    let tolerances = tolerance_file::read(&arguments.consents.tolerances, printer)?;
    let spec = destination::find(&arguments.destination, inspect.verify, printer)?;
    let mut resolved = spec.resolve_for_host(&new_vm.host, new_vm.features, &arguments.loader)?;
    resolved.exclude_feature_bits();
    let value_format = ValueFormat::new(resolved.destination.accelerator, inspect.show_secrets);
    let findings = build_findings(
        Subject::from_new_vm(new_vm),
        &resolved,
        CheckInputs {
            tolerances: &tolerances,
            consents: &arguments.consents,
            value_format,
            command: &typed_command(arguments),
        },
        printer,
    )?;
    let verbosity = arguments.verbosity.verbosity();
    print_report(printer, &findings, inspect.format, verbosity)?;
    Ok(status(findings.verdict()))
}

/// Prints the report of a check or a conversion.
pub(crate) fn print_report(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    format: Format,
    verbosity: Verbosity,
) -> Result<(), Failure> {
    match format {
        Format::Text => report::check::text::print(printer, findings, verbosity),
        Format::Json => print_json(printer, &report::check::model::CheckReport::from(findings))?,
    }
    Ok(())
}

/// VM that SOURCE names.
pub(crate) enum Source {
    /// VM in a stream or a report, or in a running QEMU.
    Vm(Box<Input>),
    /// New VM of a host.
    NewVm(Box<NewVm>),
}

/// New VM of a host, before its guest runs.
pub(crate) struct NewVm {
    /// Host for a guest with the VM's features.
    pub(crate) host: Destination,
    /// Features of the VM.
    pub(crate) features: GuestFeatures,
    vm: Vm,
}

impl Source {
    /// Opens SOURCE.
    pub(crate) fn open(path: &Path, verify: bool, printer: &Printer) -> Result<Self, Failure> {
        let input = match hosts::open(path, verify, printer)? {
            HostOrFile::Host(host) => {
                let features = host.features;
                let (host, vm) = host.new_vm(Guest::Unspecified)?;
                let features = features.map(GuestFeatures::determined);
                return Ok(Self::NewVm(Box::new(NewVm {
                    features: features.unwrap_or_else(|| hosts::recognise_host_features(&host)),
                    host,
                    vm,
                })));
            }
            HostOrFile::File(input) => input,
        };
        Ok(match &input.content {
            Content::Profile(profile) => {
                Self::NewVm(Box::new(NewVm::from_host(&profile.destination)))
            }
            Content::Stream(_) | Content::Host(_) => Self::Vm(input),
        })
    }
}

impl NewVm {
    /// Returns a VM with the values in a profile.
    fn from_host(host: &Destination) -> Self {
        let vcpus = host.vcpus.iter().map(|vcpu| {
            let pairs = vcpu.registers().iter().map(|register| {
                let value = register.value.clone();
                (register.id, value.unwrap_or_else(Value::unknown))
            });
            Vcpu {
                // A host lists no register twice, so `from_pairs` does not fail.
                registers: Registers::from_pairs(pairs).unwrap_or_default(),
                extensions: vcpu.extensions.clone(),
                ..Vcpu::default()
            }
        });
        Self {
            vm: Vm {
                vcpus: vcpus.collect(),
                source_hardware: source_host::source_facts(host),
            },
            features: hosts::recognise_host_features(host),
            host: host.clone(),
        }
    }
}

/// VM to check, known from a stream or only from its host.
#[derive(Clone)]
pub(crate) struct Subject {
    summary: SourceSummary,
    vm: Vm,
    /// Shape of the VM; `None` if only the host is known.
    shape: Option<MachineShape>,
}

impl Subject {
    /// Returns the VM in a stream, which ran on the host `from`.
    pub(crate) fn from_stream(source: &Input, from: Option<&SourceHost>) -> Result<Self, Failure> {
        let stream = source.stream()?;
        let mut vm = stream.vm().map_err(|error| {
            Failure::new(format!("cannot use {}", source.path.display())).with_cause(error)
        })?;
        // A stream knows the VM better than a report on it.
        vm.source_hardware = vm.source_hardware.or(source.source_hardware()?);
        if let Some(from) = from {
            vm.source_hardware = from.hardware_for(source, &vm, stream.accelerator())?;
        }
        let shape = stream.shape();
        Ok(Self {
            summary: SourceSummary {
                name: source.name(),
                kind: match source.origin {
                    Origin::Report { .. } => SourceKind::Report,
                    Origin::RunningQemu { .. } => SourceKind::Monitor,
                    Origin::File { .. } | Origin::RecordedHost | Origin::Live => SourceKind::Stream,
                },
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

    /// Returns the known properties of the VM's own host.
    pub(crate) const fn source_hardware(&self) -> HardwareFacts {
        self.vm.source_hardware
    }

    /// Returns a VM of which only the host is known.
    ///
    /// The registers of the VM have the host's reset values. A register whose reset value is not
    /// known has an unknown value.
    pub(crate) fn from_new_vm(new_vm: NewVm) -> Self {
        let NewVm { host, vm, .. } = new_vm;
        Self {
            summary: SourceSummary {
                name: host.name,
                kind: SourceKind::NewVm,
                machine: None,
                vcpus: host.vcpus.len(),
                accelerator: host.accelerator,
                run_state: None,
                open_method: "known by its host only".to_owned(),
            },
            vm,
            shape: None,
        }
    }
}

/// Inputs that all checks of one command share.
#[derive(Clone, Copy)]
pub(crate) struct CheckInputs<'a, 'c> {
    pub(crate) tolerances: &'a Tolerances,
    pub(crate) consents: &'c ConsentArgs,
    pub(crate) value_format: ValueFormat,
    pub(crate) command: &'c TypedCommand,
}

/// Plans the load of a VM, and prints a note for each consent without effect.
pub(crate) fn build_findings<'a>(
    subject: Subject,
    resolved: &'a ResolvedDestination,
    inputs: CheckInputs<'a, '_>,
    printer: &Printer,
) -> Result<CheckFindings<'a>, Failure> {
    build_findings_with(subject, resolved, inputs, printer, |_, _| {})
}

/// Plans the load of a VM at a destination, or at both of its alternatives.
///
/// `complete` adds to the findings at each of them; its second argument is `false` for the
/// alternative.
fn build_findings_with<'a>(
    subject: Subject,
    resolved: &'a ResolvedDestination,
    inputs: CheckInputs<'a, '_>,
    printer: &Printer,
    complete: impl Fn(&mut CheckFindings<'a>, bool),
) -> Result<CheckFindings<'a>, Failure> {
    let naming = inputs.value_format.naming;
    let consents = consents::read(inputs.consents, naming)?;
    let build = |subject, resolved, is_full| -> Result<_, Failure> {
        let mut findings = build_one(subject, resolved, inputs, &consents)?;
        complete(&mut findings, is_full);
        Ok(findings)
    };
    let findings = match &resolved.alternative {
        None => build(subject, resolved, true)?,
        Some(alternative) => {
            let with = build(subject.clone(), resolved, true)?;
            let without = build(subject, alternative, false)?;
            let arguments = [resolved, alternative].map(|it| it.argument.as_ref());
            let destinations = arguments.map(|it| {
                it.map(|it| {
                    let command = inputs.command.with_destination(&it.base, &it.text());
                    (it.text(), command)
                })
                .unwrap_or_default()
            });
            let features = arguments.map(|it| it.map_or(Features::NONE, |it| it.features));
            let feature = features[0].difference(features[1]);
            with.with_alternative(without, feature, destinations)
        }
    };
    if !findings.is_incomparable() {
        for note in consents::describe_unused(&consents, &findings.vm, &findings.check, naming) {
            printer.note(note);
        }
    }
    Ok(findings)
}

/// Plans the load of a VM at one destination.
fn build_one<'a>(
    subject: Subject,
    resolved: &'a ResolvedDestination,
    inputs: CheckInputs<'a, '_>,
    consents: &Consents,
) -> Result<CheckFindings<'a>, Failure> {
    let CheckInputs {
        tolerances,
        value_format,
        command,
        ..
    } = inputs;
    let Subject { summary, vm, shape } = subject;
    let destination = &resolved.destination;
    let is_comparable = destination
        .accelerator_difference(summary.accelerator)
        .is_none();
    let check = if is_comparable {
        let check = Check::new(&vm, destination, tolerances, consents);
        consents::reject_high_for_plan(consents, &check.plan, value_format.naming)?;
        check
    } else {
        Check::incomparable()
    };
    let loader_verdicts = if check.verdict == Verdict::Unknown {
        Check::verdicts_by_loader(&vm, destination, tolerances, consents)
    } else {
        Vec::new()
    };
    Ok(CheckFindings {
        destination,
        provenance: &resolved.provenance,
        tolerances,
        shape: destination.shape_differences(summary.accelerator, shape.as_ref()),
        source: summary,
        sets: consents.set.clone(),
        vm,
        check,
        value_format,
        dry_run: None,
        alternatives: None,
        loader_verdicts,
        command: command.clone(),
        written: None,
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
