//! [`Errno`]: what the kernel answered, and what that means for the operation that was tried.
//!
//! What to do about it does not live here: that depends on the plan ([`crate::load`]).

use std::fmt;

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

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(i32::from(self.0)).fmt(f)
    }
}

impl std::error::Error for Errno {}
