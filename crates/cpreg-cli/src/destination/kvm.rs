//! KVM of this machine as DESTINATION. cpreg probes KVM for a guest like the one in SOURCE, and
//! tries the plan in a dry run.
//!
//! | argument | meaning |
//! |---|---|
//! | `kvm` | this machine's KVM, for a guest with the features recognised in SOURCE |
//! | `kvm/FEATURES` | this machine's KVM, for a guest with exactly these features |
//!
//! A file of that name takes precedence. The functions accept any [`Host`]; their tests pass a
//! recorded host.

use std::borrow::Cow;
use std::path::Path;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Features, Loader};
use cpreg::plan::{Action, Plan, PlanOutcome};
use cpreg::register::Value;
use cpreg::shape::MachineShape;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_kvm::{Host, Kvm};

use super::resolved_destination::{Assumption, ResolvedDestination};
use crate::arguments::{ConsentArgs, LoaderArgs};
use crate::consents;
use crate::failure::Failure;
use crate::input::Input;
use cpreg_report::dry_run::{DryRun, DryRunFindings, ReadBackMismatch, RefusedWrite};
use cpreg_report::names::FailureKind;
use cpreg_report::value::ValueFormat;

/// Argument for this machine's KVM.
const NAME: &str = "kvm";

/// Provenance of the destination, for reports.
const PROVENANCE: &str =
    "this machine's KVM, queried: its list, values and accepted values are proven";

/// Returns `true` if a path names this machine's KVM and no file. A folder of that name changes
/// nothing, because a folder is never a valid input.
pub(crate) fn is_kvm_path(path: &Path) -> bool {
    let is_name = |text: &str| text.eq_ignore_ascii_case(NAME);
    if path.to_str().is_some_and(is_name) {
        return path.is_dir() || !path.exists();
    }
    parse_features(path).is_some() && !path.exists()
}

/// Parses the features in the path `kvm/FEATURES`; returns `None` for another path.
fn parse_features(path: &Path) -> Option<Features> {
    let (first, names) = path.to_str()?.split_once('/')?;
    Features::from_names(names).filter(|_| first.eq_ignore_ascii_case(NAME))
}

/// Opens this machine's KVM.
pub(crate) fn open() -> Result<Kvm, Failure> {
    Kvm::open()
        .map_err(|error| Failure::new("cannot query this machine's KVM").with_kvm_cause(error))
}

/// Guest for which KVM is probed.
pub(crate) struct ProbedGuest<'a> {
    /// The user's argument for DESTINATION.
    path: &'a Path,
    /// Name of the source in messages.
    source_name: String,
    /// Features in DESTINATION; without them, the features of the guest in SOURCE.
    features: GuestFeatures,
    vm: Cow<'a, Vm>,
    /// Shape of the VM; `None` if only the host is known.
    shape: Option<MachineShape>,
    /// Accelerator that the VM ran under, if known.
    accelerator: Option<Accelerator>,
    /// Program that loads the VM, if the source tells it.
    loader: Option<Loader>,
    /// `true` if the source has all registers of KVM's list, not only those of QEMU's.
    has_all_registers: bool,
}

impl<'a> ProbedGuest<'a> {
    /// Returns the guest in SOURCE.
    pub(crate) fn from_stream(path: &'a Path, source: &Input) -> Result<Self, Failure> {
        if let Some(state) = source.registers() {
            let features = parse_features(path).unwrap_or(state.features);
            return Ok(Self {
                path,
                source_name: source.name(),
                features: GuestFeatures::determined(features),
                vm: Cow::Owned(state.vm.clone()),
                shape: Some(state.shape.clone()),
                accelerator: Some(Accelerator::Kvm),
                loader: state.loader,
                has_all_registers: true,
            });
        }
        let stream = source.stream()?;
        let vm = stream.vm().map_err(|error| {
            Failure::new(format!("cannot use {}", source.path.display())).with_cause(error)
        })?;
        let accelerator = stream.accelerator();
        let features = parse_features(path).map(GuestFeatures::determined);
        let features = features.unwrap_or_else(|| {
            if ran_under_another_accelerator(accelerator) {
                // The check reports a guest that did not run under KVM.
                return GuestFeatures::determined(Features::NONE);
            }
            GuestFeatures::from_vcpus(vm.vcpus.iter().map(|vcpu| &vcpu.registers))
        });
        Ok(Self {
            path,
            source_name: source.name(),
            features,
            vm: Cow::Owned(vm),
            shape: Some(stream.shape()),
            accelerator,
            loader: None,
            has_all_registers: false,
        })
    }

