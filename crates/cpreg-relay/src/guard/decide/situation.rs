//! The guard's view of a migration, and its actions.

use std::time::Duration;

use crate::guard::states::Side;
use crate::guard::whereabouts::Whereabouts;

/// How long a QEMU gets to do by itself what it usually does at once: to notice that a connection is gone, to let its guest go on.
pub(in crate::guard) const SOON: Duration = Duration::from_secs(2);

/// How long one that hangs or does not answer gets.
pub(in crate::guard) const LATE: Duration = Duration::from_secs(30);

/// How long is waited in vain, before the user has to look.
pub(in crate::guard) const FOR_GOOD: Duration = Duration::from_secs(120);

/// What the relay has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each was said or was not")]
pub(in crate::guard) struct Relay {
    /// Device state may have gone on.
    pub(in crate::guard) passing: bool,
    /// None went on and none will.
    pub(in crate::guard) refused: bool,
    /// All of the stream went on, and the success back.
    pub(in crate::guard) delivered: bool,
    /// It carries nothing any more: it said so, or is gone.
    pub(in crate::guard) ended: bool,
}

impl Relay {
    /// Whether the destination cannot have the device state, now or later.
    pub(super) fn has_withheld(self) -> bool {
        !self.passing && (self.refused || self.ended)
    }
}

/// What the guard has done and seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each has happened or has not"
)]
pub(in crate::guard) struct Memory {
    /// The guest ran at the source when its migration last left it to itself.
    pub(in crate::guard) was_running: bool,
    /// The migration has begun; before that, what `query-migrate` says is about an earlier one.
    pub(in crate::guard) begun: bool,
    /// The destination has confirmed that it will not start by itself.
    pub(in crate::guard) held: bool,
    /// The destination was told to run, or was seen running. Never taken back, but for a `cont` that it refused.
    pub(in crate::guard) dest_ran: bool,
    /// It refused to run when told to, for long enough.
    pub(in crate::guard) dest_cannot: bool,
    /// It has confirmed that it quits.
    pub(in crate::guard) dest_quits: bool,
    /// The source was told to give its migration up.
    pub(in crate::guard) cancelled: bool,
    /// The source was told to run.
    pub(in crate::guard) source_told: bool,
    /// The source refused to run when told to, for long enough.
    pub(in crate::guard) source_cannot: bool,
    /// There is a return path: `completed` at the source means loaded at the destination.
    pub(in crate::guard) return_path: bool,
}

/// All that a decision looks at.
#[derive(Clone, Debug)]
pub(in crate::guard) struct Situation {
    pub(in crate::guard) source: Side,
    pub(in crate::guard) dest: Side,
    pub(in crate::guard) relay: Relay,
    pub(in crate::guard) memory: Memory,
    /// How long nothing of the above has changed.
    pub(in crate::guard) unchanged: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard) enum Action {
    /// Look again.
    Wait,
    /// `migrate_cancel` at the source.
    Cancel,
    /// `cont` at the source.
    RunSource,
    /// `stop` at the source, which runs although the destination does.
    StopSource,
    /// `cont` at the destination.
    RunDest,
    /// `quit` at the destination.
    QuitDest,
    /// It is over.
    Conclude(Whereabouts),
}
