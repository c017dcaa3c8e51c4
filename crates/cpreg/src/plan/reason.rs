//! [`Reason`]: the reason of a decision.

use alloc::borrow::Cow;

use crate::destination::kernel::FeatureGate;
use crate::register::RegisterId;

/// Reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The destination has the register and accepts the value.
    ValueTaken,
    /// The tolerance with this index applies, and its condition holds.
    Tolerated(usize),
    /// The tolerance with this index applies, but its condition does not hold.
    NotTolerated(usize),
    /// Only the input has the register, and no tolerance applies.
    OnlyInInput,
    /// Only the destination has the register.
    OnlyAtDestination,
    /// Only the destination has the register; its reset value must be written but is not known.
    ResetUnknown,
    /// The destination does not accept the value.
    ValueNotTaken,
    /// The destination does not accept the value that the user set.
    SetNotTaken,
    /// Not known whether the destination accepts the value; the tolerance with this index has a
    /// remedy.
    ValueUnknown(Option<usize>),
    /// Another register's value hides it at the destination, so the loader's write would fail.
    Hidden(&'static FeatureGate),
    /// Another register's value may hide it at the destination.
    PerhapsHidden(&'static FeatureGate),
    /// The vCPUs disagree on a register that they share.
    Disagreement,
    /// The vCPUs disagree on this field of a per-vCPU register; the field has one value per VM.
    FieldDisagreement(&'static str),
    /// The user ignores the register.
    UserIgnores,
    /// The user drops the register from the converted VM.
    UserDrops,
    /// The user sets the register.
    UserSets,
    /// The user ignores the register only with a value that it does not hold.
    UserCondition,
    /// The user accepted an adjustment.
    UserAccepts,
    /// The decision is that for the register that shows the same state.
    SameStateAs(RegisterId),
    /// The loader knows this extension.
    ExtensionKnown,
    /// The loader does not know this extension, and leaving it out loses nothing.
    ExtensionIdle(Cow<'static, str>),
    /// The loader does not know this extension, and it is in use.
    ExtensionInUse(Cow<'static, str>),
    /// The loader loads this extension from the input, where it must be the destination's own.
    ExtensionFromDestination(Cow<'static, str>),
    /// Not known what the loader does with this extension.
    ExtensionUnknown,
}

impl Reason {
    /// Returns the index of the tolerance that led to the decision.
    pub const fn tolerance(&self) -> Option<usize> {
        match self {
            Self::Tolerated(index) | Self::NotTolerated(index) => Some(*index),
            _ => None,
        }
    }
}
