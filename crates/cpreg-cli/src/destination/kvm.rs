//! This machine's KVM as DEST: asked what it gives to a guest like the one in SOURCE, and had to try a plan.
//!
//! | written | names |
//! |---|---|
//! | `kvm` | this machine's KVM, for a guest with the features that SOURCE's registers show |
//! | `kvm/FEATURES` | the same, for a guest with just these |
//!
//! A file of that name wins. All of it works on any [`Host`], so that it is tested with a recorded one.

use std::borrow::Cow;
use std::path::Path;

use cpreg::destination::features::Recognised;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Features, HostVcpu};
use cpreg::plan::{Outcome, Plan};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::profile::Recorded;
use cpreg_kvm::{Host, Kvm};

use super::named::{Named, loader};
use crate::arguments::{Consenting, Going};
use crate::consents;
use crate::failure::Failure;
use crate::input::Input;
use cpreg_report::attempt::{Attempt, Attempted, Difference, Refused};
use cpreg_report::value::Printing;

/// What names it.
const NAME: &str = "kvm";

/// What is known from it, in words for reports.
const EVIDENCE: &str = "this machine's KVM, asked: what it lists, holds and takes is proven";

/// Whether a path names it: no file has that name. A folder may, as nothing is ever asked of one.
pub(crate) fn is_named(path: &Path) -> bool {
    if path == Path::new(NAME) {
        return path.is_dir() || !path.exists();
    }
    features_in(path).is_some() && !path.exists()
}

/// The features in the name.
fn features_in(path: &Path) -> Option<Features> {
    let (first, names) = path.to_str()?.split_once('/')?;
    Features::from_names(names).filter(|_| first == NAME)
}

/// Opens it.
pub(crate) fn open() -> Result<Kvm, Failure> {
    Kvm::open().map_err(|error| Failure::new("cannot ask this machine's KVM").because_of_kvm(error))
}

/// What it is for the guest in SOURCE; `path` is how DEST was written.
pub(crate) fn ask(
    host: &impl Host,
    path: &Path,
    source: &Input,
    going: &Going,
) -> Result<Asked, Failure> {
    let features = features(path, source)?;
    let stream = source.stream()?;
    let vcpus = stream.shape().vcpus;
    let identity = host.identity();
    let name = format!("this machine's KVM, Linux {}, {features}", identity.release);
    let asked = cpreg_kvm::probe::destination(host, features, vcpus, &name);
    let mut destination = asked.map_err(|error| {
        Failure::new(format!(
            "this machine's KVM gives no such guest as {} has",
            source.name()
        ))
        .because(error)
        .hint("its features were recognised from its registers; kvm/FEATURES names others")
    })?;
    // The list as a stream of QEMU's has it: core registers and vectors are elsewhere there.
    for vcpu in &mut destination.vcpus {
        let kept = vcpu.registers().iter().cloned();
        let kept = kept.filter(|register| Program::QEMU.keeps_in_list(register.id));
        *vcpu = HostVcpu::new(kept.collect::<Vec<_>>(), vcpu.extensions.clone());
    }
    destination.shape = Some(stream.shape());
    if let Some(loader) = loader(going)? {
        destination.loader = Some(loader);
    }
    let recorded = Recorded {
        accelerator: Accelerator::Kvm.name().to_owned(),
        cpu: identity.cpu_and_mode(),
        kernel: identity.release,
        ..Recorded::default()
    };
    Ok(Asked {
        features,
        named: Named {
            destination,
            evidence: Cow::Borrowed(EVIDENCE),
            recorded: Box::new(recorded),
        },
    })
}

/// Has the host try what it was asked about and the plan for the guest in SOURCE could not know.
pub(crate) fn teach(
    host: &impl Host,
    asked: &mut Asked,
    source: &Input,
    tolerances: &Tolerances,
    consenting: &Consenting,
) -> Result<(), Failure> {
    let vm = vm(source)?;
    let destination = &mut asked.named.destination;
    let naming = Printing::new(destination.accelerator, false).naming;
    let consents = consents::read(consenting, naming)?;
    cpreg_kvm::ask::teach(
        host,
        asked.features,
        &vm,
        destination,
        tolerances,
        &consents,
    )
    .map(drop)
    .map_err(|error| Failure::new("cannot try values on this machine's KVM").because(error))
}

fn vm(source: &Input) -> Result<Vm, Failure> {
    source.stream()?.vm().map_err(|error| {
        Failure::new(format!("cannot use {}", source.path.display())).because(error)
    })
}

/// What came of asking.
pub(crate) struct Asked {
    pub(crate) features: Features,
    pub(crate) named: Named,
}

/// The features in the name, else those of the guest.
fn features(path: &Path, source: &Input) -> Result<Features, Failure> {
    if let Some(features) = features_in(path) {
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
        .hint("a VM moves only between hosts that execute it the same way"));
    }
    let Some(vcpu) = vm.vcpus.first() else {
        return Ok(Features::NONE);
    };
    let recognised = Recognised::of(&vcpu.registers);
    if recognised.open.is_empty() {
        return Ok(recognised.features);
    }
    Err(super::hosts::open_features(source, NAME, recognised))
}

