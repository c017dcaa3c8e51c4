//! [`run()`]: the guard's process. It serves requests, polls both QEMUs, reports its commands, and
//! ends when the location of the VM is known.
//!
//! The caller first calls [`leave_session`] and handles signals; [`run()`] needs only the two
//! streams. If the relay has ended, nothing reads the report, so [`run()`] also returns it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;

use super::engine::Guard;
use super::protocol::{Request, Response};
use super::vm_location_report::VmLocationReport;
use crate::error::Error;

/// Maximum length in bytes of a request, which contains two paths at most.
const MAX_REQUEST_LEN: u64 = 64 << 10;

/// Result of the guard's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardExit {
    /// Location of the VM; `None` if the relay ended before any monitor was connected.
    pub vm_location: Option<VmLocationReport>,
    /// `true` if the relay still existed to receive the report.
    pub relay_notified: bool,
}

/// Leaves the session of the relay, so that neither its terminal nor a signal to its process group
/// reaches the guard. The guard must call this function before it sends any response.
///
/// # Errors
/// Returns an error if this process already leads a process group (setsid(2)): it was not started
/// by a [`super::GuardClient`].
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Serves the requests of one relay for one VM until the location of the VM is known.
pub fn run(requests: impl Read + Send + 'static, responses: impl Write) -> GuardExit {
    let requests = spawn_reader(requests);
    let mut responses = ResponseWriter {
        output: responses,
        is_connected: true,
    };
    let Some(mut guard) = connect_monitors(&requests, &mut responses) else {
        return GuardExit {
            vm_location: None,
            relay_notified: responses.is_connected,
        };
    };
    let mut has_relay = true;
    loop {
        // Handle all requests that were sent before the relay ended.
        while has_relay {
            match requests.try_recv() {
                Ok(request) => handle_request(&mut guard, request, &mut responses),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => has_relay = false,
            }
        }
        if !has_relay {
            guard.relay_ended();
        }
        let report = guard.step();
        for command in guard.take_actions() {
            responses.send(&Response::CommandSent { command });
        }
        if let Some(report) = report {
            responses.send(&Response::VmLocation {
                report: report.clone(),
            });
            return GuardExit {
                vm_location: Some(report),
                relay_notified: responses.is_connected && has_relay,
            };
        }
        if has_relay {
            match requests.recv_timeout(guard.poll_interval()) {
                Ok(request) => handle_request(&mut guard, request, &mut responses),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => has_relay = false,
            }
        } else {
            thread::sleep(guard.poll_interval());
        }
    }
}

/// Serves requests until the guard has connected to the monitors and both VMs are ready.
fn connect_monitors<W: Write>(
    requests: &Receiver<Request>,
    responses: &mut ResponseWriter<W>,
) -> Option<Guard> {
    while let Ok(request) = requests.recv() {
        let Request::Connect {
            source,
            destination,
        } = request
        else {
            if matches!(request, Request::RelayEnded) {
                return None;
            }
            responses.send_error(&Error::guard("`connect` must be the first request"));
            continue;
        };
        let result = Guard::connect(source.as_deref(), destination.as_deref())
            .and_then(|mut guard| guard.query_initial_status().map(|status| (guard, status)));
        match result {
            Ok((guard, status)) => {
                // If an unfinished migration was found, `vm-location` is the response.
                if let Some(status) = status {
                    responses.send(&Response::InitialStatus(status));
                }
                return Some(guard);
            }
            Err(error) => responses.send_error(&error),
        }
    }
    None
}

fn handle_request<W: Write>(
    guard: &mut Guard,
    request: Request,
    responses: &mut ResponseWriter<W>,
) {
    match request {
        Request::Connect { .. } => {
            responses.send_error(&Error::guard("the guard is already connected"));
        }
        Request::Prepare => match guard.prepare() {
            Ok(prepared) => responses.send(&Response::Prepared(prepared)),
            Err(error) => responses.send_error(&error),
        },
        Request::Start { uri } => match guard.start(&uri) {
            Ok(()) => responses.send(&Response::Started),
            Err(error) => responses.send_error(&error),
        },
        Request::MigrationStarted => guard.migration_started(),
        Request::DeviceStateCommitted { running } => guard.device_state_committed(running),
        Request::DeviceStateRejected => guard.device_state_rejected(),
        Request::DeviceStateDelivered => guard.device_state_delivered(),
        Request::RelayEnded => guard.relay_ended(),
    }
}

