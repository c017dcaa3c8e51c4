//! [`Reason`]: the reason of a decision.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::fatal_change::FatalChange;
use crate::destination::counters::LostCounter;
use crate::destination::kernel::FeatureGate;
use crate::register::RegisterId;

/// Reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The destination has the register and accepts the value.
    ValueAccepted,
    /// The tolerance with this index applies, and its condition holds.
    Tolerated(usize),
    /// The tolerance with this index applies, but its condition does not hold.
    NotTolerated(usize),
    /// Only the source has the register, and no tolerance applies.
    SourceOnly,
    /// Only the destination has the register.
    DestinationOnly,
    /// Only the destination has the register, and the reset value to write is not known.
    ResetUnknown,
    /// The destination does not accept the value.
    ValueNotAccepted,
    /// The destination accepts the value but takes away an event counter that the guest uses.
    CounterInUse(LostCounter),
    /// The destination does not accept the value that the user set.
    SetNotAccepted,
    /// The decision would change these fields in a way that breaks the running guest.
    FatalChange(Vec<FatalChange>),
    /// The guest would read the destination's value, which is not known.
    DestinationValueUnknown,
    /// Nothing shows whether the destination accepts the value. The tolerance with this index, if
    /// any, has a remedy.
    ValueUnknown(Option<usize>),
    /// An ID register's planned value hides the register at the destination, so the loader's write
    /// would fail.
    Hidden(&'static FeatureGate),
    /// An ID register's planned value may hide the register at the destination.
    PerhapsHidden(&'static FeatureGate),
    /// KVM removes registers when the guest first runs, and QEMU fails to read them afterwards.
    RemovedAtFirstRun,
    /// The vCPUs have different values of a VM-wide register.
    Disagreement,
    /// The vCPUs have different values of this field of a per-vCPU register. The VM has one value
    /// of the field.
    FieldDisagreement(&'static str),
    /// The user ignores the register.
    UserIgnores,
    /// The user drops the register from the converted VM.
    UserDrops,
    /// The user sets the register.
    UserSets,
    /// The user ignores the register only with a value that the register does not hold.
    UserCondition,
    /// The user accepted an adjustment.
    UserAccepts,
    /// The contained register shows the same state, and its decision applies.
    SameStateAs(RegisterId),
    /// The VM lists the register under the contained id. The tolerance with this index says why.
    RecordedUnder(usize, RegisterId),
    /// The destination lists the register under the contained id, and the decision about that id
    /// applies. The tolerance with this index says why.
    ListedAs(usize, RegisterId),
    /// The destination may list the register under the contained id. The lists do not prove that
    /// the tolerance with this index applies.
    PerhapsListedAs(usize, RegisterId),
    /// The destination lists the register under the contained id, and the VM has another value
    /// under that id.
    OtherValueUnder(RegisterId),
    /// The loader knows this extension.
    ExtensionKnown,
    /// The loader does not know this extension, and a load without the extension loses nothing. The
    /// text says why.
    ExtensionIdle(Cow<'static, str>),
    /// The loader does not know this extension, and another change of the vCPU's state replaces it.
    /// The text says which.
    ExtensionReplaced(Cow<'static, str>),
    /// The loader does not know this extension, and it is in use.
    ExtensionInUse(Cow<'static, str>),
    /// The loader loads this extension from the input, which must hold the destination's own
    /// content.
    ExtensionFromDestination(Cow<'static, str>),
    /// Nothing shows the loader's handling of this extension.
    ExtensionUnknown,
}

impl Reason {
    /// Returns the reason's name, a word that does not change: `"value-not-accepted"`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ValueAccepted => "value-accepted",
            Self::Tolerated(_) => "tolerated",
            Self::NotTolerated(_) => "not-tolerated",
            Self::SourceOnly => "source-only",
            Self::DestinationOnly => "destination-only",
            Self::ResetUnknown => "reset-unknown",
            Self::ValueNotAccepted => "value-not-accepted",
            Self::CounterInUse(_) => "counter-in-use",
            Self::SetNotAccepted => "set-not-accepted",
            Self::FatalChange(_) => "fatal-change",
            Self::DestinationValueUnknown => "destination-value-unknown",
            Self::ValueUnknown(_) => "value-unknown",
            Self::Hidden(_) => "hidden",
            Self::PerhapsHidden(_) => "perhaps-hidden",
            Self::RemovedAtFirstRun => "removed-at-first-run",
            Self::Disagreement => "disagreement",
            Self::FieldDisagreement(_) => "field-disagreement",
            Self::UserIgnores => "user-ignores",
            Self::UserDrops => "user-drops",
            Self::UserSets => "user-sets",
            Self::UserCondition => "user-condition",
            Self::UserAccepts => "user-accepts",
            Self::SameStateAs(_) => "same-state-as",
            Self::RecordedUnder(..) => "recorded-under",
            Self::ListedAs(..) => "listed-as",
            Self::PerhapsListedAs(..) => "perhaps-listed-as",
            Self::OtherValueUnder(_) => "other-value-under",
            Self::ExtensionKnown => "extension-known",
            Self::ExtensionIdle(_) => "extension-idle",
            Self::ExtensionReplaced(_) => "extension-replaced",
            Self::ExtensionInUse(_) => "extension-in-use",
            Self::ExtensionFromDestination(_) => "extension-from-destination",
            Self::ExtensionUnknown => "extension-unknown",
        }
    }

    /// Returns the index of the tolerance that led to the decision, if there is one.
    pub const fn tolerance(&self) -> Option<usize> {
        match self {
            Self::Tolerated(index)
            | Self::NotTolerated(index)
            | Self::RecordedUnder(index, _)
            | Self::ListedAs(index, _)
            | Self::PerhapsListedAs(index, _) => Some(*index),
            _ => None,
        }
    }
}
