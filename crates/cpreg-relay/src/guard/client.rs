//! [`GuardClient`]: the relay's end of the guard: starts its process, tells it what happens, learns where the VM is.
//!
//! The guard is a process of its own so that it outlives the relay, however that ends: it leaves the relay's session
//! and does not end by the terminal's signals. What the two say to each other is in [`super::protocol`].
//!
//! A service manager that kills all processes of a unit (systemd's `KillMode=control-group`) kills the guard too.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{QemuStatus, Request, Response};
use super::vm_location_report::{VmLocationReport, VmPlace};
use crate::error::Error;

/// How long the guard may take over an order that it answers; its own patience with a QEMU is shorter.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// What was found when the guard connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialStatus {
    /// The source, if asked.
    pub source: Option<QemuStatus>,
    /// The destination, if asked.
    pub destination: Option<QemuStatus>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// There is nothing to migrate: an earlier migration was found unfinished, and is finished now.
    pub vm_location: Option<VmLocationReport>,
}

/// What was made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Whether the return path was switched on.
    pub return_path_switched_on: bool,
    /// Whether the destination is held.
    pub autostart_blocked: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// The guard's process, seen from the relay.
///
/// Dropping it closes the pipe: the guard then concludes alone.
#[derive(Debug)]
pub struct GuardClient {
    child: Child,
    request_pipe: Option<ChildStdin>,
    responses: Receiver<Response>,
    actions: Vec<String>,
    vm_location: Option<VmLocationReport>,
}

impl GuardClient {
    /// Starts the guard: this very program, with these arguments (the hidden command that calls [`super::serve()`]).
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(arguments: &[S]) -> io::Result<Self> {
        Self::spawn_program(&std::env::current_exe()?, arguments)
    }

    /// Starts the guard by this program.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn_program<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the guard has no standard output"))?;
        Ok(Self {
            child,
            request_pipe: orders,
            responses: spawn_reader(output),
            actions: Vec::new(),
            vm_location: None,
        })
    }

    /// The guard's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has the guard connect to the monitors and look at both VMs. At least one is needed.
    ///
    /// # Errors
    /// If one cannot be reached or is not in a state to be migrated.
    pub fn connect(
        &mut self,
        source: Option<&Path>,
        dest: Option<&Path>,
    ) -> Result<InitialStatus, Error> {
        let order = Request::Connect {
            source: source.map(Path::to_owned),
            destination: dest.map(Path::to_owned),
        };
        match self.call(&order)? {
            Response::InitialStatus {
                source,
                destination: dest,
                notes,
            } => Ok(InitialStatus {
                source,
                destination: dest,
                notes,
                vm_location: None,
            }),
            Response::VmLocation {
                report: whereabouts,
            } => Ok(InitialStatus {
                source: None,
                destination: None,
                notes: Vec::new(),
                vm_location: Some(whereabouts),
            }),
            other => Err(unexpected_response(&other)),
        }
    }

    /// Has the guard check what cannot pass a relay, switch the return path on and hold the destination.
    ///
    /// # Errors
    /// If something is switched on that cannot pass, or QEMU refuses.
    pub fn prepare(&mut self) -> Result<Prepared, Error> {
        match self.call(&Request::Prepare)? {
            Response::Prepared {
                return_path_switched_on,
                autostart_blocked: held,
                notes,
            } => Ok(Prepared {
                return_path_switched_on,
                autostart_blocked: held,
                notes,
            }),
            other => Err(unexpected_response(&other)),
        }
    }

    /// Has the guard start the migration.
    ///
    /// # Errors
    /// If the source refuses.
    pub fn start(&mut self, uri: &str) -> Result<(), Error> {
        let uri = uri.to_owned();
        match self.call(&Request::Start { uri })? {
            Response::Started => Ok(()),
            other => Err(unexpected_response(&other)),
        }
    }

    /// A stream comes in, which somebody else has started.
    pub fn migration_started(&mut self) {
        self.send(&Request::MigrationStarted);
    }

    /// To be called **before** the end of the device state goes on, without which nobody can load it. `running`: what its `globalstate` says the guest does, if
    /// that was seen (used where the source cannot be asked).
    ///
    /// # Errors
    /// If the guard is not there any more: nothing may go on then, since nobody would let the held destination run.
    pub fn device_state_committed(&mut self, running: Option<bool>) -> Result<(), Error> {
        if self.send(&Request::DeviceStateCommitted { running }) {
            return Ok(());
        }
        Err(Error::guard("the guard is not there any more").with_hint(
            "no device state has gone on: the VM is at the source. Do not kill `cpreg __relay-guard`",
        ))
    }

    /// No device state has gone on and none will; both connections are closed.
    pub fn device_state_rejected(&mut self) {
        self.send(&Request::DeviceStateRejected);
    }

    /// Everything has gone on and, with a return path, the destination's success has gone back.
    pub fn device_state_delivered(&mut self) {
        self.send(&Request::DeviceStateDelivered);
    }

    /// What the guard has told the QEMUs since the last call; for the log.
    pub fn take_actions(&mut self) -> Vec<String> {
        self.drain_responses();
        std::mem::take(&mut self.actions)
    }

    /// Says that the relay is done, and waits for the guard to settle where the VM is.
    ///
    /// The guard waits for both QEMUs, cancels what hangs, and gives up in the end; `limit` is for a guard that was stopped or
    /// is stuck, and should be minutes. The guard goes on when it is over.
    pub fn conclude(mut self, limit: Duration) -> VmLocationReport {
        self.send(&Request::RelayEnded);
        let deadline = Instant::now() + limit;
        while self.vm_location.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.responses.recv_timeout(left) {
                Ok(told) => self.handle_response(told),
                Err(RecvTimeoutError::Timeout) => {
                    return unknown_location("the guard has not settled it yet and goes on trying");
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // It exits right after its last word.
        let _ = self.child.wait();
        self.vm_location
            .take()
            .unwrap_or_else(|| unknown_location("the guard ended without a word: it was killed"))
    }

    /// Whether the guard has already settled where the VM is.
    pub fn vm_location(&mut self) -> Option<&VmLocationReport> {
        self.drain_responses();
        self.vm_location.as_ref()
    }

    /// Takes in what was said meanwhile, and notices the end of the guard.
    fn drain_responses(&mut self) {
        loop {
            match self.responses.try_recv() {
                Ok(told) => self.handle_response(told),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.request_pipe = None;
                    return;
                }
            }
        }
    }

    fn handle_response(&mut self, told: Response) {
        match told {
            Response::CommandSent { command: what } => self.actions.push(what),
            Response::VmLocation {
                report: whereabouts,
            } => self.vm_location = Some(whereabouts),
            _ => {}
        }
    }

    /// Gives an order that is answered.
    fn call(&mut self, order: &Request) -> Result<Response, Error> {
        let died = || Error::guard("the guard ended").with_hint("it says why on standard error");
        if !self.send(order) {
            return Err(died());
        }
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.responses.recv_timeout(left) {
                Ok(Response::Failed { message, hint }) => {
                    let error = Error::guard(message);
                    return Err(match hint {
                        Some(hint) => error.with_hint(hint),
                        None => error,
                    });
                }
                Ok(Response::CommandSent { command: what }) => self.actions.push(what),
                Ok(Response::VmLocation {
                    report: whereabouts,
                }) => {
                    self.vm_location = Some(whereabouts.clone());
                    return Ok(Response::VmLocation {
                        report: whereabouts,
                    });
                }
                Ok(told) => return Ok(told),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::guard("the guard does not answer"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.request_pipe = None;
                    return Err(died());
                }
            }
        }
    }

    /// Writes an order; whether it went out.
    fn send(&mut self, order: &Request) -> bool {
        self.drain_responses();
        let Some(pipe) = &mut self.request_pipe else {
            return false;
        };
        let Ok(mut line) = serde_json::to_vec(order) else {
            // Only a path that is not Unicode comes here.
            return false;
        };
        line.push(b'\n');
        let sent = pipe.write_all(&line).is_ok();
        if !sent {
            self.request_pipe = None;
        }
        sent
    }
}

