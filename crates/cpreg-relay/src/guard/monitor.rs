//! [`Monitor`]: one QEMU's monitor, and the proof that its process has exited.
//!
//! A closed connection proves nothing, because QEMU may only have closed the monitor. The exit of
//! the process itself is a proof (`pidfd_open(2)`), if the process is on this machine. The guard
//! checks that, since the peer of a Unix socket may be a tunnel (`ssh -L`) to a QEMU elsewhere:
//!
//! - The listener is the process that called `listen`: `SO_PEERCRED` (unix(7)).
//! - The process that runs the VM has the thread of vCPU 0: `query-cpus-fast` and `Tgid` in
//!   `/proc/THREAD/status`.
//!
//! If both are the same process, it is QEMU and on this machine. Otherwise, the peer is a tunnel,
//! or a manager that opened the socket for QEMU. The guard then cannot prove an exit, and a side
//! that stops answering is always `Unreachable`, never `Exited`.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::protocol::QemuStatus;
use super::states::{MigrationStatus, RunState, SideStatus};
use crate::error::Error;
use cpreg_qemu::ErrorKind;
use cpreg_qemu::qmp::{Qmp, Version, WaitOptions};

/// Timeout of one reply. A destination that loads may reply late.
const QMP_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(10));

/// Side of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Destination,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Destination => "the destination",
        })
    }
}

/// Reply to a command.
#[derive(Debug)]
pub(super) enum Reply {
    /// The command succeeded.
    Ok(Value),
    /// QEMU refused the command with this message: nothing has changed.
    Refused(String),
    /// No reply: the command may have been executed.
    Lost(String),
}

/// Identity of a QEMU, which distinguishes it from another QEMU that later listens at the same
/// path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    /// Process id of the listener.
    peer: i32,
    /// Thread id of vCPU 0.
    thread: i64,
}

/// Monitor of one QEMU.
#[derive(Debug)]
pub(super) struct Monitor {
    role: Role,
    path: PathBuf,
    qmp: Option<Qmp>,
    identity: Identity,
    /// Process of QEMU, if it is on this machine.
    process: Option<OwnedFd>,
    version: Version,
    /// `true` if the guard has observed the exit of the process; final once set.
    has_exited: bool,
}

impl Monitor {
    /// Connects to the monitor.
    ///
    /// # Errors
    /// Returns an error if there is no listener, another client is connected, or the peer is not
    /// QEMU.
    pub(super) fn connect(role: Role, path: &Path) -> Result<Self, Error> {
        let to_error = |error: cpreg_qemu::Error| {
            let path = path.display();
            let guard_error = Error::guard(format!("{role} ({path}): {error}"));
            match error.hint() {
                Some(hint) => guard_error.with_hint(hint.to_owned()),
                None => guard_error,
            }
        };
        let socket = Qmp::connect_socket(path).map_err(to_error)?;
        let peer = peer(&socket)
            .map_err(|error| Error::guard(format!("{role} ({}): {error}", path.display())))?;
        // Open the process before QEMU replies, so that the descriptor belongs to the process that
        // replies.
        let process = Pid::from_raw(peer).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut qmp = Qmp::handshake(socket, &QMP_TIMEOUT).map_err(to_error)?;
        let thread = first_vcpu_thread(&mut qmp).map_err(to_error)?;
        let is_local = process_of_thread(thread) == Some(peer);
        Ok(Self {
            role,
            path: path.to_owned(),
            version: qmp.version().clone(),
            qmp: Some(qmp),
            identity: Identity { peer, thread },
            process: process.filter(|_| is_local),
            has_exited: false,
        })
    }

    /// Returns QEMU's version.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// Returns the status for the relay.
    pub(super) fn status(&self, run_state: &RunState) -> QemuStatus {
        QemuStatus {
            version: self.version.to_string(),
            run_state: run_state.name().to_owned(),
            process: self.process.as_ref().map(|_| self.identity.peer),
        }
    }

