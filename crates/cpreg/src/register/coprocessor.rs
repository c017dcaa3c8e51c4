//! [`CoprocessorRegister`]: the encoding of an AArch32 cp14 or cp15 register, which QEMU lists
//! under TCG.
//!
//! KVM has ids only for AArch64 registers. QEMU under TCG puts both views into a stream, with its
//! own ids (`target/arm/cpregs.h`, `cpreg_to_kvm_id`; QEMU 11.0). These ids differ from the ids of
//! 32-bit Arm kernels:
//!
//! | bits | 32-bit register (MRC, MCR) | 64-bit register (MRRC, MCRR) |
//! |---|---|---|
//! | 63:56 | 0x40 | 0x40 |
//! | 55:52 | 2 | 3 |
//! | 29 | 0 the Secure instance, 1 otherwise | the same |
//! | 19:16 | coprocessor, 14 or 15 | the same |
//! | 14:11 | CRn | 0 |
//! | 10:7 | CRm | CRm |
//! | 6:3 | opc1 | opc1 |
//! | 2:0 | opc2 | 0 |
//!
//! [`super::aarch32`] finds the AArch64 register that holds the same state.

pub(super) const ARCHITECTURE_ARM: u64 = 0x40 << 56;
pub(super) const SIZE_U32: u64 = 2 << 52;
pub(super) const SIZE_U64: u64 = 3 << 52;
const NOT_SECURE: u64 = 1 << 29;

/// Encoding of an AArch32 register, as in the instructions that access it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct CoprocessorRegister {
    /// Number of the coprocessor: 14 (debug, trace) or 15 (system).
    pub coprocessor: u8,
    /// `true` for a 64-bit register, accessed by MRRC and MCRR; `crn` and `opc2` are then 0.
    pub wide: bool,
    /// `true` for the Secure instance of a banked register.
    pub secure: bool,
    /// CRn, 4 bits.
    pub crn: u8,
    /// CRm, 4 bits.
    pub crm: u8,
    /// opc1, 3 bits, or 4 if `wide`.
    pub opc1: u8,
    /// opc2, 3 bits.
    pub opc2: u8,
}

impl CoprocessorRegister {
    /// Returns QEMU's id. Bits above each field's width are dropped.
    pub(super) const fn to_raw(self) -> u64 {
        let security = if self.secure { 0 } else { NOT_SECURE };
        let register = if self.wide {
            SIZE_U64 | ((self.opc1 & 15) as u64) << 3
        } else {
            SIZE_U32
                | ((self.crn & 15) as u64) << 11
                | ((self.opc1 & 7) as u64) << 3
                | (self.opc2 & 7) as u64
        };
        ARCHITECTURE_ARM
            | security
            | ((self.coprocessor & 15) as u64) << 16
            | register
            | ((self.crm & 15) as u64) << 7
    }

    /// Returns the encoding in one of QEMU's ids, or `None` if the id has unexpected bits.
    pub(super) const fn from_raw(raw: u64) -> Option<Self> {
        let register = Self {
            coprocessor: ((raw >> 16) & 15) as u8,
            wide: raw & (15 << 52) == SIZE_U64,
            secure: raw & NOT_SECURE == 0,
            crn: ((raw >> 11) & 15) as u8,
            crm: ((raw >> 7) & 15) as u8,
            opc1: ((raw >> 3) & 15) as u8,
            opc2: (raw & 7) as u8,
        };
        if matches!(register.coprocessor, 14 | 15) && register.to_raw() == raw {
            Some(register)
        } else {
            None
        }
    }
}
