//! Listening on and connecting to every kind of address.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use cpreg_relay::connect::connect;
use cpreg_relay::io::splice::splice_all;
use cpreg_relay::{Address, Connection, ErrorKind, Listener};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::{FdFlags, fcntl_setfd};

use super::{TEST_TIMEOUT, address, both_ends, cancel, exchange_bytes, noise};

/// Makes the file of a socket that no process has.
///
/// A dropped listener is not enough: a program that another test starts at this moment has a copy
/// of the listener until its `exec`.
fn make_stale_socket(path: &Path) {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, FileType::Socket, mode, 0).unwrap();
}

#[test]
fn tcp_listens_on_loopback_by_default() {
    let listener = Listener::bind(&address("tcp::0")).unwrap();
    let Address::Tcp { host, port } = listener.address() else {
        panic!("{listener:?}");
    };
    assert_eq!(host, "127.0.0.1");
    assert_ne!(*port, 0);
    let error = Listener::bind(listener.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.hint().unwrap().contains("another port"), "{error}");

    let (one, other) = both_ends("tcp:localhost:0");
    exchange_bytes(one, other);
}

#[test]
fn tcp_options_are_set() {
    use rustix::net::sockopt;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let clone = socket.try_clone().unwrap();
    let connection = Connection::from_socket(socket.into()).unwrap();
    assert!(sockopt::tcp_nodelay(&clone).unwrap());
    assert!(sockopt::socket_keepalive(&clone).unwrap());
    let flags = |file: &TcpStream| rustix::fs::fcntl_getfl(file).unwrap();
    assert!(flags(&clone).contains(rustix::fs::OFlags::NONBLOCK));
    drop(connection);
    // Another owner of the open file finds the original flags.
    assert!(!flags(&clone).contains(rustix::fs::OFlags::NONBLOCK));
}

