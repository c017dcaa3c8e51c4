//! This machine's KVM as DESTINATION: asked what it gives to a guest like the one in SOURCE, and had to try a plan.
//!
//! | written | names |
//! |---|---|
//! | `kvm` | this machine's KVM, for a guest with the features that SOURCE's registers show |
//! | `kvm/FEATURES` | the same, for a guest with just these |
//!
//! A file of that name wins. All of it works on any [`Host`], so that it is tested with a recorded one.

use std::borrow::Cow;
use std::path::Path;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, DestinationVcpu, Features};
use cpreg::plan::{Plan, PlanOutcome};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_kvm::{Host, Kvm};

use super::resolved_destination::{ResolvedDestination, parse_loader};
use crate::arguments::{ConsentArgs, LoaderArgs};
use crate::consents;
use crate::failure::Failure;
use crate::input::Input;
use cpreg_report::dry_run::{DryRun, DryRunFindings, ReadBackMismatch, RefusedWrite};
use cpreg_report::value::ValueFormat;

/// What names it.
const NAME: &str = "kvm";

/// What is known from it, in words for reports.
const PROVENANCE: &str = "this machine's KVM, asked: what it lists, holds and takes is proven";

/// Whether a path names it: no file has that name. A folder may, as nothing is ever asked of one.
pub(crate) fn is_kvm_path(path: &Path) -> bool {
    if path == Path::new(NAME) {
        return path.is_dir() || !path.exists();
    }
    parse_features(path).is_some() && !path.exists()
}

/// The features in the name.
fn parse_features(path: &Path) -> Option<Features> {
    let (first, names) = path.to_str()?.split_once('/')?;
    Features::from_names(names).filter(|_| first == NAME)
}

/// Opens it.
pub(crate) fn open() -> Result<Kvm, Failure> {
    Kvm::open().map_err(|error| Failure::new("cannot ask this machine's KVM").with_kvm_cause(error))
}

/// What it is for the guest in SOURCE; `path` is how DESTINATION was written.
pub(crate) fn probe_destination(
    host: &impl Host,
    path: &Path,
    source: &Input,
    going: &LoaderArgs,
) -> Result<ProbedDestination, Failure> {
    let features = features(path, source)?;
    let stream = source.stream()?;
    let vcpus = stream.shape().vcpu_count;
    let identity = host.identity();
    let name = format!("this machine's KVM, Linux {}, {features}", identity.release);
    let asked = cpreg_kvm::probe::probe_destination(host, features, vcpus, &name);
    let mut destination = asked.map_err(|error| {
        Failure::new(format!(
            "this machine's KVM gives no such guest as {} has",
            source.name()
        ))
        .with_cause(error)
        .with_hint("its features were recognised from its registers; kvm/FEATURES names others")
    })?;
    // The list as a stream of QEMU's has it: core registers and vectors are elsewhere there.
    for vcpu in &mut destination.vcpus {
        let kept = vcpu.registers().iter().cloned();
        let kept = kept.filter(|register| Program::QEMU.has_in_list(register.id));
        *vcpu = DestinationVcpu::new(kept.collect::<Vec<_>>(), vcpu.extensions.clone());
    }
    destination.shape = Some(stream.shape());
    if let Some(loader) = parse_loader(going)? {
        destination.loader = Some(loader);
    }
    let recorded = ProfileOrigin {
        accelerator: Accelerator::Kvm.name().to_owned(),
        cpu: identity.cpu_and_mode(),
        kernel: identity.release,
        ..ProfileOrigin::default()
    };
    Ok(ProbedDestination {
        features,
        resolved: ResolvedDestination {
            destination,
            provenance: Cow::Borrowed(PROVENANCE),
            origin: Box::new(recorded),
        },
    })
}

