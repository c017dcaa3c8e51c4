//! Virtio rings in a rehearsal. A device has used its ring in memory, and the rehearsal does not
//! load the memory.
//!
//! The test sets up and uses the random number generator's queue through `-qtest`, as a driver in
//! the guest would. The device answers three requests. In the saved stream both the device and its
//! ring in RAM have index 3.
//!
//! 1. A QEMU that loads the stream without RAM prints an error about the ring. With the index
//!    0xfffd, near the end of its range, QEMU refuses the VM. So a rehearsal must change the index.
//! 2. `cpreg rehearse` accepts both streams, and QEMU prints nothing.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use cpreg_qemu::process::{QemuProcess, unix_address};
use cpreg_qemu::qmp::WaitOptions;
use cpreg_qemu::rehearse::{LoadOutcome, Rehearsal};
use cpreg_stream::Stream;
use cpreg_stream::guest_memory::find_ramless_fixups;
use cpreg_stream::{ReadAt, SectionChange};
use serde_json::json;

use e2e_framework::Result;
use e2e_framework::machine::Devices;

/// Timeout for one step.
const STEP_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(60));

/// Address of the ring, in RAM that the guest does not use.
const RING: u64 = 0x4300_0000;
const AVAILABLE_RING: u64 = RING + 0x80;
const USED_RING: u64 = RING + 0x1000;
const BUFFERS: u64 = RING + 0x2000;
const SLOTS: u16 = 8;
const REQUESTS: u16 = 3;

/// Bits of a device's status, in the order in which a driver sets them (virtio 1.1, 2.1).
const ACKNOWLEDGE: u64 = 1;
const DRIVER: u64 = 2;
const DRIVER_OK: u64 = 4;
const FEATURES_OK: u64 = 8;

