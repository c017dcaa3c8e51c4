//! Device state that points into guest memory, and its fixups for a load without that memory.
//!
//! Without RAM, every page is zero. A loader that reads a page then checks zeros instead of the
//! VM's data. The list gives each loader's use of memory and the consequence for a rehearsal. The
//! source is the code of QEMU 5.2 to 11.1; virtio was also tested.
//!
//! - virtio, split rings: the loader reads the index that the guest last offered and the one last
//!   used, and compares both with the saved one. If they are far apart, the device is broken, which
//!   7.2 and later report, and the load continues. If the first two differ by little, but the saved
//!   index and the used one do not, the load fails (index 0xfffd over zeros). In a rehearsal the
//!   saved index is set to 0, as in zeroed memory.
//! - virtio, packed rings, and requests in flight: the loader reads nothing; it maps addresses,
//!   which exist. A rehearsal leaves them unchanged.
//! - GICv3's ITS under KVM: the kernel reads the tables that the registers name, and zeros map no
//!   device. The ITS loads; a rehearsal does not check the tables.
//! - GICv3's redistributors: the loader reads the pending LPIs, and zeros hold none. The
//!   redistributors load; a rehearsal does not check the LPIs.
//! - XHCI, SMMUv3, virtio-gpu: the loader reads or maps memory, and any content loads. A rehearsal
//!   does not check the content.
//! - AHCI: the loader reads the command list of transfers in flight, and fails if the list is too
//!   short. A rehearsal ignores a refusal.
//!
//! This module finds and fixes these parts of a stream. `virtio_save` and `virtio_load` are in
//! `hw/virtio/virtio.c`.
//!
//! A virtio section, all big-endian:
//!
//! 1. the transport's part; u8 status, u8 isr, u16 queue, u32 features
//! 2. u32 n, n bytes configuration, u32 queues
//! 3. for each queue u32 size, (mmio) u32 alignment, u64 address, u16 index, (PCI with MSI-X) u16
//!    vector
//!
//! | transport | its part |
//! |---|---|
//! | mmio | u32, u32, u32 |
//! | PCI | u32 2, 256 or 4096 bytes configuration space, 16 bytes |
//! | PCI with MSI-X | the same, then 16 bytes for each vector, one bit for each vector, u16 |

use crate::element::Section;
use crate::error::Error;
use crate::source::ReadAt;
use crate::stream::Stream;
use crate::without_ram::SectionChange;

/// Maximum number of queues (`VIRTIO_QUEUE_MAX`).
const MAX_QUEUES: u32 = 1024;
/// Maximum size of a queue, from the virtio specification; QEMU's `VIRTQUEUE_MAX_SIZE` is 1024.
const MAX_QUEUE_SIZE: u32 = 1 << 15;
/// Maximum number of bytes read of a virtio section.
///
/// A section has some hundred bytes to some KiB, plus 16 bytes for each of 2048 MSI-X vectors. This
/// module does not need the part after the queues.
const MAX_READ_LEN: u64 = 256 << 10;

/// Section whose loader may check memory that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreliableSection {
    /// Name of the section (`0000:00:02.0/ich9_ahci`).
    pub section: String,
    /// Reason why the verdict of the section's loader is unreliable.
    pub reason: &'static str,
}

/// Changes of a stream after which the devices expect zeros in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RamlessFixups {
    /// Changes to pass to [`Stream::without_ram`].
    pub changes: Vec<(usize, SectionChange)>,
    /// Sections whose load may fail although the VM is valid.
    pub unreliable_sections: Vec<UnreliableSection>,
}

/// Finds the sections that point into guest memory.
///
/// # Errors
/// Those of reading `source`, the file that the stream was opened from.
pub fn find_ramless_fixups(stream: &Stream, source: &dyn ReadAt) -> Result<RamlessFixups, Error> {
    let mut fixups = RamlessFixups::default();
    for (index, section) in stream.sections().iter().enumerate() {
        let device = section.name.rsplit('/').next().unwrap_or_default();
        // `ahci`, `sysbus-ahci`, `allwinner-ahci`; with PCI `ich9_ahci`.
        if device.ends_with("ahci") {
            fixups.unreliable_sections.push(UnreliableSection {
                section: section.name.clone(),
                reason: "it reads its transfers in flight from guest memory, which a rehearsal \
                         lacks",
            });
        }
        if !device.starts_with("virtio-") {
            continue;
        }
        let start = read_section_start(source, section)?;
        match find_saved_indexes(&section.name, &start) {
            Some(offsets) => {
                let zeros = offsets
                    .into_iter()
                    .map(|offset| SectionChange::Patch(offset, vec![0; 2]));
                fixups.changes.extend(zeros.map(|change| (index, change)));
            }
            // Early sections are sent before RAM and have no rings.
            None if device.ends_with("-early") => {}
            None => fixups.unreliable_sections.push(UnreliableSection {
                section: section.name.clone(),
                reason: "its rings are in guest memory, which a rehearsal lacks, and cpreg does \
                         not know the offsets of their indexes",
            }),
        }
    }
    Ok(fixups)
}

