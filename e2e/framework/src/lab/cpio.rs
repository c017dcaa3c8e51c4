//! A writer of cpio archives, in the one format that kernels unpack as initramfs: `newc`.
//!
//! Each entry, in the words of Linux's `Documentation/driver-api/early-userspace/buffer-format.rst`: the magic `070701`, then thirteen
//! numbers of eight hexadecimal digits (inode, mode, uid, gid, links, mtime, length, device major and minor, special device's major and minor,
//! length of the name with its final 0, checksum), the name, padding to four bytes, the contents, padding to four bytes. The entry `TRAILER!!!` ends it.
//!
//! Everything belongs to root and dates from 1970: the same contents give the same bytes. Device nodes are bytes as others are, so no root is
//! needed to make one.

/// The file types of `st_mode`.
const DIRECTORY: u32 = 0o04_0000;
const REGULAR: u32 = 0o10_0000;
const CHARACTER_DEVICE: u32 = 0o02_0000;

const TRAILER: &str = "TRAILER!!!";

/// An archive under construction. Directories must be added before what is in them.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// What of an entry differs from kind to kind.
struct Entry<'a> {
    name: &'a str,
    mode: u32,
    contents: &'a [u8],
    /// Major and minor number of the device that it stands for.
    device: (u32, u32),
}

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, name: &str) {
        self.add(&Entry {
            name,
            mode: DIRECTORY | 0o755,
            contents: &[],
            device: (0, 0),
        });
    }

    /// Adds a file; `executable` or not. Its length must fit 32 bits, else it is an error.
    ///
    /// # Errors
    /// If it is too long.
    pub fn file(&mut self, name: &str, executable: bool, contents: &[u8]) -> crate::Result<()> {
        if u32::try_from(contents.len()).is_err() {
            return Err(format!("{name} does not fit a cpio archive: it has 4 GiB or more").into());
        }
        self.add(&Entry {
            name,
            mode: REGULAR | if executable { 0o755 } else { 0o644 },
            contents,
            device: (0, 0),
        });
        Ok(())
    }

    /// Adds the node of a character device.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.add(&Entry {
            name,
            mode: CHARACTER_DEVICE | 0o600,
            contents: &[],
            device: (major, minor),
        });
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.add(&Entry {
            name: TRAILER,
            mode: 0,
            contents: &[],
            device: (0, 0),
        });
        self.bytes
    }

    fn add(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        // Names are ours, and lengths were looked at: both fit.
        let length = u32::try_from(entry.contents.len()).unwrap_or(0);
        let name_length = u32::try_from(entry.name.len() + 1).unwrap_or(0);
        self.bytes.extend(b"070701");
        for number in [
            self.entries,
            entry.mode,
            0,
            0,
            1,
            0,
            length,
            0,
            0,
            entry.device.0,
            entry.device.1,
            name_length,
            0,
        ] {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(entry.name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(entry.contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_kernels_read_it() {
        let mut archive = Archive::default();
        archive.file("hi", true, b"hello").unwrap();
        let bytes = archive.finish();
        // Header and name end at a multiple of 4 bytes: 110 + 3 and 3 of padding.
        assert_eq!(
            &bytes[..116],
            b"07070100000001000081ed000000000000000000000001000000000000000500000000\
              0000000000000000000000000000000300000000hi\0\0\0\0"
                .as_slice()
        );
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert!(bytes[124..].starts_with(b"070701"));
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn devices_have_their_numbers() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.character_device("dev/console", 5, 1);
        let text = String::from_utf8(archive.finish()).unwrap();
        let header = |name: &str| {
            let at = text.find(&format!("{name}\0")).unwrap();
            text[at - 110..at].to_owned()
        };
        let console = header("dev/console");
        assert_eq!(&console[14..22], "00002180");
        assert_eq!(&console[78..94], "0000000500000001");
    }

    /// A kernel takes entries with the same inode for links to one file.
    #[test]
    fn numbers_of_entries_differ() {
        let mut archive = Archive::default();
        archive.directory("a");
        archive.directory("b");
        let text = String::from_utf8(archive.finish()).unwrap();
        let inodes: Vec<_> = text
            .match_indices("070701")
            .map(|(at, _)| text[at + 6..at + 14].to_owned())
            .collect();
        assert_eq!(inodes, ["00000001", "00000002", "00000003"]);
    }
}
