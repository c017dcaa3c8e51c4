//! Large streams out of small recorded ones: more RAM, more vCPUs, all else as it was recorded.
//!
//! | what grows | how |
//! |---|---|
//! | RAM | the length of `mach-virt.ram` in the block list, and the sum in front of it (formats: cpreg-stream, `ram.rs`) |
//! | … its pages | PAGE records, each page with content of its own, behind the first that was recorded; in a mapped-ram file a bitmap of ones over a hole |
//! | vCPUs | `cpu_common` and `cpu` sections like those of vCPU 0, with ids of their own, and their entries in the description |
//!
//! The result is a whole stream: `cpreg show --verify` reads it from the front too. The GIC's state stays that of the recorded
//! number of vCPUs, which only its own loader would mind.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use cpreg_stream::Section;
use cpreg_stream::Stream;
use serde_json::Value;

/// The block that grows: the machine's RAM.
const RAM_BLOCK_NAME: &[u8] = b"\x0dmach-virt.ram";
const PAGE_SIZE: u64 = 4096;
/// Flags of a record.
const PAGE_RECORD: u64 = 0x08;
const CONTINUE: u64 = 0x20;

/// What a stream shall grow to.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Guest RAM in bytes.
    pub ram: u64,
    /// RAM in the stream: the first so many bytes of it are sent as whole pages.
    pub sent_ram: u64,
    /// How many vCPUs; at least those that were recorded.
    pub vcpus: u32,
}

