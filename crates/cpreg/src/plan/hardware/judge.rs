//! [`Judge`]: decisions about single properties of the hosts.

use super::decision::{
    HardwareAction, HardwareDecision, HardwareFact, HardwareReason, gic_revision,
};
use crate::destination::Confidence;
use crate::gic::{Gic, GicLimits};

/// Premises that the decisions share.
#[derive(Clone, Copy)]
pub(super) struct Judge {
    /// `true` if the hosts are known to have different CPUs.
    pub(super) has_other_cpu: bool,
    /// Confidence in the destination's values.
    pub(super) confidence: Confidence,
}

impl Judge {
    /// Decides about a property that must be the same on both sides.
    pub(super) fn equal(
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

    /// Decides about a property of which the guest could only notice a difference.
    pub(super) fn visible(
        self,
        fact: HardwareFact,
        source: Option<u64>,
        destination: Option<u64>,
    ) -> HardwareDecision {
        let ruling = match source.zip(destination) {
            Some((source, destination)) if source == destination => {
                (HardwareAction::Keep, HardwareReason::Same)
            }
            Some(_) => (HardwareAction::Change, HardwareReason::Different),
            None => (HardwareAction::Assume, HardwareReason::NotKnown),
        };
        self.decision(fact, source, destination, ruling)
    }

    /// Decides about GICD_IIDR, the revision of the GICv3.
    ///
    /// From revision 3 on (Linux v5.19), GICR_CTLR.IR shows that the guest may invalidate LPIs by
    /// GICR_INVLPIR, and Linux does so for as long as it runs. Earlier revisions ignore the
    /// register. QEMU does not send the revision.
    pub(super) fn gic_revision(
        self,
        source: Option<u64>,
        destination: Option<u64>,
    ) -> HardwareDecision {
        let ruling = match source.zip(destination) {
            Some((vm, host)) if vm == host => (HardwareAction::Keep, HardwareReason::Same),
            Some((vm, host)) if gic_revision(vm) <= gic_revision(host) => {
                (HardwareAction::Change, HardwareReason::Different)
            }
            Some(_) => refuse(HardwareReason::Different),
            None => (HardwareAction::Assume, HardwareReason::NotKnown),
        };
        self.decision(HardwareFact::GicRevision, source, destination, ruling)
    }

    /// Decides about the limits of the VM's GICv3.
    ///
    /// Returns `None` for another interrupt controller. If only one side has a GICv3, the decision
    /// about the machine's devices refuses the VM.
    pub(super) fn gic(
        self,
        source: Option<Gic>,
        destination: Option<Gic>,
    ) -> Option<HardwareDecision> {
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

    pub(super) const fn not_known(self) -> (HardwareAction, HardwareReason) {
        let action = if self.has_other_cpu {
            HardwareAction::Undecided
        } else {
            HardwareAction::Assume
        };
        (action, HardwareReason::NotKnown)
    }

    pub(super) fn decision(
        self,
        fact: HardwareFact,
        source: Option<u64>,
        destination: Option<u64>,
        (action, reason): (HardwareAction, HardwareReason),
    ) -> HardwareDecision {
        let confidence = match action {
            HardwareAction::Keep | HardwareAction::Change | HardwareAction::Refuse => {
                self.confidence
            }
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

pub(super) const fn refuse(reason: HardwareReason) -> (HardwareAction, HardwareReason) {
    (HardwareAction::Refuse, reason)
}
