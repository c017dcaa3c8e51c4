//! [`Qmp`]: one connection with its greeting, commands, replies and events.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};

use super::message::{self, abbreviate, protocol_error};
use super::version::Version;
use super::wait_options::WaitOptions;
use crate::error::{Error, ErrorKind};

/// Maximum length in bytes of a line from QEMU.
///
/// The longest reply, that of `query-qmp-schema`, has about 300 KiB.
const LINE_LIMIT: usize = 16 << 20;

/// Maximum number of events kept for [`Qmp::take_events`]; the oldest are dropped first.
const EVENT_LIMIT: usize = 1024;

/// Interval between two checks of the deadline and the interrupt flag.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Event that QEMU sends.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// Name of the event (`RESUME`, `STOP`, `SHUTDOWN`).
    pub name: String,
    /// Data of the event; `null` if the event has none.
    pub data: Value,
}

/// QMP connection after its negotiation.
#[derive(Debug)]
pub struct Qmp {
    socket: UnixStream,
    /// Received bytes not yet consumed: an incomplete line, or lines from the last read.
    receive_buffer: Vec<u8>,
    /// Number of bytes of `receive_buffer` that are known to contain no line end.
    scanned_len: usize,
    events: VecDeque<Event>,
    version: Version,
    capabilities: Vec<String>,
    last_id: u64,
}

impl Qmp {
    /// Connects to the monitor at a Unix socket; [`Self::handshake`] must follow.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] if no process listens or access is denied.
    pub fn connect_socket(path: &Path) -> Result<UnixStream, Error> {
        UnixStream::connect(path).map_err(Error::connect)
    }

