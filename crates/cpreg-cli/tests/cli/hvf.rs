//! VMs of QEMU under HVF: streams that an edit of a recorded one made. There is no recording of a
//! Mac.

use std::fs;
use std::path::Path;

use cpreg::register::RegisterId;
use cpreg_stream::{CpuEdit, ReadAt as _, Stream};
use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fixtures::unpack_stream;
use crate::run::{TCG_10_0, cpreg_in};

/// Returns a list as QEMU up to 10.1 has it under HVF, with this value of ID_AA64PFR1_EL1.
fn list(pfr1: RegisterId, value: u64) -> Vec<(RegisterId, u64)> {
    let id = |(op0, op1, crn, crm, op2)| RegisterId::sysreg(op0, op1, crn, crm, op2);
    let debug = (0..16).flat_map(|crm| (4..8).map(move |op2| (2, 0, 0, crm, op2)));
    let id_registers = [(3, 0, 0, 5, 0), (3, 0, 0, 6, 0), (3, 0, 0, 7, 1)];
    let others = [
        (2, 0, 0, 2, 2),
        (3, 0, 1, 0, 0),
        (3, 0, 1, 0, 2),
        (3, 0, 4, 0, 0),
        (3, 0, 4, 0, 1),
        (3, 0, 4, 1, 0),
        (3, 3, 14, 3, 1),
        (3, 4, 4, 1, 0),
    ];
    let mut list: Vec<_> = debug.map(|it| (id(it), 0)).collect();
    list.push((pfr1, value));
    list.extend(id_registers.map(|it| (id(it), 0x11)));
    list.extend(others.map(|it| (id(it), 1)));
    list
}

/// Writes a stream with this list.
fn write_stream(path: &Path, list: Vec<(RegisterId, u64)>) {
    let source = unpack_stream(TCG_10_0);
    let stream = Stream::open(&source).expect("a stream");
    let edit = CpuEdit {
        registers: Some(list),
        ..CpuEdit::default()
    };
    let edit = stream.edit(&source, &[edit]).expect("an edit");
    let edited = edit.apply_to(&source);
    let mut bytes = vec![0; usize::try_from(edited.length().expect("a length")).expect("small")];
    edited.read_exact_at(&mut bytes, 0).expect("bytes");
    fs::write(path, bytes).expect("a file");
}

/// Creates a folder with VMs of QEMU 8.2.4, 10.0 and 10.2.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name| folder.path().join(name);
    let (wrong, right) = (RegisterId::ID_AA64PFR2_EL1, RegisterId::ID_AA64PFR1_EL1);
    write_stream(&path("8.2.stream"), list(wrong, 0x21));
    write_stream(&path("8.2-zero.stream"), list(wrong, 0));
    write_stream(&path("10.0.stream"), list(right, 0x21));
    let mut sorted = list(right, 0x21);
    sorted.sort_unstable_by_key(|(id, _)| *id);
    write_stream(&path("10.2.stream"), sorted);
    folder
}

#[test]
fn a_vm_of_an_old_qemu_is_converted() {
    let folder = folder();
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    let loader = ["--loader", "qemu-10.0"];
    let check = ["check", "8.2.stream", "10.0.stream", "-v"];
    assert_snapshot!("hvf_check", run(&[&check[..], &loader].concat()));
    let show = ["show", "8.2.stream", "--register", "ID_AA64PFR2_EL1"];
    assert_snapshot!("hvf_show", run(&show));
    for (from, to) in [
        ("8.2.stream", "10.0.stream"),
        ("8.2.stream", "10.2.stream"),
        ("10.0.stream", "8.2.stream"),
        ("10.2.stream", "8.2.stream"),
        ("10.2.stream", "10.0.stream"),
        ("10.0.stream", "10.2.stream"),
    ] {
        let convert = ["convert", from, to, "-o", "new", "--force"];
        let converted = run(&[&convert[..], &loader].concat());
        assert_eq!(converted.status, Some(0), "{converted}");
        let read = |name| fs::read(folder.path().join(name)).expect("a file");
        assert!(read("new") == read(to), "{from} to {to}");
    }
}

#[test]
fn another_value_needs_a_consent() {
    let folder = folder();
    let arguments = ["8.2-zero.stream", "10.0.stream", "--loader", "qemu-10.0"];
    let run = |command: &str, options: &[&str]| {
        let words = [&[command], &arguments[..], options].concat();
        cpreg_in(folder.path(), &words)
    };
    assert_snapshot!("hvf_check_value", run("check", &[]));
    let accept = ["--accept", "ID_AA64PFR1_EL1", "-o", "new"];
    let converted = run("convert", &accept);
    assert_eq!(converted.status, Some(0), "{converted}");
    let read = |name| fs::read(folder.path().join(name)).expect("a file");
    assert!(read("new") == read("10.0.stream"));
}

/// A list without a register that HVF always lists may be that of another program.
#[test]
fn a_list_that_does_not_prove_hvf_is_unknown() {
    let folder = folder();
    let mut edited = list(RegisterId::ID_AA64PFR2_EL1, 0x21);
    edited.retain(|(id, _)| *id != RegisterId::sysreg(3, 4, 4, 1, 0));
    write_stream(&folder.path().join("edited.stream"), edited);
    let arguments = ["edited.stream", "10.0.stream", "--loader", "qemu-10.0"];
    let run = |command: &str, options: &[&str]| {
        let words = [&[command], &arguments[..], options].concat();
        cpreg_in(folder.path(), &words)
    };
    let check = run("check", &[]);
    assert_eq!(check.status, Some(3), "{check}");
    assert_snapshot!("hvf_check_unknown", check);
    let converted = run("convert", &["-o", "new"]);
    assert_eq!(converted.status, Some(3), "{converted}");
    assert!(!folder.path().join("new").exists());
}

/// Under KVM the id belongs to ID_AA64PFR2_EL1, so an entry of KVM is impossible by mistake.
#[test]
fn an_entry_of_an_operator_has_an_accelerator() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let entry = |accelerator: &str| {
        format!(
            "[[tolerance]]\nregisters = [\"ID_AA64PFR2_EL1\"]\ndifference = \"other-id\"\nhandling = \
             \"rename ID_AA64PFR1_EL1\"\nreason = \"a test\"\n{accelerator}"
        )
    };
    let arguments = ["tolerances", "ID_AA64PFR2_EL1", "--tolerances", "ours.toml"];
    fs::write(folder.path().join("ours.toml"), entry("")).expect("a file");
    let run = cpreg_in(folder.path(), &arguments);
    assert_eq!(run.status, Some(2), "{run}");
    fs::write(
        folder.path().join("ours.toml"),
        entry("accelerator = \"hvf\""),
    )
    .expect("a file");
    assert_snapshot!("hvf_tolerances", cpreg_in(folder.path(), &arguments));
}