    /// Executes one command. After a failure, the guard drops the connection and reconnects at the
    /// next poll.
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Reply {
        let Some(qmp) = &mut self.qmp else {
            return Reply::Lost("it does not answer".to_owned());
        };
        let result = qmp.execute(command, arguments, &QMP_TIMEOUT);
        // The guard does not use events, which would only fill the buffer.
        qmp.take_events();
        match result {
            Ok(value) => Reply::Ok(value),
            Err(error) => {
                if let ErrorKind::Refused { description, .. } = error.kind() {
                    return Reply::Refused(description.clone());
                }
                self.qmp = None;
                Reply::Lost(error.to_string())
            }
        }
    }

    /// Executes a command before a migration.
    ///
    /// # Errors
    /// Returns an error if QEMU refuses the command or does not reply.
    pub(super) fn execute_or_fail(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, Error> {
        let role = self.role;
        match self.execute(command, arguments) {
            Reply::Ok(value) => Ok(value),
            Reply::Refused(text) => {
                Err(Error::guard(format!("{role} refuses `{command}`: {text}")))
            }
            Reply::Lost(text) => Err(Error::guard(format!("{role}: {text}"))),
        }
    }

    /// Returns the current status of this side.
    pub(super) fn poll(&mut self) -> SideStatus {
        if self.poll_exit() {
            return SideStatus::Exited;
        }
        if self.qmp.is_none() {
            self.reconnect();
        }
        match self.query_states() {
            Some((run, migration)) => SideStatus::present(run, migration),
            None if self.poll_exit() => SideStatus::Exited,
            None => SideStatus::Unreachable,
        }
    }

    fn query_states(&mut self) -> Option<(RunState, MigrationStatus)> {
        // Query the migration first. The run state is then at least as new as the migration status,
        // so a reported `completed` or `failed` already shows in it.
        let migration = match self.execute("query-migrate", json!({})) {
            Reply::Ok(value) => {
                let status = value.get("status").and_then(Value::as_str);
                status.map_or(MigrationStatus::NONE, |status| {
                    MigrationStatus::new(status.to_owned())
                })
            }
            _ => return None,
        };
        let Reply::Ok(value) = self.execute("query-status", json!({})) else {
            return None;
        };
        let run = value.get("status").and_then(Value::as_str)?;
        Some((RunState::new(run.to_owned()), migration))
    }

    /// Checks the process without waiting. Returns `true` if it is known to have exited.
    pub(super) fn poll_exit(&mut self) -> bool {
        if let (false, Some(process)) = (self.has_exited, &self.process) {
            let mut polled = [PollFd::new(process, PollFlags::IN)];
            let no_wait = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // A pidfd becomes readable when the last thread has exited.
            self.has_exited = poll(&mut polled, Some(&no_wait)).is_ok_and(|ready| ready > 0);
        }
        self.has_exited
    }

    /// Reconnects to the same QEMU; connects to no other QEMU.
    fn reconnect(&mut self) {
        let Ok(socket) = Qmp::connect_socket(&self.path) else {
            return;
        };
        let Ok(peer) = peer(&socket) else { return };
        let Ok(mut qmp) = Qmp::handshake(socket, &QMP_TIMEOUT) else {
            return;
        };
        let Ok(thread) = first_vcpu_thread(&mut qmp) else {
            return;
        };
        // Another QEMU at the same path does not belong to this migration.
        if self.identity == (Identity { peer, thread }) {
            self.qmp = Some(qmp);
        }
    }
}

fn peer(socket: &UnixStream) -> io::Result<i32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?
        .pid
        .as_raw_nonzero()
        .get())
}

/// Returns the thread of vCPU 0, as numbered on QEMU's machine.
fn first_vcpu_thread(qmp: &mut Qmp) -> Result<i64, cpreg_qemu::Error> {
    let cpus = qmp.execute("query-cpus-fast", json!({}), &QMP_TIMEOUT)?;
    let thread = cpus.get(0).and_then(|cpu| cpu.get("thread-id"));
    Ok(thread.and_then(Value::as_i64).unwrap_or(0))
}

/// Returns the process of a thread of this machine (proc_pid_status(5)).
fn process_of_thread(thread: i64) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let mut lines = status.lines();
    let tgid = lines.find_map(|line| line.strip_prefix("Tgid:"))?;
    tgid.trim().parse().ok()
}
