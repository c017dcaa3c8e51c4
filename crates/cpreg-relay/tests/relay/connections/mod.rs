//! Connections of a relay: every kind of address, both directions, and every kind of end.

mod addresses;
mod ends;
mod splicing;

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use cpreg_relay::connect::connect;
use cpreg_relay::{Address, CancelToken, Connection, Listener};

/// Timeout far beyond the duration of any test, even on a busy machine.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

pub(crate) fn cancel() -> CancelToken {
    CancelToken::new().unwrap()
}

/// Returns bytes without a pattern that would hide a shift (xorshift64).
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
    let (near, far) = UnixStream::pair().unwrap();
    (Connection::from_socket(near.into()).unwrap(), far)
}

/// Returns the two ends of a connection through a listener: the accepting end and the connecting
/// end.
pub(crate) fn both_ends(listen: &str) -> (Connection, Connection) {
    let listener = Listener::bind(&address(listen)).unwrap();
    let connected = connect(listener.address(), TEST_TIMEOUT, &cancel()).unwrap();
    let accepted = listener.accept(&cancel()).unwrap().unwrap();
    (accepted, connected)
}

/// Exchanges a message in each direction. Each end sends its message, closes its direction, and
/// reads the other direction to the end.
pub(crate) fn exchange_bytes(one: Connection, other: Connection) {
    let spawn_end = |connection: Connection, message: &'static [u8]| {
        thread::spawn(move || {
            let cancel = cancel();
            let (mut reader, mut writer, _shutdown_handle) = connection.split();
            writer.write_all(message, &cancel).unwrap();
            writer.finish().unwrap();
            let late = writer.write_all(b"late", &cancel).unwrap_err();
            assert!(late.is_closed(), "{late}");
            let mut received = Vec::new();
            let mut buffer = [0; 3];
            loop {
                match reader.read(&mut buffer, &cancel).unwrap() {
                    0 => return received,
                    count => received.extend_from_slice(&buffer[..count]),
                }
            }
        })
    };
    let one = spawn_end(one, b"from one");
    let other = spawn_end(other, b"from the other");
    assert_eq!(one.join().unwrap(), b"from the other");
    assert_eq!(other.join().unwrap(), b"from one");
}
