//! The order of writes, for a loader that writes one register after another in any order.
//!
//! KVM requires this order:
//! - Vector lengths come before the vCPU is finalized.
//! - Registers of the VM, and ID registers, come before the first run and before the registers that
//!   they hide.
//! - PMCR_EL0.N comes before the counters that it bounds.
//! - In a pair of PMU registers, the one that clears comes before the one that sets. Between v6.7
//!   (a45f41d754e0) and v6.14, writing the former clears bits (observed on 6.12.107).
//! - Time comes last, since it runs from the moment of the write.
//!
//! Loaders with a fixed order (QEMU: ascending) ignore this one.

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

/// PMU registers that clear bits, each with the one that sets the same bits.
const PMU_CLEAR_SET_PAIRS: [(RegisterId, RegisterId); 3] = [
    (RegisterId::PMCNTENCLR_EL0, RegisterId::PMCNTENSET_EL0),
    (RegisterId::PMINTENCLR_EL1, RegisterId::PMINTENSET_EL1),
    (RegisterId::PMOVSCLR_EL0, RegisterId::PMOVSSET_EL0),
];

/// Value that clears all bits of a register whose written ones clear bits.
static ALL_BITS: Value = Value::U64(u64::MAX);

impl VcpuPlan {
    /// Returns the registers to write with their values, in the order of the writes.
    ///
    /// A PMU register that clears bits is written with all bits set if the one that sets the same
    /// bits follows. Writing back the value that it reads would not restore it.
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
