//! `cpreg filter` between files and pipes, and its output after failures.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use cpreg_stream::incremental::IncrementalParser;
use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::fixtures::unpack_stream;
use crate::relay_process::TEST_TIMEOUT;
use crate::run::{
    KVM_5_10, KVM_6_12, KVM_6_16, Run, TCG_10_0_MAPPED_RAM, command, cpreg_in, streams,
    wait_until_it_sleeps, without_command,
};
use cpreg_testdata::large_stream::{self, Size};

const SNAPSHOT: &str = "tcg/q11.1__virt-11.1-cortex-a57-smp2-snapshot.stream.xz";
const POSTCOPY: &str = "tcg/q11.1__virt-11.1-cortex-a57-smp2-postcopy.stream.xz";

/// Creates a folder with a VM of Linux 6.12, `vm`, one of 6.16, `vm-6.16`, and streams of other
/// kernels.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, stream) in [("vm", KVM_6_12), ("vm-6.16", KVM_6_16)] {
        fs::write(folder.path().join(name), unpack_stream(stream)).expect("a file in it");
    }
    for (stream, name) in [
        (KVM_6_16, "6.16.xz"),
        (KVM_6_12, "6.12.xz"),
        (KVM_5_10, "5.10.xz"),
    ] {
        fs::copy(streams().join(stream), folder.path().join(name)).expect("a copy");
    }
    folder
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).expect("a file")
}

fn start(folder: &Path, arguments: &[&str]) -> Child {
    command(folder, &[&["filter"], arguments].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

/// Filters these bytes from pipe to pipe. Returns the run and the output.
fn filter(folder: &Path, arguments: &[&str], stream: &[u8]) -> (Run, Vec<u8>) {
    let mut child = start(folder, arguments);
    let mut input = child.stdin.take().expect("a pipe");
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // Write chunks as they arrive over a network. The command may exit before it has read
            // everything.
            for piece in stream.chunks(14_600) {
                if input.write_all(piece).is_err() {
                    break;
                }
            }
        });
        child.wait_with_output().expect("it ends")
    });
    split_output(arguments, output)
}

fn split_output(arguments: &[&str], output: Output) -> (Run, Vec<u8>) {
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let arguments = [&["filter"], arguments].concat();
    let output = Output {
        status,
        stdout: Vec::new(),
        stderr,
    };
    (Run::from_output(&arguments, &output), stdout)
}

#[test]
fn output_is_that_of_convert() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    let convert = ["convert", "vm", "6.16.xz", "-o", "converted"];
    assert_eq!(cpreg_in(folder.path(), &convert).status, Some(0));
    let converted = read(folder.path(), "converted");

    let (run, out) = filter(folder.path(), &["6.16.xz"], &vm);
    assert_snapshot!("filter", run);
    assert!(out == converted);

    // From file to file.
    let file = |name: &str| folder.path().join(name);
    let status = command(folder.path(), &["filter", "6.16.xz"])
        .stdin(File::open(file("vm")).expect("a file"))
        .stdout(File::create_new(file("out")).expect("a file"))
        .stderr(Stdio::null())
        .status();
    assert_eq!(status.expect("it ends").code(), Some(0));
    assert!(read(folder.path(), "out") == converted);

    // With a recorded host, and the user's consents.
    let host = "linux-6.16.12/neoverse-n1";
    for options in [&[][..], &["--drop", "MDSCR_EL1", "--loader", "qemu-10.0"]] {
        let arguments = [&[host], options].concat();
        let (run, out) = filter(folder.path(), &arguments, &vm);
        let convert = [&["convert", "vm", "-o", "other", "--force"], &arguments[..]].concat();
        let converted = cpreg_in(folder.path(), &convert);
        assert_eq!(run.status, converted.status, "{run}");
        assert_eq!(run.status, Some(0), "{run}");
        assert!(out == read(folder.path(), "other"));
    }
}

#[test]
fn loading_vm_is_unchanged() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    let (run, out) = filter(folder.path(), &["6.12.xz"], &vm);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(out == vm);
}

