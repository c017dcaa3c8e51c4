//! [`GuestProfile`]: a host's record of guests with one set of features, prepared for queries.

use std::collections::BTreeMap;

use cpreg::destination::accept::{Acceptance, Acceptor};
use cpreg::destination::kernel::{self, FEATURE_GATES, FeatureGate, RegisterKind, Scope};
use cpreg::destination::{Accelerator, DestinationVcpu, Features, ValueOrigin, Version};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg_hosts::record::{AtReset, HostRecord, RegisterRecord, WriteTrial};

use crate::errno::Errno;
use crate::value;

/// Behaviour of guests with one set of features on a recorded host.
#[derive(Debug)]
pub(super) struct GuestProfile {
    features: Features,
    registers: BTreeMap<RegisterId, RegisterRecord>,
    pub(super) writable: Option<BTreeMap<RegisterId, u64>>,
    /// Effect of a write on each register whose trials show it.
    write_effects: BTreeMap<RegisterId, WriteEffect>,
    /// Gate that can hide each register.
    feature_gates: BTreeMap<RegisterId, &'static FeatureGate>,
    /// `true` if a write to a clearing register clears bits. Otherwise the write replaces the state
    /// of the pair.
    has_clear_semantics: bool,
    /// `true` if a write in a mode of AArch32 narrows only the registers of that mode to 32 bits,
    /// as in [`narrowed_registers`].
    has_mode_narrowing: bool,
    /// Version of the host's Linux.
    kernel_version: Option<Version>,
    /// The recorded guest as a destination's vCPU, for [`Acceptor`].
    vcpu: DestinationVcpu,
}

/// Effect of a write on a register's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WriteEffect {
    /// Bits that read as one after a write of all ones.
    ones: u64,
    /// Bits that read as one after a write of zero.
    fixed_ones: u64,
}

/// Setting and clearing registers of one PMU state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetClearPair {
    pub(super) set_register: RegisterId,
    pub(super) clear_register: RegisterId,
}

const SET_CLEAR_PAIRS: [SetClearPair; 3] = [
    SetClearPair {
        set_register: RegisterId::PMINTENSET_EL1,
        clear_register: RegisterId::PMINTENCLR_EL1,
    },
    SetClearPair {
        set_register: RegisterId::PMCNTENSET_EL0,
        clear_register: RegisterId::PMCNTENCLR_EL0,
    },
    SetClearPair {
        set_register: RegisterId::PMOVSSET_EL0,
        clear_register: RegisterId::PMOVSCLR_EL0,
    },
];

impl SetClearPair {
    /// Returns the pair of a register.
    pub(super) fn find(id: RegisterId) -> Option<Self> {
        let mut pairs = SET_CLEAR_PAIRS.into_iter();
        pairs.find(|pair| pair.set_register == id || pair.clear_register == id)
    }
}

/// Mask of PMCR_EL0.N, the number of event counters.
pub(super) const PMCR_N: u64 = 0x1f << 11;

/// Returns the bits of the PMU's register pairs for PMCR_EL0.N counters and the cycle counter.
pub(super) const fn counter_bits(pmcr: u64) -> u64 {
    let counters = (pmcr & PMCR_N) >> 11;
    ((1 << counters) - 1) | 1 << 31
}

/// Mask of PSTATE.M, with the bit for AArch32.
const PSTATE_MODE: u64 = 0x1f;
/// User mode of AArch32.
pub(super) const AARCH32_USER: u64 = 0x10;
/// System mode of AArch32.
pub(super) const AARCH32_SYSTEM: u64 = 0x1f;

