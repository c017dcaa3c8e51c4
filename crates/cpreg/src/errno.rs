//! [`Errno`]: an error number of Linux, as programs print it and as KVM answers.

use core::error::Error;
use core::fmt;

/// An error number of Linux on arm64 (`include/uapi/asm-generic/errno.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub u16);

impl Errno {
    /// `Operation not permitted`: in QEMU the -1 of a hook, whatever went wrong in it; of KVM, that the vCPU's SVE is not
    /// finalized, or that it is and its vector lengths are fixed (`arch/arm64/kvm/guest.c`).
    pub const EPERM: Self = Self(1);
    /// `No such file or directory`: of a register, that KVM has not got it.
    pub const ENOENT: Self = Self(2);
    /// `Interrupted system call`: a signal came.
    pub const EINTR: Self = Self(4);
    /// `Input/output error`
    pub const EIO: Self = Self(5);
    /// `Argument list too long`: of a list of registers, that the room for it is too small.
    pub const E2BIG: Self = Self(7);
    /// `Exec format error`: of KVM, that the vCPU was not initialised.
    pub const ENOEXEC: Self = Self(8);
    /// `Bad address`
    pub const EFAULT: Self = Self(14);
    /// `Device or resource busy`: of a register, that it cannot change after a vCPU or the VM ran.
    pub const EBUSY: Self = Self(16);
    /// `Invalid argument`: of a register, that KVM does not take the value.
    pub const EINVAL: Self = Self(22);

    /// Error numbers with a name, which is what glibc's `strerror` says.
    const MESSAGES: [(Self, &'static str); 12] = [
        (Self::EPERM, "Operation not permitted"),
        (Self::ENOENT, "No such file or directory"),
        (Self::EIO, "Input/output error"),
        (Self(6), "No such device or address"),
        (Self::E2BIG, "Argument list too long"),
        (Self::ENOEXEC, "Exec format error"),
        (Self(12), "Cannot allocate memory"),
        (Self(13), "Permission denied"),
        (Self::EFAULT, "Bad address"),
        (Self::EBUSY, "Device or resource busy"),
        (Self(19), "No such device"),
        (Self::EINVAL, "Invalid argument"),
    ];

    /// What `strerror` says.
    pub fn message(self) -> Option<&'static str> {
        Self::MESSAGES
            .into_iter()
            .find_map(|(number, name)| (number == self).then_some(name))
    }

    /// The error number that this text begins with, by name, and how long the name is.
    pub fn parse_prefix(text: &str) -> Option<(Self, usize)> {
        Self::MESSAGES
            .into_iter()
            .find(|(_, name)| text.starts_with(name))
            .map(|(number, name)| (number, name.len()))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl Error for Errno {}