/// Checks that the output of a refused stream has no device state, and does not open.
fn assert_truncated(folder: &Path, out: &[u8], vm: &[u8]) {
    assert!(vm.starts_with(out));
    fs::write(folder.join("cut"), out).expect("a file");
    let shown = cpreg_in(folder, &["show", "cut"]);
    assert_eq!(shown.status, Some(2), "{shown}");
}

#[test]
fn refused_vm_has_no_device_state() {
    let folder = folder();
    for (vm, to, status) in [("vm", "5.10.xz", 1), ("vm-6.16", "6.12.xz", 3)] {
        let stream = read(folder.path(), vm);
        let (run, out) = filter(folder.path(), &[to], &stream);
        assert_eq!(run.status, Some(status), "{run}");
        assert_snapshot!(format!("filter_{status}"), run);
        assert_truncated(folder.path(), &out, &stream);
        // The guest's memory was forwarded.
        assert!(out.len() > 400_000);
    }
    let stream = read(folder.path(), "vm-6.16");
    let consent = ["6.12.xz", "--accept", "low"];
    let (run, out) = filter(folder.path(), &consent, &stream);
    assert_eq!(run.status, Some(0), "{run}");
    let convert = [&["convert", "vm-6.16", "-o", "other"], &consent[..]].concat();
    assert_eq!(cpreg_in(folder.path(), &convert).status, Some(0));
    assert!(out == read(folder.path(), "other"));
}

/// Returns the number of bytes in front of RAM's pages.
fn setup_length(stream: &[u8]) -> usize {
    let mut parser = IncrementalParser::new();
    let mut consumed = 0;
    for end in 1..stream.len() {
        let step = parser
            .feed(&stream[consumed..end], false)
            .expect("a stream");
        consumed += step.forward;
        if parser.setup().is_some() {
            return end;
        }
    }
    panic!("a list of RAM blocks");
}

/// Filters a stream of which only the bytes in front of RAM's pages arrive. The input stays open,
/// so the command ends only if it does not wait for the rest.
fn filter_setup(folder: &Path, arguments: &[&str], stream: &[u8]) -> (Run, Vec<u8>) {
    let mut child = start(folder, arguments);
    let mut input = child.stdin.take().expect("a pipe");
    input
        .write_all(&stream[..setup_length(stream)])
        .expect("a pipe");
    // A command that waits for the rest gets its end, so that the test fails and does not hang.
    let (ended, end) = mpsc::channel::<()>();
    let guard = thread::spawn(move || {
        let _ = end.recv_timeout(TEST_TIMEOUT);
        drop(input);
    });
    let output = child.wait_with_output().expect("it ends");
    drop(ended);
    guard.join().expect("it ends");
    split_output(arguments, output)
}

/// Checks that another machine type or RAM size is refused before any byte is forwarded.
#[test]
fn another_machine_is_refused_before_ram() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    let larger = File::create_new(folder.path().join("larger")).expect("a file");
    let size = Size {
        ram: 256 << 20,
        sent_ram: 0,
        vcpus: 2,
    };
    large_stream::write(&vm, size, &larger).expect("it grows");
    for (name, arguments) in [
        ("ram", &["larger"][..]),
        ("machine_type", &["6.16.xz", "--loader", "qemu-8.2"]),
        ("ram_verbose", &["larger", "-v"]),
        ("ram_quiet", &["larger", "-q"]),
    ] {
        let (run, out) = filter_setup(folder.path(), arguments, &vm);
        assert_eq!((run.status, out.len()), (Some(1), 0), "{run}");
        assert_snapshot!(format!("filter_setup_{name}"), run);
    }
    let (run, _) = filter_setup(folder.path(), &["larger", "--format", "json"], &vm);
    let document: serde_json::Value = serde_json::from_str(&run.stderr).expect("JSON");
    assert_eq!(document["verdict"], "refused");
    assert_eq!(document["blockers"][0]["kind"], "shape");
    assert_eq!(document["blockers"][0]["name"], "RAM block mach-virt.ram");
    let note = document["notes"][0].as_str().expect("a note");
    assert!(
        note.starts_with("the device state was not read"),
        "{document}"
    );
    // `check` finds the same differences of machine type and RAM, and those of the vCPUs.
    let check = cpreg_in(
        folder.path(),
        &["check", "vm", "larger", "--format", "json"],
    )
    .json();
    let shape = |document: &serde_json::Value| document["shape"].as_array().cloned();
    let setup = shape(&document).expect("differences");
    let all = shape(&check).expect("differences");
    assert!(all.len() > setup.len() && setup.iter().all(|it| all.contains(it)));
}