/// Returns the registers of X0 to X30 and the PC that a write to a core register narrows to 32
/// bits.
///
/// KVM narrows registers in a mode of AArch32 (`set_core_reg` in Linux `arch/arm64/kvm/guest.c`).
/// In AArch64 state KVM narrows no register.
///
/// | since | in user and system mode | in any other mode |
/// |---|---|---|
/// | v5.7 | X0 to X14 | only the mode's R0 to R14 |
/// | v5.11 | X0 to X14 | all |
pub(super) fn narrowed_registers(pstate: u64, by_mode: bool) -> impl Iterator<Item = RegisterId> {
    let (low, high) = match pstate & PSTATE_MODE {
        AARCH32_USER | AARCH32_SYSTEM => (0..15, 0..0),
        mode @ AARCH32_USER..AARCH32_SYSTEM if by_mode => match mode {
            // FIQ has banked R8 to R12.
            0x11 => (0..8, 24..31),
            0x12 => (0..13, 16..18),
            0x13 => (0..13, 18..20),
            0x17 => (0..13, 20..22),
            0x1b => (0..13, 22..24),
            _ => (0..0, 0..0),
        },
        AARCH32_USER..AARCH32_SYSTEM => (0..31, 0..0),
        _ => (0..0, 0..0),
    };
    let general = low.chain(high).map(RegisterId::x);
    let is_narrow = pstate & AARCH32_USER != 0;
    general.chain(is_narrow.then_some(RegisterId::CORE_PC))
}

/// ISTATUS of CNTV_CTL_EL0 and CNTP_CTL_EL0: the timer has expired. Computed on each read.
pub(super) const TIMER_STATUS: u64 = 1 << 2;

/// Registers of a timer, apart from its control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) counter: RegisterId,
    pub(super) compare: RegisterId,
}

impl Timer {
    /// Returns the timer with this control register.
    pub(super) fn from_control(control: RegisterId) -> Option<Self> {
        match control {
            RegisterId::TIMER_CTL => Some(Self {
                counter: RegisterId::TIMER_CNT,
                compare: RegisterId::TIMER_CVAL,
            }),
            RegisterId::PTIMER_CTL => Some(Self {
                counter: RegisterId::PTIMER_CNT,
                compare: RegisterId::PTIMER_CVAL,
            }),
            _ => None,
        }
    }
}

/// Predicted result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteResult {
    /// The write fails with this errno.
    Refused(Errno),
    /// The record has a trial of the value, which reads back this value.
    ReadBack(u64),
    /// The write succeeds and changes only writable bits.
    Masked,
}

impl GuestProfile {
    /// Returns the profile, or `None` if the record has no guest with these features.
    pub(super) fn new(record: &HostRecord, features: Features) -> Option<Self> {
        let guest = record.guests.get(&features)?;
        let vcpu = guest.to_destination_vcpu();
        let registers = guest.registers.iter();
        let registers: BTreeMap<_, _> = registers
            .map(|register| (register.id, register.clone()))
            .collect();
        // Prefer the trials of this guest; other guests of the host have had more trials.
        let trials = |id: RegisterId| -> &[WriteTrial] {
            let guests = std::iter::once(guest).chain(record.guests.values());
            let records = guests.filter_map(|guest| {
                let mut registers = guest.registers.iter();
                registers.find(|register| register.id == id)
            });
            records
                .map(|register| register.trials.as_slice())
                .find(|trials| WriteEffect::from_trials(id, trials).is_some())
                .unwrap_or_default()
        };
        let write_effects: BTreeMap<_, _> = registers
            .keys()
            .filter_map(|id| Some((*id, WriteEffect::from_trials(*id, trials(*id))?)))
            .collect();
        let has_clear_semantics = SET_CLEAR_PAIRS.iter().any(|pair| {
            let bits = |id| {
                write_effects
                    .get(id)
                    .map(|effect: &WriteEffect| effect.ones)
            };
            bits(&pair.clear_register) == Some(0)
                && bits(&pair.set_register).is_some_and(|ones| ones != 0)
        });
        let gates = FEATURE_GATES.iter().flat_map(|gate| {
            let ids = gate.registers.iter();
            ids.map(move |id| (*id, gate))
        });
        let kernel_version = Version::from_kernel_release(&record.identity.release);
        let feature_gates = gates
            .filter(|(id, _)| {
                kernel::gates_by_vm_id_field(&vcpu, kernel_version, *id) == Some(true)
            })
            .collect();
        Some(Self {
            features,
            registers,
            writable: guest.writable.clone(),
            write_effects,
            feature_gates,
            has_clear_semantics,
            kernel_version,
            has_mode_narrowing: is_before_5_11(record.identity.upstream()),
            vcpu,
        })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RegisterId> {
        self.registers.keys().copied()
    }

    pub(super) fn register(&self, id: RegisterId) -> Option<&RegisterRecord> {
        self.registers.get(&id)
    }

    /// Returns `true` if these guests have SVE, which must be finalized.
    pub(super) fn has_sve(&self) -> bool {
        self.registers.contains_key(&RegisterId::SVE_VLS)
    }

    /// Returns `true` if a write to a clearing register clears bits.
    pub(super) const fn has_clear_semantics(&self) -> bool {
        self.has_clear_semantics
    }

    /// Returns the gate that hides a register when its ID field is too low.
    pub(super) fn feature_gate(&self, id: RegisterId) -> Option<&'static FeatureGate> {
        self.feature_gates.get(&id).copied()
    }

