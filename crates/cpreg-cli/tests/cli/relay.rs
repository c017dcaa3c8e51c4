//! `cpreg relay` as a process between two fake QEMUs: forwarded and refused migrations, log lines,
//! and exit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::Value;

use crate::fixtures::unpack_stream;
use crate::relay_process::{
    RelayProcess, SHUT_ERROR, TEST_TIMEOUT, folder, load, load_and_confirm, read, send,
    send_and_close,
};
use crate::run::{Run, TCG_10_0, cpreg_in, remove_influences};

/// Returns the output of `convert`.
pub(crate) fn convert(folder: &Path, vm: &str, to: &str) -> Vec<u8> {
    let out = format!("{vm}-converted");
    let run = cpreg_in(folder, &["convert", vm, to, "-o", &out, "--force"]);
    assert_eq!(run.status, Some(0), "{run}");
    read(folder, &out)
}

/// Runs both QEMUs concurrently. Returns the bytes that the source and the destination received.
pub(crate) fn migrate(
    relay: &RelayProcess,
    source: impl FnOnce(UnixStream) -> Vec<u8> + Send,
    destination: impl FnOnce(UnixStream) -> Vec<u8> + Send,
) -> (Vec<u8>, Vec<u8>) {
    thread::scope(|scope| {
        let socket = relay.source();
        let received = scope.spawn(move || source(socket));
        let arrived = destination(relay.destination());
        (received.join().expect("no panic"), arrived)
    })
}

/// Returns the events of a log, with their distinguishing members.
fn event_names(log: &[Value]) -> Vec<String> {
    let word = |event: &Value, member: &str| event[member].as_str().unwrap_or_default().to_owned();
    log.iter()
        .map(|event| {
            let detail = ["phase", "channel", "outcome"].map(|member| word(event, member));
            format!("{} {}", word(event, "event"), detail.concat())
                .trim_end()
                .to_owned()
        })
        .collect()
}

#[test]
fn migration_is_forwarded_and_converted() {
    let folder = folder();
    let path = folder.path();
    let expected = convert(path, "answered", "6.16.xz");
    let vm = read(path, "answered");
    assert!(expected != vm);
    let relay = RelayProcess::start(path, &["--to", "6.16.xz"]);
    let mode = fs::metadata(path.join("here"))
        .expect("a socket")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let (received, arrived) = migrate(
        &relay,
        |socket| send(socket, &vm),
        |socket| load_and_confirm(socket, expected.len()),
    );
    let (run, log) = relay.end();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(arrived == expected);
    assert_eq!(received, b"\0\x01\0\x04\0\0\0\0");
    assert!(!path.join("here").exists());
    assert_snapshot!("relay_passes", run);
    let expected = [
        "listening",
        "connected main",
        "setup",
        "phase ram",
        "phase device-state",
        "device-state-received",
        "device-state-sent",
        "return-path-shut",
        "ended completed",
    ];
    assert_eq!(event_names(&log), expected);
    assert_eq!(log[8]["vm_location"], "destination");
    assert_eq!(log[8]["bytes"], arrived.len());
    assert_eq!(log[7]["shut_value"], 0);
    assert_eq!(log[2]["return_path"], true);
    assert_documented(&log);
}

/// Checks that every event has exactly the members in docs/commands/relay.md.
fn assert_documented(log: &[Value]) {
    let text = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands/relay.md"),
    );
    let text = text.expect("the document");
    let (_, table) = text.split_once("| event | members |").expect("a table");
    let names = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    let documented: BTreeMap<String, BTreeSet<String>> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            let event = names(cells[1]).pop()?;
            Some((event, names(cells[2]).into_iter().collect()))
        })
        .collect();
    for event in log {
        let name = event["event"].as_str().expect("a name");
        let members: BTreeSet<String> = event
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        let mut expected = documented[name].clone();
        expected.extend(["schema", "event", "time", "migration"].map(str::to_owned));
        if event.get("rejected_because").is_some() {
            assert_eq!(event["outcome"], "refused");
            expected.insert("rejected_because".to_owned());
        }
        if event["outcome"] == "failed" {
            expected.insert("error".to_owned());
        }
        assert_eq!(members, expected, "{event}");
    }
}

