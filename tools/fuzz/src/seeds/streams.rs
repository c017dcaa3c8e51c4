//! Streams, and what is made of them.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use cpreg_stream::{ReadAt, Stream};
use lzma_rust2::XzReader;
use wheels::Result;

use super::seed::Seed;

/// Folders of recorded streams.
const FOLDERS: [&str; 3] = [
    "tests/fixtures/streams/kvm",
    "tests/fixtures/streams/tcg",
    "tests/fixtures/tcg",
];

/// Bytes of the longest recorded stream that is unpacked; one with `mapped-ram` has 200 MB.
const LONGEST: u64 = 4 << 20;

/// Bytes of the longest seed. The fuzzer tries more short inputs than long ones in the same time.
const LONGEST_SEED: usize = 48 << 10;

/// Bytes of RAM that a seed begins with, where it has any.
const RAM: usize = 24 << 10;

/// Returns recorded streams without their RAM.
pub(super) fn recorded(root: &Path) -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for whole in unpacked(root)? {
        let stream = Stream::open(&whole)?;
        let short = bytes(&stream.without_ram(&[])?.over(&whole))?;
        // What is not the same as QEMU wrote it is worth a seed too.
        if short.len() <= LONGEST_SEED && !seeds.contains(&short) {
            seeds.push(short);
        }
    }
    Ok(seeds)
}

/// Returns streams with RAM: all kinds of records, and the device state behind.
pub(super) fn with_ram(root: &Path, streams: &[Seed]) -> Result<Vec<Seed>> {
    let mut seeds = streams.to_vec();
    for whole in unpacked(root)? {
        // Cut inside RAM.
        let part = &whole[..whole.len().min(RAM)];
        if !seeds.iter().any(|seed| seed == part) {
            seeds.push(part.to_vec());
        }
    }
    Ok(seeds)
}

/// Returns streams behind the length of the pieces in which they flow.
pub(super) fn in_pieces(root: &Path, streams: &[Seed]) -> Result<Vec<Seed>> {
    let seeds = with_ram(root, streams)?.into_iter();
    let sizes = [0, 8, 60, 255].into_iter().cycle();
    Ok(seeds
        .zip(sizes)
        .map(|(stream, size)| [vec![size], stream].concat())
        .collect())
}

/// Returns streams behind changes of their state.
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

/// Unpacks recorded streams, all but the longest.
fn unpacked(root: &Path) -> Result<Vec<Vec<u8>>> {
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
        reader.take(LONGEST + 1).read_to_end(&mut stream)?;
        if stream.len() as u64 <= LONGEST {
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
