//! Reading and writing registers of any width as [`Value`]: [`read()`], [`write()`].

use cpreg::register::{RegisterId, Value};

use crate::errno::Errno;
use crate::host::Vcpu;

/// Maximum width of a register that an id can name, in bytes (`KVM_REG_SIZE_U2048`).
const MAX_REGISTER_LEN: usize = 256;

/// Maximum width of a register that [`Value::U64`] holds, in bytes.
const U64_LEN: usize = 8;

/// Reads a register.
///
/// # Errors
/// Returns the kernel's errno, or [`Errno::EINVAL`] for an id whose size code Linux does not
/// define.
pub fn read(vcpu: &impl Vcpu, id: RegisterId) -> Result<Value, Errno> {
    let size = id.size_bytes().ok_or(Errno::EINVAL)?;
    let mut bytes = [0; MAX_REGISTER_LEN];
    let bytes = bytes.get_mut(..size).ok_or(Errno::EINVAL)?;
    vcpu.get(id, bytes)?;
    Ok(Value::from_le_bytes(bytes))
}

/// Writes a register, without allocation.
///
/// # Errors
/// Returns the kernel's errno, or [`Errno::EINVAL`] for a value of another
/// [width](has_register_width).
pub fn write(vcpu: &impl Vcpu, id: RegisterId, value: &Value) -> Result<(), Errno> {
    if !has_register_width(id, value) {
        return Err(Errno::EINVAL);
    }
    match value {
        Value::U64(value) => {
            let bytes = value.to_le_bytes();
            let size = id.size_bytes().unwrap_or(U64_LEN).min(U64_LEN);
            vcpu.set(id, bytes.get(..size).unwrap_or(&bytes))
        }
        Value::Bytes(bytes) => vcpu.set(id, bytes),
    }
}

/// Returns `true` if the value has the width of the register; see [`Value::has_width`].
pub fn has_register_width(id: RegisterId, value: &Value) -> bool {
    id.size_bytes().is_some_and(|size| value.has_width(size))
}

/// Returns a value with all bits of the register set, or `None` for a register of more than 64
/// bits.
pub(crate) const fn all_ones(id: RegisterId) -> Option<u64> {
    match id.size_bytes() {
        Some(1) => Some(0xff),
        Some(2) => Some(0xffff),
        Some(4) => Some(0xffff_ffff),
        Some(8) => Some(u64::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_of_a_value_is_checked() {
        let narrow = RegisterId::CORE_FPSR;
        assert!(has_register_width(narrow, &Value::U64(0xffff_ffff)));
        assert!(!has_register_width(narrow, &Value::U64(1 << 32)));
        assert!(has_register_width(
            RegisterId::TCR2_EL1,
            &Value::U64(u64::MAX)
        ));
        assert!(!has_register_width(
            RegisterId::TCR2_EL1,
            &Value::Bytes([0; 8].into())
        ));
        let vector = RegisterId::v(0);
        assert!(has_register_width(vector, &Value::Bytes([0; 16].into())));
        assert!(!has_register_width(vector, &Value::Bytes([0; 15].into())));
        assert!(!has_register_width(vector, &Value::U64(0)));
        let unsized_id = RegisterId::from_raw(0x6090_0000_0013_c000);
        assert!(!has_register_width(unsized_id, &Value::U64(0)));
    }
}