fn unknown_location(why: &str) -> VmLocationReport {
    VmLocationReport::new(VmPlace::UNKNOWN, None, why).with_advice(
        "ask both: QMP `query-status` and `query-migrate`. Source `completed` and destination \
         `paused`: `cont` at the destination. Source running: `quit` at the destination",
    )
}

fn unexpected_response(told: &Response) -> Error {
    Error::guard(format!("the guard answers {told:?}"))
}

/// Reads what the guard says, until its end.
fn spawn_reader(output: ChildStdout) -> Receiver<Response> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            let Ok(told) = serde_json::from_str(&line) else {
                break;
            };
            if sender.send(told).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard played by a shell.
    fn shell_guard(script: &str) -> GuardClient {
        GuardClient::spawn_program(Path::new("/bin/sh"), &["-c", script]).unwrap()
    }

    #[test]
    fn orders_answers_and_the_last_word() {
        let mut keeper = shell_guard(
            r#"
            read order; echo '{"response":"initial-status","source":null,"destination":null,"notes":["a note"]}'
            read order; echo '{"response":"command-sent","command":"the destination: stop"}'
            echo '{"response":"failed","message":"it cannot","hint":"do this"}'
            read order; case $order in *device-state-committed*) ;; *) exit ;; esac
            read order; case $order in *relay-ended*) ;; *) exit ;; esac
            echo '{"response":"vm-location","report":{"place":"source","running":true,"reason":"so"}}'
            "#,
        );
        let connected = keeper.connect(Some(Path::new("/a")), None).unwrap();
        assert_eq!(connected.notes, ["a note"]);
        let error = keeper.prepare().unwrap_err();
        assert_eq!(error.message(), "it cannot");
        assert_eq!(keeper.take_actions(), ["the destination: stop"]);
        keeper.device_state_committed(Some(true)).unwrap();
        let at = keeper.conclude(Duration::from_secs(20));
        assert_eq!((at.place, at.running), (VmPlace::SOURCE, Some(true)));
    }

    #[test]
    fn a_guard_that_was_killed_lets_nothing_pass() {
        let mut keeper = shell_guard("exit");
        let error = keeper.connect(None, None).unwrap_err();
        assert_eq!(error.message(), "the guard ended");
        assert!(keeper.device_state_committed(None).is_err());
        assert_eq!(
            keeper.conclude(Duration::from_secs(20)).place,
            VmPlace::UNKNOWN
        );
    }

    #[test]
    fn a_guard_that_is_stuck_is_left_alone() {
        let keeper = shell_guard("sleep 5");
        let at = keeper.conclude(Duration::from_millis(50));
        assert_eq!(at.place, VmPlace::UNKNOWN);
        assert!(at.reason.contains("goes on trying"), "{}", at.reason);
    }
}
