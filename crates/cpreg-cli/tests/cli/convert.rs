//! `cpreg convert`: the written files, and the cases in which it must not write.

use std::fs::{self, File};
use std::process::Stdio;

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fixtures::{file_names, unpack_stream};
use crate::run::{KVM_5_10, KVM_6_12, KVM_6_16, command, cpreg_in, streams, without_command};
use cpreg_testdata::large_stream::{self, Size};

/// Creates a folder with a VM of Linux 6.12, decompressed, and streams of other kernels.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("vm"), unpack_stream(KVM_6_12)).expect("a file in it");
    for (stream, name) in [
        (KVM_6_16, "6.16.xz"),
        (KVM_6_12, "6.12.xz"),
        (KVM_5_10, "5.10.xz"),
    ] {
        fs::copy(streams().join(stream), folder.path().join(name)).expect("a copy");
    }
    folder
}

const ORIGINAL_FILES: [&str; 4] = ["5.10.xz", "6.12.xz", "6.16.xz", "vm"];

#[test]
fn a_new_file_loads() {
    let folder = folder();
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    let before = fs::read(folder.path().join("vm")).expect("the VM");
    let converted = run(&["convert", "vm", "6.16.xz", "-o", "out"]);
    assert_snapshot!("convert", converted);
    assert_eq!(
        run(&["check", "out", "6.16.xz"]).stdout.lines().next(),
        Some("loads: the VM loads unchanged")
    );
    assert_snapshot!("convert_difference", run(&["diff", "vm", "out", "--all"]));
    let verified = run(&["show", "out", "--verify"]);
    assert!(
        verified.stdout.contains("verified by a full scan"),
        "{verified}"
    );
    assert_eq!(fs::read(folder.path().join("vm")).expect("the VM"), before);
}

#[test]
fn a_packed_source_gives_a_plain_file() {
    let folder = folder();
    let arguments = ["convert", "6.12.xz", "6.16.xz", "-o", "out"];
    let packed = cpreg_in(folder.path(), &arguments);
    assert_eq!(packed.status, Some(0), "{packed}");
    cpreg_in(folder.path(), &["convert", "vm", "6.16.xz", "-o", "other"]);
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert!(read("out") == read("other"));
}

#[test]
fn in_place() {
    let folder = folder();
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    run(&["convert", "vm", "6.16.xz", "-o", "out"]);
    let changed = run(&["convert", "vm", "6.16.xz", "--in-place"]);
    assert_eq!(changed.status, Some(0), "{changed}");
    assert!(
        changed.stdout.contains("\n  written in place: vm ("),
        "{changed}"
    );
    assert_eq!(
        run(&["check", "vm", "6.16.xz"]).stdout.lines().next(),
        Some("loads: the VM loads unchanged")
    );
    let difference = run(&["diff", "vm", "out", "--all"]);
    assert_eq!(difference.status, Some(0), "{difference}");
    assert_eq!(
        file_names(folder.path()),
        ["5.10.xz", "6.12.xz", "6.16.xz", "out", "vm"]
    );
    let packed = run(&["convert", "6.12.xz", "6.16.xz", "--in-place"]);
    assert_snapshot!("convert_packed_in_place", packed);
}

#[test]
fn loading_vm_is_copied() {
    let folder = folder();
    let arguments = ["convert", "vm", "6.12.xz", "-o", "out"];
    let run = cpreg_in(folder.path(), &arguments);
    assert_eq!(run.status, Some(0), "{run}");
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert!(read("vm") == read("out"));
}

#[test]
fn nothing_is_written_without_a_plan() {
    let folder = folder();
    let before = fs::read(folder.path().join("vm")).expect("the VM");
    for (source, to, status) in [("vm", "5.10.xz", 1), ("6.16.xz", "6.12.xz", 3)] {
        let run = cpreg_in(folder.path(), &["convert", source, to, "-o", "out"]);
        assert_eq!(run.status, Some(status), "{run}");
        let expected = format!("\n  nothing was written: {source} is unchanged\n");
        assert!(run.stdout.contains(&expected), "{run}");
        let arguments = ["convert", source, to, "--in-place"];
        assert_eq!(cpreg_in(folder.path(), &arguments).status, Some(status));
    }
    assert_eq!(file_names(folder.path()), ORIGINAL_FILES);
    assert!(fs::read(folder.path().join("vm")).expect("the VM") == before);
}

