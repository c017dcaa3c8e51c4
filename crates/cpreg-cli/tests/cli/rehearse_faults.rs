//! `cpreg rehearse` with QEMUs that fail, and with inputs other than VMs: exact errors, and no
//! process or file left.

use std::os::unix::net::UnixListener;

use insta::assert_snapshot;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::json;

use crate::fake_qemu::{FakeQemu, Fault, Opening, Workspace};
use crate::fixtures::{make_profile, unpack_stream, x86_stream};
use crate::run::{KVM_6_12, Run, TCG_10_0};

/// Rehearsal with an emulating QEMU, of which cpreg starts two: it queries one, and the other
/// loads.
const TCG: &str = "rehearse vm -- ./qemu -M virt-10.0";
/// Rehearsal with a QEMU under KVM, of which cpreg starts one.
const KVM: &str = "rehearse vm -- ./qemu -M virt-10.0 -accel kvm";

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Runs a rehearsal with a QEMU that has all that the VM needs, and this fault.
fn run_with(fault: fn(&str, bool) -> Option<Fault>, line: &str) -> Run {
    let mut fake = FakeQemu::from_stream(KVM_6_12);
    fake.fault = fault;
    Workspace::with_vm(KVM_6_12).run(fake, &words(line))
}

/// Checks that the rehearsal failed without a report, with these texts in its error.
fn assert_fails(run: &Run, reasons: &[&str]) {
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
    let error = "error: cannot rehearse with this QEMU\n";
    assert!(run.stderr.starts_with(error), "{run}");
    assert!(run.stderr.len() < 1000, "{run}");
    for reason in reasons {
        assert!(run.stderr.contains(reason), "{run}");
    }
}

#[test]
fn programs_that_are_no_qemu() {
    let run = |opening, timeout: &str| {
        let line = format!("rehearse vm --timeout {timeout} -- ./qemu -M virt-10.0");
        Workspace::with_vm(KVM_6_12).run(FakeQemu::with_opening(opening), &words(&line))
    };
    let ends = Opening::ShellCommand("echo 'fake: no such machine' >&2; exit 3");
    let reasons = ["QEMU exited (exit status: 3)", "fake: no such machine"];
    assert_fails(&run(ends, "60"), &reasons);
    let reason = "did not open its monitor within 1 s";
    assert_fails(&run(Opening::NoMonitor, "1"), &[reason]);
    assert_fails(&run(Opening::Silent, "1"), &["no reply within 1 s"]);
    let reason = "QEMU closed the connection";
    assert_fails(&run(Opening::Bytes(b""), "60"), &[reason]);
    let ssh = Opening::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert_fails(&run(ssh, "60"), &["QMP: not QMP: "]);
}

#[test]
fn longest_timeout_is_accepted() {
    let run = run_with(
        |_, _| None,
        "rehearse vm --timeout 18446744073709551615 -- ./qemu -M virt-10.0",
    );
    assert_eq!(run.status, Some(2), "{run}");
    assert!(!run.stderr.contains("panicked"), "{run}");
}

