//! Frame of a Firecracker snapshot: header, version and checksum.
//!
//! | format | header | since |
//! |---|---|---|
//! | versionize | u64 magic number with the format's version, u16 data version | 0.23 |
//! | bincode | u64 magic number, u64 length, version as text | 1.7 (1.0.0) |
//! | bitcode | a byte 0, u64 magic number, u8 length, version as text | 1.15 (9.0.0) |
//!
//! The state follows, and the CRC-64 of all bytes before it as a u64. Numbers are little-endian.
//!
//! Source: Firecracker v1.6.0 `src/snapshot/src/lib.rs`, v1.7.0 to v1.16.1
//! `src/vmm/src/snapshot/mod.rs`, and recorded files.

use cpreg::destination::saved_state::SnapshotVersion;
use crc::{CRC_64_REDIS, Crc};

use crate::error::{Error, ErrorKind};

/// Firecracker's checksum has the parameters of Redis.
const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_REDIS);
/// Length of the checksum.
const CRC_LEN: usize = 8;
/// Size of the largest file that Firecracker loads.
pub(super) const MAX_FILE_LEN: usize = 10_000_000;
/// Upper bytes of the magic number; the lower two bytes are a version.
const ARM64_MAGIC: [u8; 6] = [0xaa, 0xaa, 0x84, 0x19, 0x10, 0x07];
const X86_MAGIC: [u8; 6] = [0x64, 0x86, 0x84, 0x19, 0x10, 0x07];

/// Format of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Bincode,
    Bitcode,
}

/// Header and place of the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) encoding: Encoding,
    pub(super) version: SnapshotVersion,
    /// Offset of the first byte after the header of a bincode file.
    pub(super) state_start: usize,
    /// Offset of the checksum.
    pub(super) crc_start: usize,
}

/// Returns `true` if a file with these first bytes is a snapshot of Firecracker.
pub(crate) fn is_snapshot(start: &[u8]) -> bool {
    let has_magic = |bytes: Option<&[u8]>| {
        bytes.is_some_and(|bytes| bytes == ARM64_MAGIC || bytes == X86_MAGIC)
    };
    // A bitcode file has the packing of the column in front.
    has_magic(start.get(2..8)) || (start.starts_with(&[0; 3]) && has_magic(start.get(3..9)))
}

impl Frame {
    /// Reads the header and checks the checksum.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        if !is_snapshot(bytes) {
            return Err(Error::malformed(0, "not a Firecracker snapshot"));
        }
        let encoding = if bytes.get(2..8) == Some(&ARM64_MAGIC) {
            Encoding::Bincode
        } else if bytes.get(3..9) == Some(&ARM64_MAGIC) {
            Encoding::Bitcode
        } else {
            let message = "the snapshot holds an x86-64 VM; cpreg reads snapshots of arm64 VMs";
            return Err(Error::new(ErrorKind::Foreign, message));
        };
        if encoding == Encoding::Bincode && bytes.get(..2) != Some(&[0; 2]) {
            return Err(versionize_error(bytes));
        }
        if bytes.len() > MAX_FILE_LEN {
            return Err(size_error(ErrorKind::Unsupported));
        }
        let truncated = || {
            Error::new(ErrorKind::Truncated, "the file ends in the header")
                .at_offset(bytes.len() as u64)
        };
        let (length, text_start) = match encoding {
            Encoding::Bincode => {
                let length = bytes.get(8..16).and_then(|length| length.try_into().ok());
                (u64::from_le_bytes(length.ok_or_else(truncated)?), 16)
            }
            Encoding::Bitcode => (u64::from(*bytes.get(9).ok_or_else(truncated)?), 10),
        };
        let state_start = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(text_start))
            .filter(|end| *end <= bytes.len())
            .ok_or_else(truncated)?;
        let version = std::str::from_utf8(&bytes[text_start..state_start])
            .ok()
            .and_then(SnapshotVersion::parse)
            .ok_or_else(|| {
                Error::malformed(text_start as u64, "the snapshot version is not a version")
            })?;
        let crc_start = bytes
            .len()
            .checked_sub(CRC_LEN)
            .filter(|start| *start >= state_start)
            .ok_or_else(truncated)?;
        if CRC.checksum(&bytes[..crc_start]).to_le_bytes() != bytes[crc_start..] {
            return Err(Error::malformed(crc_start as u64, "the checksum is wrong")
                .with_hint("the file is damaged or incomplete: make the snapshot again"));
        }
        Ok(Self {
            encoding,
            version,
            state_start,
            crc_start,
        })
    }
}

/// Appends the checksum to an edited file and checks its size.
pub(super) fn finish(mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let crc = CRC.checksum(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    if bytes.len() > MAX_FILE_LEN {
        return Err(size_error(ErrorKind::BadEdit));
    }
    Ok(bytes)
}

fn size_error(kind: ErrorKind) -> Error {
    let message =
        format!("the file is larger than the {MAX_FILE_LEN} bytes that Firecracker loads");
    Error::new(kind, message)
}

fn versionize_error(bytes: &[u8]) -> Error {
    let data_version = bytes.get(8..10).and_then(|bytes| bytes.try_into().ok());
    let version = data_version.map_or(0, u16::from_le_bytes);
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the snapshot has data version {version} in the format versionize, of Firecracker \
             before 1.7, which cpreg does not read"
        ),
    )
    .with_hint("restore the VM with that Firecracker, or make a new snapshot with 1.7 or later")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_foreign_files_are_named() {
        let kind = |bytes: &[u8]| Frame::read(bytes).unwrap_err();
        let versionize = kind(b"\x01\0\xaa\xaa\x84\x19\x10\x07\x09\0");
        assert_eq!(versionize.kind(), ErrorKind::Unsupported);
        assert!(
            versionize.message().contains("data version 9"),
            "{versionize}"
        );
        let x86 = kind(b"\0\0\0\x64\x86\x84\x19\x10\x07");
        assert_eq!(x86.kind(), ErrorKind::Foreign);
        assert_eq!(kind(b"QEVM\0\0\0\x03").kind(), ErrorKind::Malformed);
        assert_eq!(kind(b"").kind(), ErrorKind::Malformed);
        assert_eq!(
            kind(b"\0\0\xaa\xaa\x84\x19\x10\x07").kind(),
            ErrorKind::Truncated
        );
    }

    #[test]
    fn a_lying_length_of_the_version_is_an_error() {
        let mut bytes = b"\0\0\xaa\xaa\x84\x19\x10\x07".to_vec();
        bytes.extend([0xff; 8]);
        assert_eq!(
            Frame::read(&bytes).unwrap_err().kind(),
            ErrorKind::Truncated
        );
    }
}