    /// Reads the greeting on a new connection and negotiates the capabilities.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the greeting is not QEMU's, and the errors of [`Self::execute`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use std::time::Duration;
    ///
    /// use cpreg_qemu::qmp::{Qmp, WaitOptions};
    /// use serde_json::json;
    ///
    /// # fn main() -> Result<(), cpreg_qemu::Error> {
    /// let options = WaitOptions::with_timeout(Duration::from_secs(10));
    /// let socket = Qmp::connect_socket(Path::new("/run/vm/qmp.sock"))?;
    /// let mut qmp = Qmp::handshake(socket, &options)?;
    /// let status = qmp.execute("query-status", json!({}), &options)?;
    /// println!("QEMU {}: {}", qmp.version().number(), status["status"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn handshake(socket: UnixStream, options: &WaitOptions<'_>) -> Result<Self, Error> {
        socket
            .set_read_timeout(Some(POLL_INTERVAL))
            .and_then(|()| socket.set_write_timeout(Some(options.timeout.max(POLL_INTERVAL))))
            .map_err(io_error)?;
        let mut qmp = Self {
            socket,
            receive_buffer: Vec::new(),
            scanned_len: 0,
            events: VecDeque::new(),
            version: Version {
                major: 0,
                minor: 0,
                micro: 0,
                package: String::new(),
            },
            capabilities: Vec::new(),
            last_id: 0,
        };
        let deadline = Instant::now() + options.timeout;
        let message = qmp.next_message(deadline, options)?;
        let greeting = message.get("QMP").ok_or_else(|| {
            protocol_error(format!("expected a greeting, got {}", abbreviate(&message)))
        })?;
        qmp.version = greeting
            .get("version")
            .and_then(Version::from_json)
            .ok_or_else(|| {
                protocol_error(format!(
                    "the greeting has no version: {}",
                    abbreviate(&message)
                ))
            })?;
        qmp.capabilities = greeting
            .get("capabilities")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|capability| capability.as_str().map(str::to_owned))
            .collect();
        qmp.execute("qmp_capabilities", json!({}), options)?;
        Ok(qmp)
    }

    /// Returns the version of QEMU, from the greeting.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Returns the protocol capabilities that QEMU offered (`oob`); cpreg enables none.
    pub fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// Executes one command and returns the `return` member of its reply.
    ///
    /// `arguments` is an object; an empty one is not sent. Events that precede the reply are
    /// buffered.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with QEMU's description if QEMU refuses the command. After an error
    /// of any other kind, the connection is unusable.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.execute_with(command, arguments, None, options)
    }

    /// Executes one command like [`Self::execute`] and passes a descriptor (`add-fd`, `getfd`).
    ///
    /// # Errors
    /// Those of [`Self::execute`].
    pub fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.exchange(command, arguments, descriptor, options)
            .map_err(|error| error.with_command(command))
    }

    fn exchange(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.last_id += 1;
        let id = self.last_id;
        let mut line = message::encode_command(command, arguments, Some(id));
        line.push('\n');
        self.send(line.as_bytes(), descriptor)
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => closed_error(),
                _ => io_error(error),
            })?;
        let deadline = Instant::now() + options.timeout;
        loop {
            let message = self.next_message(deadline, options)?;
            if self.buffer_event(&message) {
                continue;
            }
            // QEMU's error about a line that is not JSON has no id. The error belongs to this
            // command, because no other command is outstanding.
            let is_reply = message
                .get("id")
                .is_none_or(|reply_id| *reply_id == json!(id));
            if !is_reply {
                return Err(protocol_error(format!(
                    "expected the reply with id {id}, got {}",
                    abbreviate(&message)
                )));
            }
            return message::parse_reply(message);
        }
    }

    /// Sends a line, with an optional descriptor at its first byte (`SCM_RIGHTS`, unix(7)).
    fn send(&mut self, line: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let sent = match descriptor {
            None => 0,
            Some(descriptor) => {
                let descriptors = [descriptor];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                    return Err(io::Error::other("no room for a descriptor"));
                }
                // Rust's runtime ignores SIGPIPE.
                let flags = SendFlags::empty();
                rustix::net::sendmsg(&self.socket, &[IoSlice::new(line)], &mut control, flags)?
            }
        };
        self.socket.write_all(&line[sent..])
    }

    /// Waits for an event with one of these names and removes it; earlier events stay buffered.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if no such event arrives in time, and any error that ends the
    /// connection.
    pub fn wait_for_event(
        &mut self,
        names: &[&str],
        options: &WaitOptions<'_>,
    ) -> Result<Event, Error> {
        let deadline = Instant::now() + options.timeout;
        let is_wanted = |event: &Event| names.contains(&event.name.as_str());
        loop {
            if let Some(position) = self.events.iter().position(is_wanted) {
                // `position` is valid, because nothing was removed since it was determined.
                if let Some(event) = self.events.remove(position) {
                    return Ok(event);
                }
            }
            let message = self.next_message(deadline, options)?;
            if !self.buffer_event(&message) {
                let description = format!("unexpected reply: {}", abbreviate(&message));
                return Err(protocol_error(description));
            }
        }
    }

    /// Returns the events received since the last call, oldest first.
    ///
    /// The connection receives events only while it waits for a reply or an event. It drops the
    /// oldest events if there are more than 1024.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    fn buffer_event(&mut self, message: &Value) -> bool {
        let Some(name) = message.get("event").and_then(Value::as_str) else {
            return false;
        };
        if self.events.len() == EVENT_LIMIT {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            name: name.to_owned(),
            data: message.get("data").cloned().unwrap_or(Value::Null),
        });
        true
    }

    fn next_message(
        &mut self,
        deadline: Instant,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        loop {
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return serde_json::from_slice(&line).map_err(|error| {
                    protocol_error(format!(
                        "{error}: {:?}",
                        String::from_utf8_lossy(&line[..line.len().min(120)])
                    ))
                });
            }
            if self.receive_buffer.len() > LINE_LIMIT {
                return Err(protocol_error(format!(
                    "a line of more than {LINE_LIMIT} bytes"
                )));
            }
            let mut chunk = [0; 16 << 10];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(closed_error()),
                Ok(length) => self.receive_buffer.extend_from_slice(&chunk[..length]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Err(closed_error()),
                    _ => return Err(io_error(error)),
                },
            }
            if options.is_interrupted() {
                return Err(Error::for_qmp(ErrorKind::Interrupted));
            }
            if Instant::now() >= deadline {
                return Err(Error::for_qmp(ErrorKind::TimedOut(options.timeout)));
            }
        }
    }

    /// Removes the next complete line from the buffer, and returns the line without its line end.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let line_end = self.receive_buffer[self.scanned_len..]
            .iter()
            .position(|&byte| byte == b'\n');
        let Some(offset) = line_end else {
            self.scanned_len = self.receive_buffer.len();
            return None;
        };
        let end = self.scanned_len + offset;
        let rest = self.receive_buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.receive_buffer, rest);
        line.truncate(end);
        self.scanned_len = 0;
        Some(line)
    }
}

fn closed_error() -> Error {
    Error::for_qmp(ErrorKind::Closed)
}