/// Sends signals in each phase: when QEMU has received a command this number of times, and does not
/// reply to it.
#[test]
fn a_signal_ends_every_program() {
    type Phase = (&'static str, usize, fn(&str, bool) -> Option<Fault>);
    const PHASES: [Phase; 7] = [
        ("qmp_capabilities", 2, |command, _| {
            silence(command == "qmp_capabilities")
        }),
        ("query-kvm", 1, |command, _| silence(command == "query-kvm")),
        ("xen-save-devices-state", 1, |command, has_stream| {
            silence(command == "xen-save-devices-state" && !has_stream)
        }),
        ("migrate-incoming", 1, |command, _| {
            silence(command == "migrate-incoming")
        }),
        // The first query is before the load.
        ("query-status", 2, |command, has_stream| {
            silence(command == "query-status" && has_stream)
        }),
        ("query-status", 20, |command, has_stream| {
            let status = json!({"status": "inmigrate"});
            (command == "query-status" && has_stream).then_some(Fault::Answer(status))
        }),
        ("xen-save-devices-state", 2, |command, has_stream| {
            silence(command == "xen-save-devices-state" && has_stream)
        }),
    ];
    for signal in [Signal::INT, Signal::TERM] {
        let workspace = Workspace::with_vm(TCG_10_0);
        let mut rehearsal =
            workspace.start(FakeQemu::with_opening(Opening::NoMonitor), &words(TCG));
        rehearsal.wait_for_programs(2);
        rehearsal.signal(signal);
        assert_fails(&rehearsal.end(), &["interrupted"]);
        for (command, times, fault) in PHASES {
            let mut fake = FakeQemu::from_stream(TCG_10_0);
            fake.fault = fault;
            let mut rehearsal = workspace.start(fake, &words(TCG));
            rehearsal.wait_for_command(command, times);
            rehearsal.signal(signal);
            assert_fails(&rehearsal.end(), &["interrupted"]);
        }
    }
}

fn silence(is_silent: bool) -> Option<Fault> {
    is_silent.then_some(Fault::Silence)
}

/// Checks that a QEMU that is ended refuses nothing. Ctrl-C on a terminal, for example, reaches
/// QEMU too.
#[test]
fn a_qemu_that_is_ended_refuses_nothing() {
    for orders in ["exit 0", "kill -TERM $$", "kill -KILL $$", "kill -INT $$"] {
        // A function pointer cannot capture values.
        let fault: fn(&str, bool) -> Option<Fault> = match orders {
            "exit 0" => |command, has_stream| end_on_query_status(command, has_stream, "exit 0"),
            "kill -TERM $$" => {
                |command, has_stream| end_on_query_status(command, has_stream, "kill -TERM $$")
            }
            "kill -KILL $$" => {
                |command, has_stream| end_on_query_status(command, has_stream, "kill -KILL $$")
            }
            _ => |command, has_stream| end_on_query_status(command, has_stream, "kill -INT $$"),
        };
        assert_fails(&run_with(fault, KVM), &["QEMU exited ("]);
    }
}

fn end_on_query_status(command: &str, has_stream: bool, orders: &'static str) -> Option<Fault> {
    (command == "query-status" && has_stream).then_some(Fault::ShellCommand(orders))
}

#[test]
fn a_qemu_that_dies_of_the_load() {
    let run = run_with(
        |command, has_stream| end_on_query_status(command, has_stream, "exit 1"),
        KVM,
    );
    assert_snapshot!("rehearse_ends", run);
    let run = run_with(
        |command, has_stream| {
            let orders = "echo 'qemu: assertion failed' >&2; ulimit -c 0; kill -ABRT $$";
            end_on_query_status(command, has_stream, orders)
        },
        KVM,
    );
    assert_snapshot!("rehearse_aborts", run);
    let run = run_with(
        |command, has_stream| {
            end_on_query_status(command, has_stream, "ulimit -c 0; kill -SEGV $$")
        },
        KVM,
    );
    assert_snapshot!("rehearse_crashes", run);
}

#[test]
fn endless_load() {
    let still_loading: fn(&str, bool) -> Option<Fault> = |command, has_stream| {
        let status = json!({"status": "inmigrate"});
        (command == "query-status" && has_stream).then_some(Fault::Answer(status))
    };
    let line = "rehearse vm --timeout 1 -- ./qemu -M virt-10.0 -accel kvm";
    let run = run_with(still_loading, line);
    assert_fails(&run, &["QEMU neither loaded nor refused the VM within 1 s"]);
}

#[test]
fn a_qemu_that_cannot_load_streams() {
    let run = run_with(
        |command, _| {
            let words = "The command migrate-incoming has not been found";
            let refusal = Fault::Refusal("CommandNotFound", words);
            (command == "migrate-incoming").then_some(refusal)
        },
        KVM,
    );
    assert_snapshot!("rehearse_no_incoming", run);
}

/// Checks that the rehearsal continues, with the verdict of its outcome.
#[test]
fn qemu_without_initial_state() {
    fn refuses(command: &str) -> Option<Fault> {
        let words = "The command xen-save-devices-state has not been found";
        let refusal = Fault::Refusal("CommandNotFound", words);
        (command == "xen-save-devices-state").then_some(refusal)
    }
    let run = run_with(|command, _| refuses(command), KVM);
    assert_snapshot!("rehearse_mute", run);
    let run = run_with(
        |command, has_stream| {
            refuses(command).or_else(|| end_on_query_status(command, has_stream, "exit 1"))
        },
        KVM,
    );
    assert_snapshot!("rehearse_mute_refused", run);
    let run = run_with(
        |command, _| refuses(command),
        "rehearse vm --converted -- ./qemu -M virt-10.0 -accel kvm",
    );
    assert_snapshot!("rehearse_mute_repaired", run);
    // Only after the load.
    let run = run_with(
        |command, has_stream| refuses(command).filter(|_| has_stream),
        KVM,
    );
    assert_snapshot!("rehearse_mute_afterwards", run);
}

#[test]
fn invalid_device_state() {
    let run = |before: Vec<u8>, after: fn(&[u8]) -> Vec<u8>| {
        let mut fake = FakeQemu::from_stream(KVM_6_12);
        fake.state = before;
        fake.load = after;
        Workspace::with_vm(KVM_6_12).run(fake, &words(KVM))
    };
    let good = || FakeQemu::from_stream(KVM_6_12).state;
    let cut = |mut state: Vec<u8>| {
        state.truncate(state.len() / 2);
        state
    };
    assert_snapshot!(
        "rehearse_state_garbage",
        run(vec![b'x'; 1000], |_| vec![b'x'; 1000])
    );
    assert_snapshot!("rehearse_state_nothing", run(Vec::new(), |_| Vec::new()));
    // A header without devices, then a machine without vCPUs.
    assert_snapshot!(
        "rehearse_state_empty",
        run(b"QEVM\0\0\0\x03\0".to_vec(), |_| b"QEVM\0\0\0\x03\0"
            .to_vec())
    );
    assert_snapshot!(
        "rehearse_state_cut",
        run(cut(good()), |_| b"QEVM\0\0\0\x03\x04".to_vec())
    );
    // A machine of another architecture.
    let other_architecture = run(x86_stream(), |_| x86_stream());
    assert_snapshot!("rehearse_state_foreign", other_architecture);
}

#[test]
fn unexpected_replies() {
    fn answers(command: &str, value: serde_json::Value) -> Option<Fault> {
        const QUERIED_COMMANDS: [&str; 5] = [
            "query-status",
            "query-kvm",
            "qom-get",
            "human-monitor-command",
            "add-fd",
        ];
        QUERIED_COMMANDS
            .contains(&command)
            .then_some(Fault::Answer(value))
    }
    for fault in [
        (|command: &str, _| answers(command, json!({}))) as fn(&str, bool) -> Option<Fault>,
        |command, _| answers(command, json!(5)),
        |command, _| answers(command, json!("\u{0}")),
        |command, _| answers(command, json!([[[]]])),
    ] {
        let run = run_with(fault, KVM);
        assert_fails(&run, &["unexpected reply of QEMU to `query-status`"]);
    }
    for command in ["query-kvm", "qom-get", "human-monitor-command", "add-fd"] {
        let fault: fn(&str, bool) -> Option<Fault> = match command {
            "query-kvm" => {
                |command, _| answers(command, json!(5)).filter(|_| command == "query-kvm")
            }
            "qom-get" => |command, _| answers(command, json!(5)).filter(|_| command == "qom-get"),
            "add-fd" => |command, _| answers(command, json!(5)).filter(|_| command == "add-fd"),
            _ => |command, _| {
                answers(command, json!(5)).filter(|_| command == "human-monitor-command")
            },
        };
        let run = run_with(fault, KVM);
        assert_eq!(run.status, Some(3), "{run}");
        assert!(run.stdout.contains("unexpected reply of QEMU"), "{run}");
    }
}

/// Checks that no QEMU is started for these inputs.
#[test]
fn inputs_other_than_vms() {
    let run = |content: &[u8], line: &str| {
        let workspace = Workspace::new();
        workspace.put("vm", content);
        std::fs::create_dir(workspace.path("folder")).expect("a folder");
        let run = workspace.run(FakeQemu::with_opening(Opening::NoMonitor), &words(line));
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        run.stderr
    };
    let profile = make_profile(KVM_6_12);
    assert_snapshot!("rehearse_profile", run(profile.as_bytes(), TCG));
    let stream = unpack_stream(KVM_6_12);
    assert_snapshot!("rehearse_cut", run(&stream[..0x80000], TCG));
    assert_snapshot!("rehearse_empty", run(b"", TCG));
    assert_snapshot!("rehearse_directory", run(b"", "rehearse folder -- ./qemu"));
    assert_snapshot!("rehearse_missing", run(b"", "rehearse nothing -- ./qemu"));
}

#[test]
fn sockets_that_are_no_monitors() {
    let workspace = Workspace::new();
    let line = "rehearse vm.qmp -- ./qemu";
    // The socket of a server that has exited. A dropped listener is not enough: a program that
    // another test starts at this moment has a copy of the listener until its `exec`.
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, workspace.path("vm.qmp"), FileType::Socket, mode, 0).expect("a socket");
    let run = workspace.run(FakeQemu::with_opening(Opening::NoMonitor), &words(line));
    assert_snapshot!("rehearse_nobody", run);
    std::fs::remove_file(workspace.path("vm.qmp")).expect("it is there");
    // A server that listens.
    let listener = UnixListener::bind(workspace.path("vm.qmp")).expect("a socket");
    let other = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut socket, _) = listener.accept().expect("somebody connects");
        let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
    let run = workspace.run(FakeQemu::with_opening(Opening::NoMonitor), &words(line));
    other.join().expect("it lives");
    assert_snapshot!("rehearse_no_qmp", run);
}

