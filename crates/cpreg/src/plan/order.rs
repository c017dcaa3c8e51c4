//! What to write in which order, for a loader that writes one register after another and may choose.
//!
//! The order is KVM's own requirement: vector lengths before the vCPU is finalized; what belongs to the VM and what its
//! visibility hangs on before the first run and before what it hides; PMCR_EL0.N before the counters it bounds; of the pairs of PMU
//! registers the one that clears before the one that sets, since between v6.7 (a45f41d754e0) and v6.14 writing the former takes bits away (seen on
//! 6.12.107); time last, since it runs on from the moment it is written. Loaders with an order of their own (QEMU: ascending) ignore this.

use alloc::vec::Vec;

use super::{Action, VcpuPlan};
use crate::destination::kernel::RegisterKind;
use crate::register::{RegisterId, Value};

/// The steps of a load, in order.
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
        _ if PMU_CLEAR_SET_PAIRS.iter().any(|(clears, _)| *clears == id) => {
            WriteStep::MonitorClears
        }
        _ => WriteStep::Rest,
    }
}

/// Registers of the PMU that clear, and the ones that set the same bits.
const PMU_CLEAR_SET_PAIRS: [(RegisterId, RegisterId); 3] = [
    (RegisterId::PMCNTENCLR_EL0, RegisterId::PMCNTENSET_EL0),
    (RegisterId::PMINTENCLR_EL1, RegisterId::PMINTENSET_EL1),
    (RegisterId::PMOVSCLR_EL0, RegisterId::PMOVSSET_EL0),
];

/// What clears all bits where writing a register clears them.
static ALL_BITS: Value = Value::U64(u64::MAX);

impl VcpuPlan {
    /// The registers to write and what to write to them, in the order in which to do it.
    ///
    /// A register of the PMU that clears is written with all bits set where the one that sets the same bits follows: what it reads is not what
    /// writing it brings back.
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
        for (clears, sets) in PMU_CLEAR_SET_PAIRS {
            let at = |id| writes.iter().position(|(other, _)| *other == id);
            if let (Some(at), Some(_)) = (at(clears), at(sets)) {
                writes[at].1 = &ALL_BITS;
            }
        }
        writes.sort_unstable_by_key(|(id, _)| (step(*id), *id));
        writes
    }
}
