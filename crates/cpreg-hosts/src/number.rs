//! Numbers in JSON and text: 64 bits do not fit a number of JSON, so they are written `"0x…"`.

/// The number that this text is, `0x…`; `None` if it is none, or does not fit 64 bits.
pub fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
