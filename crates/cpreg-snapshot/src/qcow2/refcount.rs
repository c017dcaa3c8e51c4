//! [`Refcounts`]: the reference counts of an image, for new clusters and for released ones.
//!
//! New clusters lie after the end of the file. An image whose counts are wrong therefore loses
//! nothing. QEMU uses the released clusters again.

use std::collections::BTreeMap;
use std::ops::Range;

use cpreg_stream::ReadAt;

use super::change::Write;
use super::entry;
use super::header::{Header, MAX_REFCOUNT_TABLE_LEN};
use super::image::Image;
use crate::error::{Error, ErrorKind};

/// Length in bytes of the unit in which changed counts are written.
const SECTOR_LEN: usize = 512;
/// Maximum length of clusters that are skipped after the end of the file because their counts are
/// not zero. An interrupted change leaves such clusters.
const MAX_SKIPPED_LEN: u64 = 64 << 20;

/// Block of counts.
struct Block {
    /// Offset in the file.
    offset: u64,
    /// Content on the disk; `None` for a new block.
    written: Option<Vec<u8>>,
    content: Vec<u8>,
}

/// Reference counts, loaded block by block.
pub(super) struct Refcounts<'i, S> {
    image: &'i Image<S>,
    /// Offsets of the blocks, 0 for none.
    table: Vec<u64>,
    blocks: BTreeMap<u64, Block>,
    /// First cluster that can be new.
    next: u64,
    /// Clusters that were skipped.
    skipped: u64,
    is_table_moved: bool,
}

/// Writes that make new clusters allocated.
pub(super) struct Allocations {
    /// Writes that change nothing for a reader of the old image.
    pub(super) fill: Vec<Write>,
    /// Writes in the refcount table.
    pub(super) link: Vec<Write>,
    /// New place of the refcount table in the header's form, if the table has moved.
    pub(super) moved_table: Option<(u64, u32)>,
}

impl<'i, S: ReadAt> Refcounts<'i, S> {
    pub(super) fn load(image: &'i Image<S>) -> Result<Self, Error> {
        let bytes = image.read_table(image.header.refcount_table)?;
        let table = bytes
            .chunks_exact(8)
            .map(|bytes| super::header::be64(bytes, 0));
        Ok(Self {
            image,
            table: table.collect(),
            blocks: BTreeMap::new(),
            next: image.length().div_ceil(image.cluster_size()),
            skipped: 0,
            is_table_moved: false,
        })
    }

