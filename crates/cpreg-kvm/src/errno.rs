//! Meanings of KVM's [`Errno`] for each operation.
//!
//! The hint for an error depends on the plan: see [`mod@crate::load`].

use std::io;

use cpreg::destination::kernel::RegisterKind;
pub use cpreg::errno::Errno;
use cpreg::register::RegisterId;

/// Converts the C library's positive errno.
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "aarch64")),
    expect(dead_code, reason = "for the real KVM")
)]
pub(crate) fn from_raw(errno: i32) -> Errno {
    Errno(u16::try_from(errno).unwrap_or(u16::MAX))
}

/// Returns the standard library's form of the error: `Invalid argument (os error 22)`.
pub fn to_io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(i32::from(errno.0))
}

/// Returns the meaning of an error of `KVM_GET_REG_LIST`.
pub const fn describe_list_error(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
        Errno::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        Errno::EINTR => "a signal that ends the process arrived",
        _ => "KVM is not known to return this error for this operation",
    }
}

/// Returns the meaning of an error of `KVM_GET_ONE_REG`.
pub const fn describe_read_error(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
        Errno::ENOENT => {
            "this vCPU does not have the register, or an ID register of its VM hides it now"
        }
        Errno::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        Errno::EINVAL => "KVM does not know this class or size of register",
        Errno::EINTR => "a signal that ends the process arrived",
        _ => "KVM is not known to return this error for this operation",
    }
}

/// Returns the meaning of an error of `KVM_ARM_VCPU_FINALIZE`.
pub const fn describe_finalize_error(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL => "the vCPU has no SVE: it was not initialised with KVM_ARM_VCPU_SVE",
        Errno::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        _ => "KVM is not known to return this error for this operation",
    }
}

/// Returns the meaning of an error of `KVM_SET_ONE_REG`, by the kind of register.
///
/// Source: Linux v7.3 `arch/arm64/kvm`, `sys_regs.c`, `guest.c`, `hypercalls.c`, `reset.c`.
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
            "this vCPU does not have the register: the kernel does not know it, the vCPU was created without its feature, or an ID register of the VM hides it"
        }
        (Errno::ENOEXEC, _) => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
        (
            Errno::EBUSY,
            RegisterKind::Identification
            | RegisterKind::Implementation
            | RegisterKind::CacheType
            | RegisterKind::FirmwareBitmap(_)
            | RegisterKind::PmuModel,
        ) => "a vCPU of the VM has run, after which the register keeps its value",
        (Errno::EBUSY, _) => "a vCPU of the VM has run, or is running",
        (Errno::EINVAL, RegisterKind::Identification | RegisterKind::CacheType) => {
            "a field differs that user space may not change, or exceeds what this host has"
        }
        (Errno::EINVAL, RegisterKind::Implementation) => {
            "it must be the host's value unless the VM has KVM_CAP_ARM_WRITABLE_IMP_ID_REGS (v6.15)"
        }
        (Errno::EINVAL, RegisterKind::CacheLevels) => {
            "reserved bits are set, or it omits cleaning that CTR_EL0 requires; before v6.3 only the host's value is accepted"
        }
        (Errno::EINVAL, RegisterKind::CacheSize(_)) => {
            "reserved bits are set, or its lines are shorter than those of CTR_EL0; before v6.3 only the host's value is accepted"
        }
        (Errno::EINVAL, RegisterKind::LockStatus) => "only OSLK may differ",
        (Errno::EINVAL, RegisterKind::PmuModel) => "only 0 and its current value are accepted",
        (Errno::EINVAL, RegisterKind::PsciVersion) => {
            "this kernel lacks this version of PSCI, or the vCPU was created for PSCI 0.1"
        }
        (Errno::EINVAL, RegisterKind::Workaround(_)) => {
            "it exceeds the mitigations of this host's firmware and kernel"
        }
        (Errno::EINVAL, RegisterKind::FirmwareBitmap(_)) => {
            "this kernel lacks some of these services"
        }
        (Errno::EINVAL, RegisterKind::VectorLengths) => {
            "the vector lengths must be all those of the host up to a maximum"
        }
        (Errno::EINVAL, _) if id == RegisterId::CORE_PSTATE => {
            "PSTATE has a mode that this vCPU lacks"
        }
        (Errno::EINVAL, _) => {
            "the value conflicts with the vCPU's features, or KVM does not know this class or size"
        }
        (Errno::EINTR, _) => "a signal that ends the process arrived",
        _ => "KVM is not known to return this error for this operation",
    }
}
