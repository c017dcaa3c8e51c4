//! Seeds of snapshots of Firecracker and Cloud Hypervisor.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use lzma_rust2::XzReader;
use wheels::Result;

use super::seed::Seed;

/// Length of the checksum at the end of a Firecracker snapshot.
const CHECKSUM_LEN: usize = 8;

/// Returns snapshots of each format, with and without devices, without their checksums.
pub(super) fn firecracker_states(root: &Path) -> Result<Vec<Seed>> {
    [
        "v1.10.1/6.12.107__neoverse-n1__v1",
        "v1.14.4/6.16.12__neoverse-n1__v2",
        "v1.16.1/6.16.12__neoverse-n1__v2",
        "variants/v1.16.1-dev-v2__6.12.107__max",
        "variants/v1.16.1-pcidev-v1__6.12.107__max",
        "variants/v1.16.1-sve-v1__6.12.107__max",
    ]
    .iter()
    .map(|name| {
        let mut bytes =
            read(&root.join(format!("tests/fixtures/vmm/firecracker/{name}.vmstate.xz")))?;
        bytes.truncate(bytes.len().saturating_sub(CHECKSUM_LEN));
        Ok(bytes)
    })
    .collect()
}

/// Returns states with and without SVE.
pub(super) fn cloud_hypervisor_states(root: &Path) -> Result<Vec<Seed>> {
    let names = ["6.12.107__neoverse-n1__v2", "6.16.12__max__v1"].into_iter();
    let folder = root.join("tests/fixtures/vmm/cloud-hypervisor/v53.0");
    names
        .map(|name| read(&folder.join(name).join("state.json.xz")))
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    XzReader::new(BufReader::new(File::open(path)?), true).read_to_end(&mut bytes)?;
    Ok(bytes)
}