/// Has the host try what it was asked about and the plan for the guest in SOURCE could not know.
pub(crate) fn decide_unknown(
    host: &impl Host,
    asked: &mut ProbedDestination,
    source: &Input,
    tolerances: &Tolerances,
    consenting: &ConsentArgs,
) -> Result<(), Failure> {
    let vm = vm(source)?;
    let destination = &mut asked.resolved.destination;
    let naming = ValueFormat::new(destination.accelerator, false).naming;
    let consents = consents::read(consenting, naming)?;
    cpreg_kvm::write_probe::decide_unknown(
        host,
        asked.features,
        &vm,
        destination,
        tolerances,
        &consents,
    )
    .map(drop)
    .map_err(|error| Failure::new("cannot try values on this machine's KVM").with_cause(error))
}

fn vm(source: &Input) -> Result<Vm, Failure> {
    source.stream()?.vm().map_err(|error| {
        Failure::new(format!("cannot use {}", source.path.display())).with_cause(error)
    })
}

/// What came of asking.
pub(crate) struct ProbedDestination {
    pub(crate) features: Features,
    pub(crate) resolved: ResolvedDestination,
}

/// The features in the name, else those of the guest.
fn features(path: &Path, source: &Input) -> Result<Features, Failure> {
    if let Some(features) = parse_features(path) {
        return Ok(features);
    }
    let stream = source.stream()?;
    let vm = vm(source)?;
    if let Some(here) = stream.accelerator()
        && here != Accelerator::Kvm
    {
        return Err(Failure::new(format!(
            "{} ran under {here}, and {NAME} is a destination under KVM",
            source.name()
        ))
        .with_hint("a VM moves only between hosts that execute it the same way"));
    }
    let Some(vcpu) = vm.vcpus.first() else {
        return Ok(Features::NONE);
    };
    let recognised = GuestFeatures::from_registers(&vcpu.registers);
    if recognised.undetermined.is_empty() {
        return Ok(recognised.features);
    }
    Err(super::hosts::ambiguous_features(source, NAME, recognised))
}

/// Has the host load the plan into a VM that is thrown away; `None` if the plan is not ready, which no VM need try.
///
/// What is no register (QEMU's subsections) is the VMM's own, and KVM is not asked about it.
pub(crate) fn dry_run(host: &impl Host, features: Features, plan: &Plan) -> Option<DryRunFindings> {
    if plan.outcome() != PlanOutcome::Ready {
        return None;
    }
    let mut registers = plan.clone();
    for vcpu in &mut registers.vcpus {
        vcpu.extensions.clear();
    }
    let result = cpreg_kvm::dry_run(host, features, &registers);
    Some(DryRunFindings {
        features,
        result: result
            .map(to_report_dry_run)
            .map_err(|error| error.to_string_with_hint()),
    })
}

