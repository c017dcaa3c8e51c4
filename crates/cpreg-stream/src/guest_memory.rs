//! Device state that points into guest memory: what a loader reads there while it loads, and what is done about it where
//! there is no memory.
//!
//! Without RAM every page is zero. A loader that looks at a page then judges zeros, and not the VM.
//!
//! | state | what its loader does with memory (QEMU 5.2 to 11.1, read; virtio tried) | in a rehearsal |
//! |---|---|---|
//! | virtio, split rings | reads the index that the guest last offered and the one last used, and compares both with the saved one. Far apart: the device is broken, which 7.2 and later tell, and the load goes on; where the two differ by little, but the saved index and the used one do not, the load ends (index 0xfffd over zeros) | the saved index is set to what zeros say: 0 |
//! | virtio, packed rings; requests under way | reads nothing; maps addresses, which are there | as it is |
//! | GICv3's ITS under KVM | the kernel reads the tables that the registers name; in zeros no device is mapped | loads; the tables are not judged |
//! | GICv3's redistributors | read which LPIs are pending; zeros: none | loads; not judged |
//! | XHCI, SMMUv3, virtio-gpu | read or map; whatever is there loads | loads; not judged |
//! | AHCI | reads the command list of transfers under way, and refuses if it is too short | a refusal is not believed |
//!
//! What lives here is finding and mending these parts of a stream. `virtio_save` and `virtio_load` are in `hw/virtio/virtio.c`.
//!
//! A virtio section, all big-endian: the transport's part, u8 status, u8 isr, u16 queue, u32 features, u32 n, n bytes
//! configuration, u32 queues, and for each queue u32 size, (mmio) u32 alignment, u64 address, u16 index, (PCI with MSI-X) u16 vector.
//!
//! | transport | its part |
//! |---|---|
//! | mmio | u32, u32, u32 |
//! | PCI | u32 2, 256 or 4096 bytes configuration space, 16 bytes; with MSI-X 16 bytes a vector, a bit a vector, u16 |

use crate::element::Section;
use crate::error::Error;
use crate::source::ReadAt;
use crate::stream::Stream;
use crate::without_ram::SectionChange;

/// No device has more queues (`VIRTIO_QUEUE_MAX`).
const MAX_QUEUES: u32 = 1024;
/// No queue is longer (`VIRTQUEUE_MAX_SIZE` is 1024; the interface allows this).
const MAX_QUEUE_SIZE: u32 = 1 << 15;
/// A virtio section is some hundred bytes to some KiB, plus 16 bytes for each of 2048 MSI-X vectors; what comes behind the queues is not needed.
const MAX_READ_LEN: u64 = 256 << 10;

/// A section whose loader may judge memory that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreliableSection {
    /// The section's name (`0000:00:02.0/ich9_ahci`).
    pub section: String,
    /// Why its verdict is not to be believed.
    pub reason: &'static str,
}

/// What has to change so that zeros in memory are what the devices expect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RamlessFixups {
    /// For [`Stream::without_ram`].
    pub changes: Vec<(usize, SectionChange)>,
    /// Sections that could fail without reason.
    pub unreliable_sections: Vec<UnreliableSection>,
}

/// Finds the parts that point into memory.
///
/// # Errors
/// Those of reading `source`, the file that the stream was opened from.
pub fn find_ramless_fixups(stream: &Stream, source: &dyn ReadAt) -> Result<RamlessFixups, Error> {
    let mut found = RamlessFixups::default();
    for (index, section) in stream.sections().iter().enumerate() {
        let device = section.name.rsplit('/').next().unwrap_or_default();
        // `ahci`, `sysbus-ahci`, `allwinner-ahci`; with PCI `ich9_ahci`.
        if device.ends_with("ahci") {
            found.unreliable_sections.push(UnreliableSection {
                section: section.name.clone(),
                reason: "it reads its transfers under way from guest memory, which a rehearsal \
                         has not got",
            });
        }
        if !device.starts_with("virtio-") {
            continue;
        }
        let start = read_section_start(source, section)?;
        match find_saved_indexes(&section.name, &start) {
            Some(places) => {
                let zeros = places
                    .into_iter()
                    .map(|place| SectionChange::Patch(place, vec![0; 2]));
                found.changes.extend(zeros.map(|change| (index, change)));
            }
            // Sent before RAM, and without rings.
            None if device.ends_with("-early") => {}
            None => found.unreliable_sections.push(UnreliableSection {
                section: section.name.clone(),
                reason: "its rings are in guest memory, which a rehearsal has not got, and cpreg \
                         does not know where it keeps their indexes",
            }),
        }
    }
    Ok(found)
}

fn read_section_start(source: &dyn ReadAt, section: &Section) -> Result<Vec<u8>, Error> {
    let length = (section.payload.end - section.payload.start).min(MAX_READ_LEN);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    source
        .read_exact_at(&mut bytes, section.payload.start)
        .map_err(|error| Error::io("cannot read", error).at_offset(section.payload.start))?;
    Ok(bytes)
}

/// The offsets of the saved indexes that are not zero though their ring has an address. `None` if this is no virtio section.
fn find_saved_indexes(name: &str, payload: &[u8]) -> Option<Vec<u64>> {
    // A PCI device's section is named by its place, `0000:00:01.0/virtio-net`.
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

/// Where things are in a virtio section.
struct VirtioLayout {
    /// Bytes of the transport's part.
    transport_len: usize,
    /// Whether a queue has an alignment.
    has_alignment: bool,
    /// Whether a queue has an MSI-X vector.
    has_vectors: bool,
}

/// Three u32.
const MMIO_TRANSPORT_LEN: usize = 12;

fn pci_layout(payload: &[u8]) -> Option<VirtioLayout> {
    const VERSION_LEN: usize = 4;
    const IRQ_STATE_LEN: usize = 16;
    if be32(payload, 0)? != 2 {
        return None;
    }
    let space = payload.get(VERSION_LEN..VERSION_LEN + 256)?;
    // PCI Express devices have a larger space; on a root bus a virtio device is none.
    let length = find_capability(space, PCI_CAP_ID_EXP).map_or(256, |_| 4096);
    let vectors = match find_capability(space, PCI_CAP_ID_MSIX) {
        // The number of vectors, less one, in the bits 10:0 of the control word (PCI 3.0, 6.8.2.3).
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

/// Where in the configuration space the capability with this number stands (PCI 3.0, 6.7).
fn find_capability(space: &[u8], wanted: u8) -> Option<usize> {
    const STATUS: usize = 0x06;
    const HAS_CAPABILITIES: u8 = 0x10;
    const CAPABILITY_LIST: usize = 0x34;
    if space.get(STATUS)? & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = usize::from(space.get(CAPABILITY_LIST)? & !3);
    // The list lies in the first 256 bytes and each takes four: a longer one runs in a circle.
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
        let mut places = Vec::new();
        for _ in 0..queues {
            be32(payload, at).filter(|slots| *slots <= MAX_QUEUE_SIZE)?;
            at += 4;
            if self.has_alignment {
                be32(payload, at).filter(|to| *to == 0 || to.is_power_of_two())?;
                at += 4;
            }
            let address = payload.get(at..at + 8)?;
            let index = payload.get(at + 8..at + 10)?;
            // An index without an address is refused whatever memory holds.
            if address != [0; 8] && index != [0; 2] {
                places.push(at as u64 + 8);
            }
            at += 10 + if self.has_vectors { 2 } else { 0 };
        }
        (at <= payload.len()).then_some(places)
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
