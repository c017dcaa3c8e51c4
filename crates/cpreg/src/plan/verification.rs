//! Verification that the guest's registers hold the plan's values after a load.
//!
//! This module compares the values and gives the resulting verdict. Other crates perform the load.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{
    Action, Check, Decision, Decisions, ExtensionAction, ExtensionDecision, Plan, PlanOutcome,
    VcpuSet, Verdict, hardware_outcome,
};
use crate::destination::Confidence;
use crate::destination::kernel::{PMCR_IDENTITY_MASK, RegisterKind, Scope, time_dependent_bits};
use crate::register::{RegisterId, Value};
use crate::tolerance::condition::RESET_POISON;
use crate::vm::{Content, Vcpu, Vm};

/// Result of a trial load.
#[derive(Clone, Copy, Debug)]
pub enum LoadResult<'a> {
    /// The loader refused the VM.
    Failed {
        /// `false` if the trial lacked a part of the VM, so that the refusal proves nothing.
        is_reliable: bool,
    },
    /// The loader loaded the VM. Contains the loaded state, or `None` if the state could not be
    /// read.
    Loaded(Option<&'a Vm>),
}

/// Register or extension that after a load does not hold the plan's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Deviation {
    /// A register.
    Register {
        /// Register that deviates.
        id: RegisterId,
        /// The plan's value.
        expected: Value,
        /// The loaded value, or `None` if the register is absent.
        actual: Option<Value>,
    },
    /// An extension.
    Extension {
        /// Name of the extension.
        name: Cow<'static, str>,
        /// The plan's content.
        expected: Content,
        /// The loaded content, or `None` if the extension is absent.
        actual: Option<Content>,
    },
}

impl Plan {
    /// Marks the confidence of every written value as proven.
    ///
    /// The caller must have seen the destination itself accept every write in the plan's order, and
    /// read back the written values. A load by a loader with another order proves nothing.
    pub fn mark_proven(&mut self) {
        self.update_decisions(|decision| {
            let is_written = matches!(
                decision.action,
                Action::Copy | Action::Set(_) | Action::WriteReset(_)
            );
            if is_written {
                decision.confidence = Confidence::Proven;
            }
        });
    }

    /// Returns the deviations of a loaded VM from the plan, each with the vCPUs that share the
    /// deviation.
    ///
    /// Registers that the plan ignores, and counters of time, may hold any value. An absent vCPU
    /// deviates in every register and extension.
    pub fn deviations(&self, loaded: &Vm) -> Vec<(VcpuSet, Deviation)> {
        let mut deviations_by_vcpu: BTreeMap<Deviation, VcpuSet> = BTreeMap::new();
        let absent = Vcpu::default();
        for (number, plan) in self.vcpus.iter().enumerate() {
            let vcpu = loaded.vcpus.get(number).unwrap_or(&absent);
            let pmu = PmuState::new(&plan.decisions, vcpu);
            let registers = plan.decisions.iter();
            let registers = registers.filter_map(|decision| decision.deviation(vcpu, &pmu));
            let extensions = plan.extensions.iter();
            let extensions = extensions.filter_map(|decision| decision.deviation(vcpu));
            for deviation in registers.chain(extensions) {
                deviations_by_vcpu
                    .entry(deviation)
                    .or_default()
                    .insert(number);
            }
        }
        deviations_by_vcpu
            .into_iter()
            .map(|(deviation, vcpus)| (vcpus, deviation))
            .collect()
    }
}

impl Decision {
    fn deviation(&self, vcpu: &Vcpu, pmu: &PmuState) -> Option<Deviation> {
        let expected = self.loaded_value()?;
        if RegisterKind::from_id(self.register).scope() == Scope::VmCounter {
            return None;
        }
        // Only the destination lists this form, which holds the low half of the VM's 64-bit form.
        if self.source.is_none() && is_low_half_of_par(self.register) {
            return None;
        }
        let actual = vcpu.registers.get(self.register);
        let is_same = match (actual.and_then(Value::as_u64), expected.as_u64()) {
            (Some(actual), Some(expected)) => {
                (actual ^ expected) & !time_dependent_bits(self.register) == 0
                    || pmu.is_equivalent(self.register, expected, actual)
            }
            _ => actual == Some(expected),
        };
        (!is_same).then(|| Deviation::Register {
            id: self.register,
            expected: expected.clone(),
            actual: actual.cloned(),
        })
    }
}

