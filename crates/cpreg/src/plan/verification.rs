//! After a load that was tried: do the guest's registers hold what the plan would leave there?
//!
//! What lives here is the comparison and the verdict that follows. Trying is for the adapters.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Action, Check, Decision, ExtensionAction, ExtensionDecision, Plan, VcpuSet, Verdict};
use crate::destination::Confidence;
use crate::destination::kernel::{PMCR_IDENTITY_MASK, RegisterKind, Scope, time_dependent_bits};
use crate::register::{RegisterId, Value};
use crate::tolerance::condition::RESET_POISON;
use crate::vm::{Content, Vcpu, Vm};

/// How a load that was tried ended.
#[derive(Clone, Copy, Debug)]
pub enum LoadResult<'a> {
    /// The loader refused the VM.
    Failed {
        /// Whether what refused it can be believed; not so if the trial lacked something that the VM has.
        is_reliable: bool,
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
        actual: Option<Value>,
    },
    /// An extension.
    Extension {
        /// Its name.
        name: Cow<'static, str>,
        /// What the plan would leave there.
        expected: Content,
        /// What is there; `None` if the extension is not.
        actual: Option<Content>,
    },
}

impl Plan {
    /// The very host took every write of this plan, in its order, and holds what was read again: what was inferred about its values is
    /// proven. It is not for a loader with an order of its own.
    pub fn mark_proven(&mut self) {
        for decision in self.vcpus.iter_mut().flat_map(|vcpu| &mut vcpu.decisions) {
            let is_written = matches!(
                decision.action,
                Action::Copy | Action::Set(_) | Action::WriteReset(_)
            );
            if is_written {
                decision.confidence = Confidence::Proven;
            }
        }
    }

