//! After a load that was tried: do the guest's registers hold what the plan would leave there?
//!
//! What lives here is the comparison and the verdict that follows. Trying is for the adapters.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Action, Check, Decision, ExtensionAction, ExtensionDecision, Plan, VcpuSet, Verdict};
use crate::destination::kernel::{Kind, Scope};
use crate::register::{RegisterId, Value};
use crate::vm::{Content, Vcpu, Vm};

/// How a load that was tried ended.
#[derive(Clone, Copy, Debug)]
pub enum Trial<'a> {
    /// The loader refused the VM.
    Failed {
        /// Whether what refused it can be believed; not so if the trial lacked something that the VM has.
        believed: bool,
    },
    /// The loader took the VM, and this is what it holds there; `None` if that could not be read.
    Loaded(Option<&'a Vm>),
}

/// Something that after a load does not hold what the plan would leave there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Deviation {
    /// A register.
    Register {
        /// Which one.
        id: RegisterId,
        /// What the plan would leave there.
        expected: Value,
        /// What is there; `None` if the register is not.
        found: Option<Value>,
    },
    /// An extension.
    Extension {
        /// Its name.
        name: Cow<'static, str>,
        /// What the plan would leave there.
        expected: Content,
        /// What is there; `None` if the extension is not.
        found: Option<Content>,
    },
}

/// ISTATUS of the timers' control registers: whether the timer's condition is met, which time changes. Read-only (Arm ARM, CNTV_CTL_EL0).
const TIMER_STATUS: u64 = 1 << 2;

impl Plan {
    /// What deviates from the plan in a VM that was loaded, with the vCPUs that share each deviation.
    ///
    /// Whatever the plan ignores may hold anything, and time runs on. A vCPU that is not there deviates in everything.
    pub fn deviations(&self, loaded: &Vm) -> Vec<(VcpuSet, Deviation)> {
        let mut found: BTreeMap<Deviation, VcpuSet> = BTreeMap::new();
        let absent = Vcpu::default();
        for (number, plan) in self.vcpus.iter().enumerate() {
            let vcpu = loaded.vcpus.get(number).unwrap_or(&absent);
            let registers = plan.decisions.iter();
            let registers = registers.filter_map(|decision| decision.deviation(vcpu));
            let extensions = plan.extensions.iter();
            let extensions = extensions.filter_map(|decision| decision.deviation(vcpu));
            for deviation in registers.chain(extensions) {
                found.entry(deviation).or_default().insert(number);
            }
        }
        found
            .into_iter()
            .map(|(what, vcpus)| (vcpus, what))
            .collect()
    }
}

impl Decision {
    fn deviation(&self, vcpu: &Vcpu) -> Option<Deviation> {
        let expected = match &self.action {
            Action::Copy | Action::Refuse | Action::Undecided => self.source.as_ref(),
            Action::Set(value) | Action::WriteReset(value) => Some(value),
            Action::KeepAtReset => self.host.as_ref(),
            Action::Ignore => None,
        }?;
        if Kind::of(self.register).scope() == Scope::Running {
            return None;
        }
        // Only at the destination: what it holds is what the VM's 64-bit form brought.
        if self.source.is_none() && is_low_half_of_par(self.register) {
            return None;
        }
        let found = vcpu.registers.get(self.register);
        let same = match (found.and_then(Value::as_u64), expected.as_u64()) {
            (Some(found), Some(expected)) => (found ^ expected) & !runs_on(self.register) == 0,
            _ => found == Some(expected),
        };
        (!same).then(|| Deviation::Register {
            id: self.register,
            expected: expected.clone(),
            found: found.cloned(),
        })
    }
}

/// Whether this is AArch32's PAR in its 32-bit form, of either security state. QEMU 5.2 and 7.2 list it beside the 64-bit
/// form, whose low half it is; later ones do not.
fn is_low_half_of_par(id: RegisterId) -> bool {
    const PAR: RegisterId = RegisterId::aarch32(15, 0, 7, 4, 0);
    id.raw() | 1 << 29 == PAR.raw()
}

/// The bits that time changes.
fn runs_on(id: RegisterId) -> u64 {
    match id {
        RegisterId::TIMER_CTL | RegisterId::PTIMER_CTL => TIMER_STATUS,
        _ => 0,
    }
}

