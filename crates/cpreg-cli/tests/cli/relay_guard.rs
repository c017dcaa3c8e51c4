//! `cpreg __relay-guard` outlives the signals that end a relay. Its decisions are tested in its
//! library and with real QEMUs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, getsid, kill_process};

use crate::run::command;

struct GuardProcess {
    child: Child,
    requests: ChildStdin,
    responses: BufReader<ChildStdout>,
}

impl GuardProcess {
    fn start() -> Self {
        let mut child = command(Path::new("/"), &["__relay-guard"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cpreg starts");
        Self {
            requests: child.stdin.take().expect("its standard input"),
            responses: BufReader::new(child.stdout.take().expect("its standard output")),
            child,
        }
    }

    fn request(&mut self, request: &str) -> String {
        writeln!(self.requests, "{request}").expect("the guard reads");
        let mut line = String::new();
        self.responses
            .read_line(&mut line)
            .expect("the guard replies");
        line
    }
}

#[test]
fn guard_has_its_own_session_and_ignores_signals() {
    let mut guard = GuardProcess::start();
    let refused = guard.request(r#"{"request":"prepare"}"#);
    assert!(
        refused.contains("`connect` must be the first request"),
        "{refused}"
    );
    let id = i32::try_from(guard.child.id()).expect("a process id");
    let id = Pid::from_raw(id).expect("a process id");
    assert_eq!(getsid(Some(id)).expect("its session"), id);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::PIPE] {
        kill_process(id, signal).expect("it is there");
        let reply = guard.request(r#"{"request":"prepare"}"#);
        assert_eq!(reply, refused, "after {signal:?}");
    }
    drop(guard.requests);
    assert!(guard.child.wait().expect("it ends").success());
}

#[test]
fn missing_monitor_is_reported_with_a_hint() {
    let mut guard = GuardProcess::start();
    let reply =
        guard.request(r#"{"request":"connect","source":"/nonexistent/qmp","destination":null}"#);
    assert!(
        reply.contains("the source (/nonexistent/qmp): cannot reach QEMU's monitor"),
        "{reply}"
    );
    assert!(
        reply.contains("check that this QEMU is still running"),
        "{reply}"
    );
    // The guard accepts another request.
    let reply = guard.request(r#"{"request":"connect","source":null,"destination":null}"#);
    assert!(reply.contains("the guard needs the monitor"), "{reply}");
    drop(guard.requests);
    assert!(guard.child.wait().expect("it ends").success());
}
