//! Numbers as text, in users' input and in documents.
//!
//! | function | syntax | use |
//! |---|---|---|
//! | [`parse_u64`] | `0x2a`, `0X2A`, `42` | users' input |
//! | [`parse_hexadecimal`] | `0x2a` | documents: 64 bits do not fit a JSON number |
//! | [`Value::parse`] | `0x2a`, as wide as the register is | documents |

use alloc::vec;
use core::num::ParseIntError;

use super::{RegisterId, Value};

/// Parses a number of 64 bits, decimal or, after `0x`, hexadecimal.
///
/// # Errors
///
/// Returns an error if the text is not such a number.
///
/// ```
/// # use cpreg::register::parse_u64;
/// assert_eq!(parse_u64("0x2a"), Ok(42));
/// assert_eq!(parse_u64("42"), Ok(42));
/// assert!(parse_u64("2a").is_err());
/// ```
pub fn parse_u64(text: &str) -> Result<u64, ParseIntError> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// Parses a number of 64 bits in the notation of documents, `0x…`. Returns `None` for any other
/// text.
///
/// ```
/// # use cpreg::register::parse_hexadecimal;
/// assert_eq!(parse_hexadecimal("0x2a"), Some(42));
/// assert_eq!(parse_hexadecimal("42"), None);
/// ```
pub fn parse_hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    // `from_str_radix` would accept a sign.
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

impl Value {
    /// Parses a register's value in the format of [`Value`]'s `Display`: `0x…`, most significant
    /// digit first.
    ///
    /// Returns `None` if the text is not a number, or is too long for the register. Allows 64 bits
    /// for an id without a known size.
    pub fn parse(id: RegisterId, text: &str) -> Option<Self> {
        let size = match id.size_bytes() {
            Some(size @ 9..) => size,
            Some(size) if size < 8 => {
                let value = parse_hexadecimal(text)?;
                return (value >> (8 * size) == 0).then_some(Self::U64(value));
            }
            _ => return parse_hexadecimal(text).map(Self::U64),
        };
        let digits = text
            .strip_prefix("0x")
            .filter(|digits| !digits.is_empty())?;
        let mut bytes = vec![0; size];
        let mut remaining = digits.bytes().rev();
        for byte in &mut bytes {
            for shift in [0, 4] {
                if let Some(digit) = remaining.next() {
                    *byte |= u8::try_from(char::from(digit).to_digit(16)?).ok()? << shift;
                }
            }
        }
        remaining
            .next()
            .is_none()
            .then(|| Self::Bytes(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        for (text, number) in [("0", 0), ("18446744073709551615", u64::MAX), ("0XfF", 255)] {
            assert_eq!(parse_u64(text), Ok(number), "{text}");
        }
        for text in ["", "0x", "fF", "-1", "18446744073709551616"] {
            assert!(parse_u64(text).is_err(), "{text}");
        }
        for text in ["", "0x", "1", "0X1", "0x+1", "0x10000000000000000"] {
            assert_eq!(parse_hexadecimal(text), None, "{text}");
        }
        assert_eq!(parse_hexadecimal("0xFf"), Some(255));
    }

    #[test]
    fn values_have_the_size_of_their_register() {
        let demux = RegisterId::from_raw(0x6020_0000_0011_0000);
        assert_eq!(demux.size_bytes(), Some(4));
        assert_eq!(
            Value::parse(demux, "0xffffffff"),
            Some(Value::U64(0xffff_ffff))
        );
        assert_eq!(Value::parse(demux, "0x100000000"), None);
        let wide = Value::parse(RegisterId::v(0), "0x102").expect("128 bits");
        let Value::Bytes(bytes) = &wide else {
            panic!("{wide} is not wide");
        };
        assert_eq!((bytes.len(), bytes[0], bytes[1]), (16, 2, 1));
        assert_eq!(wide.to_string(), "0x0102");
        assert_eq!(Value::parse(RegisterId::v(0), "0x0102"), Some(wide));
        let long = format!("0x1{:032}", 0);
        for bad in ["", "0x", "102", "0xg", "0x+1", &long] {
            assert_eq!(Value::parse(RegisterId::v(0), bad), None, "{bad}");
            assert_eq!(Value::parse(RegisterId::SCTLR_EL1, bad), None, "{bad}");
        }
    }
}
