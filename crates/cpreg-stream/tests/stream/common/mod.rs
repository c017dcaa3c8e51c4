//! Inputs shared by this crate's tests: recorded streams, and synthetic ones.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod damage;
pub mod forwarding;
pub mod synthetic;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cpreg_stream::{Cpu, CpuEdit, ErrorKind, ReadAt, Stream};

/// Bytes in memory, where blocks of zeros take no space.
#[derive(Default)]
pub struct Sparse {
    blocks: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

const BLOCK: usize = 64 << 10;

impl Sparse {
    pub fn read(mut from: impl Read) -> io::Result<Self> {
        let mut sparse = Self::default();
        loop {
            let mut block = Vec::with_capacity(BLOCK);
            let count = from.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
            if count == 0 {
                return Ok(sparse);
            }
            if block.iter().any(|byte| *byte != 0) {
                sparse.blocks.insert(sparse.length, block);
            }
            sparse.length += count as u64;
        }
    }
}

impl ReadAt for Sparse {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(buffer.len() as u64)
            .filter(|end| *end <= self.length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.fill(0);
        let first = offset - offset % BLOCK as u64;
        for (start, block) in self.blocks.range(first..end) {
            let from = offset.max(*start);
            let to = end.min(start + block.len() as u64);
            if from < to {
                let source = &block[index(from - start)..index(to - start)];
                buffer[index(from - offset)..index(to - offset)].copy_from_slice(source);
            }
        }
        Ok(())
    }
}

pub fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Returns all bytes of a source.
pub fn bytes(source: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; index(source.length().unwrap())];
    source.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Recorded stream.
pub struct Fixture {
    /// Name, as in `kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1`.
    pub name: String,
    pub path: PathBuf,
}

impl Fixture {
    pub fn open(&self) -> Sparse {
        let compressed = std::fs::File::open(&self.path).unwrap();
        Sparse::read(lzma_rust2::XzReader::new(compressed, true)).unwrap()
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/streams")
}

/// Returns the recorded streams, in the order of their names.
pub fn fixtures() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for group in ["edited", "kvm", "tcg"] {
        for entry in std::fs::read_dir(directory().join(group)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Some(name) = name.strip_suffix(".stream.xz") {
                let name = format!("{group}/{name}");
                fixtures.push(Fixture { name, path });
            }
        }
    }
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(
        fixtures.len() >= 20,
        "only {} recorded streams",
        fixtures.len()
    );
    fixtures
}

/// Returns the recorded stream of this name.
pub fn fixture(name: &str) -> Sparse {
    let path = directory().join(format!("{name}.stream.xz"));
    let name = name.to_owned();
    Fixture { name, path }.open()
}

/// Returns edits that make every vCPU's section shorter: they remove every third register.
pub fn shortening_edits(stream: &Stream) -> Vec<CpuEdit> {
    let vm = stream.vm().unwrap();
    let edits = vm.vcpus.iter().map(|vcpu| CpuEdit {
        registers: Some(
            vcpu.registers
                .iter()
                .enumerate()
                .filter(|(number, _)| number % 3 != 0)
                .map(|(_, (id, value))| (id, value.as_u64().unwrap()))
                .collect(),
        ),
        ..CpuEdit::default()
    });
    edits.collect()
}

/// Shortens one vCPU as [`shortening_edits`] does all.
pub fn shorten_cpu(cpu: &Cpu) -> Cpu {
    let mut vcpu = cpu.vcpu().unwrap();
    let ids: Vec<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
    for id in ids.iter().step_by(3) {
        vcpu.registers.remove(*id);
    }
    cpu.with_state(&vcpu).unwrap()
}

/// Returns `true` if the stream's pages have fixed offsets, which no connection transfers.
pub fn is_mapped_ram(stream: &Stream) -> bool {
    stream
        .configuration()
        .is_some_and(|configuration| configuration.has_capability("mapped-ram"))
}

/// Returns `true` if a live migration can send this recorded stream.
pub fn can_be_live(fixture: &Fixture, stream: &Stream) -> bool {
    !is_mapped_ram(stream) && !fixture.name.contains("snapshot")
}

/// Returns `true` for an error about the content of a stream or damaged file.
pub fn is_content_error(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotAStream
            | ErrorKind::ObsoleteVersion
            | ErrorKind::NotArm
            | ErrorKind::Truncated
            | ErrorKind::Malformed
            | ErrorKind::Unsupported
            | ErrorKind::Disagreement
    )
}
