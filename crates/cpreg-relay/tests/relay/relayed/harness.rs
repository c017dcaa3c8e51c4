//! Test environment: a relay, and a thread for the QEMU on each side.
//!
//! No wait is endless: a test that takes longer than [`TEST_TIMEOUT`] aborts the process.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cpreg_relay::Error;
use cpreg_relay::{
    Address, CancelToken, Decision, Event, MigrationOutcome, MigrationPolicy, MigrationResult,
    Observer, Relay, VmLocation,
};
use cpreg_stream::incremental::{DeviceStateBuffer, IncrementalParser, StreamSetup};
use cpreg_stream::{Edit, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use tempfile::TempDir;

use crate::common::{bytes, index, shortening_edits};

/// Timeout far beyond the duration of any test, even on a busy machine.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// SHUT 1: the destination failed to load the VM.
pub(crate) const SHUT_ERROR: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 1];

/// Transport of the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Net {
    Unix,
    Tcp,
}

pub(crate) const NETS: [Net; 2] = [Net::Unix, Net::Tcp];

/// QEMU's end of a connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    fn connect(address: &Address) -> Self {
        match address {
            Address::Unix(path) => Self::Unix(UnixStream::connect(path).unwrap()),
            Address::Tcp { host, port } => {
                Self::Tcp(TcpStream::connect((host.as_str(), *port)).unwrap())
            }
            other => panic!("{other}"),
        }
        .with_timeouts()
    }

    fn with_timeouts(self) -> Self {
        match &self {
            Self::Unix(socket) => {
                socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                socket.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
            }
            Self::Tcp(socket) => {
                socket.set_nodelay(true).unwrap();
                socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
                socket.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
            }
        }
        self
    }

    pub(crate) fn try_clone(&self) -> Self {
        match self {
            Self::Unix(socket) => Self::Unix(socket.try_clone().unwrap()),
            Self::Tcp(socket) => Self::Tcp(socket.try_clone().unwrap()),
        }
    }

    /// Closes the sending direction; the other one can still be read.
    pub(crate) fn half_close(&self) {
        // The peer may have closed already.
        let _ = match self {
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
        };
    }

    /// Closes like a process that dies with unread bytes, or like a host that dies: data on the way
    /// is lost. A Unix socket with unread data reports the loss to the peer by itself.
    pub(crate) fn reset(self) {
        if let Self::Tcp(socket) = &self {
            sockopt::set_socket_linger(socket, Some(Duration::ZERO)).unwrap();
        }
    }

    /// Reads to the end of the connection, however it ends; panics on a timeout.
    pub(crate) fn read_to_close(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        match self.read_to_end(&mut received) {
            Err(error) if is_timeout(&error) => panic!("{} bytes, and no end", received.len()),
            _ => received,
        }
    }

    /// Reads the return path to its end. Like QEMU, it closes after an error SHUT.
    pub(crate) fn read_return_path(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return received,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if is_timeout(&error) => panic!("{} bytes, and no end", received.len()),
                Err(_) => return received,
            }
            if received.ends_with(&SHUT_ERROR) {
                self.half_close();
            }
        }
    }

    /// Reads `count` bytes, or fewer if the connection ends earlier.
    pub(crate) fn read_some(&mut self, count: usize) -> Vec<u8> {
        let mut received = Vec::new();
        match self.take(count as u64).read_to_end(&mut received) {
            Err(error) if is_timeout(&error) => {
                panic!("{} of {count} bytes, and no end", received.len())
            }
            _ => received,
        }
    }

    /// Writes all bytes. Returns `false` if the peer closed earlier.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        match self.write_all(bytes) {
            Err(error) if is_timeout(&error) => panic!("the peer neither reads nor closes"),
            result => result.is_ok(),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(buffer),
            Self::Tcp(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listener of the destination's QEMU.
enum Server {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Relay with a destination.
pub(crate) struct RelayHarness {
    relay: Relay,
    server: Server,
    pub(crate) events: EventLog,
    /// Token that acts as Ctrl-C.
    pub(crate) user: CancelToken,
    _directory: TempDir,
}

/// Result of a migration.
pub(crate) type ServeResult = Result<Option<MigrationResult>, Error>;

impl RelayHarness {
    pub(crate) fn new(net: Net) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (listen, connect, server) = match net {
            Net::Unix => {
                let path = directory.path().join("destination");
                let server = UnixListener::bind(&path).unwrap();
                let listen = Address::Unix(directory.path().join("relay"));
                (listen, Address::Unix(path), Server::Unix(server))
            }
            Net::Tcp => {
                let server = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = server.local_addr().unwrap().port();
                let host = "127.0.0.1".to_owned();
                let listen = "tcp::0".parse().unwrap();
                (listen, Address::Tcp { host, port }, Server::Tcp(server))
            }
        };
        Self {
            relay: Relay::bind(&listen, connect).unwrap(),
            server,
            events: EventLog::default(),
            user: CancelToken::new().unwrap(),
            _directory: directory,
        }
    }

    /// Creates a relay whose destination does not exist.
    pub(crate) fn without_destination(directory: &Path) -> Self {
        let mut harness = Self::new(Net::Unix);
        let listen = Address::Unix(directory.join("relay"));
        let missing = Address::Unix(directory.join("missing"));
        harness.relay = Relay::bind(&listen, missing).unwrap();
        harness
    }

    /// Connects like the source's QEMU.
    pub(crate) fn source(&self) -> Socket {
        Socket::connect(self.relay.address())
    }

    /// Accepts the next connection, like the destination's QEMU.
    pub(crate) fn destination(&self) -> Socket {
        self.destination_within(TEST_TIMEOUT)
            .expect("the relay does not connect")
    }

    /// Accepts the next connection, if there is one within the time.
    pub(crate) fn destination_within(&self, timeout: Duration) -> Option<Socket> {
        let timeout = Timespec::try_from(timeout).unwrap();
        let mut files = match &self.server {
            Server::Unix(server) => [PollFd::new(server, PollFlags::IN)],
            Server::Tcp(server) => [PollFd::new(server, PollFlags::IN)],
        };
        if poll(&mut files, Some(&timeout)).unwrap() == 0 {
            return None;
        }
        let socket = match &self.server {
            Server::Unix(server) => Socket::Unix(server.accept().unwrap().0),
            Server::Tcp(server) => Socket::Tcp(server.accept().unwrap().0),
        };
        Some(socket.with_timeouts())
    }

    pub(crate) fn migrate(&self, action: PolicyAction) -> ServeResult {
        let mut policy = TestPolicy(action);
        self.relay
            .serve_migration(&mut policy, &self.events, &self.user)
    }

    /// Relays one migration between a source and a destination; returns the results of all three.
    pub(crate) fn run<S: Send, D: Send>(
        &self,
        action: PolicyAction,
        source: impl FnOnce(&Self) -> S + Send,
        destination: impl FnOnce(&Self) -> D + Send,
    ) -> (ServeResult, S, D) {
        let _watchdog = Watchdog::new();
        thread::scope(|scope| {
            let source = scope.spawn(|| source(self));
            let destination = scope.spawn(|| destination(self));
            let result = self.migrate(action);
            let source = source.join().expect("the source panicked");
            let destination = destination.join().expect("the destination panicked");
            (result, source, destination)
        })
    }
}

/// Watchdog that aborts the process if it is not dropped in time, because a blocked call cannot be
/// ended otherwise.
pub(crate) struct Watchdog(mpsc::Sender<()>);

impl Watchdog {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel::<()>();
        let test = thread::current().name().map(str::to_owned);
        thread::spawn(move || {
            if receiver.recv_timeout(2 * TEST_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "{test:?}: timed out");
                std::process::abort();
            }
        });
        Self(sender)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Decision of the test's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyAction {
    /// Forwards the stream unchanged.
    Keep,
    /// Forwards the stream without every third register.
    Shorten,
    /// Rejects the stream after the device state.
    Refuse,
    /// Rejects the stream before RAM.
    RefuseEarly,
}

