//! A relay, and the QEMUs on both sides of it, which are played by threads.
//!
//! Nothing here waits without an end: a play that takes longer than [`TEST_TIMEOUT`] ends the whole test.

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

/// Far longer than anything here takes, even on a machine that is busy.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// SHUT 1: loading the VM has failed.
pub(crate) const SHUT_ERROR: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 1];

/// What connections go over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Net {
    Unix,
    Tcp,
}

pub(crate) const NETS: [Net; 2] = [Net::Unix, Net::Tcp];

/// A QEMU's end of a connection.
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

    /// Nothing more comes from this side; what the other says is still read.
    pub(crate) fn half_close(&self) {
        // The other side may have gone.
        let _ = match self {
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
        };
    }

    /// As when the process dies with bytes unread, or its host: what is on the way is lost. A Unix socket has no such end
    /// of its own: it tells the other side if there was something unread.
    pub(crate) fn reset(self) {
        if let Self::Tcp(socket) = &self {
            sockopt::set_socket_linger(socket, Some(Duration::ZERO)).unwrap();
        }
    }

    /// Everything up to the end of the connection, however it ends; panics if it does not.
    pub(crate) fn read_to_close(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        match self.read_to_end(&mut all) {
            Err(error) if is_late(&error) => panic!("{} bytes, and no end", all.len()),
            _ => all,
        }
    }

    /// What a source hears up to the end; as QEMU does it closes when it hears that the destination has failed.
    pub(crate) fn read_return_path(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return heard,
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if is_late(&error) => panic!("{} bytes, and no end", heard.len()),
                Err(_) => return heard,
            }
            if heard.ends_with(&SHUT_ERROR) {
                self.half_close();
            }
        }
    }

    /// So many bytes, or fewer if the connection ends before.
    pub(crate) fn read_some(&mut self, count: usize) -> Vec<u8> {
        let mut some = Vec::new();
        match self.take(count as u64).read_to_end(&mut some) {
            Err(error) if is_late(&error) => panic!("{} of {count} bytes, and no end", some.len()),
            _ => some,
        }
    }

    /// Writes until all has gone or the other side takes no more.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        match self.write_all(bytes) {
            Err(error) if is_late(&error) => panic!("nobody takes it, and nobody says so"),
            result => result.is_ok(),
        }
    }
}

