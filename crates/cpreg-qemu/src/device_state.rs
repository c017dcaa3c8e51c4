//! The device state of a QEMU that is there, running or paused, asked for through its monitor: no RAM, no migration.
//!
//! What lives here is the asking. What a stream without RAM is made of lives in [`cpreg_stream`],
//! who asks in [`crate::rehearse`] and in the command.
//!
//! | QMP | what it gives (5.2 to 11.1, tried) |
//! |---|---|
//! | `qom-get /machine type` | the machine type, an alias such as `virt` resolved |
//! | `info ramblock` (HMP) | the RAM blocks; there is no QMP command for it |
//! | `add-fd`, then `xen-save-devices-state` | every device's section, into a file of ours; despite its name it has nothing to do with Xen |
//!
//! A QEMU whose guest runs stops it for the time that saving takes (1 to 10 ms measured, more where disks have to be
//! flushed) and lets it run on; with `live` off it does nothing else. A QEMU that waits for a migration (`inmigrate`) answers too: with its
//! registers at reset. QEMU writes `running` into `globalstate` whatever the guest does; here it is put right.
//!
//! Left out of the list of RAM blocks: those whose names have blanks in them. They are windows into passed-through
//! devices (`0000:01:00.0 BAR 0 mmaps[0]`), which QEMU does not migrate.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::Error;
use crate::qmp::{Qmp, Version, WaitOptions};
use cpreg_stream::{Configuration, GLOBAL_STATE, RamBlock, Stream, encode_setup};

/// Message of a temporary file that fails.
const TEMP_FILE_ERROR: &str = "cannot keep the device state";

/// Bits of a target page: `virt` sets 12 for every accelerator, and a stream without it means 10.
const TARGET_PAGE_BITS: u32 = 12;

/// The number of the `ram` section; devices are numbered from 0.
const RAM_ID: u32 = u32::MAX - 1;

/// Bytes of the header that QEMU writes before the sections.
const HEADER_LEN: usize = 8;

/// More than this is not taken for device state, in bytes.
const MAX_DEVICE_STATE_LEN: u64 = 256 << 20;

/// The device state of a QEMU.
#[derive(Debug)]
pub struct DeviceState {
    /// QEMU's version.
    pub version: Version,
    /// The machine type (`virt-10.0`).
    pub machine: String,
    /// What the guest was doing (`running`, `paused`, `prelaunch`, `inmigrate`).
    pub run_state: String,
    /// Whether KVM executes the guest.
    pub kvm: bool,
    /// A stream without RAM and without description, unnamed, gone when closed.
    pub stream: File,
}

/// Asks the QEMU whose monitor listens at the Unix socket `path`.
///
/// # Errors
/// If nobody answers there, QEMU refuses, or what it says is not understood. The guest runs on, if
/// it ran.
pub fn query_socket(path: &Path, patience: &WaitOptions<'_>) -> Result<DeviceState, Error> {
    let mut qmp = Qmp::handshake(Qmp::connect_socket(path)?, patience)?;
    query(&mut qmp, patience)
}

/// Asks the QEMU at the other end of an open monitor.
///
/// # Errors
/// If nobody answers there, QEMU refuses, or what it says is not understood. The guest runs on, if
/// it ran.
pub fn query(qmp: &mut Qmp, patience: &WaitOptions<'_>) -> Result<DeviceState, Error> {
    let status = qmp.execute("query-status", json!({}), patience)?;
    let run_state = text(status.get("status"), "query-status")?;
    let kvm = qmp.execute("query-kvm", json!({}), patience)?;
    let kvm = kvm.get("enabled").and_then(Value::as_bool);
    let arguments = json!({"path": "/machine", "property": "type"});
    let machine = qmp.execute("qom-get", arguments, patience)?;
    let machine = text(Some(&machine), "qom-get")?;
    let machine = machine.strip_suffix("-machine").unwrap_or(&machine);
    let arguments = json!({"command-line": "info ramblock"});
    let blocks = qmp.execute("human-monitor-command", arguments, patience)?;
    let blocks = parse_ram_blocks(&text(Some(&blocks), "info ramblock")?)
        .ok_or(Error::unexpected_reply("info ramblock"))?;

    let configuration = Configuration {
        machine: machine.to_owned(),
        target_page_bits: Some(TARGET_PAGE_BITS),
        capabilities: Vec::new(),
        uuid: None,
    };
    let front = encode_setup(Some(&configuration), &blocks, RAM_ID, 0)?;
    let mut stream = save(qmp, &front, patience)?;
    fix_global_state(&mut stream, &run_state)?;
    Ok(DeviceState {
        version: qmp.version().clone(),
        machine: configuration.machine,
        run_state,
        kvm: kvm.ok_or(Error::unexpected_reply("query-kvm"))?,
        stream,
    })
}

