//! Ioctls that `kvm-ioctls` lacks in the needed form, or that it leaves unsafe.
//!
//! | ioctl | reason |
//! |---|---|
//! | `KVM_GET_REG_LIST` | `kvm-ioctls` limits it to 500 registers; an EL2 guest may have more |
//! | `KVM_ARM_GET_REG_WRITABLE_MASKS` (v6.7, 3f9cd0ca8484) | not in `kvm-ioctls` |
//! | `KVM_GET_DEVICE_ATTR` | `kvm-ioctls` cannot know the length of an attribute |
//!
//! Numbers and layouts: Linux v7.3 `include/uapi/linux/kvm.h` and
//! `arch/arm64/include/uapi/asm/kvm.h`.
#![expect(unsafe_code, reason = "ioctls take pointers")]

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};

use cpreg::register::RegisterId;
use kvm_bindings::kvm_device_attr;
use kvm_ioctls::DeviceFd;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use crate::errno::{self, Errno};

/// `KVMIO`: the group of KVM's ioctls.
const KVMIO: u8 = 0xae;

/// Maximum length of a list: system registers have 2^16 encodings, the other classes some hundred.
const MAX_LIST_LEN: u64 = 1 << 17;

/// `struct kvm_reg_list`: a 64-bit number of ids, and that number of ids.
struct RegisterList<'a>(&'a mut [u64]);

// SAFETY: KVM_GET_REG_LIST reads the capacity from the first word and overwrites the word with the
// number of registers. It writes the ids after this word only if the capacity suffices for all.
// `register_list` sets the capacity to the number of words after the first. The ioctl has no other
// output.
unsafe impl Ioctl for RegisterList<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<u64>(KVMIO, 0xb0)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Returns the descriptor of an object of `kvm-ioctls`, which offers it as a number only.
pub(super) fn borrow(owner: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: The owner keeps its descriptor open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

/// Returns the registers that a vCPU lists.
pub(super) fn register_list(vcpu: BorrowedFd<'_>) -> Result<Vec<RegisterId>, Errno> {
    let mut capacity = 0_u64;
    // The kernel returns the number of registers if the capacity is too small. Two calls suffice
    // unless the list grows between them.
    for _ in 0..4 {
        let words = usize::try_from(capacity).unwrap_or(0) + 1;
        let mut list = vec![0_u64; words];
        if let Some(first) = list.first_mut() {
            *first = capacity;
        }
        // SAFETY: The descriptor is open, and the first word is the number of words that follow it.
        let result = unsafe { ioctl(vcpu, RegisterList(&mut list)) };
        let count = list.first().copied().unwrap_or(0);
        match result {
            Ok(()) => {
                let ids = list.into_iter().skip(1);
                let count = usize::try_from(count).unwrap_or(0);
                return Ok(ids.take(count).map(RegisterId::from_raw).collect());
            }
            Err(rustix::io::Errno::TOOBIG) if count > capacity && count <= MAX_LIST_LEN => {
                capacity = count;
            }
            Err(error) => return Err(errno_of(error)),
        }
    }
    Err(Errno::E2BIG)
}

/// Returns an attribute of at most 64 bits.
pub(super) fn device_attribute(
    device: &DeviceFd,
    group: u32,
    attr: u64,
) -> Result<u64, kvm_ioctls::Error> {
    let mut value = 0_u64;
    let mut attribute = kvm_device_attr {
        group,
        attr,
        addr: (&raw mut value).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: The kernel writes the attribute to the address of `value`, which lives until the call
    // returns. No attribute of an interrupt controller exceeds 64 bits.
    unsafe { device.get_device_attr(&mut attribute) }?;
    Ok(value)
}

/// `ARM64_FEATURE_ID_RANGE_SIZE`: op1 0, 1 and 3, CRm 0 to 7, op2 0 to 7.
const MASK_COUNT: usize = 3 * 8 * 8;

/// `struct reg_mask_range`.
#[repr(C)]
struct MaskRange {
    /// Address for the masks: `MASK_COUNT` times 64 bits.
    address: u64,
    /// Number of the range; only `KVM_ARM_FEATURE_ID_RANGE`, 0.
    range: u32,
    reserved: [u32; 13],
}

struct WritableMasks<'a> {
    range: MaskRange,
    /// Array for the masks, borrowed while the kernel has its address.
    masks: &'a mut [u64; MASK_COUNT],
}

// SAFETY: KVM_ARM_GET_REG_WRITABLE_MASKS reads the structure and writes 192 masks of 64 bits to the
// address in it. This is the address of an array of that length, borrowed mutably for the call.
unsafe impl Ioctl for WritableMasks<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read::<MaskRange>(KVMIO, 0xb6)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.range.address = self.masks.as_mut_ptr().expose_provenance() as u64;
        (&raw mut self.range).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Returns each ID register with bits that user space may change, and a mask of these bits.
/// Registers ascend.
pub(super) fn writable_masks(vm: BorrowedFd<'_>) -> Result<Vec<(RegisterId, u64)>, Errno> {
    let mut masks = [0; MASK_COUNT];
    let request = WritableMasks {
        range: MaskRange {
            address: 0,
            range: 0,
            reserved: [0; 13],
        },
        masks: &mut masks,
    };
    // SAFETY: The descriptor is open, and the array has the length that the kernel writes.
    unsafe { ioctl(vm, request) }.map_err(errno_of)?;
    let numbered = masks.into_iter().zip(0_u8..).filter(|(mask, _)| *mask != 0);
    let mut writable: Vec<_> = numbered
        .map(|(mask, number)| {
            let op1 = match number >> 6 {
                2 => 3,
                op1 => op1,
            };
            let id = RegisterId::sysreg(3, op1, 0, number >> 3 & 7, number & 7);
            (id, mask)
        })
        .collect();
    writable.sort_unstable_by_key(|(id, _)| *id);
    Ok(writable)
}

fn errno_of(error: rustix::io::Errno) -> Errno {
    errno::from_raw(error.raw_os_error())
}
