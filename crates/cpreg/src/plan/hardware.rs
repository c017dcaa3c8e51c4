//! The decision about each property of the hosts that no register list holds.
//!
//! A guest reads these properties when it boots and relies on them until it shuts down. No change
//! of a value bridges a difference. KVM does not refuse one: the guest's clock runs at the ratio of
//! the frequencies, its vectors lose their upper parts, and `DC ZVA` clears other memory.
//!
//! The exception is the GIC, whose limits the VM brings along: KVM refuses them ([`crate::gic`]).
//!
//! Only hosts with KVM pass their properties on to guests. QEMU's emulators have their own: a
//! destination with another accelerator has no decisions.
//!
//! Sources: Linux `arch/arm64/kvm/{guest,sys_regs,arch_timer}.c` of v7.3-rc7 (read); a Graviton2
//! guest whose clock ran 5.08 times too slow on Apple hardware (121.875 MHz and 24 MHz, measured by
//! the project gimbal-local).

use alloc::vec::Vec;
use core::fmt;

use super::input::PlanInput;
use crate::destination::{Accelerator, Confidence, DestinationVcpu};
use crate::gic::{Gic, GicLimits};
use crate::hardware::VectorLengths;
use crate::register::RegisterId;
use crate::severity::Usage;
use crate::vm::Vcpu;

/// Property of a host that its guests see and that no register list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HardwareFact {
    /// Frequency of the system counter, CNTFRQ_EL0.
    CounterFrequency,
    /// SVE vector lengths, KVM_REG_ARM64_SVE_VLS.
    VectorLengths,
    /// Block size of `DC ZVA`, DCZID_EL0.
    ZeroingBlock,
    /// Limits of the GICv3's CPU interface, ICC_CTLR_EL1.
    GicLimits,
}

impl HardwareFact {
    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CounterFrequency => "counter frequency",
            Self::VectorLengths => "SVE vector lengths",
            Self::ZeroingBlock => "DC ZVA block size",
            Self::GicLimits => "GIC limits (ICC_CTLR_EL1)",
        }
    }
}

/// Decision about one property of the hosts, with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareDecision {
    /// Property that the decision is about.
    pub fact: HardwareFact,
    /// Value at the VM's own host, if known: hertz, bits of [`VectorLengths`], DCZID_EL0,
    /// or bits of [`GicLimits`].
    pub source: Option<u64>,
    /// Value at the destination, if known.
    pub destination: Option<u64>,
    /// Action for the property.
    pub action: HardwareAction,
    /// Confidence in the premises of the decision.
    pub confidence: Confidence,
    /// Reason of the decision.
    pub reason: HardwareReason,
}

/// Action for a property of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HardwareAction {
    /// Load the VM: the guest keeps what it relies on.
    Keep,
    /// Load the VM, although the property is not known on both sides: the hosts have the same CPU.
    Assume,
    /// Refuse the load. No consent changes the decision.
    Refuse,
    /// No action, because there is not enough information to decide.
    Undecided,
}

impl HardwareAction {
    /// Returns the action's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Assume => "assume",
            Self::Refuse => "refuse",
            Self::Undecided => "unknown",
        }
    }
}

/// Reason of a decision about a property of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HardwareReason {
    /// Both hosts have the same value.
    Same,
    /// The destination has all of the source's vector lengths.
    HasAllLengths,
    /// The destination lacks a vector length, and the guest does not use SVE.
    VectorsUnused,
    /// The GIC of the destination has more bits than that of the VM.
    HasMoreBits,
    /// The values differ.
    Different,
    /// The destination lacks vector lengths that the guest may use.
    LacksLengths,
    /// The guest has requested longer vectors than the destination has.
    RequestedLength {
        /// Requested length in bits (ZCR_EL1.LEN).
        requested: u32,
        /// Greatest length in bits at the destination.
        max: u32,
    },
    /// The length that the guest has requested gives other vectors at the destination.
    LengthChanges {
        /// Length in bits at the source.
        source: u32,
        /// Length in bits at the destination.
        destination: u32,
    },
    /// The value is not known on both sides.
    NotKnown,
}

impl HardwareDecision {
    /// Returns `true` if the value at the VM's own host would decide, and is not known.
    pub fn lacks_source(&self) -> bool {
        self.reason == HardwareReason::NotKnown && self.source.is_none()
    }

