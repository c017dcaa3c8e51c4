//! Inputs made for tests: parts of streams, profiles, tolerance files.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::run::{cpreg, streams};

/// Creates a folder with one file.
pub(crate) fn folder_with(name: &str, content: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join(name), content).expect("a file in it");
    folder
}

/// Creates a folder with a recorded stream, by its file name, and another file.
pub(crate) fn folder_with_stream(stream: &str, name: &str, content: &[u8]) -> TempDir {
    let folder = folder_with(name, content);
    let file = Path::new(stream).file_name().expect("a name");
    fs::copy(streams().join(stream), folder.path().join(file)).expect("a copy");
    folder
}

/// Writes a script in place of `virsh` into a folder.
pub(crate) fn write_virsh(folder: &Path, script: &str) {
    // A shell writes the script, so that no process of these tests inherits the open file.
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat > virsh && chmod 755 virsh"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut pipe = shell.stdin.take().expect("a pipe");
    pipe.write_all(script.as_bytes()).expect("a script");
    drop(pipe);
    assert!(shell.wait().expect("an end").success());
}

/// Decompresses a recorded stream.
pub(crate) fn unpack_stream(stream: &str) -> Vec<u8> {
    unpack_file(&streams().join(stream))
}

/// Decompresses a recorded stream, and adds characters to the FIFO of its serial port.
pub(crate) fn with_serial_input(stream: &str, text: &str) -> Vec<u8> {
    /// Offset of the FIFO from the section's name. It has a u32 for each character.
    const FIFO_OFFSET: usize = 6 + 4 + 4 + 32;
    let mut bytes = unpack_stream(stream);
    let name = bytes.windows(6).rposition(|window| window == b"\x05pl011");
    let fifo = name.expect("a serial port") + FIFO_OFFSET;
    assert!(text.len() <= 16);
    for (index, character) in text.bytes().enumerate() {
        bytes[fifo + 4 * index + 3] = character;
    }
    bytes
}

/// Decompresses an xz file.
pub(crate) fn unpack_file(path: &Path) -> Vec<u8> {
    let packed = fs::File::open(path).expect("a recorded stream");
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(packed, true)
        .read_to_end(&mut bytes)
        .expect("it unpacks");
    bytes
}

/// Returns the names of the files in a folder, ascending.
pub(crate) fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.into_string().expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// Decompresses a recorded stream into a new sparse file.
pub(crate) fn unpack_sparse(packed: &Path, plain: &Path) -> File {
    const BLOCK: u64 = 64 << 10;
    let packed = File::open(packed).expect("a recorded stream");
    let mut reader = lzma_rust2::XzReader::new(packed, true);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(plain);
    let file = file.expect("a new file");
    let mut block = Vec::new();
    for start in (0..).step_by(64 << 10) {
        block.clear();
        let count = reader.by_ref().take(BLOCK).read_to_end(&mut block);
        if count.expect("it unpacks") == 0 {
            break;
        }
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(&block, start).expect("room");
        }
        file.set_len(start + block.len() as u64).expect("room");
    }
    file
}

/// Makes a profile of a recorded stream, from the output of `show`.
pub(crate) fn make_profile(stream: &str) -> String {
    let shown = cpreg(&["show", stream, "--format", "json"]).json();
    let vcpus = shown["vcpus"].as_u64().expect("a number");
    let rows_of_vcpu = |number: u64, rows: &Value| -> Vec<Value> {
        let rows = rows.as_array().expect("a list").iter();
        rows.filter(|row| contains(row["vcpus"].as_str().expect("text"), number))
            .cloned()
            .collect()
    };
    let vcpu = |number: u64| {
        json!({
            "registers": rows_of_vcpu(number, &shown["registers"]),
            "extensions": rows_of_vcpu(number, &shown["extensions"]),
        })
    };
    let profile = json!({
        "schema": "cpreg.profile/2",
        "name": "a recorded destination",
        "origin": {
            "program": "qemu",
            "version": "10.0.13",
            "package": "Debian 1:10.0.13",
            "accelerator": shown["accelerator"],
            "machine": shown["machine"],
            "cpu": "host",
            "command": ["qemu-system-aarch64", "-M", "virt-10.0"],
            "kernel": "6.12.107",
        },
        "values": "reset",
        "shape": {
            "machine": shown["machine"],
            "vcpus": vcpus,
            "ram": shown["ram"],
            "devices": shown["devices"],
        },
        "vcpus": (0..vcpus).map(vcpu).collect::<Vec<_>>(),
    });
    serde_json::to_string_pretty(&profile).expect("JSON")
}

/// Makes a profile of one vCPU with unique keys, and returns both.
pub(crate) fn profile_with_keys(stream: &str) -> (String, Vec<String>) {
    let mut profile: Value = serde_json::from_str(&make_profile(stream)).expect("JSON");
    let mut keys = Vec::new();
    let registers = profile["vcpus"][0]["registers"].as_array_mut();
    for register in registers.expect("a list") {
        if register["secret"] == true {
            let key = format!("{:#x}", 0x5ec2_e700_0000_0001_u64 + keys.len() as u64);
            register["value"] = key.clone().into();
            keys.push(key);
        }
    }
    assert_eq!(keys.len(), 10, "two halves of five keys");
    (profile.to_string(), keys)
}

/// Returns `true` if a list such as `0-3,5` contains a number.
fn contains(vcpus: &str, number: u64) -> bool {
    vcpus.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bound = |text: &str| text.parse::<u64>().expect("a vCPU's number");
        (bound(first)..=bound(last)).contains(&number)
    })
}

/// Start of a stream of an x86 machine, up to its first `cpu` section.
pub(crate) fn x86_stream() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03".to_vec();
    bytes.extend(b"\x07\0\0\0\x0apc-q35-9.2");
    bytes.extend(b"\x04\0\0\0\x05\x03cpu\0\0\0\0\0\0\0\x0c");
    bytes.extend([0; 2048]);
    bytes
}
