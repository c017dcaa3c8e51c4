//! [`RecordedVcpu`]: the operations of a vCPU, answered from a [`GuestProfile`].

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

/// Mask of an AArch32 register's bits.
const LOW_32_BITS: u64 = 0xffff_ffff;

/// KVM's value for a workaround that the guest does not need
/// (`KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_NOT_REQUIRED`).
const NOT_REQUIRED: u64 = 3;

/// vCPU of a recorded host.
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

    /// Returns `true` if an ID register of the VM currently hides a register.
    fn is_hidden(&self, state: &VmState, id: RegisterId) -> bool {
        self.profile.feature_gate(id).is_some_and(|gate| {
            let value = state.get_u64(self.number, gate.id_register);
            value.is_some_and(|value| gate.hides(value))
        })
    }

    /// Checks the conditions of both reading and writing.
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

    /// Returns the value of a register after a write, or the errno of the write.
    fn resolve_write(
        &self,
        state: &VmState,
        id: RegisterId,
        value: &Value,
    ) -> Result<Value, Errno> {
        let register = self.profile.register(id).ok_or(Errno::ENOENT)?;
        let current = state.get(self.number, id);
        let is_current = current == Some(value);
        let is_at_reset = matches!(&register.at_reset, AtReset::Value(reset) if reset == value);
        if id == RegisterId::SVE_VLS && self.is_finalized(state) {
            return Err(Errno::EPERM);
        }
        let kind = RegisterKind::from_id(id);
        let is_fixed_after_run = match kind {
            RegisterKind::PmuModel => true,
            RegisterKind::PsciVersion | RegisterKind::Workaround(_) => false,
            _ => kind.scope() == Scope::Vm,
        };
        if state.has_run && is_fixed_after_run && !is_current {
            return Err(Errno::EBUSY);
        }
        // Ignore the recorded errno of the vector lengths, which is from a finalized vCPU.
        if is_at_reset && register.write_back != 0 && id != RegisterId::SVE_VLS {
            return Err(Errno(register.write_back));
        }
        if let (Some(pair), Value::U64(value)) = (SetClearPair::find(id), value) {
            return Ok(Value::U64(self.write_pair(state, pair, id, *value)));
        }
        if is_current {
            return Ok(value.clone());
        }
        let pstate = value.as_u64().filter(|_| id == RegisterId::CORE_PSTATE);
        if pstate.is_some_and(|value| !self.profile.has_mode(value)) {
            return Err(Errno::EINVAL);
        }
        match (self.profile.predict_write(register, value), value) {
            (WriteResult::Refused(errno), _) => Err(errno),
            // The trials of these registers ran in another state, so the recorded result does not
            // apply.
            (WriteResult::ReadBack(_), Value::U64(value)) if self.depends_on_others(id) => {
                let current = current.and_then(Value::as_u64).unwrap_or(0);
                let stored = self
                    .profile
                    .stored_value(id, *value, current, state.has_run);
                Ok(Value::U64(stored))
            }
            (WriteResult::ReadBack(read_back), _) => Ok(Value::U64(read_back)),
            (WriteResult::Masked, Value::U64(value)) => {
                let current = current.and_then(Value::as_u64).unwrap_or(0);
                let stored = self
                    .profile
                    .stored_value(id, *value, current, state.has_run);
                Ok(Value::U64(stored))
            }
            (WriteResult::Masked, wide) => Ok(wide.clone()),
        }
    }

    /// Returns `true` if a register's visible value depends on other registers or on time.
    fn depends_on_others(&self, id: RegisterId) -> bool {
        Timer::from_control(id).is_some()
            || (id == RegisterId::PMCR_EL0 && self.profile.has_counter_limit())
    }

    fn write_pair(&self, state: &VmState, pair: SetClearPair, id: RegisterId, value: u64) -> u64 {
        let current = state.get_u64(self.number, id).unwrap_or(0);
        let value = value & self.profile.pair_bits(pair) & self.counter_mask(state);
        match self.profile.has_clear_semantics() {
            false => value,
            true if id == pair.clear_register => current & !value,
            true => current | value,
        }
    }

    /// Returns the bits of the PMU's register pairs for which counters exist.
    fn counter_mask(&self, state: &VmState) -> u64 {
        let pmcr = state.get_u64(self.number, RegisterId::PMCR_EL0);
        match pmcr {
            Some(pmcr) if self.profile.has_counter_limit() => counter_bits(pmcr),
            _ => u64::MAX,
        }
    }

    /// Returns the visible value of a register of at most 64 bits, from its stored value.
    fn visible_value(&self, state: &VmState, id: RegisterId, stored: u64) -> u64 {
        let count = |counter| {
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
                stored.wrapping_add(state.ticks)
            }
            (Some(timer), _) if self.profile.has_timer_status(id) => {
                let compare = state.get_u64(self.number, timer.compare).unwrap_or(0);
                let has_expired = compare <= count(timer.counter);
                stored & !TIMER_STATUS | if has_expired { TIMER_STATUS } else { 0 }
            }
            (_, Some(_)) => stored & self.counter_mask(state),
            _ if dfr0.is_some_and(|dfr0| self.profile.is_read_as_32_bits(id, dfr0)) => {
                stored & LOW_32_BITS
            }
            _ => stored,
        }
    }

    /// Updates the registers that depend on a register after a write.
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
            for registers in &mut state.per_vcpu {
                if let Some(Value::U64(pmcr)) = registers.get_mut(&id) {
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
                // A counter is stored as its value at tick 0.
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
        let mut stored = self.resolve_write(&state, id, &Value::from_le_bytes(bytes))?;
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
