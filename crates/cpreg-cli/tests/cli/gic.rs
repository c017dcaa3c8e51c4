//! ICC_CTLR_EL1 of a VM's GICv3: a host whose GIC cannot have it gets no GIC.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use insta::assert_snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::{make_profile, unpack_stream};
use crate::relay_process::{RelayProcess, SHUT_ERROR, load, read, send, with_return_path};
use crate::run::{KVM_6_12, command, cpreg_in};

/// ICC_CTLR_EL1 of the recorded VM.
const RECORDED: u64 = 0x8c00;
/// Id string, instance and version of the GICv3's section.
const SECTION: &[u8] = b"\x09arm_gicv3\0\0\0\0\0\0\0\x01";

/// Returns a recorded VM whose GICv3 has this ICC_CTLR_EL1.
fn vm_with(icc_ctlr: u64) -> Vec<u8> {
    /// Distributor, redistributor, Secure ICC_CTLR_EL1.
    const OFFSET: usize = 10344 + 96 + 8;
    let mut stream = unpack_stream(KVM_6_12);
    let name = stream.windows(SECTION.len()).rposition(|it| it == SECTION);
    let at = name.expect("a GICv3") + SECTION.len() + OFFSET;
    let field = &mut stream[at..at + 8];
    assert_eq!(field, RECORDED.to_be_bytes());
    field.copy_from_slice(&icc_ctlr.to_be_bytes());
    stream
}

/// Returns a profile of the VM's host with this member `icc_ctlr_el1`.
fn profile_with(icc_ctlr: Option<&str>) -> String {
    let mut profile: Value = serde_json::from_str(&make_profile(KVM_6_12)).expect("a profile");
    profile["hardware"] = icc_ctlr.map_or_else(|| json!({}), |it| json!({"icc_ctlr_el1": it}));
    profile.to_string()
}

/// Creates a folder with the recorded VM as `vm`, one with more bits of priority as `wide`, and a
/// profile of their host as `host.json`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, icc_ctlr) in [("vm", RECORDED), ("wide", 0x8e00)] {
        fs::write(folder.path().join(name), vm_with(icc_ctlr)).expect("a file in it");
    }
    let profile = profile_with(Some("0x8c00"));
    fs::write(folder.path().join("host.json"), profile).expect("a file in it");
    folder
}

#[test]
fn more_bits_are_refused() {
    let folder = folder();
    let check = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    assert_snapshot!("gic_refused", check(&["check", "wide", "host.json"]));
    for consent in [&["--accept", "medium"][..], &["--ignore", "ICC_CTLR_EL1"]] {
        let run = check(&[&["check", "wide", "host.json"], consent].concat());
        assert_ne!(run.status, Some(0), "{run}");
    }
    let convert = ["convert", "wide", "host.json", "-o", "out"];
    assert_eq!(check(&convert).status, Some(1));
    assert!(!folder.path().join("out").exists());
    assert_eq!(check(&["check", "vm", "host.json"]).status, Some(0));
}

/// Returns the decision about the VM with this ICC_CTLR_EL1, with its values.
fn decision(icc_ctlr: u64, host: Option<&str>) -> [String; 3] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("vm"), vm_with(icc_ctlr)).expect("a file in it");
    fs::write(folder.path().join("host.json"), profile_with(host)).expect("a file in it");
    let run = cpreg_in(
        folder.path(),
        &["check", "vm", "host.json", "--format", "json"],
    );
    let report = run.json();
    let decisions = report["hardware"].as_array().expect("a list").iter();
    let mut decisions = decisions.filter(|it| it["property"] == "GIC limits (ICC_CTLR_EL1)");
    let decision = decisions.next().expect("a decision").clone();
    ["decision", "source", "destination"].map(|member| match &decision[member] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

#[test]
fn each_field_decides() {
    let text = |decision: [String; 3]| decision.join(" | ");
    let decisions = [
        (0x8c00, Some("0x8c00")),
        (0x8c03, Some("0x8c00")),
        (0x8400, Some("0x8c00")),
        (0x8b00, Some("0x8c00")),
        (0x8d00, Some("0x8c00")),
        (0x8c00, Some("0x8400")),
        (0xcc00, Some("0x8c00")),
        (0x8c00, Some("0xcc00")),
        (0x0c00, Some("0x8c00")),
        (0x8c00, None),
    ];
    let lines = decisions.map(|(vm, host)| text(decision(vm, host)));
    assert_snapshot!("gic_fields", lines.join("\n"));
}

/// Checks that a refused stream ends before its GICv3.
fn assert_without_gic(sent: &[u8], stream: &[u8]) {
    assert!(stream.starts_with(sent));
    assert!(!sent.windows(SECTION.len()).any(|it| it == SECTION));
    // The guest's memory was sent.
    assert!(sent.len() > 400_000);
}

fn filter(folder: &Path, stream: &[u8]) -> (Option<i32>, Vec<u8>) {
    let mut child = command(folder, &["filter", "host.json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut input = child.stdin.take().expect("a pipe");
    let output = thread::scope(|scope| {
        scope.spawn(move || input.write_all(stream).expect("it reads everything"));
        child.wait_with_output().expect("it ends")
    });
    (output.status.code(), output.stdout)
}

#[test]
fn a_filter_holds_the_gic() {
    let folder = folder();
    for (name, status) in [("vm", 0), ("wide", 1)] {
        let stream = read(folder.path(), name);
        let (code, sent) = filter(folder.path(), &stream);
        assert_eq!(code, Some(status), "{name}");
        if status == 0 {
            assert!(sent == stream);
        } else {
            assert_without_gic(&sent, &stream);
        }
    }
}

/// The registers of both VMs load, so that only the GICv3 keeps the relay from sending the vCPUs
/// early, with the GICv3 in front of them.
#[test]
fn a_relay_holds_the_gic() {
    let folder = folder();
    let stream = with_return_path(&read(folder.path(), "wide"));
    let relay = RelayProcess::start(folder.path(), &["--to", "host.json"]);
    let (received, sent) = thread::scope(|scope| {
        let socket = relay.source();
        let source = scope.spawn(|| send(socket, &stream));
        let sent = load(relay.destination());
        (source.join().expect("no panic"), sent)
    });
    let (run, log) = relay.end();
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stdout.contains("PRIbits 6 above 4"), "{run}");
    assert_eq!(received, SHUT_ERROR);
    assert_without_gic(&sent, &stream);
    let end = log.last().expect("events");
    assert_eq!(end["vm_location"], "source");
}

#[test]
fn a_vm_cannot_come_from_a_host_with_a_smaller_gic() {
    let folder = folder();
    let from = ["check", "wide", "host.json", "--from", "host.json"];
    let run = cpreg_in(folder.path(), &from);
    assert_snapshot!("gic_contradiction", run);
    let from = ["check", "vm", "host.json", "--from", "host.json"];
    assert_eq!(cpreg_in(folder.path(), &from).status, Some(0));
}
