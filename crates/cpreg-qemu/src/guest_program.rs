//! [`GuestProgram`]: a program without an operating system that the guest of an isolated QEMU runs,
//! and whose results cpreg reads from the guest's memory.
//!
//! QEMU's generic loader (`-device loader`, QEMU 2.8) puts the program into RAM and lets the first
//! vCPU start there, whatever firmware or kernel the command line names. With `-no-shutdown` the
//! guest's memory survives PSCI SYSTEM_OFF.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::process::QemuProcess;
use crate::qmp::WaitOptions;

/// Physical address of the GIC's distributor of QEMU's machine `virt`.
pub const VIRT_GIC_DISTRIBUTOR: u64 = 0x0800_0000;
/// Physical address of the RAM of QEMU's machine `virt`.
const VIRT_RAM: u64 = 0x4000_0000;

/// Interval between two reads of the results.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Message for a failed operation on a temporary file.
const FILE_ERROR: &str = "cannot exchange a file with QEMU";

/// A program for the guest of a QEMU.
#[derive(Clone, Copy, Debug)]
pub struct GuestProgram<'a> {
    /// Bytes of the program. The first instruction is at offset 0.
    pub code: &'a [u8],
    /// Physical address of the program in the guest's RAM.
    pub address: u64,
    /// Offset of the results from `address`.
    pub results_offset: u64,
    /// Number of bytes of the results.
    pub results_len: usize,
}

/// Returns `true` if a machine type is a version of `virt`.
pub fn is_virt(machine: &str) -> bool {
    machine == "virt" || machine.starts_with("virt-")
}

/// Returns an address for `len` bytes, which is a power of two, in the RAM of `virt`.
///
/// The end of the RAM is free: firmware, kernel and device tree are at its beginning. The RAM has
/// at least `len` bytes.
pub const fn free_virt_address(ram_len: u64, len: u64) -> u64 {
    VIRT_RAM + (ram_len & !(len - 1)) - len
}

/// Runs the program in a QEMU with this command line, which must be isolated
/// ([`crate::isolate`]). Returns the results as soon as `is_finished` accepts them.
///
/// # Errors
/// Returns an error if QEMU does not start or refuses a command, or if the program does not finish
/// within the timeout of `options`. QEMU ends in any case.
pub fn run(
    command: &[OsString],
    program: GuestProgram<'_>,
    is_finished: impl Fn(&[u8]) -> bool,
    options: &WaitOptions<'_>,
) -> Result<Vec<u8>, Error> {
    let folder = tempfile::tempdir().map_err(|error| Error::io(FILE_ERROR, error))?;
    let code = folder.path().join("program");
    fs::write(&code, image(program)).map_err(|error| Error::io(FILE_ERROR, error))?;
    let mut qemu = QemuProcess::start(command, &additions(&code, program.address), options)?;
    qemu.execute("cont", json!({}), options)?;
    let results = folder.path().join("results");
    let deadline = Instant::now() + options.timeout;
    loop {
        let has_stopped = has_stopped(&mut qemu, options)?;
        let bytes = read_results(&mut qemu, program, &results, options)?;
        if is_finished(&bytes) {
            qemu.quit().map_err(|error| Error::io(FILE_ERROR, error))?;
            return Ok(bytes);
        }
        if has_stopped || Instant::now() >= deadline {
            return Err(qemu.error(ErrorKind::UnfinishedProgram));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Returns the program, followed by zeros up to the end of the results. RAM in a file may hold
/// older contents.
fn image(program: GuestProgram<'_>) -> Vec<u8> {
    let results_offset = usize::try_from(program.results_offset).unwrap_or(0);
    let mut image = program.code.to_vec();
    image.resize(image.len().max(results_offset + program.results_len), 0);
    image
}

/// Returns the options that load and start the program.
fn additions(code: &Path, address: u64) -> Vec<OsString> {
    let mut file = OsString::from("loader,file=");
    // A comma in a value is doubled.
    file.push(code.to_string_lossy().replace(',', ",,"));
    file.push(format!(",addr={address:#x},force-raw=on"));
    vec![
        "-no-shutdown".into(),
        "-device".into(),
        file,
        "-device".into(),
        format!("loader,addr={address:#x},cpu-num=0").into(),
    ]
}

/// Returns `true` if the guest has shut down or failed.
fn has_stopped(qemu: &mut QemuProcess, options: &WaitOptions<'_>) -> Result<bool, Error> {
    let status = qemu.execute("query-status", json!({}), options)?;
    let running = status.get("running").and_then(Value::as_bool);
    Ok(!running.ok_or(Error::unexpected_reply("query-status"))?)
}

/// Reads the results from the guest's memory.
fn read_results(
    qemu: &mut QemuProcess,
    program: GuestProgram<'_>,
    file: &Path,
    options: &WaitOptions<'_>,
) -> Result<Vec<u8>, Error> {
    let arguments = json!({
        "val": program.address + program.results_offset,
        "size": program.results_len,
        "filename": file.to_string_lossy(),
    });
    qemu.execute("pmemsave", arguments, options)?;
    fs::read(file).map_err(|error| Error::io(FILE_ERROR, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_ram_is_free() {
        assert_eq!(free_virt_address(64 << 20, 8 << 10), 0x43ff_e000);
        assert_eq!(free_virt_address((64 << 20) + 1, 8 << 10), 0x43ff_e000);
        assert!(is_virt("virt") && is_virt("virt-10.0") && !is_virt("virtual"));
    }

    #[test]
    fn the_results_are_zero_at_first() {
        let image = image(GuestProgram {
            code: &[1, 2],
            address: 0x4000_0000,
            results_offset: 4,
            results_len: 8,
        });
        assert_eq!(image, [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        let options = additions(Path::new("/tmp/a,b"), 0x4010_0000);
        assert_eq!(
            options[2],
            "loader,file=/tmp/a,,b,addr=0x40100000,force-raw=on"
        );
        assert_eq!(options[4], "loader,addr=0x40100000,cpu-num=0");
    }
}
