//! Fake QEMUs on both sides of `cpreg relay`, and a reader of its log.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cpreg_report::relay::event::{self, RelayEvent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::unpack_stream;
use crate::run::{KVM_5_10, KVM_6_12, KVM_6_16, Run, TCG_7_2, command, streams};
use crate::schema;

/// Timeout far longer than anything takes here, even on a busy machine.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Message of a destination that has loaded a VM.
pub(crate) const SHUT_SUCCESS: &[u8] = b"\0\x01\0\x04\0\0\0\0";
/// Message to a source whose VM was refused.
pub(crate) const SHUT_ERROR: &[u8] = b"\0\x01\0\x04\0\0\0\x01";

/// Creates a folder with a VM of Linux 6.12, `vm`, one with a return path, `answered`, one of 6.16,
/// and streams of other hosts.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).expect("a file in it");
    };
    file("vm", &unpack_stream(KVM_6_12));
    file("answered", &with_return_path(&unpack_stream(KVM_6_12)));
    file("answered-6.16", &with_return_path(&unpack_stream(KVM_6_16)));
    for (stream, name) in [
        (KVM_6_16, "6.16.xz"),
        (KVM_6_12, "6.12.xz"),
        (KVM_5_10, "5.10.xz"),
        (TCG_7_2, "7.2.xz"),
    ] {
        fs::copy(streams().join(stream), folder.path().join(name)).expect("a copy");
    }
    folder
}

/// Adds the command OPEN_RETURN_PATH before the first section, as a source with the capability
/// `return-path` does.
pub(crate) fn with_return_path(stream: &[u8]) -> Vec<u8> {
    // The name of a section follows its type and id, five bytes, and the length of the name.
    let ram_name = stream.windows(4).position(|window| window == b"\x03ram");
    let section = ram_name.expect("a section of RAM") - 5;
    let (before, after) = stream.split_at(section);
    [before, b"\x08\0\x01\0\0", after].concat()
}

pub(crate) fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).expect("a file")
}

/// Parses a line of the log, and checks it against its schema.
fn parse_event(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).expect("a line is an object");
    assert_eq!(value["schema"], event::SCHEMA);
    assert_eq!(schema::validate(&value), Ok(()), "{line}");
    let model: RelayEvent = serde_json::from_str(line).expect("an event");
    assert_eq!(serde_json::to_value(model).expect("JSON"), value);
    value
}

/// Running `cpreg relay`.
pub(crate) struct RelayProcess {
    pub(crate) child: Child,
    arguments: Vec<String>,
    /// Socket of the destination's QEMU, `there`.
    server: UnixListener,
    lines: Receiver<String>,
    stderr_thread: JoinHandle<String>,
    /// Events logged so far.
    pub(crate) log: Vec<Value>,
    folder: std::path::PathBuf,
}

impl RelayProcess {
    /// Starts a relay from the socket `here` to the socket `there`, and waits until it listens.
    pub(crate) fn start(folder: &Path, options: &[&str]) -> Self {
        let arguments = ["--listen", "unix:here", "--connect", "unix:there"];
        Self::start_with(
            folder,
            &[&arguments, options].concat(),
            Stdio::null(),
            Stdio::piped(),
        )
    }

