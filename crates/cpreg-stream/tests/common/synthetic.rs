//! Streams made up byte by byte, of any size and shape.

use std::fmt::Write as _;
use std::io;

use cpreg_stream::ReadAt;

use super::index;

/// What the stream to make shall hold.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing a stream can have"
)]
pub struct SyntheticStream {
    pub vcpus: u32,
    /// Registers of each vCPU.
    pub registers: u32,
    /// A section before RAM.
    pub has_early_section: bool,
    /// A section between RAM's block list and its pages.
    pub has_early_section_after_start: bool,
    /// RAM without an end.
    pub snapshot: bool,
    /// Device state in a package, RAM going on behind it, no description.
    pub postcopy: bool,
    pub description: bool,
    /// Bytes of zeros behind the end.
    pub padding: usize,
    /// Pages of RAM, sent whole.
    pub pages: u64,
    /// What each device but the CPUs holds.
    pub payloads: Vec<Vec<u8>>,
    /// The version of the `cpu` sections.
    pub cpu_version: u32,
}

impl Default for SyntheticStream {
    fn default() -> Self {
        Self {
            vcpus: 2,
            registers: 20,
            has_early_section: false,
            has_early_section_after_start: false,
            snapshot: false,
            postcopy: false,
            description: true,
            padding: 0,
            pages: 4,
            payloads: vec![vec![1; 7], Vec::new(), vec![0x7e; 300]],
            cpu_version: 22,
        }
    }
}

pub const PAGE: u64 = 4096;
const RECORD: u64 = 8 + PAGE;

/// The bytes before and behind the pages, and how many pages stand between.
pub struct SyntheticSource {
    prefix: Vec<u8>,
    pages: u64,
    suffix: Vec<u8>,
}

impl ReadAt for SyntheticSource {
    fn length(&self) -> io::Result<u64> {
        Ok(self.prefix.len() as u64 + self.pages * RECORD + self.suffix.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = self.prefix.len() as u64;
        let end = start + self.pages * RECORD;
        if offset >= end {
            return self.suffix.read_exact_at(buffer, offset - end);
        }
        for (at, byte) in (offset..).zip(buffer) {
            *byte = if at < start {
                self.prefix[index(at)]
            } else if at < end {
                let (page, inside) = ((at - start) / RECORD, (at - start) % RECORD);
                // PAGE and CONTINUE; a page holds its own number again and again.
                let word = (page * PAGE) | 0x28;
                if inside < 8 {
                    word.to_be_bytes()[index(inside)]
                } else {
                    page.to_be_bytes()[index(inside % 8)]
                }
            } else {
                let inside = index(at - end);
                *self
                    .suffix
                    .get(inside)
                    .ok_or(io::ErrorKind::UnexpectedEof)?
            };
        }
        Ok(())
    }
}

fn push_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.push(u8::try_from(name.len()).unwrap());
    bytes.extend(name.as_bytes());
}

fn push_section(
    bytes: &mut Vec<u8>,
    kind: u8,
    id: u32,
    name: &str,
    numbers: (u32, u32),
    payload: &[u8],
) {
    bytes.push(kind);
    bytes.extend(id.to_be_bytes());
    if kind == 1 || kind == 4 {
        push_name(bytes, name);
        bytes.extend(numbers.0.to_be_bytes());
        bytes.extend(numbers.1.to_be_bytes());
    }
    bytes.extend(payload);
    bytes.push(0x7e);
    bytes.extend(id.to_be_bytes());
}

/// The id of register `index`: AArch32 ones, then AArch64 ones.
pub fn id(index: u32) -> u64 {
    if index < 4 {
        0x4020_0000_200e_0000 + u64::from(index)
    } else {
        0x6030_0000_0013_8000 + u64::from(index)
    }
}

fn cpu(instance: u32, registers: u32) -> Vec<u8> {
    let mut bytes = vec![0x11; 568];
    bytes.extend(registers.to_be_bytes());
    (0..registers).for_each(|index| bytes.extend(id(index).to_be_bytes()));
    (0..registers).for_each(|index| bytes.extend(u64::from(index * 3 + instance).to_be_bytes()));
    bytes.extend([0xff; 8]);
    bytes.extend([0; 24]);
    bytes.extend([0; 16]);
    bytes.extend([0xff; 16]);
    bytes.push(0);
    for (name, version, content) in [("cpu/vfp", 3u32, 576), ("cpu/irq-line-state", 1, 4)] {
        bytes.push(5);
        push_name(&mut bytes, name);
        bytes.extend(version.to_be_bytes());
        bytes.extend(vec![0x22; content]);
    }
    bytes
}

