//! [`serve()`]: the guard's process: takes orders, watches both QEMUs, says what it did, and ends when it is settled where the VM is.
//!
//! Leaving the relay's session and not ending by signals is for the caller, before; this needs only the two streams. If the relay is
//! gone the last word has nobody to go to, so it is given back as well.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;

use super::engine::Guard;
use super::protocol::{Request, Response};
use super::vm_location_report::VmLocationReport;
use crate::error::Error;

/// The longest order, in bytes: two paths.
const MAX_REQUEST_LEN: u64 = 64 << 10;

/// How the guard's work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardExit {
    /// Where the VM is; nothing if the relay went away before any monitor was connected.
    pub vm_location: Option<VmLocationReport>,
    /// Whether the relay was there to hear it.
    pub relay_notified: bool,
}

/// Leaves the session of the relay, so that neither its terminal nor a signal to its process group reaches the guard. To be called first
/// of all: before the relay gets an answer.
///
/// # Errors
/// If this process already leads a process group (setsid(2)): it was not started by a [`super::GuardClient`].
pub fn leave_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Serves one relay and one VM.
pub fn run(orders: impl Read + Send + 'static, answers: impl Write) -> GuardExit {
    let orders = spawn_reader(orders);
    let mut answers = ResponseWriter {
        output: answers,
        is_connected: true,
    };
    let Some(mut guard) = connect_monitors(&orders, &mut answers) else {
        return GuardExit {
            vm_location: None,
            relay_notified: answers.is_connected,
        };
    };
    let mut is_there = true;
    loop {
        // All that was said before it went away counts.
        while is_there {
            match orders.try_recv() {
                Ok(order) => handle_request(&mut guard, order, &mut answers),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => is_there = false,
            }
        }
        if !is_there {
            guard.relay_ended();
        }
        let concluded = guard.step();
        for what in guard.take_actions() {
            answers.send(&Response::CommandSent { command: what });
        }
        if let Some(whereabouts) = concluded {
            answers.send(&Response::VmLocation {
                report: whereabouts.clone(),
            });
            return GuardExit {
                vm_location: Some(whereabouts),
                relay_notified: answers.is_connected && is_there,
            };
        }
        if is_there {
            match orders.recv_timeout(guard.poll_interval()) {
                Ok(order) => handle_request(&mut guard, order, &mut answers),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_there = false,
            }
        } else {
            thread::sleep(guard.poll_interval());
        }
    }
}

/// Takes orders until both monitors are connected and both VMs are as they should be.
fn connect_monitors<W: Write>(
    orders: &Receiver<Request>,
    answers: &mut ResponseWriter<W>,
) -> Option<Guard> {
    while let Ok(order) = orders.recv() {
        let Request::Connect {
            source,
            destination: dest,
        } = order
        else {
            if matches!(order, Request::RelayEnded) {
                return None;
            }
            answers.send_error(&Error::guard("`connect` comes first"));
            continue;
        };
        let connected = Guard::connect(source.as_deref(), dest.as_deref())
            .and_then(|mut guard| guard.query_initial_status().map(|survey| (guard, survey)));
        match connected {
            Ok((guard, survey)) => {
                if !survey.is_unfinished {
                    answers.send(&Response::InitialStatus {
                        source: survey.source,
                        destination: survey.destination,
                        notes: survey.notes,
                    });
                }
                // If it is, `concluded` is the answer.
                return Some(guard);
            }
            Err(error) => answers.send_error(&error),
        }
    }
    None
}

fn handle_request<W: Write>(guard: &mut Guard, order: Request, answers: &mut ResponseWriter<W>) {
    match order {
        Request::Connect { .. } => answers.send_error(&Error::guard("it is connected already")),
        Request::Prepare => match guard.prepare() {
            Ok(ready) => answers.send(&Response::Prepared {
                return_path_switched_on: ready.return_path_switched_on,
                autostart_blocked: ready.autostart_blocked,
                notes: ready.notes,
            }),
            Err(error) => answers.send_error(&error),
        },
        Request::Start { uri } => match guard.start(&uri) {
            Ok(()) => answers.send(&Response::Started),
            Err(error) => answers.send_error(&error),
        },
        Request::MigrationStarted => guard.migration_started(),
        Request::DeviceStateCommitted { running } => guard.device_state_committed(running),
        Request::DeviceStateRejected => guard.device_state_rejected(),
        Request::DeviceStateDelivered => guard.device_state_delivered(),
        Request::RelayEnded => guard.relay_ended(),
    }
}