/// Saves a VM of this command line whose random number generator has used its ring.
///
/// # Errors
/// Returns an error with the step that failed.
pub(crate) fn save(command: &[OsString], devices: Devices, stream: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("qtest");
    let listener = UnixListener::bind(&path)?;
    let mut additions: Vec<OsString> = ["-S", "-qtest-log", "/dev/null", "-qtest"]
        .map(OsString::from)
        .to_vec();
    additions.push(unix_address(&path));
    let mut qemu = QemuProcess::start(command, &additions, &STEP_TIMEOUT)?;
    let mut bus = Bus::new(qemu.accept(&listener, &STEP_TIMEOUT)?)?;
    // The devices of a stopped machine do not respond.
    qemu.execute("cont", json!({}), &STEP_TIMEOUT)?;
    bus.write_ring()?;
    match devices {
        Devices::Pci => bus.use_pci()?,
        _ => bus.use_mmio()?,
    }
    bus.wait_until_used()?;
    qemu.execute("stop", json!({}), &STEP_TIMEOUT)?;
    let uri = format!("exec:cat > {}", stream.display());
    qemu.execute("migrate", json!({ "uri": uri }), &STEP_TIMEOUT)?;
    loop {
        let migration = qemu.execute("query-migrate", json!({}), &STEP_TIMEOUT)?;
        match migration["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed") => return Err(format!("cannot save the VM: {migration}").into()),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Loads the stream without RAM. QEMU must print an error with the index 3, and refuse the VM with
/// the index 0xfffd. Leaves the stream with 0xfffd in the file.
///
/// # Errors
/// Returns an error if the loader accepts the stream, or the stream lacks the ring.
pub(crate) fn assert_load_fails(command: &[OsString], path: &Path) -> Result<()> {
    let source = fs::File::open(path)?;
    let stream = Stream::open(&source)?;
    let memory = find_ramless_fixups(&stream, &source)?;
    if !memory.unreliable_sections.is_empty() {
        return Err(format!("unreliable sections: {:?}", memory.unreliable_sections).into());
    }
    let [(section, SectionChange::Patch(offset, _))] = &memory.changes[..] else {
        return Err(format!("expected one ring, found {:?}", memory.changes).into());
    };
    let payload_start = stream.sections()[*section].payload.start;
    let file_offset = payload_start + offset;
    let mut index = [0; 2];
    source.read_exact_at(&mut index, file_offset)?;
    if index != REQUESTS.to_be_bytes() {
        return Err(format!("the index is {index:?}, expected {REQUESTS}").into());
    }

    let without_ram = stream.without_ram(&[])?;
    let result = Rehearsal::start(command, &STEP_TIMEOUT)?
        .load(&without_ram.apply_to(&source), &STEP_TIMEOUT)?;
    // 5.2 prints the error only with `-d guest_errors`.
    let has_error = result.stderr.contains("inconsistent") || result.version.major == 5;
    if result.outcome != LoadOutcome::Loaded || !has_error {
        return Err(format!("with index 3: {result:?}").into());
    }
    let near_end = SectionChange::Patch(*offset, vec![0xff, 0xfd]);
    let without_ram = stream.without_ram(&[(*section, near_end)])?;
    let result = Rehearsal::start(command, &STEP_TIMEOUT)?
        .load(&without_ram.apply_to(&source), &STEP_TIMEOUT)?;
    if result.outcome == LoadOutcome::Loaded {
        return Err(format!("with index 0xfffd: {result:?}").into());
    }

    let mut bytes = fs::read(path)?;
    let file_offset = usize::try_from(file_offset)?;
    bytes[file_offset..file_offset + 2].copy_from_slice(&[0xff, 0xfd]);
    fs::write(path, bytes)?;
    Ok(())
}

/// Bus of the machine, accessed through QEMU's test protocol (`docs/devel/testing/qtest.rst`).
struct Bus {
    socket: BufReader<UnixStream>,
}

impl Bus {
    fn new(socket: UnixStream) -> Result<Self> {
        socket.set_read_timeout(Some(STEP_TIMEOUT.timeout))?;
        Ok(Self {
            socket: BufReader::new(socket),
        })
    }

    /// Sends a line and returns the text after `OK`.
    fn execute(&mut self, line: &str) -> Result<String> {
        writeln!(self.socket.get_mut(), "{line}")?;
        loop {
            let mut reply = String::new();
            self.socket.read_line(&mut reply)?;
            let reply = reply.trim();
            if let Some(rest) = reply.strip_prefix("OK") {
                return Ok(rest.trim().to_owned());
            }
            // Interrupts are reported asynchronously.
            if !reply.starts_with("IRQ") {
                return Err(format!("qtest: `{line}`: {reply:?}").into());
            }
        }
    }

    /// Reads a value. `width` is b, w, l or q.
    fn read(&mut self, width: char, address: u64) -> Result<u64> {
        let text = self.execute(&format!("read{width} {address:#x}"))?;
        let digits = text.trim_start_matches("0x");
        Ok(u64::from_str_radix(digits, 16)?)
    }

    fn write(&mut self, width: char, address: u64, value: u64) -> Result<()> {
        self.execute(&format!("write{width} {address:#x} {value:#x}"))?;
        Ok(())
    }

    /// Writes descriptors of buffers for the device, and offers three of them.
    fn write_ring(&mut self) -> Result<()> {
        for slot in 0..u64::from(SLOTS) {
            let descriptor = RING + 16 * slot;
            self.write('q', descriptor, BUFFERS + 64 * slot)?;
            self.write('l', descriptor + 8, 16)?;
            self.write('w', descriptor + 12, 2)?;
            self.write('w', AVAILABLE_RING + 4 + 2 * slot, slot)?;
        }
        self.write('w', AVAILABLE_RING + 2, REQUESTS.into())
    }

    fn wait_until_used(&mut self) -> Result<()> {
        for _ in 0..1000 {
            if self.read('w', USED_RING + 2)? == u64::from(REQUESTS) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("the device does not use its ring".into())
    }

    /// Sets up and uses the device on a virtio slot of the board (version 1 of the interface;
    /// virtio
    /// 1.1, 4.2.4).
    fn use_mmio(&mut self) -> Result<()> {
        const RANDOM: u64 = 4;
        let slots = (0..32).map(|slot| 0x0a00_0000 + 0x200 * slot);
        for slot in slots {
            if self.read('l', slot + 8)? != RANDOM {
                continue;
            }
            let version = self.read('l', slot + 4)?;
            if version != 1 {
                return Err(format!("the device has version {version}").into());
            }
            for (register, value) in [
                (0x70, 0),
                (0x70, ACKNOWLEDGE),
                (0x70, ACKNOWLEDGE | DRIVER),
                // No feature, pages of 4 KiB, queue 0: length, alignment of the used ring, page.
                (0x20, 0),
                (0x28, 0x1000),
                (0x30, 0),
                (0x38, SLOTS.into()),
                (0x3c, 0x1000),
                (0x40, RING >> 12),
                (0x70, ACKNOWLEDGE | DRIVER | DRIVER_OK),
                (0x50, 0),
            ] {
                self.write('l', slot + register, value)?;
            }
            return Ok(());
        }
        Err("no random number generator on the bus".into())
    }

    /// Sets up and uses the device on the root PCI bus (version 1.0 of the interface; virtio 1.1,
    /// 4.1.4).
    fn use_pci(&mut self) -> Result<()> {
        const SPACE: u64 = 0x40_1000_0000;
        const RANDOM: u64 = 0x1005_1af4;
        const WINDOW: u64 = 0x1000_0000;
        const STATUS: u64 = 0x14;
        let functions = (0..32).map(|slot| SPACE + (slot << 15));
        for function in functions {
            if self.read('l', function)? != RANDOM {
                continue;
            }
            // BAR 4 has all registers of the device.
            self.write('l', function + 0x20, WINDOW)?;
            self.write('l', function + 0x24, 0)?;
            self.write('w', function + 4, 6)?;
            let (common, _) = self.find_register_part(function, 1)?;
            let (notify, capability) = self.find_register_part(function, 2)?;
            let multiplier = self.read('l', capability + 16)?;
            let (common, notify) = (WINDOW + common, WINDOW + notify);
            let ready = ACKNOWLEDGE | DRIVER | FEATURES_OK;
            for (width, register, value) in [
                ('b', STATUS, 0),
                ('b', STATUS, ACKNOWLEDGE),
                ('b', STATUS, ACKNOWLEDGE | DRIVER),
                // Features 63:32: VERSION_1.
                ('l', 0x08, 1),
                ('l', 0x0c, 1),
                ('b', STATUS, ready),
                ('w', 0x16, 0),
                ('w', 0x18, SLOTS.into()),
                ('l', 0x20, RING),
                ('l', 0x24, 0),
                ('l', 0x28, AVAILABLE_RING),
                ('l', 0x2c, 0),
                ('l', 0x30, USED_RING),
                ('l', 0x34, 0),
                ('w', 0x1c, 1),
                ('b', STATUS, ready | DRIVER_OK),
            ] {
                self.write(width, common + register, value)?;
            }
            let queue = self.read('w', common + 0x1e)?;
            return self.write('w', notify + queue * multiplier, 0);
        }
        Err("no random number generator on the bus".into())
    }

    /// Returns the offset of a part of the registers in BAR 4, and the address of the capability
    /// that describes the part.
    fn find_register_part(&mut self, function: u64, kind: u64) -> Result<(u64, u64)> {
        const VENDOR: u64 = 9;
        let mut offset = self.read('b', function + 0x34)?;
        while offset != 0 {
            let capability = function + offset;
            let is_virtio = self.read('b', capability)? == VENDOR;
            if is_virtio && self.read('b', capability + 3)? == kind {
                return Ok((self.read('l', capability + 8)?, capability));
            }
            offset = self.read('b', capability + 1)?;
        }
        Err(format!("the device has no capability {kind}").into())
    }
}
