//! Conversion of a kernel's `vmlinuz` into the `Image` that QEMU boots.
//!
//! | begins with | format | as in Debian |
//! |---|---|---|
//! | `ARM\x64` at byte 0x38 | an Image already | 5.10, 6.1 |
//! | `1f 8b` | an Image in gzip | |
//! | `MZ`, `zimg` at byte 4 | EFI zboot: a program that contains the compressed Image | from 6.12 |
//!
//! The header of zboot (Linux, `drivers/firmware/efi/libstub/zboot-header.S`) has little-endian
//! integers. Byte 8 has the offset of the compressed Image (u32), byte 12 its length (u32). Byte 24
//! has the name of the compression (up to 32 bytes, terminated by 0): `gzip`, `zstd`, `zstd22`,
//! `xzkern`.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use crate::Result;

/// Offset and value of the magic number of Arm's `Image` (Linux,
/// `Documentation/arch/arm64/booting.rst`).
const MAGIC: (usize, &[u8]) = (0x38, b"ARM\x64");

/// Maximum size of a kernel, in bytes. Debian's kernels have 30 to 60 MB.
const MAX_IMAGE_LEN: u64 = 512 << 20;

/// Decompresses `vmlinuz`.
///
/// # Errors
///
/// Returns an error if the file has none of the formats above, or is damaged.
pub fn unpack(vmlinuz: &[u8]) -> Result<Vec<u8>> {
    let image = if is_image(vmlinuz) {
        vmlinuz.to_owned()
    } else if vmlinuz.starts_with(b"\x1f\x8b") {
        unpack_as("gzip", vmlinuz)?
    } else if slice_at(vmlinuz, 4, 4) == Some(b"zimg") {
        let (start, length) = (number(vmlinuz, 8)?, number(vmlinuz, 12)?);
        let packed = slice_at(vmlinuz, start, length)
            .ok_or("a zboot image whose compressed kernel exceeds the file")?;
        let name = slice_at(vmlinuz, 24, 32).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        unpack_as(&String::from_utf8_lossy(name), packed)?
    } else {
        return Err("neither an arm64 Image, nor one in gzip, nor an EFI zboot image".into());
    };
    if is_image(&image) {
        Ok(image)
    } else {
        Err("the compressed kernel is not an arm64 Image".into())
    }
}

fn is_image(bytes: &[u8]) -> bool {
    slice_at(bytes, MAGIC.0, MAGIC.1.len()) == Some(MAGIC.1)
}

fn slice_at(bytes: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(length)?)
}

/// Returns the little-endian 32-bit number at this offset.
fn number(bytes: &[u8], start: usize) -> Result<usize> {
    let bytes: [u8; 4] = slice_at(bytes, start, 4)
        .ok_or("a zboot image with a truncated header")?
        .try_into()?;
    Ok(usize::try_from(u32::from_le_bytes(bytes))?)
}

/// Decompresses with the algorithm `name`.
fn unpack_as(name: &str, packed: &[u8]) -> Result<Vec<u8>> {
    let mut image = Vec::new();
    let mut reader: Box<dyn Read + '_> = match name {
        "gzip" => Box::new(MultiGzDecoder::new(packed)),
        "zstd" | "zstd22" => Box::new(StreamingDecoder::new(packed)?),
        "xz" | "xzkern" => Box::new(XzReader::new(packed, false)),
        _ => {
            return Err(format!(
                "a zboot image compressed with {name:?}; gzip, zstd and xz are supported"
            )
            .into());
        }
    };
    reader
        .by_ref()
        .take(MAX_IMAGE_LEN)
        .read_to_end(&mut image)
        .map_err(|error| format!("a kernel compressed with {name}: {error}"))?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lzma_rust2::{XzOptions, XzWriter};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    /// Returns the smallest bytes that are recognised as an Image.
    fn image() -> Vec<u8> {
        let mut image = vec![0x5a; 4096];
        image[MAGIC.0..MAGIC.0 + 4].copy_from_slice(MAGIC.1);
        image
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zboot(name: &str, packed: &[u8]) -> Vec<u8> {
        let mut file = b"MZ\0\0zimg".to_vec();
        file.extend(64_u32.to_le_bytes());
        file.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        file.resize(24, 0);
        file.extend(name.as_bytes());
        file.resize(64, 0);
        file.extend(packed);
        file.extend(b"and what follows");
        file
    }

    #[test]
    fn every_format_gives_the_image() {
        let image = image();
        for file in [
            image.clone(),
            gzip(&image),
            zboot("gzip", &gzip(&image)),
            zboot(
                "zstd22",
                &compress_to_vec(&image[..], CompressionLevel::Fastest),
            ),
            zboot("xzkern", &xz(&image)),
        ] {
            assert!(unpack(&file).unwrap() == image);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let error = |file: &[u8]| unpack(file).unwrap_err().to_string();
        assert_eq!(
            error(b"#!/bin/sh"),
            "neither an arm64 Image, nor one in gzip, nor an EFI zboot image"
        );
        assert_eq!(
            error(&gzip(b"text")),
            "the compressed kernel is not an arm64 Image"
        );
        assert_eq!(
            error(&zboot("lz4", b"")),
            "a zboot image compressed with \"lz4\"; gzip, zstd and xz are supported"
        );
        let whole = zboot("gzip", &gzip(&image()));
        assert_eq!(
            error(&whole[..66]),
            "a zboot image whose compressed kernel exceeds the file"
        );
        assert_eq!(error(&whole[..10]), "a zboot image with a truncated header");
    }
}
