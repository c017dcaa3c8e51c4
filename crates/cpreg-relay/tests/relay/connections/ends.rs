//! Ends of connections, waits and copies.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cpreg_relay::connect::connect;
use cpreg_relay::io::splice::{CopySide, splice_all};
use cpreg_relay::{Address, CancelToken, Connection, ErrorKind, Listener};

use super::{TEST_TIMEOUT, address, cancel, noise, socket};

/// Timeout for a wait to return after it was cancelled.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn peeked_bytes_are_read_again() {
    let (connection, mut far) = socket();
    let (mut reader, _writer, _shutdown_handle) = connection.split();
    let cancel = cancel();
    let deadline = || Some(Instant::now() + Duration::from_millis(20));
    assert_eq!(reader.peek(4, deadline(), &cancel).unwrap(), b"");
    far.write_all(b"QE").unwrap();
    assert_eq!(reader.peek(4, deadline(), &cancel).unwrap(), b"QE");
    far.write_all(b"VMstream").unwrap();
    assert_eq!(reader.peek(4, None, &cancel).unwrap(), b"QEVM");
    assert_eq!(reader.peek(2, None, &cancel).unwrap(), b"QE");
    let mut buffer = [0; 3];
    assert_eq!(reader.read(&mut buffer, &cancel).unwrap(), 3);
    assert_eq!(&buffer, b"QEV");
    drop(far);
    // The end arrives first, so there are fewer bytes than requested.
    assert_eq!(reader.peek(100, None, &cancel).unwrap(), b"Mstream");
    let mut rest = [0; 100];
    assert_eq!(reader.read(&mut rest, &cancel).unwrap(), 7);
    assert_eq!(reader.read(&mut rest, &cancel).unwrap(), 0);
}

/// Asserts that `call` blocks until `end` is called. Returns the result of `call`.
fn assert_unblocks<T: Send + 'static>(
    end: impl FnOnce(),
    call: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = call();
        let _ = sender.send(());
        result
    });
    let early_result = receiver.recv_timeout(Duration::from_millis(50));
    assert!(early_result.is_err(), "it did not wait");
    let start = Instant::now();
    end();
    let result = thread.join().unwrap();
    assert!(start.elapsed() < CANCEL_TIMEOUT);
    result
}

#[test]
fn waits_end_on_cancel() {
    let stop = cancel();
    let (connection, far) = socket();
    let (mut reader, mut writer, _shutdown_handle) = connection.split();
    let token = stop.clone();
    let read = assert_unblocks(
        || stop.cancel(),
        move || reader.read(&mut [0; 8], &token).unwrap_err(),
    );
    assert!(read.is_cancelled(), "{read}");

    // A peer that has stalled.
    let stop = cancel();
    let token = stop.clone();
    let written = assert_unblocks(
        || stop.cancel(),
        move || writer.write_all(&noise(8 << 20), &token).unwrap_err(),
    );
    assert!(written.is_cancelled(), "{written}");
    drop(far);

    let stop = cancel();
    let token = stop.clone();
    let listener = Listener::bind(&address("tcp::0")).unwrap();
    let accepted = assert_unblocks(|| stop.cancel(), move || listener.accept(&token).unwrap());
    assert!(accepted.is_none());
}

/// Waits until no socket accepts another byte, and then until the copy between the sockets has
/// stalled too.
fn wait_until_full(sockets: &[UnixStream]) {
    use rustix::event::{PollFd, PollFlags, poll};
    let no_wait = rustix::event::Timespec::default();
    let is_writable = |socket| {
        let mut files = [PollFd::new(socket, PollFlags::OUT)];
        poll(&mut files, Some(&no_wait)).unwrap() > 0
    };
    while sockets.iter().any(is_writable) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn copy_into_a_stalled_reader_ends_on_cancel_or_close() {
    let noise = noise(16 << 20);
    for closes in [false, true] {
        let stop = cancel();
        let (from, mut input) = socket();
        let (to, stalled) = UnixStream::pair().unwrap();
        let sockets = [input.try_clone().unwrap(), to.try_clone().unwrap()];
        let to = Connection::from_socket(to.into()).unwrap();
        let noise = noise.clone();
        let sender = thread::spawn(move || input.write_all(&noise).is_err());
        let token = stop.clone();
        let end = || {
            wait_until_full(&sockets);
            drop(sockets);
            if closes {
                drop(stalled);
            } else {
                stop.cancel();
            }
        };
        let error = assert_unblocks(end, move || {
            // The closure owns both connections, so that they are closed when it returns.
            let (mut reader, _writer, _) = from.split();
            let (_reader, mut writer, _) = to.split();
            splice_all(&mut reader, &mut writer, &token, &AtomicU64::new(0)).unwrap_err()
        });
        assert_eq!(error.side, CopySide::Output);
        assert!(error.copied > 0);
        match error.error.kind() {
            ErrorKind::Cancelled => assert!(!closes),
            ErrorKind::Closed => assert!(closes),
            _ => panic!("{error}"),
        }
        assert!(sender.join().unwrap(), "the sender did not notice");
    }
}

#[test]
fn shutdown_ends_both_halves_and_the_peer() {
    let (connection, mut far) = socket();
    let (mut reader, writer, shutdown_handle) = connection.split();
    let other = shutdown_handle.clone();
    let read = assert_unblocks(
        move || other.shutdown(),
        move || {
            reader
                .read(&mut [0; 8], &CancelToken::new().unwrap())
                .unwrap_err()
        },
    );
    assert!(read.is_cancelled(), "{read}");
    assert!(shutdown_handle.is_shut_down());
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
    drop(writer);

    let (read, _input) = io::pipe().unwrap();
    let connection = Connection::from_halves(Some(read.into()), None).unwrap();
    let (mut reader, _writer, shutdown_handle) = connection.split();
    let read = assert_unblocks(
        move || shutdown_handle.shutdown(),
        move || {
            reader
                .read(&mut [0; 8], &CancelToken::new().unwrap())
                .unwrap_err()
        },
    );
    assert!(read.is_cancelled(), "{read}");
}

#[test]
fn connect_to_a_full_backlog_times_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full");
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let family = rustix::net::AddressFamily::UNIX;
    let full = rustix::net::socket_with(family, rustix::net::SocketType::STREAM, flags, None);
    let full = full.unwrap();
    let name = rustix::net::SocketAddrUnix::new(&path).unwrap();
    rustix::net::bind(full.as_fd(), &name).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let waiting: Vec<_> = (0..3)
        .map_while(|_| {
            connect(
                &Address::Unix(path.clone()),
                Duration::from_millis(50),
                &cancel(),
            )
            .ok()
        })
        .collect();
    assert!(waiting.len() < 3, "the backlog is never full");
    let stop = cancel();
    let token = stop.clone();
    let error = assert_unblocks(
        || stop.cancel(),
        move || connect(&Address::Unix(path), TEST_TIMEOUT, &token).unwrap_err(),
    );
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(
        error.to_string().contains("cancelled by this side"),
        "{error}"
    );
}
