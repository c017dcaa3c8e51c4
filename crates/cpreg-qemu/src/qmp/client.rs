//! [`Qmp`]: one connection: its greeting, commands, replies and events.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Map, Value, json};

use super::version::Version;
use super::wait_options::WaitOptions;
use crate::error::{Error, ErrorKind};

/// The longest line accepted from QEMU, in bytes. `query-qmp-schema`, the longest reply there is, takes about 300 KiB.
const LINE_LIMIT: usize = 16 << 20;

/// How many events are kept for [`Qmp::take_events`]; older ones are dropped first.
const EVENT_LIMIT: usize = 1024;

/// How long one wait on the socket lasts before the deadline and the interrupt flag are looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Something QEMU tells without being asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name (`RESUME`, `STOP`, `SHUTDOWN`).
    pub name: String,
    /// What comes with it; `null` if nothing does.
    pub data: Value,
}

/// One QMP connection, past its negotiation.
#[derive(Debug)]
pub struct Qmp {
    socket: UnixStream,
    /// Bytes received and not yet used; always less than a line and what came with it.
    receive_buffer: Vec<u8>,
    /// How many of `received` are known to hold no line end.
    scanned_len: usize,
    events: VecDeque<Event>,
    version: Version,
    capabilities: Vec<String>,
    last_id: u64,
}

impl Qmp {
    /// Connects to the monitor that listens at a Unix socket; [`Self::handshake`] comes next.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] if nobody listens there, or it may not be used.
    pub fn connect_socket(path: &Path) -> Result<UnixStream, Error> {
        UnixStream::connect(path).map_err(Error::connect)
    }

    /// Takes over a fresh connection: reads the greeting and negotiates.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the other side does not greet as QEMU does, and those of
    /// [`Self::execute`].
    pub fn handshake(socket: UnixStream, patience: &WaitOptions<'_>) -> Result<Self, Error> {
        socket
            .set_read_timeout(Some(POLL_INTERVAL))
            .and_then(|()| socket.set_write_timeout(Some(patience.timeout.max(POLL_INTERVAL))))
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
        let deadline = Instant::now() + patience.timeout;
        let message = qmp.next_message(deadline, patience)?;
        let greeting = message.get("QMP").ok_or_else(|| {
            protocol_error(format!("expected a greeting, got {}", abbreviate(&message)))
        })?;
        qmp.version = greeting
            .get("version")
            .and_then(Version::from_json)
            .ok_or_else(|| {
                protocol_error(format!(
                    "a greeting without version: {}",
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
        qmp.execute("qmp_capabilities", json!({}), patience)?;
        Ok(qmp)
    }

    /// The version from the greeting.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The protocol capabilities that QEMU offered (`oob`); none is ever switched on.
    pub fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// Carries out one command and gives what its reply has under `return`.
    ///
    /// `arguments` is an object; an empty one is left out of what is sent. Events that come in between are kept.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with QEMU's words if it says no; the other kinds if the conversation
    /// itself fails, after which the connection is of no further use.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        patience: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.execute_with(command, arguments, None, patience)
    }

    /// Like [`Self::execute`], and hands QEMU a descriptor with the command (`add-fd`, `getfd`).
    ///
    /// # Errors
    /// Those of [`Self::execute`].
    pub fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        patience: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.exchange(command, arguments, descriptor, patience)
            .map_err(|error| error.with_command(command))
    }

    fn exchange(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        patience: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.last_id += 1;
        let id = self.last_id;
        let mut request = Map::new();
        request.insert("execute".to_owned(), command.into());
        if arguments
            .as_object()
            .is_some_and(|object| !object.is_empty())
        {
            request.insert("arguments".to_owned(), arguments);
        }
        request.insert("id".to_owned(), id.into());
        let mut line = Value::Object(request).to_string();
        line.push('\n');
        self.send(line.as_bytes(), descriptor)
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => closed_error(),
                _ => io_error(error),
            })?;
        let deadline = Instant::now() + patience.timeout;
        loop {
            let mut message = self.next_message(deadline, patience)?;
            if self.buffer_event(&message) {
                continue;
            }
            // An error about a line that is no JSON has no id; nothing else is outstanding, so it is ours.
            let answers = message.get("id").is_none_or(|got| *got == json!(id));
            if !answers {
                return Err(protocol_error(format!(
                    "expected the reply with id {id}, got {}",
                    abbreviate(&message)
                )));
            }
            if let Some(error) = message.get("error") {
                let text = |name| {
                    let text = error.get(name).and_then(Value::as_str);
                    text.unwrap_or_default().to_owned()
                };
                return Err(Error::for_qmp(ErrorKind::Refused {
                    class: text("class"),
                    description: text("desc"),
                }));
            }
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            return Err(protocol_error(format!(
                "neither reply nor event: {}",
                abbreviate(&message)
            )));
        }
    }

