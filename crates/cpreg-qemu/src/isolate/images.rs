//! Size of a disk image for the guest, from the image's length or header. The image is only read.
//!
//! Formats (virtual sizes from QEMU's docs/interop/qcow2 and the LUKS on-disk format 1.2.3):
//! - qcow2, recognised by `QFI\xfb`: big-endian 64 bits at byte 24
//! - LUKS 1, recognised by `LUKS\xba\xbe` and version 1: the length minus the payload's offset,
//!   which is big-endian 32 bits at byte 104, in sectors of 512 bytes
//! - VMDK, VDI, VHDX and QED, recognised by `KDMV`, `<<<`, `vhdxfile` and `QED\0`: unknown
//! - raw, anything else: the length
//!
//! Only regular files and block devices are opened, because opening another file may have effects.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::Path;

/// Format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Raw format: the file's bytes are the disk's.
    Raw,
    /// Format to be detected from the file's header.
    Detect,
}

/// Returns the size in bytes that a guest sees; `None` if the size is unknown.
pub fn size(path: &Path, contents: ImageFormat) -> Option<u64> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return None;
    }
    let mut file = OpenOptions::new().read(true).open(path).ok()?;
    // Seek, because a block device's metadata has the length 0.
    let length = file.seek(SeekFrom::End(0)).ok()?;
    match contents {
        ImageFormat::Raw => Some(length),
        ImageFormat::Detect => size_from_header(&file, length),
    }
}

fn size_from_header(file: &File, length: u64) -> Option<u64> {
    let mut header = [0; 108];
    let read = usize::try_from(length).map_or(header.len(), |length| length.min(header.len()));
    file.read_exact_at(&mut header[..read], 0).ok()?;
    match &header {
        [b'Q', b'F', b'I', 0xfb, ..] => Some(u64::from_be_bytes(header[24..32].try_into().ok()?)),
        [b'L', b'U', b'K', b'S', 0xba, 0xbe, version @ ..] => {
            let sectors = u32::from_be_bytes(header[104..108].try_into().ok()?);
            let offset = u64::from(sectors) * 512;
            (version[..2] == [0, 1]).then(|| length.checked_sub(offset))?
        }
        [b'K', b'D', b'M', b'V', ..] | [b'<', b'<', b'<', ..] | [b'Q', b'E', b'D', 0, ..] => None,
        _ if header.starts_with(b"vhdxfile") => None,
        _ => Some(length),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn sizes_of_raw_qcow2_and_luks_images() {
        let mut qcow2 = vec![0; 4096];
        qcow2[..4].copy_from_slice(b"QFI\xfb");
        qcow2[24..32].copy_from_slice(&(10_u64 << 30).to_be_bytes());
        let qcow2 = file(&qcow2);
        assert_eq!(size(qcow2.path(), ImageFormat::Detect), Some(10 << 30));
        assert_eq!(size(qcow2.path(), ImageFormat::Raw), Some(4096));

        let mut luks = vec![0; 1 << 20];
        luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        luks[104..108].copy_from_slice(&8_u32.to_be_bytes());
        let luks = file(&luks);
        assert_eq!(
            size(luks.path(), ImageFormat::Detect),
            Some((1 << 20) - 4096)
        );

        assert_eq!(size(file(b"abc").path(), ImageFormat::Detect), Some(3));
        assert_eq!(size(file(b"KDMV").path(), ImageFormat::Detect), None);
        assert_eq!(size(Path::new("/dev/null"), ImageFormat::Raw), None);
        assert_eq!(size(Path::new("/nonexistent"), ImageFormat::Raw), None);
    }
}
