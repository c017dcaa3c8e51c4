//! [`RecordedVcpu`]: a vCPU's operations, answered from a [`Profile`].

use std::sync::{Arc, Mutex};

use cpreg::destination::kernel::{Kind, Scope};
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg_hosts::record::AtReset;

use super::profile::{PMCR_N, Pair, Profile, TIMER_STATUS, Taken, Timer, counter_bits};
use super::state::{Fault, State, lock};
use crate::errno::Errno;
use crate::host::Vcpu;
use crate::value::value_of;

/// What a register of AArch32 has room for.
const LOW: u64 = 0xffff_ffff;

/// What KVM says of a workaround that the guest does not need (`KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_NOT_REQUIRED`).
const NOT_REQUIRED: u64 = 3;

/// A vCPU of a recorded host.
#[derive(Debug)]
pub struct RecordedVcpu {
    number: usize,
    profile: Arc<Profile>,
    state: Arc<Mutex<State>>,
}

impl RecordedVcpu {
    pub(super) const fn new(
        number: usize,
        profile: Arc<Profile>,
        state: Arc<Mutex<State>>,
    ) -> Self {
        Self {
            number,
            profile,
            state,
        }
    }

    fn is_finalized(&self, state: &State) -> bool {
        state.finalized.get(self.number).copied().unwrap_or(false)
    }

    /// Whether an ID register of the VM hides a register now.
    fn is_hidden(&self, state: &State, id: RegisterId) -> bool {
        self.profile.hidden_by(id).is_some_and(|hides| {
            let value = state.small(self.number, hides.by);
            value.is_some_and(|value| hides.extract(value) == 0)
        })
    }

    /// What both reading and writing ask first.
    fn check(&self, state: &State, id: RegisterId, length: usize) -> Result<(), Errno> {
        if self.profile.register(id).is_none() || self.is_hidden(state, id) {
            return Err(Errno::ENOENT);
        }
        if id.size_bytes() != Some(length) {
            return Err(Errno::EINVAL);
        }
        let needs_sve = id.class() == RegisterClass::Sve && id != RegisterId::SVE_VLS;
        if needs_sve && !self.is_finalized(state) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// What a value leaves in a register, or why it is not taken.
    fn taken(&self, state: &State, id: RegisterId, value: &Value) -> Result<Value, Errno> {
        let register = self.profile.register(id).ok_or(Errno::ENOENT)?;
        let holds = state.get(self.number, id);
        let is_own = holds == Some(value);
        let is_at_reset = matches!(&register.at_reset, AtReset::Value(own) if own == value);
        if id == RegisterId::SVE_VLS && self.is_finalized(state) {
            return Err(Errno::EPERM);
        }
        let kind = Kind::of(id);
        let is_kept = match kind {
            Kind::PmuModel => true,
            Kind::PsciVersion | Kind::Workaround(_) => false,
            _ => kind.scope() == Scope::Vm,
        };
        if state.has_run && is_kept && !is_own {
            return Err(Errno::EBUSY);
        }
        // The vector lengths' is that of a vCPU which was finalized when it was recorded.
        if is_at_reset && register.write_back != 0 && id != RegisterId::SVE_VLS {
            return Err(Errno(register.write_back));
        }
        if let (Some(pair), Value::Small(value)) = (Pair::of(id), value) {
            return Ok(Value::Small(self.paired(state, pair, id, *value)));
        }
        if is_own {
            return Ok(value.clone());
        }
        let pstate = value.as_u64().filter(|_| id == RegisterId::CORE_PSTATE);
        if pstate.is_some_and(|value| !self.profile.has_mode(value)) {
            return Err(Errno::EINVAL);
        }
        match (self.profile.takes(register, value), value) {
            (Taken::Refused(errno), _) => Err(errno),
            // A trial of these was made in another state.
            (Taken::Reads(_), Value::Small(value)) if self.depends_on_others(id) => {
                let holds = holds.and_then(Value::as_u64).unwrap_or(0);
                let masked = self.profile.masked(id, *value, holds, state.has_run);
                Ok(Value::Small(masked))
            }
            (Taken::Reads(reads), _) => Ok(Value::Small(reads)),
            (Taken::Masked, Value::Small(value)) => {
                let holds = holds.and_then(Value::as_u64).unwrap_or(0);
                let masked = self.profile.masked(id, *value, holds, state.has_run);
                Ok(Value::Small(masked))
            }
            (Taken::Masked, wide) => Ok(wide.clone()),
        }
    }

    /// Whether what a register reads as depends on other registers or on the time.
    fn depends_on_others(&self, id: RegisterId) -> bool {
        Timer::of(id).is_some() || (id == RegisterId::PMCR_EL0 && self.profile.bounds_counters())
    }

    fn paired(&self, state: &State, pair: Pair, id: RegisterId, value: u64) -> u64 {
        let holds = state.small(self.number, id).unwrap_or(0);
        let value = value & self.profile.bits(pair) & self.counters(state);
        match self.profile.clears() {
            false => value,
            true if id == pair.clears => holds & !value,
            true => holds | value,
        }
    }

    /// The bits of the PMU's pairs that there are counters for now.
    fn counters(&self, state: &State) -> u64 {
        let pmcr = state.small(self.number, RegisterId::PMCR_EL0);
        match pmcr {
            Some(pmcr) if self.profile.bounds_counters() => counter_bits(pmcr),
            _ => u64::MAX,
        }
    }

    /// What a register of at most 64 bits reads as, by what is kept of it.
    fn shown(&self, state: &State, id: RegisterId, kept: u64) -> u64 {
        let now = |counter| {
            let base = state.small(self.number, counter).unwrap_or(0);
            base.wrapping_add(state.ticks)
        };
        let pfr1 = state.small(self.number, RegisterId::ID_AA64PFR1_EL1);
        let dfr0 = state.small(self.number, RegisterId::ID_AA64DFR0_EL1);
        match (Timer::of(id), Pair::of(id)) {
            _ if pfr1.is_some_and(|pfr1| self.profile.is_spared(id, pfr1)) => NOT_REQUIRED,
            _ if Kind::of(id) == Kind::Counter => kept.wrapping_add(state.ticks),
            (Some(timer), _) if self.profile.shows_status(id) => {
                let compare = state.small(self.number, timer.compare).unwrap_or(0);
                let has_come = compare <= now(timer.counter);
                kept & !TIMER_STATUS | if has_come { TIMER_STATUS } else { 0 }
            }
            (_, Some(_)) => kept & self.counters(state),
            _ if dfr0.is_some_and(|dfr0| self.profile.reads_as_narrow(id, dfr0)) => kept & LOW,
            _ => kept,
        }
    }

    /// What else changes when a register was written.
    fn follow(&self, state: &mut State, id: RegisterId) {
        if let Some(pair) = Pair::of(id)
            && let Some(value) = state.get(self.number, id).cloned()
        {
            for id in [pair.sets, pair.clears] {
                if self.profile.register(id).is_some() {
                    state.set(self.number, id, value.clone());
                }
            }
        }
        if id == RegisterId::PMCR_EL0 && self.profile.bounds_counters() {
            let counters = state.small(self.number, id).unwrap_or(0) & PMCR_N;
            for own in &mut state.own {
                if let Some(Value::Small(pmcr)) = own.get_mut(&id) {
                    *pmcr = *pmcr & !PMCR_N | counters;
                }
            }
        }
        if id.class() == RegisterClass::Core {
            let pstate = state
                .small(self.number, RegisterId::CORE_PSTATE)
                .unwrap_or(0);
            for id in self.profile.narrowed(pstate) {
                if let Some(value) = state.small(self.number, id) {
                    state.set(self.number, id, Value::Small(value & LOW));
                }
            }
        }
    }
}

impl Vcpu for RecordedVcpu {
    fn list(&self) -> Result<Vec<RegisterId>, Errno> {
        let mut state = lock(&self.state);
        state.calls.lists += 1;
        if self.profile.has_sve() && !self.is_finalized(&state) {
            return Err(Errno::EPERM);
        }
        let ids = self.profile.ids();
        Ok(ids.filter(|id| !self.is_hidden(&state, *id)).collect())
    }

