//! [`Event`]: what a relay tells while it works, for logs, progress and tests. How it is shown is for who listens.

use crate::channel::Channel;
use crate::vm_location::Whereabouts;
use cpreg_stream::incremental::{Outline, Phase};

/// Something that happened in one migration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// A connection came from the source, and one to the destination was made for it.
    Connected {
        /// What it is.
        channel: Channel,
        /// Which of the connections of this migration, from 1 on.
        number: usize,
    },
    /// A connection came that has no place in this migration, and was closed.
    TurnedAway {
        /// What it is.
        channel: Channel,
        /// Why.
        why: &'e str,
    },
    /// What stands before RAM has come.
    Outline(&'e Outline),
    /// The stream has come into its next phase.
    Phase {
        /// Which.
        phase: Phase,
        /// So many bytes of the main channel have come.
        bytes: u64,
    },
    /// More bytes of the main channel and the others have gone on.
    Passed {
        /// Where the stream is.
        phase: Phase,
        /// So many bytes of the main channel.
        bytes: u64,
        /// So many bytes of all other channels.
        beside: u64,
    },
    /// All of the device state has come and waits for a decision.
    Held {
        /// So many bytes.
        bytes: u64,
        /// It came as the package of a postcopy migration.
        is_package: bool,
    },
    /// The device state has gone on.
    WentOn {
        /// So many bytes of it, as the decision made them.
        bytes: u64,
        /// So many of these before all of it had come.
        early: u64,
        /// The pause that was added, in microseconds: from the last byte of the last `cpu` section, when it had been read, to the
        /// first byte of the first one, when it had been written. Where they were not told apart, from the last byte of all.
        microseconds: u64,
    },
    /// The destination's last word on the return path: 0 if it has loaded the VM.
    Answered(u32),
    /// It was decided that the VM does not go on; both sides have been told.
    Refused(Whereabouts),
}

impl Event<'_> {
    /// Its name in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::TurnedAway { .. } => "turned-away",
            Self::Outline(_) => "outline",
            Self::Phase { .. } => "phase",
            Self::Passed { .. } => "passed",
            Self::Held { .. } => "held",
            Self::WentOn { .. } => "went-on",
            Self::Answered(_) => "answered",
            Self::Refused(_) => "refused",
        }
    }
}

/// Who hears events. They come from several threads.
pub trait Observer: Sync {
    /// Something happened.
    fn hear(&self, event: &Event<'_>);
}
