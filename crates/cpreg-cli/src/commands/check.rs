//! `cpreg check SOURCE DESTINATION`: decides whether a VM loads, and reports the differences that
//! block the load.

use std::path::Path;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::{Accelerator, Destination, Features};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Check, Consents, Verdict};
use cpreg::shape::MachineShape;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_report as report;
use cpreg_report::check::{
    CheckFindings, Loading, OpenFacts, OpenFeature, OpenKernel, PossibleDestination, SourceKind,
    SourceSummary,
};
use cpreg_report::command::{CommandKind, TypedCommand};
use cpreg_report::dry_run::DryRunFindings;
use cpreg_report::printer::Verbosity;
use cpreg_report::value::ValueFormat;
use cpreg_snapshot::SavedVm;
use cpreg_stream::incremental::StreamSetup;

use crate::arguments;
use crate::arguments::{ConsentArgs, Format, FromArgs, LoaderArgs};
use crate::command_line;
use crate::consents;
use crate::destination::hosts::{self, Guest, HostOrFile};
use crate::destination::{self, DestinationSpec, ResolvedDestination, kvm};
use crate::failure::{Failure, Status};
use crate::input::{Content, Input, Origin};
use crate::printer::{Printer, print_json};
use crate::source_host::SourceHost;
use crate::tolerances;

pub(crate) fn run(arguments: &arguments::Check, printer: &mut Printer) -> Result<Status, Failure> {
    let inspect = &arguments.inspect;
    let source = Source::open(&arguments.source, inspect.verify, printer)?;
    let subject = source.subject(&arguments.from, printer)?;
    let tolerances = tolerances::read(&arguments.consents.tolerances, printer)?;
    let spec = destination::find(&arguments.destination, inspect.verify, printer)?;
    let resolved = match &spec {
        DestinationSpec::Kvm(kvm, path) => {
            let guest = source.probed_guest(path)?;
            let mut resolved = kvm::probe_destination(kvm, &guest, &arguments.loader)?;
            kvm::decide_unknown(kvm, &guest, &mut resolved, &tolerances, &arguments.consents)?;
            resolved
        }
        _ => source.resolve(&spec, &arguments.loader)?,
    };
    let value_format = ValueFormat::new(resolved.destination.accelerator, inspect.show_secrets);
    let command = typed_command(arguments);
    let inputs = CheckInputs {
        tolerances: &tolerances,
        consents: &arguments.consents,
        value_format,
        command: &command,
    };
    let findings = build_findings_with(
        &subject,
        &resolved,
        inputs,
        printer,
        |findings, features| {
            let (DestinationSpec::Kvm(kvm, _), Some(features)) = (&spec, features) else {
                return;
            };
            findings.dry_run = kvm::dry_run(kvm, features, &findings.check.plan);
            let dry_run = findings.dry_run.as_ref();
            if findings.is_loaded_by_plan() && dry_run.is_some_and(DryRunFindings::is_confirmed) {
                findings.check.plan.mark_proven();
            }
        },
    )?;
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
#[derive(Clone)]
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
                    features: features.unwrap_or_else(|| host.guest_features()),
                    host,
                    vm,
                })));
            }
            HostOrFile::Unrecorded(host) => return Err(host.failure()),
            HostOrFile::File(input) => input,
        };
        Ok(match &input.content {
            Content::Profile(profile) => {
                Self::NewVm(Box::new(NewVm::from_host(&profile.destination)))
            }
            Content::Stream(_) | Content::Registers(_) | Content::Host(_) => Self::Vm(input),
        })
    }
}

impl Source {
    /// Returns the VM that a check is about.
    pub(crate) fn subject(&self, from: &FromArgs, printer: &Printer) -> Result<Subject, Failure> {
        match self {
            Self::Vm(source) => {
                let from = SourceHost::open(from, printer)?;
                Subject::from_stream(source, from.as_ref())
            }
            Self::NewVm(new_vm) => {
                if let Some(from) = &from.from {
                    return Err(Failure::new(format!(
                        "--from {}: {} is a host itself",
                        from.display(),
                        new_vm.host.name
                    ))
                    .with_hint("omit --from, which names the host of a VM in a stream"));
                }
                Ok(Subject::from_new_vm(new_vm))
            }
        }
    }

