//! [`Acceptance`]: acceptance of a value. [`Acceptor`]: the accelerator and loader that decide it.

use crate::destination::{Accelerator, Confidence, Loader, ValueOrigin, Version};

/// Acceptance of a value by a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// The register accepts the value. A counter of time runs on from the value. KVM may
    /// [replace](crate::destination::DestinationRegister::replaced_value) fields of an ID register.
    Taken(Confidence),
    /// The write fails.
    Refused(Confidence),
    /// Not known whether the value is accepted.
    Unknown,
}

impl Acceptance {
    pub(super) const INFERRED_TAKEN: Self = Self::Taken(Confidence::Inferred);
    pub(super) const INFERRED_REFUSED: Self = Self::Refused(Confidence::Inferred);

    /// Returns `Some(true)` if the register accepts the value, `Some(false)` if the write fails,
    /// and `None` if not known.
    pub const fn as_bool(self) -> Option<bool> {
        match self {
            Self::Taken(_) => Some(true),
            Self::Refused(_) => Some(false),
            Self::Unknown => None,
        }
    }

    /// Returns the confidence in the acceptance or refusal.
    pub const fn confidence(self) -> Confidence {
        match self {
            Self::Taken(confidence) | Self::Refused(confidence) => confidence,
            Self::Unknown => Confidence::Unknown,
        }
    }

    pub(super) const fn new_inferred(accepts: bool) -> Self {
        if accepts {
            Self::INFERRED_TAKEN
        } else {
            Self::INFERRED_REFUSED
        }
    }
}

/// Part of a destination that decides whether a value is accepted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acceptor {
    /// Accelerator that runs the guest, if known.
    pub accelerator: Option<Accelerator>,
    /// Program that loads the VM, if known.
    pub loader: Option<Loader>,
    /// Version of the host's Linux, if known.
    pub kernel_version: Option<Version>,
    /// Origin of the destination's register values, if known.
    pub value_origin: Option<ValueOrigin>,
}

impl Acceptor {
    pub(super) fn version(self) -> Option<Version> {
        self.loader.map(|loader| loader.version)
    }
}
