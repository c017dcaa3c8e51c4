//! [`Reason`]: why a decision was made.

use alloc::borrow::Cow;

use crate::destination::kernel::FeatureGate;
use crate::register::RegisterId;

/// Why a decision was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The destination has the register and takes the value.
    ValueTaken,
    /// The entry of that number in the table of tolerances holds.
    Tolerated(usize),
    /// The entry of that number is about it, and does not hold.
    NotTolerated(usize),
    /// Only in the input, and no entry is about it.
    OnlyInInput,
    /// Only at the destination.
    OnlyAtDestination,
    /// Only at the destination, and its reset value must be written but is not known.
    ResetUnknown,
    /// The destination does not take the value.
    ValueNotTaken,
    /// The destination does not take the value that the user set.
    SetNotTaken,
    /// Nothing tells whether the destination takes the value; the entry of that number has advice.
    ValueUnknown(Option<usize>),
    /// Another register's value hides it at the destination, so the loader's write would fail.
    Hidden(&'static FeatureGate),
    /// Another register's value may hide it at the destination.
    PerhapsHidden(&'static FeatureGate),
    /// The vCPUs disagree on a register that they share.
    Disagreement,
    /// The vCPUs disagree on this field, which the VM has once, of a register that each has.
    FieldDisagreement(&'static str),
    /// The user said to ignore it.
    UserIgnores,
    /// The user said to hide it from the destination.
    UserDrops,
    /// The user said to set it.
    UserSets,
    /// The user said to ignore it if it holds a given value, and it does not.
    UserCondition,
    /// The user accepted an adjustment.
    UserAccepts,
    /// The same decision as for the register that shows the same state.
    SameStateAs(RegisterId),
    /// The loader knows this extension.
    ExtensionKnown,
    /// The loader does not know this extension, and it says nothing that would be lost.
    ExtensionIdle(Cow<'static, str>),
    /// The loader does not know this extension, and it is in use.
    ExtensionInUse(Cow<'static, str>),
    /// The loader takes this over from the input, where it must be the destination's own.
    ExtensionFromDestination(Cow<'static, str>),
    /// Nothing tells what the loader does with this extension.
    ExtensionUnknown,
}

impl Reason {
    /// The number of the table's entry behind it.
    pub const fn tolerance(&self) -> Option<usize> {
        match self {
            Self::Tolerated(entry) | Self::NotTolerated(entry) => Some(*entry),
            _ => None,
        }
    }
}
