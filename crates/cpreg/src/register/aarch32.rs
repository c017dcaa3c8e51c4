//! [`Counterpart`]: the AArch64 register that holds the same state as an AArch32 register, and
//! QEMU's keys for both.
//!
//! QEMU's key for a register, which its messages under TCG print, is the low half of the id. Bit 15
//! is set for a 64-bit register, and bit 28 for an AArch64 register:
//! `system register 0x200e3c86`, `system register 0x1013c030`.
//!
//! Names and counterparts are in the generated tables; see [`super::name`] for the spellings.

use super::coprocessor::{ARCHITECTURE_ARM, CoprocessorRegister, SIZE_U32, SIZE_U64};
use super::id::{DecodedId, RegisterId};
use super::tables;

/// Bits of an id that name the architecture (`KVM_REG_ARCH_MASK`).
const ARCHITECTURE_MASK: u64 = 0xff00_0000_0000_0000;
const ARCHITECTURE_ARM64_SYSREG: u64 = 0x6030_0000_0013_0000;
const AARCH64_KEY: u64 = 0x1013;
const WIDE_KEY: u64 = 1 << 15;

/// AArch64 register that holds the same state as an AArch32 register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Counterpart {
    /// Id of the AArch64 register.
    pub id: RegisterId,
    /// Most significant bit of the AArch32 register within the AArch64 one.
    pub msb: u8,
    /// Least significant bit of the AArch32 register within the AArch64 one.
    pub lsb: u8,
    /// `true` if both have the same fields in these bits.
    pub(crate) same_fields: bool,
}

impl RegisterId {
    /// Returns the id of the 32-bit AArch32 register with this encoding, not the Secure instance.
    ///
    /// Bits above each field's width are dropped.
    pub const fn aarch32(coprocessor: u8, opc1: u8, crn: u8, crm: u8, opc2: u8) -> Self {
        Self::coprocessor(CoprocessorRegister {
            coprocessor,
            wide: false,
            secure: false,
            crn,
            crm,
            opc1,
            opc2,
        })
    }

    /// Returns the id of the register with this key in QEMU under TCG.
    ///
    /// QEMU uses the key in its messages and internally.
    pub(crate) const fn from_qemu_key(key: u32) -> Option<Self> {
        let key = key as u64;
        let id = if key >> 16 == AARCH64_KEY {
            Self::from_raw(ARCHITECTURE_ARM64_SYSREG | (key & 0xffff))
        } else if key & WIDE_KEY != 0 {
            Self::from_raw(ARCHITECTURE_ARM | SIZE_U64 | (key & !WIDE_KEY))
        } else {
            Self::from_raw(ARCHITECTURE_ARM | SIZE_U32 | key)
        };
        match id.qemu_key() {
            Some(own_key) if own_key as u64 == key => Some(id),
            _ => None,
        }
    }

    /// Returns the register's key in QEMU under TCG.
    ///
    /// Returns `None` unless the id is that of a system register or an AArch32 register.
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is known")]
    pub const fn qemu_key(self) -> Option<u32> {
        match self.decode() {
            DecodedId::SystemRegister(_) => {
                Some((AARCH64_KEY << 16 | (self.raw() & 0xffff)) as u32)
            }
            DecodedId::Coprocessor(register) => {
                let wide = if register.wide { WIDE_KEY } else { 0 };
                Some(((self.raw() & 0xffff_ffff) | wide) as u32)
            }
            _ => None,
        }
    }

    /// Returns the AArch64 register that holds the same state as this AArch32 register, if known.
    ///
    /// QEMU under TCG lists both, so a change of one requires a change of the other. In every
    /// recorded stream with both registers, their values are equal. Secure instances have no
    /// counterpart.
    pub fn counterpart(self) -> Option<Counterpart> {
        // Plans ask this of every register, and few VMs have AArch32 registers.
        if self.raw() & ARCHITECTURE_MASK != ARCHITECTURE_ARM & ARCHITECTURE_MASK {
            return None;
        }
        let index = tables::COUNTERPARTS
            .binary_search_by_key(&self.raw(), |row| row.0)
            .ok()?;
        let &(_, id, lsb, same_fields) = tables::COUNTERPARTS.get(index)?;
        let wide = matches!(self.decode(), DecodedId::Coprocessor(register) if register.wide);
        let msb = if wide { 63 } else { lsb + 31 };
        Some(Counterpart {
            id: Self::from_raw(id),
            msb,
            lsb,
            same_fields,
        })
    }

