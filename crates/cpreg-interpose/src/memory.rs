//! Arguments of ioctls in the VMM's memory.
//!
//! KVM checks these addresses and returns `EFAULT` for an invalid one. The library reads them
//! itself, so an invalid address other than null ends the VMM with a fault.
#![expect(unsafe_code, reason = "ioctls take pointers")]

use std::ffi::c_void;

use cpreg::register::RegisterId;

/// `struct kvm_one_reg`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct OneRegister {
    id: u64,
    address: u64,
}

/// Register and memory of a `KVM_GET_ONE_REG` or `KVM_SET_ONE_REG`.
pub(crate) struct RegisterArgument {
    pub(crate) id: RegisterId,
    address: *mut u8,
    length: usize,
}

impl RegisterArgument {
    /// Reads the argument of a call. Returns `None` for a null pointer, and for an id that names no
    /// size or one above [`MAX_REGISTER_LEN`].
    ///
    /// # Safety
    /// The argument must be valid for the kernel's call.
    pub(crate) unsafe fn read(argument: *mut c_void) -> Option<Self> {
        if argument.is_null() {
            return None;
        }
        // SAFETY: The caller passes a valid `struct kvm_one_reg`.
        let register = unsafe { argument.cast::<OneRegister>().read_unaligned() };
        let id = RegisterId::from_raw(register.id);
        let address: *mut u8 =
            std::ptr::with_exposed_provenance_mut(usize::try_from(register.address).ok()?);
        let length = id.size_bytes().filter(|it| *it <= MAX_REGISTER_LEN)?;
        (!address.is_null()).then_some(Self {
            id,
            address,
            length,
        })
    }

    /// Returns the value in the VMM's memory.
    ///
    /// # Safety
    /// The argument must be that of a `KVM_SET_ONE_REG`, whose call has not returned.
    pub(crate) unsafe fn load(&self, bytes: &mut [u8; MAX_REGISTER_LEN]) -> usize {
        // SAFETY: The VMM passes the address of as many bytes as the register has, at most
        // `MAX_REGISTER_LEN`. The VMM's memory and `bytes` do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(self.address, bytes.as_mut_ptr(), self.length);
        }
        self.length
    }

    /// Writes a value to the VMM's memory.
    ///
    /// # Safety
    /// The argument must be that of a `KVM_GET_ONE_REG`, whose call has not returned.
    pub(crate) unsafe fn store(&self, bytes: &[u8; MAX_REGISTER_LEN]) {
        // SAFETY: As in `load`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address, self.length);
        }
    }

    pub(crate) const fn length(&self) -> usize {
        self.length
    }
}

/// Returns the first word of the features in a `struct kvm_vcpu_init`.
///
/// # Safety
/// The argument must be valid for `KVM_ARM_VCPU_INIT`.
pub(crate) unsafe fn features(argument: *mut c_void) -> u32 {
    if argument.is_null() {
        return 0;
    }
    // SAFETY: The structure begins with the target and the features, words of 32 bits.
    unsafe { argument.cast::<u32>().add(1).read_unaligned() }
}

/// Maximum width of a register that an id can name, in bytes.
pub(crate) const MAX_REGISTER_LEN: usize = 256;

/// Answers a `KVM_GET_REG_LIST`. Returns `false` if the VMM's memory is too small for the list. The
/// VMM learns the length in any case.
///
/// # Safety
/// The argument must be a valid `struct kvm_reg_list`, with as much memory for ids as it says.
pub(crate) unsafe fn store_list(argument: *mut c_void, list: &[RegisterId]) -> bool {
    let count = argument.cast::<u64>();
    // SAFETY: The structure begins with the number of ids.
    let capacity = unsafe { count.read_unaligned() };
    // SAFETY: As above.
    unsafe { count.write_unaligned(list.len() as u64) };
    if capacity < list.len() as u64 {
        return false;
    }
    for (index, id) in list.iter().enumerate() {
        // SAFETY: The VMM has memory for `capacity` ids after the number.
        unsafe { count.add(1 + index).write_unaligned(id.raw()) };
    }
    true
}
