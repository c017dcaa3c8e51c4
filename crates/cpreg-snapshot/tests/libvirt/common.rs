//! Recorded save images, unpacked into files with holes.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use cpreg_snapshot::libvirt::Image;
use cpreg_stream::{ReadAt, Stream};
use tempfile::TempDir;

/// Length of the blocks that become holes.
const BLOCK_LEN: usize = 64 << 10;

/// Recorded images, by their names without `.save.xz`.
pub(crate) const IMAGES: [&str; 9] = [
    "libvirt11.3__q10.0__virt-10.0-max-smp2-raw",
    "libvirt11.3__q10.0__virt-10.0-neoverse-n1-smp1-raw",
    "libvirt11.3__q10.0__virt-10.0-neoverse-n1-smp2-sparse",
    "libvirt11.3__q10.0__virt-10.0-neoverse-n1-smp2-zstd",
    "libvirt9.0__q7.2__virt-7.2-max-smp1-raw",
    "libvirt9.0__q7.2__virt-7.2-neoverse-n1-smp1-raw",
    "libvirt9.0__q7.2__virt-7.2-neoverse-n1-smp2-bzip2",
    "libvirt9.0__q7.2__virt-7.2-neoverse-n1-smp2-gzip",
    "libvirt9.0__q7.2__virt-7.2-neoverse-n1-smp2-lzop",
];

/// Raw image of one vCPU.
pub(crate) const RAW: &str = IMAGES[5];
/// Sparse image.
pub(crate) const SPARSE: &str = IMAGES[2];

/// Unpacks a recorded image into a new folder.
pub(crate) fn unpack(name: &str) -> (TempDir, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/libvirt");
    let packed = File::open(root.join(format!("{name}.save.xz"))).unwrap();
    let mut reader = lzma_rust2::XzReader::new(packed, true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.save");
    let mut file = File::create(&path).unwrap();
    let mut length = 0;
    loop {
        let mut block = Vec::with_capacity(BLOCK_LEN);
        let mut limited = (&mut reader).take(BLOCK_LEN as u64);
        if limited.read_to_end(&mut block).unwrap() == 0 {
            break;
        }
        length += block.len() as u64;
        if block.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Start(length)).unwrap();
        } else {
            file.write_all(&block).unwrap();
        }
    }
    file.set_len(length).unwrap();
    (folder, path)
}

/// Opens the image at this path.
pub(crate) fn open(path: &Path) -> Image {
    let image = Image::open(File::open(path).unwrap(), path);
    image.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Opens the stream of an image.
pub(crate) fn stream(image: &Image) -> Stream {
    Stream::open(image.stream()).unwrap()
}

/// Asserts that two sources have the same bytes.
pub(crate) fn assert_same_bytes(one: &dyn ReadAt, other: &dyn ReadAt) {
    let length = one.length().unwrap();
    assert_eq!(length, other.length().unwrap());
    assert_eq!(first_difference(one, other, length), None);
}

/// Returns the offset of the first byte that differs, up to `end`.
pub(crate) fn first_difference(one: &dyn ReadAt, other: &dyn ReadAt, end: u64) -> Option<u64> {
    let mut at = 0;
    while at < end {
        let count = usize::try_from(end - at).unwrap().min(1 << 20);
        let (mut a, mut b) = (vec![0; count], vec![0; count]);
        one.read_exact_at(&mut a, at).unwrap();
        other.read_exact_at(&mut b, at).unwrap();
        if a != b {
            let inside = a.iter().zip(&b).position(|(a, b)| a != b).unwrap();
            return Some(at + inside as u64);
        }
        at += count as u64;
    }
    None
}

/// Ignores the progress of a write.
pub(crate) fn no_progress() -> impl FnMut(u64, u64) {
    |_, _| {}
}