#[test]
fn bad_usage() {
    let workspace = Workspace::with_vm(KVM_6_12);
    let run = |line: &str| {
        let run = workspace.run(FakeQemu::with_opening(Opening::NoMonitor), &words(line));
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        run.stderr
    };
    assert_snapshot!("rehearse_no_command", run("rehearse vm"));
    assert_snapshot!("rehearse_no_word", run("rehearse vm --"));
    assert_snapshot!("rehearse_no_dashes", run("rehearse vm ./qemu"));
    assert_snapshot!(
        "rehearse_no_program",
        run("rehearse vm -- ./no-such-qemu -M virt")
    );
    assert_snapshot!(
        "rehearse_refused_option",
        run("rehearse vm -- ./qemu -plugin spy.so")
    );
    assert_snapshot!(
        "rehearse_refused_object",
        run("rehearse vm -- ./qemu -object spy,id=spy")
    );
    assert_snapshot!(
        "rehearse_unknown_option",
        run("rehearse vm -- ./qemu -spy on")
    );
}

#[test]
fn invalid_consents() {
    let run = |line: &str| {
        let run = Workspace::with_vm(KVM_6_12).run(FakeQemu::from_stream(KVM_6_12), &words(line));
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        run.stderr
    };
    assert_snapshot!(
        "rehearse_misspelt",
        run("rehearse vm --ignore TCR3_EL1 -- ./qemu -accel kvm")
    );
    assert_snapshot!(
        "rehearse_no_tolerances",
        run("rehearse vm --tolerances no-such-file -- ./qemu -accel kvm")
    );
    assert_snapshot!(
        "rehearse_too_wide",
        run("rehearse vm --set TCR2_EL1=0x10000000000000000 -- ./qemu -accel kvm")
    );
}