/// Has the host load the plan into a VM that is thrown away; `None` if the plan is not ready, which no VM need try.
///
/// What is no register (QEMU's subsections) is the VMM's own, and KVM is not asked about it.
pub(crate) fn attempt(host: &impl Host, features: Features, plan: &Plan) -> Option<Attempted> {
    if plan.outcome() != Outcome::Ready {
        return None;
    }
    let mut registers = plan.clone();
    for vcpu in &mut registers.vcpus {
        vcpu.extensions.clear();
    }
    let result = cpreg_kvm::attempt(host, features, &registers);
    Some(Attempted {
        features,
        result: result.map(attempted).map_err(|error| error.with_hint()),
    })
}

/// What KVM did, as a report has it.
fn attempted(attempt: cpreg_kvm::Attempt) -> Attempt {
    let refused = attempt.refused.into_iter().map(|it| Refused {
        vcpu: it.vcpu,
        text: it.to_string(),
        errno: it.errno.0,
        meaning: it.meaning(),
        register: it.register,
        wrote: it.wrote,
        holds: it.holds.ok(),
    });
    let differences = attempt.loaded.differences.into_iter();
    let differences = differences.map(|it| Difference {
        vcpu: it.vcpu,
        text: it.to_string(),
        register: it.register,
        wrote: it.wrote,
        holds: it.holds,
    });
    Attempt {
        written: attempt.loaded.written,
        refused: refused.collect(),
        differences: differences.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cpreg::destination::Accepts;
    use cpreg::plan::{Check, Consents};
    use cpreg::register::{RegisterId, Value};
    use cpreg_hosts::History;
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
        let history = History::built_in().expect("the checked-in history is one");
        RecordedHost::new(history.named(name).expect("a host").host.record())
    }

    /// The outcome of planning, and what came of trying.
    fn tried(host: &RecordedHost, stream: &str) -> (Outcome, Option<Attempted>) {
        let source = source(stream);
        let going = Going { vmm: None };
        let asked = ask(host, Path::new("kvm"), &source, &going);
        let asked = asked.unwrap_or_else(|_| panic!("{stream} has features that the host has"));
        let vm = source.stream().ok().and_then(|stream| stream.vm().ok());
        let vm = vm.expect("it has a VM");
        let check = Check::new(
            &vm,
            &asked.named.destination,
            &Tolerances::default(),
            &Consents::default(),
        );
        let attempted = attempt(host, asked.features, &check.plan);
        (check.plan.outcome(), attempted)
    }

    const ON_6_12: &str = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1";

    #[test]
    fn only_this_machine_is_called_kvm() {
        for (path, is) in [
            ("kvm", true),
            ("kvm/pmu", true),
            ("kvm.json", false),
            ("kvm/6.12", false),
            ("a/kvm", false),
        ] {
            assert_eq!(is_named(Path::new(path)), is, "{path}");
        }
    }

    #[test]
    fn a_plan_that_is_ready_is_tried() {
        let (outcome, attempted) = tried(&host("linux-6.16.12/neoverse-n1"), ON_6_12);
        assert_eq!(outcome, Outcome::Ready);
        let attempted = attempted.expect("it was tried");
        assert_eq!(
            attempted.result.as_ref().map(|attempt| attempt.written),
            Ok(255)
        );
        assert!(attempted.succeeded(), "{:?}", attempted.disagreements());
    }

    /// PSCI 1.3 into Linux 6.12.
    #[test]
    fn a_plan_that_is_not_ready_is_not_tried() {
        let stream = "6.16.12__q10.0__neoverse-n1__virt10.0-smp1";
        let (outcome, attempted) = tried(&host("linux-6.12.107/neoverse-n1"), stream);
        assert_ne!(outcome, Outcome::Ready);
        assert!(attempted.is_none());
    }

    /// A kernel that refuses a value of a kind that all take.
    #[test]
    fn what_kvm_refuses_against_the_plan_is_a_disagreement() {
        let fault = cpreg_kvm::recorded::Fault::Write(40, cpreg_kvm::Errno::EINVAL);
        let host = host("linux-6.16.12/neoverse-n1").with_fault(fault);
        let (outcome, attempted) = tried(&host, ON_6_12);
        assert_eq!(outcome, Outcome::Ready);
        let attempted = attempted.expect("it was tried");
        assert!(!attempted.agrees());
        assert_eq!(attempted.disagreements().len(), 1);
    }

    #[test]
    fn the_list_is_that_of_the_stream() {
        let host = host("linux-6.12.107/neoverse-n1");
        let source = source(ON_6_12);
        let asked = ask(&host, Path::new("kvm/pmu"), &source, &Going { vmm: None });
        let asked = asked.unwrap_or_else(|_| panic!("the host was recorded with a PMU"));
        let vcpu = &asked.named.destination.vcpus[0];
        assert_eq!(vcpu.registers().len(), 258);
        assert!(
            vcpu.get(RegisterId::PIR_EL1)
                .is_some_and(|it| it.value.is_none())
        );
        let dfr0 = vcpu.get(RegisterId::ID_AA64DFR0_EL1).expect("it is listed");
        assert!(matches!(dfr0.accepts, Accepts::Writable(_)));
        assert!(matches!(
            AtReset::of(dfr0.id, dfr0.value.clone().unwrap_or(Value::Small(0))),
            AtReset::Value(_)
        ));
    }
}
