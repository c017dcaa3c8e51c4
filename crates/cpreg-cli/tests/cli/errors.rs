//! Invalid files and files of other programs: exit status 2, nothing on standard output, the error
//! and a hint on standard error.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

use crate::fixtures::{folder_with, unpack_stream, x86_stream};
use crate::run::{KVM_6_12, Run, cpreg_in, streams};

/// Returns the errors of every command for this file.
fn errors_for(content: &[u8]) -> String {
    let folder = folder_with("vm", content);
    let run = cpreg_in(folder.path(), &["show", "vm"]);
    for arguments in [["check", "vm", "vm"], ["diff", "vm", "vm"]] {
        let other = cpreg_in(folder.path(), &arguments);
        assert_eq!(other.stderr, run.stderr, "{other}");
        assert_eq!(other.status, Some(2), "{other}");
    }
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
    run.stderr
}

#[test]
fn files_of_other_kinds() {
    assert_snapshot!("error_empty", errors_for(b""));
    assert_snapshot!("error_elf", errors_for(b"\x7fELF\x02\x01\x01\0 and more"));
    assert_snapshot!("error_qcow2", errors_for(b"QFI\xfb\0\0\0\x03 and more"));
    assert_snapshot!("error_libvirt", errors_for(b"LibvirtQemudSave\x02\0\0\0"));
    assert_snapshot!(
        "error_multifd",
        errors_for(b"\x11\x22\x33\x44\0\0\0\x01 and more")
    );
    assert_snapshot!("error_x86", errors_for(&x86_stream()));
    assert_snapshot!(
        "error_old_stream",
        errors_for(b"QEVM\0\0\0\x02\x01\0\0\0\x01")
    );
    assert_snapshot!("error_unfinished", errors_for(b"cpRG\0\0\0\x03 and more"));
}

#[test]
fn damaged_compression() {
    assert_snapshot!("error_xz", errors_for(b"\xfd7zXZ\0 and more"));
    assert_snapshot!("error_gzip", errors_for(b"\x1f\x8b and more"));
    assert_snapshot!("error_zstd", errors_for(b"\x28\xb5\x2f\xfd and more"));
}

#[test]
fn invalid_profiles() {
    assert_snapshot!("error_json", errors_for(b"{ \"schema\": "));
    assert_snapshot!("error_other_json", errors_for(b"{ \"name\": \"package\" }"));
    let newer = br#"{"schema": "cpreg.profile/9", "name": "", "origin": {"program": "", "version": "", "accelerator": ""}, "values": "reset", "vcpus": []}"#;
    assert_snapshot!("error_newer_profile", errors_for(newer));
}

#[test]
fn streams_that_end_too_early() {
    let stream = unpack_stream(KVM_6_12);
    assert_snapshot!("error_cut_in_header", errors_for(&stream[..6]));
    assert_snapshot!("error_cut_in_ram", errors_for(&stream[..0x10000]));
    // Cut inside the register list of the cpu section.
    assert_snapshot!("error_cut_in_cpu", errors_for(&stream[..0x80000]));
}

#[test]
fn damage_in_the_cpu_section() {
    let mut stream = unpack_stream(KVM_6_12);
    // Replace TCR2_EL1's id by that of an earlier register.
    let id = 0x6030_0000_0013_c103_u64.to_be_bytes();
    let offset = stream.windows(8).position(|bytes| bytes == id);
    stream[offset.expect("the register") + 7] = 0x02;
    assert_snapshot!("error_register_list", errors_for(&stream));
}

#[test]
fn unopenable_files() {
    let folder = folder_with("vm", b"");
    fs::create_dir(folder.path().join("folder")).expect("a folder");
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    assert_snapshot!("error_missing", run(&["show", "no-such-file"]));
    assert_snapshot!(
        "error_missing_source",
        run(&["check", "no-such-file", "vm"])
    );
    assert_snapshot!("error_directory", run(&["show", "folder"]));
    let stream = unpack_stream(KVM_6_12);
    fs::write(folder.path().join("folder/vm.stream"), &stream[..8]).expect("a file");
    fs::write(folder.path().join("folder/notes.txt"), "QEMU").expect("a file");
    fs::copy(streams().join(KVM_6_12), folder.path().join("folder/vm.xz")).expect("a file");
    assert_snapshot!("error_directory_streams", run(&["show", "folder"]));
}

