//! [`L2Entry`]: the place of a guest cluster in the file.

use std::ops::Range;

use super::header::Header;
use crate::error::Error;

/// Flag of an entry whose cluster has the refcount 1; true only in active tables.
pub(super) const COPIED: u64 = 1 << 63;
/// Flag of a compressed cluster.
const COMPRESSED: u64 = 1 << 62;
/// Flag of a cluster that reads as zeros.
const ZERO: u64 = 1;
/// Bits of an offset in an L1 entry, and in an L2 entry of a standard cluster.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Unit of a compressed cluster's length, in bytes.
const COMPRESSED_UNIT: u64 = 512;
/// Number of subclusters of a cluster with extended L2 entries.
const SUBCLUSTERS: u64 = 32;

/// Entry of an L2 table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct L2Entry {
    /// Descriptor of the cluster.
    pub(super) descriptor: u64,
    /// Bits of the subclusters; `None` without extended entries.
    pub(super) subclusters: Option<u64>,
}

/// Place of a part of a guest cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Not in this file.
    Unallocated,
    /// Zeros.
    Zero,
    /// Bytes of the file from this offset on.
    Data(u64),
    /// Compressed cluster.
    Compressed { offset: u64, length: u64 },
}

/// Returns the offset of the L2 table of an L1 entry; `None` if the entry is not in use.
pub(super) fn l2_offset(entry: u64, header: &Header, at: u64) -> Result<Option<u64>, Error> {
    let offset = entry & OFFSET;
    if entry & !(OFFSET | COPIED) != 0 || !offset.is_multiple_of(header.cluster_size()) {
        return Err(Error::malformed(at, "not an entry of an L1 table"));
    }
    Ok((offset != 0).then_some(offset))
}

impl L2Entry {
    /// Returns the entry of a standard cluster at this offset of the file, all of it allocated.
    pub(super) fn standard(offset: u64, header: &Header) -> Self {
        Self {
            descriptor: offset,
            subclusters: header.has_extended_l2().then_some(u32::MAX.into()),
        }
    }

    /// Returns the entry of a cluster that is not in the file.
    pub(super) fn unallocated(header: &Header) -> Self {
        Self {
            descriptor: 0,
            subclusters: header.has_extended_l2().then_some(0),
        }
    }

