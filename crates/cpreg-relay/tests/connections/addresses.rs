//! Every kind of address, to listen on and to connect to.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use cpreg_relay::connect::connect;
use cpreg_relay::io::splice::splice_all;
use cpreg_relay::{Address, Connection, ErrorKind, Listener};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::{TEST_TIMEOUT, address, both_ends, cancel, exchange_bytes, noise};

#[test]
fn tcp_listens_on_loopback_unless_told_otherwise() {
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
fn a_tcp_connection_sends_at_once_and_sees_a_dead_host() {
    use rustix::net::sockopt;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let same = socket.try_clone().unwrap();
    let connection = Connection::from_socket(socket.into()).unwrap();
    assert!(sockopt::tcp_nodelay(&same).unwrap());
    assert!(sockopt::socket_keepalive(&same).unwrap());
    let flags = |file: &TcpStream| rustix::fs::fcntl_getfl(file).unwrap();
    assert!(flags(&same).contains(rustix::fs::OFlags::NONBLOCK));
    drop(connection);
    // Whoever shares it finds it as it was.
    assert!(!flags(&same).contains(rustix::fs::OFlags::NONBLOCK));
}

#[test]
fn nobody_at_the_other_end_is_said_with_what_to_do() {
    let free = Listener::bind(&address("tcp::0")).unwrap();
    let gone = free.address().clone();
    drop(free);
    let error = connect(&gone, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.hint().unwrap().contains("-incoming tcp:"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    let to = Address::Unix(path.clone());
    let error = connect(&to, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("no such socket"), "{error}");
    drop(UnixListener::bind(&path).unwrap());
    let error = connect(&to, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("still running"), "{error}");

    let long = Address::Unix(folder.path().join("x".repeat(120)));
    let error = connect(&long, TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("107 bytes"), "{error}");
    let error = Listener::bind(&long).unwrap_err();
    assert!(error.hint().unwrap().contains("107 bytes"), "{error}");
}

#[test]
fn a_unix_socket_is_its_users_alone_and_goes_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let called = connect(listener.address(), TEST_TIMEOUT, &cancel()).unwrap();
    exchange_bytes(listener.accept(&cancel()).unwrap().unwrap(), called);
    drop(listener);
    assert!(!path.exists());

    // What somebody else has put there meanwhile stays.
    let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(other);
}

#[test]
fn a_dead_socket_is_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let here = Address::Unix(path.clone());
    drop(UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&here).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

    // A live one is left alone, and does not even see that somebody asked.
    let error = Listener::bind(&here).unwrap_err();
    assert!(error.hint().unwrap().contains("another process"), "{error}");
    let soon = cancel();
    let stop = soon.clone();
    let waits = thread::spawn(move || {
        let accepted = listener.accept(&soon).unwrap();
        accepted.is_none()
    });
    thread::sleep(Duration::from_millis(50));
    stop.cancel();
    assert!(waits.join().unwrap(), "it saw a connection");
    assert!(!path.exists());

    let datagrams = UnixDatagram::bind(&path).unwrap();
    let error = Listener::bind(&here).unwrap_err();
    assert!(error.hint().unwrap().contains("another process"), "{error}");
    drop(datagrams);
    fs::remove_file(&path).unwrap();

    fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&here).unwrap_err();
    assert!(error.hint().unwrap().contains("no socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

/// As if this process had inherited it.
fn inherited(file: impl Into<OwnedFd>) -> Address {
    let file = file.into();
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    Address::Fd(file.into_raw_fd())
}

#[test]
fn an_inherited_descriptor_is_taken_once() {
    // A socket that is connected.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let listener = Listener::bind(&inherited(ours)).unwrap();
    assert!(listener.is_single());
    let one = listener.accept(&cancel()).unwrap().unwrap();
    assert!(listener.accept(&cancel()).unwrap().is_none());
    exchange_bytes(one, Connection::from_socket(theirs.into()).unwrap());

    // One that listens.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let waiting = UnixListener::bind(&path).unwrap();
    let listener = Listener::bind(&inherited(waiting)).unwrap();
    assert!(!listener.is_single());
    let called = connect(&Address::Unix(path), TEST_TIMEOUT, &cancel()).unwrap();
    exchange_bytes(listener.accept(&cancel()).unwrap().unwrap(), called);
    let other = UnixListener::bind(folder.path().join("other")).unwrap();
    let error = connect(&inherited(other), TEST_TIMEOUT, &cancel()).unwrap_err();
    assert!(error.message().contains("listens"), "{error}");

    // A datagram socket is neither.
    let error = connect(
        &inherited(UnixDatagram::unbound().unwrap()),
        TEST_TIMEOUT,
        &cancel(),
    );
    let error = error.unwrap_err();
    assert!(error.message().contains("no stream socket"), "{error}");

    // One of our own, which close-on-exec shows, and one that is not open.
    let own = fs::File::open("/dev/null").unwrap();
    for number in [own.as_raw_fd(), 1_000_000] {
        let error = connect(&Address::Fd(number), TEST_TIMEOUT, &cancel()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAddress);
        assert!(error.message().contains("did not inherit"), "{error}");
    }
    assert!(own.metadata().is_ok());
}

#[test]
fn an_inherited_pipe_goes_one_way_and_comes_to_its_end() {
    let (mut read, write) = io::pipe().unwrap();
    let mut to = connect(&inherited(write), TEST_TIMEOUT, &cancel()).unwrap();
    assert!(!to.is_two_way());
    assert_eq!(to.reader.read(&mut [0; 8], &cancel()).unwrap(), 0);
    to.writer.write_all(b"pages", &cancel()).unwrap();
    to.writer.finish().unwrap();
    let mut all = Vec::new();
    // It would not come to its end were the inherited number still open.
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

/// This test runs itself once more as the process whose standard input and output are the connection.
#[test]
fn standard_input_and_output_are_one_connection() {
    const NAME: &str = "addresses::standard_input_and_output_are_one_connection";
    const CHILD: &str = "CPREG_TEST_STDIO";
    if std::env::var_os(CHILD).is_some() {
        let connection = connect(&Address::Stdio, TEST_TIMEOUT, &cancel()).unwrap();
        assert!(connection.is_two_way());
        let (mut reader, mut writer, _cutter) = connection.split();
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

    // Two pipes. What the test's harness prints after the bytes would be seen here.
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
    let (ours, theirs) = UnixStream::pair().unwrap();
    let again = theirs.try_clone().unwrap();
    let mut process = child()
        .stdin(OwnedFd::from(theirs))
        .stdout(OwnedFd::from(again))
        .spawn()
        .unwrap();
    let mut sink = ours.try_clone().unwrap();
    let sent = bytes.clone();
    let sender = thread::spawn(move || {
        sink.write_all(&sent).unwrap();
        sink.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut all = Vec::new();
    (&ours).read_to_end(&mut all).unwrap();
    sender.join().unwrap();
    assert!(process.wait().unwrap().success());
    assert!(all.ends_with(&bytes));
}

#[test]
fn vsock_connects_on_this_machine_or_says_what_is_missing() {
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
    // 1 is this machine itself, if the kernel has vsock_loopback.
    match connect(&Address::Vsock { cid: 1, port }, TEST_TIMEOUT, &cancel()) {
        Ok(called) => exchange_bytes(listener.accept(&cancel()).unwrap().unwrap(), called),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Connection);
            let advice = error.hint().unwrap();
            assert!(
                advice.contains("/dev/vsock") || advice.contains("nothing answers"),
                "{error}"
            );
        }
    }
}
