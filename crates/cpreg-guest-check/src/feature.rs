//! Instructions by HWCAP bit, with the fields of ID registers that Linux derives the bit from.
//!
//! Bits: Linux, `arch/arm64/include/uapi/asm/hwcap.h`. Fields: Linux, `elf_hwcaps.rst`.
//! Words: GNU as 2.44. Every instruction works at EL0; its operands are x0 to x3 (a buffer of 256
//! bytes, twice its second half, and a length), x1 as a result, and vector registers.

/// Register with HWCAP bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HwcapWord {
    /// AT_HWCAP.
    First,
    /// AT_HWCAP2.
    Second,
}

/// Field of an ID register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdField {
    /// Name of the register.
    pub register: &'static str,
    /// Lowest bit of the field, which has four bits.
    pub shift: u32,
    /// Lowest value with the feature.
    pub min: u64,
    /// `true` if 15 stands for a missing feature.
    pub is_signed: bool,
}

impl IdField {
    const fn new(register: &'static str, shift: u32, min: u64) -> Self {
        Self {
            register,
            shift,
            min,
            is_signed: false,
        }
    }

    const fn signed(register: &'static str, shift: u32, min: u64) -> Self {
        Self {
            register,
            shift,
            min,
            is_signed: true,
        }
    }

    /// Returns the field in a value of the register.
    pub const fn value(self, register: u64) -> u64 {
        register >> self.shift & 0xf
    }

    /// Returns `true` if the field states the feature.
    pub const fn has_feature(self, register: u64) -> bool {
        let value = self.value(register);
        value >= self.min && !(self.is_signed && value == 0xf)
    }
}

/// HWCAP bit with an instruction that needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Linux's name of the bit, in lower case.
    pub name: &'static str,
    /// Register with the bit.
    pub word: HwcapWord,
    /// Number of the bit.
    pub bit: u32,
    /// An instruction that is undefined without the feature.
    pub instruction: u32,
    /// Field from which Linux derives the bit; `None` if there are several.
    pub field: Option<IdField>,
}

impl Feature {
    /// Returns `true` if HWCAP states the feature.
    pub const fn is_stated(&self, hwcap: u64, hwcap2: u64) -> bool {
        let word = match self.word {
            HwcapWord::First => hwcap,
            HwcapWord::Second => hwcap2,
        };
        word >> self.bit & 1 != 0
    }
}

const ISAR0: &str = "ID_AA64ISAR0_EL1";
const ISAR1: &str = "ID_AA64ISAR1_EL1";
const ISAR2: &str = "ID_AA64ISAR2_EL1";
const PFR0: &str = "ID_AA64PFR0_EL1";
const PFR1: &str = "ID_AA64PFR1_EL1";
const ZFR0: &str = "ID_AA64ZFR0_EL1";

