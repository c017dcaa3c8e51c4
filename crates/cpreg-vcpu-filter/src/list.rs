//! The list of registers that the VMM gets.

use cpreg::destination::Features;
use cpreg::destination::features::GuestFeatures;
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Registers;

use crate::policy::{Policy, invented_value};
use crate::vcpu::{Remembered, VcpuFilter};

/// Returns the list of a VMM that does not start to receive a VM: the kernel's list without the
/// dropped registers.
pub(crate) fn without_dropped(policy: &Policy, mut list: Vec<RegisterId>) -> Vec<RegisterId> {
    list.retain(|id| !policy.drop.contains(id));
    list
}

/// Returns the list of a VMM that starts to receive a VM: the kernel's list, and the registers that
/// the VM may have and the host lacks.
pub(crate) fn with_candidates(
    policy: &Policy,
    tolerances: &Tolerances,
    vcpu: &mut VcpuFilter,
    mut list: Vec<RegisterId>,
) -> Vec<RegisterId> {
    let features = features(&list);
    let candidates = policy.candidates.iter();
    let possible = candidates.filter(|candidate| candidate.is_possible(features));
    for id in possible.map(|candidate| candidate.register) {
        let is_listed = vcpu.is_listed(id) || list.contains(&id);
        let Some(initial) = invented_value(id, tolerances, &policy.consents) else {
            continue;
        };
        if !is_listed {
            let incoming = vcpu.incoming.get(id).and_then(Value::as_u64);
            let remembered = Remembered {
                initial,
                current: incoming.unwrap_or(initial),
            };
            vcpu.remembered.entry(id).or_insert(remembered);
        }
    }
    let remembered = vcpu.remembered.keys().copied();
    list.extend(remembered.collect::<Vec<_>>());
    list
}

/// Returns the features of a guest with these registers.
fn features(list: &[RegisterId]) -> Features {
    let unknown = list.iter().map(|id| (*id, Value::unknown()));
    let registers = Registers::from_pairs(unknown).unwrap_or_default();
    GuestFeatures::from_registers(&registers).features
}
