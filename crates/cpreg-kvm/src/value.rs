//! Registers of any width to and from [`Value`]: [`read`], [`write`].
//!
//! Which registers there are, and what to do about an error, does not live here.

use cpreg::register::{RegisterId, Value};

use crate::errno::Errno;
use crate::host::Vcpu;

/// The widest register that an id can name, in bytes (`KVM_REG_SIZE_U2048`).
const WIDEST: usize = 256;

/// The widest register that [`Value::Small`] holds, in bytes.
const SMALL: usize = 8;

/// Reads a register.
///
/// # Errors
/// What the kernel answered; [`Errno::EINVAL`] for an id whose size code Linux does not define.
pub fn read(vcpu: &impl Vcpu, id: RegisterId) -> Result<Value, Errno> {
    let size = id.size_bytes().ok_or(Errno::EINVAL)?;
    let mut bytes = [0; WIDEST];
    let room = bytes.get_mut(..size).ok_or(Errno::EINVAL)?;
    vcpu.get(id, room)?;
    Ok(value_of(room))
}

/// Writes a register. Allocates nothing.
///
/// # Errors
/// What the kernel answered; [`Errno::EINVAL`] for a value that does not [fit](fits) the register.
pub fn write(vcpu: &impl Vcpu, id: RegisterId, value: &Value) -> Result<(), Errno> {
    if !fits(id, value) {
        return Err(Errno::EINVAL);
    }
    match value {
        Value::Small(value) => {
            let bytes = value.to_le_bytes();
            let size = id.size_bytes().unwrap_or(SMALL).min(SMALL);
            vcpu.set(id, bytes.get(..size).unwrap_or(&bytes))
        }
        Value::Wide(bytes) => vcpu.set(id, bytes),
    }
}

/// Whether the value is of the register's width: a number of no more bits, or as many bytes.
pub fn fits(id: RegisterId, value: &Value) -> bool {
    match (value, id.size_bytes()) {
        (Value::Small(value), Some(size @ 0..SMALL)) => value >> (8 * size) == 0,
        (Value::Small(_), Some(SMALL)) => true,
        (Value::Wide(bytes), Some(size)) => size > SMALL && bytes.len() == size,
        _ => false,
    }
}

/// All ones in a register of at most 64 bits.
pub(crate) const fn ones(id: RegisterId) -> Option<u64> {
    match id.size_bytes() {
        Some(1) => Some(0xff),
        Some(2) => Some(0xffff),
        Some(4) => Some(0xffff_ffff),
        Some(8) => Some(u64::MAX),
        _ => None,
    }
}

/// The value in a register's bytes, least significant first.
pub(crate) fn value_of(bytes: &[u8]) -> Value {
    if bytes.len() > SMALL {
        return Value::Wide(bytes.into());
    }
    let bytes = bytes.iter().rev();
    Value::Small(bytes.fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_fits_by_width() {
        let narrow = RegisterId::CORE_FPSR;
        assert!(fits(narrow, &Value::Small(0xffff_ffff)));
        assert!(!fits(narrow, &Value::Small(1 << 32)));
        assert!(fits(RegisterId::TCR2_EL1, &Value::Small(u64::MAX)));
        assert!(!fits(RegisterId::TCR2_EL1, &Value::Wide([0; 8].into())));
        let vector = RegisterId::v(0);
        assert!(fits(vector, &Value::Wide([0; 16].into())));
        assert!(!fits(vector, &Value::Wide([0; 15].into())));
        assert!(!fits(vector, &Value::Small(0)));
        let unsized_id = RegisterId::from_raw(0x6090_0000_0013_c000);
        assert!(!fits(unsized_id, &Value::Small(0)));
    }

    #[test]
    fn the_least_significant_byte_comes_first() {
        assert_eq!(value_of(&[1, 2]), Value::Small(0x201));
        let wide: Vec<_> = (0..16).collect();
        assert_eq!(value_of(&wide), Value::Wide(wide.into()));
    }
}
