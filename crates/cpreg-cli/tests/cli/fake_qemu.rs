//! Fake QEMU: a shell script that is started in place of QEMU, for which the test speaks QMP.
//!
//! This module starts the script, serves its monitor, writes device state to a descriptor that was
//! passed with `add-fd`, and checks that nothing is left at the end. The tests define how the fake
//! QEMU behaves.
//!
//! The script writes its process id and its monitor's address into a folder `started/PID`, and then
//! executes the lines written into a FIFO there. The script is a file in the repository, because a
//! file that was just written cannot be executed while another test's child has it open.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cpreg::vm::Vm;
use cpreg_stream::ReadAt;
use cpreg_stream::Stream;
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::{file_names, unpack_stream};
use crate::run::{Run, command};

/// Timeout for each wait of a test.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Properties of a fake QEMU, and its deviations from a real one.
pub(crate) struct FakeQemu {
    /// Version: major, minor, micro.
    pub(crate) version: [u32; 3],
    pub(crate) machine: String,
    pub(crate) kvm: bool,
    /// Run state before anything is loaded.
    pub(crate) status: &'static str,
    /// Output of `info ramblock`.
    pub(crate) ram: String,
    /// Output of `xen-save-devices-state` before anything is loaded.
    pub(crate) state: Vec<u8>,
    /// SVE vector lengths of the vCPUs, as in KVM_REG_ARM64_SVE_VLS; 0 without SVE.
    pub(crate) vector_lengths: u16,
    /// Behaviour of the monitor at its start.
    pub(crate) opening: Opening,
    /// Conversion of a received stream into the state that is saved afterwards.
    pub(crate) load: fn(&[u8]) -> Vec<u8>,
    /// Replacement of QEMU's reaction to a command. The flag is `true` after a stream has arrived.
    pub(crate) fault: fn(&str, bool) -> Option<Fault>,
}