fn cpu_description(instance: u32, registers: u32) -> String {
    format!(
        r#"{{"name": "cpu", "instance_id": {instance}, "vmsd_name": "cpu", "version": 22, "fields": [{{"name": "head", "array_len": 568, "type": "uint8", "size": 1}}, {{"name": "cpreg_vmstate_array_len", "type": "int32", "size": 4}}, {{"name": "cpreg_vmstate_indexes", "array_len": {registers}, "type": "uint64", "size": 8}}, {{"name": "cpreg_vmstate_values", "array_len": {registers}, "type": "uint64", "size": 8}}, {{"name": "tail", "type": "buffer", "size": 65}}], "subsections": [{{"vmsd_name": "cpu/vfp", "version": 3, "fields": [{{"name": "v", "type": "buffer", "size": 576}}]}}, {{"vmsd_name": "cpu/irq-line-state", "version": 1, "fields": [{{"name": "env.irq_line_state", "type": "uint32", "size": 4}}]}}]}}"#
    )
}

impl SyntheticStream {
    pub fn source(&self) -> SyntheticSource {
        let mut before = b"QEVM\0\0\0\x03\x07\0\0\0\x09virt-10.0".to_vec();
        before.extend(b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c");
        let mut described = Vec::new();
        if self.postcopy {
            before.extend([8, 0, 3, 0, 16]);
            before.extend([PAGE.to_be_bytes(), PAGE.to_be_bytes()].concat());
        }
        if self.has_early_section {
            push_section(&mut before, 4, 90, "early", (0, 1), b"abc");
            described.push(device("early", 0, 3));
        }
        let mut ram = ((self.pages * PAGE) | 4).to_be_bytes().to_vec();
        if self.pages > 0 {
            push_name(&mut ram, "ram0");
            ram.extend((self.pages * PAGE).to_be_bytes());
        }
        ram.extend(16u64.to_be_bytes());
        push_section(&mut before, 1, 2, "ram", (0, 4), &ram);
        if self.has_early_section_after_start {
            push_section(&mut before, 4, 91, "0000:00:01.0/early", (0, 1), &[0; 100]);
            described.push(device("0000:00:01.0/early", 0, 100));
        }
        before.extend([2, 0, 0, 0, 2]);
        if self.pages > 0 {
            // A page of zeros names the block for those that follow.
            before.extend(2u64.to_be_bytes());
            push_name(&mut before, "ram0");
            before.push(0);
        }
        let mut behind = 16u64.to_be_bytes().to_vec();
        behind.extend(b"\x7e\0\0\0\x02");

        let mut devices = Vec::new();
        self.devices(&mut devices, &mut described);
        let mut end = Vec::new();
        push_section(&mut end, 3, 2, "", (0, 0), &16u64.to_be_bytes());
        if self.postcopy {
            let mut package = b"\x08\0\x04\0\0".to_vec();
            package.extend(devices);
            package.extend(b"\x08\0\x02\0\x04\0\0\0\x03\x08\0\x05\0\0");
            behind.extend(b"\x08\0\x07\0\x04");
            behind.extend(u32::try_from(package.len()).unwrap().to_be_bytes());
            behind.extend(package);
            behind.extend(end);
            behind.push(0);
        } else {
            if !self.snapshot {
                behind.extend(end);
            }
            behind.extend(devices);
            behind.push(0);
            if self.description {
                let json = format!(
                    r#"{{"page_size": 4096, "devices": [{}]}}"#,
                    described.join(", ")
                );
                behind.push(6);
                behind.extend(u32::try_from(json.len()).unwrap().to_be_bytes());
                behind.extend(json.as_bytes());
            }
        }
        behind.extend(vec![0; self.padding]);
        SyntheticSource {
            prefix: before,
            pages: self.pages,
            suffix: behind,
        }
    }

    fn devices(&self, devices: &mut Vec<u8>, described: &mut Vec<String>) {
        let mut id = 10;
        let mut next = || {
            id += 1;
            id
        };
        for instance in 0..self.vcpus {
            push_section(devices, 4, next(), "cpu_common", (instance, 1), &[0; 8]);
            described.push(device("cpu_common", instance, 8));
            let payload = cpu(instance, self.registers);
            push_section(
                devices,
                4,
                next(),
                "cpu",
                (instance, self.cpu_version),
                &payload,
            );
            described.push(cpu_description(instance, self.registers));
        }
        for (payload, number) in self.payloads.iter().zip(0..) {
            let mut name = String::new();
            write!(name, "0000:00:{number:02}.0/device").unwrap();
            push_section(devices, 4, next(), &name, (0, 3), payload);
            described.push(device(&name, 0, payload.len()));
        }
        let mut state = b"\0\0\0\x08running\0".to_vec();
        state.resize(104, 0);
        push_section(devices, 4, next(), "globalstate", (0, 1), &state);
        described.push(device("globalstate", 0, state.len()));
    }

    /// The stream in memory.
    pub fn bytes(&self) -> Vec<u8> {
        super::bytes(&self.source())
    }
}

fn device(name: &str, instance: u32, size: usize) -> String {
    format!(
        r#"{{"name": "{name}", "instance_id": {instance}, "size": {size}, "fields": [{{"name": "data", "size": {size}, "type": "buffer"}}]}}"#
    )
}