    /// Returns the guest of a new VM of `host`.
    pub(crate) fn from_new_vm(
        path: &'a Path,
        host: &Destination,
        vm: &'a Vm,
        features: GuestFeatures,
    ) -> Self {
        Self {
            path,
            source_name: host.name.clone(),
            features: parse_features(path).map_or(features, GuestFeatures::determined),
            vm: Cow::Borrowed(vm),
            shape: None,
            accelerator: host.accelerator,
            loader: None,
            has_all_registers: false,
        }
    }
}

/// Probes KVM for a guest.
///
/// If SOURCE does not determine the guest's features, the result has an alternative.
pub(crate) fn probe_destination(
    host: &impl Host,
    guest: &ProbedGuest<'_>,
    loader: &LoaderArgs,
) -> Result<ResolvedDestination, Failure> {
    let features = guest.features;
    let mut resolved = probe_for_features(host, features.features, guest)?;
    if !features.undetermined.is_empty() {
        let alternative = probe_for_features(host, features.without_undetermined(), guest)?;
        resolved.alternatives.push(alternative);
    }
    resolved.for_each(|destination| destination.loader = guest.loader);
    resolved.with_loader(loader)
}

/// Probes KVM for a guest with exactly these features.
fn probe_for_features(
    host: &impl Host,
    features: Features,
    guest: &ProbedGuest<'_>,
) -> Result<ResolvedDestination, Failure> {
    let identity = host.identity();
    let name = format!("this machine's KVM, Linux {}, {features}", identity.release);
    let vcpus = guest.vm.vcpus.len();
    let probed = cpreg_kvm::probe::probe_destination(host, features, vcpus, &name);
    let mut destination = probed.map_err(|error| {
        Failure::new(format!(
            "this machine's KVM cannot create a guest like the one in {}",
            guest.source_name
        ))
        .with_cause(error)
        .with_hint("its features were recognised from its registers; name others with kvm/FEATURES")
    })?;
    // Keep only the registers of QEMU's list, because a stream stores core and vector registers
    // elsewhere.
    let is_restricted = !guest.has_all_registers;
    for vcpu in destination.vcpus.iter_mut().filter(|_| is_restricted) {
        let registers = vcpu.registers().iter().cloned();
        let registers = registers.filter(|register| Program::QEMU.has_in_list(register.id));
        *vcpu = DestinationVcpu::new(registers.collect::<Vec<_>>(), vcpu.extensions.clone());
    }
    destination.shape.clone_from(&guest.shape);
    destination.hardware.is_emulated = identity.emulated;
    let origin = ProfileOrigin {
        accelerator: Accelerator::Kvm.name().to_owned(),
        cpu: identity.cpu_and_mode(),
        kernel: identity.release,
        ..ProfileOrigin::default()
    };
    Ok(ResolvedDestination {
        destination,
        provenance: Cow::Borrowed(PROVENANCE),
        origin: Box::new(origin),
        assumption: Some(Assumption {
            base: guest.path.to_owned(),
            argument: format!("{NAME}/{features}"),
            features,
            recorded_host: None,
        }),
        unrecorded_kernel: None,
        alternatives: Vec::new(),
    })
}

/// Tries the values on the host on which the plan for the guest cannot decide, at each possible
/// destination.
pub(crate) fn decide_unknown(
    host: &impl Host,
    guest: &ProbedGuest<'_>,
    resolved: &mut ResolvedDestination,
    tolerances: &Tolerances,
    consents: &ConsentArgs,
) -> Result<(), Failure> {
    if ran_under_another_accelerator(guest.accelerator) {
        return Ok(());
    }
    let naming = ValueFormat::new(resolved.destination.accelerator, false).naming;
    let consents = consents::read(consents, naming)?;
    let decide = |assumption: Option<&Assumption>, destination: &mut Destination| {
        let features = assumption.map_or(guest.features.features, |it| it.features);
        let vm = &guest.vm;
        cpreg_kvm::write_probe::decide_unknown(
            host,
            features,
            vm,
            destination,
            tolerances,
            &consents,
        )
        .map(drop)
        .map_err(|error| {
            Failure::new("cannot try values on this machine's KVM")
                .with_kind(FailureKind::KVM)
                .with_cause(error)
        })
    };
    decide(resolved.assumption.as_ref(), &mut resolved.destination)?;
    for alternative in &mut resolved.alternatives {
        decide(
            alternative.assumption.as_ref(),
            &mut alternative.destination,
        )?;
    }
    Ok(())
}