impl ExtensionDecision {
    fn deviation(&self, vcpu: &Vcpu) -> Option<Deviation> {
        let expected = match &self.action {
            ExtensionAction::Copy | ExtensionAction::Refuse | ExtensionAction::Undecided => {
                self.source.as_ref()
            }
            ExtensionAction::Set(content) => Some(content),
            ExtensionAction::KeepAtReset | ExtensionAction::Ignore => None,
        }?;
        let mut extensions = vcpu.extensions.iter();
        let found = extensions.find(|extension| extension.name == self.name);
        let found = found.map(|extension| &extension.content);
        (found != Some(expected)).then(|| Deviation::Extension {
            name: self.name.clone(),
            expected: expected.clone(),
            found: found.cloned(),
        })
    }
}

impl Check {
    /// The verdict on the VM that was tried: as it is, or as the plan writes it.
    ///
    /// What was seen outweighs what was concluded: a VM that its loader refuses is refused whatever the check says, and
    /// one that holds what the plan would leave there loads even where the check could not know.
    pub fn verdict_after(&self, trial: Trial<'_>) -> Verdict {
        match trial {
            Trial::Failed { believed: true } => Verdict::Refused,
            Trial::Failed { believed: false } => Verdict::Unknown,
            Trial::Loaded(Some(vm)) if self.plan.deviations(vm).is_empty() => Verdict::Loads,
            Trial::Loaded(Some(_)) => Verdict::Refused,
            // It was taken; only what became of it is not known.
            Trial::Loaded(None) if self.verdict == Verdict::Loads => Verdict::Loads,
            Trial::Loaded(None) => Verdict::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::destination::{Accelerator, Destination, HostVcpu, Loader, ValuesAre};
    use crate::plan::Consents;
    use crate::tolerance::Tolerances;
    use crate::vm::Registers;

    const KEPT: RegisterId = RegisterId::MPIDR_EL1;
    const TIMER: RegisterId = RegisterId::PTIMER_CTL;

    fn vm(registers: &[(RegisterId, u64)]) -> Vm {
        let pairs = registers
            .iter()
            .map(|(id, value)| (*id, Value::Small(*value)));
        Vm {
            vcpus: vec![Vcpu {
                registers: Registers::from_pairs(pairs).unwrap(),
                extensions: Vec::new(),
            }],
        }
    }

    fn check(vm: &Vm, host: &Vm) -> Check {
        let destination = Destination {
            name: "there".into(),
            accelerator: Some(Accelerator::Kvm),
            loader: Some(Loader::qemu(10, 0)),
            values: ValuesAre::AtReset,
            vcpus: host.vcpus.iter().map(HostVcpu::of).collect(),
            shape: None,
        };
        Check::new(
            vm,
            &destination,
            &Tolerances::default(),
            &Consents::default(),
        )
    }

    #[test]
    fn time_runs_on_and_nothing_else_does() {
        let sent = vm(&[(KEPT, 7), (TIMER, 1), (RegisterId::PTIMER_CNT, 100)]);
        let check = check(&sent, &sent);
        let later = vm(&[(KEPT, 7), (TIMER, 5), (RegisterId::PTIMER_CNT, 200)]);
        assert_eq!(check.plan.deviations(&later), []);
        assert_eq!(
            check.verdict_after(Trial::Loaded(Some(&later))),
            Verdict::Loads
        );
        let off = vm(&[(TIMER, 0), (RegisterId::PTIMER_CNT, 200)]);
        let expected = [
            Deviation::Register {
                id: TIMER,
                expected: Value::Small(1),
                found: Some(Value::Small(0)),
            },
            Deviation::Register {
                id: KEPT,
                expected: Value::Small(7),
                found: None,
            },
        ];
        let mut deviations = check.plan.deviations(&off);
        deviations.sort_by_key(|(_, what)| *what == expected[1]);
        assert_eq!(deviations, expected.map(|what| (VcpuSet::of(0), what)));
        assert_eq!(
            check.verdict_after(Trial::Loaded(Some(&off))),
            Verdict::Refused
        );
    }

    #[test]
    fn what_was_seen_outweighs_what_was_concluded() {
        let sent = vm(&[(KEPT, 7)]);
        let known = check(&sent, &sent);
        assert_eq!(known.verdict, Verdict::Loads);
        let failed = |believed| known.verdict_after(Trial::Failed { believed });
        assert_eq!(failed(true), Verdict::Refused);
        assert_eq!(failed(false), Verdict::Unknown);
        assert_eq!(known.verdict_after(Trial::Loaded(None)), Verdict::Loads);

        let elsewhere = check(&sent, &vm(&[(TIMER, 0)]));
        assert_eq!(elsewhere.verdict, Verdict::Refused);
        assert_eq!(
            elsewhere.verdict_after(Trial::Loaded(None)),
            Verdict::Unknown
        );
        assert_eq!(
            elsewhere.verdict_after(Trial::Loaded(Some(&sent))),
            Verdict::Refused
        );
    }
}
