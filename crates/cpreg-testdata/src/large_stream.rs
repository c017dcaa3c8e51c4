//! Large streams, made from small recorded ones with more RAM and more vCPUs.
//!
//! - RAM: the length of `mach-virt.ram` in the block list grows, and so does the sum of lengths
//!   before the list (for the formats, see `ram.rs` of cpreg-stream).
//! - Pages of RAM: PAGE records follow the first recorded one, each page with different content. In
//!   a mapped-ram file, a bitmap of ones covers a hole.
//! - vCPUs: `cpu_common` and `cpu` sections are copies of vCPU 0's, with new ids and with entries
//!   in the description.
//!
//! The result is a valid stream: `cpreg show --verify` accepts it. Only QEMU would reject
//! it, because the GIC's state is still that of the recorded number of vCPUs.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use cpreg_stream::Section;
use cpreg_stream::Stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Name of the block that grows, with its length: the machine's RAM.
const RAM_BLOCK_NAME: &[u8] = b"\x0dmach-virt.ram";
const PAGE_SIZE: u64 = 4096;
/// Flag of a record with an uncompressed page.
const PAGE_RECORD: u64 = 0x08;
/// Flag of a record in the same block as the one before.
const CONTINUE: u64 = 0x20;

/// Size of the stream to make.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Guest RAM in bytes.
    pub ram: u64,
    /// Number of bytes of RAM, from the first on, that are sent as uncompressed pages.
    pub sent_ram: u64,
    /// Number of vCPUs; at least the recorded number.
    pub vcpus: u32,
}

