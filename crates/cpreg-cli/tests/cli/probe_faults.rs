//! `cpreg probe qemu` with programs other than QEMU, or without replies: exact errors, and no
//! process or file left.

use rustix::process::Signal;

use crate::fake_qemu::{FakeQemu, Fault, Opening, Workspace};
use crate::run::Run;

/// Returns the arguments of a probe with this timeout in seconds.
fn words(timeout: &str) -> Vec<&str> {
    let words = "probe qemu -o out --timeout";
    let mut words: Vec<_> = words.split(' ').collect();
    words.extend([timeout, "--", "./qemu", "-M", "virt"]);
    words
}

/// Checks that the probe failed, with these texts in its error.
fn assert_fails(run: &Run, reasons: &[&str]) {
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
    assert!(
        run.stderr.starts_with("error: cannot probe this QEMU\n"),
        "{run}"
    );
    assert!(run.stderr.len() < 1000, "{run}");
    for reason in reasons {
        assert!(run.stderr.contains(reason), "{run}");
    }
}

fn assert_probe_fails(opening: Opening, timeout: &str, reasons: &[&str]) {
    let run = Workspace::new().run(FakeQemu::with_opening(opening), &words(timeout));
    assert_fails(&run, reasons);
}

#[test]
fn a_program_that_ends_at_once() {
    let ends = Opening::ShellCommand("echo 'fake: no such machine' >&2; exit 3");
    let reasons = ["QEMU exited (exit status: 3)", "fake: no such machine"];
    assert_probe_fails(ends, "60", &reasons);
}

#[test]
fn a_program_that_hangs() {
    let reason = "did not open its monitor within 1 s";
    assert_probe_fails(Opening::NoMonitor, "1", &[reason]);
}

#[test]
fn silent_monitor() {
    assert_probe_fails(Opening::Silent, "1", &["no reply within 1 s"]);
}

#[test]
fn a_monitor_that_closes() {
    assert_probe_fails(Opening::Bytes(b""), "60", &["QEMU closed the connection"]);
}

#[test]
fn a_monitor_that_does_not_speak_qmp() {
    // A line longer than the maximum that cpreg reads.
    let endless = vec![b'x'; 17 << 20].leak();
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\0\xff\xfe\n",
        b"{\"QMP\": 5}\r\n",
        b"{}\n",
        b"[[[[[[[[\n",
        endless,
    ] {
        assert_probe_fails(Opening::Bytes(garbage), "60", &["QMP: not QMP: "]);
    }
}

#[test]
fn a_signal_ends_the_program_too() {
    for signal in [Signal::INT, Signal::TERM] {
        let workspace = Workspace::new();
        // Before the monitor exists.
        let mut probe = workspace.start(FakeQemu::with_opening(Opening::NoMonitor), &words("60"));
        probe.wait_for_programs(1);
        probe.signal(signal);
        assert_fails(&probe.end(), &["interrupted"]);

        // During the QMP session, whose next command gets no reply.
        let mut fake = FakeQemu::with_opening(Opening::Greeting);
        fake.fault = |_, _| Some(Fault::Silence);
        let mut probe = workspace.start(fake, &words("60"));
        probe.wait_for_command("qmp_capabilities", 1);
        probe.signal(signal);
        assert_fails(&probe.end(), &["interrupted"]);
    }
}

#[test]
fn a_killed_probe_leaves_no_program() {
    let workspace = Workspace::new();
    let mut probe = workspace.start(FakeQemu::with_opening(Opening::NoMonitor), &words("60"));
    probe.wait_for_programs(1);
    probe.kill();
}
