//! [`Phase`]: the phases of a vCPU, from its initialisation to its first run.
//!
//! ```text
//!            Reset (KVM_ARM_VCPU_INIT), from every phase
//!              │
//!              ▼    IncomingWrite             PlanReady
//!             Own ────────────────▶ Incoming ───────────▶ Ready
//!              │                      │   ▲                │ │
//!              │         PlanNotReady │   └────────────────┘ │
//!              │                      ▼      IncomingWrite   │ Run
//!              │ Run               Refused ◀─────────────────┤
//!              │                            PlanNotReady     │
//!              └──────────────────────▶ Running ◀────────────┘
//! ```
//!
//! QEMU writes each register four times before the guest runs. The first two writes are the values
//! that it has read itself ([`Phase::Own`]). The third write is the incoming value. The fourth
//! write follows after all vCPUs have loaded, and settles the load. A vCPU can run only in
//! [`Phase::Own`] and [`Phase::Ready`].

/// Phase of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// All values are those that the kernel gave the vCPU. Writes of them are not judged.
    #[default]
    Own,
    /// Incoming values have arrived, and the plan for them is open.
    Incoming,
    /// The plan for the incoming values is ready, and the vCPU holds its values.
    Ready,
    /// The plan is not ready. The vCPU never runs with these values.
    Refused,
    /// The vCPU has run. Writes of values are not judged.
    Running,
}

/// Step from one phase to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The VMM initialised the vCPU (`KVM_ARM_VCPU_INIT`), which resets its registers.
    Reset,
    /// The VMM wrote a value that differs from the known one.
    IncomingWrite,
    /// The plan for the incoming values is ready.
    PlanReady,
    /// The plan for the incoming values is not ready.
    PlanNotReady,
    /// The vCPU runs (`KVM_RUN`).
    Run,
}

impl Phase {
    /// Returns the phase after a step.
    pub(crate) const fn transition(self, step: Step) -> Self {
        match (self, step) {
            (_, Step::Reset) => Self::Own,
            (Self::Own | Self::Incoming | Self::Ready, Step::IncomingWrite) => Self::Incoming,
            (Self::Incoming, Step::PlanReady) => Self::Ready,
            (Self::Incoming | Self::Ready, Step::PlanNotReady) => Self::Refused,
            (Self::Own | Self::Ready, Step::Run) => Self::Running,
            (phase, _) => phase,
        }
    }

    /// Returns `true` if the vCPU holds incoming values.
    pub(crate) const fn has_incoming_values(self) -> bool {
        matches!(self, Self::Incoming | Self::Ready | Self::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_leads_to_the_phase_of_the_table() {
        use Phase::{Incoming, Own, Ready, Refused, Running};
        const STEPS: [Step; 5] = [
            Step::Reset,
            Step::IncomingWrite,
            Step::PlanReady,
            Step::PlanNotReady,
            Step::Run,
        ];
        let table = [
            (Own, [Own, Incoming, Own, Own, Running]),
            (Incoming, [Own, Incoming, Ready, Refused, Incoming]),
            (Ready, [Own, Incoming, Ready, Refused, Running]),
            (Refused, [Own, Refused, Refused, Refused, Refused]),
            (Running, [Own, Running, Running, Running, Running]),
        ];
        for (phase, expected) in table {
            for (step, expected) in STEPS.into_iter().zip(expected) {
                assert_eq!(phase.transition(step), expected, "{phase:?}, {step:?}");
            }
        }
    }
}
