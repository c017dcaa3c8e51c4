//! Server under test, and the QEMUs at both ends.
//!
//! A test needs no firewall: the client connects to `127.0.0.N`, and [`ByLocalAddress`] names the
//! destination for each N.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cpreg_relay::serve::{
    IncomingMigration, MigrationHandler, OriginalDestination, Redirection, Server, ServerEvent,
    Timeouts,
};
use cpreg_relay::{Address, CancelOnDrop, CancelToken, MigrationResult, TlsCredentials};

use crate::relayed::harness::{EventLog, PolicyAction, TEST_TIMEOUT, TestPolicy, Watchdog};

/// Original destinations by the last byte of the address that the client connected to.
pub(crate) struct ByLocalAddress(HashMap<u8, SocketAddr>);

impl OriginalDestination for ByLocalAddress {
    fn original_destination(&self, socket: BorrowedFd<'_>) -> io::Result<Redirection> {
        let local = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
        let IpAddr::V4(ip) = local.ip() else {
            return Ok(Redirection::None);
        };
        let destination = self.0.get(&ip.octets()[3]);
        Ok(destination.map_or(Redirection::None, |address| Redirection::From(*address)))
    }
}

/// Server with `N` destinations, at `127.0.0.1` to `127.0.0.N` of its clients.
pub(crate) struct ServerHarness {
    server: Server,
    port: u16,
    destinations: Vec<TcpListener>,
    pub(crate) handler: TestHandler,
}

impl ServerHarness {
    pub(crate) fn new(count: u8, action: PolicyAction) -> Self {
        let destinations: Vec<_> = (0..count)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses = destinations.iter().map(|it| it.local_addr().unwrap());
        let by_address = (1..).zip(addresses).collect();
        let listen: Address = "tcp:0.0.0.0:0".parse().unwrap();
        let server = Server::bind(&listen)
            .unwrap()
            .with_redirection(Box::new(ByLocalAddress(by_address)));
        let Address::Tcp { port, .. } = *server.address() else {
            panic!("{server:?}");
        };
        Self {
            server,
            port,
            destinations,
            handler: TestHandler {
                action,
                events: EventLog::default(),
                results: Mutex::default(),
                errors: Mutex::default(),
                server_events: Mutex::default(),
                changed: Condvar::new(),
                user: CancelToken::new().unwrap(),
            },
        }
    }

    pub(crate) fn with_timeouts(mut self, change: impl FnOnce(&mut Timeouts)) -> Self {
        let mut timeouts = Timeouts::default();
        change(&mut timeouts);
        self.server = self.server.with_timeouts(timeouts);
        self
    }

    pub(crate) fn with_tls(mut self, credentials: TlsCredentials) -> Self {
        self.server = self.server.with_tls(credentials);
        self
    }

    /// Closes the listener of destination `number`.
    pub(crate) fn without_listener(mut self, number: u8) -> Self {
        self.destinations.remove(usize::from(number) - 1);
        self
    }

    /// Runs the server during `test`.
    pub(crate) fn run<T>(&self, test: impl FnOnce(&Self) -> T) -> T {
        let _watchdog = Watchdog::new();
        thread::scope(|scope| {
            scope.spawn(|| self.server.run(&self.handler, &self.handler.user).unwrap());
            // The server ends on every path, also on a panic.
            let _end = CancelOnDrop(&self.handler.user);
            test(self)
        })
    }

    /// Connects like the source's QEMU of destination `number`, counted from 1.
    pub(crate) fn source(&self, number: u8) -> TcpStream {
        let address = (Ipv4Addr::new(127, 0, 0, number), self.port);
        with_timeouts(TcpStream::connect(address).unwrap())
    }

    /// Accepts the next connection, like the QEMU of destination `number`.
    pub(crate) fn destination(&self, number: u8) -> TcpStream {
        let listener = &self.destinations[usize::from(number) - 1];
        with_timeouts(listener.accept().unwrap().0)
    }

    /// Asserts that no connection to destination `number` waits to be accepted.
    pub(crate) fn assert_no_further_connection(&self, number: u8) {
        let listener = &self.destinations[usize::from(number) - 1];
        listener.set_nonblocking(true).unwrap();
        let error = listener.accept().unwrap_err();
        listener.set_nonblocking(false).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

fn with_timeouts(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket
}

/// Handler that runs every migration with the same action.
pub(crate) struct TestHandler {
    action: PolicyAction,
    pub(crate) events: EventLog,
    pub(crate) results: Mutex<Vec<(SocketAddr, MigrationResult)>>,
    errors: Mutex<Vec<String>>,
    server_events: Mutex<Vec<String>>,
    changed: Condvar,
    user: CancelToken,
}

impl TestHandler {
    /// Waits for `count` events of the server that contain this text.
    pub(crate) fn wait_for(&self, text: &str, count: usize) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut events = self.server_events.lock().unwrap();
        while events.iter().filter(|event| event.contains(text)).count() < count {
            let remaining = deadline.saturating_duration_since(Instant::now());
            assert!(!remaining.is_zero(), "no {text}: {events:?}");
            events = self.changed.wait_timeout(events, remaining).unwrap().0;
        }
    }

    /// Waits for `count` migrations to end, and takes their results.
    pub(crate) fn wait_for_results(&self, count: usize) -> Vec<(SocketAddr, MigrationResult)> {
        wait_for_items(&self.results, count)
    }

    /// Waits for `count` migrations that did not reach their destination, and takes their errors.
    pub(crate) fn wait_for_errors(&self, count: usize) -> Vec<String> {
        wait_for_items(&self.errors, count)
    }
}

impl MigrationHandler for TestHandler {
    fn handle(&self, migration: IncomingMigration) {
        let destination = migration.original_destination();
        let mut policy = TestPolicy(self.action);
        match migration.run(&mut policy, &self.events, &self.user) {
            Ok(result) => self.results.lock().unwrap().push((destination, result)),
            Err(error) => self.errors.lock().unwrap().push(error.to_string()),
        }
    }

    fn on_event(&self, event: &ServerEvent<'_>) {
        let line = match event {
            ServerEvent::Forwarding { channel, .. } => format!("forwarding {}", channel.name()),
            ServerEvent::Forwarded { bytes, .. } => format!("forwarded {bytes}"),
            ServerEvent::Rejected {
                channel, reason, ..
            } => format!("rejected {}: {reason}", channel.name()),
            other => panic!("{other:?}"),
        };
        self.server_events.lock().unwrap().push(line);
        self.changed.notify_all();
    }
}

/// Waits for `count` items, and takes them.
fn wait_for_items<T>(items: &Mutex<Vec<T>>, count: usize) -> Vec<T> {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let mut items = items.lock().unwrap();
        if items.len() >= count {
            return std::mem::take(&mut *items);
        }
        drop(items);
        assert!(Instant::now() < deadline, "the migrations do not end");
        thread::sleep(Duration::from_millis(2));
    }
}