    fn get(&self, id: RegisterId, bytes: &mut [u8]) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        state.calls.reads += 1;
        self.check(&state, id, bytes.len())?;
        let register = self.profile.register(id).ok_or(Errno::ENOENT)?;
        if let AtReset::Unreadable(errno) = register.at_reset {
            return Err(Errno(errno));
        }
        let value = state.get(self.number, id).cloned();
        match value.ok_or(Errno::ENOENT)? {
            Value::Wide(value) => {
                for (to, from) in bytes.iter_mut().zip(value.iter()) {
                    *to = *from;
                }
            }
            Value::Small(value) => {
                // A counter is kept as what it would have held at tick 0.
                let value = self.shown(&state, id, value);
                if Kind::of(id) == Kind::Counter {
                    state.ticks += 1;
                }
                for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
                    *to = from;
                }
            }
        }
        Ok(())
    }

    fn set(&self, id: RegisterId, bytes: &[u8]) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        let number = state.calls.writes.len();
        state.calls.writes.push((self.number, id));
        for fault in &state.faults {
            match fault {
                Fault::Register(register, errno) if *register == id => return Err(*errno),
                Fault::Write(write, errno) if *write == number => return Err(*errno),
                _ => {}
            }
        }
        self.check(&state, id, bytes.len())?;
        let mut stored = self.taken(&state, id, &value_of(bytes))?;
        if let (Kind::Counter, Value::Small(value)) = (Kind::of(id), &mut stored) {
            *value = value.wrapping_sub(state.ticks);
        }
        if !matches!(Kind::of(id), Kind::Workaround(_)) {
            state.set(self.number, id, stored);
            self.follow(&mut state, id);
        }
        Ok(())
    }

    fn finalize_sve(&self) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        state.calls.finalizes += 1;
        if !self.profile.has_sve() {
            return Err(Errno::EINVAL);
        }
        match state.finalized.get_mut(self.number) {
            Some(finalized) if !*finalized => {
                *finalized = true;
                Ok(())
            }
            _ => Err(Errno::EPERM),
        }
    }
}