/// Checks that a destination of which no machine is known is not refused before RAM.
#[test]
fn a_recorded_host_has_no_machine() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    let loader = ["linux-6.16.12/neoverse-n1", "--loader", "qemu-8.2"];
    let (run, out) = filter(folder.path(), &loader, &vm);
    assert_eq!(run.status, Some(1), "{run}");
    assert_truncated(folder.path(), &out, &vm);
    assert!(out.len() > 400_000);
}

#[test]
fn json_is_that_of_check() {
    let folder = folder();
    let arguments = ["check", "-", "6.16.xz", "--format", "json"];
    let check = command(folder.path(), &arguments)
        .stdin(File::open(folder.path().join("vm")).expect("a file"))
        .output();
    let check = Run::from_output(&arguments, &check.expect("it ends")).json();
    let vm = read(folder.path(), "vm");
    let (run, _) = filter(folder.path(), &["6.16.xz", "--format", "json"], &vm);
    let filtered: serde_json::Value = serde_json::from_str(&run.stderr).expect("JSON");
    assert_eq!(without_command(filtered), without_command(check));
}

/// Checks that errors in the arguments are reported before a VM of many gigabytes is forwarded.
#[test]
fn bad_arguments_are_reported_before_reading() {
    let folder = folder();
    for (name, arguments) in [
        ("nowhere", &["nowhere"][..]),
        ("host", &["linux-next/neoverse-n1"]),
        ("itself", &["-"]),
        ("vmm", &["6.16.xz", "--loader", "nonsense"]),
        ("set", &["6.16.xz", "--set", "SCTLR_EL1.NOTHING=1"]),
        ("file", &["6.16.xz", "--tolerances", "nowhere"]),
    ] {
        let mut child = start(folder.path(), arguments);
        // Nothing is written to the input, and it stays open.
        let _input = child.stdin.take();
        let (run, out) = split_output(arguments, child.wait_with_output().expect("it ends"));
        assert_eq!((run.status, out.len()), (Some(2), 0), "{run}");
        assert_snapshot!(format!("filter_bad_{name}"), run);
    }
}

#[test]
fn streams_that_a_filter_does_not_support() {
    let folder = folder();
    // A recorded host has no machine, so the filter reads the stream to its end.
    let to = ["linux-6.16.12/neoverse-n1"];
    for (name, stream) in [
        ("mapped_ram", unpack_stream(TCG_10_0_MAPPED_RAM)),
        ("snapshot", unpack_stream(SNAPSHOT)),
        ("postcopy", unpack_stream(POSTCOPY)),
        (
            "tls",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and more".to_vec(),
        ),
        ("empty", Vec::new()),
        ("text", b"This is no stream of any kind.".to_vec()),
        ("packed", read(folder.path(), "6.12.xz")),
    ] {
        let (run, out) = filter(folder.path(), &to, &stream);
        assert_eq!(run.status, Some(2), "{run}");
        // The number of forwarded bytes depends on the chunks in which they arrived.
        let text = run.to_string();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.contains("bytes were forwarded"))
            .collect();
        assert_snapshot!(format!("filter_carries_no_{name}"), lines.join("\n"));
        if !out.is_empty() {
            assert_truncated(folder.path(), &out, &stream);
        }
    }
}

