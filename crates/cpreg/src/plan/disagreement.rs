//! VM-wide registers on which the vCPUs of a VM disagree.

use alloc::collections::{BTreeMap, BTreeSet};

use super::input::PlanInput;
use crate::destination::Accelerator;
use crate::destination::kernel::{self, RegisterKind, Scope};
use crate::register::{RegisterId, Value};
use crate::vm::Vcpu;

/// Returns the VM-wide registers on which the vCPUs disagree.
///
/// vCPUs disagree if they hold different values, or if only some of them have the register. A
/// loader writes its own value for a vCPU without the register.
pub(super) fn disagreements(input: PlanInput<'_>) -> BTreeSet<RegisterId> {
    // TCG keeps these registers per CPU, and a machine may have CPUs of several models.
    if input.destination.accelerator == Some(Accelerator::Tcg) {
        return BTreeSet::new();
    }
    // The user's changes leave equal values equal.
    let mut vcpus = input.vm.vcpus.iter();
    let first = vcpus.next();
    if first.is_none_or(|first| vcpus.all(|vcpu| has_same_vm_registers(first, vcpu))) {
        return BTreeSet::new();
    }
    let mut shared: BTreeMap<RegisterId, (&Value, usize, bool)> = BTreeMap::new();
    let with_user_sets = |id, value: &Value| {
        let value = value.as_u64()?;
        Some(input.consents.apply_sets(id, value))
    };
    let mut counters: Option<u64> = None;
    let mut counters_agree = true;
    for vcpu in &input.vm.vcpus {
        for (id, value) in vcpu.registers.iter() {
            if id == RegisterId::PMCR_EL0 {
                let count = with_user_sets(id, value).map(kernel::event_counter_count);
                counters_agree &= counters.is_none() || count == counters;
                counters = count;
            } else if RegisterKind::from_id(id).scope() == Scope::Vm {
                let (first, holders, agree) = shared.entry(id).or_insert((value, 0, true));
                *holders += 1;
                let is_same = || {
                    with_user_sets(id, first)
                        .is_some_and(|first| with_user_sets(id, value) == Some(first))
                };
                *agree &= *first == value || is_same();
            }
        }
    }
    let vcpus = input.vm.vcpus.len();
    let disagreed = shared
        .into_iter()
        .filter(|(_, (_, holders, agree))| !agree || *holders != vcpus);
    let mut disagreed: BTreeSet<_> = disagreed.map(|(id, _)| id).collect();
    // In PMCR_EL0, which is per vCPU, N is VM-wide on newer kernels. The last write of N wins.
    let first_destination_vcpu = input.destination.vcpu(0);
    let keeps_pmcr_per_vcpu =
        first_destination_vcpu.and_then(kernel::keeps_all_of_pmcr) == Some(true);
    if !counters_agree
        && input.destination.accelerator == Some(Accelerator::Kvm)
        && !keeps_pmcr_per_vcpu
    {
        disagreed.insert(RegisterId::PMCR_EL0);
    }
    disagreed
}

/// Returns `true` if two vCPUs certainly agree on all VM-wide registers.
///
/// [`disagreements`] also takes the user's changes into account.
pub(super) fn has_same_vm_registers(one: &Vcpu, other: &Vcpu) -> bool {
    // Nearly all values are equal, and most lists are.
    let is_shared = |id: RegisterId| {
        id == RegisterId::PMCR_EL0 || RegisterKind::from_id(id).scope() == Scope::Vm
    };
    if one
        .registers
        .differ_only_in(&other.registers, |id| !is_shared(id))
    {
        return true;
    }
    has_same_shared_registers(one, other)
}

fn has_same_shared_registers(one: &Vcpu, other: &Vcpu) -> bool {
    fn shared(vcpu: &Vcpu) -> impl Iterator<Item = (RegisterId, &Value)> {
        let registers = vcpu.registers.iter();
        registers.filter(|(id, _)| RegisterKind::from_id(*id).scope() == Scope::Vm)
    }
    let counters = |vcpu: &Vcpu| {
        let value = vcpu.registers.get_u64(RegisterId::PMCR_EL0);
        value.map(kernel::event_counter_count)
    };
    counters(one) == counters(other) && shared(one).eq(shared(other))
}