    /// Returns the AArch32 registers whose [`counterpart`](Self::counterpart) this AArch64 register
    /// is: at most a few.
    pub fn aarch32_views(self) -> impl Iterator<Item = Self> {
        tables::COUNTERPARTS
            .iter()
            .filter(move |row| row.1 == self.raw())
            .map(|row| Self::from_raw(row.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn id_dfr0_has_two_views() {
        let view = RegisterId::from_raw(0x4020_0000_200f_0082);
        assert_eq!(view, RegisterId::aarch32(15, 0, 0, 1, 2));
        assert_eq!(
            view.counterpart(),
            Some(Counterpart {
                id: RegisterId::ID_DFR0_EL1,
                msb: 31,
                lsb: 0,
                same_fields: true
            })
        );
        assert!(RegisterId::ID_DFR0_EL1.aarch32_views().eq([view]));
        assert_eq!(RegisterId::TCR2_EL1.aarch32_views().count(), 0);
    }

    #[test]
    fn halves_and_wide_registers() {
        let mair: Vec<_> = RegisterId::MAIR_EL1
            .aarch32_views()
            .map(|id| (id.to_string(), id.counterpart().map(|c| (c.msb, c.lsb))))
            .collect();
        assert_eq!(
            mair,
            [
                ("MAIR0".to_string(), Some((31, 0))),
                ("MAIR1".to_string(), Some((63, 32)))
            ]
        );
        let wide = RegisterId::from_raw(0x4030_0000_200f_0380);
        assert_eq!(
            wide.counterpart().map(|c| (c.id, c.msb)),
            Some((RegisterId::PAR_EL1, 63))
        );
    }

    #[test]
    fn the_secure_instance_has_no_counterpart() {
        assert!(
            RegisterId::from_raw(0x4020_0000_200f_6801)
                .counterpart()
                .is_some()
        );
        assert_eq!(
            RegisterId::from_raw(0x4020_0000_000f_6801).counterpart(),
            None
        );
    }

    #[test]
    fn counterparts_are_in_order_and_of_two_kinds() {
        assert!(tables::COUNTERPARTS.is_sorted_by(|a, b| a.0 < b.0));
        for row in tables::COUNTERPARTS {
            let id = RegisterId::from_raw(row.0);
            assert!(
                matches!(id.decode(), DecodedId::Coprocessor(r) if !r.secure),
                "{id}"
            );
            assert!(
                RegisterId::from_raw(row.1).system_register().is_some(),
                "{id}"
            );
            assert!(matches!(row.2, 0 | 32), "{id}");
        }
    }

    #[test]
    fn keys_of_qemu() {
        let cases = [
            (0x1013_c030, 0x6030_0000_0013_c030),
            (0x200e_3c86, 0x4020_0000_200e_3c86),
            (0x200f_8380, 0x4030_0000_200f_0380),
            (0x000f_6801, 0x4020_0000_000f_6801),
        ];
        for (key, id) in cases {
            let id = RegisterId::from_raw(id);
            assert_eq!(RegisterId::from_qemu_key(key), Some(id), "{key:#x}");
            assert_eq!(id.qemu_key(), Some(key), "{id}");
        }
        assert_eq!(RegisterId::from_qemu_key(0), None);
        assert_eq!(RegisterId::from_qemu_key(0x1014_0000), None);
        assert_eq!(RegisterId::PSCI_VERSION.qemu_key(), None);
    }

    proptest! {
        #[test]
        fn keys_round_trip(key: u32) {
            if let Some(id) = RegisterId::from_qemu_key(key) {
                prop_assert_eq!(id.qemu_key(), Some(key));
            }
        }

        #[test]
        fn encodings_round_trip(
            coprocessor in 14..=15_u8, wide: bool, secure: bool,
            crn in 0..16_u8, crm in 0..16_u8, opc1 in 0..8_u8, opc2 in 0..8_u8,
        ) {
            let (crn, opc2) = if wide { (0, 0) } else { (crn, opc2) };
            let register = CoprocessorRegister { coprocessor, wide, secure, crn, crm, opc1, opc2 };
            let id = RegisterId::coprocessor(register);
            prop_assert_eq!(id.decode(), DecodedId::Coprocessor(register));
            prop_assert_eq!(id.size_bytes(), Some(if wide { 8 } else { 4 }));
        }
    }
}
