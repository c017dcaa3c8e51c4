//! Connections as a relay uses them: every kind of address, both directions, and ends of all kinds.

mod cancellation;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cpreg_relay::connect::connect;
use cpreg_relay::io::splice::{Side, carry};
use cpreg_relay::{Address, Cancel, Connection, ErrorKind, Listener};
use rustix::io::{FdFlags, fcntl_setfd};

/// Far longer than anything here takes, even on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn cancel() -> Cancel {
    Cancel::new().unwrap()
}

/// Bytes without a pattern that a shift would not show (xorshift64).
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

fn socket() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::from_socket(ours.into()).unwrap(), theirs)
}

/// A connection through a listener at that address, and the end that called.
fn both_ends(listen: &str) -> (Connection, Connection) {
    let listener = Listener::bind(&address(listen)).unwrap();
    let called = connect(listener.address(), LONG, &cancel()).unwrap();
    let accepted = listener.accept(&cancel()).unwrap().unwrap();
    (accepted, called)
}

/// Each end says something, ends its own direction, and reads up to the end of the other.
fn talk(one: Connection, other: Connection) {
    let speak = |connection: Connection, word: &'static [u8]| {
        thread::spawn(move || {
            let cancel = cancel();
            let (mut reader, mut writer, _cutter) = connection.split();
            writer.write_all(word, &cancel).unwrap();
            writer.finish().unwrap();
            let late = writer.write_all(b"late", &cancel).unwrap_err();
            assert!(late.is_closed(), "{late}");
            let mut heard = Vec::new();
            let mut buffer = [0; 3];
            loop {
                match reader.read(&mut buffer, &cancel).unwrap() {
                    0 => return heard,
                    count => heard.extend_from_slice(&buffer[..count]),
                }
            }
        })
    };
    let one = speak(one, b"from one");
    let other = speak(other, b"from the other");
    assert_eq!(one.join().unwrap(), b"from the other");
    assert_eq!(other.join().unwrap(), b"from one");
}

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
    talk(one, other);
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
    let error = connect(&gone, LONG, &cancel()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.hint().unwrap().contains("-incoming tcp:"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    let to = Address::Unix(path.clone());
    let error = connect(&to, LONG, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("no such socket"), "{error}");
    drop(UnixListener::bind(&path).unwrap());
    let error = connect(&to, LONG, &cancel()).unwrap_err();
    assert!(error.hint().unwrap().contains("still running"), "{error}");

    let long = Address::Unix(folder.path().join("x".repeat(120)));
    let error = connect(&long, LONG, &cancel()).unwrap_err();
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
    let called = connect(listener.address(), LONG, &cancel()).unwrap();
    talk(listener.accept(&cancel()).unwrap().unwrap(), called);
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
    talk(one, Connection::from_socket(theirs.into()).unwrap());

    // One that listens.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let waiting = UnixListener::bind(&path).unwrap();
    let listener = Listener::bind(&inherited(waiting)).unwrap();
    assert!(!listener.is_single());
    let called = connect(&Address::Unix(path), LONG, &cancel()).unwrap();
    talk(listener.accept(&cancel()).unwrap().unwrap(), called);
    let other = UnixListener::bind(folder.path().join("other")).unwrap();
    let error = connect(&inherited(other), LONG, &cancel()).unwrap_err();
    assert!(error.message().contains("listens"), "{error}");

    // A datagram socket is neither.
    let error = connect(
        &inherited(UnixDatagram::unbound().unwrap()),
        LONG,
        &cancel(),
    );
    let error = error.unwrap_err();
    assert!(error.message().contains("no stream socket"), "{error}");

    // One of our own, which close-on-exec shows, and one that is not open.
    let own = fs::File::open("/dev/null").unwrap();
    for number in [own.as_raw_fd(), 1_000_000] {
        let error = connect(&Address::Fd(number), LONG, &cancel()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAddress);
        assert!(error.message().contains("did not inherit"), "{error}");
    }
    assert!(own.metadata().is_ok());
}

#[test]
fn an_inherited_pipe_goes_one_way_and_comes_to_its_end() {
    let (mut read, write) = io::pipe().unwrap();
    let mut to = connect(&inherited(write), LONG, &cancel()).unwrap();
    assert!(!to.is_two_way());
    assert_eq!(to.reader.read(&mut [0; 8], &cancel()).unwrap(), 0);
    to.writer.write_all(b"pages", &cancel()).unwrap();
    to.writer.finish().unwrap();
    let mut all = Vec::new();
    // It would not come to its end were the inherited number still open.
    read.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"pages");

    let (read, write) = io::pipe().unwrap();
    let mut from = connect(&inherited(read), LONG, &cancel()).unwrap();
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
    const NAME: &str = "standard_input_and_output_are_one_connection";
    const CHILD: &str = "CPREG_TEST_STDIO";
    if std::env::var_os(CHILD).is_some() {
        let connection = connect(&Address::Stdio, LONG, &cancel()).unwrap();
        assert!(connection.is_two_way());
        let (mut reader, mut writer, _cutter) = connection.split();
        carry(&mut reader, &mut writer, &cancel(), &AtomicU64::new(0)).unwrap();
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
    match connect(&Address::Vsock { cid: 1, port }, LONG, &cancel()) {
        Ok(called) => talk(listener.accept(&cancel()).unwrap().unwrap(), called),
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

/// Carries 64 MiB of noise from what `input` is written to, to what `output` is read from.
fn carries_all(
    mut input: impl io::Write + Send + 'static,
    from: Connection,
    to: Connection,
    mut output: impl io::Read + Send + 'static,
) {
    let bytes = noise(64 << 20);
    let sent = bytes.clone();
    let sender = thread::spawn(move || input.write_all(&sent).unwrap());
    let receiver = thread::spawn(move || {
        let mut all = Vec::new();
        output.read_to_end(&mut all).unwrap();
        all
    });
    let (mut reader, _back, _cutter) = from.split();
    let (_answers, mut writer, _cutter) = to.split();
    let cancel = cancel();
    let first = reader.peek(4, None, &cancel).unwrap();
    assert_eq!(first, &bytes[..4]);
    let counter = AtomicU64::new(5);
    let carried = carry(&mut reader, &mut writer, &cancel, &counter).unwrap();
    writer.finish().unwrap();
    sender.join().unwrap();
    let all = receiver.join().unwrap();
    assert_eq!(carried, bytes.len() as u64);
    assert_eq!(counter.load(Ordering::Relaxed), carried + 5);
    assert!(all == bytes, "{} bytes came of {}", all.len(), bytes.len());
}

#[test]
fn carries_from_socket_to_socket() {
    let (from, input) = socket();
    let (to, output) = socket();
    carries_all(input, from, to, output);
}

#[test]
fn carries_from_tcp_to_tcp() {
    let pair = || {
        let listener = Listener::bind(&address("tcp::0")).unwrap();
        let Address::Tcp { port, .. } = *listener.address() else {
            panic!("{listener:?}");
        };
        let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
        (listener.accept(&cancel()).unwrap().unwrap(), far)
    };
    let (from, input) = pair();
    let (to, output) = pair();
    carries_all(input, from, to, output);
}

#[test]
fn carries_from_pipe_to_socket_and_from_socket_to_pipe() {
    let (read, input) = io::pipe().unwrap();
    let from = Connection::from_halves(Some(read.into()), None).unwrap();
    let (to, output) = socket();
    carries_all(input, from, to, output);

    let (from, input) = socket();
    let (output, write) = io::pipe().unwrap();
    let to = Connection::from_halves(None, Some(write.into())).unwrap();
    carries_all(input, from, to, output);
}

#[test]
fn carries_where_splice_does_not_serve() {
    // Linux does not splice into a file that is appended to.
    let (mut input, read) = {
        let (read, write) = io::pipe().unwrap();
        (write, read)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("appended");
    let file = fs::File::options().create(true).append(true).open(&path);
    let from = Connection::from_halves(Some(read.into()), None).unwrap();
    let to = Connection::from_halves(None, Some(file.unwrap().into())).unwrap();
    let bytes = noise(5 << 20);
    let sent = bytes.clone();
    let sender = thread::spawn(move || input.write_all(&sent).unwrap());
    let (mut reader, mut writer) = (from.reader, to.writer);
    let counter = AtomicU64::new(0);
    let carried = carry(&mut reader, &mut writer, &cancel(), &counter).unwrap();
    sender.join().unwrap();
    assert_eq!(carried, bytes.len() as u64);
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn both_directions_end_apart() {
    let (from, source) = socket();
    let (to, destination) = socket();
    let (mut from_reader, mut from_writer, _from_cutter) = from.split();
    let (mut to_reader, mut to_writer, _to_cutter) = to.split();
    let stop = cancel();
    let there = thread::spawn({
        let stop = stop.clone();
        move || {
            let count = carry(&mut from_reader, &mut to_writer, &stop, &AtomicU64::new(0));
            to_writer.finish().unwrap();
            count.unwrap()
        }
    });
    let back = thread::spawn(move || {
        let count = carry(&mut to_reader, &mut from_writer, &stop, &AtomicU64::new(0));
        from_writer.finish().unwrap();
        count.unwrap()
    });
    (&source).write_all(b"stream").unwrap();
    source.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    (&destination).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"stream");
    // The one direction is over, the other is not.
    (&destination).write_all(b"answer").unwrap();
    drop(destination);
    let mut all = Vec::new();
    (&source).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"answer");
    assert_eq!((there.join().unwrap(), back.join().unwrap()), (6, 6));
}

#[test]
fn what_was_looked_at_comes_once_more() {
    let (connection, mut far) = socket();
    let (mut reader, _writer, _cutter) = connection.split();
    let cancel = cancel();
    let soon = || Some(Instant::now() + Duration::from_millis(20));
    assert_eq!(reader.peek(4, soon(), &cancel).unwrap(), b"");
    far.write_all(b"QE").unwrap();
    assert_eq!(reader.peek(4, soon(), &cancel).unwrap(), b"QE");
    far.write_all(b"VMstream").unwrap();
    assert_eq!(reader.peek(4, None, &cancel).unwrap(), b"QEVM");
    assert_eq!(reader.peek(2, None, &cancel).unwrap(), b"QE");
    let mut buffer = [0; 3];
    assert_eq!(reader.read(&mut buffer, &cancel).unwrap(), 3);
    assert_eq!(&buffer, b"QEV");
    drop(far);
    // The end comes first: fewer than asked for.
    assert_eq!(reader.peek(100, None, &cancel).unwrap(), b"Mstream");
    let mut rest = [0; 100];
    assert_eq!(reader.read(&mut rest, &cancel).unwrap(), 7);
    assert_eq!(reader.read(&mut rest, &cancel).unwrap(), 0);
}