    /// Returns `true` if the value at the destination would decide, and is not known.
    pub fn lacks_destination(&self) -> bool {
        self.reason == HardwareReason::NotKnown && self.destination.is_none()
    }
}

impl fmt::Display for HardwareDecision {
    /// Formats the reason of the decision.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            HardwareReason::Same => f.write_str("both hosts have the same"),
            HardwareReason::HasAllLengths => {
                f.write_str("the destination has all lengths of the source's host")
            }
            HardwareReason::VectorsUnused => f.write_str(
                "the destination lacks some of these lengths, and the guest does not use SVE",
            ),
            HardwareReason::HasMoreBits => f.write_str(
                "the destination's GIC has at least the bits of the VM's GIC, and KVM takes fewer",
            ),
            HardwareReason::Different => self.describe_difference(f),
            HardwareReason::LacksLengths => f.write_str(
                "the destination lacks some of these lengths: a guest that uses them would lose \
                 parts of its vectors",
            ),
            HardwareReason::RequestedLength { requested, max } => write!(
                f,
                "the guest has requested vectors of {requested} bits (ZCR_EL1.LEN), and the \
                 destination has at most {max} bits: it would lose parts of its vectors"
            ),
            HardwareReason::LengthChanges {
                source,
                destination,
            } => write!(
                f,
                "the guest's vectors (ZCR_EL1.LEN) would have {destination} bits in place of \
                 {source}"
            ),
            HardwareReason::NotKnown => f.write_str(match self.action {
                HardwareAction::Assume => "not known on both sides; the hosts have the same CPU",
                _ => "not known on both sides, and the hosts have different CPUs (MIDR_EL1)",
            }),
        }
    }
}

impl HardwareDecision {
    fn describe_difference(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(source), Some(destination)) = (self.source, self.destination) else {
            return f.write_str("the values differ");
        };
        match self.fact {
            HardwareFact::CounterFrequency => {
                // In hundredths.
                let (low, high) = (source.min(destination).max(1), source.max(destination));
                let ratio = (100 * high + low / 2) / low;
                let direction = if source > destination { "slow" } else { "fast" };
                write!(
                    f,
                    "the guest read the frequency when it booted: its clock would run {}.{:02} \
                     times too {direction}",
                    ratio / 100,
                    ratio % 100
                )
            }
            HardwareFact::ZeroingBlock => write!(
                f,
                "the guest clears memory in blocks of {}, and the destination clears {}",
                ZeroingBlock(source),
                ZeroingBlock(destination)
            ),
            HardwareFact::GicLimits => {
                let [vm, host] = [source, destination].map(GicLimits::from_icc_ctlr);
                write!(
                    f,
                    "KVM at the destination refuses the VM's ICC_CTLR_EL1: {}; QEMU aborts when \
                     KVM refuses it",
                    host.refused_fields(vm)
                )
            }
            HardwareFact::VectorLengths => f.write_str("the values differ"),
        }
    }
}

/// Value of DCZID_EL0, formatted as the block size.
#[derive(Clone, Copy, Debug)]
pub struct ZeroingBlock(pub u64);

impl fmt::Display for ZeroingBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PROHIBITED: u64 = 1 << 4;
        write!(f, "{} bytes", 4_u64 << (self.0 & 0xf))?;
        if self.0 & PROHIBITED != 0 {
            f.write_str(" (prohibited)")?;
        }
        Ok(())
    }
}