/// Passes the rows of the table to a macro: name, HWCAP, bit, instruction, field.
macro_rules! feature_rows {
    ($consumer:ident) => {
        $consumer! {
            "aes", First, 3, 0x4e28_4820, Some(IdField::new(ISAR0, 4, 1));
            "pmull", First, 4, 0x0ee2_e020, Some(IdField::new(ISAR0, 4, 2));
            "sha1", First, 5, 0x5e28_0820, Some(IdField::new(ISAR0, 8, 1));
            "sha2", First, 6, 0x5e02_4020, Some(IdField::new(ISAR0, 12, 1));
            "crc32", First, 7, 0x1ac1_4021, Some(IdField::new(ISAR0, 16, 1));
            "atomics", First, 8, 0xf821_0001, Some(IdField::new(ISAR0, 20, 2));
            "fphp", First, 9, 0x1ee0_2800, Some(IdField::signed(PFR0, 16, 1));
            "asimdhp", First, 10, 0x4e40_1400, Some(IdField::signed(PFR0, 20, 1));
            "asimdrdm", First, 12, 0x2e42_8420, Some(IdField::new(ISAR0, 28, 1));
            "jscvt", First, 13, 0x1e7e_0001, Some(IdField::new(ISAR1, 12, 1));
            "fcma", First, 14, 0x6e82_e420, Some(IdField::new(ISAR1, 16, 1));
            "lrcpc", First, 15, 0xf8bf_c001, Some(IdField::new(ISAR1, 20, 1));
            "dcpop", First, 16, 0xd50b_7c20, Some(IdField::new(ISAR1, 0, 1));
            "sha3", First, 17, 0xce02_0c20, Some(IdField::new(ISAR0, 32, 1));
            "sm3", First, 18, 0xce62_c020, Some(IdField::new(ISAR0, 36, 1));
            "sm4", First, 19, 0xcec0_8420, Some(IdField::new(ISAR0, 40, 1));
            "asimddp", First, 20, 0x2e82_9420, Some(IdField::new(ISAR0, 44, 1));
            "sha512", First, 21, 0xce62_8020, Some(IdField::new(ISAR0, 12, 2));
            "sve", First, 22, 0x04bf_5021, Some(IdField::new(PFR0, 32, 1));
            "asimdfhm", First, 23, 0x0e22_ec20, Some(IdField::new(ISAR0, 48, 1));
            "dit", First, 24, 0xd53b_42a1, Some(IdField::new(PFR0, 48, 1));
            "ilrcpc", First, 26, 0xd940_0001, Some(IdField::new(ISAR1, 20, 2));
            "flagm", First, 27, 0xd500_401f, Some(IdField::new(ISAR0, 52, 1));
            "ssbs", First, 28, 0xd53b_42c1, Some(IdField::new(PFR1, 4, 2));
            "sb", First, 29, 0xd503_30ff, Some(IdField::new(ISAR1, 36, 1));
            "pacg", First, 31, 0x9ac1_3021, None;
            "dcpodp", Second, 0, 0xd50b_7d20, Some(IdField::new(ISAR1, 0, 2));
            "sve2", Second, 1, 0x4402_7020, Some(IdField::new(ZFR0, 0, 1));
            "flagm2", Second, 7, 0xd500_405f, Some(IdField::new(ISAR0, 52, 2));
            "frint", Second, 8, 0x1e68_c000, Some(IdField::new(ISAR1, 32, 1));
            "i8mm", Second, 13, 0x4e82_a420, Some(IdField::new(ISAR1, 52, 1));
            "bf16", Second, 14, 0x2e42_fc20, Some(IdField::new(ISAR1, 44, 1));
            "rng", Second, 16, 0xd53b_2401, Some(IdField::new(ISAR0, 60, 1));
            "mops", Second, 43, 0x1902_0460, Some(IdField::new(ISAR2, 16, 1));
        }
    };
}
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub(crate) use feature_rows;

macro_rules! table {
    ($($name:literal, $word:ident, $bit:literal, $instruction:literal, $field:expr;)*) => {
        /// All features, by HWCAP bit.
        pub const FEATURES: &[Feature] = &[$(Feature {
            name: $name,
            word: HwcapWord::$word,
            bit: $bit,
            instruction: $instruction,
            field: $field,
        }),*];
    };
}
feature_rows!(table);

/// HWCAP bit of emulated reads of ID registers (`HWCAP_CPUID`).
pub const HWCAP_CPUID: u64 = 1 << 11;
/// HWCAP bit of SVE (`HWCAP_SVE`).
pub const HWCAP_SVE: u64 = 1 << 22;
/// HWCAP bit of signatures of pointers (`HWCAP_PACA`).
pub const HWCAP_PACA: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn bits_and_instructions_are_unique() {
        let bits: BTreeSet<_> = FEATURES
            .iter()
            .map(|feature| (feature.word == HwcapWord::Second, feature.bit))
            .collect();
        assert_eq!(bits.len(), FEATURES.len());
        let instructions: BTreeSet<_> = FEATURES.iter().map(|it| it.instruction).collect();
        assert_eq!(instructions.len(), FEATURES.len());
    }

    #[test]
    fn fields_state_features() {
        let field = IdField::signed(PFR0, 16, 1);
        let values: Vec<_> = (0..16)
            .filter(|value| field.has_feature(value << 16))
            .collect();
        assert_eq!(values, (1..15).collect::<Vec<u64>>());
        assert!(IdField::new(ISAR0, 60, 1).has_feature(u64::MAX));
        assert!(!IdField::new(ISAR0, 20, 2).has_feature(0x10_0000));
    }

    #[test]
    fn features_are_stated_by_their_own_word() {
        let atomics = FEATURES
            .iter()
            .find(|it| it.name == "atomics")
            .expect("a row");
        assert!(atomics.is_stated(1 << 8, 0));
        assert!(!atomics.is_stated(0, 1 << 8));
    }
}
