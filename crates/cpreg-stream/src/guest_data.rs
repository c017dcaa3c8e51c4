//! Bytes of a device's section that may be the guest's data: input, output, screen and disk
//! contents.
//!
//! Guest data is not only in RAM. A serial port holds typed characters, a graphics card its
//! pictures, a disk controller a sector, a TPM its keys. Redaction keeps bytes that are known to be
//! configuration, interrupt state or addresses. Of all other bytes, redaction keeps only fields of
//! up to [`MAX_KEPT_FIELD_LEN`] bytes. An unknown device may therefore fail to load from a redacted
//! stream, but leaks nothing.
//!
//! | device | possible data |
//! |---|---|
//! | board devices ([`DEVICES_WITHOUT_DATA`]) | nothing |
//! | `pl011` | the FIFO and the last character |
//! | `pflash_cfi01` | during a write, the bytes being written (sent by QEMU 9.0 and later) |
//! | `slirp` | all of it |
//! | virtio transport and queues | nothing; their data is in RAM |
//! | `virtio-gpu` | the pixels of its resources |
//! | other, described | buffers and long fields, except [`TYPES_WITHOUT_DATA`] |
//! | other, not described | all of it |
//!
//! Derived from QEMU's `hw/`, 5.2 to 11.x. [`crate::redact`] overwrites the bytes.
#![expect(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is intended"
)]

use std::ops::Range;

use crate::fields::Leaf;

/// Devices whose sections hold only configuration, interrupt state and addresses, by the last part
/// of their names.
const DEVICES_WITHOUT_DATA: [&str; 24] = [
    "PCIBUS",
    "PCIHost",
    "acpi-ged",
    "arm_gic",
    "arm_gicv2m",
    "arm_gicv3",
    "arm_gicv3_its",
    "cpu_common",
    "fw_cfg",
    "globalstate",
    "gpex_root",
    "gpio-key",
    "pcie-root-port",
    "pl031",
    "pl061",
    "smmuv3",
    "timer",
    "virt_acpi_build",
    "virtio-balloon",
    "virtio-blk",
    "virtio-mem",
    "virtio-mem-device-early",
    "virtio-net",
    "virtio-rng",
];

/// Ranges of `readbuff` and `read_fifo`; both versions of the section (5.2 and later) have them.
const PL011_DATA_RANGES: [Range<u64>; 2] = [0..4, 32..96];

/// Length of the section of a flash device without a pending write: u8, u8, u8, u64.
const IDLE_FLASH_LEN: u64 = 11;

/// Maximum length of a field of an unknown device that redaction keeps: a number or an address.
const MAX_KEPT_FIELD_LEN: u64 = 8;

/// Types without guest data that may be longer than [`MAX_KEPT_FIELD_LEN`]: PCI's registers and
/// interrupt lines, MSI-X tables, virtio's transport and queues.
const TYPES_WITHOUT_DATA: [&str; 4] = ["msix state", "pci config", "pci irq state", "virtio"];

/// Returns the ranges of a section that may be guest data, ascending.
///
/// `leaves` is `None` if the section is not described.
pub(crate) fn find_data_ranges(
    name: &str,
    payload: &[u8],
    leaves: Option<&[Leaf]>,
) -> Vec<Range<u64>> {
    let length = payload.len() as u64;
    let device = name.rsplit('/').next().unwrap_or(name);
    if DEVICES_WITHOUT_DATA.contains(&device)
        || device == "pflash_cfi01" && length == IDLE_FLASH_LEN
    {
        return Vec::new();
    }
    if device == "pl011" && PL011_DATA_RANGES.iter().all(|range| range.end <= length) {
        return PL011_DATA_RANGES.to_vec();
    }
    let Some(leaves) = leaves else {
        return vec![0..length];
    };
    let mut ranges = Vec::new();
    for leaf in leaves {
        let is_small =
            leaf.range.end - leaf.range.start <= MAX_KEPT_FIELD_LEN && leaf.kind != "buffer";
        if is_small || TYPES_WITHOUT_DATA.contains(&&*leaf.kind) {
            continue;
        }
        let pixels = (leaf.kind == "virtio-gpu").then(|| find_pixel_ranges(payload, &leaf.range));
        match pixels.flatten() {
            Some(pixels) => ranges.extend(pixels),
            None => ranges.push(leaf.range.clone()),
        }
    }
    ranges
}

