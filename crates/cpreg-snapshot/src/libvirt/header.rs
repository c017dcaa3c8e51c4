//! [`Header`]: the first 92 bytes of a save image.
//!
//! | offset | field |
//! |---|---|
//! | 0 | 16 bytes `LibvirtQemudSave`; `LibvirtQemudPart` until the image is complete |
//! | 16 | u32 version, 1 or 2 |
//! | 20 | u32 number of bytes after the header, up to the stream |
//! | 24 | u32 1 if the VM ran when it was saved |
//! | 28 | u32 format of the stream ([`SaveFormat`]); 0 in version 1 |
//! | 32 | u32 offset of the cookie after the header, or 0 |
//! | 36 | 14 unused u32 |
//!
//! The integers are in the byte order of the host. A version that is too large tells the other byte
//! order. Read from libvirt's `src/qemu/qemu_saveimage.c`, and checked with images of 9.0 and 11.3.

use crate::error::{Error, ErrorKind};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 92;

const COMPLETE_MAGIC: &[u8; 16] = b"LibvirtQemudSave";
const PARTIAL_MAGIC: &[u8; 16] = b"LibvirtQemudPart";
const MAX_VERSION: u32 = 2;
/// Bits of the version that an edit in place sets until it is complete.
const EDIT_MARK: u32 = 0x8080_8080;
/// Maximum number of bytes between header and stream. libvirt writes the XML and 64 KiB.
const MAX_DATA_LEN: u32 = 16 << 20;

/// Format of the stream in a save image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaveFormat {
    /// Uncompressed stream.
    Raw,
    /// Stream compressed by `gzip`.
    Gzip,
    /// Stream compressed by `bzip2`.
    Bzip2,
    /// Stream compressed by `xz`.
    Xz,
    /// Stream compressed by `lzop`.
    Lzop,
    /// Stream compressed by `zstd`.
    Zstd,
    /// Uncompressed stream whose RAM pages have fixed offsets in the file (`mapped-ram`).
    Sparse,
}

impl SaveFormat {
    /// Formats in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Raw,
        Self::Gzip,
        Self::Bzip2,
        Self::Xz,
        Self::Lzop,
        Self::Zstd,
        Self::Sparse,
    ];

    /// Returns libvirt's name of the format, which is the name of the program that compresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzop => "lzop",
            Self::Zstd => "zstd",
            Self::Sparse => "sparse",
        }
    }

    /// Returns `true` if a program compresses the stream.
    pub const fn is_compressed(self) -> bool {
        !matches!(self, Self::Raw | Self::Sparse)
    }
}

/// Header of a save image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the header.
    pub version: u32,
    /// `true` if the integers are big-endian.
    pub is_big_endian: bool,
    /// Number of bytes between the header and the stream.
    pub data_length: u32,
    /// `true` if the VM ran when it was saved, and runs again after `virsh restore`.
    pub was_running: bool,
    /// Format of the stream.
    pub format: SaveFormat,
    /// Offset of the cookie, counted from the end of the header; `None` without a cookie.
    pub cookie_offset: Option<u32>,
}