    /// Returns the VM-wide registers at reset.
    pub(super) fn vm_wide_at_reset(&self) -> BTreeMap<RegisterId, Value> {
        let registers = self.registers.values();
        registers
            .filter(|register| RegisterKind::from_id(register.id).scope() != Scope::Vcpu)
            .filter_map(|register| Some((register.id, Self::at_reset(register)?)))
            .collect()
    }

    /// Returns the registers of a vCPU at reset.
    pub(super) fn vcpu_at_reset(&self, number: usize) -> BTreeMap<RegisterId, Value> {
        let registers = self.registers.values();
        let registers =
            registers.filter(|register| RegisterKind::from_id(register.id).scope() == Scope::Vcpu);
        let mut values: BTreeMap<_, _> = registers
            .filter_map(|register| {
                let value = Self::at_reset(register)?;
                let value = match value {
                    Value::U64(value) if register.differs_by_vcpu && number > 0 => {
                        Value::U64(vcpu_value(register.id, value, number as u64))
                    }
                    value => value,
                };
                Some((register.id, value))
            })
            .collect();
        // A pair has one state: use the value of the register that was read first.
        for pair in SET_CLEAR_PAIRS {
            let first = pair.set_register.min(pair.clear_register);
            if let Some(value) = values.get(&first).cloned() {
                for id in [pair.set_register, pair.clear_register] {
                    values
                        .entry(id)
                        .and_modify(|paired| *paired = value.clone());
                }
            }
        }
        values
    }

    /// Returns the value of a register at reset, or `None` if the read failed.
    fn at_reset(register: &RegisterRecord) -> Option<Value> {
        match &register.at_reset {
            AtReset::Value(value) => Some(value.clone()),
            AtReset::Poison => Some(Value::U64(Self::poison(register))),
            AtReset::Counter => Some(Value::U64(0)),
            AtReset::Unreadable(_) => None,
        }
    }

    /// Returns KVM's reset poison as the register holds it.
    ///
    /// A register of 32 bits and a register with fixed high bits hold the low half. The latter has
    /// a trial of the low half with bit 0 changed.
    fn poison(register: &RegisterRecord) -> u64 {
        let low = RESET_POISON & 0xffff_ffff;
        let is_narrow = register.id.size_bytes().is_some_and(|bytes| bytes < 8);
        let mut trials = register.trials.iter();
        let is_low = is_narrow || trials.any(|trial| trial.value == low ^ 1);
        if is_low { low } else { RESET_POISON }
    }

