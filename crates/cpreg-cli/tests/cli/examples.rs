//! The programs in `examples/`, on recorded VMs. Sessions in docs/tasks.md run `check_vm`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::documents::example;
use crate::relay_process::{SHUT_ERROR, folder, load, load_and_confirm, read, send};
use crate::run::{Run, cpreg_in};

const HOST_6_16: &str = "linux-6.16.12/neoverse-n1/pmu";
const HOST_5_10: &str = "linux-5.10.223/neoverse-n1/pmu";

fn run_example(folder: &Path, name: &str, arguments: &[&str]) -> Run {
    let mut command = Command::new(example(name));
    let output = command.args(arguments).current_dir(folder).output();
    Run::from_output(arguments, &output.expect("the example starts"))
}

#[test]
fn a_stream_is_shown_and_converted() {
    let folder = folder();
    let path = folder.path();
    let run = run_example(path, "convert_stream", &["vm", HOST_6_16, "new"]);
    assert_eq!(run.status, Some(0), "{run}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "vm: virt-10.0",
            "  vCPU 0: 258 registers",
            "new: virt-10.0",
            "  vCPU 0: 255 registers",
        ]
    );
    assert!(lines.contains(&"vCPU 0: TCR2_EL1: removed"), "{run}");
    // The command makes the same file, and the other host loads it.
    let converted = cpreg_in(path, &["convert", "vm", "6.16.xz", "-o", "expected"]);
    assert_eq!(converted.status, Some(0), "{converted}");
    assert!(read(path, "new") == read(path, "expected"));
    let check = cpreg_in(path, &["check", "new", HOST_6_16, "-q"]);
    assert!(check.stdout.starts_with("loads: "), "{check}");
}

#[test]
fn a_refused_stream_is_not_written() {
    let folder = folder();
    let run = run_example(folder.path(), "convert_stream", &["vm", HOST_5_10, "new"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("needs a decision"), "{run}");
    assert!(!folder.path().join("new").exists());
}

/// Runs `relay_policy` for one migration. Returns its run, and the bytes that the destination
/// received.
fn relay(
    folder: &Path,
    host: &str,
    max_vcpus: &str,
    stream: &[u8],
    destination: impl FnOnce(UnixStream) -> Vec<u8>,
) -> (Run, Vec<u8>, Vec<u8>) {
    let server = UnixListener::bind(folder.join("there")).expect("a socket");
    let arguments = ["unix:here", "unix:there", host, max_vcpus];
    let mut child = Command::new(example("relay_policy"))
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut printed = String::new();
    stdout.read_line(&mut printed).expect("a line");
    assert_eq!(printed, "listening\n");
    let (reply, arrived) = thread::scope(|scope| {
        let socket = UnixStream::connect(folder.join("here")).expect("it listens");
        let reply = scope.spawn(move || send(socket, stream));
        let arrived = destination(server.accept().expect("a connection").0);
        (reply.join().expect("no panic"), arrived)
    });
    stdout.read_to_string(&mut printed).expect("UTF-8");
    let mut output = child.wait_with_output().expect("an exit");
    output.stdout = printed.into_bytes();
    fs::remove_file(folder.join("there")).expect("the socket");
    (Run::from_output(&arguments, &output), reply, arrived)
}

#[test]
fn a_migration_is_relayed_by_a_policy() {
    let folder = folder();
    let path = folder.path();
    let stream = read(path, "answered");
    let expected = cpreg_in(path, &["convert", "answered", "6.16.xz", "-o", "expected"]);
    assert_eq!(expected.status, Some(0), "{expected}");
    let expected = read(path, "expected");
    let length = expected.len();
    let (run, _, arrived) = relay(path, HOST_6_16, "1", &stream, |socket| {
        load_and_confirm(socket, length)
    });
    assert_eq!(run.status, Some(0), "{run}");
    assert!(arrived == expected);
    assert!(run.stdout.ends_with("the VM is at: destination\n"), "{run}");
}

#[test]
fn a_policy_rejects_a_migration() {
    let folder = folder();
    let path = folder.path();
    let stream = read(path, "answered");
    for (host, max_vcpus, reason) in [
        (HOST_6_16, "0", "too many vCPUs"),
        (HOST_5_10, "1", "needs a decision"),
    ] {
        let (run, reply, arrived) = relay(path, host, max_vcpus, &stream, load);
        assert_eq!(run.status, Some(1), "{run}");
        assert!(run.stderr.contains(reason), "{run}");
        assert!(run.stdout.ends_with("the VM is at: source\n"), "{run}");
        assert_eq!(reply, SHUT_ERROR);
        assert!(arrived.len() < stream.len());
    }
}
