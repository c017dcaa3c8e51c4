//! Descriptors of VMs and vCPUs.
//!
//! A call on any other descriptor costs one load from an array.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use cpreg_vcpu_filter::VmFilter;

/// Number of descriptors in the table. The kernel gives out the lowest free number.
const TABLE_LEN: usize = 1 << 16;

/// Object behind a descriptor.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    /// VM.
    Vm(Arc<Mutex<VmFilter>>),
    /// vCPU with this number.
    Vcpu(Arc<Mutex<VmFilter>>, usize),
}

/// Table from descriptors to objects.
///
/// A slot is 0 for an unknown descriptor. Otherwise it is the number of the object, counted from 1,
/// shifted by one. Bit 0 marks a vCPU that runs.
#[derive(Debug)]
pub(crate) struct Descriptors {
    slots: Box<[AtomicU32]>,
    /// Objects by number; `None` after the descriptor was closed.
    objects: RwLock<Vec<Option<Object>>>,
}

const RUNNING: u32 = 1;

impl Descriptors {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..TABLE_LEN).map(|_| AtomicU32::new(0)).collect(),
            objects: RwLock::new(Vec::new()),
        }
    }

    fn slot(&self, descriptor: c_int) -> Option<&AtomicU32> {
        self.slots.get(usize::try_from(descriptor).ok()?)
    }

    /// Records the object of a descriptor. Returns `false` if the table has no slot for it.
    pub(crate) fn insert(&self, descriptor: c_int, object: Object) -> bool {
        let Some(slot) = self.slot(descriptor) else {
            return false;
        };
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.push(Some(object));
        let number = u32::try_from(objects.len()).unwrap_or(0);
        slot.store(number << 1, Ordering::Release);
        true
    }

    /// Forgets a descriptor.
    pub(crate) fn remove(&self, descriptor: c_int) {
        let Some(slot) = self.slot(descriptor) else {
            return;
        };
        if slot.load(Ordering::Relaxed) == 0 {
            return;
        }
        let number = slot.swap(0, Ordering::AcqRel) >> 1;
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        if let Some(object) = index.and_then(|index| objects.get_mut(index)) {
            *object = None;
        }
    }

    /// Returns `true` if the table has an object for the descriptor.
    pub(crate) fn contains(&self, descriptor: c_int) -> bool {
        let slot = self.slot(descriptor);
        slot.is_some_and(|slot| slot.load(Ordering::Relaxed) != 0)
    }

    /// Returns the object of a descriptor.
    pub(crate) fn get(&self, descriptor: c_int) -> Option<Object> {
        let number = self.slot(descriptor)?.load(Ordering::Acquire) >> 1;
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(index).cloned().flatten()
    }

    /// Returns `true` if the vCPU was marked as running.
    pub(crate) fn is_running(&self, descriptor: c_int) -> bool {
        let slot = self.slot(descriptor);
        slot.is_some_and(|slot| slot.load(Ordering::Acquire) & RUNNING != 0)
    }

    /// Marks a vCPU as running or not.
    pub(crate) fn set_running(&self, descriptor: c_int, is_running: bool) {
        if let Some(slot) = self.slot(descriptor) {
            if is_running {
                slot.fetch_or(RUNNING, Ordering::AcqRel);
            } else {
                slot.fetch_and(!RUNNING, Ordering::AcqRel);
            }
        }
    }

    /// Returns the only VM that has a vCPU with this number.
    pub(crate) fn vm_with_vcpu(&self, number: usize) -> Option<Arc<Mutex<VmFilter>>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let mut vms = objects.iter().filter_map(|object| match object {
            Some(Object::Vcpu(vm, other)) if *other == number => Some(vm),
            _ => None,
        });
        let first = vms.next()?;
        vms.all(|vm| Arc::ptr_eq(vm, first)).then(|| first.clone())
    }
}

/// Locks a VM. After a panic the VM's state is used as it is.
pub(crate) fn lock(vm: &Mutex<VmFilter>) -> MutexGuard<'_, VmFilter> {
    vm.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_forgotten_and_reused() {
        let descriptors = Descriptors::new();
        let vm = || Arc::new(Mutex::new(VmFilter::new(Arc::default())));
        let (one, other) = (vm(), vm());
        assert!(descriptors.insert(5, Object::Vcpu(one.clone(), 0)));
        descriptors.set_running(5, true);
        assert!(descriptors.is_running(5) && !descriptors.is_running(6));
        assert!(
            descriptors
                .vm_with_vcpu(0)
                .is_some_and(|vm| Arc::ptr_eq(&vm, &one))
        );
        descriptors.remove(5);
        assert!(descriptors.get(5).is_none() && !descriptors.is_running(5));
        assert!(descriptors.insert(5, Object::Vcpu(other.clone(), 0)));
        assert!(
            matches!(descriptors.get(5), Some(Object::Vcpu(vm, 0)) if Arc::ptr_eq(&vm, &other))
        );
        assert!(descriptors.insert(6, Object::Vcpu(one, 0)));
        assert!(descriptors.vm_with_vcpu(0).is_none());
        for unknown in [-1, c_int::MAX] {
            assert!(!descriptors.insert(unknown, Object::Vm(vm())));
            assert!(descriptors.get(unknown).is_none());
        }
    }
}
