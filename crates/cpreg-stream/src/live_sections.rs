//! The live sections other than `ram`: disks' dirty bitmaps, old block migration, VFIO devices.
//!
//! | section | read from |
//! |---|---|
//! | `dirty-bitmap` | `migration/block-dirty-bitmap.c`, 5.2 to 10.x |
//! | `block` | `migration/block.c`, 5.2 to 9.0 |
//! | `vfio` | `hw/vfio/migration.c`, 5.2 to 11.x |
//!
//! | section | payload |
//! |---|---|
//! | `dirty-bitmap` | chunks: flags, names, contents; the last has the flag EOS |
//! | `block` | u64 words with flags in bits 0 to 8, names, 1 MiB blocks; the last word has EOS |
//! | `vfio` | u64 tags, DATA with a length, CONFIG with none |
//!
//! Tested with `dirty-bitmap` in a stream of 10.0. The other layouts are those of QEMU's sources.

use crate::cursor::Cursor;
use crate::element::FOOTER;
use crate::error::{Error, ErrorKind, PrependPath};

/// Skips one payload of a live section. `name` is its id string, `id` its number.
pub(crate) fn skip_payload(cursor: &mut Cursor<'_>, name: &str, id: u32) -> Result<(), Error> {
    let mut progress = Progress::default();
    while !step(cursor, name, id, &mut progress)? {}
    Ok(())
}

/// Parser state between two steps of a live section's payload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Offset of a VFIO device's configuration that has begun and not ended.
    configuration: Option<u64>,
}

/// Skips the next piece of a payload; returns `true` if the piece was the last one.
///
/// A piece is small or is skipped unread. After an error, the caller can retry the step with more
/// bytes.
pub(crate) fn step(
    cursor: &mut Cursor<'_>,
    name: &str,
    id: u32,
    progress: &mut Progress,
) -> Result<bool, Error> {
    match name {
        "dirty-bitmap" => step_dirty_bitmap(cursor),
        "block" => step_block(cursor),
        _ if name == "vfio" || name.ends_with("/vfio") => step_vfio(cursor, id, progress),
        _ => Err(Error::unsupported(
            cursor.position(),
            "a live section of an unknown kind and therefore unknown length",
        )
        .with_hint("a file with a description at its end can be opened by that")),
    }
    .prepend_path(|| name.to_owned())
}

fn step_dirty_bitmap(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    const EOS: u32 = 0x01;
    const ZEROES: u32 = 0x02;
    const BITMAP_NAME: u32 = 0x04;
    const DEVICE_NAME: u32 = 0x08;
    const START: u32 = 0x10;
    const COMPLETE: u32 = 0x20;
    const BITS: u32 = 0x40;
    // The highest bit of a byte means that more flag bytes follow, two or four in all.
    const EXTRA_FLAGS: u32 = 0x80;

    let start = cursor.position();
    let mut flags = u32::from(cursor.read_u8()?);
    if flags & EXTRA_FLAGS != 0 {
        flags = flags << 8 | u32::from(cursor.read_u8()?);
        if flags & EXTRA_FLAGS != 0 {
            flags = flags << 16 | u32::from(cursor.read_be16()?);
        }
    }
    if flags & DEVICE_NAME != 0 {
        let length = cursor.read_u8()?;
        cursor.skip(length.into())?;
    }
    if flags & BITMAP_NAME != 0 {
        let length = cursor.read_u8()?;
        cursor.skip(length.into())?;
    }
    match flags & (START | COMPLETE | BITS) {
        // Granularity (32 bits, contrary to the comment in QEMU's source), bitmap's flags.
        START => cursor.skip(4 + 1)?,
        // First sector and number of sectors, then the bits.
        BITS => {
            cursor.skip(8 + 4)?;
            if flags & ZEROES == 0 {
                let length = cursor.read_be64()?;
                cursor.skip(length)?;
            }
        }
        COMPLETE => {}
        0 if flags & EOS != 0 => {}
        _ => {
            return Err(Error::malformed(
                start,
                format!("a chunk has the unknown flags {flags:#x}"),
            ));
        }
    }
    Ok(flags & EOS != 0)
}

fn step_block(cursor: &mut Cursor<'_>) -> Result<bool, Error> {
    const DEVICE_BLOCK: u64 = 0x01;
    const EOS: u64 = 0x02;
    const PROGRESS: u64 = 0x04;
    const ZERO_BLOCK: u64 = 0x08;
    const FLAGS: u64 = 0x1ff;
    const LENGTH: u64 = 1 << 20;

    let start = cursor.position();
    let flags = cursor.read_be64()? & FLAGS;
    match flags & !ZERO_BLOCK {
        DEVICE_BLOCK => {
            let length = cursor.read_u8()?;
            cursor.skip(length.into())?;
            if flags & ZERO_BLOCK == 0 {
                cursor.skip(LENGTH)?;
            }
        }
        // The upper bits hold the percentage.
        PROGRESS => {}
        EOS => return Ok(true),
        _ => {
            return Err(Error::malformed(
                start,
                format!("a block has the unknown flags {flags:#x}"),
            ));
        }
    }
    Ok(false)
}