/// What KVM did, as a report has it.
fn to_report_dry_run(attempt: cpreg_kvm::DryRun) -> DryRun {
    let refused = attempt.refused_writes.into_iter().map(|it| RefusedWrite {
        vcpu: it.vcpu,
        text: it.to_string(),
        errno: it.errno.0,
        meaning: it.meaning(),
        register: it.register,
        written_value: it.written_value,
        actual_value: it.current_value.ok(),
    });
    let differences = attempt.summary.mismatches.into_iter();
    let differences = differences.map(|it| ReadBackMismatch {
        vcpu: it.vcpu,
        text: it.to_string(),
        register: it.register,
        written_value: it.written_value,
        actual_value: it.current_value,
    });
    DryRun {
        written_registers: attempt.summary.written_registers,
        refused_writes: refused.collect(),
        mismatches: differences.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cpreg::destination::AcceptedValues;
    use cpreg::plan::{Check, Consents};
    use cpreg::register::{RegisterId, Value};
    use cpreg_hosts::HostIndex;
    use cpreg_hosts::record::AtReset;
    use cpreg_kvm::RecordedHost;

    use super::*;
    use crate::printer::Printer;

    fn source(name: &str) -> Input {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/streams/kvm");
        let path: PathBuf = folder.join(format!("{name}.stream.xz"));
        Input::open(&path, false, &Printer::default())
            .unwrap_or_else(|_| panic!("{name} is a recorded stream"))
    }

    fn host(name: &str) -> RecordedHost {
        let history = HostIndex::built_in().expect("the checked-in history is one");
        RecordedHost::new(history.resolve(name).expect("a host").host.record())
    }

    /// The outcome of planning, and what came of trying.
    fn plan_and_dry_run(
        host: &RecordedHost,
        stream: &str,
    ) -> (PlanOutcome, Option<DryRunFindings>) {
        let source = source(stream);
        let going = LoaderArgs { loader: None };
        let asked = probe_destination(host, Path::new("kvm"), &source, &going);
        let asked = asked.unwrap_or_else(|_| panic!("{stream} has features that the host has"));
        let vm = source.stream().ok().and_then(|stream| stream.vm().ok());
        let vm = vm.expect("it has a VM");
        let check = Check::new(
            &vm,
            &asked.resolved.destination,
            &Tolerances::default(),
            &Consents::default(),
        );
        let attempted = dry_run(host, asked.features, &check.plan);
        (check.plan.outcome(), attempted)
    }

    const LINUX_6_12_STREAM: &str = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1";

    #[test]
    fn only_this_machine_is_called_kvm() {
        for (path, is) in [
            ("kvm", true),
            ("kvm/pmu", true),
            ("kvm.json", false),
            ("kvm/6.12", false),
            ("a/kvm", false),
        ] {
            assert_eq!(is_kvm_path(Path::new(path)), is, "{path}");
        }
    }

    #[test]
    fn a_plan_that_is_ready_is_tried() {
        let (outcome, attempted) =
            plan_and_dry_run(&host("linux-6.16.12/neoverse-n1"), LINUX_6_12_STREAM);
        assert_eq!(outcome, PlanOutcome::Ready);
        let attempted = attempted.expect("it was tried");
        assert_eq!(
            attempted
                .result
                .as_ref()
                .map(|attempt| attempt.written_registers),
            Ok(255)
        );
        assert!(attempted.is_confirmed(), "{:?}", attempted.contradictions());
    }

    /// PSCI 1.3 into Linux 6.12.
    #[test]
    fn a_plan_that_is_not_ready_is_not_tried() {
        let stream = "6.16.12__q10.0__neoverse-n1__virt10.0-smp1";
        let (outcome, attempted) = plan_and_dry_run(&host("linux-6.12.107/neoverse-n1"), stream);
        assert_ne!(outcome, PlanOutcome::Ready);
        assert!(attempted.is_none());
    }

    /// A kernel that refuses a value of a kind that all take.
    #[test]
    fn what_kvm_refuses_against_the_plan_is_a_disagreement() {
        let fault = cpreg_kvm::recorded::Fault::Write(40, cpreg_kvm::Errno::EINVAL);
        let host = host("linux-6.16.12/neoverse-n1").with_fault(fault);
        let (outcome, attempted) = plan_and_dry_run(&host, LINUX_6_12_STREAM);
        assert_eq!(outcome, PlanOutcome::Ready);
        let attempted = attempted.expect("it was tried");
        assert!(!attempted.is_consistent_with_plan());
        assert_eq!(attempted.contradictions().len(), 1);
    }

    #[test]
    fn the_list_is_that_of_the_stream() {
        let host = host("linux-6.12.107/neoverse-n1");
        let source = source(LINUX_6_12_STREAM);
        let asked = probe_destination(
            &host,
            Path::new("kvm/pmu"),
            &source,
            &LoaderArgs { loader: None },
        );
        let asked = asked.unwrap_or_else(|_| panic!("the host was recorded with a PMU"));
        let vcpu = &asked.resolved.destination.vcpus[0];
        assert_eq!(vcpu.registers().len(), 258);
        assert!(
            vcpu.get(RegisterId::PIR_EL1)
                .is_some_and(|it| it.value.is_none())
        );
        let dfr0 = vcpu.get(RegisterId::ID_AA64DFR0_EL1).expect("it is listed");
        assert!(matches!(dfr0.accepted_values, AcceptedValues::Writable(_)));
        assert!(matches!(
            AtReset::from_value(dfr0.id, dfr0.value.clone().unwrap_or(Value::U64(0))),
            AtReset::Value(_)
        ));
    }
}
