//! Empty disk image in QEMU's format qcow2, for snapshots.

const CLUSTER_BITS: u32 = 16;
const CLUSTER_LEN: u64 = 1 << CLUSTER_BITS;
/// Size of the disk that the image holds.
const DISK_LEN: u64 = 16 << 20;

/// Returns an image of version 2 without data: header, table and block of reference counts, and
/// the level 1 table.
pub(crate) fn empty_qcow2() -> Vec<u8> {
    let mut image = Vec::new();
    let put = |image: &mut Vec<u8>, cluster: u64, fields: &[&[u8]]| {
        let start = usize::try_from(cluster * CLUSTER_LEN).unwrap_or(0);
        image.resize(start, 0);
        image.extend(fields.concat());
    };
    put(
        &mut image,
        0,
        &[
            b"QFI\xfb",
            &2_u32.to_be_bytes(),
            // No backing file.
            &[0; 12],
            &CLUSTER_BITS.to_be_bytes(),
            &DISK_LEN.to_be_bytes(),
            // No encryption.
            &[0; 4],
            // Length and place of the level 1 table.
            &1_u32.to_be_bytes(),
            &(3 * CLUSTER_LEN).to_be_bytes(),
            // Place and length of the table of reference counts.
            &CLUSTER_LEN.to_be_bytes(),
            &1_u32.to_be_bytes(),
        ],
    );
    put(&mut image, 1, &[&(2 * CLUSTER_LEN).to_be_bytes()]);
    // The four clusters of the image are used once.
    put(&mut image, 2, &[&[0, 1, 0, 1, 0, 1, 0, 1]]);
    put(&mut image, 4, &[]);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_four_clusters() {
        let image = empty_qcow2();
        assert_eq!(image.len(), 4 << CLUSTER_BITS);
        assert!(image.starts_with(b"QFI\xfb\0\0\0\x02"));
        // The first entry of the table of reference counts is the place of the block.
        let table = 1 << CLUSTER_BITS;
        assert_eq!(image[table..table + 8], [0, 0, 0, 0, 0, 2, 0, 0]);
    }
}
