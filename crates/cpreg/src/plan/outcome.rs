//! [`PlanOutcome`]: the outcome of a plan, or of one decision.

/// Outcome of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanOutcome {
    /// A loader can execute the plan.
    Ready,
    /// A register, an extension or the hardware of the hosts blocks the load.
    Refused,
    /// Nothing is known to block the load, but a decision lacks information.
    Unknown,
}

impl PlanOutcome {
    /// Returns the outcome of two plans that must both be executed.
    pub(super) const fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refused, _) | (_, Self::Refused) => Self::Refused,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Ready, Self::Ready) => Self::Ready,
        }
    }
}