/// Returns one decision for each property that the guest can see.
pub(super) fn decide(input: PlanInput<'_>) -> Vec<HardwareDecision> {
    if input.destination.accelerator != Some(Accelerator::Kvm) || input.vm.vcpus.is_empty() {
        return Vec::new();
    }
    let (source, destination) = input.destination.comparable_facts(input.vm.source_hardware);
    let judge = Judge {
        has_other_cpu: has_other_cpu(input),
        confidence: input.destination.value_origin.max_confidence(),
    };
    let mut decisions = Vec::from([judge.equal(
        HardwareFact::CounterFrequency,
        source.counter_frequency.map(u64::from),
        destination.counter_frequency.map(u64::from),
    )]);
    decisions.extend(decide_vector_lengths(
        input,
        judge,
        source.vector_lengths,
        destination.vector_lengths,
    ));
    decisions.push(judge.equal(HardwareFact::ZeroingBlock, source.dczid, destination.dczid));
    decisions.extend(judge.gic(source.gic, destination.gic));
    decisions
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

/// Premises that the decisions share.
#[derive(Clone, Copy)]
struct Judge {
    /// `true` if the hosts are known to have different CPUs.
    has_other_cpu: bool,
    /// Confidence in the destination's values.
    confidence: Confidence,
}

impl Judge {
    /// Decides about a property that must be the same on both sides.
    fn equal(
        self,
        fact: HardwareFact,
        source: Option<u64>,
        destination: Option<u64>,
    ) -> HardwareDecision {
        let ruling = match source.zip(destination) {
            Some((source, destination)) if source == destination => {
                (HardwareAction::Keep, HardwareReason::Same)
            }
            Some(_) => (HardwareAction::Refuse, HardwareReason::Different),
            None => self.not_known(),
        };
        self.decision(fact, source, destination, ruling)
    }

    /// Decides about the limits of the VM's GICv3.
    ///
    /// Returns `None` for another interrupt controller. If only one side has a GICv3, the decision
    /// about the machine's devices refuses the VM.
    fn gic(self, source: Option<Gic>, destination: Option<Gic>) -> Option<HardwareDecision> {
        let limits = |gic: Option<Gic>| match gic {
            Some(Gic::V3(limits)) => Some(Some(limits)),
            Some(Gic::Other) => None,
            None => Some(None),
        };
        let (source, destination) = (limits(source)?, limits(destination)?);
        let ruling = match source.zip(destination) {
            Some((vm, host)) if vm == host => (HardwareAction::Keep, HardwareReason::Same),
            Some((vm, host)) if host.accepts(vm) => {
                (HardwareAction::Keep, HardwareReason::HasMoreBits)
            }
            Some(_) => refuse(HardwareReason::Different),
            None => self.not_known(),
        };
        let [source, destination] = [source, destination].map(|it| it.map(GicLimits::bits));
        Some(self.decision(HardwareFact::GicLimits, source, destination, ruling))
    }

    const fn not_known(self) -> (HardwareAction, HardwareReason) {
        let action = if self.has_other_cpu {
            HardwareAction::Undecided
        } else {
            HardwareAction::Assume
        };
        (action, HardwareReason::NotKnown)
    }

    fn decision(
        self,
        fact: HardwareFact,
        source: Option<u64>,
        destination: Option<u64>,
        (action, reason): (HardwareAction, HardwareReason),
    ) -> HardwareDecision {
        let confidence = match action {
            HardwareAction::Keep | HardwareAction::Refuse => self.confidence,
            HardwareAction::Assume => Confidence::Inferred,
            HardwareAction::Undecided => Confidence::Unknown,
        };
        HardwareDecision {
            fact,
            source,
            destination,
            action,
            confidence,
            reason,
        }
    }
}

/// Decides about the vector lengths, if the guest has SVE on both sides.
///
/// Without SVE at the destination, the decision about ZCR_EL1 refuses the VM.
fn decide_vector_lengths(
    input: PlanInput<'_>,
    judge: Judge,
    source: Option<VectorLengths>,
    destination: Option<VectorLengths>,
) -> Option<HardwareDecision> {
    let guest = VectorUse::from_vm(input)?;
    if !input
        .destination
        .vcpu(0)
        .is_some_and(has_sve_at_destination)
    {
        return None;
    }
    let ruling = match (source, destination) {
        (Some(source), Some(destination)) => guest.compare(source, destination),
        // A guest may request more than its host has and gets the host's greatest length, so the
        // request alone is no evidence on a host with the same CPU.
        (None, Some(destination)) if judge.has_other_cpu => guest
            .find_missing(destination)
            .map_or_else(|| guest.not_known(judge), refuse),
        (None, Some(_)) => guest.not_known(judge),
        (_, None) => guest.not_known(judge),
    };
    let bits = |lengths: VectorLengths| u64::from(lengths.bits());
    Some(judge.decision(
        HardwareFact::VectorLengths,
        source.map(bits),
        destination.map(bits),
        ruling,
    ))
}

const fn refuse(reason: HardwareReason) -> (HardwareAction, HardwareReason) {
    (HardwareAction::Refuse, reason)
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
    fn compare(
        &self,
        source: VectorLengths,
        destination: VectorLengths,
    ) -> (HardwareAction, HardwareReason) {
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

    const fn not_known(&self, judge: Judge) -> (HardwareAction, HardwareReason) {
        if self.is_unused {
            return (HardwareAction::Assume, HardwareReason::NotKnown);
        }
        judge.not_known()
    }
}

#[cfg(test)]
mod tests;