#[test]
fn refused_vm_stays_at_the_source() {
    let folder = folder();
    let path = folder.path();
    for (vm, to, status) in [("answered", "5.10.xz", 1), ("answered-6.16", "6.12.xz", 3)] {
        let stream = read(path, vm);
        let relay = RelayProcess::start(path, &["--to", to]);
        let (received, arrived) = migrate(&relay, |socket| send(socket, &stream), load);
        let (run, log) = relay.end();
        assert_eq!(run.status, Some(status), "{run}");
        assert_eq!(received, SHUT_ERROR);
        assert!(stream.starts_with(&arrived) && arrived.len() > 400_000);
        fs::write(path.join("cut"), &arrived).expect("a file");
        assert_eq!(cpreg_in(path, &["show", "cut"]).status, Some(2));
        assert_eq!(event_names(&log)[6..], ["refused", "ended refused"]);
        assert_eq!(log[7]["vm_location"], "source");
        assert_snapshot!(format!("relay_refused_{status}"), run);
        assert_documented(&log);
    }
}

/// Checks that a migration without a return path is rejected, unless the user consents.
#[test]
fn migration_without_return_path_is_rejected() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "vm");
    let relay = RelayProcess::start(path, &["--to", "6.16.xz"]);
    let (_, arrived) = migrate(&relay, |socket| send(socket, &vm), load);
    let (run, log) = relay.end();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(arrived.is_empty());
    assert_eq!(
        event_names(&log)[2..],
        ["setup", "refused", "ended refused"]
    );
    assert_snapshot!("relay_no_way_back", run);

    let expected = convert(path, "vm", "6.16.xz");
    for more in [&["--allow-no-return-path"][..], &["--from", "vm"]] {
        let mut relay = RelayProcess::start(path, &[&["--to", "6.16.xz"], more].concat());
        let (_, arrived) = migrate(
            &relay,
            |socket| {
                send_and_close(socket, &vm);
                Vec::new()
            },
            load,
        );
        assert_eq!(
            relay.wait_for("ended")["vm_location"],
            "destination-unconfirmed"
        );
        let (run, _) = relay.end();
        assert_eq!(run.status, Some(0), "{run}");
        assert!(arrived == expected);
    }
    // At the end the refusal is too late: the source believes that it has sent the VM.
    let relay = RelayProcess::start(path, &["--to", "5.10.xz", "--allow-no-return-path"]);
    let (_, arrived) = migrate(&relay, |socket| send(socket, &vm), load);
    let (run, log) = relay.end();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(vm.starts_with(&arrived) && arrived.len() < vm.len());
    assert_eq!(log.last().expect("an end")["vm_location"], "source-stopped");
    assert!(run.stdout.contains("QMP `cont` at the source"), "{run}");
}

/// Checks that another machine type is rejected before RAM.
#[test]
fn another_machine_type_is_rejected() {
    let folder = folder();
    let vm = read(folder.path(), "answered");
    let relay = RelayProcess::start(folder.path(), &["--to", "7.2.xz"]);
    let (received, arrived) = migrate(&relay, |socket| send(socket, &vm), load);
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(arrived.is_empty());
    assert_eq!(received, SHUT_ERROR);
    assert_snapshot!("relay_another_machine", run);
}