    /// What deviates from the plan in a VM that was loaded, with the vCPUs that share each deviation.
    ///
    /// Whatever the plan ignores may hold anything, and time runs on. A vCPU that is not there deviates in everything.
    pub fn deviations(&self, loaded: &Vm) -> Vec<(VcpuSet, Deviation)> {
        let mut found: BTreeMap<Deviation, VcpuSet> = BTreeMap::new();
        let absent = Vcpu::default();
        for (number, plan) in self.vcpus.iter().enumerate() {
            let vcpu = loaded.vcpus.get(number).unwrap_or(&absent);
            let monitors = PmuState::new(&plan.decisions, vcpu);
            let registers = plan.decisions.iter();
            let registers = registers.filter_map(|decision| decision.deviation(vcpu, &monitors));
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
    /// What the plan would leave there; `None` if anything may be there.
    fn expected_value(&self) -> Option<&Value> {
        match &self.action {
            Action::Copy | Action::Refuse | Action::Undecided => self.source.as_ref(),
            Action::Set(value) | Action::WriteReset(value) => Some(value),
            Action::KeepAtReset => self.destination.as_ref(),
            Action::Ignore => None,
        }
    }

    fn deviation(&self, vcpu: &Vcpu, monitors: &PmuState) -> Option<Deviation> {
        let expected = self.expected_value()?;
        if RegisterKind::from_id(self.register).scope() == Scope::VmCounter {
            return None;
        }
        // Only at the destination: what it holds is what the VM's 64-bit form brought.
        if self.source.is_none() && is_low_half_of_par(self.register) {
            return None;
        }
        let found = vcpu.registers.get(self.register);
        let same = match (found.and_then(Value::as_u64), expected.as_u64()) {
            (Some(found), Some(expected)) => {
                (found ^ expected) & !time_dependent_bits(self.register) == 0
                    || monitors.is_equivalent(self.register, expected, found)
            }
            _ => found == Some(expected),
        };
        (!same).then(|| Deviation::Register {
            id: self.register,
            expected: expected.clone(),
            actual: found.cloned(),
        })
    }
}

/// Whether this is AArch32's PAR in its 32-bit form, of either security state. QEMU 5.2 and 7.2 list it beside the 64-bit
/// form, whose low half it is; later ones do not.
fn is_low_half_of_par(id: RegisterId) -> bool {
    const PAR: RegisterId = RegisterId::aarch32(15, 0, 7, 4, 0);
    id.raw() | 1 << 29 == PAR.raw()
}

/// What tells which bits of the performance monitors a guest has, and whether it has used them.
///
/// 6.12 and later cut what they are given to those bits; 5.10 holds and gives all 64, mostly of KVM's reset
/// poison (recorded, [`RESET_POISON`]).
struct PmuState {
    /// The bits of PMCNTENSET_EL0 and its like: the cycle counter's, and one for each event counter (Arm ARM, PMCR_EL0.N).
    counter_mask: u64,
    /// Whether event counters have 64 bits (FEAT_PMUv3p5).
    has_64bit_counters: bool,
    /// Whether the guest's monitors are off as a whole (PMCR_EL0.E).
    is_off: bool,
    /// The counters that run, by their bits in PMCNTENSET_EL0: what they hold changes, even in a VM that is paused (5.10, seen).
    running_counters: u64,
}

impl PmuState {
    fn new(decisions: &[Decision], vcpu: &Vcpu) -> Self {
        let planned = |id| {
            let mut decisions = decisions.iter();
            let decision = decisions.find(|decision| decision.register == id)?;
            decision.expected_value()?.as_u64()
        };
        let off = planned(RegisterId::PMCR_EL0).is_some_and(|pmcr| pmcr & 1 == 0);
        let enabled = planned(RegisterId::PMCNTENSET_EL0).unwrap_or(0);
        let there = |id| vcpu.registers.get_u64(id);
        let number = there(RegisterId::PMCR_EL0).map_or(31, |pmcr| pmcr >> 11 & 0x1f);
        let version = there(RegisterId::ID_AA64DFR0_EL1).map_or(0, |dfr0| dfr0 >> 8 & 0xf);
        Self {
            counter_mask: 1 << 31 | ((1 << number) - 1),
            // 0xf is a design that is not Arm's.
            has_64bit_counters: (6..0xf).contains(&version),
            is_off: off,
            running_counters: if off { 0 } else { enabled },
        }
    }

    /// Whether no guest can tell what was planned from what is there.
    fn is_equivalent(&self, id: RegisterId, expected: u64, found: u64) -> bool {
        let differ = expected ^ found;
        match id {
            // Another view of the register whose name has SET in it.
            RegisterId::PMCNTENCLR_EL0 | RegisterId::PMINTENCLR_EL1 | RegisterId::PMOVSCLR_EL0 => {
                true
            }
            // Write-only.
            RegisterId::PMSWINC_EL0 => true,
            RegisterId::PMCNTENSET_EL0 | RegisterId::PMINTENSET_EL1 | RegisterId::PMOVSSET_EL0 => {
                let never_written = (expected ^ RESET_POISON) & self.counter_mask == 0;
                differ & self.counter_mask == 0 || self.is_off && never_written
            }
            // IMP and IDCODE: zero tells the guest to look at MIDR_EL1, which has the same. 5.10 and 6.1 have the CPU's, 6.12 and later zero (recorded).
            RegisterId::PMCR_EL0 => {
                found & PMCR_IDENTITY_MASK == 0 && differ & !PMCR_IDENTITY_MASK == 0
            }
            RegisterId::PMCCNTR_EL0 => self.running_counters & 1 << 31 != 0,
            _ => event_counter(id).is_some_and(|number| {
                self.running_counters & 1 << number != 0
                    || !self.has_64bit_counters && differ & 0xffff_ffff == 0
            }),
        }
    }
}

/// The number of an event counter, `PMEVCNTR<n>_EL0`: 0 to 30.
fn event_counter(id: RegisterId) -> Option<u64> {
    const FIRST: RegisterId = RegisterId::sysreg(3, 3, 14, 8, 0);
    let number = id.raw().checked_sub(FIRST.raw());
    number.filter(|number| *number < 31)
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
            actual: found.cloned(),
        })
    }
}

