//! [`Event`]: progress of a relay, for logs, progress bars and tests. The observer decides how to
//! show an event.

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
        /// Number of the connection in this migration, counted from 1.
        number: usize,
    },
    /// The relay closed a connection that it cannot forward as part of this migration.
    ConnectionRejected {
        /// Kind of the connection.
        channel: Channel,
        /// Reason for the rejection.
        reason: &'e str,
    },
    /// The relay received all data that precedes the first page of RAM.
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
        /// Number of bytes received on the main channel.
        bytes: u64,
        /// Number of bytes forwarded on all other channels.
        other_channel_bytes: u64,
    },
    /// The relay received all device state; the policy decides next.
    DeviceStateReceived {
        /// Length of the device state in bytes, as received.
        bytes: u64,
        /// `true` if the device state is the package of a postcopy migration.
        is_package: bool,
    },
    /// The relay sent the device state.
    DeviceStateSent {
        /// Length of the device state in bytes, as sent.
        bytes: u64,
        /// Number of these bytes that the relay sent before it had received all device state.
        early_bytes: u64,
        /// Added downtime in microseconds. It begins when the relay has read the last byte of the
        /// last `cpu` section. It ends when the relay has written the first byte of the first `cpu`
        /// section. Without recognised vCPUs, it begins at the last byte of all device state.
        added_downtime_us: u64,
    },
    /// The destination sent its final SHUT message on the return path; 0 means that it has loaded
    /// the VM.
    ReturnPathShut(u32),
    /// The policy rejected the VM; the relay has notified both sides.
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

/// Receiver of events. Several threads call it at the same time.
pub trait Observer: Sync {
    /// Handles one event.
    fn on_event(&self, event: &Event<'_>);
}
