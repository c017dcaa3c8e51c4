//! [`Profile`]: what a host's record says about guests with one set of features, made ready to be asked.

use std::collections::BTreeMap;

use cpreg::destination::accept::{Acceptor, Answer};
use cpreg::destination::kernel::{self, HIDES, Hides, Kind, Scope};
use cpreg::destination::{Accelerator, Features, HostVcpu, ValuesAre};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg_hosts::history::AtReset;
use cpreg_hosts::record::{HostRecord, Register, Trial};

use crate::errno::Errno;
use crate::value;

/// What guests with one set of features are on a recorded host.
#[derive(Debug)]
pub(super) struct Profile {
    registers: BTreeMap<RegisterId, Register>,
    pub(super) writable: Option<BTreeMap<RegisterId, u64>>,
    /// Bits that stick, where not all do.
    sticks: BTreeMap<RegisterId, Sticks>,
    /// What hides which register.
    hidden: BTreeMap<RegisterId, &'static Hides>,
    /// Whether a register that clears takes bits away; otherwise it is written like the one that sets.
    clears: bool,
    /// As which [`Acceptor`] sees it.
    host: HostVcpu,
}

/// What becomes of a value that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sticks {
    /// What reads as one after all ones were written.
    ones: u64,
    /// What reads as one after zero was written.
    always: u64,
}

/// Registers of the PMU that set and clear bits of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) sets: RegisterId,
    pub(super) clears: RegisterId,
}

const PAIRS: [Pair; 3] = [
    Pair {
        sets: RegisterId::PMINTENSET_EL1,
        clears: RegisterId::PMINTENCLR_EL1,
    },
    Pair {
        sets: RegisterId::PMCNTENSET_EL0,
        clears: RegisterId::PMCNTENCLR_EL0,
    },
    Pair {
        sets: RegisterId::PMOVSSET_EL0,
        clears: RegisterId::PMOVSCLR_EL0,
    },
];

impl Pair {
    /// The pair that a register belongs to.
    pub(super) fn of(id: RegisterId) -> Option<Self> {
        let mut pairs = PAIRS.into_iter();
        pairs.find(|pair| pair.sets == id || pair.clears == id)
    }
}

/// PMCR_EL0.N: how many counters there are.
const PMCR_N: u64 = 0x1f << 11;

/// What is known of a value for a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is refused.
    Refused(Errno),
    /// It was tried, and this was read afterwards.
    Reads(u64),
    /// It is taken, as far as bits stick.
    Masked,
}

impl Profile {
    /// `None` if the record has no such guest.
    pub(super) fn new(record: &HostRecord, features: Features) -> Option<Self> {
        let guest = record.guests.get(&features)?;
        let host = guest.to_host_vcpu();
        let registers = guest.registers.iter();
        let registers: BTreeMap<_, _> = registers.map(|it| (it.id, it.clone())).collect();
        let trials = |id: RegisterId| -> &[Trial] {
            let own = std::iter::once(guest).chain(record.guests.values());
            let of_id = own.filter_map(|guest| guest.registers.iter().find(|it| it.id == id));
            of_id
                .map(|register| register.trials.as_slice())
                .find(|trials| Sticks::of(id, trials).is_some())
                .unwrap_or_default()
        };
        let tried = registers
            .keys()
            .map(|id| (*id, Sticks::of(*id, trials(*id))));
        let sticks: BTreeMap<_, _> = tried.filter_map(|(id, it)| Some((id, it?))).collect();
        let clears = PAIRS.iter().any(|pair| {
            let bits = |id| sticks.get(id).map(|it: &Sticks| it.ones);
            bits(&pair.clears) == Some(0) && bits(&pair.sets).is_some_and(|ones| ones != 0)
        });
        let hidden = HIDES.iter().flat_map(|hides| {
            let ids = hides.registers.iter();
            ids.map(move |id| (*id, hides))
        });
        let hidden = hidden
            .filter(|(id, _)| kernel::goes_by_id_field(&host, *id) == Some(true))
            .collect();
        Some(Self {
            registers,
            writable: guest.writable.clone(),
            sticks,
            hidden,
            clears,
            host,
        })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RegisterId> {
        self.registers.keys().copied()
    }

    pub(super) fn register(&self, id: RegisterId) -> Option<&Register> {
        self.registers.get(&id)
    }

    /// Whether these guests have SVE, so that it has to be finalized.
    pub(super) fn has_sve(&self) -> bool {
        self.registers.contains_key(&RegisterId::SVE_VLS)
    }

    /// Whether writing a register that clears takes bits away.
    pub(super) const fn clears(&self) -> bool {
        self.clears
    }

    /// What hides a register when it is zero.
    pub(super) fn hidden_by(&self, id: RegisterId) -> Option<&'static Hides> {
        self.hidden.get(&id).copied()
    }

    /// What belongs to a VM, at reset.
    pub(super) fn wide(&self) -> BTreeMap<RegisterId, Value> {
        let wide = self.registers.values();
        wide.filter(|register| Kind::of(register.id).scope() != Scope::Vcpu)
            .filter_map(|register| Some((register.id, Self::at_reset(register)?)))
            .collect()
    }

