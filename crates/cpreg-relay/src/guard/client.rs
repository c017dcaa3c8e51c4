//! [`GuardClient`]: the relay's end of the guard. It starts the guard's process, reports progress
//! to it, and receives the location of the VM.
//!
//! The guard is a separate process, so that it survives a relay that fails or is killed. It runs in
//! a session of its own, where signals from the relay's terminal do not reach it.
//! [`super::protocol`] has the messages.
//!
//! A service manager that kills all processes of a unit (systemd's `KillMode=control-group`) also
//! kills the guard.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{InitialStatus, Prepared, Request, Response};
use super::vm_location_report::{VmLocationReport, VmPlace};
use crate::error::Error;

/// Timeout for a response of the guard. The guard's own timeout for a QEMU is shorter.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Relay's handle on the guard's process.
///
/// Dropping the client closes the pipe to the guard, and the guard continues alone to its end.
#[derive(Debug)]
pub struct GuardClient {
    child: Child,
    request_pipe: Option<ChildStdin>,
    responses: Receiver<Response>,
    actions: Vec<String>,
    vm_location: Option<VmLocationReport>,
}

impl GuardClient {
    /// Starts the guard: a second process of the running program. The arguments select the hidden
    /// command that calls [`super::run()`].
    ///
    /// # Errors
    /// Returns an error if the process cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(arguments: &[S]) -> io::Result<Self> {
        Self::spawn_program(&std::env::current_exe()?, arguments)
    }

    /// Starts the given program as the guard.
    ///
    /// # Errors
    /// Returns an error if the process cannot be started.
    pub fn spawn_program<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let request_pipe = child.stdin.take();
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the guard has no standard output"))?;
        Ok(Self {
            child,
            request_pipe,
            responses: spawn_reader(output),
            actions: Vec::new(),
            vm_location: None,
        })
    }

    /// Returns the guard's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Makes the guard connect to the monitors, at least one, and query both VMs.
    ///
    /// # Errors
    /// Returns an error if a monitor cannot be reached, or a VM is not in a state to be migrated.
    pub fn connect(
        &mut self,
        source: Option<&Path>,
        destination: Option<&Path>,
    ) -> Result<InitialStatus, Error> {
        let request = Request::Connect {
            source: source.map(Path::to_owned),
            destination: destination.map(Path::to_owned),
        };
        match self.call(&request)? {
            Response::InitialStatus(status) => Ok(status),
            Response::VmLocation { report } => Ok(InitialStatus {
                source: None,
                destination: None,
                notes: Vec::new(),
                vm_location: Some(report),
            }),
            other => Err(unexpected_response(&other)),
        }
    }

    /// Makes the guard check for features that cannot pass a relay, switch the return path on, and
    /// block the destination's autostart.
    ///
    /// # Errors
    /// Returns an error if such a feature is switched on, or a QEMU refuses a command.
    pub fn prepare(&mut self) -> Result<Prepared, Error> {
        match self.call(&Request::Prepare)? {
            Response::Prepared(prepared) => Ok(prepared),
            other => Err(unexpected_response(&other)),
        }
    }

    /// Makes the guard start the migration. `uri` is the relay's address in the syntax of
    /// `migrate`.
    ///
    /// # Errors
    /// Returns an error if the source refuses the command.
    pub fn start(&mut self, uri: &str) -> Result<(), Error> {
        let uri = uri.to_owned();
        match self.call(&Request::Start { uri })? {
            Response::Started => Ok(()),
            other => Err(unexpected_response(&other)),
        }
    }

    /// Tells the guard that another program has started the migration.
    pub fn migration_started(&mut self) {
        self.send(&Request::MigrationStarted);
    }

    /// Tells the guard that the relay is about to send the end of the device state. The caller must
    /// send it **after** this call, because the destination can load the VM as soon as it has the
    /// end. `running` is the run state from the stream's `globalstate`, if present. The guard uses
    /// it if it cannot query the source.
    ///
    /// # Errors
    /// Returns an error if the guard has exited. The caller must send nothing, since nothing would
    /// resume the blocked destination.
    pub fn device_state_committed(&mut self, running: Option<bool>) -> Result<(), Error> {
        if self.send(&Request::DeviceStateCommitted { running }) {
            return Ok(());
        }
        Err(Error::guard("the guard has exited").with_hint(
            "no device state was sent: the VM is at the source. Do not kill `cpreg __relay-guard`",
        ))
    }

    /// Tells the guard that the relay has sent no device state, will send none, and has closed both
    /// connections.
    pub fn device_state_rejected(&mut self) {
        self.send(&Request::DeviceStateRejected);
    }

    /// Tells the guard that the relay sent everything and, with a return path, forwarded the
    /// destination's success.
    pub fn device_state_delivered(&mut self) {
        self.send(&Request::DeviceStateDelivered);
    }

    /// Returns the commands that the guard has sent to the QEMUs since the last call, for the log.
    pub fn take_actions(&mut self) -> Vec<String> {
        self.drain_responses();
        std::mem::take(&mut self.actions)
    }

    /// Tells the guard that the relay ends, and waits until the guard knows the location of the VM.
    ///
    /// The guard waits for both QEMUs, cancels a stalled migration, and gives up in the end.
    /// `timeout` limits the wait for a guard that was stopped or hangs; choose several minutes. The
    /// guard continues after the timeout.
    pub fn conclude(mut self, timeout: Duration) -> VmLocationReport {
        self.send(&Request::RelayEnded);
        let deadline = Instant::now() + timeout;
        while self.vm_location.is_none() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.responses.recv_timeout(remaining) {
                Ok(response) => self.handle_response(response),
                Err(RecvTimeoutError::Timeout) => {
                    return unknown_location("the guard has not decided yet and keeps trying");
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The guard exits right after its report.
        let _ = self.child.wait();
        self.vm_location
            .take()
            .unwrap_or_else(|| unknown_location("the guard exited without a report: it was killed"))
    }

    /// Returns the location of the VM if the guard has already decided.
    pub fn vm_location(&mut self) -> Option<&VmLocationReport> {
        self.drain_responses();
        self.vm_location.as_ref()
    }

    /// Handles the responses received so far, and records the exit of the guard.
    fn drain_responses(&mut self) {
        loop {
            match self.responses.try_recv() {
                Ok(response) => self.handle_response(response),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.request_pipe = None;
                    return;
                }
            }
        }
    }

    fn handle_response(&mut self, response: Response) {
        match response {
            Response::CommandSent { command } => self.actions.push(command),
            Response::VmLocation { report } => self.vm_location = Some(report),
            _ => {}
        }
    }

    /// Sends a request and returns its response.
    fn call(&mut self, request: &Request) -> Result<Response, Error> {
        let exited =
            || Error::guard("the guard has exited").with_hint("its standard error has the reason");
        if !self.send(request) {
            return Err(exited());
        }
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.responses.recv_timeout(remaining) {
                Ok(Response::Failed { message, hint }) => {
                    let error = Error::guard(message);
                    return Err(match hint {
                        Some(hint) => error.with_hint(hint),
                        None => error,
                    });
                }
                Ok(Response::CommandSent { command }) => self.actions.push(command),
                Ok(response) => {
                    if let Response::VmLocation { report } = &response {
                        self.vm_location = Some(report.clone());
                    }
                    return Ok(response);
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::guard("the guard does not answer"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.request_pipe = None;
                    return Err(exited());
                }
            }
        }
    }

    /// Writes a request. Returns `true` if the guard's pipe accepted it.
    fn send(&mut self, request: &Request) -> bool {
        self.drain_responses();
        let Some(pipe) = &mut self.request_pipe else {
            return false;
        };
        let Ok(mut line) = serde_json::to_vec(request) else {
            // Serialization fails only for a path that is not Unicode.
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

fn unknown_location(reason: &str) -> VmLocationReport {
    VmLocationReport::new(VmPlace::UNKNOWN, None, reason).with_advice(
        "query both sides: QMP `query-status` and `query-migrate`. If the source is `completed` \
         and the destination `paused`: `cont` at the destination. If the source runs: `quit` at \
         the destination",
    )
}

fn unexpected_response(response: &Response) -> Error {
    Error::guard(format!("unexpected response of the guard: {response:?}"))
}

/// Reads the guard's responses until its end.
fn spawn_reader(output: ChildStdout) -> Receiver<Response> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            let Ok(response) = serde_json::from_str(&line) else {
                break;
            };
            if sender.send(response).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a guard that a shell script imitates.
    fn shell_guard(script: &str) -> GuardClient {
        GuardClient::spawn_program(Path::new("/bin/sh"), &["-c", script]).unwrap()
    }

    #[test]
    fn requests_and_responses_until_the_report() {
        let mut client = shell_guard(
            r#"
            read request; echo '{"response":"initial-status","source":null,"destination":null,"notes":["a note"]}'
            read request; echo '{"response":"command-sent","command":"the destination: stop"}'
            echo '{"response":"failed","message":"it cannot","hint":"do this"}'
            read request; case $request in *device-state-committed*) ;; *) exit ;; esac
            read request; case $request in *relay-ended*) ;; *) exit ;; esac
            echo '{"response":"vm-location","report":{"place":"source","running":true,"reason":"so"}}'
            "#,
        );
        let status = client.connect(Some(Path::new("/a")), None).unwrap();
        assert_eq!(status.notes, ["a note"]);
        let error = client.prepare().unwrap_err();
        assert_eq!(error.message(), "it cannot");
        assert_eq!(client.take_actions(), ["the destination: stop"]);
        client.device_state_committed(Some(true)).unwrap();
        let report = client.conclude(Duration::from_secs(20));
        assert_eq!(
            (report.place, report.running),
            (VmPlace::SOURCE, Some(true))
        );
    }

    #[test]
    fn killed_guard_blocks_the_device_state() {
        let mut client = shell_guard("exit");
        let error = client.connect(None, None).unwrap_err();
        assert_eq!(error.message(), "the guard has exited");
        assert!(client.device_state_committed(None).is_err());
        assert_eq!(
            client.conclude(Duration::from_secs(20)).place,
            VmPlace::UNKNOWN
        );
    }

    #[test]
    fn conclude_times_out_on_a_stuck_guard() {
        let client = shell_guard("sleep 5");
        let report = client.conclude(Duration::from_millis(50));
        assert_eq!(report.place, VmPlace::UNKNOWN);
        assert!(report.reason.contains("keeps trying"), "{}", report.reason);
    }
}
