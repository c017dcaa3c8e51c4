//! [`Acceptance`]: whether a value is taken; [`Acceptor`]: who would take it.

use crate::destination::{Accelerator, Confidence, Loader, ValueOrigin, Version};

/// Whether a value is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It is, and stays (or is time, which runs on).
    Taken(Confidence),
    /// The write fails.
    Refused(Confidence),
    /// Nothing tells.
    Unknown,
}

impl Acceptance {
    pub(super) const INFERRED_TAKEN: Self = Self::Taken(Confidence::Inferred);
    pub(super) const INFERRED_REFUSED: Self = Self::Refused(Confidence::Inferred);

    /// Taken: `Some(true)`, refused: `Some(false)`.
    pub const fn as_bool(self) -> Option<bool> {
        match self {
            Self::Taken(_) => Some(true),
            Self::Refused(_) => Some(false),
            Self::Unknown => None,
        }
    }

    /// How it is known.
    pub const fn confidence(self) -> Confidence {
        match self {
            Self::Taken(knowledge) | Self::Refused(knowledge) => knowledge,
            Self::Unknown => Confidence::Unknown,
        }
    }

    pub(super) const fn new_inferred(takes: bool) -> Self {
        if takes {
            Self::INFERRED_TAKEN
        } else {
            Self::INFERRED_REFUSED
        }
    }
}

/// Who would take a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acceptor {
    /// What runs the guest there.
    pub accelerator: Option<Accelerator>,
    /// The program that loads.
    pub loader: Option<Loader>,
    /// What its registers' values are, if known.
    pub value_origin: Option<ValueOrigin>,
}

impl Acceptor {
    pub(super) fn version(self) -> Option<Version> {
        self.loader.map(|loader| loader.version)
    }
}