/// Runs as a user who may not read the file, even if the tests run as root.
#[test]
fn no_permission() {
    const NOBODY: u32 = 65534;
    let folder = folder_with("vm", b"QEVM");
    let set_mode = |name: &str, mode: u32| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.path().join(name), permissions).expect("its owner may");
    };
    // Copy the program into a folder that every user can reach. `cp` copies it, because a file that
    // is open for writing cannot be executed: a child of a concurrent test could inherit the file
    // if this process wrote it.
    let copied = Command::new("cp")
        .args([env!("CARGO_BIN_EXE_cpreg"), "cpreg"])
        .current_dir(folder.path())
        .status();
    assert!(copied.expect("cp starts").success());
    set_mode("", 0o755);
    set_mode("vm", 0o000);
    set_mode("cpreg", 0o755);
    let mut command = Command::new(folder.path().join("cpreg"));
    command.current_dir(folder.path()).args(["show", "vm"]);
    let is_root = fs::metadata(folder.path()).expect("it is there").uid() == 0;
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().expect("the command starts");
    assert_snapshot!(
        "error_permission",
        Run::from_output(&["show", "vm"], &output)
    );

    // A folder in which nobody may write.
    set_mode("vm", 0o644);
    fs::write(folder.path().join("vm"), unpack_stream(KVM_6_12)).expect("its owner may");
    set_mode("", 0o555);
    let arguments = ["report", "vm", "-o", "out"];
    let mut command = Command::new(folder.path().join("cpreg"));
    command.current_dir(folder.path()).args(arguments);
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().expect("the command starts");
    set_mode("", 0o755);
    let run = Run::from_output(&arguments, &output);
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
    let lines: Vec<_> = run.stderr.lines().collect();
    assert_eq!(lines.first(), Some(&"error: cannot write out"), "{run}");
    assert!(run.stderr.contains("Permission denied"), "{run}");
}

#[test]
fn bad_usage() {
    let run = |arguments: &[&str]| cpreg_in(Path::new("."), arguments);
    assert_snapshot!("usage_nothing", run(&[]));
    assert_snapshot!("usage_command", run(&["shwo", "vm"]));
    assert_snapshot!("usage_destination", run(&["check", "vm"]));
    assert_snapshot!("usage_option", run(&["show", "vm", "--registers", "PC"]));
    assert_snapshot!("usage_format", run(&["show", "vm", "--format", "xml"]));
}

#[test]
fn help_goes_to_standard_output() {
    for command in [
        &[][..],
        &["show"],
        &["check"],
        &["diff"],
        &["tolerances"],
        &["convert"],
        &["report"],
        &["probe", "qemu"],
    ] {
        let run = cpreg_in(Path::new("."), &[command, &["--help"]].concat());
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{run}");
        let name = command.first().unwrap_or(&"cpreg");
        assert_snapshot!(format!("help_{name}"), run);
    }
}

#[test]
fn a_qemu_that_cannot_be_probed() {
    let folder = folder_with("not-a-program", b"");
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    let missing = [
        "probe",
        "qemu",
        "-o",
        "there.json",
        "--",
        "./no-such-qemu",
        "-M",
        "virt",
    ];
    assert_snapshot!("error_probe_missing", run(&missing));
    let refused = ["probe", "qemu", "--", "./not-a-program", "-M", "virt"];
    assert_snapshot!("error_probe_not_a_program", run(&refused));
    assert_snapshot!("error_probe_another", run(&["probe", "qemu", "--", "true"]));
    assert_snapshot!("usage_probe", run(&["probe", "qemu"]));
    assert!(!folder.path().join("there.json").exists());
}

#[test]
fn unsupported_compression() {
    assert_snapshot!("error_bzip2", errors_for(b"BZh91AY&SY and more"));
    assert_snapshot!("error_lz4", errors_for(b"\x04\x22\x4d\x18 and more"));
}

/// Checks that a profile replaces no device, and that no QEMU is started for it.
#[test]
fn a_profile_replaces_no_device() {
    let run = cpreg_in(
        Path::new("."),
        &["probe", "qemu", "-o", "/dev/null", "--", "./no-such-qemu"],
    );
    assert_snapshot!("error_probe_device", run);
}

/// Checks that the start of an endless input is recognised before it is read further.
#[test]
fn endless_input_is_recognised_by_its_start() {
    let run = crate::run::cpreg(&["show", "/dev/zero"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("does not begin with QEVM"), "{run}");
}
