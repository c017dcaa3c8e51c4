//! Inputs of the benchmarks: recorded streams, and files made from them.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use cpreg_testdata::large_stream::{self, Size};
use e2e_framework::Result;
use e2e_framework::paths::repository;

/// Number of runs, whose median is the result.
pub(crate) const RUNS: usize = 5;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// RAM and vCPUs of the recorded VM.
pub(crate) const RECORDED_SIZE: Size = Size {
    ram: 64 * MIB,
    sent_ram: 64 * MIB,
    vcpus: 1,
};

/// Recorded stream of the VM.
pub(crate) const SOURCE: &str = "kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1";
/// Recorded stream of the destination, which has another kernel, so that the VM needs a conversion.
pub(crate) const DESTINATION: &str = "kvm/6.16.12__q10.0__neoverse-n1__virt10.0-smp1";
/// Recorded mapped-ram stream.
pub(crate) const MAPPED_RAM: &str = "tcg/q10.0__virt-7.2-cortex-a57-smp2-mappedram";
/// Name of the file with the destination's stream.
pub(crate) const DESTINATION_FILE: &str = "destination";

pub(crate) fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

/// Writes the stream `vm` of this size, and its destination.
pub(crate) fn write_pair(folder: &Path, size: Size) -> Result<()> {
    large_stream::write(&unpack_stream(SOURCE)?, size, &create(&folder.join("vm"))?)?;
    let without_pages = Size {
        sent_ram: 0,
        ..size
    };
    let destination = create(&folder.join(DESTINATION_FILE))?;
    Ok(large_stream::write(
        &unpack_stream(DESTINATION)?,
        without_pages,
        &destination,
    )?)
}

pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(crate) fn unpack_stream(stream: &str) -> Result<Vec<u8>> {
    unpack(&format!("streams/{stream}.stream.xz"))
}

/// Returns the content of a packed recording below tests/fixtures.
pub(crate) fn unpack(name: &str) -> Result<Vec<u8>> {
    let path = repository().join("tests/fixtures").join(name);
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new(File::open(path)?, true).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes bytes to a sparse file: blocks of zeros become holes.
pub(crate) fn write_sparse(bytes: &[u8], to: &File) -> io::Result<()> {
    const BLOCK: usize = 64 << 10;
    to.set_len(bytes.len() as u64)?;
    for (block, start) in bytes.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        if block.iter().any(|byte| *byte != 0) {
            to.write_all_at(block, start)?;
        }
    }
    Ok(())
}
