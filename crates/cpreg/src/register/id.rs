//! [`RegisterId`]: the 64-bit "one reg" id, encoded and decoded.
//!
//! [`super::name`] has the names, [`super::known`] constants for well-known registers, and
//! [`super::coprocessor`] QEMU's AArch32 ids.
//!
//! | bits | meaning |
//! |---|---|
//! | 63:56 | architecture: 0x40 ARM, 0x60 ARM64 |
//! | 55:52 | log2 of the size in bytes: 0 (U8) to 8 (U2048) |
//! | 51:28 | zero, except bit 29 of QEMU's AArch32 ids (set: not the Secure instance) |
//! | 27:16 | class (ARM64) or coprocessor (ARM, 14 or 15) |
//! | 15:0 | class specific |
//!
//! | class | id | low bits |
//! |---|---|---|
//! | core | 0x60s0_0000_0010_nnnn | offset in `struct kvm_regs`, in 32-bit words |
//! | demux | 0x6020_0000_0011_iivv | 15:8 register (0: CCSIDR), 7:0 value of its selector |
//! | system register | 0x6030_0000_0013_nnnn | op0 15:14, op1 13:11, CRn 10:7, CRm 6:3, op2 2:0 |
//! | firmware | 0x6030_0000_0014_nnnn | number |
//! | SVE | 0x60s0_0000_0015_nnnn | (1) |
//! | firmware bitmap | 0x6030_0000_0016_nnnn | number |
//! | coprocessor | 0x40s0_0000_n00c_nnnn | CRn 14:11, CRm 10:7, opc1 6:3, opc2 2:0 (QEMU, TCG) |
//!
//! (1) 0x0000 Z, 0x0400 P, 0x0600 FFR, each with number 9:5 and slice 4:0; 0xffff VLS.
//!
//! Sources: Linux v7.3-rc7 `include/uapi/linux/kvm.h` and `arch/arm64/include/uapi/asm/kvm.h`,
//! and QEMU 11.0 `target/arm/cpregs.h` and `target/arm/kvm-consts.h`.

use super::coprocessor::CoprocessorRegister;

const ARCHITECTURE_ARM64: u64 = 0x60 << 56;
const SIZE_SHIFT: u32 = 52;
const SIZE_U32: u64 = 2 << SIZE_SHIFT;
const SIZE_U64: u64 = 3 << SIZE_SHIFT;
const SIZE_U128: u64 = 4 << SIZE_SHIFT;
const SIZE_U256: u64 = 5 << SIZE_SHIFT;
const SIZE_U512: u64 = 6 << SIZE_SHIFT;
const SIZE_U2048: u64 = 8 << SIZE_SHIFT;

const CLASS_CORE: u64 = 0x0010 << 16;
const CLASS_DEMUX: u64 = 0x0011 << 16;
const CLASS_SYSTEM_REGISTER: u64 = 0x0013 << 16;
const CLASS_FIRMWARE: u64 = 0x0014 << 16;
const CLASS_SVE: u64 = 0x0015 << 16;
const CLASS_FIRMWARE_BITMAP: u64 = 0x0016 << 16;

const SVE_P: u64 = 0x0400;
const SVE_FFR: u64 = 0x0600;
const SVE_VLS: u64 = 0xffff;

/// Id of one register, as in `KVM_GET_ONE_REG` and in QEMU's streams.
///
/// Bits 63:56 architecture, 55:52 log2 of the size in bytes, 27:16 class, 15:0 class specific
/// (Linux `include/uapi/linux/kvm.h` and `arch/arm64/include/uapi/asm/kvm.h`). The set of ids is
/// open. Any `u64` is an id, but not every id belongs to a register.
///
/// Ids are ordered by their bits. QEMU sorts and writes registers in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegisterId(u64);

/// Class of a [`RegisterId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RegisterClass {
    /// A field of `struct kvm_regs`: general purpose and vector registers, PC, PSTATE.
    Core,
    /// A register that a selector chooses. Linux has only CCSIDR in this class, chosen by CSSELR.
    Demux,
    /// An AArch64 system register, by encoding.
    SystemRegister,
    /// State of the firmware that KVM emulates: the PSCI version and the workarounds.
    Firmware,
    /// An SVE vector or predicate register, or the set of vector lengths.
    Sve,
    /// A bitmap of firmware services that the guest may call.
    FirmwareBitmap,
    /// An AArch32 cp14 or cp15 register. Only QEMU's TCG has such ids.
    Coprocessor,
    /// Any other id.
    Unknown,
}

