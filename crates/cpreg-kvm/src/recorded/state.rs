//! [`VmState`]: the mutable state of a VM, its calls, and faults for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cpreg::destination::kernel::{RegisterKind, Scope};
use cpreg::register::{RegisterId, Value};

use crate::errno::Errno;

/// Write that fails although the record has no such failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Failure of every write of this register, with this errno.
    Register(RegisterId, Errno),
    /// Failure of the write with this number in a VM, from 0, with this errno.
    Write(usize, Errno),
}

/// Calls of a VM so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Number of register reads.
    pub reads: usize,
    /// Number of the vCPU and register of each write, in order. Failed writes are included.
    pub writes: Vec<(usize, RegisterId)>,
    /// Number of register lists.
    pub lists: usize,
    /// Number of calls to finalize SVE. Failed calls are included.
    pub finalize_calls: usize,
}

impl Calls {
    /// Returns the number of system calls that a real VM would have taken.
    pub const fn total(&self) -> usize {
        self.reads + self.writes.len() + self.lists + self.finalize_calls
    }
}

/// Mutable state of a VM.
#[derive(Debug, Default)]
pub(super) struct VmState {
    /// Values of VM-wide registers.
    pub(super) vm_wide: BTreeMap<RegisterId, Value>,
    /// Values of each vCPU's registers.
    pub(super) per_vcpu: Vec<BTreeMap<RegisterId, Value>>,
    /// `true` for each vCPU with finalized SVE.
    pub(super) sve_finalized: Vec<bool>,
    /// Number of counter reads.
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

/// Locks the state. A panic of another holder leaves the state consistent, because each change is
/// one assignment.
pub(super) fn lock(state: &Mutex<VmState>) -> MutexGuard<'_, VmState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
