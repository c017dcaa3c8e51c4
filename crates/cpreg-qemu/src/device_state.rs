//! Device state of a running or paused QEMU, queried through its monitor without RAM or migration.
//!
//! [`cpreg_stream`] encodes a stream without RAM. [`crate::rehearse`] and the command-line tool
//! query the device state.
//!
//! Commands (tested with QEMU 5.2 to 11.1):
//! - `qom-get /machine type` returns the machine type; an alias such as `virt` is resolved.
//! - With KVM, `query-cpus-fast` and `qom-get` return the SVE vector lengths of the VM.
//! - `info ramblock` (HMP) prints the RAM blocks; QMP has no such command.
//! - `add-fd`, then `xen-save-devices-state`, writes every device's section into cpreg's file.
//!   Despite its name the command does not depend on Xen.
//!
//! QEMU stops a running guest while it saves (1 to 10 ms measured, more if it has to flush disks),
//! and resumes the guest. With `live` off, the command changes nothing else. A QEMU that waits for
//! a migration (`inmigrate`) replies too; its registers are at reset. QEMU writes `running` into
//! `globalstate` in any state of the guest; this module corrects the text.
//!
//! RAM blocks with blanks in their names are left out. They are windows into passed-through devices
//! (`0000:01:00.0 BAR 0 mmaps[0]`), which QEMU does not migrate.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use cpreg::hardware::VectorLengths;
use serde_json::{Value, json};

use crate::error::Error;
use crate::qmp::{Monitor, Qmp, Version, WaitOptions};
use crate::vector_lengths;
use cpreg_stream::{Configuration, GLOBAL_STATE, RamBlock, Stream, encode_setup};

/// Message for a failed operation on the temporary file.
const TEMP_FILE_ERROR: &str = "cannot store the device state";

/// Binary logarithm of the target page size. `virt` sets 12 for every accelerator; a stream without
/// this field means 10.
const TARGET_PAGE_BITS: u32 = 12;

/// Number of the `ram` section, which no device has, because QEMU numbers devices from 0.
const RAM_ID: u32 = u32::MAX - 1;

/// Length in bytes of the header that QEMU writes in front of the sections.
const HEADER_LEN: usize = 8;

/// Maximum length of a device state in bytes.
const MAX_DEVICE_STATE_LEN: u64 = 256 << 20;

/// Device state of a QEMU.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeviceState {
    /// QEMU's version.
    pub version: Version,
    /// Machine type (`virt-10.0`).
    pub machine: String,
    /// Run state of the guest (`running`, `paused`, `prelaunch`, `inmigrate`).
    pub run_state: String,
    /// `true` if KVM executes the guest.
    pub kvm: bool,
    /// SVE vector lengths of the VM, which the stream lacks; `None` without SVE or KVM.
    pub vector_lengths: Option<VectorLengths>,
    /// Stream without RAM and without description, in an unnamed file.
    pub stream: File,
}

/// Queries the QEMU whose monitor listens at the Unix socket `path`.
///
/// # Errors
/// Returns an error if no monitor replies, QEMU refuses a command, or its reply is unexpected. A
/// running guest keeps running.
pub fn query_socket(path: &Path, options: &WaitOptions<'_>) -> Result<DeviceState, Error> {
    let mut qmp = Qmp::handshake(Qmp::connect_socket(path)?, options)?;
    query(&mut qmp, options)
}

/// Queries the QEMU whose monitor is open.
///
/// # Errors
/// Returns an error if no monitor replies, QEMU refuses a command, or its reply is unexpected. A
/// running guest keeps running.
pub fn query(qmp: &mut dyn Monitor, options: &WaitOptions<'_>) -> Result<DeviceState, Error> {
    let status = qmp.execute("query-status", json!({}), options)?;
    let run_state = text(status.get("status"), "query-status")?;
    let kvm = qmp.execute("query-kvm", json!({}), options)?;
    let kvm = kvm.get("enabled").and_then(Value::as_bool);
    let kvm = kvm.ok_or(Error::unexpected_reply("query-kvm"))?;
    let arguments = json!({"path": "/machine", "property": "type"});
    let machine = qmp.execute("qom-get", arguments, options)?;
    let machine = text(Some(&machine), "qom-get")?;
    let machine = machine.strip_suffix("-machine").unwrap_or(&machine);
    let vector_lengths = if kvm {
        let path = vector_lengths::query_first_vcpu(qmp, options)?;
        vector_lengths::query(qmp, &path, options)?
    } else {
        None
    };
    let arguments = json!({"command-line": "info ramblock"});
    let blocks = qmp.execute("human-monitor-command", arguments, options)?;
    let blocks = parse_ram_blocks(&text(Some(&blocks), "info ramblock")?)
        .ok_or(Error::unexpected_reply("info ramblock"))?;

    let configuration = Configuration {
        machine: machine.to_owned(),
        target_page_bits: Some(TARGET_PAGE_BITS),
        capabilities: Vec::new(),
        uuid: None,
    };
    let setup = encode_setup(Some(&configuration), &blocks, RAM_ID, 0)?;
    let mut stream = save(qmp, &setup, options)?;
    fix_global_state(&mut stream, &run_state)?;
    Ok(DeviceState {
        version: qmp.version().clone(),
        machine: configuration.machine,
        run_state,
        kvm,
        vector_lengths,
        stream,
    })
}

