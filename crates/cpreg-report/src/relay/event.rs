//! Model of a line of the log of `relay`, schema `cpreg.relay-event/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{RelayOutcome, Verdict};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.relay-event/2";

/// Line of the log of `cpreg relay --log-format json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "`relay` fills it")]
pub struct RelayEvent {
    /// `"cpreg.relay-event/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Time in seconds since 1970.
    pub time: f64,
    /// Number of the migration, counted from 1; 0 before the first migration.
    pub migration: usize,
    /// The event.
    #[serde(flatten)]
    pub event: EventDetails,
}

/// An event with its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventDetails {
    /// Verdict about the source that `--from` or `--source-qmp` names.
    Preflight {
        /// The verdict.
        verdict: Verdict,
    },
    /// Rehearsal of the load in a copy of the destination's QEMU.
    Rehearsed {
        /// `true` if the copy loads the VM.
        loads: bool,
    },
    /// Status of one QEMU, as the guard queried it.
    QemuStatus {
        /// `"source"` or `"destination"`.
        side: String,
        /// Version of QEMU.
        version: String,
        /// Run state of the VM.
        run_state: String,
    },
    /// The guard has prepared both sides.
    GuardReady {
        /// `true` if the guard switched the capability `return-path` on.
        return_path_switched_on: bool,
        /// `true` if the destination does not start the VM by itself.
        autostart_blocked: bool,
    },
    /// The relay waits for the source.
    Listening {
        /// Address on which the relay listens.
        listen: String,
        /// Address of the destination.
        connect: String,
    },
    /// A connection of the migration.
    Connected {
        /// `"main"`, `"multifd"`, `"postcopy-recovery"` or `"other"`; of a rejected connection also
        /// `"tls"` or `"cpr"`.
        channel: String,
        /// Number of the connection, counted from 1.
        number: usize,
    },
    /// A connection that does not belong to this migration.
    ConnectionRejected {
        /// Kind of the connection.
        channel: String,
        /// Reason, in words.
        reason: String,
    },
    /// The part of the stream before RAM has arrived.
    Setup {
        /// Machine type, or null.
        machine: Option<String>,
        /// Size of the RAM in bytes.
        ram: u64,
        /// `true` if the migration has a return path.
        return_path: bool,
        /// `true` if the migration can switch to postcopy.
        postcopy: bool,
    },
    /// A new phase of the stream.
    Phase {
        /// `"setup"`, `"ram"` or `"device-state"`.
        phase: String,
        /// Number of bytes of the event's subject: received on the main channel so far (`phase`,
        /// `ended`), or in the device state.
        bytes: u64,
    },
    /// All device state is buffered.
    DeviceStateReceived {
        /// Number of bytes.
        bytes: u64,
        /// `true` if the device state is the package of a postcopy migration.
        postcopy: bool,
    },
    /// The device state was sent.
    DeviceStateSent {
        /// Number of bytes.
        bytes: u64,
        /// Number of these bytes that were sent before all device state had arrived.
        early_bytes: u64,
        /// Microseconds from the arrival of the last vCPU to the sending of the first.
        added_downtime_us: u64,
    },
    /// The destination's last message on the return path.
    ReturnPathShut {
        /// 0 if the destination loaded the VM.
        shut_value: u32,
    },
    /// Both sides were notified of the refusal.
    Refused {
        /// Location of the VM, as in [`cpreg.relay/2`](#cpregrelay2).
        vm_location: String,
    },
    /// End of the migration.
    Ended {
        /// `"completed"`, `"refused"`, `"recovered"`, `"failed"` or `"cancelled"`.
        outcome: RelayOutcome,
        /// Location of the VM.
        vm_location: String,
        /// Number of bytes on the main channel.
        bytes: u64,
        /// Number of bytes on the other channels.
        other_channel_bytes: u64,
        /// Error of a failed migration, in words; else absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Reasons for a rejection before RAM was sent; absent if there are none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rejected_because: Vec<String>,
    },
    /// End of one of the migrations of `--serve`.
    Served {
        /// Name of the VM, from the command line of the destination's QEMU; null if not known.
        vm: Option<String>,
        /// Address of the source; null if not known.
        source: Option<String>,
        /// Address that the source connected to.
        destination: String,
        /// Verdict of the check; null if no check was made.
        verdict: Option<Verdict>,
        /// `"completed"`, `"refused"`, `"recovered"`, `"failed"` or `"cancelled"`.
        outcome: RelayOutcome,
        /// Location of the VM.
        vm_location: String,
        /// Number of bytes on the main channel.
        bytes: u64,
        /// Number of bytes on the other channels.
        other_channel_bytes: u64,
        /// Reasons for a verdict or outcome other than success, in words.
        reasons: Vec<String>,
    },
    /// A connection of `--serve` that is not a migration and is forwarded unparsed.
    Forwarding {
        /// Address that the client connected to.
        destination: String,
        /// Reason not to check a connection that may be a migration: TLS without certificates.
        reason: Option<String>,
    },
    /// Location of the VM that the guard found.
    VmLocation {
        /// Location of the VM, as in `guard` of [`cpreg.relay/2`](#cpregrelay2).
        vm_location: String,
        /// `true` if the guest runs there; null if that is not known.
        running: Option<bool>,
        /// Reason, in words.
        reason: String,
        /// Commands that the guard sent to the two QEMUs.
        actions: Vec<String>,
        /// Next steps for the user, in words.
        advice: Vec<String>,
    },
}
