//! Connections as a relay uses them: every kind of address, both directions, and ends of all kinds.

mod addresses;
mod ends;
mod splicing;

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use cpreg_relay::connect::connect;
use cpreg_relay::{Address, CancelToken, Connection, Listener};

/// Far longer than anything here takes, even on a machine that is busy.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

pub(crate) fn cancel() -> CancelToken {
    CancelToken::new().unwrap()
}

/// Bytes without a pattern that a shift would not show (xorshift64).
pub(crate) fn noise(count: usize) -> Vec<u8> {
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

pub(crate) fn socket() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::from_socket(ours.into()).unwrap(), theirs)
}

/// A connection through a listener at that address, and the end that called.
pub(crate) fn both_ends(listen: &str) -> (Connection, Connection) {
    let listener = Listener::bind(&address(listen)).unwrap();
    let called = connect(listener.address(), TEST_TIMEOUT, &cancel()).unwrap();
    let accepted = listener.accept(&cancel()).unwrap().unwrap();
    (accepted, called)
}

/// Each end says something, ends its own direction, and reads up to the end of the other.
pub(crate) fn exchange_bytes(one: Connection, other: Connection) {
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