/// Returns `true` if this is AArch32's PAR in its 32-bit form, of either security state.
///
/// QEMU 5.2 and 7.2 list this form in addition to the 64-bit form, and it holds the low half of the
/// latter. Later versions list only the 64-bit form.
fn is_low_half_of_par(id: RegisterId) -> bool {
    const PAR: RegisterId = RegisterId::aarch32(15, 0, 7, 4, 0);
    id.raw() | 1 << 29 == PAR.raw()
}

/// State of the guest's PMU: the bits that it implements, and their use by the guest.
///
/// Linux 6.12 and later mask written values to the implemented bits. 5.10 keeps and returns all 64
/// bits, mostly KVM's reset poison (recorded, [`RESET_POISON`]).
struct PmuState {
    /// Implemented bits of PMCNTENSET_EL0 and similar registers: one for the cycle counter, and one
    /// for each event counter (Arm ARM, PMCR_EL0.N).
    counter_mask: u64,
    /// `true` if event counters have 64 bits (FEAT_PMUv3p5).
    has_64bit_counters: bool,
    /// `true` if the guest's PMU is disabled (PMCR_EL0.E).
    is_off: bool,
    /// Running counters, by their bits in PMCNTENSET_EL0. Their values change even in a paused VM
    /// (observed on 5.10).
    running_counters: u64,
}

impl PmuState {
    fn new(decisions: &Decisions, vcpu: &Vcpu) -> Self {
        let planned = |id| decisions.find(id)?.loaded_value()?.as_u64();
        let is_off = planned(RegisterId::PMCR_EL0).is_some_and(|pmcr| pmcr & 1 == 0);
        let enabled = planned(RegisterId::PMCNTENSET_EL0).unwrap_or(0);
        let loaded = |id| vcpu.registers.get_u64(id);
        let number = loaded(RegisterId::PMCR_EL0).map_or(31, |pmcr| pmcr >> 11 & 0x1f);
        let version = loaded(RegisterId::ID_AA64DFR0_EL1).map_or(0, |dfr0| dfr0 >> 8 & 0xf);
        Self {
            counter_mask: 1 << 31 | ((1 << number) - 1),
            // 0xf means an IMPLEMENTATION DEFINED PMU.
            has_64bit_counters: (6..0xf).contains(&version),
            is_off,
            running_counters: if is_off { 0 } else { enabled },
        }
    }

    /// Returns `true` if no guest can distinguish the planned from the loaded value.
    fn is_equivalent(&self, id: RegisterId, expected: u64, actual: u64) -> bool {
        let differ = expected ^ actual;
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
            // If IMP and IDCODE are zero, the guest reads the same values from MIDR_EL1. Kernels
            // 5.10 and 6.1 show the CPU's values, and 6.12 and later show zero (recorded).
            RegisterId::PMCR_EL0 => {
                actual & PMCR_IDENTITY_MASK == 0 && differ & !PMCR_IDENTITY_MASK == 0
            }
            RegisterId::PMCCNTR_EL0 => self.running_counters & 1 << 31 != 0,
            _ => id.event_counter().is_some_and(|number| {
                self.running_counters & 1 << number != 0
                    || !self.has_64bit_counters && differ & 0xffff_ffff == 0
            }),
        }
    }
}

impl ExtensionDecision {
    fn deviation(&self, vcpu: &Vcpu) -> Option<Deviation> {
        let expected = match &self.action {
            ExtensionAction::Copy | ExtensionAction::Refuse | ExtensionAction::Undecided => {
                self.source.as_ref()
            }
            ExtensionAction::Set(content) => Some(content),
            ExtensionAction::KeepAtReset
            | ExtensionAction::Ignore
            | ExtensionAction::IgnoreAndWake => None,
        }?;
        let mut extensions = vcpu.extensions.iter();
        let actual = extensions.find(|extension| extension.name == self.name);
        let actual = actual.map(|extension| &extension.content);
        (actual != Some(expected)).then(|| Deviation::Extension {
            name: self.name.clone(),
            expected: expected.clone(),
            actual: actual.cloned(),
        })
    }
}