/// Decoded [`RegisterId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DecodedId {
    /// A field of `struct kvm_regs`.
    ///
    /// Decoding accepts any offset and size, because kernels before v5.2 listed ids of this class
    /// that name no field.
    Core {
        /// Offset of the field in the structure, in 32-bit words.
        word: u16,
    },
    /// A register that a selector chooses.
    Demux {
        /// Index of the register: 0 is CCSIDR.
        index: u8,
        /// Value of the selector. For CCSIDR this is the value of CSSELR (level and instruction
        /// bit).
        selector: u8,
    },
    /// An AArch64 system register.
    SystemRegister(SystemRegister),
    /// State of the emulated firmware.
    Firmware {
        /// Number: 0 is `PSCI_VERSION`, 1 to 3 the workarounds.
        number: u16,
    },
    /// Part of an SVE vector register.
    SveZ {
        /// Number of the register, 0 to 31.
        register: u8,
        /// Index of the 2048-bit part; only 0 is in use.
        slice: u8,
    },
    /// Part of an SVE predicate register.
    SveP {
        /// Number of the register, 0 to 15.
        register: u8,
        /// Index of the 256-bit part; only 0 is in use.
        slice: u8,
    },
    /// Part of the SVE first fault register.
    SveFfr {
        /// Index of the 256-bit part; only 0 is in use.
        slice: u8,
    },
    /// The set of SVE vector lengths, in eight 64-bit words. A length of n quadwords (128 bits
    /// each) has bit n - 1.
    SveVls,
    /// A bitmap of firmware services.
    FirmwareBitmap {
        /// Number: 0 `STD`, 1 `STD_HYP`, 2 `VENDOR_HYP`, 3 `VENDOR_HYP_BMAP_2`.
        number: u16,
    },
    /// An AArch32 register.
    Coprocessor(CoprocessorRegister),
    /// Any other id.
    Unknown,
}

/// Encoding of an AArch64 system register, as in `MRS` and `MSR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct SystemRegister {
    /// op0, 2 bits.
    pub op0: u8,
    /// op1, 3 bits.
    pub op1: u8,
    /// CRn, 4 bits.
    pub crn: u8,
    /// CRm, 4 bits.
    pub crm: u8,
    /// op2, 3 bits.
    pub op2: u8,
}

