//! [`GuestProfile`]: what a host's record says about guests with one set of features, made ready to be asked.

use std::collections::BTreeMap;

use cpreg::destination::accept::{Acceptance, Acceptor};
use cpreg::destination::kernel::{self, FEATURE_GATES, FeatureGate, RegisterKind, Scope};
use cpreg::destination::{Accelerator, DestinationVcpu, Features, ValueOrigin};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg_hosts::record::{AtReset, HostRecord, RegisterRecord, WriteTrial};

use crate::errno::Errno;
use crate::value;

/// What guests with one set of features are on a recorded host.
#[derive(Debug)]
pub(super) struct GuestProfile {
    features: Features,
    registers: BTreeMap<RegisterId, RegisterRecord>,
    pub(super) writable: Option<BTreeMap<RegisterId, u64>>,
    /// Bits that stick, where not all do.
    write_effects: BTreeMap<RegisterId, WriteEffect>,
    /// What hides which register.
    feature_gates: BTreeMap<RegisterId, &'static FeatureGate>,
    /// Whether a register that clears takes bits away; otherwise it is written like the one that sets.
    has_clear_semantics: bool,
    /// Whether the kernel cuts the registers of the current mode of AArch32 only.
    has_mode_narrowing: bool,
    /// As which [`Acceptor`] sees it.
    vcpu: DestinationVcpu,
}

/// What becomes of a value that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WriteEffect {
    /// What reads as one after all ones were written.
    ones: u64,
    /// What reads as one after zero was written.
    fixed_ones: u64,
}

/// Registers of the PMU that set and clear bits of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetClearPair {
    pub(super) set_register: RegisterId,
    pub(super) clear_register: RegisterId,
}

const PAIRS: [SetClearPair; 3] = [
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
    /// The pair that a register belongs to.
    pub(super) fn find(id: RegisterId) -> Option<Self> {
        let mut pairs = PAIRS.into_iter();
        pairs.find(|pair| pair.set_register == id || pair.clear_register == id)
    }
}

/// PMCR_EL0.N: how many counters there are.
pub(super) const PMCR_N: u64 = 0x1f << 11;

/// The bits of the PMU's pairs for so many counters: one each, and the cycle counter's.
pub(super) const fn counter_bits(pmcr: u64) -> u64 {
    let counters = (pmcr & PMCR_N) >> 11;
    ((1 << counters) - 1) | 1 << 31
}

/// PSTATE.M, with the bit that tells AArch32.
const MODE: u64 = 0x1f;
/// User mode of AArch32.
pub(super) const AARCH32_USER: u64 = 0x10;
/// System mode of AArch32.
pub(super) const AARCH32_SYSTEM: u64 = 0x1f;