pub(crate) struct TestPolicy(pub(crate) PolicyAction);

impl MigrationPolicy for TestPolicy {
    fn on_setup(&mut self, _: &StreamSetup) -> bool {
        self.0 != PolicyAction::RefuseEarly
    }

    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, stream: Stream) -> Decision {
        match self.0 {
            PolicyAction::Keep => {
                Decision::Forward(Edit::identity(device_state.start() + device_state.length()))
            }
            PolicyAction::Shorten => stream
                .edit(device_state, &shortening_edits(&stream))
                .map_or(Decision::Reject, Decision::Forward),
            PolicyAction::Refuse | PolicyAction::RefuseEarly => Decision::Reject,
        }
    }
}

/// Returns the stream as `convert` writes it for this action.
pub(crate) fn convert_stream(whole: &[u8], action: PolicyAction) -> Vec<u8> {
    match action {
        PolicyAction::Shorten => {
            let file = Stream::open(&whole).unwrap();
            bytes(
                &file
                    .edit(&whole, &shortening_edits(&file))
                    .unwrap()
                    .apply_to(&whole),
            )
        }
        _ => whole.to_vec(),
    }
}

/// Log of events, one line each.
#[derive(Default)]
pub(crate) struct EventLog {
    lines: Mutex<Vec<String>>,
    changed_condvar: Condvar,
}