    /// Returns the bytes of the entry.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.descriptor.to_be_bytes().to_vec();
        if let Some(bits) = self.subclusters {
            bytes.extend(bits.to_be_bytes());
        }
        bytes
    }

    /// Returns `true` if the cluster is compressed.
    pub(super) fn is_compressed(self) -> bool {
        self.descriptor & COMPRESSED != 0
    }

    /// Checks the reserved bits and the alignment. `at` is the entry's offset in the file.
    pub(super) fn check(self, header: &Header, at: u64) -> Result<(), Error> {
        let malformed = || Err(Error::malformed(at, "not an entry of an L2 table"));
        if self.is_compressed() {
            return if self.descriptor & COPIED == 0 && self.subclusters.unwrap_or(0) == 0 {
                Ok(())
            } else {
                malformed()
            };
        }
        let has_zero_flag = header.version > 2 && self.subclusters.is_none();
        let allowed = OFFSET | COPIED | if has_zero_flag { ZERO } else { 0 };
        let offset = self.descriptor & OFFSET;
        let bits = self.subclusters.unwrap_or(0);
        let is_ambiguous = (bits >> 32) & bits & u64::from(u32::MAX) != 0;
        let is_allocated = bits & u64::from(u32::MAX) != 0;
        if self.descriptor & !allowed != 0
            || !offset.is_multiple_of(header.cluster_size())
            || is_ambiguous
            || (is_allocated && offset == 0)
        {
            return malformed();
        }
        Ok(())
    }

    /// Returns the range of the file that the entry's refcounts count; `None` if the entry has no
    /// cluster.
    pub(super) fn host_range(self, header: &Header) -> Option<Range<u64>> {
        if let Place::Compressed { offset, length } = self.place(0, header).0 {
            return Some(offset..offset.saturating_add(length));
        }
        let offset = self.descriptor & OFFSET;
        (offset != 0).then(|| offset..offset + header.cluster_size())
    }

    /// Returns the place of the byte at this offset of the guest cluster, and the end of the part
    /// of the guest cluster that has one place.
    pub(super) fn place(self, inside: u64, header: &Header) -> (Place, u64) {
        let cluster_size = header.cluster_size();
        if self.is_compressed() {
            let size_bits = header.cluster_bits - 8;
            let shift = 62 - size_bits;
            let offset = self.descriptor & ((1 << shift) - 1);
            let units = ((self.descriptor >> shift) & ((1 << size_bits) - 1)) + 1;
            let length = units * COMPRESSED_UNIT - offset % COMPRESSED_UNIT;
            return (Place::Compressed { offset, length }, cluster_size);
        }
        let offset = self.descriptor & OFFSET;
        let Some(bits) = self.subclusters else {
            let place = if self.descriptor & ZERO != 0 {
                Place::Zero
            } else if offset == 0 {
                Place::Unallocated
            } else {
                Place::Data(offset + inside)
            };
            return (place, cluster_size);
        };
        let subcluster_size = cluster_size / SUBCLUSTERS;
        let index = inside / subcluster_size;
        let place = if bits >> (32 + index) & 1 != 0 {
            Place::Zero
        } else if bits >> index & 1 != 0 {
            Place::Data(offset + inside)
        } else {
            Place::Unallocated
        };
        (place, (index + 1) * subcluster_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qcow2::header::{Compression, Table};

    fn header(cluster_bits: u32, incompatible: u64) -> Header {
        let mut bytes = vec![0; 112];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(4, &3_u32.to_be_bytes());
        put(20, &cluster_bits.to_be_bytes());
        put(48, &(1_u64 << cluster_bits).to_be_bytes());
        put(56, &1_u32.to_be_bytes());
        put(72, &incompatible.to_be_bytes());
        put(96, &4_u32.to_be_bytes());
        put(100, &104_u32.to_be_bytes());
        bytes.resize(4 << cluster_bits, 0);
        let header = Header::read(&bytes, bytes.len() as u64).unwrap();
        assert_eq!(header.compression, Compression::Deflate);
        let table = Table {
            offset: 1 << cluster_bits,
            entries: 1 << (cluster_bits - 3),
        };
        assert_eq!(header.refcount_table, table);
        header
    }

    #[test]
    fn compressed_descriptors_have_offset_and_length() {
        let header = header(16, 0);
        let entry = L2Entry {
            descriptor: COMPRESSED | (2 << 54) | 0x1_0100,
            subclusters: None,
        };
        entry.check(&header, 0).unwrap();
        let length = 3 * 512 - 0x100;
        let offset = 0x1_0100;
        let place = Place::Compressed { offset, length };
        assert_eq!(entry.place(7, &header), (place, 1 << 16));
        assert_eq!(entry.host_range(&header), Some(offset..offset + length));
    }

    #[test]
    fn subclusters_have_their_own_places() {
        let header = header(16, 1 << 4);
        let entry = L2Entry {
            descriptor: 0x5_0000,
            subclusters: Some(0b001 | (0b010 << 32)),
        };
        entry.check(&header, 0).unwrap();
        assert_eq!(entry.place(5, &header), (Place::Data(0x5_0005), 2048));
        assert_eq!(entry.place(2048, &header), (Place::Zero, 4096));
        assert_eq!(entry.place(4100, &header), (Place::Unallocated, 6144));
        let ambiguous = L2Entry {
            subclusters: Some(1 | (1 << 32)),
            ..entry
        };
        assert!(ambiguous.check(&header, 0).is_err());
    }

    #[test]
    fn reserved_bits_are_refused() {
        let header = header(16, 0);
        for descriptor in [1 << 61, 2, 0x8000, 1 << 56] {
            let entry = L2Entry {
                descriptor,
                subclusters: None,
            };
            assert!(entry.check(&header, 0).is_err(), "{descriptor:#x}");
            assert!(l2_offset(descriptor, &header, 0).is_err());
        }
        assert_eq!(
            l2_offset(COPIED | 0x1_0000, &header, 0).unwrap(),
            Some(0x1_0000)
        );
        assert_eq!(l2_offset(0, &header, 0).unwrap(), None);
    }
}