impl RegisterId {
    /// Returns the id with exactly these bits.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the id's bits.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the id of the 64-bit general purpose register X`number`, 0 to 30.
    ///
    /// Higher numbers give the id of a later field of `struct kvm_regs`, or of no field.
    pub const fn x(number: u8) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U64 | CLASS_CORE | (2 * number as u64))
    }

    /// Returns the id of the 128-bit vector register V`number`, 0 to 31, of a vCPU without SVE.
    ///
    /// Higher numbers give the id of a later field of `struct kvm_regs`, or of no field.
    pub const fn v(number: u8) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U128 | CLASS_CORE | (0x54 + 4 * number as u64))
    }

    /// Returns the id of the 64-bit field of `struct kvm_regs` at this offset in 32-bit words.
    pub const fn core_u64(word: u16) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U64 | CLASS_CORE | word as u64)
    }

    /// Returns the id of the 32-bit field of `struct kvm_regs` at this offset in 32-bit words.
    pub const fn core_u32(word: u16) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U32 | CLASS_CORE | word as u64)
    }

    /// Returns the id of CCSIDR for the value `selector` of CSSELR.
    ///
    /// Bit 0 of `selector` selects the instruction cache, and bits 3:1 hold the level minus one.
    pub const fn ccsidr(selector: u8) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U32 | CLASS_DEMUX | selector as u64)
    }

    /// Returns the id of the AArch64 system register with this encoding.
    ///
    /// Bits above each field's width (2, 3, 4, 4 and 3) are dropped.
    pub const fn sysreg(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> Self {
        Self(
            ARCHITECTURE_ARM64
                | SIZE_U64
                | CLASS_SYSTEM_REGISTER
                | (((op0 & 3) as u64) << 14)
                | (((op1 & 7) as u64) << 11)
                | (((crn & 15) as u64) << 7)
                | (((crm & 15) as u64) << 3)
                | ((op2 & 7) as u64),
        )
    }

    /// Returns the id of the firmware register with this number.
    pub const fn firmware(number: u16) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U64 | CLASS_FIRMWARE | number as u64)
    }

    /// Returns the id of the bitmap of firmware services with this number.
    pub(crate) const fn firmware_bitmap(number: u16) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U64 | CLASS_FIRMWARE_BITMAP | number as u64)
    }

    /// Returns the id of 2048 bits of the SVE vector register Z`register`.
    ///
    /// Bits above 4:0 are dropped.
    pub const fn sve_z(register: u8, slice: u8) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U2048 | CLASS_SVE | sve_number(register & 31, slice))
    }

    /// Returns the id of 256 bits of the SVE predicate register P`register`.
    ///
    /// Bits above 3:0 and 4:0 are dropped.
    pub(crate) const fn sve_p(register: u8, slice: u8) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U256 | CLASS_SVE | SVE_P | sve_number(register & 15, slice))
    }

    /// Returns the id of 256 bits of the SVE first fault register.
    ///
    /// Bits of `slice` above 4:0 are dropped.
    pub(crate) const fn sve_ffr(slice: u8) -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U256 | CLASS_SVE | SVE_FFR | sve_number(0, slice))
    }

    /// Returns the id of the set of SVE vector lengths; see [`Self::SVE_VLS`].
    pub(super) const fn sve_vls() -> Self {
        Self(ARCHITECTURE_ARM64 | SIZE_U512 | CLASS_SVE | SVE_VLS)
    }

    /// Returns the id of the AArch32 register with this encoding, as in QEMU's streams under TCG.
    ///
    /// Bits above each field's width are dropped.
    pub const fn coprocessor(register: CoprocessorRegister) -> Self {
        Self(register.to_raw())
    }

    /// Returns the number of bytes of the register's value.
    ///
    /// Returns `None` if Linux does not define the id's size code (U8 to U2048).
    pub const fn size_bytes(self) -> Option<usize> {
        let code = (self.0 >> SIZE_SHIFT) & 15;
        if code <= 8 { Some(1 << code) } else { None }
    }

    /// Returns the id's class.
    pub const fn class(self) -> RegisterClass {
        match self.decode() {
            DecodedId::Core { .. } => RegisterClass::Core,
            DecodedId::Demux { .. } => RegisterClass::Demux,
            DecodedId::SystemRegister(_) => RegisterClass::SystemRegister,
            DecodedId::Firmware { .. } => RegisterClass::Firmware,
            DecodedId::SveZ { .. }
            | DecodedId::SveP { .. }
            | DecodedId::SveFfr { .. }
            | DecodedId::SveVls => RegisterClass::Sve,
            DecodedId::FirmwareBitmap { .. } => RegisterClass::FirmwareBitmap,
            DecodedId::Coprocessor(_) => RegisterClass::Coprocessor,
            DecodedId::Unknown => RegisterClass::Unknown,
        }
    }

    /// Decodes the id.
    ///
    /// Returns [`DecodedId::Unknown`] unless the constructor of the class returns exactly this id
    /// from the decoded parts. Ids of the core class may have any size.
    pub const fn decode(self) -> DecodedId {
        let low = (self.0 & 0xffff) as u16;
        // Each class checks the size; all other bits must match.
        let head = self.0 & !(15 << SIZE_SHIFT) & !0xffff;
        let size = self.0 & (15 << SIZE_SHIFT);
        // Most registers of a vCPU are of this class.
        if head == ARCHITECTURE_ARM64 | CLASS_SYSTEM_REGISTER && size == SIZE_U64 {
            return DecodedId::SystemRegister(SystemRegister {
                op0: ((low >> 14) & 3) as u8,
                op1: ((low >> 11) & 7) as u8,
                crn: ((low >> 7) & 15) as u8,
                crm: ((low >> 3) & 15) as u8,
                op2: (low & 7) as u8,
            });
        }
        if let Some(register) = CoprocessorRegister::from_raw(self.0) {
            return DecodedId::Coprocessor(register);
        }
        if head == ARCHITECTURE_ARM64 | CLASS_CORE {
            DecodedId::Core { word: low }
        } else if head == ARCHITECTURE_ARM64 | CLASS_DEMUX && size == SIZE_U32 {
            let [index, selector] = low.to_be_bytes();
            DecodedId::Demux { index, selector }
        } else if head == ARCHITECTURE_ARM64 | CLASS_FIRMWARE && size == SIZE_U64 {
            DecodedId::Firmware { number: low }
        } else if head == ARCHITECTURE_ARM64 | CLASS_FIRMWARE_BITMAP && size == SIZE_U64 {
            DecodedId::FirmwareBitmap { number: low }
        } else if head == ARCHITECTURE_ARM64 | CLASS_SVE {
            self.decode_sve(low)
        } else {
            DecodedId::Unknown
        }
    }

    const fn decode_sve(self, low: u16) -> DecodedId {
        let register = ((low >> 5) & 31) as u8;
        let slice = (low & 31) as u8;
        if self.0 == Self::sve_vls().0 {
            DecodedId::SveVls
        } else if self.0 == Self::sve_z(register, slice).0 {
            DecodedId::SveZ { register, slice }
        } else if self.0 == Self::sve_p(register, slice).0 {
            DecodedId::SveP { register, slice }
        } else if self.0 == Self::sve_ffr(slice).0 {
            DecodedId::SveFfr { slice }
        } else {
            DecodedId::Unknown
        }
    }

    /// Returns the encoding of an AArch64 system register, or `None` for an id of another class.
    pub const fn system_register(self) -> Option<SystemRegister> {
        match self.decode() {
            DecodedId::SystemRegister(register) => Some(register),
            _ => None,
        }
    }
}