fn text(answer: Option<&Value>, question: &'static str) -> Result<String, Error> {
    let text = answer.and_then(Value::as_str);
    Ok(text.ok_or(Error::unexpected_reply(question))?.to_owned())
}

/// Has QEMU write its devices, and gives a file that begins with `front` in place of QEMU's header.
fn save(qmp: &mut Qmp, front: &[u8], patience: &WaitOptions<'_>) -> Result<File, Error> {
    let io = |error| Error::io(TEMP_FILE_ERROR, error);
    // QEMU compares the mode of what it is handed with the mode it would open a file in: writing only.
    let named = tempfile::NamedTempFile::new().map_err(io)?;
    let writing = OpenOptions::new()
        .write(true)
        .open(named.path())
        .map_err(io)?;
    let mut written = named.into_file();
    let set = qmp.execute_with("add-fd", json!({}), Some(writing.as_fd()), patience)?;
    let set = set.get("fdset-id").and_then(Value::as_u64);
    let set = set.ok_or(Error::unexpected_reply("add-fd"))?;
    let arguments = json!({"filename": format!("/dev/fdset/{set}"), "live": false});
    let saved = qmp.execute("xen-save-devices-state", arguments, patience);
    // QEMU closes it with the monitor's connection at the latest.
    let _ = qmp.execute("remove-fd", json!({"fdset-id": set}), patience);
    saved?;

    let length = written.seek(SeekFrom::End(0)).map_err(io)?;
    if !(HEADER_LEN as u64..MAX_DEVICE_STATE_LEN).contains(&length) {
        return Err(Error::unexpected_reply("xen-save-devices-state"));
    }
    let mut stream = tempfile::tempfile().map_err(io)?;
    stream.write_all(front).map_err(io)?;
    written
        .seek(SeekFrom::Start(HEADER_LEN as u64))
        .map_err(io)?;
    io::copy(&mut written, &mut stream).map_err(io)?;
    stream.seek(SeekFrom::Start(0)).map_err(io)?;
    Ok(stream)
}

/// Writes into `globalstate` what the guest does, if there is one.
fn fix_global_state(file: &mut File, run_state: &str) -> Result<(), Error> {
    // A VM that is loaded in this state never leaves it.
    if run_state == INMIGRATE {
        return Ok(());
    }
    let Ok(stream) = Stream::open(file) else {
        // Who wants to know what is in it will find out why not.
        return Ok(());
    };
    let mut sections = stream.sections().iter();
    let Some(section) = sections.find(|section| section.name == GLOBAL_STATE) else {
        return Ok(());
    };
    // A u32 for the length with the zero at the end, then the text in a field of 100 bytes; 32 from 8.2 on.
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

/// The state of a QEMU that waits for a VM.
const INMIGRATE: &str = "inmigrate";

/// What stands there.
const RUNNING: &[u8] = b"running\0";

/// Reads the table that `info ramblock` prints: name, page size, offset, used, total; later versions have more columns.
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
        // A name with blanks in it puts other words there.
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
    fn the_table_of_ram_blocks() {
        let table = "              Block Name    PSize              Offset               Used              Total                HVA  RO\r
           mach-virt.ram    4 KiB  0x0000000000000000 0x0000000010000000 0x0000000010000000 0x00007f6253e00000  rw\r
    /rom@etc/acpi/tables    2 MiB  0x0000000018000000 0x0000000000020000 0x0000000000200000\r
0000:01:00.0 BAR 0 mmaps[0]    4 KiB  0x0000000018000000 0x0000000000020000 0x0000000000200000\r\n";
        let blocks = parse_ram_blocks(table).unwrap();
        let found: Vec<_> = blocks.iter().map(|it| (&*it.name, it.length)).collect();
        let expected = [
            ("mach-virt.ram", 0x1000_0000),
            ("/rom@etc/acpi/tables", 0x2_0000),
        ];
        assert_eq!(found, expected);
        assert!(parse_ram_blocks("unknown command: 'info ramblock'").is_none());
        assert!(parse_ram_blocks("").is_none());
    }
}