    fn header(&self) -> &'i Header {
        &self.image.header
    }

    /// Returns the binary logarithm of the number of counts of a block.
    fn block_bits(&self) -> u32 {
        self.header().cluster_bits + 3 - self.header().refcount_order
    }

    /// Loads the block with the count of a cluster, if the image has it.
    fn load_block(&mut self, cluster: u64) -> Result<Option<&mut Block>, Error> {
        let index = cluster >> self.block_bits();
        if !self.blocks.contains_key(&index) {
            let slot = usize::try_from(index).unwrap_or(usize::MAX);
            let offset = self.table.get(slot).copied().unwrap_or(0);
            let at = self.header().refcount_table.offset + index * 8;
            // A block's offset has the form of an L2 table's, without flags.
            let Some(offset) = entry::l2_offset(offset, self.header(), at)? else {
                return Ok(None);
            };
            let content = self.image.read_range(offset, self.image.cluster_size())?;
            let written = Some(content.clone());
            self.blocks.insert(
                index,
                Block {
                    offset,
                    written,
                    content,
                },
            );
        }
        Ok(self.blocks.get_mut(&index))
    }

    /// Returns the count of a cluster.
    pub(super) fn get(&mut self, cluster: u64) -> Result<u64, Error> {
        let order = self.header().refcount_order;
        let index = cluster & ((1 << self.block_bits()) - 1);
        let block = self.load_block(cluster)?;
        Ok(block.map_or(0, |block| get_count(&block.content, index, order)))
    }

    fn set(&mut self, cluster: u64, count: u64) -> Result<(), Error> {
        let order = self.header().refcount_order;
        let index = cluster & ((1 << self.block_bits()) - 1);
        if let Some(block) = self.load_block(cluster)? {
            set_count(&mut block.content, index, order, count);
        }
        Ok(())
    }

    /// Allocates `count` clusters in a row; returns the offset of the first one.
    pub(super) fn allocate(&mut self, count: u64) -> Result<u64, Error> {
        let mut start = self.next;
        let mut at = start;
        while at < start + count {
            if self.get(at)? == 0 {
                at += 1;
                continue;
            }
            at += 1;
            self.skipped += at - start;
            start = at;
            if self.skipped * self.image.cluster_size() > MAX_SKIPPED_LEN {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    "clusters after the end of the file are marked as used",
                )
                .with_hint("repair the image with `qemu-img check -r all FILE`"));
            }
        }
        self.next = start + count;
        for cluster in start..start + count {
            self.ensure_block(cluster)?;
            self.set(cluster, 1)?;
        }
        Ok(start << self.header().cluster_bits)
    }

    /// Makes a new block for the count of a cluster if the image has none.
    fn ensure_block(&mut self, cluster: u64) -> Result<(), Error> {
        if self.load_block(cluster)?.is_some() {
            return Ok(());
        }
        let index = cluster >> self.block_bits();
        let slot = usize::try_from(index).unwrap_or(usize::MAX);
        if index * 8 >= MAX_REFCOUNT_TABLE_LEN {
            return Err(too_large());
        }
        let size = usize::try_from(self.image.cluster_size()).unwrap_or(usize::MAX);
        self.blocks.insert(
            index,
            Block {
                offset: 0,
                written: None,
                content: vec![0; size],
            },
        );
        // The new block can hold its own count.
        let offset = self.allocate(1)?;
        if slot >= self.table.len() {
            self.is_table_moved = true;
            self.table.resize(slot + 1, 0);
        }
        self.table[slot] = offset;
        if let Some(block) = self.blocks.get_mut(&index) {
            block.offset = offset;
        }
        Ok(())
    }

    /// Completes the allocations: places the refcount table and returns the writes.
    pub(super) fn finish_allocations(&mut self) -> Result<Allocations, Error> {
        let old_table = self.header().refcount_table;
        let cluster_bits = self.header().cluster_bits;
        let mut allocations = Allocations {
            fill: Vec::new(),
            link: Vec::new(),
            moved_table: None,
        };
        let is_new = |block: &Block| block.written.is_none();
        if self.is_table_moved {
            let per_cluster = self.image.cluster_size() / 8;
            // Some room to grow, so that the table does not move with each change. The clusters of
            // the table can need new blocks, and these a longer table.
            let count = (self.table.len() as u64 * 3 / 2).div_ceil(per_cluster) + 1;
            let offset = self.allocate(count)?;
            let clusters = u32::try_from(count).map_err(|_| too_large())?;
            if count << cluster_bits > MAX_REFCOUNT_TABLE_LEN
                || self.table.len() as u64 > count * per_cluster
            {
                return Err(too_large());
            }
            let entries = usize::try_from(count * per_cluster).map_err(|_| too_large())?;
            self.table.resize(entries, 0);
            let bytes = self.table.iter().flat_map(|entry| entry.to_be_bytes());
            allocations.fill.push(Write::new(offset, bytes.collect()));
            allocations.moved_table = Some((offset, clusters));
        } else {
            for (index, block) in &self.blocks {
                if is_new(block) {
                    let at = old_table.offset + index * 8;
                    let bytes = block.offset.to_be_bytes().to_vec();
                    allocations.link.push(Write::new(at, bytes));
                }
            }
        }
        allocations.fill.extend(self.take_writes());
        Ok(allocations)
    }

    /// Releases one reference to each cluster of a range of the file; calls `single` with the
    /// offset of each cluster that has one reference left.
    pub(super) fn release(
        &mut self,
        range: Range<u64>,
        single: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let bits = self.header().cluster_bits;
        for cluster in range.start >> bits..range.end.div_ceil(self.image.cluster_size()) {
            let count = self.get(cluster)?;
            if count == 0 || cluster == 0 {
                return Err(inconsistent(cluster << bits));
            }
            self.set(cluster, count - 1)?;
            if count == 2 {
                single(cluster << bits);
            }
        }
        Ok(())
    }

    /// Returns the writes of all changes since the last call.
    pub(super) fn take_writes(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        for block in self.blocks.values_mut() {
            match &block.written {
                None => writes.push(Write::new(block.offset, block.content.clone())),
                Some(written) => {
                    let sectors = written
                        .chunks(SECTOR_LEN)
                        .zip(block.content.chunks(SECTOR_LEN));
                    for (index, (old, new)) in sectors.enumerate() {
                        if old != new {
                            let at = block.offset + (index * SECTOR_LEN) as u64;
                            writes.push(Write::new(at, new.to_vec()));
                        }
                    }
                }
            }
            block.written = Some(block.content.clone());
        }
        writes
    }

    /// Returns the offsets of the blocks that the image had before.
    pub(super) fn old_blocks(&self) -> impl Iterator<Item = u64> + '_ {
        let old_len = self.header().refcount_table.entries;
        let old_len = usize::try_from(old_len).unwrap_or(usize::MAX);
        let entries = self.table.iter().take(old_len);
        entries
            .copied()
            .filter(|offset| *offset != 0 && *offset < self.image.length())
    }
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the refcount table would be too large",
    )
    .with_hint("copy the image with larger clusters")
}

