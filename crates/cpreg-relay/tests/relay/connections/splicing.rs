//! Copying from one connection to another.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cpreg_relay::io::splice::splice_all;
use cpreg_relay::{Address, Connection, Listener};

use super::{address, cancel, noise, socket};

/// Copies 64 MiB of noise from one connection to another. The function writes the noise to `input`,
/// the peer of `from`, and reads it from `output`, the peer of `to`.
fn assert_copies_all(
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
    let (mut reader, _writer, _shutdown_handle) = from.split();
    let (_reader, mut writer, _shutdown_handle) = to.split();
    let cancel = cancel();
    let first = reader.peek(4, None, &cancel).unwrap();
    assert_eq!(first, &bytes[..4]);
    let counter = AtomicU64::new(5);
    let copied = splice_all(&mut reader, &mut writer, &cancel, &counter).unwrap();
    writer.finish().unwrap();
    sender.join().unwrap();
    let all = receiver.join().unwrap();
    assert_eq!(copied, bytes.len() as u64);
    assert_eq!(counter.load(Ordering::Relaxed), copied + 5);
    assert!(
        all == bytes,
        "{} of {} bytes arrived",
        all.len(),
        bytes.len()
    );
}

#[test]
fn copies_from_socket_to_socket() {
    let (from, input) = socket();
    let (to, output) = socket();
    assert_copies_all(input, from, to, output);
}

#[test]
fn copies_from_tcp_to_tcp() {
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
    assert_copies_all(input, from, to, output);
}

#[test]
fn copies_between_pipe_and_socket() {
    let (read, input) = io::pipe().unwrap();
    let from = Connection::from_halves(Some(read.into()), None).unwrap();
    let (to, output) = socket();
    assert_copies_all(input, from, to, output);

    let (from, input) = socket();
    let (output, write) = io::pipe().unwrap();
    let to = Connection::from_halves(None, Some(write.into())).unwrap();
    assert_copies_all(input, from, to, output);
}

#[test]
fn copies_where_splice_is_not_supported() {
    // Linux does not splice into a file opened for appending.
    let (mut input, read) = {
        let (read, write) = io::pipe().unwrap();
        (write, read)
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("appended");
    let file = fs::File::options().create(true).append(true).open(&path);
    let from = Connection::from_halves(Some(read.into()), None).unwrap();
    let to = Connection::from_halves(None, Some(file.unwrap().into())).unwrap();
    let bytes = noise(5 << 20);
    let sent = bytes.clone();
    let sender = thread::spawn(move || input.write_all(&sent).unwrap());
    let (mut reader, mut writer) = (from.reader, to.writer);
    let counter = AtomicU64::new(0);
    let copied = splice_all(&mut reader, &mut writer, &cancel(), &counter).unwrap();
    sender.join().unwrap();
    assert_eq!(copied, bytes.len() as u64);
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn directions_end_independently() {
    let (from, source) = socket();
    let (to, destination) = socket();
    let (mut from_reader, mut from_writer, _from_handle) = from.split();
    let (mut to_reader, mut to_writer, _to_handle) = to.split();
    let stop = cancel();
    let to_destination = thread::spawn({
        let stop = stop.clone();
        move || {
            let count = splice_all(&mut from_reader, &mut to_writer, &stop, &AtomicU64::new(0));
            to_writer.finish().unwrap();
            count.unwrap()
        }
    });
    let to_source = thread::spawn(move || {
        let count = splice_all(&mut to_reader, &mut from_writer, &stop, &AtomicU64::new(0));
        from_writer.finish().unwrap();
        count.unwrap()
    });
    (&source).write_all(b"stream").unwrap();
    source.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    (&destination).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"stream");
    // One direction has ended, the other is still open.
    (&destination).write_all(b"answer").unwrap();
    drop(destination);
    let mut all = Vec::new();
    (&source).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"answer");
    assert_eq!(
        (to_destination.join().unwrap(), to_source.join().unwrap()),
        (6, 6)
    );
}
