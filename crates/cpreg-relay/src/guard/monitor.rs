//! [`Monitor`]: one QEMU's monitor, and whether its process has ended.
//!
//! A closed connection proves nothing: the monitor may only have let go. What proves an end is the process itself (`pidfd_open(2)`), if it
//! is on this machine. That is checked, since the peer of a Unix socket may be a tunnel (`ssh -L`) to a QEMU elsewhere:
//!
//! | | from |
//! |---|---|
//! | who listens | `SO_PEERCRED` (unix(7)): the process that called `listen` |
//! | who executes the guest | `query-cpus-fast`: the thread of vCPU 0, and the process it belongs to (`/proc/THREAD/status`, `Tgid`) |
//!
//! Only if both are the same process is it QEMU, and here. Where they are not (a tunnel; a manager that opened the socket for QEMU) the end
//! cannot be proven, and the side is at worst `Unreachable`.

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

/// How long one answer may take. A destination that loads fast answers late.
const QMP_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(10));

/// Which end of the migration.
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

/// How a command went.
#[derive(Debug)]
pub(super) enum Reply {
    /// Carried out.
    Ok(Value),
    /// QEMU refused it, in these words: nothing has happened.
    Refused(String),
    /// No answer: it may have been carried out.
    NoReply(String),
}

/// What tells one QEMU from another that listens at the same path later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    /// The process that listens.
    peer: i32,
    /// The thread of vCPU 0.
    thread: i64,
}

/// One QEMU's monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    role: Role,
    path: PathBuf,
    qmp: Option<Qmp>,
    identity: Identity,
    /// QEMU's process, if it is on this machine.
    process: Option<OwnedFd>,
    version: Version,
    /// The end was seen; it stays so.
    has_ended: bool,
}

impl Monitor {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens, somebody else is connected, or it is no QEMU.
    pub(super) fn connect(end: Role, path: &Path) -> Result<Self, Error> {
        let failed = |error: cpreg_qemu::Error| {
            let path = path.display();
            let failure = Error::guard(format!("{end} ({path}): {error}"));
            match error.hint() {
                Some(hint) => failure.with_hint(hint.to_owned()),
                None => failure,
            }
        };
        let socket = Qmp::connect_socket(path).map_err(failed)?;
        let peer = peer(&socket)
            .map_err(|error| Error::guard(format!("{end} ({}): {error}", path.display())))?;
        // Opened before QEMU answers, so that it is the process that answers.
        let process = Pid::from_raw(peer).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut qmp = Qmp::handshake(socket, &QMP_TIMEOUT).map_err(failed)?;
        let thread = first_thread(&mut qmp).map_err(failed)?;
        let is_here = process_of(thread) == Some(peer);
        Ok(Self {
            role: end,
            path: path.to_owned(),
            version: qmp.version().clone(),
            qmp: Some(qmp),
            identity: Identity { peer, thread },
            process: process.filter(|_| is_here),
            has_ended: false,
        })
    }

    /// QEMU's version.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// What the relay is told of it.
    pub(super) fn status(&self, run_state: &RunState) -> QemuStatus {
        QemuStatus {
            version: self.version.to_string(),
            run_state: run_state.name().to_owned(),
            process: self.process.as_ref().map(|_| self.identity.peer),
        }
    }

    /// Carries out one command. A connection that fails is given up, and opened anew by the next look.
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Reply {
        let Some(qmp) = &mut self.qmp else {
            return Reply::NoReply("it does not answer".to_owned());
        };
        let answer = qmp.execute(command, arguments, &QMP_TIMEOUT);
        // Nobody looks at events; they would only pile up.
        qmp.take_events();
        match answer {
            Ok(value) => Reply::Ok(value),
            Err(error) => {
                if let ErrorKind::Refused { description, .. } = error.kind() {
                    return Reply::Refused(description.clone());
                }
                self.qmp = None;
                Reply::NoReply(error.to_string())
            }
        }
    }

    /// The same before a migration, where every failure is told to the user.
    ///
    /// # Errors
    /// If it is not carried out.
    pub(super) fn execute_or_fail(
        &mut self,
        command: &str,
        arguments: Value,
    ) -> Result<Value, Error> {
        let end = self.role;
        match self.execute(command, arguments) {
            Reply::Ok(value) => Ok(value),
            Reply::Refused(text) => Err(Error::guard(format!("{end} refuses `{command}`: {text}"))),
            Reply::NoReply(text) => Err(Error::guard(format!("{end}: {text}"))),
        }
    }

    /// What is seen of this side now.
    pub(super) fn poll(&mut self) -> SideStatus {
        if self.has_ended() {
            return SideStatus::Exited;
        }
        if self.qmp.is_none() {
            self.reconnect();
        }
        match self.query_states() {
            Some((run, migration)) => SideStatus::present(run, migration),
            None if self.has_ended() => SideStatus::Exited,
            None => SideStatus::Unreachable,
        }
    }

    fn query_states(&mut self) -> Option<(RunState, MigrationStatus)> {
        // In this order: a source that is seen `completed` or `failed` is then seen with the run state that belongs to it, or a later one.
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

    /// Whether the process is known to have ended.
    pub(super) fn has_ended(&mut self) -> bool {
        if let (false, Some(process)) = (self.has_ended, &self.process) {
            let mut polled = [PollFd::new(process, PollFlags::IN)];
            let at_once = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // A pidfd becomes readable when the last thread has ended.
            self.has_ended = poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0);
        }
        self.has_ended
    }

    /// Opens the connection anew, to the same QEMU or not at all.
    fn reconnect(&mut self) {
        let Ok(socket) = Qmp::connect_socket(&self.path) else {
            return;
        };
        let Ok(peer) = peer(&socket) else { return };
        let Ok(mut qmp) = Qmp::handshake(socket, &QMP_TIMEOUT) else {
            return;
        };
        let Ok(thread) = first_thread(&mut qmp) else {
            return;
        };
        // Another QEMU at the same path is none of ours.
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

/// The thread of vCPU 0, as QEMU's machine numbers it.
fn first_thread(qmp: &mut Qmp) -> Result<i64, cpreg_qemu::Error> {
    let cpus = qmp.execute("query-cpus-fast", json!({}), &QMP_TIMEOUT)?;
    let thread = cpus.get(0).and_then(|cpu| cpu.get("thread-id"));
    Ok(thread.and_then(Value::as_i64).unwrap_or(0))
}

/// The process that a thread of this machine belongs to (proc_pid_status(5)).
fn process_of(thread: i64) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let mut lines = status.lines();
    let tgid = lines.find_map(|line| line.strip_prefix("Tgid:"))?;
    tgid.trim().parse().ok()
}