/// cpreg copies the RAM of this VM while it decides, but not into a file with a name.
#[test]
fn large_vm_is_written_completely_or_not_at_all() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let size = Size {
        ram: 64 << 20,
        sent_ram: 20 << 20,
        vcpus: 2,
    };
    for (stream, name, sent_ram) in [
        (KVM_6_12, "large", size.sent_ram),
        (KVM_6_16, "same-shape", 0),
        (KVM_5_10, "old-kernel", 0),
    ] {
        let file = File::create_new(path(name)).expect("a file");
        let size = Size { sent_ram, ..size };
        large_stream::write(&unpack_stream(stream), size, &file).expect("it grows");
    }
    let run =
        |arguments: &[&str]| cpreg_in(folder.path(), &[&["convert", "large"], arguments].concat());
    let names = file_names(folder.path());
    let refused = run(&["old-kernel", "-o", "out"]);
    assert_eq!(refused.status, Some(1), "{refused}");
    assert_eq!(file_names(folder.path()), names);
    fs::write(path("out"), "mine").expect("a file");
    let refused = run(&["old-kernel", "-o", "out", "--force"]);
    assert_eq!(refused.status, Some(1), "{refused}");
    let unreadable = run(&["nowhere", "-o", "out", "--force"]);
    assert_eq!(unreadable.status, Some(2), "{unreadable}");
    assert_eq!(fs::read(path("out")).expect("a file"), b"mine");

    // Standard output is written without an early copy.
    let arguments = ["convert", "large", "same-shape", "-o", "-"];
    let output = command(folder.path(), &arguments).output();
    let expected = output.expect("the command starts").stdout;
    assert!(expected.len() > 20 << 20);
    let converted = run(&["same-shape", "-o", "out", "--force"]);
    assert_eq!(converted.status, Some(0), "{converted}");
    assert!(fs::read(path("out")).expect("a file") == expected);
    assert_eq!(file_names(folder.path()).len(), names.len() + 1);
}

#[test]
fn existing_output_is_kept() {
    let folder = folder();
    let run = |options: &[&str]| {
        let arguments = ["convert", "vm", "6.16.xz", "-o", "out"];
        cpreg_in(folder.path(), &[&arguments, options].concat())
    };
    fs::write(folder.path().join("out"), "mine").expect("a file");
    assert_snapshot!("convert_output_exists", run(&[]));
    assert_eq!(
        fs::read(folder.path().join("out")).expect("it is there"),
        b"mine"
    );
    assert_eq!(run(&["--force"]).status, Some(0));
    let loads = cpreg_in(folder.path(), &["check", "out", "6.16.xz"]);
    assert_eq!(loads.status, Some(0), "{loads}");
}

#[test]
fn invalid_outputs() {
    let folder = folder();
    let run = |arguments: &[&str]| {
        let arguments = [&["convert", "vm", "6.16.xz"], arguments].concat();
        cpreg_in(folder.path(), &arguments)
    };
    assert_snapshot!("convert_no_output", run(&[]));
    assert_snapshot!(
        "convert_no_destination",
        cpreg_in(folder.path(), &["convert", "vm", "-o", "out"])
    );
    let nowhere = run(&["-o", "nowhere/out"]);
    assert_eq!(nowhere.status, Some(2), "{nowhere}");
    assert!(
        nowhere
            .stderr
            .starts_with("error: cannot write nowhere/out\n"),
        "{nowhere}"
    );
    fs::create_dir(folder.path().join("folder")).expect("a folder");
    assert_snapshot!("convert_onto_folder", run(&["-o", "folder", "--force"]));
    assert_eq!(
        file_names(folder.path()),
        ["5.10.xz", "6.12.xz", "6.16.xz", "folder", "vm"]
    );
}