    /// What a vCPU has at reset.
    pub(super) fn own(&self, number: usize) -> BTreeMap<RegisterId, Value> {
        let own = self.registers.values();
        let own = own.filter(|register| Kind::of(register.id).scope() == Scope::Vcpu);
        let mut own: BTreeMap<_, _> = own
            .filter_map(|register| {
                let value = Self::at_reset(register)?;
                let value = match value {
                    Value::Small(value) if register.differs_by_vcpu && number > 0 => {
                        Value::Small(of_vcpu(register.id, value, number as u64))
                    }
                    value => value,
                };
                Some((register.id, value))
            })
            .collect();
        // One state has one value: that of the register which was read first.
        for pair in PAIRS {
            let first = pair.sets.min(pair.clears);
            if let Some(value) = own.get(&first).cloned() {
                for id in [pair.sets, pair.clears] {
                    own.entry(id).and_modify(|own| *own = value.clone());
                }
            }
        }
        own
    }

    /// What a register holds at reset; `None` if it cannot be read.
    fn at_reset(register: &Register) -> Option<Value> {
        match &register.at_reset {
            AtReset::Value(value) => Some(value.clone()),
            AtReset::Poison => Some(Value::Small(Self::poison(register))),
            AtReset::Counts => Some(Value::Small(0)),
            AtReset::Unreadable(_) => None,
        }
    }

    /// The poison that a register holds: of one that is narrower, or of which not all bits stick, the low half, which trials show by bit 0
    /// changed.
    fn poison(register: &Register) -> u64 {
        let low = RESET_POISON & 0xffff_ffff;
        let is_narrow = register.id.size_bytes().is_some_and(|bytes| bytes < 8);
        let mut trials = register.trials.iter();
        let is_low = is_narrow || trials.any(|trial| trial.value == low ^ 1);
        if is_low { low } else { RESET_POISON }
    }

    /// Whether a value is taken by a register that is there, of these guests, which is not what it holds.
    pub(super) fn takes(&self, register: &Register, value: &Value) -> Taken {
        let tried = value.as_u64().and_then(|value| {
            let mut trials = register.trials.iter();
            trials.find(|trial| trial.value == value)
        });
        match tried {
            Some(trial) if trial.errno != 0 => return Taken::Refused(Errno(trial.errno)),
            Some(trial) => return Taken::Reads(trial.reads),
            None => {}
        }
        let is_at_reset = matches!(&register.at_reset, AtReset::Value(own) if own == value);
        if is_at_reset || self.sticks.contains_key(&register.id) {
            // What takes all ones takes anything.
            return Taken::Masked;
        }
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            values: Some(ValuesAre::OfAnEmulatedHost),
        };
        let Some(host) = self.host.get(register.id) else {
            return Taken::Refused(Errno::ENOENT);
        };
        match acceptor.takes(&self.host, host, value) {
            Answer::Taken(_) => Taken::Masked,
            Answer::Refused(_) | Answer::Unknown => Taken::Refused(Errno::EINVAL),
        }
    }

    /// What a register holds after a value was written that it takes. `holds` is what it held.
    pub(super) fn masked(&self, id: RegisterId, value: u64, holds: u64, has_run: bool) -> u64 {
        let Some(sticks) = self.sticks.get(&id) else {
            return value;
        };
        if id == RegisterId::PMCR_EL0 && sticks.ones >> 32 == 0 {
            let most = self.host.value(id).unwrap_or(0) & PMCR_N;
            let counters = match value & PMCR_N {
                asked if asked <= most && !has_run => asked,
                _ => holds & PMCR_N,
            };
            return value & sticks.ones & !PMCR_N | counters;
        }
        value & sticks.ones | sticks.always
    }

    /// The bits that either register of a pair can have.
    pub(super) fn bits(&self, pair: Pair) -> u64 {
        let ones = |id| self.sticks.get(&id).map(|it| it.ones);
        match (ones(pair.sets), ones(pair.clears)) {
            (Some(sets), Some(clears)) => sets | clears,
            _ => u64::MAX,
        }
    }
}

impl Sticks {
    /// What trials show; nothing if all ones were not tried, or not taken.
    fn of(id: RegisterId, trials: &[Trial]) -> Option<Self> {
        let all = value::ones(id)?;
        let of = |value| trials.iter().find(move |trial| trial.value == value);
        let ones = of(all).filter(|trial| trial.errno == 0)?.reads;
        let always = of(0).filter(|trial| trial.errno == 0);
        Some(Self {
            ones,
            always: always.map_or(0, |trial| trial.reads & ones),
        })
    }
}

/// What another vCPU than the first one holds: its affinity as KVM numbers vCPUs (`reset_mpidr`: 16 to a cluster), else something else
/// than the first one.
fn of_vcpu(id: RegisterId, first: u64, number: u64) -> u64 {
    if id == RegisterId::MPIDR_EL1 {
        return 1 << 31 | (number >> 12 & 0xff) << 16 | (number >> 4 & 0xff) << 8 | number & 0xf;
    }
    first.wrapping_add(number)
}