impl Header {
    /// Parses the header of a file of this length.
    ///
    /// # Errors
    /// - [`ErrorKind::Unfinished`] if libvirt has not finished the image.
    /// - [`ErrorKind::UnfinishedEdit`] if an edit in place was interrupted.
    /// - If the file is too short, or libvirt does not read such a header.
    pub fn parse(bytes: &[u8], file_length: u64) -> Result<Self, Error> {
        if bytes.starts_with(PARTIAL_MAGIC) {
            return Err(Error::new(
                ErrorKind::Unfinished,
                "a save image that libvirt has not finished: the save is in progress, or failed",
            )
            .with_hint(
                "wait until `virsh save` or `virsh managedsave` has ended; if it has failed, the \
                 image is of no use: save the VM again",
            ));
        }
        if !bytes.starts_with(COMPLETE_MAGIC) {
            return Err(Error::malformed(0, "not a save image of libvirt"));
        }
        let truncated = || {
            Error::new(ErrorKind::Truncated, "the save image of libvirt is cut")
                .with_hint("get a complete copy of the file, or save the VM again")
        };
        let bytes = bytes.first_chunk::<HEADER_LEN>().ok_or_else(truncated)?;
        let word = |index: usize| {
            let start = COMPLETE_MAGIC.len() + 4 * index;
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[start..start + 4]);
            u32::from_le_bytes(word)
        };
        let version = word(0);
        if version & EDIT_MARK == EDIT_MARK {
            return Err(Error::new(
                ErrorKind::UnfinishedEdit,
                "an edit of this file was interrupted",
            )
            .with_hint("recover the file from the journal next to it, which holds the old bytes"));
        }
        let is_big_endian = version > MAX_VERSION;
        let word = |index| {
            let word: u32 = word(index);
            if is_big_endian {
                word.swap_bytes()
            } else {
                word
            }
        };
        let version = word(0);
        if version == 0 || version > MAX_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a save image of libvirt with version {version}"),
            )
            .with_hint("versions 1 and 2 can be read"));
        }
        let data_length = word(1);
        if data_length == 0 || data_length > MAX_DATA_LEN {
            return Err(Error::malformed(
                20,
                format!(
                    "{data_length} bytes of XML; at least 1 and at most {MAX_DATA_LEN} are possible"
                ),
            ));
        }
        if HEADER_LEN as u64 + u64::from(data_length) >= file_length {
            return Err(truncated());
        }
        let number = word(3);
        let format = usize::try_from(number).ok();
        let format = format.and_then(|number| SaveFormat::ALL.get(number));
        let format = match (version, format) {
            // libvirt looks at the format in version 2 only.
            (1, _) => SaveFormat::Raw,
            (_, Some(format)) => *format,
            (_, None) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("a save image of libvirt in the unknown format {number}"),
                ));
            }
        };
        let cookie_offset = word(4);
        if cookie_offset > data_length {
            return Err(Error::malformed(
                32,
                "the cookie is outside the XML's space",
            ));
        }
        Ok(Self {
            version,
            is_big_endian,
            data_length,
            was_running: word(2) != 0,
            format,
            cookie_offset: (cookie_offset != 0).then_some(cookie_offset),
        })
    }

    /// Returns the offset of the stream in the file.
    pub fn stream_offset(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.data_length)
    }

    /// Returns the length of the XML's space, in which zeros follow the XML.
    pub fn xml_length(&self) -> u32 {
        self.cookie_offset.unwrap_or(self.data_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(words: [u32; 5], to_bytes: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let mut bytes = COMPLETE_MAGIC.to_vec();
        bytes.extend(words.map(to_bytes).concat());
        bytes.resize(HEADER_LEN, 0);
        bytes
    }

    #[test]
    fn both_byte_orders_are_read() {
        let words = [2, 1000, 1, 5, 900];
        let little = Header::parse(&header(words, u32::to_le_bytes), 5000).unwrap();
        let big = Header::parse(&header(words, u32::to_be_bytes), 5000).unwrap();
        assert!(!little.is_big_endian && big.is_big_endian);
        assert_eq!(
            Header {
                is_big_endian: true,
                ..little
            },
            big
        );
        assert!(little.was_running);
        assert_eq!(little.format, SaveFormat::Zstd);
        assert_eq!((little.stream_offset(), little.xml_length()), (1092, 900));
    }

    #[test]
    fn version_1_has_no_compression() {
        let words = [1, 1000, 0, 1, 0];
        let parsed = Header::parse(&header(words, u32::to_le_bytes), 5000).unwrap();
        assert_eq!(parsed.format, SaveFormat::Raw);
        assert_eq!(parsed.cookie_offset, None);
        assert_eq!(parsed.xml_length(), 1000);
    }

    #[test]
    fn invalid_headers_are_rejected() {
        let kind = |words, length| {
            let bytes = header(words, u32::to_le_bytes);
            Header::parse(&bytes, length).unwrap_err().kind()
        };
        assert_eq!(kind([3, 1000, 0, 0, 0], 5000), ErrorKind::Unsupported);
        assert_eq!(kind([0, 1000, 0, 0, 0], 5000), ErrorKind::Unsupported);
        assert_eq!(kind([2, 1000, 0, 7, 0], 5000), ErrorKind::Unsupported);
        assert_eq!(kind([2, 0, 0, 0, 0], 5000), ErrorKind::Malformed);
        assert_eq!(kind([2, u32::MAX, 0, 0, 0], u64::MAX), ErrorKind::Malformed);
        assert_eq!(kind([2, 1000, 0, 0, 1001], 5000), ErrorKind::Malformed);
        assert_eq!(kind([2, 1000, 0, 0, 0], 1092), ErrorKind::Truncated);
        assert_eq!(
            kind([0x8080_8082, 1000, 0, 0, 0], 5000),
            ErrorKind::UnfinishedEdit
        );
        let partial = Header::parse(b"LibvirtQemudPart\x02", 17).unwrap_err();
        assert_eq!(partial.kind(), ErrorKind::Unfinished);
        let cut = Header::parse(b"LibvirtQemudSave\x02", 17).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::Truncated);
    }
}