    /// Resolves the destination for this VM.
    pub(crate) fn resolve(
        &self,
        spec: &DestinationSpec<'_>,
        loader: &LoaderArgs,
    ) -> Result<ResolvedDestination, Failure> {
        match self {
            Self::Vm(source) => spec.resolve_for_stream(source, loader),
            Self::NewVm(new_vm) => {
                let NewVm { host, vm, features } = &**new_vm;
                let mut resolved = spec.resolve_for_new_vm(host, vm, *features, loader)?;
                resolved.exclude_feature_bits();
                Ok(resolved)
            }
        }
    }

    /// Returns the guest for which this machine's KVM is probed.
    fn probed_guest<'a>(&'a self, path: &'a Path) -> Result<kvm::ProbedGuest<'a>, Failure> {
        match self {
            Self::Vm(source) => kvm::ProbedGuest::from_stream(path, source),
            Self::NewVm(new_vm) => {
                let NewVm { host, vm, features } = &**new_vm;
                Ok(kvm::ProbedGuest::from_new_vm(path, host, vm, *features))
            }
        }
    }
}

impl NewVm {
    /// Returns a VM with the values in a profile.
    fn from_host(host: &Destination) -> Self {
        Self {
            vm: host.new_vm(usize::MAX),
            features: host.guest_features(),
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
        let mut vm = source.vm()?;
        let (accelerator, run_state, open_method) = if source.registers().is_some() {
            let open_method = "registers of a snapshot".to_owned();
            (Some(Accelerator::Kvm), None, open_method)
        } else {
            let stream = source.stream()?;
            (
                stream.accelerator(),
                stream.run_state().map(str::to_owned),
                stream.open_method().to_string(),
            )
        };
        // A stream knows the VM better than a report on it.
        vm.source_hardware = vm.source_hardware.or(source.source_hardware()?);
        if let Some(from) = from {
            vm.source_hardware = from.hardware_for(source, &vm, accelerator)?;
        }
        let shape = source.shape()?;
        Ok(Self {
            summary: SourceSummary {
                name: source.name(),
                kind: match source.origin {
                    Origin::Report { .. } => SourceKind::Report,
                    Origin::RunningQemu { .. } => SourceKind::Monitor,
                    Origin::File { .. }
                    | Origin::Saved { .. }
                    | Origin::RecordedHost
                    | Origin::Probe
                    | Origin::Live => SourceKind::Stream,
                },
                container: source.saved_vm().map(SavedVm::container),
                loading: source.saved_vm().map(loading).unwrap_or_default(),
                machine: shape.machine.clone(),
                vcpus: Some(shape.vcpu_count),
                accelerator,
                run_state,
                open_method,
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
    pub(crate) fn from_new_vm(new_vm: &NewVm) -> Self {
        let NewVm { host, vm, .. } = new_vm.clone();
        Self {
            summary: SourceSummary {
                name: host.name,
                kind: SourceKind::NewVm,
                container: None,
                loading: Loading::Incoming,
                machine: None,
                vcpus: Some(host.vcpus.len()),
                accelerator: host.accelerator,
                run_state: None,
                open_method: "known by its host only".to_owned(),
            },
            vm,
            shape: None,
        }
    }
}

/// Returns the way in which the program of a file loads its VM.
fn loading(vm: &SavedVm) -> Loading {
    match vm {
        SavedVm::Libvirt(_) => Loading::Virsh,
        // The loader of the destination decides.
        SavedVm::Registers(_) => Loading::Incoming,
        SavedVm::Qcow2(vm) => Loading::Snapshot(vm.snapshot().name().to_owned()),
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
    subject: &Subject,
    resolved: &'a ResolvedDestination,
    inputs: CheckInputs<'a, '_>,
    printer: &Printer,
) -> Result<CheckFindings<'a>, Failure> {
    build_findings_with(subject, resolved, inputs, printer, |_, _| {})
}

/// Compares the machine and the RAM of a VM whose device state has not arrived with the
/// destination's.
pub(crate) fn build_setup_findings<'a>(
    name: &str,
    setup: &StreamSetup,
    resolved: &'a ResolvedDestination,
    inputs: CheckInputs<'a, '_>,
) -> Result<CheckFindings<'a>, Failure> {
    let consents = consents::read(inputs.consents, inputs.value_format.naming)?;
    let destination = &resolved.destination;
    Ok(CheckFindings {
        source: SourceSummary {
            name: name.to_owned(),
            kind: SourceKind::Setup,
            container: None,
            loading: Loading::Incoming,
            machine: setup.machine.clone(),
            vcpus: None,
            accelerator: None,
            run_state: None,
            open_method: "in front of RAM only".to_owned(),
        },
        vm: Vm::default(),
        destination,
        provenance: &resolved.provenance,
        tolerances: inputs.tolerances,
        shape: destination.setup_differences(setup.machine.as_deref(), &setup.ram),
        check: Check::incomparable(),
        sets: consents.set,
        value_format: inputs.value_format,
        dry_run: None,
        alternatives: None,
        loader_verdicts: Vec::new(),
        command: inputs.command.clone(),
        written: None,
    })
}

/// Plans the load of a VM at a destination and at each of its alternatives.
///
/// `complete` adds to the findings at each of them; its second argument has the assumed features of
/// the guest.
fn build_findings_with<'a>(
    subject: &Subject,
    resolved: &'a ResolvedDestination,
    inputs: CheckInputs<'a, '_>,
    printer: &Printer,
    complete: impl Fn(&mut CheckFindings<'a>, Option<Features>),
) -> Result<CheckFindings<'a>, Failure> {
    let naming = inputs.value_format.naming;
    let consents = consents::read(inputs.consents, naming)?;
    let build = |subject, possible: &'a ResolvedDestination| -> Result<_, Failure> {
        let mut findings = build_one(subject, possible, inputs, &consents)?;
        let features = possible.assumption.as_ref().map(|it| it.features);
        complete(&mut findings, features);
        Ok(findings)
    };
    let open = open_facts(resolved, inputs.command);
    let mut possible = Vec::new();
    for destination in resolved.possible() {
        let findings = build(subject.clone(), destination)?;
        possible.push((
            findings,
            possible_destination(destination, &open, inputs.command),
        ));
    }
    let findings = if open == OpenFacts::default() {
        possible.pop().map(|(findings, _)| findings)
    } else {
        CheckFindings::from_possible(possible, open)
    };
    let findings = findings.ok_or_else(|| Failure::new("the VM was checked nowhere"))?;
    if !findings.is_incomparable() {
        for note in consents::describe_unused(&consents, &findings.vm, &findings.check, naming) {
            printer.note(note);
        }
    }
    Ok(findings)
}

/// Returns the facts that leave several destinations possible, with commands for each case.
fn open_facts(resolved: &ResolvedDestination, command: &TypedCommand) -> OpenFacts {
    let assumption = resolved.assumption.as_ref();
    let feature = resolved.open_feature().zip(assumption);
    let feature = feature.map(|(feature, assumption)| {
        let command_for = |features: Features| {
            let argument = format!("{}/{features}", assumption.base.display());
            command.with_destination(&assumption.base, &argument)
        };
        OpenFeature {
            feature,
            command_with: command_for(assumption.features),
            command_without: command_for(assumption.features.difference(feature)),
        }
    });
    let kernel = resolved.unrecorded_kernel.clone().zip(assumption);
    let kernel = kernel.map(|(kernel, assumption)| OpenKernel {
        command: command.with_destination(&assumption.base, destination::RECORDING),
        recording: destination::RECORDING.to_owned(),
        kernel,
    });
    OpenFacts { feature, kernel }
}

/// Returns the names and the command of a possible destination.
fn possible_destination(
    possible: &ResolvedDestination,
    open: &OpenFacts,
    command: &TypedCommand,
) -> PossibleDestination {
    let assumption = possible.assumption.as_ref();
    let argument = assumption.map(|it| it.argument.clone()).unwrap_or_default();
    let feature = open.feature.as_ref().zip(assumption);
    PossibleDestination {
        command: assumption
            .map(|it| command.with_destination(&it.base, &argument))
            .unwrap_or_default(),
        has_feature: feature.map(|(open, it)| it.features.contains(open.feature)),
        recorded_host: assumption.and_then(|it| it.recorded_host.clone()),
        argument,
    }
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
    let check = if is_comparable && resolved.lacks_registers() {
        Check::undecided()
    } else if is_comparable {
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
