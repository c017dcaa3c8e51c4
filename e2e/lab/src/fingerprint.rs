//! Fingerprints of contents, for keys of stored outcomes.

/// Returns the 64-bit FNV-1a hash of contents, and their length. That suffices to distinguish
/// a few thousand streams.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}-{}", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_hash_and_length() {
        // The hash is that of the reference implementation.
        assert_eq!(fingerprint(b"a"), "af63dc4c8601ec8c-1");
    }
}