fn read_section_start(source: &dyn ReadAt, section: &Section) -> Result<Vec<u8>, Error> {
    let length = (section.payload.end - section.payload.start).min(MAX_READ_LEN);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    source
        .read_exact_at(&mut bytes, section.payload.start)
        .map_err(|error| Error::io("cannot read", error).at_offset(section.payload.start))?;
    Ok(bytes)
}

/// Returns the offsets of nonzero saved indexes whose ring has an address.
///
/// `None` if this is not a virtio section.
fn find_saved_indexes(name: &str, payload: &[u8]) -> Option<Vec<u64>> {
    // A PCI device's section is named by its address, `0000:00:01.0/virtio-net`.
    if name.contains(':') {
        return pci_layout(payload)?.find_saved_indexes(payload);
    }
    let mmio = VirtioLayout {
        transport_len: MMIO_TRANSPORT_LEN,
        has_alignment: true,
        has_vectors: false,
    };
    mmio.find_saved_indexes(payload)
}

/// Layout of a virtio section.
struct VirtioLayout {
    /// Length of the transport's part in bytes.
    transport_len: usize,
    /// `true` if a queue has an alignment.
    has_alignment: bool,
    /// `true` if a queue has an MSI-X vector.
    has_vectors: bool,
}

/// Length of the mmio transport's part: three u32.
const MMIO_TRANSPORT_LEN: usize = 12;

fn pci_layout(payload: &[u8]) -> Option<VirtioLayout> {
    const VERSION_LEN: usize = 4;
    const IRQ_STATE_LEN: usize = 16;
    if be32(payload, 0)? != 2 {
        return None;
    }
    let space = payload.get(VERSION_LEN..VERSION_LEN + 256)?;
    // PCI Express devices have a larger space; a virtio device on a root bus is a PCI device.
    let length = find_capability(space, PCI_CAP_ID_EXP).map_or(256, |_| 4096);
    let vectors = match find_capability(space, PCI_CAP_ID_MSIX) {
        // Bits 10:0 of the control word hold the number of vectors minus one (PCI 3.0, 6.8.2.3).
        Some(at) => {
            let control = u16::from_le_bytes([*space.get(at + 2)?, *space.get(at + 3)?]);
            Some(usize::from(control & 0x7ff) + 1)
        }
        None => None,
    };
    let msix = vectors.map_or(0, |count| 16 * count + count.div_ceil(8) + 2);
    Some(VirtioLayout {
        transport_len: VERSION_LEN + length + IRQ_STATE_LEN + msix,
        has_alignment: false,
        has_vectors: vectors.is_some(),
    })
}

const PCI_CAP_ID_EXP: u8 = 0x10;
const PCI_CAP_ID_MSIX: u8 = 0x11;

/// Returns the offset of a capability in the configuration space (PCI 3.0, 6.7).
fn find_capability(space: &[u8], wanted: u8) -> Option<usize> {
    const STATUS: usize = 0x06;
    const HAS_CAPABILITIES: u8 = 0x10;
    const CAPABILITY_LIST: usize = 0x34;
    if space.get(STATUS)? & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = usize::from(space.get(CAPABILITY_LIST)? & !3);
    // Each entry has four of the first 256 bytes, so a longer list is a circle.
    for _ in 0..48 {
        if at == 0 {
            return None;
        }
        if *space.get(at)? == wanted {
            return Some(at);
        }
        at = usize::from(space.get(at + 1)? & !3);
    }
    None
}