fn invalid_data(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Writes a large stream into an empty file, from the bytes of a recorded one.
///
/// # Errors
/// Returns an error if the recorded stream is not suitable, or the file cannot be written.
pub fn write(recorded: &[u8], size: Size, to: &File) -> io::Result<()> {
    let stream = Stream::open(&recorded).map_err(io::Error::other)?;
    let list = find(recorded, RAM_BLOCK_NAME)?;
    let mut first_page = PAGE_RECORD.to_be_bytes().to_vec();
    first_page.extend(RAM_BLOCK_NAME);
    let first_page = find(recorded, &first_page)? + first_page.len() + index(PAGE_SIZE);
    let recorded_ram = stream.ram_blocks()[0].length;

    let mut prefix = recorded[..first_page].to_vec();
    // The sum of all lengths, with a flag in its lowest bits, is just before the first block.
    add_to_u64(&mut prefix, list - 8, size.ram - recorded_ram)?;
    add_to_u64(
        &mut prefix,
        list + RAM_BLOCK_NAME.len(),
        size.ram - recorded_ram,
    )?;
    let mut out = BufWriter::with_capacity(1 << 20, to);
    out.write_all(&prefix)?;
    let mut page = vec![0; index(PAGE_SIZE)];
    for address in (PAGE_SIZE..size.sent_ram).step_by(index(PAGE_SIZE)) {
        out.write_all(&(address | PAGE_RECORD | CONTINUE).to_be_bytes())?;
        // The content varies, so that no filesystem compresses it and hides the cost of a copy.
        for (word, number) in page.chunks_exact_mut(8).zip(0_u64..) {
            let mixed = (address + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word.copy_from_slice(&mixed.to_be_bytes());
        }
        out.write_all(&page)?;
    }
    out.write_all(&encode_after_ram(
        recorded, &stream, first_page, size.vcpus,
    )?)?;
    out.flush()
}

/// Number of an instance in a description, as QEMU writes it.
const INSTANCE: &str = "\"instance_id\": ";
const INSTANCE_0: &str = "\"instance_id\": 0";

/// Description of the devices. The text of each device stays as QEMU wrote it.
#[derive(Deserialize, Serialize)]
struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Box<RawValue>>,
    page_size: u64,
    devices: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct DeviceHead {
    name: String,
    instance_id: i64,
}

/// Returns the stream after the offset `from`, with more vCPUs.
fn encode_after_ram(
    recorded: &[u8],
    stream: &Stream,
    from: usize,
    vcpus: u32,
) -> io::Result<Vec<u8>> {
    let text = stream.description().ok_or(invalid_data("no description"))?;
    let text = index(text.start)..index(text.end);
    let mut description: Description = serde_json::from_slice(&recorded[text.clone()])?;
    let devices = &mut description.devices;
    let heads: Vec<DeviceHead> = devices
        .iter()
        .map(|device| serde_json::from_str(device.get()))
        .collect::<Result<_, _>>()?;
    let sections = stream.sections();
    let last_cpu = sections
        .iter()
        .rposition(|section| section.name == "cpu")
        .ok_or(invalid_data("no vCPU"))?;
    let mut next_id = 1 + sections.iter().map(|section| section.id).max().unwrap_or(0);
    let mut new_sections = Vec::new();
    let mut new_entries = Vec::new();
    let recorded_count = u32::try_from(stream.cpus().len()).map_err(io::Error::other)?;
    for instance in recorded_count..vcpus {
        for name in ["cpu_common", "cpu"] {
            let is_first = |section: &&Section| section.name == name && section.instance == 0;
            let section = sections
                .iter()
                .find(is_first)
                .ok_or(invalid_data("no vCPU 0"))?;
            let bytes = &recorded[index(section.range.start)..index(section.range.end)];
            new_sections.extend(renumber_section(bytes, name.len(), next_id, instance));
            next_id += 1;
            let entry = heads
                .iter()
                .position(|head| head.name == name && head.instance_id == 0)
                .ok_or(invalid_data("vCPU 0 is not described"))?;
            let text = devices[entry].get();
            let renumbered = text.replacen(INSTANCE_0, &format!("{INSTANCE}{instance}"), 1);
            new_entries.push(RawValue::from_string(renumbered)?);
        }
    }
    let last_entry = heads.iter().rposition(|head| head.name == "cpu");
    let end = last_entry.ok_or(invalid_data("no vCPU is described"))? + 1;
    devices.splice(end..end, new_entries);

    let insert_at = index(sections[last_cpu].range.end);
    let description = serde_json::to_vec(&description)?;
    let length = u32::try_from(description.len()).map_err(io::Error::other)?;
    Ok([
        &recorded[from..insert_at],
        &new_sections,
        &recorded[insert_at..text.start - 4],
        &length.to_be_bytes(),
        &description,
        &recorded[text.end..],
    ]
    .concat())
}

/// Returns a copy of a section with another id and instance.
///
/// The format is u8 type, u32 id, u8 n, n bytes name, u32 instance … footer with u32 id.
fn renumber_section(section: &[u8], name_len: usize, id: u32, instance: u32) -> Vec<u8> {
    let mut section = section.to_vec();
    let footer = section.len() - 4;
    for (offset, number) in [(1, id), (6 + name_len, instance), (footer, id)] {
        section[offset..offset + 4].copy_from_slice(&number.to_be_bytes());
    }
    section
}

/// Writes a large mapped-ram stream into an empty file.
///
/// Every page is present and is a hole of zeros.
///
/// # Errors
/// Returns an error if the recorded file is not a mapped-ram stream, or the new one cannot be
/// written.
pub fn write_mapped_ram(recorded: &File, ram: u64, to: &File) -> io::Result<()> {
    let stream = Stream::open(recorded).map_err(io::Error::other)?;
    let (first, others) = stream
        .ram_blocks()
        .split_first()
        .ok_or(invalid_data("no RAM"))?;
    let mapped = first
        .mapped_ram
        .as_ref()
        .ok_or(invalid_data("not a mapped-ram stream"))?;
    let growth = ram - first.length;
    let bitmap = mapped.bitmap_offset..mapped.bitmap_offset + ram / PAGE_SIZE / 8;
    if bitmap.end > mapped.pages.start {
        return Err(invalid_data("the bitmap does not fit before the pages"));
    }
    let mut prefix = vec![0; index(bitmap.start)];
    recorded.read_exact_at(&mut prefix, 0)?;
    let list = find(&prefix, RAM_BLOCK_NAME)?;
    add_to_u64(&mut prefix, list - 8, growth)?;
    add_to_u64(&mut prefix, list + RAM_BLOCK_NAME.len(), growth)?;
    to.write_all_at(&prefix, 0)?;
    to.write_all_at(&vec![0xff; index(bitmap.end - bitmap.start)], bitmap.start)?;

    let end = recorded.metadata()?.len();
    to.set_len(end + growth)?;
    copy_data(recorded, mapped.pages.end..end, to, growth)?;
    // The headers of the other blocks contain the offsets of their bitmaps and pages.
    for block in others {
        let mapped = block
            .mapped_ram
            .as_ref()
            .ok_or(invalid_data("not a mapped-ram stream"))?;
        for (offset, distance) in [(mapped.bitmap_offset, 16), (mapped.pages.start, 8)] {
            // Both offsets are just before the bitmap.
            to.write_all_at(
                &(offset + growth).to_be_bytes(),
                mapped.bitmap_offset - distance + growth,
            )?;
        }
    }
    Ok(())
}

/// Copies data that is not zero to an offset that is higher by `shift`.
fn copy_data(from: &File, range: Range<u64>, to: &File, shift: u64) -> io::Result<()> {
    let mut block = vec![0; 64 << 10];
    for start in range.clone().step_by(block.len()) {
        let count = block.len().min(index(range.end - start));
        from.read_exact_at(&mut block[..count], start)?;
        if block[..count].iter().any(|byte| *byte != 0) {
            to.write_all_at(&block[..count], start + shift)?;
        }
    }
    Ok(())
}

fn find(bytes: &[u8], wanted: &[u8]) -> io::Result<usize> {
    let offset = bytes
        .windows(wanted.len())
        .position(|window| window == wanted);
    offset.ok_or(invalid_data(
        "the stream cannot grow: the machine's RAM is not found",
    ))
}

/// Adds `increment` to the u64 at this offset.
fn add_to_u64(bytes: &mut [u8], offset: usize, increment: u64) -> io::Result<()> {
    let field = bytes
        .get_mut(offset..offset + 8)
        .ok_or(invalid_data("the stream is too short"))?;
    let mut number = [0; 8];
    number.copy_from_slice(field);
    field.copy_from_slice(&(u64::from_be_bytes(number) + increment).to_be_bytes());
    Ok(())
}