/// Returns the error of a failed socket. The operation is empty, because the message is `error`'s.
fn io_error(error: io::Error) -> Error {
    Error::for_qmp(ErrorKind::Io("")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 13, \"minor\": 0, \"major\": 10}, \
         \"package\": \"Debian 1:10.0.13+ds-0+deb13u1\"}, \"capabilities\": [\"oob\"]}}\r\n";

    fn wait_options() -> WaitOptions<'static> {
        WaitOptions::with_timeout(Duration::from_secs(10))
    }

    /// Simulates QEMU: greets, negotiates, and answers each request with the next of `replies`.
    fn fake_qemu(
        replies: &'static [&'static str],
    ) -> (UnixStream, thread::JoinHandle<Vec<String>>) {
        let (client, server) = UnixStream::pair().unwrap();
        let server_thread = thread::spawn(move || {
            let mut writer = server.try_clone().unwrap();
            let mut lines = BufReader::new(server).lines();
            writer.write_all(GREETING.as_bytes()).unwrap();
            let mut requests = vec![lines.next().unwrap().unwrap()];
            writer
                .write_all(b"{\"return\": {}, \"id\": 1}\r\n")
                .unwrap();
            for reply in replies {
                requests.push(lines.next().unwrap().unwrap());
                // One byte at a time: a line may arrive in any pieces.
                for byte in reply.as_bytes() {
                    writer.write_all(&[*byte]).unwrap();
                }
            }
            requests
        });
        (client, server_thread)
    }

    #[test]
    fn commands_replies_and_events_in_between() {
        let (socket, server_thread) = fake_qemu(&[
            "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n{\"return\": {\"status\": \"prelaunch\"}, \"id\": 2}\r\n",
            "{\"id\": 3, \"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n",
        ]);
        let mut qmp = Qmp::handshake(socket, &wait_options()).unwrap();
        assert_eq!(
            qmp.version().to_string(),
            "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)"
        );
        assert_eq!(qmp.capabilities(), ["oob"]);
        let status = qmp
            .execute("query-status", json!({}), &wait_options())
            .unwrap();
        assert_eq!(status, json!({"status": "prelaunch"}));
        let error = qmp
            .execute("migrate", json!({"uri": "unix:/x"}), &wait_options())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "QMP `migrate`: QEMU refused it: no such thing"
        );
        let events = qmp.take_events();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].name, "STOP");
        assert_eq!(events[0].data, Value::Null);
        let requests: Vec<Value> = server_thread
            .join()
            .unwrap()
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(requests[1], json!({"execute": "query-status", "id": 2}));
        assert_eq!(
            requests[2],
            json!({"execute": "migrate", "arguments": {"uri": "unix:/x"}, "id": 3})
        );
    }

    #[test]
    fn other_events_stay_buffered() {
        let (socket, server_thread) = fake_qemu(&[
            "{\"event\": \"A\"}\n{\"return\": {}, \"id\": 2}\n{\"event\": \"B\", \"data\": 7}\n",
        ]);
        let mut qmp = Qmp::handshake(socket, &wait_options()).unwrap();
        qmp.execute("stop", json!({}), &wait_options()).unwrap();
        let event = qmp.wait_for_event(&["B", "C"], &wait_options()).unwrap();
        assert_eq!((event.name.as_str(), event.data), ("B", json!(7)));
        assert_eq!(qmp.take_events()[0].name, "A");
        server_thread.join().unwrap();
    }

    #[test]
    fn handshake_times_out() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(10);
        let error = Qmp::handshake(socket, &WaitOptions::with_timeout(limit)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(timeout) if *timeout == limit));
    }

    #[test]
    fn the_interrupt_flag_ends_the_wait() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let flag = AtomicBool::new(true);
        let options = WaitOptions {
            timeout: Duration::from_secs(600),
            interrupted: Some(&flag),
        };
        let error = Qmp::handshake(socket, &options).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Interrupted));
    }

    #[test]
    fn errors_describe_what_is_not_qmp() {
        for (greeting, expected) in [
            ("SSH-2.0-OpenSSH\r\n", "QMP: not QMP: expected value"),
            (
                "{\"hello\": 1}\n",
                "QMP: not QMP: expected a greeting, got {\"hello\":1}",
            ),
            (
                "{\"QMP\": {\"version\": {}}}\n",
                "QMP: not QMP: the greeting has no version",
            ),
            ("", "QMP: QEMU closed the connection"),
        ] {
            let (client, mut server) = UnixStream::pair().unwrap();
            server.write_all(greeting.as_bytes()).unwrap();
            drop(server);
            let error = Qmp::handshake(client, &wait_options())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