impl EventLog {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.lines
            .lock()
            .unwrap()
            .iter()
            .any(|logged| logged == line)
    }

    /// Waits for `count` lines with this prefix.
    pub(crate) fn wait_for(&self, prefix: &str, count: usize) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut lines = self.lines.lock().unwrap();
        while lines.iter().filter(|line| line.starts_with(prefix)).count() < count {
            let remaining = deadline.saturating_duration_since(Instant::now());
            assert!(!remaining.is_zero(), "no {prefix}: {lines:?}");
            lines = self
                .changed_condvar
                .wait_timeout(lines, remaining)
                .unwrap()
                .0;
        }
    }
}

impl Observer for EventLog {
    fn on_event(&self, event: &Event<'_>) {
        let name = event.name();
        let line = match event {
            Event::Connected { channel, number } => format!("{name} {number} {}", channel.name()),
            Event::ConnectionRejected { channel, reason } => {
                format!("{name} {}: {reason}", channel.name())
            }
            Event::Phase { phase, .. } => format!("{name} {phase}"),
            Event::DeviceStateReceived { is_package, .. } => {
                format!(
                    "{name} {}",
                    if *is_package { "postcopy" } else { "precopy" }
                )
            }
            Event::ReturnPathShut(value) => format!("{name} {value}"),
            Event::Refused(vm_location) => format!("{name} {}", vm_location.name()),
            // The number of these events depends on timing.
            Event::Progress { .. } => return,
            _ => name.to_owned(),
        };
        self.lines.lock().unwrap().push(line);
        self.changed_condvar.notify_all();
    }
}

/// Returns the result of a migration that began.
pub(crate) fn unwrap_result(result: ServeResult) -> MigrationResult {
    result.unwrap().expect("the migration began")
}

/// Returns the error of a failed migration.
pub(crate) fn unwrap_error(result: &MigrationResult) -> &Error {
    match &result.outcome {
        MigrationOutcome::Failed(error) => error,
        other => panic!("not failed: {other:?}"),
    }
}

/// Asserts that the VM was sent, and that no SHUT confirmed it.
pub(crate) fn assert_completed(result: &MigrationResult) {
    assert!(
        matches!(result.outcome, MigrationOutcome::Completed),
        "{result:?}"
    );
    assert_eq!(result.vm_location, VmLocation::DestinationUnconfirmed);
}

/// Asserts that the received bytes do not open as a complete stream.
pub(crate) fn assert_no_stream(received: &[u8], reason: &str) {
    if let Ok(stream) = Stream::open_by_full_scan(&received) {
        panic!("{} bytes were received and open: {reason}", stream.length());
    }
}

/// Returns the range of the device state that the relay buffers. A destination that has not
/// received its end has no VM.
pub(crate) fn device_state_range(whole: &[u8]) -> std::ops::Range<usize> {
    let mut parser = IncrementalParser::bidirectional();
    parser.feed(whole, true).unwrap();
    let start = parser.take_device_state().unwrap().start();
    let stream = Stream::open(&whole).unwrap();
    let end = match stream.package() {
        Some(package) => package.range.end,
        None => stream.end(),
    };
    index(start)..index(end)
}
