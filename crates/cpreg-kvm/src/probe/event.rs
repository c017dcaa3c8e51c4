//! [`ProbeEvent`]: progress of a probe, and parts that the record lacks.

use cpreg::destination::Features;

use crate::error::Error;

/// Event of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeEvent {
    /// The probe of a guest with these features starts.
    GuestProbeStarted(Features),
    /// The host claims the features but cannot create or read such a guest. The record lacks this
    /// guest.
    GuestProbeFailed(Error),
    /// The guest that reads hardware facts did not start. The record lacks the facts that only a
    /// guest can read.
    FactProgramFailed(Error),
    /// The guest that reads hardware facts did not finish. The record lacks these facts.
    FactProgramUnfinished,
}

impl ProbeEvent {
    /// Returns a sentence about a part that the record lacks, or `None` if the event is progress.
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::GuestProbeStarted(_) => None,
            Self::GuestProbeFailed(error) => Some(format!("not recorded: {error}")),
            Self::FactProgramFailed(error) => Some(format!(
                "not recorded: properties of the hardware that only a guest can read: {error}"
            )),
            Self::FactProgramUnfinished => Some(
                "not recorded: properties of the hardware that only a guest can read: the guest \
                 did not finish"
                    .to_owned(),
            ),
        }
    }
}