#[test]
fn connect_errors_have_hints() {
    let listener = Listener::bind(&address("tcp::0")).unwrap();
    let closed_address = listener.address().clone();
    drop(listener);
    let error = connect(&closed_address, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.hint().unwrap().contains("-incoming tcp:"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none");
    let to = Address::Unix(path.clone());
    let error = connect(&to, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("does not exist"), "{error}");
    make_stale_socket(&path);
    let error = connect(&to, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("still runs"), "{error}");

    let long = Address::Unix(directory.path().join("x".repeat(120)));
    let error = connect(&long, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("107 bytes"), "{error}");
    let error = Listener::bind(&long).unwrap_err();
    assert!(error.hint().unwrap().contains("107 bytes"), "{error}");
}

#[test]
fn unix_socket_is_private_and_removed_on_drop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let connected = connect(listener.address(), TEST_TIMEOUT, &cancel()).unwrap();
    exchange_bytes(listener.accept(&cancel()).unwrap().unwrap(), connected);
    drop(listener);
    assert!(!path.exists());

    // A socket that another process has put at the path stays.
    let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(other);
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = Address::Unix(path.clone());
    make_stale_socket(&path);
    let listener = Listener::bind(&address).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

    // A live socket stays, and its listener does not notice the check.
    let error = Listener::bind(&address).unwrap_err();
    assert!(error.hint().unwrap().contains("another process"), "{error}");
    let token = cancel();
    let cancel_handle = token.clone();
    let waiter = thread::spawn(move || {
        let accepted = listener.accept(&token).unwrap();
        accepted.is_none()
    });
    thread::sleep(Duration::from_millis(50));
    cancel_handle.cancel();
    assert!(waiter.join().unwrap(), "the listener received a connection");
    assert!(!path.exists());

    let datagrams = UnixDatagram::bind(&path).unwrap();
    let error = Listener::bind(&address).unwrap_err();
    assert!(error.hint().unwrap().contains("another process"), "{error}");
    drop(datagrams);
    fs::remove_file(&path).unwrap();

    fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&address).unwrap_err();
    assert!(error.hint().unwrap().contains("not a socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

/// Clears close-on-exec, as if the descriptor were inherited.
fn inherited(file: impl Into<OwnedFd>) -> Address {
    let file = file.into();
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    Address::Fd(file.into_raw_fd())
}

#[test]
fn inherited_descriptor_is_used_once() {
    // A connected socket.
    let (near, far) = UnixStream::pair().unwrap();
    let listener = Listener::bind(&inherited(near)).unwrap();
    assert!(listener.is_single());
    let one = listener.accept(&cancel()).unwrap().unwrap();
    assert!(listener.accept(&cancel()).unwrap().is_none());
    exchange_bytes(one, Connection::from_socket(far.into()).unwrap());

    // A listening socket.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let waiting = UnixListener::bind(&path).unwrap();
    let listener = Listener::bind(&inherited(waiting)).unwrap();
    assert!(!listener.is_single());
    let connected = connect(&Address::Unix(path), TEST_TIMEOUT, &cancel()).unwrap();
    exchange_bytes(listener.accept(&cancel()).unwrap().unwrap(), connected);
    let other = UnixListener::bind(directory.path().join("other")).unwrap();
    let error = connect(&inherited(other), TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.message().contains("listening"), "{error}");

    // A datagram socket is not accepted.
    let error = connect(
        &inherited(UnixDatagram::unbound().unwrap()),
        TEST_TIMEOUT,
        &cancel(),
    );
    let error = error.unwrap_err();
    assert!(error.message().contains("not a stream socket"), "{error}");

    // Neither descriptor is inherited: the first is close-on-exec, the second is not open.
    let own_file = fs::File::open("/dev/null").unwrap();
    for number in [own_file.as_raw_fd(), 1_000_000] {
        let error = connect(&Address::Fd(number), TEST_TIMEOUT, &cancel()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAddress);
        assert!(error.message().contains("did not inherit"), "{error}");
    }
    assert!(own_file.metadata().is_ok());
}

#[test]
fn inherited_pipe_has_one_direction_and_an_end() {
    let (mut read, write) = io::pipe().unwrap();
    let mut to = connect(&inherited(write), TEST_TIMEOUT, &cancel()).unwrap();
    assert!(!to.is_two_way());
    assert_eq!(to.reader.read(&mut [0; 8], &cancel()).unwrap(), 0);
    to.writer.write_all(b"pages", &cancel()).unwrap();
    to.writer.finish().unwrap();
    let mut all = Vec::new();
    // The pipe would have no end if the inherited number were still open.
    read.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"pages");

    let (read, write) = io::pipe().unwrap();
    let mut from = connect(&inherited(read), TEST_TIMEOUT, &cancel()).unwrap();
    assert!(
        from.writer
            .write_all(b"x", &cancel())
            .unwrap_err()
            .is_closed()
    );
    drop(write);
    assert_eq!(from.reader.read(&mut [0; 8], &cancel()).unwrap(), 0);
}

/// Starts this test again, as a process whose standard input and output are the connection.
#[test]
fn stdio_is_one_connection() {
    const NAME: &str = "connections::addresses::stdio_is_one_connection";
    const CHILD: &str = "CPREG_TEST_STDIO";
    if std::env::var_os(CHILD).is_some() {
        let connection = connect(&Address::Stdio, TEST_TIMEOUT, &cancel()).unwrap();
        assert!(connection.is_two_way());
        let (mut reader, mut writer, _shutdown_handle) = connection.split();
        splice_all(&mut reader, &mut writer, &cancel(), &AtomicU64::new(0)).unwrap();
        writer.finish().unwrap();
        return;
    }
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", NAME]).env(CHILD, "1");
        child
    };
    let bytes = noise(3 << 20);

    // Two pipes. Output of the test harness after the bytes would fail the comparison.
    let mut process = child()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    let sent = bytes.clone();
    let sender = thread::spawn(move || input.write_all(&sent).unwrap());
    let output = process.wait_with_output().unwrap();
    sender.join().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.ends_with(&bytes));

    // One socket.
    let (near, far) = UnixStream::pair().unwrap();
    let far_clone = far.try_clone().unwrap();
    let mut process = child()
        .stdin(OwnedFd::from(far))
        .stdout(OwnedFd::from(far_clone))
        .spawn()
        .unwrap();
    let mut sink = near.try_clone().unwrap();
    let sent = bytes.clone();
    let sender = thread::spawn(move || {
        sink.write_all(&sent).unwrap();
        sink.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut all = Vec::new();
    (&near).read_to_end(&mut all).unwrap();
    sender.join().unwrap();
    assert!(process.wait().unwrap().success());
    assert!(all.ends_with(&bytes));
}

#[test]
fn vsock_connects_locally_or_reports_the_reason() {
    let listener = match Listener::bind(&address("vsock:4294967295:4294967295")) {
        Ok(listener) => listener,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Connection);
            assert!(error.hint().unwrap().contains("/dev/vsock"), "{error}");
            return;
        }
    };
    let Address::Vsock { port, .. } = *listener.address() else {
        panic!("{listener:?}");
    };
    assert_ne!(port, u32::MAX);
    // CID 1 is this machine, if the kernel has vsock_loopback.
    match connect(&Address::Vsock { cid: 1, port }, TEST_TIMEOUT, &cancel()) {
        Ok(connected) => exchange_bytes(listener.accept(&cancel()).unwrap().unwrap(), connected),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Connection);
            let hint = error.hint().unwrap();
            assert!(
                hint.contains("/dev/vsock") || hint.contains("nothing answers"),
                "{error}"
            );
        }
    }
}
