//! What relay and guard say to each other: one JSON object a line, the guard's standard input and output.
//!
//! | relay says | when | guard answers |
//! |---|---|---|
//! | `connect` | first | `connected` or `failed` |
//! | `prepare` | before the migration | `prepared` or `failed` |
//! | `start` | if the guard is to start it | `started` or `failed` |
//! | `began` | if somebody else has started it: a stream comes in | |
//! | `passing` | **before** what makes the device state loadable, its end, goes on | |
//! | `refused` | no device state has gone on, and none will; both connections are closed | |
//! | `delivered` | the stream has gone on to its end and, with a return path, the destination's success has gone back | |
//! | `ended` | the relay is done, whatever came of it | |
//! | end of file | it was killed, or is done | |
//!
//! The guard says `did` whenever it has told a QEMU something, and `concluded` at the end, with the whereabouts; then it exits. `passing`
//! needs no answer: what was written into the pipe is read even if the writer dies, so a guard that has not read
//! it by the end of the file knows that the destination cannot have the VM.
//!
//! Both ends are the same program, so there is no versioning.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::vm_location_report::VmLocationReport;

/// What the relay says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Connect to these monitors: Unix sockets, at least one.
    Connect {
        /// The source's.
        source: Option<PathBuf>,
        /// The destination's.
        destination: Option<PathBuf>,
    },
    /// Check what cannot pass, switch the return path on, hold the destination.
    Prepare,
    /// Start the migration.
    Start {
        /// Where to, as `migrate` takes it: where the relay listens.
        uri: String,
    },
    /// The migration has begun.
    MigrationStarted,
    /// Device state goes on from now on.
    DeviceStateCommitted {
        /// Whether the guest is to run at the destination (`globalstate` in it), if that was seen.
        running: Option<bool>,
    },
    /// None went on, and none will.
    DeviceStateRejected,
    /// All went on.
    DeviceStateDelivered,
    /// The relay has nothing more to carry.
    RelayEnded,
}

/// One side, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuStatus {
    /// QEMU's version, with its package.
    pub version: String,
    /// What its guest did (`running`, `paused`, `inmigrate`).
    pub run_state: String,
    /// Its process id, where the process is on this machine: then its end can be proven.
    pub process: Option<i32>,
}

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// Both were found as they should be.
    InitialStatus {
        /// The source, if asked.
        source: Option<QemuStatus>,
        /// The destination, if asked.
        destination: Option<QemuStatus>,
        /// What the user should know.
        notes: Vec<String>,
    },
    /// All is ready for the migration.
    Prepared {
        /// Whether the return path was switched on for it.
        return_path_switched_on: bool,
        /// Whether the destination is held: it will not start on its own.
        autostart_blocked: bool,
        /// What the user should know.
        notes: Vec<String>,
    },
    /// The migration runs.
    Started,
    /// A QEMU was told something.
    CommandSent {
        /// What, in words.
        command: String,
    },
    /// An order was not carried out; nothing has changed but what was said before.
    Failed {
        /// What went wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// All is over. The guard exits.
    VmLocation {
        /// Where the VM is.
        report: VmLocationReport,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each_and_back() {
        let order = Request::Start {
            uri: "unix:/run/relay".to_owned(),
        };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(line, r#"{"request":"start","uri":"unix:/run/relay"}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), order);
        let told = Response::CommandSent {
            command: "a\nb".to_owned(),
        };
        let line = serde_json::to_string(&told).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Response>(&line).unwrap(), told);
    }
}
