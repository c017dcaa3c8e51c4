//! [`start`]: copies between an encrypted connection and its plain side, a socket pair.
//!
//! One thread serves both directions, because both change the state of TLS. It reads from a side
//! only after it has passed on all earlier bytes of that side, so a slow reader slows its sender
//! down. When one side ends its output, the thread half-closes the other side after all earlier
//! bytes.
//!
//! QEMU before 9.2 closes without the `close_notify` of TLS, so a close without it is no error. The
//! migration stream itself shows whether it is complete.

use std::io::{self, BufRead as _, IoSlice, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::error::Error;
use crate::io::cancel::{CancelToken, wait};
use crate::io::connection::{Connection, Reader, Writer};

/// Size of the buffer of each direction in bytes.
const BUFFER_LEN: usize = 256 << 10;

/// Starts the copy after the handshake. Returns the plain side.
///
/// # Errors
/// Returns an error if no socket pair or thread can be created.
pub(super) fn start(
    mut tls: rustls::Connection,
    encrypted: Connection,
) -> Result<Connection, Error> {
    let to_error = |error| Error::io("cannot begin to copy the plain bytes of TLS", error);
    // `BUFFER_LEN` limits the bytes that TLS holds.
    tls.set_buffer_limit(None);
    let (near, far) = UnixStream::pair().map_err(to_error)?;
    let plain = Connection::from_socket(near.into()).map_err(to_error)?;
    let session_side = Connection::from_socket(far.into()).map_err(to_error)?;
    let cancel = CancelToken::new().map_err(to_error)?;
    let pump = Pump {
        tls,
        encrypted,
        plain,
        cancel,
        decrypted: Vec::with_capacity(2 * BUFFER_LEN),
        delivered_len: 0,
        encrypted_input_open: true,
        plain_input_open: true,
        is_encrypted_output_open: true,
    };
    thread::Builder::new()
        .name("tls".to_owned())
        .spawn(move || pump.run())
        .map_err(to_error)?;
    Ok(session_side)
}

struct Pump {
    tls: rustls::Connection,
    encrypted: Connection,
    plain: Connection,
    cancel: CancelToken,
    /// Plain bytes; empty once the plain side has taken all of them.
    decrypted: Vec<u8>,
    /// Number of these bytes that the plain side has taken.
    delivered_len: usize,
    encrypted_input_open: bool,
    plain_input_open: bool,
    is_encrypted_output_open: bool,
}

impl Pump {
    /// Copies until both directions have ended.
    fn run(mut self) {
        // TLS may already hold decrypted bytes that followed the handshake.
        let result = self.decrypt(&[]).and_then(|()| self.copy());
        if result.is_err() {
            // A failure of one side ends both connections, so that both peers notice it.
            self.tls.send_close_notify();
            let _ = self.send_records();
            self.encrypted.shutdown_handle.shutdown();
            self.plain.shutdown_handle.shutdown();
        }
    }

    fn copy(&mut self) -> Result<(), Error> {
        let mut plain_bytes = vec![0; BUFFER_LEN];
        let mut encrypted_bytes = vec![0; BUFFER_LEN];
        loop {
            self.send_records()?;
            self.deliver();
            if self.decrypted.is_empty()
                && self.encrypted_input_open
                && let Some(count) = read_available(
                    &mut self.encrypted.reader,
                    &mut encrypted_bytes,
                    &self.cancel,
                )?
            {
                if count == 0 {
                    self.encrypted_input_open = false;
                } else {
                    self.decrypt(&encrypted_bytes[..count])?;
                }
                self.deliver();
            }
            if !self.encrypted_input_open && self.decrypted.is_empty() {
                // A second call changes nothing.
                let _ = self.plain.writer.finish();
            }
            if self.plain_input_open
                && !self.tls.wants_write()
                && let Some(count) =
                    read_available(&mut self.plain.reader, &mut plain_bytes, &self.cancel)?
            {
                if count == 0 {
                    self.plain_input_open = false;
                    self.tls.send_close_notify();
                } else {
                    self.encrypt(&plain_bytes[..count])?;
                }
            }
            self.send_records()?;
            if !self.plain_input_open && self.is_encrypted_output_open && !self.tls.wants_write() {
                self.is_encrypted_output_open = false;
                self.encrypted.writer.finish()?;
            }
            if !self.encrypted_input_open
                && self.decrypted.is_empty()
                && !self.is_encrypted_output_open
            {
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Waits until one side can continue.
    fn wait(&self) -> Result<(), Error> {
        let mut files = Vec::with_capacity(4);
        let (encrypted, plain) = (&self.encrypted, &self.plain);
        if self.encrypted_input_open
            && self.decrypted.is_empty()
            && let Some(file) = encrypted.reader.source()
        {
            files.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
        }
        if self.tls.wants_write() {
            let (file, _) = encrypted.writer.sink()?;
            files.push(PollFd::from_borrowed_fd(file, PollFlags::OUT));
        } else if self.plain_input_open
            && let Some(file) = plain.reader.source()
        {
            files.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
        }
        if !self.decrypted.is_empty() {
            let (file, _) = plain.writer.sink()?;
            files.push(PollFd::from_borrowed_fd(file, PollFlags::OUT));
        }
        wait(&files, None, &[&self.cancel]).map(drop)
    }

    /// Sends as many encrypted records as the peer takes now.
    fn send_records(&mut self) -> Result<(), Error> {
        let mut sink = Available(&mut self.encrypted.writer);
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut sink) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Error::io("TLS failed", error)),
            }
        }
        Ok(())
    }

    /// Sends as many plain bytes as the plain side takes now.
    ///
    /// A failed write means that the session has closed its side, perhaps after a last message to
    /// the peer. Only the other direction continues.
    fn deliver(&mut self) {
        while self.delivered_len < self.decrypted.len() {
            let rest = &self.decrypted[self.delivered_len..];
            match self.plain.writer.try_write(rest) {
                Ok(0) => return,
                Ok(count) => self.delivered_len += count,
                Err(_) => {
                    self.encrypted_input_open = false;
                    self.delivered_len = self.decrypted.len();
                }
            }
        }
        self.decrypted.clear();
        self.delivered_len = 0;
    }

    /// Decrypts received bytes.
    fn decrypt(&mut self, mut received: &[u8]) -> Result<(), Error> {
        loop {
            if !received.is_empty() {
                self.tls
                    .read_tls(&mut received)
                    .map_err(|error| Error::io("TLS failed", error))?;
                self.tls.process_new_packets().map_err(Error::tls)?;
            }
            let mut reader = self.tls.reader();
            loop {
                let chunk = match reader.fill_buf() {
                    Ok(chunk) => chunk,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Error::io("TLS failed", error)),
                };
                if chunk.is_empty() {
                    // The peer has sent `close_notify`.
                    self.encrypted_input_open = false;
                    break;
                }
                self.decrypted.extend_from_slice(chunk);
                let count = chunk.len();
                reader.consume(count);
            }
            if received.is_empty() || !self.encrypted_input_open {
                return Ok(());
            }
        }
    }

    /// Encrypts plain bytes. TLS takes all of them, because it holds no others.
    fn encrypt(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.tls
            .writer()
            .write_all(bytes)
            .map_err(|error| Error::io("TLS failed", error))
    }
}

/// Reads bytes that have arrived; returns `None` if none have.
fn read_available(
    reader: &mut Reader,
    buffer: &mut [u8],
    cancel: &CancelToken,
) -> Result<Option<usize>, Error> {
    reader.read_with_deadline(buffer, Instant::now(), cancel)
}

/// Writer that never waits.
struct Available<'w>(&'w mut Writer);

impl Write for Available<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.try_write(bytes).map_err(Error::into_io)? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let (sink, is_socket) = self.0.sink().map_err(Error::into_io)?;
        if !is_socket {
            return self.write(records.first().map_or(&[], |record| record));
        }
        let mut control = SendAncillaryBuffer::default();
        Ok(sendmsg(sink, records, &mut control, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
