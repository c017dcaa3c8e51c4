//! Compressed clusters: deflate and Zstandard.

use std::io::Read as _;

use flate2::{Decompress, FlushDecompress};

use super::header::Compression;

/// Maximum window of a Zstandard frame, in bytes; the format's recommended limit.
const MAX_WINDOW_LEN: u64 = 8 << 20;

/// Decompresses a cluster of this size; returns `None` if the bytes are damaged.
pub(super) fn decompress(method: Compression, bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut cluster = vec![0; size];
    match method {
        Compression::Deflate => {
            let mut stream = Decompress::new(false);
            // Bytes of the last sector may follow the compressed ones.
            stream
                .decompress(bytes, &mut cluster, FlushDecompress::Finish)
                .ok()?;
            (stream.total_out() == size as u64).then_some(cluster)
        }
        Compression::Zstd => {
            if window_len(bytes)? > MAX_WINDOW_LEN {
                return None;
            }
            let mut stream = ruzstd::decoding::StreamingDecoder::new(bytes).ok()?;
            stream.read_exact(&mut cluster).ok()?;
            Some(cluster)
        }
    }
}

/// Returns the window's length of a Zstandard frame, which a decoder allocates.
fn window_len(frame: &[u8]) -> Option<u64> {
    let header = frame.strip_prefix(&0xfd2f_b528_u32.to_le_bytes())?;
    let descriptor = *header.first()?;
    if descriptor & 0x20 == 0 {
        let window = u64::from(*header.get(1)?);
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * (window & 7));
    }
    // A single segment: the window is the content.
    let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = header.get(1 + dictionary_len..)?;
    let field = |count: usize| {
        let mut bytes = [0; 8];
        bytes[..count].copy_from_slice(size.get(..count)?);
        Some(u64::from_le_bytes(bytes))
    };
    match descriptor >> 6 {
        0 => field(1),
        1 => field(2).map(|size| size + 256),
        2 => field(4),
        _ => field(8),
    }
}