    /// Sends a line; a descriptor goes with its first byte (`SCM_RIGHTS`, unix(7)).
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
                // Rust has SIGPIPE ignored.
                let flags = SendFlags::empty();
                rustix::net::sendmsg(&self.socket, &[IoSlice::new(line)], &mut control, flags)?
            }
        };
        self.socket.write_all(&line[sent..])
    }

    /// Waits until an event with one of these names has come, and takes it; events that came before it stay.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if none comes in time, and whatever ends the connection meanwhile.
    pub fn wait_for_event(
        &mut self,
        names: &[&str],
        patience: &WaitOptions<'_>,
    ) -> Result<Event, Error> {
        let deadline = Instant::now() + patience.timeout;
        let wanted = |event: &Event| names.contains(&event.name.as_str());
        loop {
            if let Some(position) = self.events.iter().position(wanted) {
                // The position was just found, so there is something to remove.
                if let Some(event) = self.events.remove(position) {
                    return Ok(event);
                }
            }
            let message = self.next_message(deadline, patience)?;
            if !self.buffer_event(&message) {
                let what = format!("a reply nobody asked for: {}", abbreviate(&message));
                return Err(protocol_error(what));
            }
        }
    }

    /// The events that came since the last call, oldest first.
    ///
    /// Events arrive only while a reply or an event is being waited for. More than a thousand of them unread, and the oldest are gone.
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
        patience: &WaitOptions<'_>,
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
            if patience.is_interrupted() {
                return Err(Error::for_qmp(ErrorKind::Interrupted));
            }
            if Instant::now() >= deadline {
                return Err(Error::for_qmp(ErrorKind::TimedOut(patience.timeout)));
            }
        }
    }

    /// Takes the next whole line, without its end, from what was received.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let found = self.receive_buffer[self.scanned_len..]
            .iter()
            .position(|&byte| byte == b'\n');
        let Some(offset) = found else {
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

/// What came is not QMP.
fn protocol_error(what: String) -> Error {
    Error::for_qmp(ErrorKind::Protocol(what))
}

/// The socket failed.
fn io_error(error: io::Error) -> Error {
    Error::for_qmp(ErrorKind::Io("")).with_source(error)
}

/// The start of a message, for an error text.
fn abbreviate(message: &Value) -> String {
    message.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::sync::atomic::AtomicBool;
    use std::thread;

    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 13, \"minor\": 0, \"major\": 10}, \
         \"package\": \"Debian 1:10.0.13+ds-0+deb13u1\"}, \"capabilities\": [\"oob\"]}}\r\n";

    fn patience() -> WaitOptions<'static> {
        WaitOptions::with_timeout(Duration::from_secs(10))
    }

    /// Plays QEMU: greets, answers the negotiation, then each request with the next of `answers`.
    fn play(answers: &'static [&'static str]) -> (UnixStream, thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let player = thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            let mut lines = BufReader::new(theirs).lines();
            writer.write_all(GREETING.as_bytes()).unwrap();
            let mut requests = vec![lines.next().unwrap().unwrap()];
            writer
                .write_all(b"{\"return\": {}, \"id\": 1}\r\n")
                .unwrap();
            for answer in answers {
                requests.push(lines.next().unwrap().unwrap());
                // One byte at a time: a line may arrive in any pieces.
                for byte in answer.as_bytes() {
                    writer.write_all(&[*byte]).unwrap();
                }
            }
            requests
        });
        (ours, player)
    }

    #[test]
    fn commands_replies_and_events_in_between() {
        let (socket, player) = play(&[
            "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n{\"return\": {\"status\": \"prelaunch\"}, \"id\": 2}\r\n",
            "{\"id\": 3, \"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n",
        ]);
        let mut qmp = Qmp::handshake(socket, &patience()).unwrap();
        assert_eq!(
            qmp.version().to_string(),
            "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)"
        );
        assert_eq!(qmp.capabilities(), ["oob"]);
        let status = qmp.execute("query-status", json!({}), &patience()).unwrap();
        assert_eq!(status, json!({"status": "prelaunch"}));
        let error = qmp
            .execute("migrate", json!({"uri": "unix:/x"}), &patience())
            .unwrap_err();
        assert_eq!(error.to_string(), "QMP `migrate`: QEMU says: no such thing");
        let events = qmp.take_events();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].name, "STOP");
        assert_eq!(events[0].data, Value::Null);
        let requests: Vec<Value> = player
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
    fn an_event_is_waited_for_and_others_stay() {
        let (socket, player) = play(&[
            "{\"event\": \"A\"}\n{\"return\": {}, \"id\": 2}\n{\"event\": \"B\", \"data\": 7}\n",
        ]);
        let mut qmp = Qmp::handshake(socket, &patience()).unwrap();
        qmp.execute("stop", json!({}), &patience()).unwrap();
        let event = qmp.wait_for_event(&["B", "C"], &patience()).unwrap();
        assert_eq!((event.name.as_str(), event.data), ("B", json!(7)));
        assert_eq!(qmp.take_events()[0].name, "A");
        player.join().unwrap();
    }

    #[test]
    fn silence_ends_in_time() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(10);
        let error = Qmp::handshake(socket, &WaitOptions::with_timeout(limit)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(of) if *of == limit));
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let flag = AtomicBool::new(true);
        let patience = WaitOptions {
            timeout: Duration::from_secs(600),
            interrupted: Some(&flag),
        };
        let error = Qmp::handshake(socket, &patience).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Interrupted));
    }

    #[test]
    fn what_is_not_qmp_is_named() {
        for (said, expected) in [
            ("SSH-2.0-OpenSSH\r\n", "QMP: not QMP: expected value"),
            (
                "{\"hello\": 1}\n",
                "QMP: not QMP: expected a greeting, got {\"hello\":1}",
            ),
            (
                "{\"QMP\": {\"version\": {}}}\n",
                "QMP: not QMP: a greeting without version",
            ),
            ("", "QMP: QEMU closed the connection"),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(said.as_bytes()).unwrap();
            drop(theirs);
            let error = Qmp::handshake(ours, &patience()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