/// Returns `true` if another accelerator than KVM ran the VM. No register of such a VM means
/// anything to KVM.
fn ran_under_another_accelerator(accelerator: Option<Accelerator>) -> bool {
    accelerator.is_some_and(|accelerator| accelerator != Accelerator::Kvm)
}

/// Loads the plan into a temporary VM of the host. Returns `None` if the plan is not ready, or has
/// no vCPUs.
///
/// Extensions (QEMU's subsections) belong to the VMM, so the dry run does not write them. Nor does
/// it write registers whose value is not known, which a new VM of a host may have.
pub(crate) fn dry_run(host: &impl Host, features: Features, plan: &Plan) -> Option<DryRunFindings> {
    if plan.outcome() != PlanOutcome::Ready || plan.vcpus.is_empty() {
        return None;
    }
    let mut registers = plan.clone();
    for vcpu in &mut registers.vcpus {
        vcpu.extensions.clear();
    }
    registers.update_decisions(|decision| {
        if decision.source.as_ref().is_some_and(Value::is_unknown)
            && decision.action == Action::Copy
        {
            decision.action = Action::KeepAtReset;
        }
    });
    let result = cpreg_kvm::dry_run(host, features, &registers);
    Some(DryRunFindings {
        features,
        result: result
            .map(to_report_dry_run)
            .map_err(|error| error.to_string_with_hint()),
    })
}

