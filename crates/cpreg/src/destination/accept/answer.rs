//! [`Answer`]: whether a value is taken; [`Acceptor`]: who would take it.

use crate::destination::{Accelerator, Knowledge, Loader, ValuesAre, Version};

/// Whether a value is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is, and stays (or is time, which runs on).
    Taken(Knowledge),
    /// The write fails.
    Refused(Knowledge),
    /// Nothing tells.
    Unknown,
}

impl Answer {
    pub(super) const YES: Self = Self::Taken(Knowledge::Inferred);
    pub(super) const NO: Self = Self::Refused(Knowledge::Inferred);

    /// Taken: `Some(true)`, refused: `Some(false)`.
    pub const fn takes(self) -> Option<bool> {
        match self {
            Self::Taken(_) => Some(true),
            Self::Refused(_) => Some(false),
            Self::Unknown => None,
        }
    }

    /// How it is known.
    pub const fn knowledge(self) -> Knowledge {
        match self {
            Self::Taken(knowledge) | Self::Refused(knowledge) => knowledge,
            Self::Unknown => Knowledge::Unknown,
        }
    }

    pub(super) const fn inferred(takes: bool) -> Self {
        if takes { Self::YES } else { Self::NO }
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
    pub values: Option<ValuesAre>,
}

impl Acceptor {
    pub(super) fn version(self) -> Option<Version> {
        self.loader.map(|loader| loader.version)
    }
}
