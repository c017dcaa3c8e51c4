//! The decision about SVE vector lengths.

use alloc::vec::Vec;

use super::decision::{HardwareAction, HardwareDecision, HardwareReason};
use super::judge::{Judge, Ruling, refuse};
use crate::destination::DestinationVcpu;
use crate::hardware::{HardwareFact, VectorLengths};
use crate::plan::input::PlanInput;
use crate::register::RegisterId;
use crate::severity::Usage;
use crate::vm::Vcpu;

/// Decides about the vector lengths, if the guest has SVE on both sides.
///
/// Without SVE at the destination, the decision about ZCR_EL1 refuses the VM.
pub(super) fn decide(input: PlanInput<'_>, judge: Judge) -> Option<HardwareDecision> {
    let guest = VectorUse::from_vm(input)?;
    if !input
        .destination
        .vcpu(0)
        .is_some_and(has_sve_at_destination)
    {
        return None;
    }
    let lengths = (
        judge.source.vector_lengths,
        judge.destination.vector_lengths,
    );
    let ruling = match lengths {
        (Some(source), Some(destination)) => guest.compare(source, destination),
        // A guest may request more than its host has and gets the host's greatest length, so the
        // request alone is no evidence on a host with the same CPU.
        (None, Some(destination)) if judge.has_other_cpu => guest
            .find_missing(destination)
            .map_or_else(|| guest.not_known(judge), refuse),
        _ => guest.not_known(judge),
    };
    Some(judge.decision(HardwareFact::VectorLengths, ruling))
}

/// Bits 35:32 of ID_AA64PFR0_EL1, SVE.
const PFR0_SVE: u64 = 0xf << 32;

fn has_sve(vcpu: &Vcpu) -> bool {
    let pfr0 = vcpu.registers.get_u64(RegisterId::ID_AA64PFR0_EL1);
    vcpu.registers.get(RegisterId::ZCR_EL1).is_some()
        || pfr0.is_some_and(|pfr0| pfr0 & PFR0_SVE != 0)
}

fn has_sve_at_destination(vcpu: &DestinationVcpu) -> bool {
    let pfr0 = vcpu.value(RegisterId::ID_AA64PFR0_EL1);
    vcpu.get(RegisterId::ZCR_EL1).is_some() || pfr0.is_some_and(|pfr0| pfr0 & PFR0_SVE != 0)
}

/// Use of SVE by a guest that has SVE.
struct VectorUse {
    /// `true` if the guest's state proves that the guest does not use SVE.
    is_unused: bool,
    /// Lengths in bits that vCPUs have requested (ZCR_EL1.LEN).
    requested: Vec<u32>,
}

impl VectorUse {
    /// Returns the use of SVE, or `None` for a guest without SVE.
    ///
    /// ZCR_EL1 counts both as it came in and as the user set it.
    fn from_vm(input: PlanInput<'_>) -> Option<Self> {
        const ZCR_LEN: u64 = 0xf;
        let vcpus: Vec<_> = input.vm.vcpus.iter().filter(|vcpu| has_sve(vcpu)).collect();
        if vcpus.is_empty() {
            return None;
        }
        let mut requested = Vec::new();
        for vcpu in vcpus {
            let Some(incoming) = vcpu.registers.get_u64(RegisterId::ZCR_EL1) else {
                continue;
            };
            let planned = input.consents.apply_sets(RegisterId::ZCR_EL1, incoming);
            let lengths = [incoming, planned].map(|zcr| ((zcr & ZCR_LEN) + 1) * 128);
            requested.extend(lengths.into_iter().flat_map(u32::try_from));
        }
        Some(Self {
            is_unused: input.guest.vectors() == Usage::Unused,
            requested,
        })
    }

    /// Compares the known lengths of both hosts.
    fn compare(&self, source: VectorLengths, destination: VectorLengths) -> Ruling {
        if !destination.contains(source) {
            return if self.is_unused {
                (HardwareAction::Keep, HardwareReason::VectorsUnused)
            } else {
                refuse(HardwareReason::LacksLengths)
            };
        }
        let mut changes = self.requested.iter().filter_map(|requested| {
            let lengths = [source, destination].map(|set| set.max_bits_up_to(*requested));
            match lengths {
                [Some(source), Some(destination)] if source != destination => {
                    Some(HardwareReason::LengthChanges {
                        source,
                        destination,
                    })
                }
                _ => None,
            }
        });
        match changes.next().filter(|_| !self.is_unused) {
            Some(reason) => refuse(reason),
            None if source == destination => (HardwareAction::Keep, HardwareReason::Same),
            None => (HardwareAction::Keep, HardwareReason::HasAllLengths),
        }
    }

    /// Returns the reason if a vCPU has requested more than the destination has.
    fn find_missing(&self, destination: VectorLengths) -> Option<HardwareReason> {
        let requested = self.requested.iter().copied().max()?;
        let max = destination.max_bits().unwrap_or(0);
        (requested > max && !self.is_unused)
            .then_some(HardwareReason::RequestedLength { requested, max })
    }

    const fn not_known(&self, judge: Judge) -> Ruling {
        if self.is_unused {
            return (HardwareAction::Assume, HardwareReason::NotKnown);
        }
        judge.not_known()
    }
}