/// Checks that no vCPU is sent to a recorded host whose QEMU cannot load any of them.
#[test]
fn vcpus_are_held_for_an_incompatible_host() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("tcg"), unpack_stream(TCG_10_0)).expect("a file");
    let host = "linux-6.12.107/neoverse-n1";
    for (vm, loader, reason) in [
        (
            "answered",
            "qemu-8.2",
            "does not have it: 10.0 is the first",
        ),
        ("tcg", "qemu-10.0", "accelerator: tcg -> kvm"),
    ] {
        let stream = read(path, vm);
        let relay = RelayProcess::start(
            path,
            &["--to", host, "--loader", loader, "--allow-no-return-path"],
        );
        let (_, arrived) = migrate(&relay, |socket| send(socket, &stream), load);
        let (run, _) = relay.end();
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stdout.contains(reason), "{run}");
        assert!(stream.starts_with(&arrived));
        let cpu_section = b"\x03cpu";
        let sent = arrived.windows(cpu_section.len());
        assert!(
            !sent.into_iter().any(|window| window == cpu_section),
            "{vm}"
        );
    }
}

#[test]
fn refused_preflight_does_not_listen() {
    let folder = folder();
    let arguments = [
        "relay",
        "--listen",
        "unix:here",
        "--connect",
        "unix:there",
        "--to",
        "5.10.xz",
        "--from",
        "vm",
    ];
    let run = cpreg_in(folder.path(), &arguments);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stdout.contains("no QEMU was connected"), "{run}");
    assert!(!folder.path().join("here").exists());
}

/// Runs several migrations: one is refused, one fails, one has no destination, the next completes;
/// Ctrl-C ends the relay.
#[test]
fn one_migration_after_the_other() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let expected = convert(path, "answered", "6.16.xz");
    let mut relay = RelayProcess::start(path, &["--to", "6.16.xz", "--repeat"]);

    let plain = read(path, "vm");
    migrate(&relay, |socket| send(socket, &plain), load);
    assert_eq!(relay.wait_for("ended")["outcome"], "refused");
    let (_, arrived) = migrate(
        &relay,
        |socket| {
            send_and_close(socket, &vm[..vm.len() - 9_000]);
            Vec::new()
        },
        load,
    );
    let ended = relay.wait_for("ended");
    assert_eq!(ended["outcome"], "failed");
    assert_eq!(ended["migration"], 2);
    assert!(arrived.len() < vm.len() - 9_000);
    assert!(send(relay.source(), b"\x16\x03\x01\x02\0\x01").is_empty());
    relay.wait_for("connection-rejected");
    let (_, arrived) = migrate(
        &relay,
        |socket| send(socket, &vm),
        |socket| load_and_confirm(socket, expected.len()),
    );
    assert!(arrived == expected);
    let ended = relay.wait_for("ended");
    assert_eq!(ended["vm_location"], "destination");
    assert_eq!(ended["migration"], 4);
    relay.send(Signal::INT);
    let (run, log) = relay.end();
    assert_eq!(run.status, Some(0), "{run}");
    assert_documented(&log);
    assert!(run.stderr.contains("tls-creds"), "{run}");
    assert!(!path.join("here").exists());
}

#[test]
fn a_destination_that_is_not_reachable() {
    let folder = folder();
    let path = folder.path();
    let arguments = [
        "--listen",
        "unix:here",
        "--connect",
        "unix:nowhere",
        "--to",
        "6.16.xz",
    ];
    let relay = RelayProcess::start_with(path, &arguments, Stdio::null(), Stdio::piped());
    assert!(send(relay.source(), &read(path, "answered")).is_empty());
    relay.assert_no_connection();
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(2), "{run}");
    assert_snapshot!("relay_not_reachable", run);
}

