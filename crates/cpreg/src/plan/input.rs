//! [`PlanInput`]: what every decision needs to see.

use alloc::collections::BTreeMap;

use super::Consents;
use crate::destination::Destination;
use crate::register::RegisterId;
use crate::tolerance::Tolerances;
use crate::vm::Vm;

/// The values that registers are adjusted to, by vCPU and register.
pub(super) type Targets = BTreeMap<(usize, RegisterId), u64>;

/// What every decision needs to see.
#[derive(Clone, Copy)]
pub(super) struct PlanInput<'a> {
    pub(super) vm: &'a Vm,
    pub(super) destination: &'a Destination,
    pub(super) tolerances: &'a Tolerances,
    pub(super) consents: &'a Consents,
    pub(super) targets: &'a Targets,
}