fn is_late(error: &io::Error) -> bool {
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

/// Where the destination's QEMU waits.
enum Server {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A relay, and where it leads.
pub(crate) struct RelayHarness {
    relay: Relay,
    server: Server,
    pub(crate) events: EventLog,
    /// Ctrl-C.
    pub(crate) user: CancelToken,
    _folder: TempDir,
}

/// What was made of a migration.
pub(crate) type ServeResult = Result<Option<MigrationResult>, Error>;

impl RelayHarness {
    pub(crate) fn new(net: Net) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listen, connect, server) = match net {
            Net::Unix => {
                let path = folder.path().join("destination");
                let server = UnixListener::bind(&path).unwrap();
                let listen = Address::Unix(folder.path().join("relay"));
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
            _folder: folder,
        }
    }

    /// One that leads to a socket that nobody made.
    pub(crate) fn without_destination(folder: &Path) -> Self {
        let mut stage = Self::new(Net::Unix);
        let listen = Address::Unix(folder.join("relay"));
        let nowhere = Address::Unix(folder.join("nowhere"));
        stage.relay = Relay::bind(&listen, nowhere).unwrap();
        stage
    }

    /// A connection of the source's QEMU.
    pub(crate) fn source(&self) -> Socket {
        Socket::connect(self.relay.address())
    }

    /// The next connection that comes to the destination's QEMU.
    pub(crate) fn destination(&self) -> Socket {
        self.destination_within(TEST_TIMEOUT)
            .expect("nobody connects")
    }

    /// The next connection, if one comes in that time.
    pub(crate) fn destination_within(&self, time: Duration) -> Option<Socket> {
        let time = Timespec::try_from(time).unwrap();
        let mut waits = match &self.server {
            Server::Unix(server) => [PollFd::new(server, PollFlags::IN)],
            Server::Tcp(server) => [PollFd::new(server, PollFlags::IN)],
        };
        if poll(&mut waits, Some(&time)).unwrap() == 0 {
            return None;
        }
        let socket = match &self.server {
            Server::Unix(server) => Socket::Unix(server.accept().unwrap().0),
            Server::Tcp(server) => Socket::Tcp(server.accept().unwrap().0),
        };
        Some(socket.with_timeouts())
    }

    pub(crate) fn migrate(&self, act: PolicyAction) -> ServeResult {
        let mut judge = TestPolicy(act);
        self.relay
            .serve_migration(&mut judge, &self.events, &self.user)
    }

    /// Relays one migration between two that play their parts; gives what came of it and of them.
    pub(crate) fn run<S: Send, D: Send>(
        &self,
        act: PolicyAction,
        source: impl FnOnce(&Self) -> S + Send,
        destination: impl FnOnce(&Self) -> D + Send,
    ) -> (ServeResult, S, D) {
        let _watch = Watch::new();
        thread::scope(|scope| {
            let source = scope.spawn(|| source(self));
            let destination = scope.spawn(|| destination(self));
            let migrated = self.migrate(act);
            let source = source.join().expect("the source plays");
            let destination = destination.join().expect("the destination plays");
            (migrated, source, destination)
        })
    }
}

/// Ends everything if it is not dropped in time: there is no other way out of a call that does not come back.
pub(crate) struct Watch(mpsc::Sender<()>);

impl Watch {
    pub(crate) fn new() -> Self {
        let (alive, over) = mpsc::channel::<()>();
        let test = thread::current().name().map(str::to_owned);
        thread::spawn(move || {
            if over.recv_timeout(2 * TEST_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "{test:?}: it hangs");
                std::process::abort();
            }
        });
        Self(alive)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyAction {
    /// It goes on as it is.
    Keep,
    /// It goes on without every third register.
    Shorten,
    /// Not after the device state has come.
    Refuse,
    /// Not before RAM.
    RefuseEarly,
}

struct TestPolicy(PolicyAction);

impl MigrationPolicy for TestPolicy {
    fn on_setup(&mut self, _: &StreamSetup) -> bool {
        self.0 != PolicyAction::RefuseEarly
    }

    fn on_device_state(&mut self, held: &DeviceStateBuffer, stream: Stream) -> Decision {
        match self.0 {
            PolicyAction::Keep => Decision::Forward(Edit::identity(held.start() + held.length())),
            PolicyAction::Shorten => stream
                .edit(held, &shortening_edits(&stream))
                .map_or(Decision::Reject, Decision::Forward),
            PolicyAction::Refuse | PolicyAction::RefuseEarly => Decision::Reject,
        }
    }
}

/// What `convert` makes of the stream where that is decided.
pub(crate) fn convert_stream(whole: &[u8], act: PolicyAction) -> Vec<u8> {
    match act {
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

/// What was heard, a line for each event.
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
        self.lines.lock().unwrap().iter().any(|it| it == line)
    }

    /// Waits until there are so many lines that begin like this.
    pub(crate) fn wait_for(&self, begin: &str, count: usize) {
        let until = Instant::now() + TEST_TIMEOUT;
        let mut lines = self.lines.lock().unwrap();
        while lines.iter().filter(|it| it.starts_with(begin)).count() < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {begin}: {lines:?}");
            lines = self.changed_condvar.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Observer for EventLog {
    fn on_event(&self, event: &Event<'_>) {
        let name = event.name();
        let line = match event {
            Event::Connected { channel, number } => format!("{name} {number} {}", channel.name()),
            Event::ConnectionRejected {
                channel,
                reason: why,
            } => format!("{name} {}: {why}", channel.name()),
            Event::Phase { phase, .. } => format!("{name} {phase}"),
            Event::DeviceStateReceived { is_package, .. } => {
                format!(
                    "{name} {}",
                    if *is_package { "postcopy" } else { "precopy" }
                )
            }
            Event::ReturnPathShut(value) => format!("{name} {value}"),
            Event::Refused(whereabouts) => format!("{name} {}", whereabouts.name()),
            // So many that nobody counts them.
            Event::Progress { .. } => return,
            _ => name.to_owned(),
        };
        self.lines.lock().unwrap().push(line);
        self.changed_condvar.notify_all();
    }
}

/// What came of a migration that was begun.
pub(crate) fn unwrap_result(migrated: ServeResult) -> MigrationResult {
    migrated.unwrap().expect("it began")
}

/// Why it broke.
pub(crate) fn unwrap_error(ended: &MigrationResult) -> &Error {
    match &ended.outcome {
        MigrationOutcome::Failed(error) => error,
        other => panic!("not broken: {other:?}"),
    }
}

/// It went on and nobody said that it was loaded.
pub(crate) fn assert_completed(ended: &MigrationResult) {
    assert!(
        matches!(ended.outcome, MigrationOutcome::Completed),
        "{ended:?}"
    );
    assert_eq!(ended.vm_location, VmLocation::DestinationUnconfirmed);
}

/// What arrived is no stream that somebody would take for complete.
pub(crate) fn assert_no_stream(arrived: &[u8], why: &str) {
    if let Ok(stream) = Stream::open_by_full_scan(&arrived) {
        panic!("{} bytes arrived and open: {why}", stream.length());
    }
}

/// Where the device state begins that is held back, and where it ends: without it the destination has no VM.
pub(crate) fn device_state_range(whole: &[u8]) -> std::ops::Range<usize> {
    let mut flow = IncrementalParser::bidirectional();
    flow.feed(whole, true).unwrap();
    let start = flow.take_device_state().unwrap().start();
    let stream = Stream::open(&whole).unwrap();
    let end = match stream.package() {
        Some(package) => package.range.end,
        None => stream.end(),
    };
    index(start)..index(end)
}