/// Reads requests until their end or an invalid line. An invalid line does not come from a relay,
/// and counts as the relay's end.
fn spawn_reader(requests: impl Read + Send + 'static) -> Receiver<Request> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut requests = BufReader::new(requests);
        let mut line = Vec::new();
        loop {
            line.clear();
            let result = (&mut requests)
                .take(MAX_REQUEST_LEN)
                .read_until(b'\n', &mut line);
            // A last line without newline was truncated, and is not executed.
            if !matches!(result, Ok(1..)) || line.last() != Some(&b'\n') {
                break;
            }
            let Ok(request) = serde_json::from_slice(&line) else {
                break;
            };
            if sender.send(request).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Writer of responses, which remembers if the relay no longer reads them.
#[derive(Debug)]
struct ResponseWriter<W> {
    output: W,
    is_connected: bool,
}

impl<W: Write> ResponseWriter<W> {
    fn send(&mut self, response: &Response) {
        let Ok(mut line) = serde_json::to_vec(response) else {
            return;
        };
        line.push(b'\n');
        let result = self
            .output
            .write_all(&line)
            .and_then(|()| self.output.flush());
        self.is_connected &= result.is_ok();
    }

    fn send_error(&mut self, error: &Error) {
        self.send(&Response::Failed {
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use super::*;
    use crate::guard::fake::FakeMonitors;
    use crate::guard::protocol::Prepared;
    use crate::guard::vm_location_report::VmPlace;

    /// Relay that talks to a guard in a thread.
    struct RelayStub {
        socket: UnixStream,
        responses: BufReader<UnixStream>,
        guard: JoinHandle<GuardExit>,
    }

    impl RelayStub {
        fn new() -> Self {
            let (relay_end, guard_end) = UnixStream::pair().unwrap();
            let requests = guard_end.try_clone().unwrap();
            Self {
                responses: BufReader::new(relay_end.try_clone().unwrap()),
                socket: relay_end,
                guard: thread::spawn(move || run(requests, guard_end)),
            }
        }

        /// Starts a guard and connects it to both monitors.
        fn connected_to(monitors: &FakeMonitors) -> Self {
            let mut relay = Self::new();
            relay.send(&Request::Connect {
                source: Some(monitors.path(true)),
                destination: Some(monitors.path(false)),
            });
            relay
        }

        fn send(&mut self, request: &Request) {
            let line = serde_json::to_string(request).unwrap();
            writeln!(self.socket, "{line}").unwrap();
        }

        /// Returns the next response that is not `command-sent`.
        fn receive(&mut self) -> Response {
            loop {
                let mut line = String::new();
                self.responses.read_line(&mut line).unwrap();
                match serde_json::from_str(&line).unwrap() {
                    Response::CommandSent { .. } => {}
                    response => return response,
                }
            }
        }

        fn start(&mut self) {
            assert!(matches!(self.receive(), Response::InitialStatus { .. }));
            self.send(&Request::Prepare);
            let prepared = self.receive();
            assert!(
                matches!(
                    prepared,
                    Response::Prepared(Prepared {
                        autostart_blocked: true,
                        return_path_switched_on: true,
                        ..
                    })
                ),
                "{prepared:?}"
            );
            let uri = "unix:/unused".to_owned();
            self.send(&Request::Start { uri });
            assert_eq!(self.receive(), Response::Started);
        }

        /// Asserts the location that the guard reports, and returns the report.
        fn assert_location(mut self, place: &VmPlace, running: bool) -> VmLocationReport {
            let Response::VmLocation { report } = self.receive() else {
                panic!("expected the location of the VM");
            };
            let exit = self.guard.join().unwrap();
            assert_eq!(exit.vm_location.as_ref(), Some(&report));
            assert_eq!(report.place, *place);
            assert_eq!(report.running, Some(running));
            report
        }
    }

    #[test]
    fn successful_migration() {
        let monitors = FakeMonitors::new();
        let mut relay = RelayStub::connected_to(&monitors);
        relay.start();
        relay.assert_location(&VmPlace::DESTINATION, true);
        let pair = monitors.pair();
        assert_eq!(
            pair.commands,
            ["destination stop", "source migrate", "destination cont"]
        );
        assert_eq!(pair.source.capabilities, ["return-path"]);
    }

    #[test]
    fn paused_vm_stays_paused() {
        let monitors = FakeMonitors::new();
        monitors.pair().source.run = "paused";
        let mut relay = RelayStub::connected_to(&monitors);
        relay.start();
        relay.assert_location(&VmPlace::DESTINATION, false);
        assert_eq!(
            monitors.pair().commands,
            ["destination stop", "source migrate"]
        );
    }

    #[test]
    fn failed_migration_ends_the_destination() {
        let monitors = FakeMonitors::new();
        monitors.pair().states_after_migrate[0] = ("running", "failed");
        let mut relay = RelayStub::connected_to(&monitors);
        relay.start();
        relay.assert_location(&VmPlace::SOURCE, true);
        assert_eq!(
            monitors.pair().commands,
            ["destination stop", "source migrate", "destination quit"]
        );
    }

    #[test]
    fn locked_disk_is_retried() {
        let monitors = FakeMonitors::new();
        monitors
            .pair()
            .destination
            .refusals
            .push_back("Failed to get \"write\" lock");
        let mut relay = RelayStub::connected_to(&monitors);
        relay.start();
        let report = relay.assert_location(&VmPlace::DESTINATION, true);
        let actions = report.actions.join("; ");
        assert!(
            actions.contains("cont, refused: Failed to get"),
            "{actions}"
        );
    }

    #[test]
    fn rejection_resumes_the_source() {
        let monitors = FakeMonitors::new();
        monitors.pair().states_after_migrate =
            [("postmigrate", "completed"), ("inmigrate", "active")];
        let mut relay = RelayStub::connected_to(&monitors);
        assert!(matches!(relay.receive(), Response::InitialStatus { .. }));
        relay.send(&Request::Start { uri: String::new() });
        assert_eq!(relay.receive(), Response::Started);
        relay.send(&Request::DeviceStateRejected);
        relay.assert_location(&VmPlace::SOURCE, true);
        assert_eq!(
            monitors.pair().commands,
            ["source migrate", "destination quit", "source cont"]
        );
    }

    #[test]
    fn guard_outlives_the_relay() {
        let monitors = FakeMonitors::new();
        let mut relay = RelayStub::connected_to(&monitors);
        relay.start();
        // Without this request, the destination cannot have the VM and the source would be resumed.
        relay.send(&Request::DeviceStateCommitted { running: None });
        drop((relay.socket, relay.responses));
        let exit = relay.guard.join().unwrap();
        let report = exit.vm_location.unwrap();
        assert_eq!(
            (report.place, report.running),
            (VmPlace::DESTINATION, Some(true))
        );
        assert!(!exit.relay_notified);
    }

    #[test]
    fn unfinished_migration_is_finished() {
        let monitors = FakeMonitors::new();
        {
            let mut pair = monitors.pair();
            (pair.source.run, pair.source.migration) = ("postmigrate", "completed");
            (pair.destination.run, pair.destination.migration) = ("paused", "completed");
        }
        RelayStub::connected_to(&monitors).assert_location(&VmPlace::DESTINATION, true);
        assert_eq!(monitors.pair().commands, ["destination cont"]);
    }

    #[test]
    fn unsupported_feature_is_refused_before_any_change() {
        let monitors = FakeMonitors::new();
        monitors.pair().source.parameters = serde_json::json!({"tls-creds": "tls0"});
        let mut relay = RelayStub::connected_to(&monitors);
        assert!(matches!(relay.receive(), Response::InitialStatus { .. }));
        relay.send(&Request::Prepare);
        let Response::Failed { message, hint } = relay.receive() else {
            panic!("expected a refusal");
        };
        assert!(message.contains("encrypts"), "{message}");
        assert!(hint.is_some());
        assert!(monitors.pair().commands.is_empty());
        // No migration has begun: the guard reports that and exits.
        relay.send(&Request::RelayEnded);
        relay.assert_location(&VmPlace::SOURCE, true);
    }

    #[test]
    fn invalid_line_ends_the_guard() {
        let mut relay = RelayStub::new();
        relay.send(&Request::Prepare);
        assert!(matches!(relay.receive(), Response::Failed { .. }));
        writeln!(relay.socket, "GET / HTTP/1.1").unwrap();
        assert_eq!(relay.guard.join().unwrap().vm_location, None);
    }
}
