//! [`RegisterId`]: the 64-bit "one reg" id, built and taken apart.

/// The id of one register, as `KVM_GET_ONE_REG` takes it and as QEMU writes it into a stream.
///
/// Bits 63:56 architecture, 55:52 log2 of the size in bytes, 27:16 class, 15:0 class specific
/// (Linux `include/uapi/linux/kvm.h` and `arch/arm64/include/uapi/asm/kvm.h`).
/// The set is open: any `u64` is an id, though perhaps of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegisterId(u64);

impl RegisterId {
    /// The id with exactly these bits.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The id's bits.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The AArch64 system register with this encoding.
    ///
    /// Bits above each field's width (2, 3, 4, 4 and 3) are dropped.
    pub const fn sysreg(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> Self {
        Self(
            0x6030_0000_0013_0000
                | (((op0 & 3) as u64) << 14)
                | (((op1 & 7) as u64) << 11)
                | (((crn & 15) as u64) << 7)
                | (((crm & 15) as u64) << 3)
                | ((op2 & 7) as u64),
        )
    }
}
