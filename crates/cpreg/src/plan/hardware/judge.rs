//! [`Judge`]: decisions about single properties of the hosts.

use super::decision::{HardwareAction, HardwareDecision, HardwareReason};
use crate::destination::Confidence;
use crate::gic::Gic;
use crate::hardware::{HardwareFact, HardwareFacts};

/// Action and reason of a decision.
pub(super) type Ruling = (HardwareAction, HardwareReason);

/// Ruling on a difference that the guest can only notice.
const CHANGE: Ruling = (HardwareAction::Change, HardwareReason::Different);
/// Ruling on an unknown property that refuses no VM.
const ASSUME: Ruling = (HardwareAction::Assume, HardwareReason::NotKnown);

/// Premises that the decisions share.
#[derive(Clone, Copy)]
pub(super) struct Judge {
    /// Facts of the VM's own host.
    pub(super) source: HardwareFacts,
    /// Facts of the destination.
    pub(super) destination: HardwareFacts,
    /// `true` if the hosts are known to have different CPUs.
    pub(super) has_other_cpu: bool,
    /// Confidence in the destination's values.
    pub(super) confidence: Confidence,
}

impl Judge {
    /// Decides about a property that must be the same on both sides.
    pub(super) fn equal(self, fact: HardwareFact) -> HardwareDecision {
        self.compare(fact, refuse(HardwareReason::Different), self.not_known())
    }

    /// Decides about a property of which the guest could only notice a difference.
    pub(super) fn visible(self, fact: HardwareFact) -> HardwareDecision {
        self.compare(fact, CHANGE, ASSUME)
    }

    /// Decides about GICD_IIDR, the revision of the GICv3.
    ///
    /// From revision 3 on (Linux v5.19), GICR_CTLR.IR shows that the guest may invalidate LPIs by
    /// GICR_INVLPIR, and Linux does so for as long as it runs. Earlier revisions ignore the
    /// register. QEMU does not send the revision.
    ///
    /// `inferred` has the values that the register lists of both sides imply. They count if the
    /// facts are not known, and refuse only a VM that takes LPIs.
    pub(super) fn gic_revision(self, inferred: [Option<u32>; 2]) -> HardwareDecision {
        let is_known = self.source.gicd_iidr.is_some() && self.destination.gicd_iidr.is_some();
        let limit = if is_known {
            Confidence::Proven
        } else {
            Confidence::Inferred
        };
        let judge = Self {
            source: with_iidr(self.source, inferred[0]),
            destination: with_iidr(self.destination, inferred[1]),
            confidence: self.confidence.min(limit),
            ..self
        };
        let revisions = [judge.source, judge.destination].map(HardwareFacts::gic_revision);
        let is_lower = matches!(revisions, [Some(vm), Some(host)] if host < vm);
        let different = match self.source.uses_lpis {
            _ if !is_lower => CHANGE,
            Some(false) => (HardwareAction::Change, HardwareReason::LpisUnused),
            None if !is_known => ASSUME,
            Some(true) | None => refuse(HardwareReason::Different),
        };
        judge.compare(HardwareFact::GicRevision, different, ASSUME)
    }

    /// Decides about the limits of the VM's GICv3.
    ///
    /// Returns `None` for another interrupt controller. If only one side has a GICv3, the decision
    /// about the machine's devices refuses the VM.
    pub(super) fn gic(self) -> Option<HardwareDecision> {
        let ruling = match (self.source.gic, self.destination.gic) {
            (Some(Gic::Other), _) | (_, Some(Gic::Other)) => return None,
            (Some(Gic::V3(vm)), Some(Gic::V3(host))) if vm == host => {
                (HardwareAction::Keep, HardwareReason::Same)
            }
            (Some(Gic::V3(vm)), Some(Gic::V3(host))) if host.accepts(vm) => {
                (HardwareAction::Keep, HardwareReason::HasMoreBits)
            }
            (Some(_), Some(_)) => refuse(HardwareReason::Different),
            (None, _) | (_, None) => self.not_known(),
        };
        Some(self.decision(HardwareFact::GicLimits, ruling))
    }

    /// Returns the ruling on an unknown property on which the guest relies.
    pub(super) const fn not_known(self) -> Ruling {
        let action = if self.has_other_cpu {
            HardwareAction::Undecided
        } else {
            HardwareAction::Assume
        };
        (action, HardwareReason::NotKnown)
    }

    /// Decides by the values on both sides: keeps equal ones, and takes these rulings on different
    /// and on unknown ones.
    fn compare(self, fact: HardwareFact, different: Ruling, unknown: Ruling) -> HardwareDecision {
        let values = self.source.get(fact).zip(self.destination.get(fact));
        let ruling = match values {
            Some((source, destination)) if source == destination => {
                (HardwareAction::Keep, HardwareReason::Same)
            }
            Some(_) => different,
            None => unknown,
        };
        self.decision(fact, ruling)
    }

    /// Returns the decision with this ruling.
    pub(super) fn decision(self, fact: HardwareFact, (action, reason): Ruling) -> HardwareDecision {
        let confidence = match action {
            HardwareAction::Keep | HardwareAction::Change | HardwareAction::Refuse => {
                self.confidence
            }
            HardwareAction::Assume => Confidence::Inferred,
            HardwareAction::Undecided => Confidence::Unknown,
        };
        HardwareDecision {
            fact,
            source: self.source.get(fact),
            destination: self.destination.get(fact),
            action,
            confidence,
            reason,
        }
    }
}

/// Returns the facts with this GICD_IIDR, if they lack one.
fn with_iidr(facts: HardwareFacts, inferred: Option<u32>) -> HardwareFacts {
    HardwareFacts {
        gicd_iidr: facts.gicd_iidr.or(inferred),
        ..facts
    }
}

pub(super) const fn refuse(reason: HardwareReason) -> Ruling {
    (HardwareAction::Refuse, reason)
}