impl Check {
    /// The verdict on the VM that was tried: as it is, or as the plan writes it.
    ///
    /// What was seen outweighs what was concluded: a VM that its loader refuses is refused whatever the check says, and
    /// one that holds what the plan would leave there loads even where the check could not know.
    pub fn verdict_after(&self, trial: LoadResult<'_>) -> Verdict {
        match trial {
            LoadResult::Failed { is_reliable: true } => Verdict::Refused,
            LoadResult::Failed { is_reliable: false } => Verdict::Unknown,
            LoadResult::Loaded(Some(vm)) if self.plan.deviations(vm).is_empty() => Verdict::Loads,
            LoadResult::Loaded(Some(_)) => Verdict::Refused,
            // It was taken; only what became of it is not known.
            LoadResult::Loaded(None) if self.verdict == Verdict::Loads => Verdict::Loads,
            LoadResult::Loaded(None) => Verdict::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::destination::{Accelerator, Destination, DestinationVcpu, Loader, ValueOrigin};
    use crate::plan::Consents;
    use crate::tolerance::Tolerances;
    use crate::vm::Registers;

    const KEPT: RegisterId = RegisterId::MPIDR_EL1;
    const TIMER: RegisterId = RegisterId::PTIMER_CTL;

    fn vm(registers: &[(RegisterId, u64)]) -> Vm {
        let pairs = registers
            .iter()
            .map(|(id, value)| (*id, Value::U64(*value)));
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
            value_origin: ValueOrigin::Reset,
            vcpus: host.vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
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
            check.verdict_after(LoadResult::Loaded(Some(&later))),
            Verdict::Loads
        );
        let off = vm(&[(TIMER, 0), (RegisterId::PTIMER_CNT, 200)]);
        let expected = [
            Deviation::Register {
                id: TIMER,
                expected: Value::U64(1),
                actual: Some(Value::U64(0)),
            },
            Deviation::Register {
                id: KEPT,
                expected: Value::U64(7),
                actual: None,
            },
        ];
        let mut deviations = check.plan.deviations(&off);
        deviations.sort_by_key(|(_, what)| *what == expected[1]);
        assert_eq!(deviations, expected.map(|what| (VcpuSet::single(0), what)));
        assert_eq!(
            check.verdict_after(LoadResult::Loaded(Some(&off))),
            Verdict::Refused
        );
    }

    /// PMCR_EL0 of a host with six event counters.
    const PMCR: u64 = 6 << 11;

    /// What deviates if `sent` was sent and `there` is there, both beside PMCR_EL0.
    fn monitors(
        pmcr: (u64, u64),
        sent: &[(RegisterId, u64)],
        there: &[(RegisterId, u64)],
    ) -> Vec<RegisterId> {
        let with = |pmcr, registers: &[_]| {
            let mut all = vec![(RegisterId::PMCR_EL0, pmcr)];
            all.extend_from_slice(registers);
            vm(&all)
        };
        let sent = with(pmcr.0, sent);
        let deviations = check(&sent, &sent).plan.deviations(&with(pmcr.1, there));
        let ids = deviations.into_iter().filter_map(|(_, what)| match what {
            Deviation::Register { id, .. } => Some(id),
            Deviation::Extension { .. } => None,
        });
        ids.collect()
    }

    #[test]
    fn poison_and_bits_that_no_guest_has_may_go() {
        // 5.10 to 6.12 and 6.16, as seen.
        let event_counter = RegisterId::sysreg(3, 3, 14, 8, 0);
        let sent = [
            RegisterId::PMINTENSET_EL1,
            RegisterId::PMINTENCLR_EL1,
            RegisterId::PMCNTENSET_EL0,
            RegisterId::PMOVSSET_EL0,
            RegisterId::PMSWINC_EL0,
            event_counter,
        ]
        .map(|id| (id, RESET_POISON));
        for enabled in [0, 0x8000_001e] {
            let there = [enabled, enabled, enabled, 0x8000_001e, 0, 0xdbad_c0de];
            let there: Vec<_> = sent.iter().zip(there).map(|(it, is)| (it.0, is)).collect();
            let pmcr = (0x410c_30ac, 0x30ac);
            assert_eq!(monitors(pmcr, &sent, &there), []);
        }
        // 6.16 to 6.12.
        let sent = [(RegisterId::PMCNTENSET_EL0, 0x8000_001e)];
        let there = [(RegisterId::PMCNTENSET_EL0, 0)];
        assert_eq!(monitors((PMCR, PMCR), &sent, &there), []);
        // The same in a guest that has switched its monitors on.
        let on = (PMCR | 1, PMCR | 1);
        assert_eq!(monitors(on, &sent, &there), [sent[0].0]);
        // A counter's upper half, where it has one.
        let dfr0 = (RegisterId::ID_AA64DFR0_EL1, 6 << 8);
        let sent = [dfr0, (event_counter, 1 << 32)];
        let there = [dfr0, (event_counter, 0)];
        assert_eq!(monitors(on, &sent, &there), [event_counter]);
    }

    #[test]
    fn counters_that_no_longer_count_are_a_loss() {
        // 6.12 to 6.12, as seen: writing the CLR register clears what was written to the SET register.
        let set = [RegisterId::PMINTENSET_EL1, RegisterId::PMCNTENSET_EL0];
        let sent = set.map(|id| (id, 0x8000_0001));
        let there = set.map(|id| (id, 0));
        let mut expected = set.to_vec();
        expected.sort();
        for pmcr in [PMCR, PMCR | 1] {
            assert_eq!(monitors((pmcr, pmcr), &sent, &there), expected);
        }
        let pmcr = (PMCR | 1, PMCR);
        assert_eq!(monitors(pmcr, &[], &[]), [RegisterId::PMCR_EL0]);
        let whose = (PMCR, 0x410c << 16 | PMCR);
        assert_eq!(monitors(whose, &[], &[]), [RegisterId::PMCR_EL0]);
    }

    #[test]
    fn counters_run_on_while_they_count() {
        let second = RegisterId::sysreg(3, 3, 14, 8, 1);
        let both = [RegisterId::PMCCNTR_EL0, second];
        let sent = |enabled| {
            let enabled = (RegisterId::PMCNTENSET_EL0, enabled);
            [enabled, (both[0], 5), (both[1], 5)]
        };
        let there = |enabled| {
            let enabled = (RegisterId::PMCNTENSET_EL0, enabled);
            [enabled, (both[0], 9), (both[1], 9)]
        };
        let deviate = |pmcr, enabled| monitors((pmcr, pmcr), &sent(enabled), &there(enabled));
        assert_eq!(deviate(PMCR | 1, 0x8000_0002), []);
        assert_eq!(deviate(PMCR | 1, 0x8000_0000), [second]);
        assert_eq!(deviate(PMCR | 1, 0x2), [both[0]]);
        assert_eq!(deviate(PMCR, 0x8000_0002), both);
    }

    #[test]
    fn what_was_seen_outweighs_what_was_concluded() {
        let sent = vm(&[(KEPT, 7)]);
        let known = check(&sent, &sent);
        assert_eq!(known.verdict, Verdict::Loads);
        let failed = |believed| {
            known.verdict_after(LoadResult::Failed {
                is_reliable: believed,
            })
        };
        assert_eq!(failed(true), Verdict::Refused);
        assert_eq!(failed(false), Verdict::Unknown);
        assert_eq!(
            known.verdict_after(LoadResult::Loaded(None)),
            Verdict::Loads
        );

        let elsewhere = check(&sent, &vm(&[(TIMER, 0)]));
        assert_eq!(elsewhere.verdict, Verdict::Refused);
        assert_eq!(
            elsewhere.verdict_after(LoadResult::Loaded(None)),
            Verdict::Unknown
        );
        assert_eq!(
            elsewhere.verdict_after(LoadResult::Loaded(Some(&sent))),
            Verdict::Refused
        );
    }
}
