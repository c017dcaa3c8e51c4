//! Hook of libvirt, which this process calls as libvirt does. `cargo xtask libvirt` has real ones.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fixtures::unpack_stream;
use crate::run::{KVM_6_12, KVM_6_16, Run, command, cpreg_in, streams};

/// Returns the XML of a domain under KVM. Each test has a domain of its own, because this process
/// has the images of all tests open.
fn xml(name: &str, elements: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><uuid>6a1b6a3e-0000-4000-8000-{name:0>12}</uuid>\
         <os><type arch='aarch64' machine='virt-10.0'>hvm</type></os>{elements}</domain>"
    )
}

/// Returns a save image of libvirt with a stream of Linux 6.12.
fn image(name: &str, format: u32) -> Vec<u8> {
    let xml = xml(name, "");
    let mut bytes = b"LibvirtQemudSave".to_vec();
    let length = u32::try_from(xml.len() + 1).expect("a short XML");
    for word in [2, length, 1, format, 0] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.resize(92, 0);
    bytes.extend(xml.into_bytes());
    bytes.push(0);
    bytes.extend(unpack_stream(KVM_6_12));
    bytes
}

/// Runs the hook for an event, with the XML on standard input.
fn run_hook(folder: &Path, xml: impl AsRef<[u8]>, event: [&str; 3], options: &[&str]) -> Run {
    let arguments = [&["hook", "libvirt", "--log", "hook.log"], options, &event].concat();
    let mut child = command(folder, &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut input = child.stdin.take().expect("a pipe");
    // A hook that ignores the event reads nothing.
    let _ = input.write_all(xml.as_ref());
    drop(input);
    Run::from_output(&arguments, &child.wait_with_output().expect("an end"))
}

/// Returns the log without the folder's path.
fn log(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("hook.log")).unwrap_or_default();
    let folder = folder.canonicalize().expect("a folder");
    log.replace(&format!("{}/", folder.display()), "FOLDER/")
}

/// Runs the hook for the restore of an image that this process has open. Returns the folder.
fn restore(name: &str, format: u32, options: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vm.save");
    fs::write(&path, image(name, format)).expect("an image");
    let _open = File::open(&path).expect("the image");
    let event = [name, "restore", "begin"];
    let run = run_hook(folder.path(), xml(name, ""), event, options);
    assert_eq!((run.status, &*run.stdout), (Some(0), ""), "{run}");
    folder
}

#[test]
fn an_image_is_converted_in_its_file() {
    let destination = streams().join(KVM_6_16);
    let destination = destination.to_str().expect("UTF-8");
    let folder = restore("11", 0, &["--to", destination]);
    assert_snapshot!("hook_converted", log(folder.path()));
    let check = cpreg_in(folder.path(), &["check", "vm.save", destination, "-q"]);
    assert!(check.stdout.starts_with("loads"), "{check}");
    let converted = fs::read(folder.path().join("vm.save")).expect("the image");
    assert_ne!(converted, image("11", 0));
    let files = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(files, 2, "the image and the log");
}

#[test]
fn an_image_that_loads_is_left_alone() {
    let destination = streams().join(KVM_6_12);
    let destination = destination.to_str().expect("UTF-8");
    let folder = restore("12", 0, &["--to", destination]);
    assert_snapshot!("hook_unchanged", log(folder.path()));
    let content = fs::read(folder.path().join("vm.save")).expect("the image");
    assert_eq!(content, image("12", 0));
}

#[test]
fn doubt_leaves_an_image_alone() {
    let destination = streams().join(KVM_6_16);
    let destination = destination.to_str().expect("UTF-8");
    for (case, name, format, options) in [
        ("compressed", "13", 1, &["--to", destination][..]),
        ("no_destination", "14", 0, &["--to", "none.json"]),
    ] {
        let folder = restore(name, format, options);
        let log = log(folder.path()).replace(destination, "DESTINATION");
        assert_snapshot!(format!("hook_{case}"), log);
        let content = fs::read(folder.path().join("vm.save")).expect("the image");
        assert_eq!(content, image(name, format));
    }
}

#[test]
fn consent_to_a_severity_is_bad_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--accept", "low"];
    for event in ["restore", "migrate", "start"] {
        let run = run_hook(
            folder.path(),
            xml("15", ""),
            ["15", event, "begin"],
            &options,
        );
        assert_eq!((run.status, &*run.stdout), (Some(2), ""), "{run}");
        assert!(run.stderr.contains("--accept REG"), "{run}");
    }
    // The hook acts on two of the events, and logs why it does not.
    assert_snapshot!("hook_severity", log(folder.path()));
}

#[test]
fn a_restore_without_an_open_image_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    for xml in [&*xml("16", ""), "no XML", "<domain type='kvm'><name>16</na"] {
        let run = run_hook(folder.path(), xml, ["16", "restore", "begin"], &[]);
        assert_eq!((run.status, &*run.stdout), (Some(0), ""), "{run}");
    }
    assert_snapshot!("hook_no_image", log(folder.path()));
}

#[test]
fn a_migration_with_an_unreadable_xml_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let cut = "<domain type='kvm'><name>19</na";
    let latin1 = "<domain type='kvm'><name>\u{e9}</name></domain>"
        .chars()
        .map(|character| u8::try_from(u32::from(character)).expect("Latin-1"));
    for xml in [cut.as_bytes(), b"", b"\0", &latin1.collect::<Vec<u8>>()] {
        let run = run_hook(folder.path(), xml, ["19", "migrate", "begin"], &[]);
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stdout + &run.stderr, "");
    }
    assert_snapshot!("hook_unreadable_xml", log(folder.path()));
}

#[test]
fn other_events_are_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    for event in [["17", "prepare", "begin"], ["17", "migrate", "end"]] {
        let run = run_hook(folder.path(), "no XML", event, &[]);
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stdout + &run.stderr, "");
    }
    assert_eq!(log(folder.path()), "");
}

#[test]
fn a_machine_type_that_the_emulator_lacks_is_refused() {
    let emulator = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/fake_emulator.sh");
    let emulator = format!(
        "<devices><emulator>{}</emulator></devices>",
        emulator.display()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let event = ["18", "migrate", "begin"];
    let known = xml("18", &emulator).replace("virt-10.0", "virt-7.2");
    let run = run_hook(folder.path(), &known, event, &[]);
    assert_eq!((run.status, &*run.stderr), (Some(0), ""), "{run}");
    let run = run_hook(folder.path(), xml("18", &emulator), event, &[]);
    let source = format!("{}/tests/cli/", env!("CARGO_MANIFEST_DIR"));
    assert_snapshot!("hook_refused", run.to_string().replace(&source, ""));
}