impl VirtioLayout {
    fn find_saved_indexes(&self, payload: &[u8]) -> Option<Vec<u64>> {
        // Status, isr, selected queue, features.
        let mut at = self.transport_len + 1 + 1 + 2 + 4;
        let configuration = be32(payload, at)?;
        at += 4 + usize::try_from(configuration).ok()?;
        let queues = be32(payload, at).filter(|queues| *queues <= MAX_QUEUES)?;
        at += 4;
        let mut offsets = Vec::new();
        for _ in 0..queues {
            be32(payload, at).filter(|slots| *slots <= MAX_QUEUE_SIZE)?;
            at += 4;
            if self.has_alignment {
                be32(payload, at).filter(|to| *to == 0 || to.is_power_of_two())?;
                at += 4;
            }
            let address = payload.get(at..at + 8)?;
            let index = payload.get(at + 8..at + 10)?;
            // The loader rejects an index without an address, whatever memory holds.
            if address != [0; 8] && index != [0; 2] {
                offsets.push(at as u64 + 8);
            }
            at += 10 + if self.has_vectors { 2 } else { 0 };
        }
        (at <= payload.len()).then_some(offsets)
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(transport: &[u8], aligned: bool, vectors: bool, queues: &[(u64, u16)]) -> Vec<u8> {
        let mut bytes = transport.to_vec();
        bytes.extend(b"\x07\x01\0\0\0\0\0\0\0\0\0\x03abc");
        bytes.extend(u32::try_from(queues.len()).unwrap().to_be_bytes());
        for (address, index) in queues {
            bytes.extend(8_u32.to_be_bytes());
            if aligned {
                bytes.extend(4096_u32.to_be_bytes());
            }
            bytes.extend(address.to_be_bytes());
            bytes.extend(index.to_be_bytes());
            if vectors {
                bytes.extend([0xff, 0xff]);
            }
        }
        bytes
    }

    fn pci(space: usize, vectors: Option<u16>) -> Vec<u8> {
        let mut bytes = vec![0; 4 + space + 16];
        bytes[3] = 2;
        if let Some(vectors) = vectors {
            bytes[4 + 6] = 0x10;
            bytes[4 + 0x34] = 0x84;
            let first = if space == 256 { 0x09 } else { PCI_CAP_ID_EXP };
            bytes[4 + 0x84..][..2].copy_from_slice(&[first, 0x98]);
            bytes[4 + 0x98..][..2].copy_from_slice(&[0x11, 0]);
            bytes[4 + 0x9a..][..2].copy_from_slice(&(vectors - 1).to_le_bytes());
            let vectors = usize::from(vectors);
            bytes.resize(bytes.len() + 16 * vectors + vectors.div_ceil(8) + 2, 0xee);
        }
        bytes
    }

    #[test]
    fn indexes_are_found_in_every_layout() {
        let queues = [
            (0x4100_0000, 3),
            (0, 0),
            (0x4200_0000, 0),
            (0x4300_0000, 0xfffd),
            (0, 7),
        ];
        let mmio = "virtio-mmio@000000000a003e00/virtio-rng";
        let slot = "0000:00:01.0/virtio-net";
        for (name, transport, aligned, vectors, width) in [
            (mmio, vec![0; MMIO_TRANSPORT_LEN], true, false, 18),
            (slot, pci(256, None), false, false, 14),
            (slot, pci(256, Some(3)), false, true, 16),
            (slot, pci(4096, Some(9)), false, true, 16),
        ] {
            let bytes = device(&transport, aligned, vectors, &queues);
            let table = bytes.len() - queues.len() * width;
            let index = if aligned { 16 } else { 12 };
            let expected = [table + index, table + 3 * width + index].map(|it| it as u64);
            assert_eq!(find_saved_indexes(name, &bytes), Some(expected.to_vec()));
            for end in table..bytes.len() {
                assert_eq!(
                    find_saved_indexes(name, &bytes[..end]),
                    None,
                    "cut at {end}"
                );
            }
        }
    }

    #[test]
    fn other_sections_are_not_taken_for_virtio() {
        for name in ["virtio-rng", "0000:00:01.0/virtio-rng"] {
            assert_eq!(find_saved_indexes(name, b""), None);
            assert_eq!(find_saved_indexes(name, &[0xff; 600]), None);
        }
        let mut circle = pci(256, Some(3));
        circle[4 + 0x84] = 0x09;
        circle[4 + 0x85] = 0x84;
        assert_eq!(find_capability(&circle[4..], PCI_CAP_ID_MSIX), None);
    }
}