fn text(reply: Option<&Value>, command: &'static str) -> Result<String, Error> {
    let text = reply.and_then(Value::as_str);
    Ok(text.ok_or(Error::unexpected_reply(command))?.to_owned())
}

/// Makes QEMU save its devices, and returns a file that begins with `setup` instead of QEMU's
/// header.
fn save(qmp: &mut dyn Monitor, setup: &[u8], options: &WaitOptions<'_>) -> Result<File, Error> {
    let io = |error| Error::io(TEMP_FILE_ERROR, error);
    // QEMU compares the descriptor's mode with the mode in which it would open a file (write only).
    let named = tempfile::NamedTempFile::new().map_err(io)?;
    let write_only = OpenOptions::new()
        .write(true)
        .open(named.path())
        .map_err(io)?;
    let mut saved_file = named.into_file();
    let set = qmp.execute_with("add-fd", json!({}), Some(write_only.as_fd()), options)?;
    let set = set.get("fdset-id").and_then(Value::as_u64);
    let set = set.ok_or(Error::unexpected_reply("add-fd"))?;
    let arguments = json!({"filename": format!("/dev/fdset/{set}"), "live": false});
    let saved = qmp.execute("xen-save-devices-state", arguments, options);
    // Ignore an error, because QEMU closes the descriptor with the connection at the latest.
    let _ = qmp.execute("remove-fd", json!({"fdset-id": set}), options);
    saved?;

    let length = saved_file.seek(SeekFrom::End(0)).map_err(io)?;
    if !(HEADER_LEN as u64..MAX_DEVICE_STATE_LEN).contains(&length) {
        return Err(Error::unexpected_reply("xen-save-devices-state"));
    }
    let mut stream = tempfile::tempfile().map_err(io)?;
    stream.write_all(setup).map_err(io)?;
    saved_file
        .seek(SeekFrom::Start(HEADER_LEN as u64))
        .map_err(io)?;
    io::copy(&mut saved_file, &mut stream).map_err(io)?;
    stream.seek(SeekFrom::Start(0)).map_err(io)?;
    Ok(stream)
}

/// Writes the state of the guest into `globalstate`, if the stream has it.
fn fix_global_state(file: &mut File, run_state: &str) -> Result<(), Error> {
    // A VM that is loaded in the state `inmigrate` never leaves it.
    if run_state == INMIGRATE {
        return Ok(());
    }
    let Ok(stream) = Stream::open(file) else {
        // The caller parses the stream and reports the error.
        return Ok(());
    };
    let mut sections = stream.sections().iter();
    let Some(section) = sections.find(|section| section.name == GLOBAL_STATE) else {
        return Ok(());
    };
    // The section holds a u32 with the text's length including the zero, then the text in a field
    // of 100 bytes (32 bytes since 8.2). Write at most 32 bytes of text.
    let room = section.payload.end - section.payload.start;
    let mut text = run_state.as_bytes().to_vec();
    text.push(0);
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    text.resize(text.len().max(RUNNING.len()), 0);
    if text.len() as u64 + 4 <= room.min(36) {
        let bytes = [&length.to_be_bytes()[..], &text].concat();
        file.seek(SeekFrom::Start(section.payload.start))
            .and_then(|_| file.write_all(&bytes))
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .map_err(|error| Error::io(TEMP_FILE_ERROR, error))?;
    }
    Ok(())
}

/// Run state of a QEMU that waits for a VM.
const INMIGRATE: &str = "inmigrate";

/// Run state that QEMU writes into `globalstate`, whatever the guest's state.
const RUNNING: &[u8] = b"running\0";

/// Parses the table of `info ramblock`.
///
/// Its columns are name, page size, offset, used, total; later versions have more.
fn parse_ram_blocks(table: &str) -> Option<Vec<RamBlock>> {
    let mut lines = table.lines();
    if !lines.next()?.contains("Block Name") {
        return None;
    }
    let mut blocks = Vec::new();
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, _, unit, offset, used, ..] = words[..] else {
            continue;
        };
        // A block's name with blanks shifts the columns.
        let is_block = unit.ends_with("iB") || unit == "B";
        if !is_block || !offset.starts_with("0x") {
            continue;
        }
        blocks.push(RamBlock {
            name: name.to_owned(),
            length: u64::from_str_radix(used.strip_prefix("0x")?, 16).ok()?,
            page_size: None,
            address: None,
            mapped_ram: None,
        });
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_blocks_are_parsed() {
        let table = "              Block Name    PSize              Offset               Used              Total                HVA  RO\r
           mach-virt.ram    4 KiB  0x0000000000000000 0x0000000010000000 0x0000000010000000 0x00007f6253e00000  rw\r
    /rom@etc/acpi/tables    2 MiB  0x0000000018000000 0x0000000000020000 0x0000000000200000\r
0000:01:00.0 BAR 0 mmaps[0]    4 KiB  0x0000000018000000 0x0000000000020000 0x0000000000200000\r\n";
        let blocks = parse_ram_blocks(table).unwrap();
        let parsed: Vec<_> = blocks
            .iter()
            .map(|block| (&*block.name, block.length))
            .collect();
        let expected = [
            ("mach-virt.ram", 0x1000_0000),
            ("/rom@etc/acpi/tables", 0x2_0000),
        ];
        assert_eq!(parsed, expected);
        assert!(parse_ram_blocks("unknown command: 'info ramblock'").is_none());
        assert!(parse_ram_blocks("").is_none());
    }
}