/// Checks QEMU's exec, with a socket as standard input and output, and an inherited socket. The
/// report goes elsewhere.
#[test]
fn standard_input_and_inherited_sockets() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let expected = convert(path, "answered", "6.16.xz");
    for listen in ["stdio:", "fd:3"] {
        let (local, remote) = UnixStream::pair().expect("sockets");
        let remote = std::os::fd::OwnedFd::from(remote);
        let stdout = if listen == "stdio:" {
            Stdio::from(remote.try_clone().expect("a socket"))
        } else {
            Stdio::piped()
        };
        let arguments = [
            "--listen",
            listen,
            "--connect",
            "unix:there",
            "--to",
            "6.16.xz",
        ];
        let relay = RelayProcess::start_with(path, &arguments, Stdio::from(remote), stdout);
        let (received, arrived) = thread::scope(|scope| {
            let received = scope.spawn(|| send(local, &vm));
            let arrived = load_and_confirm(relay.destination(), expected.len());
            (received.join().expect("no panic"), arrived)
        });
        let (run, log) = relay.end();
        assert_eq!(run.status, Some(0), "{run}");
        assert!(arrived == expected);
        // Only the destination's reply was sent back.
        assert_eq!(received, b"\0\x01\0\x04\0\0\0\0", "{listen}");
        assert_eq!(log[0]["listen"], listen);
        let report = if listen == "stdio:" {
            &run.stderr
        } else {
            &run.stdout
        };
        assert!(report.contains("the VM is: at the destination"), "{run}");
        // The VM has been converted, so nothing is left to do.
        assert!(!report.contains("cpreg convert"), "{run}");
    }

    // Towards the destination.
    let (local, remote) = UnixStream::pair().expect("sockets");
    let arguments = [
        "--listen",
        "unix:here",
        "--connect",
        "fd:3",
        "--to",
        "6.16.xz",
    ];
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(remote));
    let relay = RelayProcess::start_with(path, &arguments, stdin, Stdio::piped());
    let (received, arrived) = thread::scope(|scope| {
        let source = relay.source();
        let received = scope.spawn(|| send(source, &vm));
        let arrived = load_and_confirm(local, expected.len());
        (received.join().expect("no panic"), arrived)
    });
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(arrived == expected && received.len() == 8);
}

/// Checks that errors in the arguments are reported before the relay listens.
#[test]
fn bad_arguments() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("file"), "no socket").expect("a file");
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("an address").port();
    let live = std::os::unix::net::UnixListener::bind(path.join("live")).expect("a socket");
    let in_use = format!("tcp:127.0.0.1:{port}");
    let long = format!("unix:{}", "x".repeat(120));
    let good = [
        "--listen",
        "unix:here",
        "--connect",
        "unix:there",
        "--to",
        "6.16.xz",
    ];
    let run = |changes: &[(&str, &str)], more: &[&str]| -> Run {
        let mut arguments = vec!["relay"];
        for pair in good.chunks(2) {
            let changed = changes.iter().find(|(name, _)| *name == pair[0]);
            arguments.extend([pair[0], changed.map_or(pair[1], |&(_, value)| value)]);
        }
        arguments.extend(more);
        let run = cpreg_in(path, &arguments);
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        assert!(!path.join("here").exists(), "{run}");
        run
    };
    for (name, changes, more) in [
        ("address", &[("--listen", "nonsense")][..], &[][..]),
        ("port", &[("--connect", "tcp:host")], &[]),
        ("file", &[("--listen", "unix:file")], &[]),
        ("live", &[("--listen", "unix:live")], &[]),
        ("folder", &[("--listen", "unix:nowhere/here")], &[]),
        ("fd", &[("--listen", "fd:99")], &[]),
        ("to", &[("--to", "nowhere")], &[]),
        ("to_input", &[("--to", "-")], &[]),
        ("keep_accept", &[], &["--repeat", "--accept", "low"]),
        ("from", &[], &["--from", "nowhere"]),
    ] {
        assert_snapshot!(format!("relay_bad_{name}"), run(changes, more));
    }
    let refused = run(&[("--listen", &in_use)], &[]);
    assert!(refused.stderr.contains("use another port"), "{refused}");
    let refused = run(&[("--listen", &long)], &[]);
    assert!(refused.stderr.contains("107 bytes"), "{refused}");
    drop((held, live));
    let none = cpreg_in(path, &["relay", "--to", "6.16.xz"]);
    assert_eq!(none.status, Some(2), "{none}");
}

