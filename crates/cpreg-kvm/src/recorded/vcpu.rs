//! [`RecordedVcpu`]: a vCPU's operations, answered from a [`GuestProfile`].

use std::sync::{Arc, Mutex};

use cpreg::destination::kernel::{RegisterKind, Scope};
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg_hosts::record::AtReset;

use super::guest_profile::{
    GuestProfile, PMCR_N, SetClearPair, TIMER_STATUS, Timer, WriteResult, counter_bits,
};
use super::state::{Fault, VmState, lock};
use crate::errno::Errno;
use crate::host::Vcpu;
use crate::value::value_from_bytes;

/// What a register of AArch32 has room for.
const LOW_32_BITS: u64 = 0xffff_ffff;

/// What KVM says of a workaround that the guest does not need (`KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_NOT_REQUIRED`).
const NOT_REQUIRED: u64 = 3;

/// A vCPU of a recorded host.
#[derive(Debug)]
pub struct RecordedVcpu {
    number: usize,
    profile: Arc<GuestProfile>,
    state: Arc<Mutex<VmState>>,
}

impl RecordedVcpu {
    pub(super) const fn new(
        number: usize,
        profile: Arc<GuestProfile>,
        state: Arc<Mutex<VmState>>,
    ) -> Self {
        Self {
            number,
            profile,
            state,
        }
    }

    fn is_finalized(&self, state: &VmState) -> bool {
        state
            .sve_finalized
            .get(self.number)
            .copied()
            .unwrap_or(false)
    }

    /// Whether an ID register of the VM hides a register now.
    fn is_hidden(&self, state: &VmState, id: RegisterId) -> bool {
        self.profile.feature_gate(id).is_some_and(|hides| {
            let value = state.get_u64(self.number, hides.id_register);
            value.is_some_and(|value| hides.extract(value) == 0)
        })
    }