/// Behaviour of the monitor at its start.
#[derive(Clone, Copy)]
pub(crate) enum Opening {
    Greeting,
    /// The monitor never connects.
    NoMonitor,
    /// The monitor connects and is silent.
    Silent,
    /// The monitor connects, sends this and closes.
    Bytes(&'static [u8]),
    /// The program executes this before its monitor exists.
    ShellCommand(&'static str),
}

/// Reaction in place of a reply.
pub(crate) enum Fault {
    Silence,
    /// Error with class and description.
    Refusal(&'static str, &'static str),
    Answer(Value),
    /// The program executes this, and may exit.
    ShellCommand(&'static str),
}

/// Returns device state as QEMU writes it: the header and the section of each device.
pub(crate) fn device_state(bytes: &[u8]) -> Vec<u8> {
    let stream = Stream::open(&bytes).expect("a stream");
    let mut state = b"QEVM\0\0\0\x03".to_vec();
    for section in stream.sections() {
        let [start, end] = [section.range.start, section.range.end]
            .map(|offset| usize::try_from(offset).expect("small"));
        state.extend(&bytes[start..end]);
    }
    state.push(0);
    state
}

/// Returns a stream with other registers.
pub(crate) fn edit_registers(bytes: &[u8], change: impl FnOnce(&mut Vm)) -> Vec<u8> {
    let stream = Stream::open(&bytes).expect("a stream");
    let mut vm = stream.vm().expect("a VM");
    change(&mut vm);
    let edits = stream.diff_to(&vm).expect("they fit");
    let edit = stream.edit(&bytes, &edits).expect("they fit");
    let edited = edit.apply_to(&bytes);
    let length = edited.length().expect("it is known");
    let mut changed = vec![0; usize::try_from(length).expect("small")];
    edited.read_exact_at(&mut changed, 0).expect("it is there");
    changed
}

impl FakeQemu {
    /// Returns a QEMU like the one that wrote this recorded stream, which keeps the state that it
    /// loads.
    pub(crate) fn from_stream(recorded: &str) -> Self {
        let bytes = unpack_stream(recorded);
        let stream = Stream::open(&bytes).expect("a stream");
        let mut ram = "              Block Name    PSize              Offset               Used              Total\r\n".to_owned();
        for block in stream.ram_blocks() {
            let (name, length) = (&block.name, block.length);
            let line = format!(
                "{name}  4 KiB  {0:#018x} {length:#018x} {length:#018x}\r\n",
                0
            );
            ram.push_str(&line);
        }
        Self {
            version: [10, 0, 2],
            machine: stream.machine().expect("it is named").to_owned(),
            kvm: recorded.starts_with("kvm/"),
            status: "inmigrate",
            ram,
            state: device_state(&bytes),
            vector_lengths: 0,
            opening: Opening::Greeting,
            load: device_state,
            fault: |_, _| None,
        }
    }

    /// Returns a QEMU that only starts.
    pub(crate) fn with_opening(opening: Opening) -> Self {
        Self {
            version: [10, 0, 2],
            machine: String::new(),
            kvm: false,
            status: "inmigrate",
            ram: String::new(),
            state: Vec::new(),
            vector_lengths: 0,
            opening,
            load: <[u8]>::to_vec,
            fault: |_, _| None,
        }
    }
}

/// Folder in which the command runs, with a program `qemu` and a folder for temporary files.
pub(crate) struct Workspace {
    folder: TempDir,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["started", "tmp"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/fake_qemu.sh");
        symlink(script, folder.path().join("qemu")).expect("a link");
        Self { folder }
    }

    /// Creates the folder with a recorded stream, decompressed, as `vm`.
    pub(crate) fn with_vm(recorded: &str) -> Self {
        let workspace = Self::new();
        workspace.put("vm", &unpack_stream(recorded));
        workspace
    }

    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("a file");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the command with this QEMU.
    pub(crate) fn run(&self, fake: FakeQemu, arguments: &[&str]) -> Run {
        self.start(fake, arguments).end()
    }

    /// Runs the command, and returns the arguments of each started program, one a line.
    pub(crate) fn run_with_command_lines(
        &self,
        fake: FakeQemu,
        arguments: &[&str],
    ) -> (Run, Vec<String>) {
        self.start(fake, arguments).finish_with_command_lines()
    }

    /// Starts the command with this QEMU.
    pub(crate) fn start(&self, fake: FakeQemu, arguments: &[&str]) -> RunningCommand<'_> {
        let before = file_names(self.folder.path());
        let server = Arc::new(FakeServer {
            fake,
            commands: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let started = self.path("started");
        let server_thread = {
            let server = Arc::clone(&server);
            thread::spawn(move || server.serve_programs(&started))
        };
        let child = command(self.folder.path(), arguments)
            .env("TMPDIR", self.path("tmp"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        RunningCommand {
            workspace: self,
            files_before: before,
            arguments: arguments.join(" "),
            child: child.expect("the command starts"),
            server,
            server_thread,
        }
    }

    /// Serves the monitor of a running QEMU at a socket of this name, while `run` runs the command.
    /// Returns the run and the received QMP commands.
    pub(crate) fn run_with_monitor(
        &self,
        name: &str,
        fake: FakeQemu,
        run: impl FnOnce() -> Run,
    ) -> (Run, Vec<String>) {
        let listener = UnixListener::bind(self.path(name)).expect("a socket");
        let server = FakeServer {
            fake,
            commands: Mutex::default(),
            is_over: AtomicBool::new(false),
        };
        let run = thread::scope(|scope| {
            scope.spawn(|| {
                let (socket, _) = listener.accept().expect("somebody connects");
                server.serve_monitor(socket, None);
            });
            run()
        });
        fs::remove_file(self.path(name)).expect("it is there");
        (run, server.commands.into_inner().expect("no panic"))
    }
}

/// Run of the command in progress.
pub(crate) struct RunningCommand<'a> {
    workspace: &'a Workspace,
    files_before: Vec<String>,
    arguments: String,
    child: Child,
    server: Arc<FakeServer>,
    server_thread: JoinHandle<()>,
}

impl RunningCommand<'_> {
    /// Waits until `count` programs have started.
    pub(crate) fn wait_for_programs(&mut self, count: usize) {
        let started = self.workspace.path("started");
        self.wait_for("a program's start", |_| file_names(&started).len() >= count);
    }

    /// Waits until a command was received `times` times.
    pub(crate) fn wait_for_command(&mut self, command: &str, times: usize) {
        self.wait_for(command, |server| {
            let received = server.commands.lock().expect("no panic");
            received.iter().filter(|name| *name == command).count() >= times
        });
    }

    fn wait_for(&mut self, event: &str, has_happened: impl Fn(&FakeServer) -> bool) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while !has_happened(&self.server) {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "it ended before {event}: {ended:?}");
            assert!(
                Instant::now() < deadline,
                "timeout while waiting for {event}"
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("it runs");
    }

    /// Waits until the command has exited, and checks that no program and no file is left.
    pub(crate) fn end(self) -> Run {
        self.finish_with_command_lines().0
    }

    /// Kills the command, and waits until no program is left.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        let status = self.child.wait().expect("a child");
        assert_eq!(status.code(), None, "it was killed");
        let started = self.workspace.path("started");
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while file_names(&started)
            .iter()
            .any(|id| Path::new("/proc").join(id).exists())
        {
            assert!(Instant::now() < deadline, "a program still runs");
            thread::sleep(POLL_INTERVAL);
        }
        self.server.is_over.store(true, Ordering::Relaxed);
        self.server_thread
            .join()
            .expect("the server does not panic");
    }

    fn finish_with_command_lines(self) -> (Run, Vec<String>) {
        let output = self.child.wait_with_output().expect("it ends");
        let run = Run::from_output(&[&self.arguments], &output);
        self.server.is_over.store(true, Ordering::Relaxed);
        self.server_thread
            .join()
            .expect("the server does not panic");
        let started = self.workspace.path("started");
        let mut programs = Vec::new();
        for id in file_names(&started) {
            let program = Path::new("/proc").join(&id);
            assert!(!program.exists(), "a program still runs\n{run}");
            let words = fs::read_to_string(started.join(&id).join("words"));
            programs.push(words.expect("it is there"));
            fs::remove_dir_all(started.join(id)).expect("it is there");
        }
        // A program that was killed while it started leaves its own folder `new.PID`.
        for name in file_names(self.workspace.folder.path()) {
            if let Some(id) = name.strip_prefix("new.") {
                let program = Path::new("/proc").join(id);
                assert!(!program.exists(), "a program still runs\n{run}");
                fs::remove_dir_all(self.workspace.path(&name)).expect("it is there");
            }
        }
        assert_eq!(
            file_names(self.workspace.folder.path()),
            self.files_before,
            "{run}"
        );
        assert_eq!(file_names(&self.workspace.path("tmp")), [""; 0], "{run}");
        (run, programs)
    }
}

/// State shared by all programs of one run.
struct FakeServer {
    fake: FakeQemu,
    /// Received commands, in order.
    commands: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl FakeServer {
    /// Serves every started program until the run is over.
    fn serve_programs(&self, started: &Path) {
        let mut known = Vec::new();
        thread::scope(|scope| {
            while !self.is_over.load(Ordering::Relaxed) {
                for name in file_names(started) {
                    if !known.contains(&name) {
                        let program = started.join(&name);
                        scope.spawn(move || self.serve_program(&program));
                        known.push(name);
                    }
                }
                thread::sleep(POLL_INTERVAL);
            }
        });
    }

    /// Serves a started program.
    fn serve_program(&self, program: &Path) {
        let connect = || {
            let address = fs::read_to_string(program.join("monitor")).expect("it is there");
            let path = address.trim().strip_prefix("unix:").expect("a Unix socket");
            UnixStream::connect(path)
        };
        match self.fake.opening {
            Opening::NoMonitor => {}
            Opening::ShellCommand(orders) => self.send_shell_command(program, orders),
            // A program that has given up no longer listens.
            Opening::Greeting => {
                if let Ok(socket) = connect() {
                    self.serve_monitor(socket, Some(program));
                }
            }
            Opening::Silent => {
                if let Ok(mut socket) = connect() {
                    let _ = socket.read_to_end(&mut Vec::new());
                }
            }
            Opening::Bytes(words) => {
                if let Ok(mut socket) = connect() {
                    // The program may close before it has received everything.
                    let _ = socket.write_all(words);
                }
            }
        }
    }

    /// Sends a line to a program, which may have exited.
    fn send_shell_command(&self, program: &Path, orders: &str) {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        let deadline = Instant::now() + WAIT_TIMEOUT;
        // The FIFO can be opened once the program has opened it.
        while Instant::now() < deadline && !self.is_over.load(Ordering::Relaxed) {
            if let Ok(fifo) = rustix::fs::open(program.join("orders"), flags, Mode::empty()) {
                let _ = File::from(fifo).write_all(orders.as_bytes());
                return;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Serves the monitor of a QEMU until the peer closes, or the program has exited.
    fn serve_monitor(&self, socket: UnixStream, program: Option<&Path>) {
        let [major, minor, micro] = self.fake.version;
        let mut monitor = Monitor {
            socket,
            received: Vec::new(),
            files: Vec::new(),
        };
        let version = json!({"major": major, "minor": minor, "micro": micro});
        monitor.send(
            &json!({"QMP": {"version": {"qemu": version, "package": ""}, "capabilities": ["oob"]}}),
        );
        let mut loaded: Option<Vec<u8>> = None;
        while let Some(request) = monitor.receive() {
            let command = request["execute"].as_str().expect("a command").to_owned();
            let id = &request["id"];
            self.commands
                .lock()
                .expect("no panic")
                .push(command.clone());
            match (self.fake.fault)(&command, loaded.is_some()) {
                Some(Fault::Silence) => continue,
                Some(Fault::Refusal(class, description)) => {
                    let error = json!({"class": class, "desc": description});
                    monitor.send(&json!({"error": error, "id": id}));
                    continue;
                }
                Some(Fault::Answer(value)) => {
                    monitor.send(&json!({"return": value, "id": id}));
                    continue;
                }
                Some(Fault::ShellCommand(orders)) => {
                    self.send_shell_command(program.expect("it was started here"), orders);
                    return;
                }
                None => {}
            }
            if command == "migrate-incoming" {
                let uri = request["arguments"]["uri"].as_str().expect("text");
                let path = uri.strip_prefix("unix:").expect("a Unix socket");
                let listener = UnixListener::bind(path).expect("a socket");
                monitor.send(&json!({"return": {}, "id": id}));
                let Some(mut stream) = self.accept(&listener) else {
                    return;
                };
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).expect("it is sent");
                loaded = Some((self.fake.load)(&bytes));
                continue;
            }
            let reply = self.reply(&request, loaded.as_deref(), &mut monitor);
            monitor.send(&json!({"return": reply, "id": id}));
            if command == "quit" {
                self.send_shell_command(program.expect("it was started here"), "exit 0");
                return;
            }
        }
    }

    /// Accepts the sender of a stream. Returns `None` if the run ends earlier.
    fn accept(&self, listener: &UnixListener) -> Option<UnixStream> {
        listener.set_nonblocking(true).expect("a mode");
        while !self.is_over.load(Ordering::Relaxed) {
            if let Ok((socket, _)) = listener.accept() {
                socket.set_nonblocking(false).expect("a mode");
                return Some(socket);
            }
            thread::sleep(POLL_INTERVAL);
        }
        None
    }

    fn reply(&self, request: &Value, loaded: Option<&[u8]>, monitor: &mut Monitor) -> Value {
        let fake = &self.fake;
        match request["execute"].as_str() {
            Some("query-status") => {
                let status = if loaded.is_some() {
                    "paused"
                } else {
                    fake.status
                };
                json!({"status": status, "running": status == "running"})
            }
            Some("query-kvm") => json!({"enabled": fake.kvm, "present": true}),
            Some("query-cpus-fast") => json!([{"qom-path": "/machine/unattached/device[0]"}]),
            Some("qom-get") => match request["arguments"]["property"].as_str() {
                Some("type") => format!("{}-machine", fake.machine).into(),
                Some(length) => {
                    let bits: u16 = length
                        .strip_prefix("sve")
                        .expect("a length")
                        .parse()
                        .expect("a number");
                    (fake.vector_lengths & 1 << (bits / 128 - 1) != 0).into()
                }
                None => json!({}),
            },
            Some("human-monitor-command") => fake.ram.clone().into(),
            Some("add-fd") => json!({"fdset-id": 7, "fd": 21}),
            Some("xen-save-devices-state") => {
                assert_eq!(request["arguments"]["filename"], "/dev/fdset/7");
                let mut file = monitor.files.pop().expect("it came with add-fd");
                let state = loaded.unwrap_or(&fake.state);
                file.write_all(state).expect("room");
                json!({})
            }
            _ => json!({}),
        }
    }
}

/// QEMU's end of its monitor.
struct Monitor {
    socket: UnixStream,
    received: Vec<u8>,
    files: Vec<File>,
}

impl Monitor {
    fn send(&mut self, message: &Value) {
        // A peer that has exited does not receive it.
        let _ = self.socket.write_all(format!("{message}\r\n").as_bytes());
    }

    /// Reads the next request. Returns `None` if the peer has closed.
    fn receive(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("JSON"));
            }
            let mut chunk = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut chunk)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = rustix::net::recvmsg(&self.socket, parts, &mut control, flags).ok()?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.files.extend(descriptors.map(File::from));
                }
            }
            if received.bytes == 0 {
                return None;
            }
            self.received.extend_from_slice(&chunk[..received.bytes]);
        }
    }
}
