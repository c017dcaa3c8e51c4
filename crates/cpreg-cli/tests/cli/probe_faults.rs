//! `cpreg probe qemu` with programs that are no QEMU, or none that answers: clear words, and no process and no file left behind.
//!
//! The program is a shell script that notes its process id and the monitor's address; what is said on the monitor is said by the
//! test, which connects in its place.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::made::names;
use crate::run::{Run, command};

const HANGS: &str = "exec sleep 600";
const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""}, "capabilities": []}}"#;

/// A probe of a program that does this after noting what it was started as.
struct Probe {
    folder: TempDir,
    child: Child,
}

impl Probe {
    fn start(does: &str, timeout: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("fake");
        // The file is not open for writing any more when its name appears.
        let script = format!(
            "#!/bin/sh\nfor word; do :; done\necho $$ > pid\necho \"$word\" > new\nmv new address\n{does}\n"
        );
        fs::write(&path, script).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its owner may");
        fs::create_dir(folder.path().join("tmp")).expect("a folder");
        // By way of the shell: a file that was just written cannot be started while another test's child has it open.
        let words = [
            "probe",
            "qemu",
            "--timeout",
            timeout,
            "-o",
            "out",
            "--",
            "sh",
            "./fake",
            "-M",
            "virt",
        ];
        let mut command = command(folder.path(), &words);
        command.env("TMPDIR", folder.path().join("tmp"));
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.expect("the command starts");
        Self { folder, child }
    }

    fn note(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !path.exists() {
            assert!(Instant::now() < deadline, "the program was not started");
            thread::sleep(Duration::from_millis(2));
        }
        fs::read_to_string(path).expect("text").trim().to_owned()
    }

    /// The monitor, as QEMU connects to it.
    fn monitor(&self) -> UnixStream {
        let address = self.note("address");
        let path = address.strip_prefix("unix:").expect("a Unix socket");
        UnixStream::connect(path).expect("it listens")
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), signal).expect("it runs");
    }

    /// How it ended; nothing may be left of the program or in the folders.
    fn end(self) -> Run {
        self.note("address");
        let program = Path::new("/proc").join(self.note("pid"));
        let output = self.child.wait_with_output().expect("it ends");
        let run = Run::of(&["probe"], &output);
        assert!(!program.exists(), "the program still runs\n{run}");
        assert_eq!(
            names(self.folder.path()),
            ["address", "fake", "pid", "tmp"],
            "{run}"
        );
        assert_eq!(names(&self.folder.path().join("tmp")), [""; 0], "{run}");
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        assert!(
            run.stderr.starts_with("error: cannot probe this QEMU\n"),
            "{run}"
        );
        run
    }
}

#[test]
fn a_program_that_ends_at_once() {
    let run = Probe::start("echo 'fake: no such machine' >&2; exit 3", "60").end();
    assert!(run.stderr.contains("QEMU ended (exit status: 3)"), "{run}");
    assert!(run.stderr.contains("fake: no such machine"), "{run}");
}

#[test]
fn a_program_that_hangs() {
    let run = Probe::start(HANGS, "1").end();
    assert!(
        run.stderr.contains("did not open its monitor within 1 s"),
        "{run}"
    );
}

#[test]
fn a_monitor_that_says_nothing() {
    let probe = Probe::start(HANGS, "1");
    let _monitor = probe.monitor();
    let run = probe.end();
    assert!(run.stderr.contains("no answer within 1 s"), "{run}");
}

#[test]
fn a_monitor_that_closes() {
    let probe = Probe::start(HANGS, "60");
    drop(probe.monitor());
    let run = probe.end();
    assert!(run.stderr.contains("QEMU closed the connection"), "{run}");
}

#[test]
fn a_monitor_that_talks_of_other_things() {
    let endless = vec![b'x'; 17 << 20];
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\0\xff\xfe\n",
        b"{\"QMP\": 5}\r\n",
        b"{}\n",
        b"[[[[[[[[\n",
        &endless,
    ] {
        let probe = Probe::start(HANGS, "60");
        // It may close before it has heard everything.
        let _ = probe.monitor().write_all(garbage);
        let run = probe.end();
        assert!(run.stderr.contains("QMP: not QMP: "), "{run}");
        assert!(run.stderr.len() < 1000, "{run}");
    }
}

#[test]
fn a_signal_ends_the_program_too() {
    for signal in [Signal::INT, Signal::TERM] {
        // Before there is a monitor.
        let probe = Probe::start(HANGS, "60");
        probe.note("address");
        probe.signal(signal);
        let run = probe.end();
        assert!(run.stderr.contains("interrupted"), "{run}");

        // In the middle of the conversation, which is not answered any more.
        let probe = Probe::start(HANGS, "60");
        let mut monitor = probe.monitor();
        writeln!(monitor, "{GREETING}").expect("it listens");
        let mut heard = String::new();
        let mut lines = BufReader::new(&monitor);
        lines.read_line(&mut heard).expect("it talks");
        assert!(heard.contains("qmp_capabilities"), "{heard}");
        probe.signal(signal);
        let run = probe.end();
        assert!(run.stderr.contains("interrupted"), "{run}");
    }
}
