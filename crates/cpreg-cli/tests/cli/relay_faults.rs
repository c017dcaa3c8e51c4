//! `cpreg relay` with stalled peers and signals in every phase; its memory and its idle CPU time.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixtures::unpack_stream;
use crate::relay_process::{
    RelayProcess, TEST_TIMEOUT, folder, load, load_and_confirm, read, with_return_path,
};
use crate::run::{KVM_6_12, cpreg_in, wait_until_it_sleeps};
use cpreg_testdata::large_stream::{self, Size};

const MIB: u64 = 1 << 20;

/// Returns the peak memory in bytes.
fn peak_memory(child: &Child) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.expect("a line").trim().strip_suffix(" kB");
    kibibytes.expect("a unit").parse::<u64>().expect("a number") << 10
}

fn assert_small_memory(child: &Child) {
    let peak = peak_memory(child);
    assert!(peak > MIB && peak < 64 * MIB, "{peak} bytes");
}

/// Checks that waiting for a stalled source uses no CPU in any phase, and that a signal cancels the
/// migration cleanly.
#[test]
fn stalled_source_and_a_signal() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let to = ["convert", "answered", "6.16.xz", "-o", "whole"];
    assert_eq!(cpreg_in(path, &to).status, Some(0));
    let whole = read(path, "whole");
    for (sent_length, event, signal) in [
        (100, "connected", Signal::INT),
        (200_000, "phase", Signal::TERM),
        (vm.len() - 20_000, "phase", Signal::INT),
        (vm.len() - 1, "phase", Signal::TERM),
    ] {
        let mut relay = RelayProcess::start(path, &["--to", "6.16.xz"]);
        let mut source = relay.source();
        // The destination reads from the start, because the sockets need not have space for all.
        let mut sender = source.try_clone().expect("a socket");
        let sent = vm[..sent_length].to_vec();
        let sender = thread::spawn(move || sender.write_all(&sent));
        let destination = relay.destination();
        let loading = thread::spawn(move || load(destination));
        let sent = sender.join().expect("no panic");
        sent.expect("it is sent");
        relay.wait_for(event);
        // The relay polls an incomplete device state.
        let max_ticks = if sent_length > 300_000 { 15 } else { 1 };
        wait_until_it_sleeps(&relay.child, max_ticks);
        let begin = Instant::now();
        relay.send(signal);
        let arrived = loading.join().expect("no panic");
        let mut received = Vec::new();
        let _ = source.read_to_end(&mut received);
        let (run, log) = relay.end();
        assert!(begin.elapsed() < TEST_TIMEOUT);
        assert_eq!(run.status, Some(2), "{run}");
        // The vCPUs may be sent early. The end of the stream is never sent, and without it no QEMU
        // runs the VM.
        assert!(arrived.len() < whole.len() && whole.starts_with(&arrived));
        let last_event = log.last().expect("an end");
        assert_eq!(last_event["outcome"], "cancelled");
        assert_eq!(last_event["vm_location"], "source");
        assert!(run.stderr.contains("the VM is at the source"), "{run}");
        assert!(!path.join("here").exists());
    }
}

#[test]
fn signal_before_a_source_connects() {
    let folder = folder();
    for (options, signal, status) in [
        (&[][..], Signal::INT, 2),
        (&["--repeat"], Signal::INT, 0),
        (&["--repeat"], Signal::TERM, 0),
    ] {
        let relay = RelayProcess::start(folder.path(), &[&["--to", "6.16.xz"], options].concat());
        relay.send(signal);
        let (run, _) = relay.end();
        assert_eq!(run.status, Some(status), "{run}");
        assert!(!folder.path().join("here").exists());
    }
}

/// Writes a stream with 256 MiB of pages and a return path. Returns whether all of it was written.
fn write_large(socket: &UnixStream) -> bool {
    let size = Size {
        ram: 256 * MIB,
        sent_ram: 256 * MIB,
        vcpus: 8,
    };
    let socket = socket.try_clone().expect("a socket");
    let recorded = with_return_path(&unpack_stream(KVM_6_12));
    large_stream::write(&recorded, size, &File::from(OwnedFd::from(socket))).is_ok()
}

/// Checks that the relay does not collect data in memory: neither RAM that it forwards, nor RAM or
/// replies that the other side does not read.
#[test]
fn memory_is_bounded() {
    let folder = folder();
    let path = folder.path();
    let size = Size {
        ram: 256 * MIB,
        sent_ram: 0,
        vcpus: 8,
    };
    let grown = File::create_new(path.join("grown")).expect("a file");
    large_stream::write(&unpack_stream(crate::run::KVM_6_16), size, &grown).expect("it grows");

    let relay = RelayProcess::start(path, &["--to", "grown"]);
    thread::scope(|scope| {
        let mut source = relay.source();
        scope.spawn(move || {
            assert!(write_large(&source));
            let _ = source.read_to_end(&mut Vec::new());
        });
        let mut destination = relay.destination();
        let mut buffer = vec![0; 1 << 20];
        // The destination is slow at first.
        thread::sleep(Duration::from_millis(200));
        let mut forwarded = 0;
        let mut tail = Vec::new();
        while !tail.ends_with(b"}") || forwarded < 256 * MIB {
            let count = destination.read(&mut buffer).expect("more comes");
            assert!(count > 0, "it ends after {forwarded} bytes");
            forwarded += count as u64;
            tail = buffer[..count].to_vec();
        }
        assert_small_memory(&relay.child);
        destination
            .write_all(crate::relay_process::SHUT_SUCCESS)
            .expect("it is received");
    });
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(0), "{run}");

    // Neither side reads.
    let mut relay = RelayProcess::start(path, &["--to", "grown"]);
    thread::scope(|scope| {
        let source = relay.source();
        scope.spawn(move || assert!(!write_large(&source), "all of it was read"));
        let destination = relay.destination();
        let mut writer = destination.try_clone().expect("a socket");
        scope.spawn(move || {
            let replies = b"\0\x02\0\x04\0\0\0\x01".repeat(4 << 20);
            assert!(writer.write_all(&replies).is_err(), "all of it was read");
        });
        relay.wait_for("phase");
        thread::sleep(Duration::from_millis(300));
        assert_small_memory(&relay.child);
        relay.send(Signal::INT);
        assert!(load(destination).len() < 2 << 20);
    });
    let (run, log) = relay.end();
    assert_eq!(run.status, Some(2), "{run}");
    assert_eq!(log.last().expect("an end")["outcome"], "cancelled");
}

/// Checks that a signal after the device state was sent does not cancel the migration.
#[test]
fn signal_after_the_device_state() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let mut relay = RelayProcess::start(path, &["--to", "6.12.xz"]);
    let mut source = relay.source();
    let mut sender = source.try_clone().expect("a socket");
    let sent = vm.clone();
    let sender = thread::spawn(move || sender.write_all(&sent));
    let destination = thread::spawn({
        let destination = relay.destination();
        let length = vm.len();
        move || {
            thread::sleep(Duration::from_millis(300));
            load_and_confirm(destination, length)
        }
    });
    let sent = sender.join().expect("no panic");
    sent.expect("it is sent");
    relay.wait_for("device-state-received");
    // The device state is larger than the socket's buffer, so a part of it waits.
    relay.wait_for("device-state-sent");
    relay.send(Signal::INT);
    relay.send(Signal::TERM);
    let mut received = Vec::new();
    source.read_to_end(&mut received).expect("an answer");
    drop(source);
    assert!(destination.join().expect("a thread") == vm);
    let (run, log) = relay.end();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(log.last().expect("an end")["vm_location"], "destination");
}
