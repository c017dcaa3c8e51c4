//! [`State`]: all that changes in a VM, what was asked of it, and faults to test with.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cpreg::destination::kernel::{RegisterKind, Scope};
use cpreg::register::{RegisterId, Value};

use crate::errno::Errno;

/// A write that fails though the record does not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every write of this register.
    Register(RegisterId, Errno),
    /// The write of that number in a VM, from 0.
    Write(usize, Errno),
}

/// What was asked of a VM so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// How many registers were read.
    pub reads: usize,
    /// What was written, on which vCPU, in order; failed writes as well.
    pub writes: Vec<(usize, RegisterId)>,
    /// How many lists were asked for.
    pub lists: usize,
    /// How many times SVE was finalized, or should have been.
    pub finalize_calls: usize,
}

impl Calls {
    /// How many system calls a real VM would have taken.
    pub const fn total(&self) -> usize {
        self.reads + self.writes.len() + self.lists + self.finalize_calls
    }
}

/// All that changes in a VM.
#[derive(Debug, Default)]
pub(super) struct VmState {
    /// What belongs to the VM.
    pub(super) vm_wide: BTreeMap<RegisterId, Value>,
    /// What each vCPU has.
    pub(super) per_vcpu: Vec<BTreeMap<RegisterId, Value>>,
    /// Which vCPUs have their SVE finalized.
    pub(super) sve_finalized: Vec<bool>,
    /// How often counters were read.
    pub(super) ticks: u64,
    pub(super) has_run: bool,
    pub(super) faults: Vec<Fault>,
    pub(super) calls: Calls,
}

impl VmState {
    fn values(&self, vcpu: usize, id: RegisterId) -> Option<&BTreeMap<RegisterId, Value>> {
        match RegisterKind::from_id(id).scope() {
            Scope::Vcpu => self.per_vcpu.get(vcpu),
            Scope::Vm | Scope::VmCounter => Some(&self.vm_wide),
        }
    }

    pub(super) fn get(&self, vcpu: usize, id: RegisterId) -> Option<&Value> {
        self.values(vcpu, id)?.get(&id)
    }

    pub(super) fn get_u64(&self, vcpu: usize, id: RegisterId) -> Option<u64> {
        self.get(vcpu, id)?.as_u64()
    }

    pub(super) fn set(&mut self, vcpu: usize, id: RegisterId, value: Value) {
        let values = match RegisterKind::from_id(id).scope() {
            Scope::Vcpu => self.per_vcpu.get_mut(vcpu),
            Scope::Vm | Scope::VmCounter => Some(&mut self.vm_wide),
        };
        if let Some(values) = values {
            values.insert(id, value);
        }
    }
}

/// A panic elsewhere leaves the state as whole as it was: each change is one assignment.
pub(super) fn lock(state: &Mutex<VmState>) -> MutexGuard<'_, VmState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