fn invalid_data(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Writes a grown stream into an empty file, from the bytes of a recorded one.
///
/// # Errors
/// If the recorded stream is no such stream, or the file cannot be written.
pub fn write(recorded: &[u8], size: Size, to: &File) -> io::Result<()> {
    let stream = Stream::open(&recorded).map_err(io::Error::other)?;
    let list = find(recorded, RAM_BLOCK_NAME)?;
    let mut first_page = PAGE_RECORD.to_be_bytes().to_vec();
    first_page.extend(RAM_BLOCK_NAME);
    let first_page = find(recorded, &first_page)? + first_page.len() + index(PAGE_SIZE);
    let old = stream.ram_blocks()[0].length;

    let mut front = recorded[..first_page].to_vec();
    // The sum of all lengths, with a flag in its lowest bits, stands right before the first block.
    add_to_u64(&mut front, list - 8, size.ram - old)?;
    add_to_u64(&mut front, list + RAM_BLOCK_NAME.len(), size.ram - old)?;
    let mut out = BufWriter::with_capacity(1 << 20, to);
    out.write_all(&front)?;
    let mut page = vec![0; index(PAGE_SIZE)];
    for address in (PAGE_SIZE..size.sent_ram).step_by(index(PAGE_SIZE)) {
        out.write_all(&(address | PAGE_RECORD | CONTINUE).to_be_bytes())?;
        // Nothing that a filesystem could make smaller, at the price of a copy.
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

/// What stands behind `from`, with more vCPUs.
fn encode_after_ram(
    recorded: &[u8],
    stream: &Stream,
    from: usize,
    vcpus: u32,
) -> io::Result<Vec<u8>> {
    let text = stream.description().ok_or(invalid_data("no description"))?;
    let text = index(text.start)..index(text.end);
    let mut description: Value = serde_json::from_slice(&recorded[text.clone()])?;
    let devices = description["devices"]
        .as_array_mut()
        .ok_or(invalid_data("no devices"))?;
    let sections = stream.sections();
    let before = sections
        .iter()
        .rposition(|section| section.name == "cpu")
        .ok_or(invalid_data("no vCPU"))?;
    let mut next_id = 1 + sections.iter().map(|it| it.id).max().unwrap_or(0);
    let mut more = Vec::new();
    let mut described = Vec::new();
    let there = u32::try_from(stream.cpus().len()).map_err(io::Error::other)?;
    for instance in there..vcpus {
        for name in ["cpu_common", "cpu"] {
            let is_first = |section: &&Section| section.name == name && section.instance == 0;
            let section = sections
                .iter()
                .find(is_first)
                .ok_or(invalid_data("no vCPU 0"))?;
            let bytes = &recorded[index(section.range.start)..index(section.range.end)];
            more.extend(renumber_section(bytes, name.len(), next_id, instance));
            next_id += 1;
            let entry = devices
                .iter()
                .find(|entry| entry["name"] == name && entry["instance_id"] == 0);
            let mut entry = entry
                .ok_or(invalid_data("vCPU 0 is not described"))?
                .clone();
            entry["instance_id"] = instance.into();
            described.push(entry);
        }
    }
    let place = devices.iter().rposition(|entry| entry["name"] == "cpu");
    let place = place.ok_or(invalid_data("no vCPU is described"))? + 1;
    devices.splice(place..place, described);

    let here = index(sections[before].range.end);
    let description = serde_json::to_vec(&description)?;
    let length = u32::try_from(description.len()).map_err(io::Error::other)?;
    Ok([
        &recorded[from..here],
        &more,
        &recorded[here..text.start - 4],
        &length.to_be_bytes(),
        &description,
        &recorded[text.end..],
    ]
    .concat())
}

/// A section with another id and instance: u8 type, u32 id, u8 n, n bytes name, u32 instance … footer with u32 id.
fn renumber_section(section: &[u8], name: usize, id: u32, instance: u32) -> Vec<u8> {
    let mut section = section.to_vec();
    let footer = section.len() - 4;
    for (at, number) in [(1, id), (6 + name, instance), (footer, id)] {
        section[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    section
}

/// Writes a grown mapped-ram stream into an empty file: every page is there, and every page is zeros that take no room.
///
/// # Errors
/// If the recorded file is no such file, or the new one cannot be written.
pub fn write_mapped_ram(recorded: &File, ram: u64, to: &File) -> io::Result<()> {
    let stream = Stream::open(recorded).map_err(io::Error::other)?;
    let (first, others) = stream
        .ram_blocks()
        .split_first()
        .ok_or(invalid_data("no RAM"))?;
    let mapped = first
        .mapped_ram
        .as_ref()
        .ok_or(invalid_data("this is no mapped-ram"))?;
    let more = ram - first.length;
    let bitmap = mapped.bitmap_offset..mapped.bitmap_offset + ram / PAGE_SIZE / 8;
    if bitmap.end > mapped.pages.start {
        return Err(invalid_data("the bitmap does not fit before the pages"));
    }
    let mut front = vec![0; index(bitmap.start)];
    recorded.read_exact_at(&mut front, 0)?;
    let list = find(&front, RAM_BLOCK_NAME)?;
    add_to_u64(&mut front, list - 8, more)?;
    add_to_u64(&mut front, list + RAM_BLOCK_NAME.len(), more)?;
    to.write_all_at(&front, 0)?;
    to.write_all_at(&vec![0xff; index(bitmap.end - bitmap.start)], bitmap.start)?;

    let end = recorded.metadata()?.len();
    to.set_len(end + more)?;
    copy_data(recorded, mapped.pages.end..end, to, more)?;
    // The other blocks say where in the file their bitmaps and pages stand.
    for block in others {
        let mapped = block
            .mapped_ram
            .as_ref()
            .ok_or(invalid_data("this is no mapped-ram"))?;
        for (offset, back) in [(mapped.bitmap_offset, 16), (mapped.pages.start, 8)] {
            // Both stand right before the bitmap.
            to.write_all_at(
                &(offset + more).to_be_bytes(),
                mapped.bitmap_offset - back + more,
            )?;
        }
    }
    Ok(())
}

/// Copies what is not zero, to `more` bytes further on.
fn copy_data(from: &File, range: Range<u64>, to: &File, more: u64) -> io::Result<()> {
    let mut block = vec![0; 64 << 10];
    for start in range.clone().step_by(block.len()) {
        let count = block.len().min(index(range.end - start));
        from.read_exact_at(&mut block[..count], start)?;
        if block[..count].iter().any(|byte| *byte != 0) {
            to.write_all_at(&block[..count], start + more)?;
        }
    }
    Ok(())
}

fn find(bytes: &[u8], what: &[u8]) -> io::Result<usize> {
    let at = bytes.windows(what.len()).position(|it| it == what);
    at.ok_or(invalid_data(
        "this stream cannot grow: the machine's RAM is not where it must be",
    ))
}

/// Adds to the u64 that stands there.
fn add_to_u64(bytes: &mut [u8], at: usize, more: u64) -> io::Result<()> {
    let field = bytes
        .get_mut(at..at + 8)
        .ok_or(invalid_data("the stream is too short"))?;
    let mut number = [0; 8];
    number.copy_from_slice(field);
    field.copy_from_slice(&(u64::from_be_bytes(number) + more).to_be_bytes());
    Ok(())
}