#[test]
fn json_is_that_of_check() {
    let folder = folder();
    let json = |arguments: &[&str]| {
        let arguments = [arguments, &["--format", "json"]].concat();
        cpreg_in(folder.path(), &arguments).json()
    };
    let converted = json(&["convert", "vm", "6.16.xz", "-o", "out"]);
    let checked = json(&["check", "vm", "6.16.xz"]);
    assert_eq!(without_command(converted), without_command(checked));
}

#[test]
fn standard_streams() {
    let folder = folder();
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    let before = file_names(folder.path());
    assert_snapshot!(
        "convert_standard_input_in_place",
        run(&["convert", "-", "6.16.xz", "--in-place"])
    );
    assert_eq!(file_names(folder.path()), before);
}

/// Checks that standard output gets the bytes of the file, and standard error the report.
#[test]
fn standard_output_is_the_converted_stream() {
    let folder = folder();
    let to_file = cpreg_in(folder.path(), &["convert", "vm", "6.16.xz", "-o", "out"]);
    assert_eq!(to_file.status, Some(0), "{to_file}");
    let arguments = ["convert", "vm", "6.16.xz", "-o", "-"];
    let output = command(folder.path(), &arguments).output();
    let output = output.expect("the command starts");
    let report = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{report}");
    let file = fs::read(folder.path().join("out")).expect("a file");
    assert!(output.stdout == file);
    // A program that reads standard output needs no command that loads the file.
    let to_file = to_file.without_steps();
    assert_eq!(
        report,
        to_file.replace("written: out", "written: standard output")
    );

    let refused = ["convert", "vm", "5.10.xz", "-o", "-"];
    let refused = command(folder.path(), &refused).output();
    let refused = refused.expect("the command starts");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(refused.stdout, b"");
}

/// Checks that a copy to standard output that fails is an error that tells the reader's state.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_is_full() {
    let folder = folder();
    let full = fs::File::options().write(true).open("/dev/full");
    let output = command(folder.path(), &["convert", "vm", "6.16.xz", "-o", "-"])
        .stdout(full.expect("/dev/full"))
        .output()
        .expect("the command starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("was not written completely"), "{errors}");
}

/// Checks that of many concurrent changes of one file only one runs at a time, and that later ones
/// find the file converted.
#[test]
fn one_at_a_time_in_place() {
    let folder = folder();
    let converted = cpreg_in(folder.path(), &["convert", "vm", "6.16.xz", "-o", "out"]);
    assert_eq!(converted.status, Some(0), "{converted}");
    let arguments = ["convert", "vm", "6.16.xz", "--in-place"];
    let children: Vec<_> = (0..12)
        .map(|_| {
            command(folder.path(), &arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the command starts")
        })
        .collect();
    let mut done = 0;
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => done += 1,
            status => {
                assert_eq!(status, Some(2), "{stderr}");
                assert!(
                    stderr.contains("another process is changing the file"),
                    "{stderr}"
                );
            }
        }
    }
    assert!(done > 0);
    let content = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    assert!(content("vm") == content("out"));
    assert_eq!(
        file_names(folder.path()),
        ["5.10.xz", "6.12.xz", "6.16.xz", "out", "vm"]
    );
}

#[test]
fn outputs_that_are_refused_at_once() {
    let folder = folder();
    let run = cpreg_in(
        folder.path(),
        &["convert", "vm", "6.16.xz", "-o", "nowhere/out"],
    );
    assert_snapshot!("convert_no_folder", run);
    std::os::unix::fs::symlink("nothing", folder.path().join("link")).expect("a link");
    let run = cpreg_in(folder.path(), &["convert", "vm", "6.16.xz", "-o", "link"]);
    assert_snapshot!("convert_onto_a_link", run);
    for force in [&["--force"][..], &[]] {
        let arguments = [&["convert", "vm", "6.16.xz", "-o", "./vm"], force].concat();
        let run = cpreg_in(folder.path(), &arguments);
        assert_eq!(run.status, Some(2), "{run}");
        assert_snapshot!("convert_onto_itself_stderr", run.stderr);
    }
}
