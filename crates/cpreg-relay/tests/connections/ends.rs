//! How a connection, a wait or a direction ends.

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

use crate::{TEST_TIMEOUT, address, cancel, noise, socket};

/// What an end has to come within, once it has been asked for.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

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

/// What ends a call, and how.
fn assert_unblocks<T: Send + 'static>(
    end: impl FnOnce(),
    call: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = call();
        let _ = done.send(());
        result
    });
    let early = is_done.recv_timeout(Duration::from_millis(50));
    assert!(early.is_err(), "it did not wait");
    let start = Instant::now();
    end();
    let result = thread.join().unwrap();
    assert!(start.elapsed() < CANCEL_TIMEOUT);
    result
}

#[test]
fn a_wait_ends_when_it_is_cancelled() {
    let stop = cancel();
    let (connection, far) = socket();
    let (mut reader, mut writer, _cutter) = connection.split();
    let given = stop.clone();
    let read = assert_unblocks(
        || stop.cancel(),
        move || reader.read(&mut [0; 8], &given).unwrap_err(),
    );
    assert!(read.is_cancelled(), "{read}");

    // A reader that has stalled.
    let stop = cancel();
    let given = stop.clone();
    let written = assert_unblocks(
        || stop.cancel(),
        move || writer.write_all(&noise(8 << 20), &given).unwrap_err(),
    );
    assert!(written.is_cancelled(), "{written}");
    drop(far);

    let stop = cancel();
    let given = stop.clone();
    let listener = Listener::bind(&address("tcp::0")).unwrap();
    let accepted = assert_unblocks(|| stop.cancel(), move || listener.accept(&given).unwrap());
    assert!(accepted.is_none());
}

/// Waits until none of them takes another byte, a while after which whoever carries bytes between
/// waits for the last one.
fn wait_until_full(sockets: &[UnixStream]) {
    use rustix::event::{PollFd, PollFlags, poll};
    let nothing = rustix::event::Timespec::default();
    let takes = |socket| {
        let mut files = [PollFd::new(socket, PollFlags::OUT)];
        poll(&mut files, Some(&nothing)).unwrap() > 0
    };
    while sockets.iter().any(takes) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn carrying_into_a_stalled_reader_ends_when_it_is_cancelled_or_the_reader_dies() {
    let noise = noise(16 << 20);
    for dies in [false, true] {
        let stop = cancel();
        let (from, mut input) = socket();
        let (to, stalled) = UnixStream::pair().unwrap();
        let sending = [input.try_clone().unwrap(), to.try_clone().unwrap()];
        let to = Connection::from_socket(to.into()).unwrap();
        let noise = noise.clone();
        let sender = thread::spawn(move || input.write_all(&noise).is_err());
        let given = stop.clone();
        let end = || {
            wait_until_full(&sending);
            drop(sending);
            if dies {
                drop(stalled);
            } else {
                stop.cancel();
            }
        };
        let error = assert_unblocks(end, move || {
            // All of both, so that they are closed when this ends.
            let (mut reader, _back, _) = from.split();
            let (_answers, mut writer, _) = to.split();
            splice_all(&mut reader, &mut writer, &given, &AtomicU64::new(0)).unwrap_err()
        });
        assert_eq!(error.side, CopySide::Output);
        assert!(error.copied > 0);
        match error.error.kind() {
            ErrorKind::Cancelled => assert!(!dies),
            ErrorKind::Closed => assert!(dies),
            _ => panic!("{error}"),
        }
        assert!(sender.join().unwrap(), "the sender was not told");
    }
}

#[test]
fn a_cut_ends_both_halves_and_is_seen_at_the_other_end() {
    let (connection, mut far) = socket();
    let (mut reader, writer, cutter) = connection.split();
    let other = cutter.clone();
    let read = assert_unblocks(
        move || other.shutdown(),
        move || {
            reader
                .read(&mut [0; 8], &CancelToken::new().unwrap())
                .unwrap_err()
        },
    );
    assert!(read.is_cancelled(), "{read}");
    assert!(cutter.is_shut_down());
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
    drop(writer);

    let (read, _input) = io::pipe().unwrap();
    let connection = Connection::from_halves(Some(read.into()), None).unwrap();
    let (mut reader, _writer, cutter) = connection.split();
    let read = assert_unblocks(
        move || cutter.shutdown(),
        move || {
            reader
                .read(&mut [0; 8], &CancelToken::new().unwrap())
                .unwrap_err()
        },
    );
    assert!(read.is_cancelled(), "{read}");
}

#[test]
fn a_connection_that_nobody_accepts_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full");
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
    assert!(waiting.len() < 3, "the queue is never full");
    let stop = cancel();
    let given = stop.clone();
    let error = assert_unblocks(
        || stop.cancel(),
        move || connect(&Address::Unix(path), TEST_TIMEOUT, &given).unwrap_err(),
    );
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(
        error.to_string().contains("cancelled by this side"),
        "{error}"
    );
}