/// Returns the error for a count that does not match the tables.
pub(super) fn inconsistent(at: u64) -> Error {
    Error::malformed(
        at,
        "the reference counts of the image do not match its tables",
    )
    .with_hint("repair the image with `qemu-img check -r all FILE`, on a copy first")
}

/// Returns a count in a block; `order` is the binary logarithm of its width in bits.
fn get_count(block: &[u8], index: u64, order: u32) -> u64 {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    if order < 3 {
        let per_byte = 8 >> order;
        let byte = u64::from(block[index / per_byte]);
        let shift = (index % per_byte) << order;
        return (byte >> shift) & ((1 << (1 << order)) - 1);
    }
    let width = 1 << (order - 3);
    let bytes = &block[index * width..(index + 1) * width];
    bytes
        .iter()
        .fold(0, |count, byte| count << 8 | u64::from(*byte))
}

fn set_count(block: &mut [u8], index: u64, order: u32, count: u64) {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let number = count.to_be_bytes();
    if order < 3 {
        let per_byte = 8 >> order;
        let shift = (index % per_byte) << order;
        let mask = ((1_u16 << (1 << order)) - 1) << shift;
        let byte = &mut block[index / per_byte];
        *byte = (*byte & !mask.to_be_bytes()[1]) | (number[7] << shift);
        return;
    }
    let width = 1 << (order - 3);
    block[index * width..(index + 1) * width].copy_from_slice(&number[8 - width..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_each_width() {
        for order in 0..=6 {
            let width = 1 << order;
            let most = if width == 64 {
                u64::MAX
            } else {
                (1 << width) - 1
            };
            let mut block = vec![0; 64];
            let entries = 512 / width;
            for index in 0..entries {
                set_count(&mut block, index, order, most - index % 2);
            }
            for index in 0..entries {
                assert_eq!(get_count(&block, index, order), most - index % 2);
            }
            set_count(&mut block, 1, order, 0);
            assert_eq!(get_count(&block, 1, order), 0);
            assert_eq!(get_count(&block, 0, order), most);
            assert_eq!(get_count(&block, 2, order), most);
        }
        // The least significant bits come first.
        assert_eq!(get_count(&[0b0000_0010], 1, 0), 1);
        assert_eq!(get_count(&[0x12], 0, 2), 2);
        assert_eq!(get_count(&[0x12, 0x34], 0, 4), 0x1234);
    }
}