    /// Predicts the write of a value that differs from the current one, to a listed register.
    pub(super) fn predict_write(&self, register: &RegisterRecord, value: &Value) -> WriteResult {
        let trial = value.as_u64().and_then(|value| {
            let mut trials = register.trials.iter();
            trials.find(|trial| trial.value == value)
        });
        match trial {
            Some(trial) if trial.errno != 0 => return WriteResult::Refused(Errno(trial.errno)),
            Some(_) if RegisterKind::from_id(register.id) == RegisterKind::Counter => {
                return WriteResult::Masked;
            }
            Some(trial) => return WriteResult::ReadBack(trial.read_back),
            None => {}
        }
        let is_at_reset = matches!(&register.at_reset, AtReset::Value(reset) if reset == value);
        // An ID register that accepts all ones ignores writes.
        let is_ignored = RegisterKind::from_id(register.id) == RegisterKind::Identification
            && self.write_effects.contains_key(&register.id);
        if is_at_reset || is_ignored {
            return WriteResult::Masked;
        }
        if let Some(replaced) = value
            .as_u64()
            .zip(self.vcpu.get(register.id))
            .and_then(|(value, register)| register.replaced_value(value))
        {
            return WriteResult::ReadBack(replaced);
        }
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            kernel_version: self.kernel_version,
            value_origin: Some(ValueOrigin::EmulatedHost),
        };
        let Some(host) = self.vcpu.get(register.id) else {
            return WriteResult::Refused(Errno::ENOENT);
        };
        match acceptor.evaluate(&self.vcpu, host, value) {
            Acceptance::Taken(_) => WriteResult::Masked,
            Acceptance::Refused(_) | Acceptance::Unknown => WriteResult::Refused(Errno::EINVAL),
        }
    }

    /// Returns the content of a register after an accepted write. `current` is the earlier content.
    pub(super) fn stored_value(
        &self,
        id: RegisterId,
        value: u64,
        current: u64,
        has_run: bool,
    ) -> u64 {
        if id == RegisterId::PMCR_EL0 && self.has_counter_limit() {
            let max_counters = self.vcpu.value(id).unwrap_or(0) & PMCR_N;
            let counters = match value & PMCR_N {
                requested if requested <= max_counters && !has_run => requested,
                _ => current & PMCR_N,
            };
            // Without trials, assume the behaviour of the hosts with trials.
            let ones = self.write_effects.get(&id).map(|effect| effect.ones);
            let ones = ones.unwrap_or_else(|| kernel::effective_pmcr(u64::MAX, 0));
            return value & ones & !PMCR_N | counters;
        }
        let Some(effect) = self.write_effects.get(&id) else {
            return value;
        };
        if Timer::from_control(id).is_some() {
            return value & effect.ones;
        }
        value & effect.ones | effect.fixed_ones
    }

    /// Returns `true` if PMCR_EL0.N is one value per VM and limits the counters (since v6.7).
    ///
    /// On such kernels a write cannot change the high half of PMCR_EL0.
    pub(super) fn has_counter_limit(&self) -> bool {
        match self.write_effects.get(&RegisterId::PMCR_EL0) {
            Some(effect) => effect.ones >> 32 == 0,
            None => kernel::keeps_all_of_pmcr(&self.vcpu) == Some(false),
        }
    }

    /// Returns `true` if the workaround of Spectre v4 now reads as not required.
    ///
    /// That is the case if it reads 0 at reset on a CPU with SSBS, and the VM's ID register has
    /// been changed to lack SSBS.
    pub(super) fn is_workaround_unneeded(&self, id: RegisterId, pfr1: u64) -> bool {
        const SSBS: u64 = 0xf << 4;
        let at_reset = |id| self.vcpu.value(id);
        id == RegisterId::SMCCC_ARCH_WORKAROUND_2
            && at_reset(id) == Some(0)
            && at_reset(RegisterId::ID_AA64PFR1_EL1).is_some_and(|value| value & SSBS != 0)
            && pfr1 & SSBS == 0
    }

    /// Returns the registers that a write to a core register narrows, for this PSTATE.
    pub(super) fn narrowed_registers(&self, pstate: u64) -> impl Iterator<Item = RegisterId> {
        narrowed_registers(pstate, self.has_mode_narrowing)
    }

    /// Returns `true` if an event counter stores 64 bits but reads as 32 bits.
    ///
    /// Event counters have 64 bits with FEAT_PMUv3p5. They read as 32 bits in a VM without this
    /// feature on a host with it (`kvm_pmc_is_64bit` in Linux v7.3 `arch/arm64/kvm/pmu-emul.c`).
    /// For a host without the feature, trials show the width.
    pub(super) fn is_read_as_32_bits(&self, id: RegisterId, dfr0: u64) -> bool {
        const PMUV3P5: u64 = 6;
        let has_pmuv3p5 = |dfr0: u64| dfr0 >> 8 & 0xf >= PMUV3P5;
        is_event_counter(id)
            && !has_pmuv3p5(dfr0)
            && self
                .vcpu
                .value(RegisterId::ID_AA64DFR0_EL1)
                .is_some_and(has_pmuv3p5)
    }

    /// Returns `true` if a read of a timer's control register computes ISTATUS (up to v6.17). The
    /// register then has ISTATUS set at reset.
    pub(super) fn has_timer_status(&self, id: RegisterId) -> bool {
        let register = self.registers.get(&id);
        register.is_some_and(|register| match &register.at_reset {
            AtReset::Value(value) => value
                .as_u64()
                .is_some_and(|value| value & TIMER_STATUS != 0),
            _ => false,
        })
    }

    /// Returns `true` if PSTATE may hold this mode (`set_core_reg` in Linux v7.3
    /// `arch/arm64/kvm/guest.c`).
    ///
    /// PSTATE may hold AArch64's modes of the guest's exception levels or, if EL1 is AArch32, the
    /// modes of AArch32. AArch32's user mode depends only on EL0.
    pub(super) fn has_mode(&self, pstate: u64) -> bool {
        const EL0_AARCH32: u64 = 2;
        let is_32bit = self.features.contains(Features::EL1_32BIT);
        match pstate & PSTATE_MODE {
            AARCH32_USER => {
                let pfr0 = self.vcpu.value(RegisterId::ID_AA64PFR0_EL1);
                pfr0.is_none_or(|value| value & 0xf == EL0_AARCH32)
            }
            0x11..=0x13 | 0x17 | 0x1b | AARCH32_SYSTEM => is_32bit,
            0x8 | 0x9 => self.features.contains(Features::EL2),
            0x0 | 0x4 | 0x5 => !is_32bit,
            _ => false,
        }
    }

    /// Returns the bits that either register of a pair can have.
    pub(super) fn pair_bits(&self, pair: SetClearPair) -> u64 {
        let ones = |id| self.write_effects.get(&id).map(|effect| effect.ones);
        match (ones(pair.set_register), ones(pair.clear_register)) {
            (Some(set), Some(clear)) => set | clear,
            _ => u64::MAX,
        }
    }
}

