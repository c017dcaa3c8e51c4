//! Saved VMs in the files and folders of other programs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fixtures::{folder_with, unpack_sparse};
use crate::run::cpreg_in;

/// Raw image of QEMU 7.2 with one vCPU.
const OLD_RAW: &str = "libvirt9.0__q7.2__virt-7.2-neoverse-n1-smp1-raw";
/// Image of QEMU 7.2 with two vCPUs, compressed with gzip.
const OLD_GZIP: &str = "libvirt9.0__q7.2__virt-7.2-neoverse-n1-smp2-gzip";
/// Raw image of QEMU 10.0 with one vCPU.
const NEW_RAW: &str = "libvirt11.3__q10.0__virt-10.0-neoverse-n1-smp1-raw";
/// Sparse image of QEMU 10.0.
const NEW_SPARSE: &str = "libvirt11.3__q10.0__virt-10.0-neoverse-n1-smp2-sparse";

/// Unpacks a recorded image into the folder.
fn unpack(image: &str, folder: &Path, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/libvirt");
    let path = folder.join(name);
    unpack_sparse(&root.join(format!("{image}.save.xz")), &path);
    path
}

/// Creates a folder with a recorded image called `web.save`.
fn folder_with_image(image: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    unpack(image, folder.path(), "web.save");
    folder
}

#[test]
fn images_are_shown() {
    for (name, image) in [
        ("saved_show_raw", OLD_RAW),
        ("saved_show_gzip", OLD_GZIP),
        ("saved_show_sparse", NEW_SPARSE),
    ] {
        let folder = folder_with_image(image);
        let run = cpreg_in(folder.path(), &["show", "web.save"]);
        assert_eq!(run.status, Some(0), "{run}");
        // Registers follow the summary.
        let summary = run.stdout.split_once("\n\n").expect("a summary").0;
        assert_snapshot!(name, summary);
    }
}

#[test]
fn an_image_is_checked_and_compared() {
    let folder = folder_with_image(OLD_RAW);
    unpack(NEW_RAW, folder.path(), "there.save");
    let check = cpreg_in(folder.path(), &["check", "web.save", "there.save"]);
    assert_snapshot!("saved_check", check);
    let json = cpreg_in(
        folder.path(),
        &["check", "web.save", "there.save", "--format", "json"],
    );
    assert!(
        json.stdout
            .contains("\"container\": \"save image of libvirt\""),
        "{json}"
    );
    let diff = cpreg_in(folder.path(), &["diff", "web.save", "web.save"]);
    assert_eq!(diff.status, Some(0), "{diff}");
}

#[test]
fn an_image_is_converted_into_an_image() {
    let folder = folder_with_image(OLD_RAW);
    let arguments = ["convert", "web.save", "web.save", "-o", "new.save"];
    let identity = cpreg_in(folder.path(), &arguments);
    assert_eq!(identity.status, Some(0), "{identity}");
    assert_snapshot!("saved_convert", identity);
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert_eq!(read("web.save"), read("new.save"));
    let pipe = cpreg_in(
        folder.path(),
        &["convert", "web.save", "web.save", "-o", "-"],
    );
    assert_eq!(pipe.status, Some(2), "{pipe}");
    assert_snapshot!("saved_convert_pipe", pipe);
}

#[test]
fn a_vm_is_named_after_the_file() {
    let folder = folder_with_image(OLD_RAW);
    let named = cpreg_in(folder.path(), &["show", "web.save#neoverse-n1-smp1"]);
    assert_eq!(named.status, Some(0), "{named}");
    assert_snapshot!(
        "saved_other_name",
        cpreg_in(folder.path(), &["show", "web.save#other"])
    );
}

#[test]
fn a_folder_is_searched() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let save = folder.path().join("libvirt/qemu/save");
    fs::create_dir_all(&save).expect("a folder");
    assert_snapshot!(
        "saved_empty_folder",
        cpreg_in(folder.path(), &["show", "libvirt/qemu/save"])
    );
    unpack(OLD_RAW, &save, "web.save");
    let one = cpreg_in(folder.path(), &["show", "libvirt/qemu/save"]);
    assert_eq!(one.status, Some(0), "{one}");
    assert_snapshot!("saved_folder", one.stderr);
    unpack(NEW_RAW, &save, "db.save");
    assert_snapshot!(
        "saved_folder_of_two",
        cpreg_in(folder.path(), &["show", "libvirt/qemu/save"])
    );
}

#[test]
fn files_of_other_programs_are_named() {
    for (name, content) in [
        ("saved_virtualbox", &b"\x7fVirtualBox SavedState V2.0\n"[..]),
        ("saved_vmware", b"\xd2\xbe\xd2\xbe\x08\0\0\0\x5b\0\0\0"),
        ("saved_luks", b"LUKS\xba\xbe\0\x02"),
        ("saved_unfinished", b"LibvirtQemudPart\x02\0\0\0"),
    ] {
        let folder = folder_with("vm", content);
        let run = cpreg_in(folder.path(), &["show", "vm"]);
        assert_eq!(run.status, Some(2), "{run}");
        assert_snapshot!(name, run);
    }
}

#[test]
fn an_interrupted_edit_is_named_and_recovered() {
    let folder = folder_with_image(OLD_RAW);
    let path = folder.path().join("web.save");
    let file = File::options().write(true).open(&path).expect("the image");
    file.write_all_at(&[0x82, 0x80, 0x80, 0x80], 16)
        .expect("the mark");
    let run = cpreg_in(folder.path(), &["show", "web.save"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert_snapshot!("saved_interrupted", run);
}
