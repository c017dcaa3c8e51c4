//! Large qcow2 image with one snapshot of a VM, in a sparse file.
//!
//! All clusters of the disk and of the state are allocated, and most are holes of the file. The
//! state is a recorded stream with zeros between its first and its last bytes, in place of RAM.
//! `qemu-img check` finds no errors; only QEMU would reject the RAM.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const CLUSTER_BITS: u32 = 16;
const CLUSTER_LEN: u64 = 1 << CLUSTER_BITS;
/// Number of entries of an L2 table.
const L2_ENTRIES: u64 = CLUSTER_LEN / 8;
/// Number of counts of a refcount block.
const BLOCK_ENTRIES: u64 = CLUSTER_LEN / 2;
/// Bytes of the recorded stream in front of the zeros: header, configuration and list of RAM.
const FRONT_LEN: usize = 64 << 10;

/// Sizes of the image to make.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Size of the disk in bytes, a multiple of 512 MiB.
    pub disk: u64,
    /// Number of bytes of zeros in the state.
    pub ram: u64,
}

/// Layout of the image, in clusters.
struct Layout {
    blocks: u64,
    active_l1: u64,
    snapshot_l1: u64,
    snapshot_table: u64,
    disk_l2: u64,
    state_l2: u64,
    disk: u64,
    state: u64,
    end: u64,
}

impl Layout {
    fn new(disk_len: u64, state_len: u64) -> Self {
        let disk_clusters = disk_len / CLUSTER_LEN;
        let state_clusters = state_len.div_ceil(CLUSTER_LEN);
        let disk_tables = disk_clusters.div_ceil(L2_ENTRIES);
        let state_tables = state_clusters.div_ceil(L2_ENTRIES);
        let others = 5 + disk_tables + state_tables + disk_clusters + state_clusters;
        // The blocks count themselves too.
        let blocks = (others + others / BLOCK_ENTRIES + 1).div_ceil(BLOCK_ENTRIES) + 1;
        let active_l1 = 2 + blocks;
        let disk_l2 = active_l1 + 3;
        let state_l2 = disk_l2 + disk_tables;
        let disk = state_l2 + state_tables;
        Self {
            blocks,
            active_l1,
            snapshot_l1: active_l1 + 1,
            snapshot_table: active_l1 + 2,
            disk_l2,
            state_l2,
            disk,
            state: disk + disk_clusters,
            end: disk + disk_clusters + state_clusters,
        }
    }

    /// Returns the count of a cluster: disk and snapshot share the disk's clusters.
    fn count(&self, cluster: u64) -> u16 {
        let is_shared = (self.disk_l2..self.state_l2).contains(&cluster)
            || (self.disk..self.state).contains(&cluster);
        match cluster {
            _ if cluster >= self.end => 0,
            _ if is_shared => 2,
            _ => 1,
        }
    }
}

/// Returns a table with the offsets of these clusters.
fn table(clusters: impl Iterator<Item = u64>) -> Vec<u8> {
    let offsets = clusters.map(|cluster| cluster << CLUSTER_BITS);
    offsets.flat_map(u64::to_be_bytes).collect()
}

/// Writes the image into an empty file. `stream` is a recorded stream with a description.
///
/// # Errors
/// If the stream is too short or the file cannot be written.
pub fn write(stream: &[u8], size: Size, to: &File) -> io::Result<()> {
    let too_short = || io::Error::new(io::ErrorKind::InvalidData, "the stream is too short");
    let (front, back) = stream.split_at_checked(FRONT_LEN).ok_or_else(too_short)?;
    let state_len = stream.len() as u64 + size.ram;
    let layout = Layout::new(size.disk, state_len);
    let put = |cluster: u64, bytes: &[u8]| to.write_all_at(bytes, cluster << CLUSTER_BITS);
    to.set_len(layout.end << CLUSTER_BITS)?;

    put(0, &header(&layout, size.disk))?;
    put(1, &table(2..2 + layout.blocks))?;
    for block in 0..layout.blocks {
        let first = block * BLOCK_ENTRIES;
        let counts = (first..first + BLOCK_ENTRIES).map(|cluster| layout.count(cluster));
        let counts: Vec<u8> = counts.flat_map(u16::to_be_bytes).collect();
        put(2 + block, &counts)?;
    }
    put(layout.active_l1, &table(layout.disk_l2..layout.state_l2))?;
    put(layout.snapshot_l1, &table(layout.disk_l2..layout.disk))?;
    let entries = layout.disk - layout.disk_l2;
    put(
        layout.snapshot_table,
        &snapshot_entry(&layout, entries, state_len, size.disk),
    )?;
    put(layout.disk_l2, &table(layout.disk..layout.state))?;
    put(layout.state_l2, &table(layout.state..layout.end))?;
    put(layout.state, front)?;
    let back_at = (layout.state << CLUSTER_BITS) + FRONT_LEN as u64 + size.ram;
    to.write_all_at(back, back_at)
}

fn header(layout: &Layout, disk_len: u64) -> Vec<u8> {
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.extend([0; 12]);
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(disk_len.to_be_bytes());
    header.extend([0; 4]);
    let disk_tables = layout.state_l2 - layout.disk_l2;
    header.extend(&disk_tables.to_be_bytes()[4..]);
    header.extend((layout.active_l1 << CLUSTER_BITS).to_be_bytes());
    header.extend(CLUSTER_LEN.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    header.extend((layout.snapshot_table << CLUSTER_BITS).to_be_bytes());
    header.extend([0; 24]);
    header.extend([0, 0, 0, 4, 0, 0, 0, 104]);
    header
}

fn snapshot_entry(layout: &Layout, l1_entries: u64, state_len: u64, disk_len: u64) -> Vec<u8> {
    let mut entry = (layout.snapshot_l1 << CLUSTER_BITS).to_be_bytes().to_vec();
    entry.extend(&l1_entries.to_be_bytes()[4..]);
    // Lengths of id and name; date and clock.
    entry.extend([0, 1, 0, 7]);
    entry.extend([0; 16]);
    // The short field is for states of less than 4 GiB.
    entry.extend([0; 4]);
    entry.extend([0, 0, 0, 16]);
    entry.extend(state_len.to_be_bytes());
    entry.extend(disk_len.to_be_bytes());
    entry.extend(b"1suspend");
    entry
}
