//! Seeds of streams and their derivatives.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use cpreg_stream::{ReadAt, SectionChange, Stream, VMDESCRIPTION};
use lzma_rust2::XzReader;
use serde_json::Value;
use wheels::Result;

use super::seed::Seed;

/// Folders of recorded streams.
const FOLDERS: [&str; 3] = [
    "tests/fixtures/streams/kvm",
    "tests/fixtures/streams/tcg",
    "tests/fixtures/tcg",
];

/// Maximum length in bytes of the recorded streams that become seeds. A stream with `mapped-ram`
/// has
/// 200 MB.
const MAX_STREAM_LEN: u64 = 4 << 20;

/// Maximum length of a seed in bytes. The fuzzer tries more short inputs than long ones in the same
/// time.
const MAX_SEED_LEN: usize = 48 << 10;

/// Interval between the registers that a short stream keeps.
const KEPT_REGISTER_INTERVAL: usize = 16;

/// Length in bytes of a seed with RAM: the beginning of a stream.
const RAM_SEED_LEN: usize = 24 << 10;

/// Length in bytes of the part of a save image that is shortened to a seed: less than its padding.
const SAVE_IMAGE_SEED_LEN: u64 = 32 << 10;

/// Returns recorded streams without their RAM, and short streams with only their vCPUs.
pub(super) fn recorded_streams(root: &Path) -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for whole in unpack_streams(root)? {
        let stream = Stream::open(&whole)?;
        let devices = bytes(&stream.without_ram(&[])?.apply_to(&whole))?;
        for seed in [vcpus(&whole, &stream)?, devices] {
            if seed.len() <= MAX_SEED_LEN && !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
    }
    Ok(seeds)
}

/// Returns a stream without RAM and without devices other than its vCPUs, with a description.
fn vcpus(whole: &Seed, stream: &Stream) -> Result<Seed> {
    let sections = stream.sections().iter().enumerate();
    let others = sections.filter(|(_, section)| !is_kept(&section.name));
    let changes: Vec<_> = others
        .map(|(index, _)| (index, SectionChange::Omit))
        .collect();
    let mut short = bytes(&stream.without_ram(&changes)?.apply_to(whole))?;
    let Some(range) = stream.description() else {
        return Ok(short);
    };
    let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
    let mut description: Value = serde_json::from_slice(&whole[range])?;
    if let Some(Value::Array(devices)) = description.get_mut("devices") {
        devices.retain(|device| device["name"].as_str().is_some_and(is_kept));
    }
    let description = description.to_string();
    short.truncate(usize::try_from(Stream::open(&short)?.end())?);
    short.push(VMDESCRIPTION);
    short.extend(u32::try_from(description.len())?.to_be_bytes());
    short.extend(description.into_bytes());
    reduce_registers(&short)
}

/// Returns a stream whose vCPUs have only some of their registers.
fn reduce_registers(whole: &Seed) -> Result<Seed> {
    let stream = Stream::open_by_description(whole)?;
    let mut vm = stream.vm()?;
    for vcpu in &mut vm.vcpus {
        let ids: Vec<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
        for (number, id) in ids.into_iter().enumerate() {
            if number % KEPT_REGISTER_INTERVAL != 0 {
                vcpu.registers.remove(id);
            }
        }
    }
    let edit = stream.edit(whole, &stream.diff_to(&vm)?)?;
    bytes(&edit.apply_to(whole))
}

fn is_kept(section: &str) -> bool {
    ["cpu", "cpu_common", "globalstate"].contains(&section)
}

/// Returns the given streams, and beginnings of streams with RAM.
pub(super) fn streams_with_ram(root: &Path, streams: &[Seed]) -> Result<Vec<Seed>> {
    let mut seeds = streams.to_vec();
    for whole in unpack_streams(root)? {
        // This cuts the stream within its RAM.
        let part = &whole[..whole.len().min(RAM_SEED_LEN)];
        if !seeds.iter().any(|seed| seed == part) {
            seeds.push(part.to_vec());
        }
    }
    Ok(seeds)
}

/// Returns streams, each after a byte for the length of the pieces in which the target receives it.
pub(super) fn chunked_streams(root: &Path, streams: &[Seed]) -> Result<Vec<Seed>> {
    let seeds = streams_with_ram(root, streams)?.into_iter();
    let sizes = [0, 8, 60, 255].into_iter().cycle();
    Ok(seeds
        .zip(sizes)
        .map(|(stream, size)| [vec![size], stream].concat())
        .collect())
}

/// Returns streams, each after a change of its state for the target to make.
pub(super) fn edits(streams: &[Seed]) -> Vec<Seed> {
    let changes = (0..5_u8).cycle().zip((0..=255_u8).cycle());
    streams
        .iter()
        .zip(changes)
        .map(|(stream, (kind, index))| {
            let mut change = vec![kind, 0, index];
            change.extend(0x0123_4567_89ab_cdef_u64.to_le_bytes());
            [vec![1], change, stream.clone()].concat()
        })
        .collect()
}

/// Returns the descriptions of streams.
pub(super) fn descriptions(streams: &[Seed]) -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for bytes in streams {
        if let Some(range) = Stream::open(bytes)?.description() {
            let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
            seeds.push(bytes[range].to_vec());
        }
    }
    Ok(seeds)
}

/// Returns inputs for each kind of journal.
pub(super) fn journals() -> Vec<Seed> {
    (0..3)
        .map(|kind| {
            let mut seed = vec![kind];
            seed.extend((0..200_u8).map(|number| number.wrapping_mul(37)));
            seed
        })
        .collect()
}

/// Returns the beginnings of recorded save images of libvirt: header, XML, cookie.
pub(super) fn save_images(root: &Path) -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(root.join("tests/fixtures/libvirt"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == "xz") {
            let reader = XzReader::new(BufReader::new(File::open(&path)?), true);
            let mut seed = Vec::new();
            reader.take(SAVE_IMAGE_SEED_LEN).read_to_end(&mut seed)?;
            // The padding of 64 KiB tells the fuzzer nothing.
            let text = seed.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            seed.truncate(text + 2);
            let length = u32::try_from(seed.len() - 1 - 92)?;
            seed[20..24].copy_from_slice(&length.to_le_bytes());
            seeds.push(seed);
        }
    }
    seeds.sort();
    Ok(seeds)
}

/// Unpacks recorded streams, all but the longest.
fn unpack_streams(root: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "xz") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let mut streams = Vec::new();
    for path in paths {
        let reader = XzReader::new(BufReader::new(File::open(&path)?), true);
        let mut stream = Vec::new();
        reader.take(MAX_STREAM_LEN + 1).read_to_end(&mut stream)?;
        if stream.len() as u64 <= MAX_STREAM_LEN {
            streams.push(stream);
        }
    }
    Ok(streams)
}

/// Returns all bytes of a source.
fn bytes(source: &dyn ReadAt) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(source.length()?)?];
    source.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
