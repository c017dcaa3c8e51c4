//! The decision about each property of the hosts that no register list holds.
//!
//! A guest reads these properties when it boots and relies on them until it shuts down. No change
//! of a value bridges a difference. KVM does not refuse one: the guest's clock runs at the ratio of
//! the frequencies, its vectors lose their upper parts, and `DC ZVA` clears other memory.
//!
//! The exception is the GIC, whose limits the VM brings along: KVM refuses them ([`crate::gic`]).
//! Another set of PMU events, or a later revision of the GIC, does not stop the load. It is a
//! [visible change](super::VisibleChange).
//!
//! Only hosts with KVM pass their properties on to guests. QEMU's emulators have their own: a
//! destination with another accelerator has no decisions.
//!
//! Sources: Linux `arch/arm64/kvm/{guest,sys_regs,arch_timer}.c` of v7.3-rc7 (read); a Graviton2
//! guest whose clock ran 5.08 times too slow on Apple hardware (121.875 MHz and 24 MHz, measured by
//! the project gimbal-local).

mod decision;
mod judge;
mod vectors;

use alloc::vec::Vec;

use super::input::PlanInput;
use crate::destination::features::GuestFeatures;
use crate::destination::{Accelerator, Features};
use crate::gic::Gic;
use crate::hardware::HardwareFact;
use crate::register::RegisterId;
use judge::Judge;

pub use decision::{HardwareAction, HardwareDecision, HardwareReason, TagBlock, ZeroingBlock};

/// Returns one decision for each property that the guest can see.
pub(super) fn decide(input: PlanInput<'_>) -> Vec<HardwareDecision> {
    if input.destination.accelerator != Some(Accelerator::Kvm) || input.vm.vcpus.is_empty() {
        return Vec::new();
    }
    let (source, destination) = input.destination.comparable_facts(input.vm.source_hardware);
    let judge = Judge {
        source,
        destination,
        has_other_cpu: has_other_cpu(input),
        confidence: input.destination.value_origin.max_confidence(),
    };
    let mut decisions = Vec::from([judge.equal(HardwareFact::CounterFrequency)]);
    decisions.extend(vectors::decide(input, judge));
    decisions.push(judge.equal(HardwareFact::ZeroingBlock));
    decisions.extend(judge.gic());
    let features = shared_features(input);
    if features.contains(Features::MTE) {
        decisions.push(judge.equal(HardwareFact::TagBlock));
    }
    if features.contains(Features::PMU) {
        decisions.push(judge.visible(HardwareFact::PmuEvents0));
        decisions.push(judge.visible(HardwareFact::PmuEvents1));
    }
    if ![source.gic, destination.gic].contains(&Some(Gic::Other)) {
        let vcpu = input.vm.vcpus.first();
        let source = infer_iidr(|id| vcpu.is_some_and(|it| it.registers.get(id).is_some()));
        let vcpu = input.destination.vcpu(0);
        let destination = infer_iidr(|id| vcpu.is_some_and(|it| it.get(id).is_some()));
        decisions.push(judge.gic_revision([source, destination]));
    }
    decisions
}

/// Returns the GICD_IIDR of the GICv3 of a kernel that lists registers for which `has` returns
/// `true`, or `None` if the list is not that of a KVM with PSCI.
///
/// Linux 5.19 brought the firmware bitmaps (commit 05714cab7d63) and revision 3 of the GIC (commit
/// 49a1a2c70a7f). A distribution can have only one of them, so the value is inferred.
fn infer_iidr(has: impl Fn(RegisterId) -> bool) -> Option<u32> {
    const REVISION_2: u32 = 0x4b00_243b;
    const REVISION_3: u32 = 0x4b00_343b;
    if has(RegisterId::STD_BMAP) {
        Some(REVISION_3)
    } else {
        has(RegisterId::PSCI_VERSION).then_some(REVISION_2)
    }
}

/// Returns MTE and the PMU, if the guest has them on both sides.
fn shared_features(input: PlanInput<'_>) -> Features {
    let vcpus = input.vm.vcpus.iter().map(|vcpu| &vcpu.registers);
    let guest = GuestFeatures::from_vcpus(vcpus).without_undetermined();
    let destination = input.destination.vcpu(0);
    let has = |id| destination.is_some_and(|vcpu| vcpu.get(id).is_some());
    let features = [
        (Features::MTE, RegisterId::RGSR_EL1),
        (Features::PMU, RegisterId::PMCR_EL0),
    ];
    let shared = features
        .into_iter()
        .filter(|(feature, register)| guest.contains(*feature) && has(*register));
    shared.fold(Features::NONE, |all, (feature, _)| all | feature)
}

/// Returns `true` if the MIDR_EL1 with which the VM arrived differs from the destination's.
fn has_other_cpu(input: PlanInput<'_>) -> bool {
    let mut vcpus = input.vm.vcpus.iter().enumerate();
    vcpus.any(|(number, vcpu)| {
        let source = vcpu.registers.get_u64(RegisterId::MIDR_EL1);
        let destination = input.destination.vcpu(number);
        let destination = destination.and_then(|vcpu| vcpu.value(RegisterId::MIDR_EL1));
        source
            .zip(destination)
            .is_some_and(|(source, destination)| source != destination)
    })
}

#[cfg(test)]
mod tests;
