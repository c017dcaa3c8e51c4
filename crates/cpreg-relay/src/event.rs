//! [`Event`]: progress of a relay for logs, progress bars and tests. The observer decides how to
//! show it.

use crate::channel::Channel;
use crate::vm_location::VmLocation;
use cpreg_stream::incremental::{Phase, StreamSetup};

/// Event of one migration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// The source connected, and the relay connected to the destination for it.
    Connected {
        /// Kind of the connection.
        channel: Channel,
        /// Number of the connection in this migration, from 1 on.
        number: usize,
    },
    /// The relay closed a connection that has no place in this migration.
    ConnectionRejected {
        /// Kind of the connection.
        channel: Channel,
        /// Reason for the rejection.
        reason: &'e str,
    },
    /// The relay received the data before RAM.
    Setup(&'e StreamSetup),
    /// The stream entered its next phase.
    Phase {
        /// The new phase.
        phase: Phase,
        /// Number of bytes received on the main channel.
        bytes: u64,
    },
    /// The relay forwarded more bytes.
    Progress {
        /// Current phase of the stream.
        phase: Phase,
        /// Number of bytes of the main channel.
        bytes: u64,
        /// Number of bytes of all other channels.
        other_channel_bytes: u64,
    },
    /// The relay received all device state, which waits for a decision.
    DeviceStateReceived {
        /// Number of bytes.
        bytes: u64,
        /// The device state is the package of a postcopy migration.
        is_package: bool,
    },
    /// The relay sent the device state.
    DeviceStateSent {
        /// Number of bytes as sent.
        bytes: u64,
        /// Number of these bytes that were sent before all device state had been received.
        early_bytes: u64,
        /// Added downtime in microseconds. It begins when the last byte of the last `cpu` section
        /// has been read, and ends when the first byte of the first one has been written. Without
        /// recognised vCPUs, it begins at the last byte of all device state.
        added_downtime_us: u64,
    },
    /// Final SHUT message of the destination on the return path; 0 if it has loaded the VM.
    ReturnPathShut(u32),
    /// The policy rejected the VM; both sides have been notified.
    Refused(VmLocation),
}

impl Event<'_> {
    /// Returns the name for logs.
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

/// Receiver of events. Several threads call it.
pub trait Observer: Sync {
    /// Handles one event.
    fn on_event(&self, event: &Event<'_>);
}
