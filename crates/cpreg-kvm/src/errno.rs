//! [`Errno`] of KVM: what the kernel answered, and what that means for the operation that was tried.
//!
//! What to do about it does not live here: that depends on the plan ([`crate::load`]).

use std::io;

use cpreg::destination::kernel::RegisterKind;
pub use cpreg::errno::Errno;
use cpreg::register::RegisterId;

/// Returns the number of the C library, which is positive, as an [`Errno`].
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "aarch64")),
    expect(dead_code, reason = "for the real KVM")
)]
pub(crate) fn from_raw(errno: i32) -> Errno {
    Errno(u16::try_from(errno).unwrap_or(u16::MAX))
}

/// Returns the error as the standard library has it: `Invalid argument (os error 22)`.
pub fn to_io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(i32::from(errno.0))
}

/// Returns the meaning of an error of `KVM_GET_REG_LIST`: why KVM did not list a vCPU's registers.
pub const fn describe_list_error(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
        Errno::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        Errno::EINTR => "a signal that ends the process came",
        _ => "KVM is not known to answer that here",
    }
}

/// Returns the meaning of an error of `KVM_GET_ONE_REG`: why a register could not be read.
pub const fn describe_read_error(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
        Errno::ENOENT => {
            "this vCPU has no such register, or no longer: an ID register of its VM hides it"
        }
        Errno::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        Errno::EINVAL => "KVM does not know this class or size of register",
        Errno::EINTR => "a signal that ends the process came",
        _ => "KVM is not known to answer that here",
    }
}

/// Returns the meaning of an error of `KVM_ARM_VCPU_FINALIZE`: why SVE could not be finalized.
pub const fn describe_finalize_error(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL => "the vCPU has no SVE: it was not initialised with KVM_ARM_VCPU_SVE",
        Errno::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        _ => "KVM is not known to answer that here",
    }
}

/// Returns the meaning of an error of `KVM_SET_ONE_REG`: why a register did not take a value, by the kind of register (Linux v7.3 `arch/arm64/kvm`: `sys_regs.c`, `guest.c`,
/// `hypercalls.c`, `reset.c`).
pub fn describe_write_error(errno: Errno, id: RegisterId) -> &'static str {
    let kind = RegisterKind::from_id(id);
    match (errno, kind) {
        (Errno::EPERM, RegisterKind::VectorLengths) => {
            "the vector lengths are fixed once the vCPU is finalized (KVM_ARM_VCPU_FINALIZE)"
        }
        (Errno::EPERM, _) => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
        (Errno::ENOENT, RegisterKind::VectorLengths) => {
            "the vCPU has no SVE: it was not initialised with KVM_ARM_VCPU_SVE"
        }
        (Errno::ENOENT, _) => {
            "this vCPU has no such register: the kernel does not know it, the vCPU was made without its feature, or an ID register of the VM hides it"
        }
        (Errno::ENOEXEC, _) => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        (
            Errno::EBUSY,
            RegisterKind::Identification
            | RegisterKind::Implementation
            | RegisterKind::CacheType
            | RegisterKind::FirmwareBitmap(_)
            | RegisterKind::PmuModel,
        ) => "a vCPU of the VM has run, and from then on it keeps its value",
        (Errno::EBUSY, _) => "a vCPU of the VM has run, or runs",
        (Errno::EINVAL, RegisterKind::Identification | RegisterKind::CacheType) => {
            "a field differs that user space may not change, or promises more than this host has"
        }
        (Errno::EINVAL, RegisterKind::Implementation) => {
            "it is the host's own unless the VM has KVM_CAP_ARM_WRITABLE_IMP_ID_REGS (v6.15)"
        }
        (Errno::EINVAL, RegisterKind::CacheLevels) => {
            "reserved bits are set, or it leaves out cleaning that CTR_EL0 asks for; before v6.3 only the host's own is taken"
        }
        (Errno::EINVAL, RegisterKind::CacheSize(_)) => {
            "reserved bits are set, or its lines are shorter than CTR_EL0 says; before v6.3 only the host's own is taken"
        }
        (Errno::EINVAL, RegisterKind::LockStatus) => "only OSLK may differ",
        (Errno::EINVAL, RegisterKind::PmuModel) => "only 0 and what it holds are taken",
        (Errno::EINVAL, RegisterKind::PsciVersion) => {
            "this kernel has no such version of PSCI, or the vCPU was made for PSCI 0.1"
        }
        (Errno::EINVAL, RegisterKind::Workaround(_)) => {
            "it promises more than this host's firmware and kernel do"
        }
        (Errno::EINVAL, RegisterKind::FirmwareBitmap(_)) => {
            "this kernel has not all of these services"
        }
        (Errno::EINVAL, RegisterKind::VectorLengths) => {
            "the vector lengths must be all that the host has, up to the longest of them"
        }
        (Errno::EINVAL, _) if id == RegisterId::CORE_PSTATE => {
            "PSTATE names a mode that this vCPU has not got"
        }
        (Errno::EINVAL, _) => {
            "the vCPU's features do not go with it, or KVM does not know this class or size"
        }
        (Errno::EINTR, _) => "a signal that ends the process came",
        _ => "KVM is not known to answer that here",
    }
}
