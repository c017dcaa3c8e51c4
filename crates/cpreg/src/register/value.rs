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

impl Value {
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