impl WriteEffect {
    /// Returns the effect that trials show.
    ///
    /// Returns `None` if the record has no accepted trial of all ones. Also returns `None` for a
    /// counter, which runs between write and read.
    fn from_trials(id: RegisterId, trials: &[WriteTrial]) -> Option<Self> {
        if RegisterKind::from_id(id) == RegisterKind::Counter {
            return None;
        }
        let all_ones = value::all_ones(id)?;
        let accepted = |value| {
            let trial = trials.iter().find(|trial| trial.value == value);
            trial.filter(|trial| trial.errno == 0)
        };
        let ones = accepted(all_ones)?.read_back;
        let zero = accepted(0);
        Some(Self {
            ones,
            fixed_ones: zero.map_or(0, |trial| trial.read_back & ones),
        })
    }
}

/// Returns `true` if a kernel of this upstream version is older than 5.11.
fn is_before_5_11(upstream: &str) -> bool {
    let mut numbers = upstream.split('.').map_while(|number| number.parse().ok());
    let version: [Option<u32>; 2] = [numbers.next(), numbers.next()];
    matches!(version, [Some(major), Some(minor)] if (major, minor) < (5, 11))
}

/// Returns `true` for PMEVCNTR0_EL0 to PMEVCNTR30_EL0.
fn is_event_counter(id: RegisterId) -> bool {
    const FIRST: RegisterId = RegisterId::sysreg(3, 3, 14, 8, 0);
    (FIRST.raw()..FIRST.raw() + 31).contains(&id.raw())
}

/// Returns the value of a register that differs by vCPU, for another vCPU than the first.
///
/// MPIDR_EL1 has the affinity that KVM assigns (`reset_mpidr`: 16 vCPUs per cluster). Other
/// registers get a value that differs from the first vCPU's.
fn vcpu_value(id: RegisterId, first: u64, number: u64) -> u64 {
    if id == RegisterId::MPIDR_EL1 {
        return 1 << 31 | (number >> 12 & 0xff) << 16 | (number >> 4 & 0xff) << 8 | number & 0xf;
    }
    first.wrapping_add(number)
}
