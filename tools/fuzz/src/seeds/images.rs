//! Seeds of qcow2 images with a snapshot, made from recorded streams without RAM.

use super::seed::Seed;

/// Cluster size of the images, the least one.
const CLUSTER_LEN: usize = 512;
/// Number of clusters in front of the state: header, refcount table, refcount block, the two L1
/// tables, the snapshot table.
const FIRST_CLUSTERS: usize = 6;
/// Number of entries of an L2 table.
const L2_ENTRIES: usize = CLUSTER_LEN / 8;
/// Number of counts of the one refcount block.
const BLOCK_ENTRIES: usize = CLUSTER_LEN / 2;

/// Bytes of the change that the target plans: its start, the removed and the added bytes.
const CHANGE: [u8; 6] = [0, 200, 3, 0, 9, 0];

/// Returns images with the shortest streams as their states.
pub(super) fn images(streams: &[Seed]) -> Vec<Seed> {
    let images = streams.iter().filter_map(|stream| image(stream));
    images.map(|image| [&CHANGE[..], &image].concat()).collect()
}

/// Returns an image without a disk, or `None` if the state needs a second refcount block.
fn image(state: &[u8]) -> Option<Vec<u8>> {
    let clusters = state.len().div_ceil(CLUSTER_LEN);
    let tables = clusters.div_ceil(L2_ENTRIES);
    let first_table = FIRST_CLUSTERS;
    let first_cluster = first_table + tables;
    let end = first_cluster + clusters;
    if end > BLOCK_ENTRIES {
        return None;
    }
    let mut image = vec![0; end * CLUSTER_LEN];
    let mut put = |cluster: usize, bytes: &[u8]| {
        let at = cluster * CLUSTER_LEN;
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let offset = |cluster: usize| ((cluster * CLUSTER_LEN) as u64).to_be_bytes();
    let offsets = |from: usize, to: usize| (from..to).flat_map(offset).collect::<Vec<u8>>();
    let state_len = (state.len() as u64).to_be_bytes();

    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.extend([0; 12]);
    header.extend([0, 0, 0, 9]);
    // No disk, no encryption, no active L1 table.
    header.extend([0; 16]);
    header.extend(offset(3));
    header.extend(offset(1));
    header.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    header.extend(offset(5));
    header.extend([0; 24]);
    header.extend([0, 0, 0, 4, 0, 0, 0, 104]);
    put(0, &header);
    put(1, &offset(2));
    put(2, &[0, 1].repeat(end));
    put(4, &offsets(first_table, first_cluster));
    let mut entry = offset(4).to_vec();
    entry.extend(&(tables as u64).to_be_bytes()[4..]);
    entry.extend([0, 1, 0, 1]);
    entry.extend([0; 16]);
    entry.extend(&state_len[4..]);
    entry.extend([0, 0, 0, 16]);
    entry.extend(state_len);
    entry.extend([0; 8]);
    entry.extend(b"1a");
    put(5, &entry);
    put(first_table, &offsets(first_cluster, end));
    put(first_cluster, state);
    Some(image)
}