/// Reads orders until their end, or until something comes that is none: who writes that is no relay, and counts as gone.
fn spawn_reader(orders: impl Read + Send + 'static) -> Receiver<Request> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut orders = BufReader::new(orders);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut orders)
                .take(MAX_REQUEST_LEN)
                .read_until(b'\n', &mut line);
            // A last line without an end was cut short, and is not obeyed.
            if !matches!(read, Ok(1..)) || line.last() != Some(&b'\n') {
                break;
            }
            let Ok(order) = serde_json::from_slice(&line) else {
                break;
            };
            if sender.send(order).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Where the answers go, as long as somebody reads them.
#[derive(Debug)]
struct ResponseWriter<W> {
    output: W,
    is_connected: bool,
}

impl<W: Write> ResponseWriter<W> {
    fn send(&mut self, told: &Response) {
        let Ok(mut line) = serde_json::to_vec(told) else {
            return;
        };
        line.push(b'\n');
        let written = self
            .output
            .write_all(&line)
            .and_then(|()| self.output.flush());
        self.is_connected &= written.is_ok();
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
    use crate::guard::vm_location_report::VmPlace;

    /// A relay that talks to a guard in a thread.
    struct RelayStub {
        socket: UnixStream,
        responses: BufReader<UnixStream>,
        guard: JoinHandle<GuardExit>,
    }

    impl RelayStub {
        fn new() -> Self {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let orders = theirs.try_clone().unwrap();
            Self {
                responses: BufReader::new(ours.try_clone().unwrap()),
                socket: ours,
                guard: thread::spawn(move || run(orders, theirs)),
            }
        }

        /// Connected to both.
        fn connected_to(monitors: &FakeMonitors) -> Self {
            let mut talk = Self::new();
            talk.send(&Request::Connect {
                source: Some(monitors.path(true)),
                destination: Some(monitors.path(false)),
            });
            talk
        }

        fn send(&mut self, order: &Request) {
            let line = serde_json::to_string(order).unwrap();
            writeln!(self.socket, "{line}").unwrap();
        }

        /// The next that is no `did`.
        fn receive(&mut self) -> Response {
            loop {
                let mut line = String::new();
                self.responses.read_line(&mut line).unwrap();
                match serde_json::from_str(&line).unwrap() {
                    Response::CommandSent { .. } => {}
                    told => return told,
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
                    Response::Prepared {
                        autostart_blocked: true,
                        return_path_switched_on: true,
                        ..
                    }
                ),
                "{prepared:?}"
            );
            let uri = "unix:/nowhere".to_owned();
            self.send(&Request::Start { uri });
            assert_eq!(self.receive(), Response::Started);
        }

        fn vm_location(mut self) -> VmLocationReport {
            let Response::VmLocation {
                report: whereabouts,
            } = self.receive()
            else {
                panic!("it should be over");
            };
            let served = self.guard.join().unwrap();
            assert_eq!(served.vm_location.as_ref(), Some(&whereabouts));
            whereabouts
        }
    }

    #[test]
    fn a_migration_that_succeeds() {
        let monitors = FakeMonitors::new();
        let mut talk = RelayStub::connected_to(&monitors);
        talk.start();
        let at = talk.vm_location();
        assert_eq!((at.place, at.running), (VmPlace::DESTINATION, Some(true)));
        let world = monitors.world();
        assert_eq!(
            world.commands,
            ["destination stop", "source migrate", "destination cont"]
        );
        assert_eq!(world.source.capabilities, ["return-path"]);
    }

    #[test]
    fn a_paused_vm_stays_paused() {
        let monitors = FakeMonitors::new();
        monitors.world().source.run = "paused";
        let mut talk = RelayStub::connected_to(&monitors);
        talk.start();
        let at = talk.vm_location();
        assert_eq!((at.place, at.running), (VmPlace::DESTINATION, Some(false)));
        assert_eq!(
            monitors.world().commands,
            ["destination stop", "source migrate"]
        );
    }

    #[test]
    fn a_source_that_failed_ends_the_destination() {
        let monitors = FakeMonitors::new();
        monitors.world().states_after_migrate[0] = ("running", "failed");
        let mut talk = RelayStub::connected_to(&monitors);
        talk.start();
        let at = talk.vm_location();
        assert_eq!((at.place, at.running), (VmPlace::SOURCE, Some(true)));
        assert_eq!(
            monitors.world().commands,
            ["destination stop", "source migrate", "destination quit"]
        );
    }

    #[test]
    fn a_disk_that_is_still_locked_is_waited_for() {
        let monitors = FakeMonitors::new();
        monitors
            .world()
            .destination
            .refusals
            .push_back("Failed to get \"write\" lock");
        let mut talk = RelayStub::connected_to(&monitors);
        talk.start();
        let at = talk.vm_location();
        assert_eq!((at.place, at.running), (VmPlace::DESTINATION, Some(true)));
        let done = at.actions.join("; ");
        assert!(done.contains("cont, refused: Failed to get"), "{done}");
    }

    #[test]
    fn a_refusal_brings_the_source_back() {
        let monitors = FakeMonitors::new();
        monitors.world().states_after_migrate =
            [("postmigrate", "completed"), ("inmigrate", "active")];
        let mut talk = RelayStub::connected_to(&monitors);
        assert!(matches!(talk.receive(), Response::InitialStatus { .. }));
        talk.send(&Request::Start { uri: String::new() });
        assert_eq!(talk.receive(), Response::Started);
        talk.send(&Request::DeviceStateRejected);
        let at = talk.vm_location();
        assert_eq!((at.place, at.running), (VmPlace::SOURCE, Some(true)));
        assert_eq!(
            monitors.world().commands,
            ["source migrate", "destination quit", "source cont"]
        );
    }

    #[test]
    fn a_relay_that_is_gone_is_not_needed() {
        let monitors = FakeMonitors::new();
        let mut talk = RelayStub::connected_to(&monitors);
        talk.start();
        // Before that the destination cannot have the VM, and the source would get it back.
        talk.send(&Request::DeviceStateCommitted { running: None });
        drop((talk.socket, talk.responses));
        let served = talk.guard.join().unwrap();
        let at = served.vm_location.unwrap();
        assert_eq!((at.place, at.running), (VmPlace::DESTINATION, Some(true)));
        assert!(!served.relay_notified);
    }

    #[test]
    fn what_an_earlier_guard_left() {
        let monitors = FakeMonitors::new();
        {
            let mut world = monitors.world();
            (world.source.run, world.source.migration) = ("postmigrate", "completed");
            (world.destination.run, world.destination.migration) = ("paused", "completed");
        }
        let at = RelayStub::connected_to(&monitors).vm_location();
        assert_eq!((at.place, at.running), (VmPlace::DESTINATION, Some(true)));
        assert_eq!(monitors.world().commands, ["destination cont"]);
    }

    #[test]
    fn what_cannot_pass_is_refused_before_anything_is_changed() {
        let monitors = FakeMonitors::new();
        monitors.world().source.parameters = serde_json::json!({"tls-creds": "tls0"});
        let mut talk = RelayStub::connected_to(&monitors);
        assert!(matches!(talk.receive(), Response::InitialStatus { .. }));
        talk.send(&Request::Prepare);
        let Response::Failed { message, hint } = talk.receive() else {
            panic!("it should be refused");
        };
        assert!(message.contains("encrypts"), "{message}");
        assert!(hint.is_some());
        assert!(monitors.world().commands.is_empty());
        // Nothing has begun: the guard says so, and goes.
        talk.send(&Request::RelayEnded);
        let at = talk.vm_location();
        assert_eq!((at.place, at.running), (VmPlace::SOURCE, Some(true)));
    }

    #[test]
    fn a_line_that_is_no_order_ends_it() {
        let mut talk = RelayStub::new();
        talk.send(&Request::Prepare);
        assert!(matches!(talk.receive(), Response::Failed { .. }));
        writeln!(talk.socket, "GET / HTTP/1.1").unwrap();
        assert_eq!(talk.guard.join().unwrap().vm_location, None);
    }
}