/// Runs as a user who may not write to the folder, and who may not use the destination's socket.
#[test]
fn no_permission() {
    const NOBODY: u32 = 65534;
    let folder = folder();
    let path = folder.path();
    let mode = |name: &str, mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(path.join(name), permissions).expect("its owner may");
    };
    let copied = Command::new("cp")
        .args([env!("CARGO_BIN_EXE_cpreg"), "cpreg"])
        .current_dir(path)
        .status();
    assert!(copied.expect("cp starts").success());
    mode("cpreg", 0o755);
    mode("", 0o555);
    let is_root = fs::metadata(path).expect("it is there").uid() == 0;
    let start = |listen: &str, connect: &str| {
        let mut command = Command::new(path.join("cpreg"));
        remove_influences(&mut command);
        command.current_dir(path).args(["relay", "--to", "6.16.xz"]);
        command.args(["--listen", listen, "--connect", connect]);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let output = start("unix:here", "unix:there").wait_with_output();
    let run = Run::from_output(&["relay"], &output.expect("it ends"));
    mode("", 0o755);
    assert_snapshot!("relay_bad_permission", run);

    let _server = UnixListener::bind(path.join("there")).expect("a socket");
    mode("there", 0o000);
    let other = tempfile::tempdir().expect("a folder");
    fs::set_permissions(other.path(), fs::Permissions::from_mode(0o777)).expect("its owner may");
    let here = other.path().join("here");
    let child = start(&format!("unix:{}", here.display()), "unix:there");
    let until = Instant::now() + TEST_TIMEOUT;
    let socket = loop {
        match UnixStream::connect(&here) {
            Ok(socket) => break socket,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        thread::sleep(Duration::from_millis(2));
    };
    if is_root {
        send(socket, &read(path, "answered"));
        let run = Run::from_output(&["relay"], &child.wait_with_output().expect("it ends"));
        assert_eq!(run.status, Some(2), "{run}");
        assert!(
            run.stderr.contains("as the user that QEMU runs as"),
            "{run}"
        );
    } else {
        // On some systems the owner may use a socket with any mode. It is enough that the command
        // exits.
        send(socket, b"\x16\x03\x01\x02");
        child.wait_with_output().expect("it ends");
    }
}

/// Checks that a killed relay leaves a socket that the next one replaces, and no VM at the
/// destination.
#[test]
fn a_relay_that_is_killed() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let whole = convert(path, "answered", "6.16.xz");
    for sent in [200_000, vm.len() - 10] {
        let mut relay = RelayProcess::start(path, &["--to", "6.16.xz"]);
        let mut source = relay.source();
        let begin = vm[..sent].to_vec();
        let sender = thread::spawn(move || source.write_all(&begin).map(|()| source));
        // The destination reads from the start, because the sockets need not have space for all.
        let destination = relay.destination();
        let loading = thread::spawn(move || load(destination));
        let source = sender.join().expect("no panic").expect("it is taken");
        relay.wait_for("setup");
        relay.send(Signal::KILL);
        let arrived = loading.join().expect("no panic");
        drop(source);
        // The vCPUs may be sent early, and the end never.
        assert!(whole.starts_with(&arrived) && arrived.len() < whole.len());
        let (run, _) = relay.end();
        assert_eq!(run.status, None, "{run}");
        assert!(path.join("here").exists());
    }
}

/// Checks that the exit status has the VM's location although the reader of the report has exited.
#[test]
fn report_without_reader() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    for (to, status) in [("6.12.xz", 0), ("5.10.xz", 1)] {
        let mut relay = RelayProcess::start(path, &["--to", to]);
        drop(relay.child.stdout.take());
        migrate(
            &relay,
            |socket| send(socket, &vm),
            |mut socket| {
                let mut arrived = vec![0; vm.len()];
                if socket.read_exact(&mut arrived).is_ok() {
                    socket
                        .write_all(crate::relay_process::SHUT_SUCCESS)
                        .expect("the relay reads it");
                }
                arrived
            },
        );
        let (run, _) = relay.end();
        assert_eq!(run.status, Some(status), "{run}");
    }
}