/// Returns the ranges of the pixels in virtio-gpu's list of resources.
///
/// A resource is u32 id (0 ends the list), width, height, format and `iov_cnt`. Then follow
/// `iov_cnt` entries (u64 address, u32 length), then pixels of 4 bytes (every format has 32 bits).
/// Returns `None` if the bytes are not such a list.
fn find_pixel_ranges(payload: &[u8], list: &Range<u64>) -> Option<Vec<Range<u64>>> {
    let word = |at: u64| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = payload.get(at..at.checked_add(4)?)?;
        Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?)))
    };
    let mut pixels = Vec::new();
    let mut at = list.start;
    while word(at)? != 0 {
        let (width, height, iov_count) = (word(at + 4)?, word(at + 8)?, word(at + 16)?);
        let start = at + 20 + 12 * iov_count;
        let end = start.checked_add(width.checked_mul(height)?.checked_mul(4)?)?;
        if end > list.end {
            return None;
        }
        pixels.push(start..end);
        at = end;
    }
    Some(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(kind: &str, range: Range<u64>) -> Leaf {
        Leaf {
            kind: kind.to_owned(),
            range,
        }
    }

    #[test]
    fn unknown_devices_keep_only_small_fields() {
        let leaves = [
            leaf("uint64", 0..8),
            leaf("pci config", 8..264),
            leaf("buffer", 264..268),
            leaf("uint32", 268..300),
            leaf("something new", 300..309),
        ];
        let payload = [1; 309];
        let data = find_data_ranges("0000:00:01.0/1/usb-kbd", &payload, Some(&leaves));
        assert_eq!(data, [264..268, 268..300, 300..309]);
        assert_eq!(find_data_ranges("usb-kbd", &payload, None), [0..309]);
        assert_eq!(
            find_data_ranges("0000:00:01.0/virtio-net", &payload, None),
            []
        );
    }

    #[test]
    fn flash_loses_bytes_being_written() {
        assert_eq!(find_data_ranges("pflash_cfi01", &[1; 11], None), []);
        let leaves = [
            leaf("uint8", 0..3),
            leaf("uint64", 3..11),
            leaf("buffer", 40..2088),
        ];
        assert_eq!(
            find_data_ranges("pflash_cfi01", &[1; 2088], Some(&leaves)),
            [40..2088]
        );
    }

    #[test]
    fn serial_port_loses_its_characters() {
        assert_eq!(find_data_ranges("pl011", &[0; 124], None), [0..4, 32..96]);
        assert_eq!(find_data_ranges("pl011", &[0; 95], None), [0..95]);
    }

    #[test]
    fn graphics_card_loses_its_pictures() {
        let mut payload = vec![9; 8];
        for (width, height, iov_count) in [(2_u32, 3_u32, 1_u32), (1, 1, 0)] {
            for word in [7, width, height, 1, iov_count] {
                payload.extend(word.to_be_bytes());
            }
            payload.extend(vec![2; 12 * iov_count as usize]);
            payload.extend(vec![0xee; (4 * width * height) as usize]);
        }
        payload.extend([0; 4]);
        payload.extend([0, 0, 0, 1]);
        let end = payload.len() as u64;
        let list = leaf("virtio-gpu", 8..end);
        let data = find_data_ranges("0000:00:02.0/virtio-gpu", &payload, Some(&[list]));
        assert_eq!(data, [40..64, 84..88]);
        let pixels = data.iter().cloned().flatten();
        assert!(
            pixels
                .map(|at| payload[usize::try_from(at).unwrap()])
                .all(|byte| byte == 0xee)
        );

        // All bytes of a list without an end may be data.
        let cut = leaf("virtio-gpu", 8..70);
        assert_eq!(
            find_data_ranges("virtio-gpu", &payload[..70], Some(&[cut])),
            [8..70]
        );
    }
}
