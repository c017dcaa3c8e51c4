//! [`Decision`]: the decision about one register of one vCPU.

use super::outcome::PlanOutcome;
use super::reason::Reason;
use crate::destination::Confidence;
use crate::register::{RegisterId, Value};
use crate::tolerance::Tolerances;

/// Decision about one register of one vCPU, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Decision {
    /// Register that the decision is about.
    pub register: RegisterId,
    /// The VM's value, if the VM has the register.
    pub source: Option<Value>,
    /// `true` if the destination lists the register.
    pub is_listed: bool,
    /// The destination's recorded value, if the destination lists the register and the value is
    /// known.
    pub destination: Option<Value>,
    /// Value that the register reads after the load, if KVM accepts the loaded value and replaces a
    /// part of it.
    pub replaced_value: Option<Value>,
    /// Action for the register.
    pub action: Action,
    /// Confidence in the premises of the decision.
    pub confidence: Confidence,
    /// Reason of the decision.
    pub reason: Reason,
}

impl Decision {
    /// Returns `true` if the decision refuses the VM's register or its value, whatever the VM's
    /// other registers hold.
    ///
    /// Such a decision is final although not all registers of the VM have arrived.
    pub fn is_final_refusal(&self, tolerances: &Tolerances) -> bool {
        if self.action != Action::Refuse {
            return false;
        }
        match &self.reason {
            Reason::SourceOnly
            | Reason::UserCondition
            | Reason::ValueNotAccepted
            | Reason::SetNotAccepted => true,
            Reason::NotTolerated(entry) => tolerances
                .entries()
                .get(*entry)
                .is_some_and(|entry| !entry.condition.depends_on_other_registers()),
            _ => false,
        }
    }

    /// Returns the value that the guest reads after the load, or `None` if the decision sets none
    /// or the value is not known.
    ///
    /// Refused and undecided registers keep the VM's value.
    pub(super) fn loaded_value(&self) -> Option<&Value> {
        if self.replaced_value.is_some() {
            return self.replaced_value.as_ref();
        }
        match &self.action {
            Action::Copy | Action::Refuse | Action::Undecided => self.source.as_ref(),
            Action::Set(value) | Action::WriteReset(value) => Some(value),
            Action::KeepAtReset => self.destination.as_ref(),
            Action::Ignore => None,
        }
    }
}

/// Action for a register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// Load the VM's value.
    Copy,
    /// Leave out the VM's value.
    Ignore,
    /// Leave the destination's register at its reset value, without a write.
    KeepAtReset,
    /// Write this reset value of the destination, because the loader would write another value.
    WriteReset(Value),
    /// Load this value in place of the VM's value.
    Set(Value),
    /// Refuse the load because of the register.
    Refuse,
    /// No action, because there is not enough information to decide.
    Undecided,
}

impl Action {
    /// Returns the action's name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Ignore => "ignore",
            Self::KeepAtReset | Self::WriteReset(_) => "keep-at-reset",
            Self::Set(_) => "set",
            Self::Refuse => "refuse",
            Self::Undecided => "unknown",
        }
    }

    pub(super) const fn outcome(&self) -> PlanOutcome {
        match self {
            Self::Refuse => PlanOutcome::Refused,
            Self::Undecided => PlanOutcome::Unknown,
            _ => PlanOutcome::Ready,
        }
    }
}
