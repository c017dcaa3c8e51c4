//! [`Errno`]: what the kernel answered, and what that means for the operation that was tried.
//!
//! What to do about it does not live here: that depends on the plan ([`crate::load`]).

use std::fmt;

use cpreg::destination::kernel::Kind;
use cpreg::register::RegisterId;

/// An error number of Linux on arm64 (`include/uapi/asm-generic/errno.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub u16);

impl Errno {
    /// Operation not permitted: SVE registers before the vCPU is finalized, its vector lengths after (`arch/arm64/kvm/guest.c`).
    pub const EPERM: Self = Self(1);
    /// No such register for this vCPU.
    pub const ENOENT: Self = Self(2);
    /// Interrupted by a signal.
    pub const EINTR: Self = Self(4);
    /// The list is longer than the room for it.
    pub const E2BIG: Self = Self(7);
    /// The vCPU was not initialised.
    pub const ENOEXEC: Self = Self(8);
    /// Too early or too late: the vCPU or the VM has run.
    pub const EBUSY: Self = Self(16);
    /// The value is not one that this host takes.
    pub const EINVAL: Self = Self(22);
}

impl Errno {
    /// What it means that KVM did not list a vCPU's registers.
    pub const fn of_list(self) -> &'static str {
        match self {
            Self::EPERM => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
            Self::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
            Self::EINTR => "a signal that ends the process came",
            _ => "KVM is not known to answer that here",
        }
    }

    /// What it means that a register could not be read.
    pub const fn of_read(self) -> &'static str {
        match self {
            Self::EPERM => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
            Self::ENOENT => {
                "this vCPU has no such register, or no longer: an ID register of its VM hides it"
            }
            Self::ENOEXEC => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
            Self::EINVAL => "KVM does not know this class or size of register",
            Self::EINTR => "a signal that ends the process came",
            _ => "KVM is not known to answer that here",
        }
    }

    /// What it means that a register did not take a value, by the kind of register (Linux v7.3 `arch/arm64/kvm`: `sys_regs.c`, `guest.c`,
    /// `hypercalls.c`, `reset.c`).
    pub fn of_write(self, id: RegisterId) -> &'static str {
        let kind = Kind::of(id);
        match (self, kind) {
            (Self::EPERM, Kind::VectorLengths) => {
                "the vector lengths are fixed once the vCPU is finalized (KVM_ARM_VCPU_FINALIZE)"
            }
            (Self::EPERM, _) => "the vCPU has SVE and is not finalized (KVM_ARM_VCPU_FINALIZE)",
            (Self::ENOENT, Kind::VectorLengths) => {
                "the vCPU has no SVE: it was not initialised with KVM_ARM_VCPU_SVE"
            }
            (Self::ENOENT, _) => {
                "this vCPU has no such register: the kernel does not know it, the vCPU was made without its feature, or an ID register of the VM hides it"
            }
            (Self::ENOEXEC, _) => "the vCPU is not initialised (KVM_ARM_VCPU_INIT)",
            (
                Self::EBUSY,
                Kind::Identification
                | Kind::Implementation
                | Kind::CacheType
                | Kind::Services(_)
                | Kind::PmuModel,
            ) => "a vCPU of the VM has run, and from then on it keeps its value",
            (Self::EBUSY, _) => "a vCPU of the VM has run, or runs",
            (Self::EINVAL, Kind::Identification | Kind::CacheType) => {
                "a field differs that user space may not change, or promises more than this host has"
            }
            (Self::EINVAL, Kind::Implementation) => {
                "it is the host's own unless the VM has KVM_CAP_ARM_WRITABLE_IMP_ID_REGS (v6.15)"
            }
            (Self::EINVAL, Kind::CacheLevels) => {
                "reserved bits are set, or it leaves out cleaning that CTR_EL0 asks for; before v6.3 only the host's own is taken"
            }
            (Self::EINVAL, Kind::CacheSize(_)) => {
                "reserved bits are set, or its lines are shorter than CTR_EL0 says; before v6.3 only the host's own is taken"
            }
            (Self::EINVAL, Kind::LockStatus) => "only OSLK may differ",
            (Self::EINVAL, Kind::PmuModel) => "only 0 and what it holds are taken",
            (Self::EINVAL, Kind::PsciVersion) => {
                "this kernel has no such version of PSCI, or the vCPU was made for PSCI 0.1"
            }
            (Self::EINVAL, Kind::Workaround(_)) => {
                "it promises more than this host's firmware and kernel do"
            }
            (Self::EINVAL, Kind::Services(_)) => "this kernel has not all of these services",
            (Self::EINVAL, Kind::VectorLengths) => {
                "the vector lengths must be all that the host has, up to the longest of them"
            }
            (Self::EINVAL, _) if id == RegisterId::CORE_PSTATE => {
                "PSTATE names a mode that this vCPU has not got"
            }
            (Self::EINVAL, _) => {
                "the vCPU's features do not go with it, or KVM does not know this class or size"
            }
            (Self::EINTR, _) => "a signal that ends the process came",
            _ => "KVM is not known to answer that here",
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(i32::from(self.0)).fmt(f)
    }
}

impl std::error::Error for Errno {}
