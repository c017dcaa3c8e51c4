//! The order of writes, for a loader that writes one register after another in any order.
//!
//! KVM requires this order:
//! - Writes of vector lengths precede the call that finalizes the vCPU.
//! - VM-wide registers, which include the ID registers, precede the first run and the registers
//!   that they hide.
//! - PMCR_EL0 precedes the counters, whose number its field N bounds.
//! - In a pair of PMU registers, the register that clears bits precedes the register that sets the
//!   same bits. From v6.7 (a45f41d754e0) to v6.14, writing the former clears bits (observed on
//!   6.12.107).
//! - Counters of time come last, because they run from the moment of the write.
//!
//! Loaders with an order of their own ignore this order. QEMU writes ascending by id.

use alloc::vec::Vec;

use super::{Action, VcpuPlan};
use crate::destination::kernel::RegisterKind;
use crate::register::{RegisterId, Value};

/// Steps of a load, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum WriteStep {
    VectorLengths,
    Controls,
    Identification,
    Caches,
    MonitorControl,
    MonitorClears,
    Rest,
    Time,
}

fn step(id: RegisterId) -> WriteStep {
    match RegisterKind::from_id(id) {
        RegisterKind::VectorLengths => WriteStep::VectorLengths,
        RegisterKind::PsciVersion
        | RegisterKind::Workaround(_)
        | RegisterKind::FirmwareBitmap(_) => WriteStep::Controls,
        RegisterKind::Implementation | RegisterKind::Identification | RegisterKind::CacheType => {
            WriteStep::Identification
        }
        RegisterKind::CacheLevels | RegisterKind::CacheSize(_) => WriteStep::Caches,
        RegisterKind::Counter => WriteStep::Time,
        _ if id == RegisterId::PMCR_EL0 => WriteStep::MonitorControl,
        _ if PMU_CLEAR_SET_PAIRS.iter().any(|(clear, _)| *clear == id) => WriteStep::MonitorClears,
        _ => WriteStep::Rest,
    }
}

/// Pairs of PMU registers. The first clears bits, and the second sets the same bits.
const PMU_CLEAR_SET_PAIRS: [(RegisterId, RegisterId); 3] = [
    (RegisterId::PMCNTENCLR_EL0, RegisterId::PMCNTENSET_EL0),
    (RegisterId::PMINTENCLR_EL1, RegisterId::PMINTENSET_EL1),
    (RegisterId::PMOVSCLR_EL0, RegisterId::PMOVSSET_EL0),
];

/// Value that clears all bits, written to the first register of a pair in [`PMU_CLEAR_SET_PAIRS`].
static ALL_BITS: Value = Value::U64(u64::MAX);

impl VcpuPlan {
    /// Returns the registers to write with their values, in the order of the writes.
    ///
    /// For a pair of PMU registers, the first write clears all bits, and the second sets the bits
    /// of the plan. The saved value is useless for the first register, because writing it would
    /// clear the bits to set.
    pub fn writes(&self) -> Vec<(RegisterId, &Value)> {
        let mut writes = Vec::with_capacity(self.decisions.len());
        writes.extend(self.decisions.iter().filter_map(|decision| {
            let value = match &decision.action {
                Action::Copy => decision.source.as_ref(),
                Action::Set(value) | Action::WriteReset(value) => Some(value),
                _ => None,
            };
            value.map(|value| (decision.register, value))
        }));
        for (clear, set) in PMU_CLEAR_SET_PAIRS {
            let index = |id| writes.iter().position(|(other, _)| *other == id);
            if let (Some(index), Some(_)) = (index(clear), index(set)) {
                writes[index].1 = &ALL_BITS;
            }
        }
        writes.sort_unstable_by_key(|(id, _)| (step(*id), *id));
        writes
    }
}