#[test]
fn an_input_that_ends_too_early() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    // Cut in the header, in RAM, in the device state, in the description.
    for length in [3, 200_000, vm.len() - 20_000, vm.len() - 9] {
        let (run, out) = filter(folder.path(), &["6.16.xz"], &vm[..length]);
        assert_eq!(run.status, Some(2), "{run}");
        assert_truncated(folder.path(), &out, &vm);
    }
    let (run, _) = filter(folder.path(), &["6.16.xz"], &vm[..200_000]);
    assert_snapshot!("filter_cut", run);
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    let mut child = start(folder.path(), &["6.16.xz"]);
    drop(child.stdout.take());
    let mut input = child.stdin.take().expect("a pipe");
    let _ = input.write_all(&vm);
    drop(input);
    let (run, _) = split_output(&["6.16.xz"], child.wait_with_output().expect("it ends"));
    assert_eq!(run.status, Some(2), "{run}");
    assert_snapshot!("filter_closed_output", run);

    let full = File::options().write(true).open("/dev/full");
    let output = command(folder.path(), &["filter", "6.16.xz"])
        .stdin(File::open(folder.path().join("vm")).expect("a file"))
        .stdout(full.expect("a device that is full"))
        .stderr(Stdio::piped())
        .output();
    let (run, _) = split_output(&["6.16.xz"], output.expect("it ends"));
    assert_eq!(run.status, Some(2), "{run}");
    assert_snapshot!("filter_full_output", run);
}

/// Checks that waiting for a stalled input uses no CPU, and that Ctrl-C ends it.
#[test]
fn stalled_input() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    for sent in [0, 200_000, vm.len() - 1] {
        let mut child = start(folder.path(), &["6.16.xz"]);
        let mut input = child.stdin.take().expect("a pipe");
        let mut output = child.stdout.take().expect("a pipe");
        let vm = &vm;
        let out = thread::scope(|scope| {
            let out = scope.spawn(move || {
                let mut out = Vec::new();
                output.read_to_end(&mut out).expect("a pipe");
                out
            });
            input.write_all(&vm[..sent]).expect("a pipe");
            wait_until_it_sleeps(&child, 1);
            assert!(child.try_wait().expect("a process").is_none());
            kill_process(Pid::from_child(&child), Signal::INT).expect("it can be sent");
            let status = child.wait().expect("it ends");
            assert_eq!(status.signal(), Some(Signal::INT.as_raw()));
            out.join().expect("a thread")
        });
        assert_truncated(folder.path(), &out, vm);
    }
}

/// Checks that RAM is forwarded, not kept: the peak memory of the process is far below the
/// forwarded size.
#[test]
fn memory_does_not_grow_with_ram() {
    const MIB: u64 = 1 << 20;
    let folder = folder();
    let size = Size {
        ram: 256 * MIB,
        sent_ram: 256 * MIB,
        vcpus: 64,
    };
    let recorded = unpack_stream(KVM_6_12);
    let there = File::create_new(folder.path().join("there")).expect("a file");
    large_stream::write(
        &unpack_stream(KVM_6_16),
        Size {
            sent_ram: 0,
            ..size
        },
        &there,
    )
    .expect("it grows");

    let mut child = start(folder.path(), &["there"]);
    let input = child.stdin.take().expect("a pipe");
    let mut output = child.stdout.take().expect("a pipe");
    let (forwarded, peak) = thread::scope(|scope| {
        scope.spawn(move || {
            let input = File::from(std::os::fd::OwnedFd::from(input));
            large_stream::write(&recorded, size, &input).expect("a pipe");
        });
        let mut buffer = vec![0; 1 << 20];
        let (mut forwarded, mut peak) = (0, 0);
        loop {
            let count = output.read(&mut buffer).expect("a pipe");
            if count == 0 {
                return (forwarded, peak);
            }
            forwarded += count as u64;
            peak = peak_memory(&child).unwrap_or(peak);
        }
    });
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(forwarded > 256 * MIB);
    assert!(peak > MIB && peak < 64 * MIB, "{peak} bytes");
}

/// Returns the peak memory in bytes.
fn peak_memory(child: &Child) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

/// Checks that the command exits when its input ends, without waiting.
#[test]
fn it_ends_when_its_input_ends() {
    let folder = folder();
    let vm = read(folder.path(), "vm");
    let begin = Instant::now();
    let (run, _) = filter(folder.path(), &["6.16.xz"], &vm);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(begin.elapsed() < TEST_TIMEOUT);
}
