//! Synthetic streams, built byte by byte, of any size and shape.

use std::fmt::Write as _;
use std::io;

use cpreg_stream::ReadAt;

use super::index;

/// Description of a synthetic stream.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent property of a stream"
)]
pub struct SyntheticStream {
    pub vcpus: u32,
    /// Number of registers of each vCPU.
    pub registers: u32,
    /// Adds a section before RAM.
    pub has_early_section: bool,
    /// Adds a section between RAM's block list and its pages.
    pub has_early_section_after_start: bool,
    /// Omits the end of RAM.
    pub snapshot: bool,
    /// Sends device state in a package, RAM after it, and no description.
    pub postcopy: bool,
    pub description: bool,
    /// Number of zero bytes after the end.
    pub padding: usize,
    /// Number of RAM pages, sent uncompressed.
    pub pages: u64,
    /// Payloads of the devices, without the CPUs.
    pub payloads: Vec<Vec<u8>>,
    /// Version of the `cpu` sections.
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

/// Bytes of a synthetic stream; the pages are generated on read.
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
                // PAGE and CONTINUE; a page repeats its number.
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

/// Returns the id of register `index`; the first four are AArch32 registers, the rest AArch64.
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
        let mut prefix = b"QEVM\0\0\0\x03\x07\0\0\0\x09virt-10.0".to_vec();
        prefix.extend(b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c");
        let mut described = Vec::new();
        if self.postcopy {
            prefix.extend([8, 0, 3, 0, 16]);
            prefix.extend([PAGE.to_be_bytes(), PAGE.to_be_bytes()].concat());
        }
        if self.has_early_section {
            push_section(&mut prefix, 4, 90, "early", (0, 1), b"abc");
            described.push(device("early", 0, 3));
        }
        let mut ram = ((self.pages * PAGE) | 4).to_be_bytes().to_vec();
        if self.pages > 0 {
            push_name(&mut ram, "ram0");
            ram.extend((self.pages * PAGE).to_be_bytes());
        }
        ram.extend(16u64.to_be_bytes());
        push_section(&mut prefix, 1, 2, "ram", (0, 4), &ram);
        if self.has_early_section_after_start {
            push_section(&mut prefix, 4, 91, "0000:00:01.0/early", (0, 1), &[0; 100]);
            described.push(device("0000:00:01.0/early", 0, 100));
        }
        prefix.extend([2, 0, 0, 0, 2]);
        if self.pages > 0 {
            // A page of zeros names the block of the following pages.
            prefix.extend(2u64.to_be_bytes());
            push_name(&mut prefix, "ram0");
            prefix.push(0);
        }
        let mut suffix = 16u64.to_be_bytes().to_vec();
        suffix.extend(b"\x7e\0\0\0\x02");

        let mut devices = Vec::new();
        self.devices(&mut devices, &mut described);
        let mut end = Vec::new();
        push_section(&mut end, 3, 2, "", (0, 0), &16u64.to_be_bytes());
        if self.postcopy {
            let mut package = b"\x08\0\x04\0\0".to_vec();
            package.extend(devices);
            package.extend(b"\x08\0\x02\0\x04\0\0\0\x03\x08\0\x05\0\0");
            suffix.extend(b"\x08\0\x07\0\x04");
            suffix.extend(u32::try_from(package.len()).unwrap().to_be_bytes());
            suffix.extend(package);
            suffix.extend(end);
            suffix.push(0);
        } else {
            if !self.snapshot {
                suffix.extend(end);
            }
            suffix.extend(devices);
            suffix.push(0);
            if self.description {
                let json = format!(
                    r#"{{"page_size": 4096, "devices": [{}]}}"#,
                    described.join(", ")
                );
                suffix.push(6);
                suffix.extend(u32::try_from(json.len()).unwrap().to_be_bytes());
                suffix.extend(json.as_bytes());
            }
        }
        suffix.extend(vec![0; self.padding]);
        SyntheticSource {
            prefix,
            pages: self.pages,
            suffix,
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

    /// Returns the stream in memory.
    pub fn bytes(&self) -> Vec<u8> {
        super::bytes(&self.source())
    }
}

fn device(name: &str, instance: u32, size: usize) -> String {
    format!(
        r#"{{"name": "{name}", "instance_id": {instance}, "size": {size}, "fields": [{{"name": "data", "size": {size}, "type": "buffer"}}]}}"#
    )
}
