//! Snapshots of Firecracker and Cloud Hypervisor, which hold registers and no stream.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fixtures::unpack_sparse;
use crate::run::cpreg_in;

const HOST: &str = "linux-6.16.12/neoverse-n1";

/// Unpacks a recorded file into the folder.
fn unpack(recorded: &str, folder: &Path, name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vmm");
    unpack_sparse(&root.join(format!("{recorded}.xz")), &folder.join(name));
}

/// Creates a folder with a snapshot of Firecracker 1.14, made on Linux 6.12.
fn folder_with_vmstate() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recorded = "firecracker/v1.14.4/6.12.107__neoverse-n1__v1.vmstate";
    unpack(recorded, folder.path(), "vmstate");
    folder
}

#[test]
fn a_snapshot_of_firecracker_is_shown_and_checked() {
    let folder = folder_with_vmstate();
    let show = cpreg_in(folder.path(), &["show", "vmstate"]);
    assert_eq!(show.status, Some(0), "{show}");
    let summary = show.stdout.split_once("\n\n").expect("a summary").0;
    assert_snapshot!("firecracker_show", summary);
    assert_snapshot!(
        "firecracker_check",
        cpreg_in(folder.path(), &["check", "vmstate", HOST])
    );
}

/// The file of the command equals that of Firecracker's `snapshot-editor` with the options that
/// `cpreg check` prints.
#[test]
fn a_converted_snapshot_equals_that_of_snapshot_editor() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = "6.12.107__neoverse-n1__v1.vmstate";
    unpack(
        &format!("firecracker/v1.16.1/{file}"),
        folder.path(),
        "vmstate",
    );
    let edited = "firecracker/edited/6.12.107-to-6.16.12__neoverse-n1__v1.vmstate";
    unpack(edited, folder.path(), "edited");
    let run = cpreg_in(folder.path(), &["convert", "vmstate", HOST, "-o", "new"]);
    assert_eq!(run.status, Some(0), "{run}");
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert!(read("new") == read("edited"));
    let in_place = cpreg_in(folder.path(), &["convert", "vmstate", HOST, "--in-place"]);
    assert_eq!(in_place.status, Some(0), "{in_place}");
    assert!(read("vmstate") == read("edited"));
}

#[test]
fn a_snapshot_of_cloud_hypervisor_is_converted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recorded = "cloud-hypervisor/v53.0/6.12.107__neoverse-n1__v1/state.json";
    unpack(recorded, folder.path(), "state.json");
    let check = cpreg_in(
        folder.path(),
        &[
            "check",
            "state.json",
            HOST,
            "--loader",
            "cloud-hypervisor-53",
        ],
    );
    assert_snapshot!("cloud_hypervisor_check", check);
    let run = cpreg_in(folder.path(), &["convert", "state.json", HOST, "-o", "new"]);
    assert_eq!(run.status, Some(0), "{run}");
    let again = cpreg_in(folder.path(), &["check", "new", HOST, "-q"]);
    assert_eq!(again.status, Some(0), "{again}");
    assert!(again.stdout.starts_with("loads: "), "{again}");
}

#[test]
fn damaged_snapshots_are_errors() {
    let folder = folder_with_vmstate();
    let bytes = fs::read(folder.path().join("vmstate")).expect("a file");
    fs::write(folder.path().join("cut"), &bytes[..bytes.len() / 2]).expect("a file");
    let mut damaged = bytes;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(folder.path().join("damaged"), damaged).expect("a file");
    for name in ["cut", "damaged"] {
        let run = cpreg_in(folder.path(), &["check", name, HOST]);
        assert_eq!(run.status, Some(2), "{run}");
        assert!(run.stderr.contains("the checksum is wrong"), "{run}");
    }
}

/// The script has the registers of `edited.jsonl`, and no others.
#[test]
fn a_script_for_one_pair_removes_exactly_its_registers() {
    let folder = folder_with_vmstate();
    let pair = |destination| {
        let arguments = [
            "tolerances",
            "--export",
            "firecracker",
            "--for",
            "vmstate",
            destination,
        ];
        cpreg_in(folder.path(), &arguments)
    };
    let run = pair(HOST);
    assert_snapshot!("firecracker_pair", run);
    let removed = run
        .stdout
        .lines()
        .filter(|line| line.starts_with("set -- \"$@\""));
    assert_eq!(removed.count(), 3);
    let same = pair("linux-6.12.107/neoverse-n1");
    assert_eq!(same.status, Some(2), "{same}");
    assert!(same.stderr.contains("loads unchanged"), "{same}");
    let other = pair("linux-5.10.223/neoverse-n1");
    assert_eq!(other.status, Some(2), "{other}");
    assert!(other.stderr.contains("cpreg check vmstate"), "{other}");
}

/// PSCI 1.3 of Linux 6.16 is no version of Linux 6.12.
#[test]
fn a_template_for_the_next_vm_is_printed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recorded = "firecracker/v1.14.4/6.16.12__neoverse-n1__v1.vmstate";
    unpack(recorded, folder.path(), "vmstate");
    let host = "linux-6.12.107/neoverse-n1";
    let check = cpreg_in(folder.path(), &["check", "vmstate", host]);
    assert_snapshot!("firecracker_template", check);
    let modifier = format!(
        "{{\"addr\":\"0x6030000000140000\",\"bitmap\":\"0b{}1{}1\"}}",
        "0".repeat(15),
        "0".repeat(15)
    );
    assert!(check.stdout.contains(&modifier), "{check}");
}

#[test]
fn commands_for_streams_say_what_to_do_with_a_snapshot() {
    let folder = folder_with_vmstate();
    for arguments in [
        &["report", "vmstate"][..],
        &["rehearse", "vmstate", "--", "qemu-system-aarch64"],
    ] {
        let run = cpreg_in(folder.path(), arguments);
        assert_eq!(run.status, Some(2), "{run}");
        assert!(
            run.stderr.contains("a migration stream of QEMU is needed"),
            "{run}"
        );
        for command in ["cpreg check vmstate DESTINATION", "cpreg show vmstate"] {
            assert!(run.stderr.contains(command), "{run}");
        }
    }
}
