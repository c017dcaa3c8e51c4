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
