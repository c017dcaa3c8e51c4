//! Numbers in JSON and text: 64 bits do not fit a number of JSON, so they are written `"0x…"`; wider values likewise.

use cpreg::register::{RegisterId, Value};

/// The number that this text is, `0x…`; `None` if it is none, or does not fit 64 bits.
pub fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    // A sign would be read as well.
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// What a register holds, as [`Value`] writes it: `0x…`, most significant digit first, without the zeros before it.
///
/// `None` if it is no number, or does not fit the register. An id that does not tell its register's size has one of 64 bits at most.
pub fn register_value(id: RegisterId, text: &str) -> Option<Value> {
    let size = match id.size_bytes() {
        Some(size @ 9..) => size,
        Some(size) if size < 8 => {
            let value = hexadecimal(text)?;
            return (value >> (8 * size) == 0).then_some(Value::Small(value));
        }
        _ => return hexadecimal(text).map(Value::Small),
    };
    let digits = text.strip_prefix("0x").filter(|it| !it.is_empty())?;
    let mut bytes = vec![0; size];
    let mut rest = digits.bytes().rev();
    for byte in &mut bytes {
        for shift in [0, 4] {
            if let Some(digit) = rest.next() {
                *byte |= u8::try_from(char::from(digit).to_digit(16)?).ok()? << shift;
            }
        }
    }
    rest.next().is_none().then(|| Value::Wide(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_of_their_register() {
        let demux = RegisterId::from_raw(0x6020_0000_0011_0000);
        assert_eq!(demux.size_bytes(), Some(4));
        assert_eq!(
            register_value(demux, "0xffffffff"),
            Some(Value::Small(0xffff_ffff))
        );
        assert_eq!(register_value(demux, "0x100000000"), None);
        let wide = register_value(RegisterId::v(0), "0x102").expect("128 bits");
        let Value::Wide(bytes) = &wide else {
            panic!("{wide} is not wide");
        };
        assert_eq!((bytes.len(), bytes[0], bytes[1]), (16, 2, 1));
        assert_eq!(wide.to_string(), "0x0102");
        assert_eq!(register_value(RegisterId::v(0), "0x0102"), Some(wide));
        let long = format!("0x1{:032}", 0);
        for bad in ["", "0x", "102", "0xg", "0x+1", &long] {
            assert_eq!(register_value(RegisterId::v(0), bad), None, "{bad}");
            assert_eq!(register_value(RegisterId::SCTLR_EL1, bad), None, "{bad}");
        }
    }
}