    /// What both reading and writing ask first.
    fn check(&self, state: &VmState, id: RegisterId, length: usize) -> Result<(), Errno> {
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
    fn resolve_write(
        &self,
        state: &VmState,
        id: RegisterId,
        value: &Value,
    ) -> Result<Value, Errno> {
        let register = self.profile.register(id).ok_or(Errno::ENOENT)?;
        let holds = state.get(self.number, id);
        let is_own = holds == Some(value);
        let is_at_reset = matches!(&register.at_reset, AtReset::Value(own) if own == value);
        if id == RegisterId::SVE_VLS && self.is_finalized(state) {
            return Err(Errno::EPERM);
        }
        let kind = RegisterKind::from_id(id);
        let is_kept = match kind {
            RegisterKind::PmuModel => true,
            RegisterKind::PsciVersion | RegisterKind::Workaround(_) => false,
            _ => kind.scope() == Scope::Vm,
        };
        if state.has_run && is_kept && !is_own {
            return Err(Errno::EBUSY);
        }
        // The vector lengths' is that of a vCPU which was finalized when it was recorded.
        if is_at_reset && register.write_back != 0 && id != RegisterId::SVE_VLS {
            return Err(Errno(register.write_back));
        }
        if let (Some(pair), Value::U64(value)) = (SetClearPair::find(id), value) {
            return Ok(Value::U64(self.write_pair(state, pair, id, *value)));
        }
        if is_own {
            return Ok(value.clone());
        }
        let pstate = value.as_u64().filter(|_| id == RegisterId::CORE_PSTATE);
        if pstate.is_some_and(|value| !self.profile.has_mode(value)) {
            return Err(Errno::EINVAL);
        }
        match (self.profile.predict_write(register, value), value) {
            (WriteResult::Refused(errno), _) => Err(errno),
            // A trial of these was made in another state.
            (WriteResult::ReadBack(_), Value::U64(value)) if self.depends_on_others(id) => {
                let holds = holds.and_then(Value::as_u64).unwrap_or(0);
                let masked = self.profile.stored_value(id, *value, holds, state.has_run);
                Ok(Value::U64(masked))
            }
            (WriteResult::ReadBack(reads), _) => Ok(Value::U64(reads)),
            (WriteResult::Masked, Value::U64(value)) => {
                let holds = holds.and_then(Value::as_u64).unwrap_or(0);
                let masked = self.profile.stored_value(id, *value, holds, state.has_run);
                Ok(Value::U64(masked))
            }
            (WriteResult::Masked, wide) => Ok(wide.clone()),
        }
    }

    /// Whether what a register reads as depends on other registers or on the time.
    fn depends_on_others(&self, id: RegisterId) -> bool {
        Timer::from_control(id).is_some()
            || (id == RegisterId::PMCR_EL0 && self.profile.has_counter_limit())
    }

    fn write_pair(&self, state: &VmState, pair: SetClearPair, id: RegisterId, value: u64) -> u64 {
        let holds = state.get_u64(self.number, id).unwrap_or(0);
        let value = value & self.profile.pair_bits(pair) & self.counter_mask(state);
        match self.profile.has_clear_semantics() {
            false => value,
            true if id == pair.clear_register => holds & !value,
            true => holds | value,
        }
    }

    /// The bits of the PMU's pairs that there are counters for now.
    fn counter_mask(&self, state: &VmState) -> u64 {
        let pmcr = state.get_u64(self.number, RegisterId::PMCR_EL0);
        match pmcr {
            Some(pmcr) if self.profile.has_counter_limit() => counter_bits(pmcr),
            _ => u64::MAX,
        }
    }

    /// What a register of at most 64 bits reads as, by what is kept of it.
    fn visible_value(&self, state: &VmState, id: RegisterId, kept: u64) -> u64 {
        let now = |counter| {
            let base = state.get_u64(self.number, counter).unwrap_or(0);
            base.wrapping_add(state.ticks)
        };
        let pfr1 = state.get_u64(self.number, RegisterId::ID_AA64PFR1_EL1);
        let dfr0 = state.get_u64(self.number, RegisterId::ID_AA64DFR0_EL1);
        match (Timer::from_control(id), SetClearPair::find(id)) {
            _ if pfr1.is_some_and(|pfr1| self.profile.is_workaround_unneeded(id, pfr1)) => {
                NOT_REQUIRED
            }
            _ if RegisterKind::from_id(id) == RegisterKind::Counter => {
                kept.wrapping_add(state.ticks)
            }
            (Some(timer), _) if self.profile.has_timer_status(id) => {
                let compare = state.get_u64(self.number, timer.compare).unwrap_or(0);
                let has_come = compare <= now(timer.counter);
                kept & !TIMER_STATUS | if has_come { TIMER_STATUS } else { 0 }
            }
            (_, Some(_)) => kept & self.counter_mask(state),
            _ if dfr0.is_some_and(|dfr0| self.profile.is_read_as_32_bits(id, dfr0)) => {
                kept & LOW_32_BITS
            }
            _ => kept,
        }
    }

    /// What else changes when a register was written.
    fn propagate(&self, state: &mut VmState, id: RegisterId) {
        if let Some(pair) = SetClearPair::find(id)
            && let Some(value) = state.get(self.number, id).cloned()
        {
            for id in [pair.set_register, pair.clear_register] {
                if self.profile.register(id).is_some() {
                    state.set(self.number, id, value.clone());
                }
            }
        }
        if id == RegisterId::PMCR_EL0 && self.profile.has_counter_limit() {
            let counters = state.get_u64(self.number, id).unwrap_or(0) & PMCR_N;
            for own in &mut state.per_vcpu {
                if let Some(Value::U64(pmcr)) = own.get_mut(&id) {
                    *pmcr = *pmcr & !PMCR_N | counters;
                }
            }
        }
        if id.class() == RegisterClass::Core {
            let pstate = state
                .get_u64(self.number, RegisterId::CORE_PSTATE)
                .unwrap_or(0);
            for id in self.profile.narrowed_registers(pstate) {
                if let Some(value) = state.get_u64(self.number, id) {
                    state.set(self.number, id, Value::U64(value & LOW_32_BITS));
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
            Value::Bytes(value) => {
                for (to, from) in bytes.iter_mut().zip(value.iter()) {
                    *to = *from;
                }
            }
            Value::U64(value) => {
                // A counter is kept as what it would have held at tick 0.
                let value = self.visible_value(&state, id, value);
                if RegisterKind::from_id(id) == RegisterKind::Counter {
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
        let mut stored = self.resolve_write(&state, id, &value_from_bytes(bytes))?;
        if let (RegisterKind::Counter, Value::U64(value)) = (RegisterKind::from_id(id), &mut stored)
        {
            *value = value.wrapping_sub(state.ticks);
        }
        if !matches!(RegisterKind::from_id(id), RegisterKind::Workaround(_)) {
            state.set(self.number, id, stored);
            self.propagate(&mut state, id);
        }
        Ok(())
    }

    fn finalize_sve(&self) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        state.calls.finalize_calls += 1;
        if !self.profile.has_sve() {
            return Err(Errno::EINVAL);
        }
        match state.sve_finalized.get_mut(self.number) {
            Some(finalized) if !*finalized => {
                *finalized = true;
                Ok(())
            }
            _ => Err(Errno::EPERM),
        }
    }
}
