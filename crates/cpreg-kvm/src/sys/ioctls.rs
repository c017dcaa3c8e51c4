//! The two ioctls that `kvm-ioctls` does not offer as they are needed here. The only file with `unsafe` in it.
//!
//! | ioctl | why here |
//! |---|---|
//! | `KVM_GET_REG_LIST` | `kvm-ioctls` has room for 500 registers, and an EL2 guest's list may be longer |
//! | `KVM_ARM_GET_REG_WRITABLE_MASKS` (v6.7, 3f9cd0ca8484) | not offered |
//!
//! Numbers and layouts: Linux v7.3 `include/uapi/linux/kvm.h` and `arch/arm64/include/uapi/asm/kvm.h`.
#![expect(unsafe_code, reason = "ioctls take pointers")]

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};

use cpreg::register::RegisterId;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use crate::errno::{self, Errno};

/// `KVMIO`: the group of KVM's ioctls.
const KVMIO: u8 = 0xae;

/// No list of KVM's is as long: system registers have 2^16 encodings, the other classes some hundred.
const MAX_LIST_LEN: u64 = 1 << 17;

/// `struct kvm_reg_list`: a 64-bit number of ids, and that many ids.
struct RegisterList<'a>(&'a mut [u64]);

// SAFETY: KVM_GET_REG_LIST reads the number in the first word and writes there how many registers there are; it writes ids
// behind it only if that number had room for all of them. `register_list` sets the first word to the number of words that follow it. There is
// no output but what is written there.
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

/// The descriptor of one of `kvm-ioctls`' objects, which offer it as a number only.
pub(super) fn borrow(owner: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: The owner keeps its descriptor open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

/// What a vCPU lists, however many registers.
pub(super) fn register_list(vcpu: BorrowedFd<'_>) -> Result<Vec<RegisterId>, Errno> {
    let mut room = 0_u64;
    // The kernel says how many there are when there is no room for them. Twice is enough unless the list grows in between.
    for _ in 0..4 {
        let words = usize::try_from(room).unwrap_or(0) + 1;
        let mut list = vec![0_u64; words];
        if let Some(first) = list.first_mut() {
            *first = room;
        }
        // SAFETY: The descriptor is open, and the first word is the number of words that follow it.
        let answer = unsafe { ioctl(vcpu, RegisterList(&mut list)) };
        let told = list.first().copied().unwrap_or(0);
        match answer {
            Ok(()) => {
                let ids = list.into_iter().skip(1);
                let told = usize::try_from(told).unwrap_or(0);
                return Ok(ids.take(told).map(RegisterId::from_raw).collect());
            }
            Err(rustix::io::Errno::TOOBIG) if told > room && told <= MAX_LIST_LEN => room = told,
            Err(error) => return Err(errno_of(error)),
        }
    }
    Err(Errno::E2BIG)
}

/// `ARM64_FEATURE_ID_RANGE_SIZE`: op1 0, 1 and 3, CRm 0 to 7, op2 0 to 7.
const MASKS: usize = 3 * 8 * 8;

/// `struct reg_mask_range`.
#[repr(C)]
struct MaskRange {
    /// Where the masks go: `MASKS` times 64 bits.
    address: u64,
    /// Which range; only `KVM_ARM_FEATURE_ID_RANGE`, 0.
    range: u32,
    reserved: [u32; 13],
}

struct WritableMasks<'a> {
    range: MaskRange,
    /// Kept borrowed for as long as the kernel has its address.
    masks: &'a mut [u64; MASKS],
}

// SAFETY: KVM_ARM_GET_REG_WRITABLE_MASKS reads the structure and writes 192 masks of 64 bits to the address in it, which is that of
// an array of as many, borrowed mutably for as long.
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

/// The bits that user space may change, for each ID register that has any, ascending.
pub(super) fn writable_masks(vm: BorrowedFd<'_>) -> Result<Vec<(RegisterId, u64)>, Errno> {
    let mut masks = [0; MASKS];
    let request = WritableMasks {
        range: MaskRange {
            address: 0,
            range: 0,
            reserved: [0; 13],
        },
        masks: &mut masks,
    };
    // SAFETY: The descriptor is open, and the array is as long as the kernel's.
    unsafe { ioctl(vm, request) }.map_err(errno_of)?;
    let numbered = masks.into_iter().zip(0_u8..).filter(|(mask, _)| *mask != 0);
    let mut told: Vec<_> = numbered
        .map(|(mask, number)| {
            let op1 = match number >> 6 {
                2 => 3,
                op1 => op1,
            };
            let id = RegisterId::sysreg(3, op1, 0, number >> 3 & 7, number & 7);
            (id, mask)
        })
        .collect();
    told.sort_unstable_by_key(|(id, _)| *id);
    Ok(told)
}

fn errno_of(error: rustix::io::Errno) -> Errno {
    errno::from_raw(error.raw_os_error())
}
