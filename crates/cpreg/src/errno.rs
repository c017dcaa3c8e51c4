//! [`Errno`]: a Linux error number, as programs print it and as KVM returns it.

use core::error::Error;
use core::fmt;

/// Error number of Linux on arm64 (`include/uapi/asm-generic/errno.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub u16);

impl Errno {
    /// `Operation not permitted`.
    ///
    /// In a message of QEMU, a hook returned -1 for any reason. From KVM, either SVE of the vCPU is
    /// not finalized yet, or SVE is finalized and the vector lengths are fixed
    /// (`arch/arm64/kvm/guest.c`).
    pub const EPERM: Self = Self(1);
    /// `No such file or directory`. For a register: KVM lacks the register.
    pub const ENOENT: Self = Self(2);
    /// `Interrupted system call`: a signal was received.
    pub const EINTR: Self = Self(4);
    /// `Input/output error`.
    pub const EIO: Self = Self(5);
    /// `Argument list too long`. For a list of registers: the buffer is too small.
    pub const E2BIG: Self = Self(7);
    /// `Exec format error`. From KVM: the vCPU is not initialised.
    pub const ENOEXEC: Self = Self(8);
    /// `Bad address`.
    pub const EFAULT: Self = Self(14);
    /// `Device or resource busy`. For a register: its value is fixed once a vCPU or the VM has run.
    pub const EBUSY: Self = Self(16);
    /// `Invalid argument`. For a register: KVM does not accept the value.
    pub const EINVAL: Self = Self(22);

    /// Error numbers with the messages of glibc's `strerror`.
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

    /// Returns the message of glibc's `strerror`, or `None` for a number outside this module's
    /// table.
    pub fn message(self) -> Option<&'static str> {
        Self::MESSAGES
            .into_iter()
            .find_map(|(number, message)| (number == self).then_some(message))
    }

    /// Returns the error number whose message is a prefix of `text`, and the message's length in
    /// bytes.
    pub fn parse_prefix(text: &str) -> Option<(Self, usize)> {
        Self::MESSAGES
            .into_iter()
            .find(|(_, message)| text.starts_with(message))
            .map(|(number, message)| (number, message.len()))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => f.write_str(message),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl Error for Errno {}
