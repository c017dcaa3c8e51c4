//! [`Event`]: what a relay tells while it works, for logs, progress and tests. How it is shown is for who listens.

use crate::channel::Channel;
use crate::vm_location::VmLocation;
use cpreg_stream::incremental::{Phase, StreamSetup};

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
    ConnectionRejected {
        /// What it is.
        channel: Channel,
        /// Why.
        reason: &'e str,
    },
    /// What stands before RAM has come.
    Setup(&'e StreamSetup),
    /// The stream has come into its next phase.
    Phase {
        /// Which.
        phase: Phase,
        /// So many bytes of the main channel have come.
        bytes: u64,
    },
    /// More bytes of the main channel and the others have gone on.
    Progress {
        /// Where the stream is.
        phase: Phase,
        /// So many bytes of the main channel.
        bytes: u64,
        /// So many bytes of all other channels.
        other_channel_bytes: u64,
    },
    /// All of the device state has come and waits for a decision.
    DeviceStateReceived {
        /// So many bytes.
        bytes: u64,
        /// It came as the package of a postcopy migration.
        is_package: bool,
    },
    /// The device state has gone on.
    DeviceStateSent {
        /// So many bytes of it, as the decision made them.
        bytes: u64,
        /// So many of these before all of it had come.
        early_bytes: u64,
        /// The pause that was added, in microseconds: from the last byte of the last `cpu` section, when it had been read, to the
        /// first byte of the first one, when it had been written. Where they were not told apart, from the last byte of all.
        added_downtime_us: u64,
    },
    /// The destination's last word on the return path: 0 if it has loaded the VM.
    ReturnPathShut(u32),
    /// It was decided that the VM does not go on; both sides have been told.
    Refused(VmLocation),
}

impl Event<'_> {
    /// Its name in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "connected",
            Self::ConnectionRejected { .. } => "connection-rejected",
            Self::Setup(_) => "setup",
            Self::Phase { .. } => "phase",
            Self::Progress { .. } => "progress",
            Self::DeviceStateReceived { .. } => "device-state-received",
            Self::DeviceStateSent { .. } => "device-state-sent",
            Self::ReturnPathShut(_) => "return-path-shut",
            Self::Refused(_) => "refused",
        }
    }
}

/// Who hears events. They come from several threads.
pub trait Observer: Sync {
    /// Something happened.
    fn on_event(&self, event: &Event<'_>);
}
