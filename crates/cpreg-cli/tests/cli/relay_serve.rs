//! `cpreg relay --serve` as a service: readiness, socket activation, metrics, its end, and wrong
//! options. Migrations through it are in `cpreg-relay`'s tests and in `cargo xtask libvirt live`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::relay_process::TEST_TIMEOUT;
use crate::run::{command, cpreg_in};
use crate::schema;

/// Running service.
struct Service {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Service {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, stderr }
    }

    /// Reads the log up to an event of this name.
    fn wait_for(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            let count = self.stderr.read_line(&mut line).expect("UTF-8");
            assert_ne!(count, 0, "no event {event}");
            // Notes are no events.
            if line.starts_with('{') {
                let value: Value = serde_json::from_str(&line).expect("an event");
                assert_eq!(schema::validate(&value), Ok(()), "{line}");
                if value["event"] == event {
                    return value;
                }
            }
        }
    }

    fn end(mut self) {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).expect("it runs");
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("UTF-8");
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{rest}");
    }
}

/// Connects to the service itself, without a redirection, and reads to the end.
fn connect_directly(address: &str) {
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time");
    client.write_all(b"QEVM").expect("it is sent");
    let mut received = Vec::new();
    // The service may close before it has read everything.
    let _ = client.read_to_end(&mut received);
    assert!(received.is_empty());
}

fn receive(notifications: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let count = notifications.recv(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..count]).trim().to_owned()
}

#[test]
fn the_service_reports_readiness_metrics_and_its_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("notify");
    let notifications = UnixDatagram::bind(&socket).expect("a socket");
    notifications
        .set_read_timeout(Some(TEST_TIMEOUT))
        .expect("a time");
    let arguments = [
        "relay",
        "--serve",
        "--listen",
        "tcp:127.0.0.1:0",
        "--log-format",
        "json",
        "--metrics",
        "cpreg.prom",
    ];
    let mut command = command(folder.path(), &arguments);
    let mut service = Service::start(command.env("NOTIFY_SOCKET", &socket));
    let listening = service.wait_for("listening");
    assert_eq!(receive(&notifications), "READY=1");
    let address = listening["listen"].as_str().expect("an address");
    connect_directly(address.trim_start_matches("tcp:"));
    let rejected = service.wait_for("connection-rejected");
    let reason = rejected["reason"].as_str().expect("a reason");
    assert!(reason.contains("not redirected"), "{reason}");
    service.end();
    assert_eq!(receive(&notifications), "STOPPING=1");
    let metrics = fs::read_to_string(folder.path().join("cpreg.prom")).expect("metrics");
    for line in [
        "cpreg_relay_active_migrations 0",
        "cpreg_relay_rejected_connections_total 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{metrics}");
    }
}

/// A service manager passes descriptor 3 (`sd_listen_fds`).
#[test]
fn the_socket_of_a_service_manager_is_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let arguments = ["relay", "--serve", "--log-format", "json"];
    let program = command(folder.path(), &arguments);
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 0</dev/null";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script])
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(OwnedFd::from(listener));
    let mut service = Service::start(&mut shell);
    assert_eq!(service.wait_for("listening")["listen"], "fd:3");
    connect_directly(&address);
    service.wait_for("connection-rejected");
    service.end();
}

#[test]
fn wrong_options_end_the_command_before_it_listens() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let expect = |options: &[&str], expected: &str| {
        let arguments = [&["relay", "--serve"], options].concat();
        let run = cpreg_in(Path::new(folder.path()), &arguments);
        assert_eq!(run.status, Some(2), "{run}");
        assert!(run.stderr.contains(expected), "{run}");
    };
    expect(&["--connect", "unix:x"], "cannot be used with");
    expect(&["--repeat"], "cannot be used with");
    expect(&["--from", "vm"], "cannot be used with");
    expect(
        &["--accept", "low"],
        "--serve with --accept low would accept adjustments that were not reviewed",
    );
    expect(&["--to", "missing"], "the file missing does not exist");
    expect(&["--to", "-"], "cannot be read from standard input");
    expect(&["--tls-creds", "pki"], "pki/ca-cert.pem");
    expect(&["--metrics", "missing/relay.prom"], "missing/relay.prom");
    let run = cpreg_in(folder.path(), &["relay", "--listen", "tcp::0"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("--connect"), "{run}");
    let metrics = ["relay", "--metrics", "x", "--listen", "tcp::0"];
    let run = cpreg_in(folder.path(), &metrics);
    assert!(run.stderr.contains("--serve"), "{run}");
}