fn step_vfio(cursor: &mut Cursor<'_>, id: u32, progress: &mut Progress) -> Result<bool, Error> {
    const END_OF_STATE: u64 = 0xffff_ffff_ef10_0001;
    const DEV_CONFIG_STATE: u64 = 0xffff_ffff_ef10_0002;
    const DEV_SETUP_STATE: u64 = 0xffff_ffff_ef10_0003;
    const DEV_DATA_STATE: u64 = 0xffff_ffff_ef10_0004;
    const DEV_INIT_DATA_SENT: u64 = 0xffff_ffff_ef10_0005;
    const DEV_CONFIG_LOAD_READY: u64 = 0xffff_ffff_ef10_0006;

    if let Some(start) = progress.configuration {
        return step_vfio_config(cursor, END_OF_STATE, id, start);
    }
    let start = cursor.position();
    match cursor.read_be64()? {
        END_OF_STATE => return Ok(true),
        DEV_SETUP_STATE | DEV_INIT_DATA_SENT | DEV_CONFIG_LOAD_READY => {}
        DEV_DATA_STATE => {
            let length = cursor.read_be64()?;
            cursor.skip(length)?;
        }
        DEV_CONFIG_STATE => progress.configuration = Some(cursor.position()),
        tag => {
            return Err(Error::malformed(
                start,
                format!("the tag {tag:#x} is unknown"),
            ));
        }
    }
    Ok(false)
}

/// Skips a PCI device's configuration, which began at `start`.
///
/// The configuration has no length and contains no tags. It ends with the end-of-state tag, which
/// the section's footer follows.
fn step_vfio_config(
    cursor: &mut Cursor<'_>,
    end_of_state: u64,
    id: u32,
    start: u64,
) -> Result<bool, Error> {
    // A configuration space of 4 KiB, MSI-X tables of at most 2048 vectors, some small fields.
    const MAX_CONFIG_LEN: u64 = 1 << 20;

    let from = cursor.position();
    let mut end = end_of_state.to_be_bytes().to_vec();
    end.push(FOOTER);
    end.extend(id.to_be_bytes());
    while cursor.position() - start < MAX_CONFIG_LEN {
        let at = cursor.position();
        match cursor.peek(end.len()) {
            Ok(bytes) if bytes == end => {
                cursor.skip(8)?;
                return Ok(true);
            }
            Ok(_) => cursor.skip(1)?,
            // The next step continues here.
            Err(error) if error.kind() == ErrorKind::Truncated && at > from => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Err(Error::malformed(
        start,
        "the end of a PCI configuration is not found",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Skips the payload and checks that the footer after it is not read.
    fn read(name: &str, payload_bytes: &[u8]) -> Result<(), Error> {
        let mut bytes = payload_bytes.to_vec();
        bytes.extend(b"\x7e\0\0\0\x05");
        let mut cursor = Cursor::new(&bytes, 0, bytes.len() as u64, 4096);
        skip_payload(&mut cursor, name, 5)?;
        assert_eq!(cursor.position(), payload_bytes.len() as u64);
        Ok(())
    }

    #[test]
    fn skips_dirty_bitmaps() {
        let mut bytes = b"\x1c\x02d0\x02b0\0\x01\0\0\x01".to_vec();
        bytes.extend(b"\x40\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x03abc");
        bytes.extend(b"\x42\0\0\0\0\0\0\0\x10\0\0\0\x10");
        bytes.extend(b"\x20\x01");
        read("dirty-bitmap", &bytes).unwrap();
        assert_eq!(
            read("dirty-bitmap", b"\x70").unwrap_err().kind(),
            ErrorKind::Malformed
        );
    }

    #[test]
    fn skips_blocks() {
        let mut bytes = b"\0\0\0\0\0\0\0\x01\x02d0".to_vec();
        bytes.extend(vec![9; 1 << 20]);
        bytes.extend(b"\0\0\0\0\0\x10\0\x09\x02d0\0\0\0\0\0\0\x64\x04\0\0\0\0\0\0\0\x02");
        read("block", &bytes).unwrap();
    }

    #[test]
    fn skips_vfio_devices() {
        let tag = |tag: u8| [0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0, tag];
        let mut bytes = tag(3).to_vec();
        bytes.extend(tag(4));
        bytes.extend(b"\0\0\0\0\0\0\0\x03abc");
        bytes.extend(tag(1));
        read("0000:00:02.0/vfio", &bytes).unwrap();
        let mut bytes = tag(2).to_vec();
        bytes.extend(tag(1));
        bytes.extend([0; 64]);
        bytes.extend(tag(1));
        read("vfio", &bytes).unwrap();
        assert_eq!(
            read("vfio", &tag(9)).unwrap_err().kind(),
            ErrorKind::Malformed
        );
        assert_eq!(
            read("slirp", &[0; 9]).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }
}