/// Converts the result of a dry run for the report.
fn to_report_dry_run(dry_run: cpreg_kvm::DryRun) -> DryRun {
    let refused = dry_run
        .refused_writes
        .into_iter()
        .map(|write| RefusedWrite {
            vcpu: write.vcpu,
            text: write.to_string(),
            errno: write.errno.0,
            meaning: write.meaning(),
            register: write.register,
            written_value: write.written_value,
            actual_value: write.current_value.ok(),
        });
    let mismatches = dry_run.summary.mismatches.into_iter();
    let mismatches = mismatches.map(|mismatch| ReadBackMismatch {
        vcpu: mismatch.vcpu,
        text: mismatch.to_string(),
        register: mismatch.register,
        written_value: mismatch.written_value,
        actual_value: mismatch.current_value,
    });
    DryRun {
        written_registers: dry_run.summary.written_registers,
        refused_writes: refused.collect(),
        mismatches: mismatches.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cpreg::destination::AcceptedValues;
    use cpreg::plan::{Check, Consents};
    use cpreg::register::RegisterId;
    use cpreg_hosts::HostIndex;
    use cpreg_hosts::record::AtReset;
    use cpreg_kvm::RecordedHost;

    use super::*;
    use crate::printer::Printer;

    fn source(name: &str) -> Input {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/streams/kvm");
        let path: PathBuf = folder.join(format!("{name}.stream.xz"));
        Input::open(&path, false, &Printer::default())
            .unwrap_or_else(|_| panic!("{name} is a recorded stream"))
    }

    fn host(name: &str) -> RecordedHost {
        let history = HostIndex::built_in().expect("the checked-in history is valid");
        RecordedHost::new(history.resolve(name).expect("a host").host.record())
    }

    fn probe(host: &RecordedHost, path: &str, source: &Input) -> ResolvedDestination {
        let loader = LoaderArgs { loader: None };
        let guest = ProbedGuest::from_stream(Path::new(path), source);
        let guest = guest.unwrap_or_else(|_| panic!("the source is a stream"));
        let probed = probe_destination(host, &guest, &loader);
        probed.unwrap_or_else(|_| panic!("the host was recorded with these features"))
    }

    /// Returns the outcome of planning and the findings of the dry run.
    fn plan_and_dry_run(
        host: &RecordedHost,
        stream: &str,
    ) -> (PlanOutcome, Option<DryRunFindings>) {
        let source = source(stream);
        let probed = probe(host, "kvm", &source);
        let vm = source.stream().ok().and_then(|stream| stream.vm().ok());
        let vm = vm.expect("the stream has a VM");
        let check = Check::new(
            &vm,
            &probed.destination,
            &Tolerances::default(),
            &Consents::default(),
        );
        let features = probed
            .assumption
            .as_ref()
            .expect("they are assumed")
            .features;
        let findings = dry_run(host, features, &check.plan);
        (check.plan.outcome(), findings)
    }

    const LINUX_6_12_STREAM: &str = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1";

    #[test]
    fn kvm_paths_are_recognised() {
        for (path, expected) in [
            ("kvm", true),
            ("kvm/pmu", true),
            ("KVM", true),
            ("Kvm/PMU,Sve", true),
            ("KVM/None", true),
            ("kvm.json", false),
            ("kvm/6.12", false),
            ("a/kvm", false),
        ] {
            assert_eq!(is_kvm_path(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn ready_plan_is_dry_run() {
        let (outcome, findings) =
            plan_and_dry_run(&host("linux-6.16.12/neoverse-n1"), LINUX_6_12_STREAM);
        assert_eq!(outcome, PlanOutcome::Ready);
        let findings = findings.expect("a dry run");
        assert_eq!(
            findings
                .result
                .as_ref()
                .map(|dry_run| dry_run.written_registers),
            Ok(255)
        );
        assert!(findings.is_confirmed(), "{:?}", findings.contradictions());
    }

    /// A snapshot of Firecracker has core registers, which QEMU's list lacks.
    #[test]
    fn a_snapshot_of_firecracker_is_probed_with_all_its_registers() {
        let recorded = "fixtures/vmm/firecracker/v1.14.4/6.12.107__neoverse-n1__v1";
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{recorded}.vmstate.xz"));
        let source = Input::open(&packed, false, &Printer::default());
        let source = source.unwrap_or_else(|_| panic!("a recorded snapshot"));
        let host = host("linux-6.16.12/neoverse-n1");
        let probed = probe(&host, "kvm", &source);
        assert!(probed.alternatives.is_empty());
        let loader = probed.destination.loader.expect("a loader");
        assert_eq!(loader.program, Program::FIRECRACKER);
        let vm = source.vm().unwrap_or_else(|_| panic!("a VM"));
        let (tolerances, consents) = (Tolerances::default(), Consents::default());
        let check = Check::new(&vm, &probed.destination, &tolerances, &consents);
        assert_eq!(check.plan.outcome(), PlanOutcome::Ready);
        assert_eq!(check.loaders[0].load.loads, Some(false));
        let vcpu = &check.plan.vcpus[0];
        assert!(
            vcpu.decisions
                .iter()
                .any(|it| it.register == RegisterId::CORE_PSTATE)
        );
        let features = probed.assumption.expect("features").features;
        let findings = dry_run(&host, features, &check.plan).expect("a dry run");
        assert!(findings.is_confirmed(), "{:?}", findings.contradictions());
    }

    /// PSCI 1.3 into Linux 6.12.
    #[test]
    fn unready_plan_is_not_dry_run() {
        let stream = "6.16.12__q10.0__neoverse-n1__virt10.0-smp1";
        let (outcome, findings) = plan_and_dry_run(&host("linux-6.12.107/neoverse-n1"), stream);
        assert_ne!(outcome, PlanOutcome::Ready);
        assert!(findings.is_none());
    }

    /// Kernel that refuses a value which all kernels accept.
    #[test]
    fn unexpected_refusal_contradicts_the_plan() {
        let fault = cpreg_kvm::recorded::Fault::Write(40, cpreg_kvm::Errno::EINVAL);
        let host = host("linux-6.16.12/neoverse-n1").with_fault(fault);
        let (outcome, findings) = plan_and_dry_run(&host, LINUX_6_12_STREAM);
        assert_eq!(outcome, PlanOutcome::Ready);
        let findings = findings.expect("a dry run");
        assert!(!findings.is_consistent_with_plan());
        assert_eq!(findings.contradictions().len(), 1);
    }

    /// The registers of Linux 5.10 do not show whether the guest has a PMU.
    #[test]
    fn an_undetermined_pmu_is_probed_both_ways() {
        let host = host("linux-6.12.107/neoverse-n1");
        let source = source("5.10.223__q10.0__neoverse-n1__virt10.0-smp1");
        let probe = |path: &str| probe(&host, path, &source);
        let lists_pmu = |resolved: &ResolvedDestination| {
            let vcpu = &resolved.destination.vcpus[0];
            vcpu.get(RegisterId::PMCR_EL0).is_some()
        };
        let probed = probe("kvm");
        assert_eq!(probed.alternatives.len(), 1);
        assert!(lists_pmu(&probed) && !lists_pmu(&probed.alternatives[0]));
        assert!(!probed.is_certain());
        let assumptions = probed.possible().filter_map(|it| it.assumption.as_ref());
        let arguments: Vec<_> = assumptions.map(|it| it.argument.as_str()).collect();
        assert_eq!(arguments, ["kvm/pmu", "kvm/none"]);
        assert_eq!(probed.open_feature(), Some(Features::PMU));
        for (path, has_pmu) in [("kvm/pmu", true), ("kvm/none", false)] {
            let probed = probe(path);
            assert!(probed.alternatives.is_empty() && probed.is_certain());
            assert_eq!(lists_pmu(&probed), has_pmu);
        }
    }

    #[test]
    fn probed_list_has_the_registers_of_a_stream() {
        let host = host("linux-6.12.107/neoverse-n1");
        let source = source(LINUX_6_12_STREAM);
        let probed = probe(&host, "kvm/pmu", &source);
        let vcpu = &probed.destination.vcpus[0];
        assert_eq!(vcpu.registers().len(), 258);
        assert!(
            vcpu.get(RegisterId::PIR_EL1)
                .is_some_and(|register| register.value.is_none())
        );
        let dfr0 = vcpu.get(RegisterId::ID_AA64DFR0_EL1).expect("it is listed");
        assert!(matches!(dfr0.accepted_values, AcceptedValues::Fields(_)));
        assert!(matches!(
            AtReset::from_value(dfr0.id, dfr0.value.clone().unwrap_or(Value::U64(0))),
            AtReset::Value(_)
        ));
    }

    /// A new VM of a host, as if the host's name were SOURCE.
    #[test]
    fn a_new_vm_of_a_recorded_host_is_probed_and_dry_run() {
        let features = Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION;
        let record = |name| {
            let history = HostIndex::built_in().expect("the checked-in history is valid");
            history.resolve(name).expect("a host").host.record()
        };
        let source = record("linux-6.12.107/max");
        let origin = source.destination(features, Program::QEMU);
        let origin = origin.expect("the features were recorded");
        let vm = source.new_vm(features, Program::QEMU);
        let vm = vm.expect("the features were recorded");
        let has_unknown_value = |vm: &Vm| {
            let mut registers = vm.vcpus[0].registers.iter();
            registers.any(|(_, value)| value.is_unknown())
        };
        assert!(has_unknown_value(&vm));
        let guest_features = GuestFeatures::determined(features);
        let host = host("linux-6.12.107/max");
        for (path, argument) in [
            ("kvm", "kvm/pmu,sve,ptrauth"),
            ("kvm/pmu,sve,ptrauth", "kvm/pmu,sve,ptrauth"),
        ] {
            let path = Path::new(path);
            let guest = ProbedGuest::from_new_vm(path, &origin, &vm, guest_features);
            let probed = probe_destination(&host, &guest, &LoaderArgs { loader: None });
            let mut probed = probed.unwrap_or_else(|_| panic!("the host has the features"));
            let assumption = probed.assumption.as_ref().expect("features are assumed");
            assert_eq!(assumption.argument, argument);
            let tolerances = Tolerances::default();
            let consents = ConsentArgs::default();
            let decided = decide_unknown(&host, &guest, &mut probed, &tolerances, &consents);
            assert!(decided.is_ok());
            let check = Check::new(&vm, &probed.destination, &tolerances, &Consents::default());
            assert_eq!(check.plan.outcome(), PlanOutcome::Ready);
            let findings = dry_run(&host, features, &check.plan).expect("a dry run");
            assert!(findings.is_confirmed(), "{:?}", findings.contradictions());
        }
    }
}