impl Check {
    /// Returns the verdict after a trial load of the unchanged or the converted VM.
    ///
    /// Observation outweighs inference. If the loader refused the VM, the verdict is
    /// [`Verdict::Refused`], even if the check says otherwise. A VM that holds the plan's values
    /// loads, even if the check could not decide.
    pub fn verdict_after(&self, trial: LoadResult<'_>) -> Verdict {
        let verdict = match trial {
            LoadResult::Failed { is_reliable: true } => Verdict::Refused,
            LoadResult::Failed { is_reliable: false } => Verdict::Unknown,
            LoadResult::Loaded(Some(vm)) if self.plan.deviations(vm).is_empty() => Verdict::Loads,
            LoadResult::Loaded(Some(_)) => Verdict::Refused,
            // The VM was loaded; only the resulting state is not known.
            LoadResult::Loaded(None) if self.verdict == Verdict::Loads => Verdict::Loads,
            LoadResult::Loaded(None) => Verdict::Unknown,
        };
        // A load does not show what the guest sees of the host outside its registers.
        match hardware_outcome(&self.plan.hardware) {
            PlanOutcome::Refused => Verdict::Refused,
            PlanOutcome::Unknown if verdict == Verdict::Loads => Verdict::Unknown,
            _ => verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::destination::{Accelerator, Destination, DestinationVcpu, Loader, ValueOrigin};
    use crate::hardware::HardwareFacts;
    use crate::plan::Consents;
    use crate::tolerance::Tolerances;

    const AFFINITY: RegisterId = RegisterId::MPIDR_EL1;
    const TIMER: RegisterId = RegisterId::PTIMER_CTL;

    fn check(vm: &Vm, host: &Vm) -> Check {
        let destination = Destination {
            name: "destination".into(),
            accelerator: Some(Accelerator::Kvm),
            loader: Some(Loader::qemu(10, 0)),
            value_origin: ValueOrigin::Reset,
            vcpus: host.vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
            kernel_version: None,
            hardware: HardwareFacts::UNKNOWN,
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
    fn only_time_dependent_values_may_change() {
        let source = Vm::with_one_vcpu(&[(AFFINITY, 7), (TIMER, 1), (RegisterId::PTIMER_CNT, 100)]);
        let check = check(&source, &source);
        let later = Vm::with_one_vcpu(&[(AFFINITY, 7), (TIMER, 5), (RegisterId::PTIMER_CNT, 200)]);
        assert_eq!(check.plan.deviations(&later), []);
        assert_eq!(
            check.verdict_after(LoadResult::Loaded(Some(&later))),
            Verdict::Loads
        );
        let incomplete = Vm::with_one_vcpu(&[(TIMER, 0), (RegisterId::PTIMER_CNT, 200)]);
        let expected = [
            Deviation::Register {
                id: TIMER,
                expected: Value::U64(1),
                actual: Some(Value::U64(0)),
            },
            Deviation::Register {
                id: AFFINITY,
                expected: Value::U64(7),
                actual: None,
            },
        ];
        let mut deviations = check.plan.deviations(&incomplete);
        deviations.sort_by_key(|(_, deviation)| *deviation == expected[1]);
        assert_eq!(
            deviations,
            expected.map(|deviation| (VcpuSet::single(0), deviation))
        );
        assert_eq!(
            check.verdict_after(LoadResult::Loaded(Some(&incomplete))),
            Verdict::Refused
        );
    }

    /// PMCR_EL0 of a host with six event counters.
    const PMCR: u64 = 6 << 11;

    /// Returns the registers that deviate if `source` was sent and `loaded` is read back, both in
    /// addition to PMCR_EL0.
    fn pmu_deviations(
        pmcr: (u64, u64),
        source: &[(RegisterId, u64)],
        loaded: &[(RegisterId, u64)],
    ) -> Vec<RegisterId> {
        let with = |pmcr, registers: &[_]| {
            let mut all = vec![(RegisterId::PMCR_EL0, pmcr)];
            all.extend_from_slice(registers);
            Vm::with_one_vcpu(&all)
        };
        let source = with(pmcr.0, source);
        let deviations = check(&source, &source)
            .plan
            .deviations(&with(pmcr.1, loaded));
        let ids = deviations
            .into_iter()
            .filter_map(|(_, deviation)| match deviation {
                Deviation::Register { id, .. } => Some(id),
                Deviation::Extension { .. } => None,
            });
        ids.collect()
    }

    #[test]
    fn reset_poison_and_unimplemented_bits_may_be_lost() {
        // 5.10 to 6.12 and 6.16, as observed.
        let event_counter = RegisterId::sysreg(3, 3, 14, 8, 0);
        let source = [
            RegisterId::PMINTENSET_EL1,
            RegisterId::PMINTENCLR_EL1,
            RegisterId::PMCNTENSET_EL0,
            RegisterId::PMOVSSET_EL0,
            RegisterId::PMSWINC_EL0,
            event_counter,
        ]
        .map(|id| (id, RESET_POISON));
        for enabled in [0, 0x8000_001e] {
            let loaded = [enabled, enabled, enabled, 0x8000_001e, 0, 0xdbad_c0de];
            let registers = source.iter().map(|(id, _)| *id);
            let loaded: Vec<_> = registers.zip(loaded).collect();
            let pmcr = (0x410c_30ac, 0x30ac);
            assert_eq!(pmu_deviations(pmcr, &source, &loaded), []);
        }
        // 6.16 to 6.12.
        let source = [(RegisterId::PMCNTENSET_EL0, 0x8000_001e)];
        let loaded = [(RegisterId::PMCNTENSET_EL0, 0)];
        assert_eq!(pmu_deviations((PMCR, PMCR), &source, &loaded), []);
        // The same in a guest that enabled its PMU.
        let on = (PMCR | 1, PMCR | 1);
        assert_eq!(pmu_deviations(on, &source, &loaded), [source[0].0]);
        // A counter's upper half, where it has one.
        let dfr0 = (RegisterId::ID_AA64DFR0_EL1, 6 << 8);
        let source = [dfr0, (event_counter, 1 << 32)];
        let loaded = [dfr0, (event_counter, 0)];
        assert_eq!(pmu_deviations(on, &source, &loaded), [event_counter]);
    }

    #[test]
    fn disabled_counters_deviate() {
        // 6.12 to 6.12, as observed: writing CLR clears the bits that were written to SET.
        let set = [RegisterId::PMINTENSET_EL1, RegisterId::PMCNTENSET_EL0];
        let source = set.map(|id| (id, 0x8000_0001));
        let loaded = set.map(|id| (id, 0));
        let mut expected = set.to_vec();
        expected.sort();
        for pmcr in [PMCR, PMCR | 1] {
            assert_eq!(pmu_deviations((pmcr, pmcr), &source, &loaded), expected);
        }
        let pmcr = (PMCR | 1, PMCR);
        assert_eq!(pmu_deviations(pmcr, &[], &[]), [RegisterId::PMCR_EL0]);
        let other_implementer = (PMCR, 0x410c << 16 | PMCR);
        assert_eq!(
            pmu_deviations(other_implementer, &[], &[]),
            [RegisterId::PMCR_EL0]
        );
    }

    #[test]
    fn running_counters_may_change() {
        let second = RegisterId::sysreg(3, 3, 14, 8, 1);
        let both = [RegisterId::PMCCNTR_EL0, second];
        let source = |enabled| {
            let enabled = (RegisterId::PMCNTENSET_EL0, enabled);
            [enabled, (both[0], 5), (both[1], 5)]
        };
        let loaded = |enabled| {
            let enabled = (RegisterId::PMCNTENSET_EL0, enabled);
            [enabled, (both[0], 9), (both[1], 9)]
        };
        let deviating =
            |pmcr, enabled| pmu_deviations((pmcr, pmcr), &source(enabled), &loaded(enabled));
        assert_eq!(deviating(PMCR | 1, 0x8000_0002), []);
        assert_eq!(deviating(PMCR | 1, 0x8000_0000), [second]);
        assert_eq!(deviating(PMCR | 1, 0x2), [both[0]]);
        assert_eq!(deviating(PMCR, 0x8000_0002), both);
    }

    #[test]
    fn observation_outweighs_inference() {
        let source = Vm::with_one_vcpu(&[(AFFINITY, 7)]);
        let check_loads = check(&source, &source);
        assert_eq!(check_loads.verdict, Verdict::Loads);
        let failed = |is_reliable| check_loads.verdict_after(LoadResult::Failed { is_reliable });
        assert_eq!(failed(true), Verdict::Refused);
        assert_eq!(failed(false), Verdict::Unknown);
        assert_eq!(
            check_loads.verdict_after(LoadResult::Loaded(None)),
            Verdict::Loads
        );

        let check_refuses = check(&source, &Vm::with_one_vcpu(&[(TIMER, 0)]));
        assert_eq!(check_refuses.verdict, Verdict::Refused);
        assert_eq!(
            check_refuses.verdict_after(LoadResult::Loaded(None)),
            Verdict::Unknown
        );
        assert_eq!(
            check_refuses.verdict_after(LoadResult::Loaded(Some(&source))),
            Verdict::Refused
        );
    }
}
