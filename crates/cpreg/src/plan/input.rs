//! [`PlanInput`]: inputs that all decisions share.

use alloc::collections::BTreeMap;

use super::Consents;
use crate::destination::Destination;
use crate::register::RegisterId;
use crate::severity::GuestState;
use crate::tolerance::Tolerances;
use crate::vm::Vm;

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
