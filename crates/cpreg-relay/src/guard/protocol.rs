//! Messages between relay and guard: one JSON object per line on the guard's standard input and
//! output.
//!
//! | request of the relay | time | response |
//! |---|---|---|
//! | `connect` | first | `initial-status` or `failed` |
//! | `prepare` | before the migration | `prepared` or `failed` |
//! | `start` | if the guard starts the migration | `started` or `failed` |
//! | `migration-started` | if others have started the migration | |
//! | `device-state-committed` | **before** the end of the device state is sent | |
//! | `device-state-rejected` | after a rejection; no device state was sent, connections closed | |
//! | `device-state-delivered` | all was sent and, with a return path, the success forwarded | |
//! | `relay-ended` | the relay has ended, whatever the outcome | |
//! | end of file | the relay has ended or was killed | |
//!
//! The guard sends `command-sent` after each command to a QEMU. At the end it sends `vm-location`
//! with the report, and exits.
//!
//! `device-state-committed` needs no response, because the guard reads the pipe to its end even if
//! the relay dies. If the pipe ends without this request, the destination cannot have the VM.
//!
//! Both ends are the same program, so the protocol has no version number.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::vm_location_report::VmLocationReport;

/// Request of the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Connects to the monitors at these Unix sockets, of which at least one is given.
    Connect {
        /// Monitor of the source.
        source: Option<PathBuf>,
        /// Monitor of the destination.
        destination: Option<PathBuf>,
    },
    /// Checks for features that cannot pass a relay, switches the return path on, and blocks the
    /// destination's autostart.
    Prepare,
    /// Starts the migration.
    Start {
        /// Address that the relay listens on, in the syntax of `migrate`.
        uri: String,
    },
    /// Reports that the migration has begun.
    MigrationStarted,
    /// Reports that the end of the device state is about to be sent.
    DeviceStateCommitted {
        /// Run state of the guest from `globalstate`: `true` if the guest is to run at the
        /// destination; `None` if the stream has no `globalstate`.
        running: Option<bool>,
    },
    /// Reports that the relay has sent no device state and will send none.
    DeviceStateRejected,
    /// Reports that all device state was sent.
    DeviceStateDelivered,
    /// Reports that the relay has ended.
    RelayEnded,
}

/// Status of one QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuStatus {
    /// Version of QEMU, with its package.
    pub version: String,
    /// Run state of its guest (`running`, `paused`, `inmigrate`).
    pub run_state: String,
    /// Process id, if the process is on this machine. The guard can then prove that the process has
    /// exited.
    pub process: Option<i32>,
}

/// Status of both sides before a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialStatus {
    /// Status of the source, if its monitor was given.
    pub source: Option<QemuStatus>,
    /// Status of the destination, if its monitor was given.
    pub destination: Option<QemuStatus>,
    /// Notes on the initial status, for the user.
    pub notes: Vec<String>,
    /// Location of the VM, if the guard has just finished an earlier, unfinished migration. No VM
    /// is left to migrate.
    #[serde(skip)]
    pub vm_location: Option<VmLocationReport>,
}

/// Changes made before a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// `true` if the guard switched the return path on.
    pub return_path_switched_on: bool,
    /// `true` if the destination does not start its guest by itself.
    pub autostart_blocked: bool,
    /// Notes on the changes, for the user.
    pub notes: Vec<String>,
}

/// Response of the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// Both sides are ready to be prepared.
    InitialStatus(InitialStatus),
    /// Both sides are ready for the migration.
    Prepared(Prepared),
    /// The migration has started.
    Started,
    /// The guard sent a command to a QEMU.
    CommandSent {
        /// Side, command and result, in words.
        command: String,
    },
    /// Failure of a request. Earlier responses report every change that was made.
    Failed {
        /// Error message.
        message: String,
        /// Next step for the user.
        hint: Option<String>,
    },
    /// The guard has finished and exits.
    VmLocation {
        /// Location of the VM.
        report: VmLocationReport,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_each() {
        let request = Request::Start {
            uri: "unix:/run/relay".to_owned(),
        };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"request":"start","uri":"unix:/run/relay"}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        let response = Response::CommandSent {
            command: "a\nb".to_owned(),
        };
        let line = serde_json::to_string(&response).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Response>(&line).unwrap(), response);
    }
}