/// Which of X0 to X30 are cut to 32 bits, with the PC, whenever a core register is written in a mode of AArch32; none in AArch64
/// (`set_core_reg` in Linux `arch/arm64/kvm/guest.c`).
///
/// | since | in user and system mode | in any other mode |
/// |---|---|---|
/// | v5.7 | X0 to X14 | those that are the mode's R0 to R14 |
/// | v5.11 | X0 to X14 | all |
pub(super) fn narrowed_registers(pstate: u64, by_mode: bool) -> impl Iterator<Item = RegisterId> {
    let (low, high) = match pstate & MODE {
        AARCH32_USER | AARCH32_SYSTEM => (0..15, 0..0),
        mode @ AARCH32_USER..AARCH32_SYSTEM if by_mode => match mode {
            // FIQ has R8 to R12 of its own.
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

/// CNTV_CTL_EL0.ISTATUS, and CNTP_CTL_EL0's: the time has come. It is found when the register is read.
pub(super) const TIMER_STATUS: u64 = 1 << 2;

/// A timer's registers beside its control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) counter: RegisterId,
    pub(super) compare: RegisterId,
}

impl Timer {
    /// The timer of which this is the control register.
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

/// What is known of a value for a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteResult {
    /// It is refused.
    Refused(Errno),
    /// It was tried, and this was read afterwards.
    ReadBack(u64),
    /// It is taken, as far as bits stick.
    Masked,
}

impl GuestProfile {
    /// `None` if the record has no such guest.
    pub(super) fn new(record: &HostRecord, features: Features) -> Option<Self> {
        let guest = record.guests.get(&features)?;
        let host = guest.to_destination_vcpu();
        let registers = guest.registers.iter();
        let registers: BTreeMap<_, _> = registers.map(|it| (it.id, it.clone())).collect();
        let trials = |id: RegisterId| -> &[WriteTrial] {
            let own = std::iter::once(guest).chain(record.guests.values());
            let of_id = own.filter_map(|guest| guest.registers.iter().find(|it| it.id == id));
            of_id
                .map(|register| register.trials.as_slice())
                .find(|trials| WriteEffect::from_trials(id, trials).is_some())
                .unwrap_or_default()
        };
        let tried = registers
            .keys()
            .map(|id| (*id, WriteEffect::from_trials(*id, trials(*id))));
        let sticks: BTreeMap<_, _> = tried.filter_map(|(id, it)| Some((id, it?))).collect();
        let clears = PAIRS.iter().any(|pair| {
            let bits = |id| sticks.get(id).map(|it: &WriteEffect| it.ones);
            bits(&pair.clear_register) == Some(0)
                && bits(&pair.set_register).is_some_and(|ones| ones != 0)
        });
        let hidden = FEATURE_GATES.iter().flat_map(|hides| {
            let ids = hides.registers.iter();
            ids.map(move |id| (*id, hides))
        });
        let hidden = hidden
            .filter(|(id, _)| kernel::gates_by_vm_id_field(&host, *id) == Some(true))
            .collect();
        Some(Self {
            features,
            registers,
            writable: guest.writable.clone(),
            write_effects: sticks,
            feature_gates: hidden,
            has_clear_semantics: clears,
            has_mode_narrowing: is_before_5_11(record.identity.upstream()),
            vcpu: host,
        })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RegisterId> {
        self.registers.keys().copied()
    }

    pub(super) fn register(&self, id: RegisterId) -> Option<&RegisterRecord> {
        self.registers.get(&id)
    }

    /// Whether these guests have SVE, so that it has to be finalized.
    pub(super) fn has_sve(&self) -> bool {
        self.registers.contains_key(&RegisterId::SVE_VLS)
    }

    /// Whether writing a register that clears takes bits away.
    pub(super) const fn has_clear_semantics(&self) -> bool {
        self.has_clear_semantics
    }

    /// What hides a register when it is zero.
    pub(super) fn feature_gate(&self, id: RegisterId) -> Option<&'static FeatureGate> {
        self.feature_gates.get(&id).copied()
    }

    /// What belongs to a VM, at reset.
    pub(super) fn vm_wide_at_reset(&self) -> BTreeMap<RegisterId, Value> {
        let wide = self.registers.values();
        wide.filter(|register| RegisterKind::from_id(register.id).scope() != Scope::Vcpu)
            .filter_map(|register| Some((register.id, Self::at_reset(register)?)))
            .collect()
    }

    /// What a vCPU has at reset.
    pub(super) fn vcpu_at_reset(&self, number: usize) -> BTreeMap<RegisterId, Value> {
        let own = self.registers.values();
        let own = own.filter(|register| RegisterKind::from_id(register.id).scope() == Scope::Vcpu);
        let mut own: BTreeMap<_, _> = own
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
        // One state has one value: that of the register which was read first.
        for pair in PAIRS {
            let first = pair.set_register.min(pair.clear_register);
            if let Some(value) = own.get(&first).cloned() {
                for id in [pair.set_register, pair.clear_register] {
                    own.entry(id).and_modify(|own| *own = value.clone());
                }
            }
        }
        own
    }

    /// What a register holds at reset; `None` if it cannot be read.
    fn at_reset(register: &RegisterRecord) -> Option<Value> {
        match &register.at_reset {
            AtReset::Value(value) => Some(value.clone()),
            AtReset::Poison => Some(Value::U64(Self::poison(register))),
            AtReset::Counter => Some(Value::U64(0)),
            AtReset::Unreadable(_) => None,
        }
    }

    /// The poison that a register holds: of one that is narrower, or of which not all bits stick, the low half, which trials show by bit 0
    /// changed.
    fn poison(register: &RegisterRecord) -> u64 {
        let low = RESET_POISON & 0xffff_ffff;
        let is_narrow = register.id.size_bytes().is_some_and(|bytes| bytes < 8);
        let mut trials = register.trials.iter();
        let is_low = is_narrow || trials.any(|trial| trial.value == low ^ 1);
        if is_low { low } else { RESET_POISON }
    }

    /// Whether a value is taken by a register that is there, of these guests, which is not what it holds.
    pub(super) fn predict_write(&self, register: &RegisterRecord, value: &Value) -> WriteResult {
        let tried = value.as_u64().and_then(|value| {
            let mut trials = register.trials.iter();
            trials.find(|trial| trial.value == value)
        });
        match tried {
            Some(trial) if trial.errno != 0 => return WriteResult::Refused(Errno(trial.errno)),
            Some(_) if RegisterKind::from_id(register.id) == RegisterKind::Counter => {
                return WriteResult::Masked;
            }
            Some(trial) => return WriteResult::ReadBack(trial.read_back),
            None => {}
        }
        let is_at_reset = matches!(&register.at_reset, AtReset::Value(own) if own == value);
        // An ID register that takes all ones ignores what is written.
        let is_ignored = RegisterKind::from_id(register.id) == RegisterKind::Identification
            && self.write_effects.contains_key(&register.id);
        if is_at_reset || is_ignored {
            return WriteResult::Masked;
        }
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
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

    /// What a register holds after a value was written that it takes. `holds` is what it held.
    pub(super) fn stored_value(
        &self,
        id: RegisterId,
        value: u64,
        holds: u64,
        has_run: bool,
    ) -> u64 {
        if id == RegisterId::PMCR_EL0 && self.has_counter_limit() {
            let most = self.vcpu.value(id).unwrap_or(0) & PMCR_N;
            let counters = match value & PMCR_N {
                asked if asked <= most && !has_run => asked,
                _ => holds & PMCR_N,
            };
            // Where it was not tried: as on those hosts where it was.
            let ones = self.write_effects.get(&id).map(|sticks| sticks.ones);
            let ones = ones.unwrap_or_else(|| kernel::effective_pmcr(u64::MAX, 0));
            return value & ones & !PMCR_N | counters;
        }
        let Some(sticks) = self.write_effects.get(&id) else {
            return value;
        };
        if Timer::from_control(id).is_some() {
            return value & sticks.ones;
        }
        value & sticks.ones | sticks.fixed_ones
    }

    /// Whether PMCR_EL0.N is one for the VM and bounds the counters that there are (since v6.7): then not all its bits stick.
    pub(super) fn has_counter_limit(&self) -> bool {
        match self.write_effects.get(&RegisterId::PMCR_EL0) {
            Some(sticks) => sticks.ones >> 32 == 0,
            None => kernel::keeps_all_of_pmcr(&self.vcpu) == Some(false),
        }
    }

    /// Whether the workaround of Spectre v4 is at this level because the guest's CPU has SSBS, so that it is needless to guests that are told
    /// of none.
    pub(super) fn is_workaround_unneeded(&self, id: RegisterId, pfr1: u64) -> bool {
        const SSBS: u64 = 0xf << 4;
        let at_reset = |id| self.vcpu.value(id);
        id == RegisterId::SMCCC_ARCH_WORKAROUND_2
            && at_reset(id) == Some(0)
            && at_reset(RegisterId::ID_AA64PFR1_EL1).is_some_and(|own| own & SSBS != 0)
            && pfr1 & SSBS == 0
    }

    /// Which general registers are cut to 32 bits, with the PC, when a core register is written and PSTATE holds this.
    pub(super) fn narrowed_registers(&self, pstate: u64) -> impl Iterator<Item = RegisterId> {
        narrowed_registers(pstate, self.has_mode_narrowing)
    }

    /// Whether an event counter reads as 32 bits though more are kept: where the VM has none of FEAT_PMUv3p5, whose event counters have 64 bits, and
    /// the host has (`kvm_pmc_is_64bit` in Linux v7.3 `arch/arm64/kvm/init_pmu-emul.c`). Where the host has none either the trials show it.
    pub(super) fn is_read_as_32_bits(&self, id: RegisterId, dfr0: u64) -> bool {
        const PMUV3P5: u64 = 6;
        let has = |dfr0: u64| dfr0 >> 8 & 0xf >= PMUV3P5;
        is_event_counter(id)
            && !has(dfr0)
            && self
                .vcpu
                .value(RegisterId::ID_AA64DFR0_EL1)
                .is_some_and(has)
    }

    /// Whether a timer's control register shows that its time has come (up to v6.17).
    pub(super) fn has_timer_status(&self, id: RegisterId) -> bool {
        let register = self.registers.get(&id);
        register.is_some_and(|it| match &it.at_reset {
            AtReset::Value(value) => value.as_u64().is_some_and(|it| it & TIMER_STATUS != 0),
            _ => false,
        })
    }

    /// Whether PSTATE may hold this mode (`set_core_reg` in Linux v7.3 `arch/arm64/kvm/guest.c`): AArch64's of the exception levels that the
    /// guest has, or AArch32's if EL1 is AArch32; of AArch32's user mode only whether EL0 can be.
    pub(super) fn has_mode(&self, pstate: u64) -> bool {
        const EL0_AARCH32: u64 = 2;
        let is_32bit = self.features.contains(Features::EL1_32BIT);
        match pstate & MODE {
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

    /// The bits that either register of a pair can have.
    pub(super) fn pair_bits(&self, pair: SetClearPair) -> u64 {
        let ones = |id| self.write_effects.get(&id).map(|it| it.ones);
        match (ones(pair.set_register), ones(pair.clear_register)) {
            (Some(sets), Some(clears)) => sets | clears,
            _ => u64::MAX,
        }
    }
}

impl WriteEffect {
    /// What trials show; nothing if all ones were not tried, or not taken, or if the register has gone on meanwhile.
    fn from_trials(id: RegisterId, trials: &[WriteTrial]) -> Option<Self> {
        if RegisterKind::from_id(id) == RegisterKind::Counter {
            return None;
        }
        let all = value::all_ones(id)?;
        let of = |value| trials.iter().find(move |trial| trial.value == value);
        let ones = of(all).filter(|trial| trial.errno == 0)?.read_back;
        let always = of(0).filter(|trial| trial.errno == 0);
        Some(Self {
            ones,
            fixed_ones: always.map_or(0, |trial| trial.read_back & ones),
        })
    }
}

/// Whether a kernel of this upstream version is older than 5.11.
fn is_before_5_11(upstream: &str) -> bool {
    let mut numbers = upstream.split('.').map_while(|number| number.parse().ok());
    let version: [Option<u32>; 2] = [numbers.next(), numbers.next()];
    matches!(version, [Some(major), Some(minor)] if (major, minor) < (5, 11))
}

/// PMEVCNTR0_EL0 to PMEVCNTR30_EL0.
fn is_event_counter(id: RegisterId) -> bool {
    const FIRST: RegisterId = RegisterId::sysreg(3, 3, 14, 8, 0);
    (FIRST.raw()..FIRST.raw() + 31).contains(&id.raw())
}

/// What another vCPU than the first one holds: its affinity as KVM numbers vCPUs (`reset_mpidr`: 16 to a cluster), else something else
/// than the first one.
fn vcpu_value(id: RegisterId, first: u64, number: u64) -> u64 {
    if id == RegisterId::MPIDR_EL1 {
        return 1 << 31 | (number >> 12 & 0xff) << 16 | (number >> 4 & 0xff) << 8 | number & 0xf;
    }
    first.wrapping_add(number)
}
