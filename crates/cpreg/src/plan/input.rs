//! [`PlanInput`]: inputs that all decisions share.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;

use super::{Consents, SetConsent};
use crate::destination::Destination;
use crate::register::{RegisterId, Value};
use crate::severity::GuestState;
use crate::tolerance::Tolerances;
use crate::vm::{Registers, Vcpu, Vm};

/// New values of adjusted registers, by vCPU number and register.
pub(super) type Targets = BTreeMap<(usize, RegisterId), u64>;

/// Inputs that all decisions share.
#[derive(Clone, Copy)]
pub(super) struct PlanInput<'a> {
    /// The VM, with the destination's ids of registers.
    pub(super) vm: &'a Vm,
    pub(super) destination: &'a Destination,
    pub(super) tolerances: &'a Tolerances,
    pub(super) consents: &'a Consents,
    pub(super) targets: &'a Targets,
    /// Evidence of the features that the guest uses.
    pub(super) guest: &'a GuestState,
}

/// Returns one vCPU's registers with the values that the user set, and with the accepted
/// adjustments.
pub(super) fn planned_registers<'v>(
    sets: &[SetConsent],
    targets: &Targets,
    number: usize,
    vcpu: &'v Vcpu,
) -> Cow<'v, Registers> {
    if sets.is_empty() && targets_of(targets, number).next().is_none() {
        return Cow::Borrowed(&vcpu.registers);
    }
    let mut planned = vcpu.registers.clone();
    for set in sets {
        let value = planned.get(set.register);
        // A set of the whole register needs no value before it.
        let is_replaced = set.mask == u64::MAX && value.is_some_and(Value::is_unknown);
        let value = value.and_then(Value::as_u64).or(is_replaced.then_some(0));
        if let Some(value) = value {
            planned.insert(set.register, Value::U64(set.apply(value)));
        }
    }
    for (register, to) in targets_of(targets, number) {
        if planned.get(register).is_some() {
            planned.insert(register, Value::U64(to));
        }
    }
    Cow::Owned(planned)
}

/// Returns the adjusted registers of one vCPU with their new values, ascending.
pub(super) fn targets_of(
    targets: &Targets,
    number: usize,
) -> impl Iterator<Item = (RegisterId, u64)> {
    let all = (number, RegisterId::from_raw(0))..=(number, RegisterId::from_raw(u64::MAX));
    let targets = targets.range(all);
    targets.map(|((_, register), to)| (*register, *to))
}
