//! [`handshake`]: a TLS handshake with a deadline.

use std::io;
use std::ops::DerefMut;
use std::time::{Duration, Instant};

use rustls::{ConnectionCommon, SideData};

use crate::error::{Error, ErrorKind};
use crate::io::cancel::CancelToken;
use crate::io::connection::Connection;

/// Timeout for a handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Size of a read during the handshake in bytes.
const READ_LEN: usize = 4096;

/// Completes the handshake of a connection.
///
/// # Errors
/// Returns an error if the peer sends no valid handshake before the deadline, or refuses this side.
pub(super) fn handshake<S: SideData>(
    tls: &mut impl DerefMut<Target = ConnectionCommon<S>>,
    connection: &mut Connection,
    deadline: Instant,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let mut buffer = [0; READ_LEN];
    loop {
        flush(tls, connection, cancel)?;
        if !tls.is_handshaking() {
            return Ok(());
        }
        let read = &mut connection.reader;
        let count = match read.read_with_deadline(&mut buffer, deadline, cancel)? {
            None => return Err(failed("the peer does not complete the TLS handshake")),
            Some(0) => {
                return Err(failed(
                    "the peer closed the connection in the TLS handshake",
                ));
            }
            Some(count) => count,
        };
        let mut received = &buffer[..count];
        while !received.is_empty() {
            tls.read_tls(&mut received)
                .map_err(|error| Error::io("TLS failed", error))?;
            if let Err(error) = tls.process_new_packets() {
                // The peer learns the reason from the alert.
                let _ = flush(tls, connection, cancel);
                return Err(Error::tls(error));
            }
        }
    }
}

/// Sends everything that TLS has to send.
fn flush<S: SideData>(
    tls: &mut impl DerefMut<Target = ConnectionCommon<S>>,
    connection: &mut Connection,
    cancel: &CancelToken,
) -> Result<(), Error> {
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records)
            .map_err(|error| Error::io("TLS failed", error))?;
    }
    connection.writer.write_all(&records, cancel)
}

fn failed(reason: &'static str) -> Error {
    Error::new(ErrorKind::Connection, "TLS failed")
        .with_source(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
}
