//! Limited work on a VM of 8 GiB: the tests count the bytes that `show`, `check` and `diff` read,
//! and limit their memory.

use std::fs::File;
use std::process::Command;

use crate::fixtures::{unpack_sparse, unpack_stream};
use crate::run::{KVM_6_12, TCG_10_0_MAPPED_RAM, cpreg_in, streams};
use cpreg_testdata::large_stream::{self, Size};

/// Memory limit: more than a debug build maps at its start, far less than the file.
const MEMORY_LIMIT_KIB: &str = "65536";
/// Limit of the bytes read: several times the header, the end and the description.
const READ_LIMIT: u64 = 2 << 20;

#[test]
fn eight_gibibytes_of_ram_are_not_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let small = unpack_sparse(
        &streams().join(TCG_10_0_MAPPED_RAM),
        &folder.path().join("small"),
    );
    let large = File::create_new(folder.path().join("vm")).expect("a file");
    large_stream::write_mapped_ram(&small, 8 << 30, &large).expect("it grows");
    assert!(large.metadata().expect("a file").len() > 8 << 30);

    for arguments in [
        &["show", "vm"][..],
        &["check", "vm", "vm"],
        &["diff", "vm", "vm"],
    ] {
        // The count of the shell includes the reads of the processes that it waited for.
        let script = "ulimit -v $1 || exit 9; shift; \"$@\" || exit $?; cat /proc/$$/io";
        let mut shell = Command::new("sh");
        crate::run::remove_influences(&mut shell);
        shell.args([
            "-c",
            script,
            "sh",
            MEMORY_LIMIT_KIB,
            env!("CARGO_BIN_EXE_cpreg"),
        ]);
        let output = shell.args(arguments).current_dir(&folder).output();
        let output = output.expect("a shell");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let read = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        let read: u64 = read.and_then(|read| read.parse().ok()).expect("a number");
        assert!(read < READ_LIMIT, "{arguments:?} read {read} bytes");
    }
}

/// Checks with a full scan that the streams that are made for these tests and the benchmarks are
/// valid.
#[test]
fn grown_streams_are_valid() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let small = unpack_sparse(&streams().join(TCG_10_0_MAPPED_RAM), &path("small"));
    large_stream::write_mapped_ram(
        &small,
        8 << 30,
        &File::create_new(path("mapped")).expect("a file"),
    )
    .expect("it grows");
    let size = Size {
        ram: 1 << 30,
        sent_ram: 8 << 20,
        vcpus: 64,
    };
    large_stream::write(
        &unpack_stream(KVM_6_12),
        size,
        &File::create_new(path("many")).expect("a file"),
    )
    .expect("it grows");
    for (name, vcpus, ram) in [("mapped", 2, 8_u64 << 30), ("many", 64, 1 << 30)] {
        let arguments = ["show", name, "--verify", "--format", "json"];
        let shown = cpreg_in(folder.path(), &arguments);
        assert_eq!(shown.status, Some(0), "{shown}");
        let shown = shown.json();
        assert_eq!(shown["vcpus"], vcpus);
        assert_eq!(shown["ram"][0]["length"], format!("{ram:#x}"));
    }
}