const fn sve_number(register: u8, slice: u8) -> u64 {
    ((register as u64) << 5) | (slice & 31) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_class_decodes() {
        let cases = [
            (
                0x6030_0000_0010_003e,
                DecodedId::Core { word: 0x3e },
                Some(8),
            ),
            (
                0x6040_0000_0010_0054,
                DecodedId::Core { word: 0x54 },
                Some(16),
            ),
            (
                0x6020_0000_0010_00d5,
                DecodedId::Core { word: 0xd5 },
                Some(4),
            ),
            (
                0x6020_0000_0011_0003,
                DecodedId::Demux {
                    index: 0,
                    selector: 3,
                },
                Some(4),
            ),
            (
                0x6030_0000_0013_c103,
                DecodedId::SystemRegister(SystemRegister {
                    op0: 3,
                    op1: 0,
                    crn: 2,
                    crm: 0,
                    op2: 3,
                }),
                Some(8),
            ),
            (
                0x6030_0000_0014_0000,
                DecodedId::Firmware { number: 0 },
                Some(8),
            ),
            (
                0x6080_0000_0015_03e0,
                DecodedId::SveZ {
                    register: 31,
                    slice: 0,
                },
                Some(256),
            ),
            (
                0x6050_0000_0015_05e0,
                DecodedId::SveP {
                    register: 15,
                    slice: 0,
                },
                Some(32),
            ),
            (
                0x6050_0000_0015_0600,
                DecodedId::SveFfr { slice: 0 },
                Some(32),
            ),
            (0x6060_0000_0015_ffff, DecodedId::SveVls, Some(64)),
            (
                0x6030_0000_0016_0003,
                DecodedId::FirmwareBitmap { number: 3 },
                Some(8),
            ),
            (
                0x4020_0000_200e_0298,
                DecodedId::Coprocessor(CoprocessorRegister {
                    coprocessor: 14,
                    wide: false,
                    secure: false,
                    crn: 0,
                    crm: 5,
                    opc1: 3,
                    opc2: 0,
                }),
                Some(4),
            ),
        ];
        for (raw, decoded, size) in cases {
            assert_eq!(RegisterId::from_raw(raw).decode(), decoded, "{raw:#x}");
            assert_eq!(RegisterId::from_raw(raw).size_bytes(), size, "{raw:#x}");
        }
    }

    #[test]
    fn an_unexpected_bit_makes_an_id_unknown() {
        let cases = [
            0,
            u64::MAX,
            // A system register that claims another size, or has a bit in 51:28.
            0x6020_0000_0013_c103,
            0x6030_0000_1013_c103,
            0x6030_0001_0013_c103,
            // An unsupported architecture or class.
            0x2030_0000_0013_c103,
            0x6020_0000_0012_0000,
            // SVE: Z with P's size, P16, a second FFR.
            0x6050_0000_0015_0000,
            0x6050_0000_0015_0620,
        ];
        for raw in cases {
            assert_eq!(
                RegisterId::from_raw(raw).decode(),
                DecodedId::Unknown,
                "{raw:#x}"
            );
            assert_eq!(
                RegisterId::from_raw(raw).class(),
                RegisterClass::Unknown,
                "{raw:#x}"
            );
        }
        assert_eq!(
            RegisterId::from_raw(0x60f0_0000_0013_c103).size_bytes(),
            None
        );
    }

    /// Generates every id that a constructor can return.
    fn constructed_ids() -> impl Strategy<Value = RegisterId> {
        prop_oneof![
            any::<(u8, u8, u8, u8, u8)>()
                .prop_map(|(a, b, c, d, e)| RegisterId::sysreg(a, b, c, d, e)),
            any::<u16>().prop_map(RegisterId::core_u64),
            any::<u16>().prop_map(RegisterId::core_u32),
            any::<u8>().prop_map(RegisterId::ccsidr),
            any::<u16>().prop_map(RegisterId::firmware),
            any::<u16>().prop_map(RegisterId::firmware_bitmap),
            any::<(u8, u8)>().prop_map(|(n, slice)| RegisterId::sve_z(n, slice)),
            any::<(u8, u8)>().prop_map(|(n, slice)| RegisterId::sve_p(n, slice)),
            any::<u8>().prop_map(RegisterId::sve_ffr),
        ]
    }

    /// Encodes `decoded` again, with the size of `id`.
    fn encode(id: RegisterId, decoded: DecodedId) -> RegisterId {
        match decoded {
            DecodedId::Core { word } => {
                RegisterId::from_raw((id.raw() & !0xffff) | u64::from(word))
            }
            DecodedId::Demux { index, selector } => {
                RegisterId::from_raw(RegisterId::ccsidr(selector).raw() | u64::from(index) << 8)
            }
            DecodedId::SystemRegister(SystemRegister {
                op0,
                op1,
                crn,
                crm,
                op2,
            }) => RegisterId::sysreg(op0, op1, crn, crm, op2),
            DecodedId::Firmware { number } => RegisterId::firmware(number),
            DecodedId::SveZ { register, slice } => RegisterId::sve_z(register, slice),
            DecodedId::SveP { register, slice } => RegisterId::sve_p(register, slice),
            DecodedId::SveFfr { slice } => RegisterId::sve_ffr(slice),
            DecodedId::SveVls => RegisterId::SVE_VLS,
            DecodedId::FirmwareBitmap { number } => RegisterId::firmware_bitmap(number),
            DecodedId::Coprocessor(register) => RegisterId::coprocessor(register),
            DecodedId::Unknown => id,
        }
    }

    proptest! {
        #[test]
        fn constructed_ids_decode_and_encode_again(id in constructed_ids()) {
            prop_assert_ne!(id.class(), RegisterClass::Unknown);
            prop_assert_eq!(encode(id, id.decode()), id);
        }

        #[test]
        fn decoded_ids_encode_again(
            architecture in prop_oneof![Just(0x40_u64), Just(0x60), any::<u8>().prop_map(u64::from)],
            size in 0..16_u64,
            class in prop_oneof![0x0e..=0x17_u64, 0..0x1000_u64],
            high in prop_oneof![Just(0_u64), Just(2), 0..16_u64],
            low in any::<u16>(),
        ) {
            let raw = architecture << 56 | size << 52 | high << 28 | class << 16 | u64::from(low);
            let id = RegisterId::from_raw(raw);
            prop_assert_eq!(encode(id, id.decode()), id);
        }
    }
}