    pub(crate) fn start_with(
        folder: &Path,
        arguments: &[&str],
        stdin: Stdio,
        stdout: Stdio,
    ) -> Self {
        // Remove the socket of an earlier relay.
        let _ = fs::remove_file(folder.join("there"));
        let server = UnixListener::bind(folder.join("there")).expect("a socket");
        let arguments = [&["relay", "--log-format", "json"], arguments].concat();
        let mut started = command(folder, &arguments);
        if arguments.contains(&"fd:3") {
            // A shell passes a descriptor with that number.
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$0\" \"$@\" 3<&0 0</dev/null"]);
            shell.arg(started.get_program()).args(started.get_args());
            shell.current_dir(folder);
            started = shell;
        }
        let mut child = started
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, lines) = channel();
        let stderr_thread = thread::spawn(move || {
            let mut other_lines = String::new();
            for line in stderr.lines() {
                let line = line.expect("UTF-8");
                if line.starts_with('{') {
                    let _ = sender.send(line);
                } else {
                    other_lines.push_str(&line);
                    other_lines.push('\n');
                }
            }
            other_lines
        });
        let mut relay = Self {
            child,
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
            server,
            lines,
            stderr_thread,
            log: Vec::new(),
            folder: folder.to_owned(),
        };
        relay.wait_for("listening");
        relay
    }

    /// Reads the log up to an event of this name.
    pub(crate) fn wait_for(&mut self, event: &str) -> &Value {
        loop {
            let line = self.lines.recv_timeout(TEST_TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("{error}: no {event}: {:?}", self.log));
            let value = parse_event(&line);
            let is_expected = value["event"] == event;
            self.log.push(value);
            if is_expected {
                return &self.log[self.log.len() - 1];
            }
        }
    }

    /// Connects as the source's QEMU.
    pub(crate) fn source(&self) -> UnixStream {
        with_timeout(UnixStream::connect(self.folder.join("here")).expect("it listens"))
    }

    /// Accepts the next connection to the destination's QEMU.
    pub(crate) fn destination(&self) -> UnixStream {
        let mut descriptors = [PollFd::new(&self.server, PollFlags::IN)];
        let time = Timespec::try_from(TEST_TIMEOUT).expect("a time");
        let ready = poll(&mut descriptors, Some(&time)).expect("a poll");
        assert_eq!(ready, 1, "nobody connects");
        with_timeout(self.server.accept().expect("a connection").0)
    }

    /// Checks that the relay has not connected to the destination.
    pub(crate) fn assert_no_connection(&self) {
        self.server.set_nonblocking(true).expect("a mode");
        let connection = self.server.accept();
        self.server.set_nonblocking(false).expect("a mode");
        assert!(connection.is_err(), "somebody connected to the destination");
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it can be sent");
    }

    /// Waits for the exit. Returns the run, whose errors are the lines other than events, and the
    /// log.
    pub(crate) fn end(mut self) -> (Run, Vec<Value>) {
        let mut stdout = Vec::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut stdout).expect("a pipe");
        }
        loop {
            match self.lines.recv_timeout(TEST_TIMEOUT) {
                Ok(line) => self.log.push(parse_event(&line)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("it hangs: {:?}", self.log);
                }
            }
        }
        let output = Output {
            status: self.child.wait().expect("it ends"),
            stdout,
            stderr: self.stderr_thread.join().expect("a thread").into_bytes(),
        };
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        (Run::from_output(&arguments, &output), self.log)
    }
}

fn with_timeout(socket: UnixStream) -> UnixStream {
    socket
        .set_read_timeout(Some(TEST_TIMEOUT))
        .expect("a socket");
    socket
        .set_write_timeout(Some(TEST_TIMEOUT))
        .expect("a socket");
    socket
}

/// Sends a stream as a source that waits for a reply, and then closes. Returns the reply.
pub(crate) fn send(mut socket: UnixStream, stream: &[u8]) -> Vec<u8> {
    // The relay may close before everything is sent.
    let _ = socket.write_all(stream);
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        received.extend_from_slice(&buffer[..count]);
        if received.ends_with(SHUT_ERROR) {
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
    received
}

/// Sends a stream as a source that does not wait for a reply.
pub(crate) fn send_and_close(mut socket: UnixStream, stream: &[u8]) {
    let _ = socket.write_all(stream);
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read_to_end(&mut Vec::new());
}

/// Reads up to the end, and returns the received bytes.
pub(crate) fn load(mut socket: UnixStream) -> Vec<u8> {
    let mut arrived = Vec::new();
    let _ = socket.read_to_end(&mut arrived);
    arrived
}

/// Reads `length` bytes, confirms the load, and closes.
pub(crate) fn load_and_confirm(mut socket: UnixStream, length: usize) -> Vec<u8> {
    let mut arrived = vec![0; length];
    socket.read_exact(&mut arrived).expect("all of it arrives");
    socket.write_all(SHUT_SUCCESS).expect("the relay reads it");
    arrived
}
