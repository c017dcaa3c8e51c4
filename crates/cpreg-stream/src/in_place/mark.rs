//! [`Mark`]: bytes at the start of a file, changed while an edit is in progress, so that no program
//! loads a half-edited file.
//!
//! | file | marked bytes | effect |
//! |---|---|---|
//! | stream | `QEVM` at 0 becomes `cpRG` | QEMU refuses the file |
//! | save image of libvirt | the version at 16 gets all high bits | libvirt refuses it |
//!
//! libvirt refuses the marked version in either byte order.
//! The magic of a save image stays. libvirt regards a managed save image with another magic as
//! incomplete, removes the image, and boots the VM without its state.

use std::fs::File;
use std::io;

use crate::element::{MAGIC, UNFINISHED_MAGIC};
use crate::os;

/// Magic of libvirt's save images.
const LIBVIRT_MAGIC: &[u8; 16] = b"LibvirtQemudSave";
/// Bit that libvirt's header has in no byte of its version.
const VERSION_BIT: u8 = 0x80;

/// Bytes of a file that tell whether an edit is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    offset: u64,
    marked: [u8; 4],
    unmarked: [u8; 4],
}

impl Mark {
    /// Number of bytes at the start of a file that tell its mark.
    const START_LEN: usize = 20;

    /// Returns the mark of a file, and `true` if an edit is in progress. `None` for other files.
    pub(super) fn of_file(file: &File) -> io::Result<Option<(Self, bool)>> {
        let mut start = [0; Self::START_LEN];
        let length = os::length(file)?.min(Self::START_LEN as u64);
        let start = &mut start[..usize::try_from(length).unwrap_or(Self::START_LEN)];
        os::read_exact_at(file, start, 0)?;
        Ok(Self::of_start(start))
    }

    fn of_start(start: &[u8]) -> Option<(Self, bool)> {
        if let Some(rest) = start.strip_prefix(LIBVIRT_MAGIC) {
            let version = *rest.first_chunk()?;
            let mark = Self {
                offset: LIBVIRT_MAGIC.len() as u64,
                marked: version.map(|byte| byte | VERSION_BIT),
                unmarked: version.map(|byte| byte & !VERSION_BIT),
            };
            return match version {
                version if version == mark.marked => Some((mark, true)),
                version if version == mark.unmarked => Some((mark, false)),
                _ => None,
            };
        }
        let mark = Self {
            offset: 0,
            marked: UNFINISHED_MAGIC,
            unmarked: MAGIC,
        };
        match *start.first_chunk()? {
            UNFINISHED_MAGIC => Some((mark, true)),
            MAGIC => Some((mark, false)),
            _ => None,
        }
    }

    /// Returns the offset after the marked bytes, which an edit cannot change.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.marked.len() as u64
    }

    /// Marks the file and syncs it.
    pub(super) fn set(&self, file: &File) -> io::Result<()> {
        os::write_all_at(file, &self.marked, self.offset).and_then(|()| file.sync_all())
    }

    /// Removes the mark and syncs the file.
    pub(super) fn clear(&self, file: &File) -> io::Result<()> {
        os::write_all_at(file, &self.unmarked, self.offset).and_then(|()| file.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(version: &[u8]) -> Vec<u8> {
        [&LIBVIRT_MAGIC[..], version].concat()
    }

    #[test]
    fn marks_are_told_by_the_start_of_a_file() {
        let is_marked = |start: &[u8]| Mark::of_start(start).map(|(_, is_marked)| is_marked);
        assert_eq!(is_marked(b"QEVM\0"), Some(false));
        assert_eq!(is_marked(b"cpRG\0"), Some(true));
        assert_eq!(is_marked(b"QEV"), None);
        assert_eq!(is_marked(&image(&[2, 0, 0, 0])), Some(false));
        assert_eq!(is_marked(&image(&[0x80, 0x80, 0x80, 0x82])), Some(true));
        assert_eq!(is_marked(&image(&[0x80, 0, 0, 2])), None);
        assert_eq!(is_marked(&image(&[2, 0, 0])), None);
        assert_eq!(is_marked(b"LibvirtQemudPart\x02\0\0\0"), None);
    }

    #[test]
    fn libvirt_refuses_a_marked_version_in_either_byte_order() {
        for version in [[1, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 2]] {
            let (mark, _) = Mark::of_start(&image(&version)).unwrap();
            assert!(u32::from_le_bytes(mark.marked) > 2);
            assert!(u32::from_be_bytes(mark.marked) > 2);
            assert_eq!(mark.unmarked, version);
            assert_eq!(Mark::of_start(&image(&mark.marked)), Some((mark, true)));
        }
    }
}
