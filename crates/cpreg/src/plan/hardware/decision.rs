//! [`HardwareDecision`]: a decision about a property of the hosts, with its reason in words.

use core::fmt;

use crate::destination::Confidence;
use crate::gic::GicLimits;
use crate::hardware::{HardwareFact, gic_revision};
use crate::severity::Severity;

/// Decision about one property of the hosts, with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HardwareDecision {
    /// Property that the decision is about.
    pub fact: HardwareFact,
    /// Value at the VM's own host, if known: hertz, bits of
    /// [`VectorLengths`](crate::hardware::VectorLengths) or [`GicLimits`], or the register.
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
    /// Load the VM, although the property differs. The plan has a [visible
    /// change](crate::plan::VisibleChange).
    Change,
    /// Load the VM, although the property is not known of both hosts. The hosts have the same CPU,
    /// or the guest could only notice a difference.
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
            Self::Change => "change",
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
    /// The GIC of the destination has an earlier revision, and the VM takes no LPIs.
    LpisUnused,
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
    /// The value is not known of both hosts.
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
            HardwareReason::LpisUnused => f.write_str(
                "the guest takes no LPIs (GICR_CTLR.EnableLPIs is 0), so it does not notice that \
                 GICR_INVLPIR is ignored",
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
                _ if self.fact.is_only_visible() => {
                    "not known of both hosts; a difference does not stop the load"
                }
                _ if self.fact == HardwareFact::GicRevision => {
                    "not known of both hosts; hosts have revision 3 since Linux 5.19"
                }
                HardwareAction::Assume => "not known of both hosts; they have the same CPU",
                _ => "not known of both hosts, which have different CPUs (MIDR_EL1)",
            }),
        }
    }
}

impl HardwareDecision {
    /// Returns the severity of a difference that the guest can notice: medium if events of the PMU
    /// or a feature of the GIC disappear, else low.
    pub(in crate::plan) fn severity(&self) -> Severity {
        let (source, destination) = (self.source.unwrap_or(0), self.destination.unwrap_or(0));
        let loses_events = self.fact.is_only_visible() && source & !destination != 0;
        if loses_events || self.reason == HardwareReason::LpisUnused {
            Severity::Medium
        } else {
            Severity::Low
        }
    }

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
            HardwareFact::TagBlock => write!(
                f,
                "the guest copies MTE tags in blocks of {}, and the destination copies {}",
                TagBlock(source),
                TagBlock(destination)
            ),
            HardwareFact::PmuEvents0 | HardwareFact::PmuEvents1 => f.write_str(
                "the guest read the events when it booted; it counts 0 of an event that the \
                 destination lacks",
            ),
            HardwareFact::GicRevision if self.action == HardwareAction::Refuse => write!(
                f,
                "the guest found revision {} when it booted and invalidates LPIs by GICR_INVLPIR, \
                 which revision {} ignores: interrupts that it enables later do not arrive",
                gic_revision(source),
                gic_revision(destination)
            ),
            HardwareFact::GicRevision => {
                f.write_str("the guest keeps what it found out about its GIC when it booted")
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

/// Value of GMID_EL1, formatted as the number of bytes whose tags one instruction accesses.
#[derive(Clone, Copy, Debug)]
pub struct TagBlock(pub u64);

impl fmt::Display for TagBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", 4_u64 << (self.0 & 0xf))
    }
}
