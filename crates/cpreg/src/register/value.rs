//! [`Value`]: a register's value.

use alloc::sync::Arc;
use core::fmt;

/// Value of a register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Value of a register of at most 64 bits, zero extended.
    U64(u64),
    /// Bytes of a wider register (vectors, SVE) as KVM returns them, least significant first. The
    /// bytes are shared, so that planning does not copy them.
    Bytes(Arc<[u8]>),
}

/// Maximum width of a register that [`Value::U64`] holds, in bytes.
const U64_LEN: usize = 8;

impl Value {
    /// Returns the value of a register's bytes, least significant byte first.
    pub fn from_le_bytes(bytes: &[u8]) -> Self {
        if bytes.len() > U64_LEN {
            return Self::Bytes(bytes.into());
        }
        let bytes = bytes.iter().rev();
        Self::U64(bytes.fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Returns `true` if a register of this width in bytes can hold the value.
    ///
    /// A [`Self::U64`] must have no more bits than the register. [`Self::Bytes`] must have the
    /// length of the register.
    pub fn has_width(&self, len: usize) -> bool {
        match self {
            Self::U64(value) => match len {
                0..U64_LEN => value >> (8 * len) == 0,
                U64_LEN => true,
                _ => false,
            },
            Self::Bytes(bytes) => len > U64_LEN && bytes.len() == len,
        }
    }

    /// Returns the value of a register that a VM has and whose value its source does not show.
    ///
    /// Such a value is accepted only if the register accepts every value.
    pub fn unknown() -> Self {
        Self::Bytes(Arc::new([]))
    }

    /// Returns `true` if the source does not show the value; see [`Self::unknown`].
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes.is_empty())
    }

    /// Returns the number, or `None` for a value of more than 64 bits.
    pub const fn as_u64(&self) -> Option<u64> {
        match self {
            Self::U64(value) => Some(*value),
            Self::Bytes(_) => None,
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::U64(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U64(value) => write!(f, "{value:#x}"),
            Self::Bytes(bytes) if bytes.is_empty() => f.write_str("not known"),
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                let mut digits = bytes.iter().rev().skip_while(|byte| **byte == 0).peekable();
                if digits.peek().is_none() {
                    return f.write_str("0");
                }
                digits.try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn the_least_significant_byte_comes_first() {
        assert_eq!(Value::from_le_bytes(&[1, 2]), Value::U64(0x201));
        let wide: Vec<_> = (0..16).collect();
        assert_eq!(Value::from_le_bytes(&wide), Value::Bytes(wide.into()));
    }
}
