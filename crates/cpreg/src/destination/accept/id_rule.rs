//! Parts of KVM's rule for ID registers: types of fields, special rules, and ranges of releases.
//!
//! The generated table (`id_fields.rs`) has the rules of the examined releases, and
//! [`super::id_register`] applies them.

/// Rule of a release for values that differ from the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReleaseRule {
    /// KVM refuses them, with the exceptions of [`SpecialRule`].
    Current,
    /// KVM compares each writable field with its limit, by its type (`arm64_check_features`, since
    /// v6.5, 2e8bf0cbd058).
    Types,
}

/// Rule for one register or a group of registers, from KVM's `set_user` functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpecialRule {
    /// ID_AA64PFR0_EL1.CSV2 may be 0, and 1 on a CPU that is not affected.
    Csv2Writable,
    /// ID_AA64PFR0_EL1.CSV2 and CSV3 may be 0, and 1 on a CPU that is not affected.
    Csv2AndCsv3Writable,
    /// Without 32-bit EL0, AArch32 ID registers read as zero and ignore writes.
    Aarch32IgnoresWrites,
    /// ID_AA64DFR0_EL1.DebugVer is 6 or more.
    DebugVersionMinimum,
    /// ID_DFR0_EL1.CopDbg is 6 or more.
    Aarch32DebugVersionMinimum,
    /// ID_DFR0_EL1.PerfMon is 0, or 3 or more.
    Aarch32PmuMinimum,
    /// ID_AA64DFR0_EL1.PMUVer of 0xf becomes 0.
    ImpdefPmuDropped,
    /// ID_DFR0_EL1.PerfMon of 0xf becomes 0.
    Aarch32ImpdefPmuDropped,
    /// ID_AA64PFR0_EL1.EL0 and EL1 are not 0, nor is EL2 of a VM with EL2.
    ExceptionLevelsRequired,
    /// The CPU's own ID_AA64PFR0_EL1.MPAM becomes 0.
    MpamDropped,
    /// The CPU's own ID_AA64PFR1_EL1.MPAM_frac becomes 0.
    MpamFracDropped,
    /// The CPU's own ID_AA64MMFR2_EL1.NV becomes 0.
    NvDropped,
    /// ID_AA64PFR1_EL1.MTE_frac of 0 becomes 0xf on a CPU with MTE2 and MTE_frac of 0xf.
    MteFracDropped,
    /// ID_AA64DFR0_EL1.DoubleLock of 0 becomes 0xf in a VM with EL2 on a CPU without DoubleLock.
    DoubleLockDropped,
}

/// Type of a field: the values that KVM accepts, relative to the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldType {
    /// The limit, or less.
    Lower,
    /// The limit, or less; values with the top bit set are less than 0.
    SignedLower,
    /// The limit, or more.
    Higher,
    /// The limit, more, or 0. If the limit is 0, only 0.
    HigherOrZero,
    /// The limit, or this value.
    Exact(u64),
}

/// Field of an ID register in a range of releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldRule {
    msb: u8,
    lsb: u8,
    kind: FieldType,
    first_release: u8,
    last_release: u8,
}

const fn field(
    msb: u8,
    lsb: u8,
    kind: FieldType,
    first_release: u8,
    last_release: u8,
) -> FieldRule {
    FieldRule {
        msb,
        lsb,
        kind,
        first_release,
        last_release,
    }
}

/// Returns a field whose lower values are safe. For the generated table.
pub(super) const fn lower(msb: u8, lsb: u8, first: u8, last: u8) -> FieldRule {
    field(msb, lsb, FieldType::Lower, first, last)
}

/// Returns a signed field whose lower values are safe. For the generated table.
pub(super) const fn signed(msb: u8, lsb: u8, first: u8, last: u8) -> FieldRule {
    field(msb, lsb, FieldType::SignedLower, first, last)
}

/// Returns a field whose higher values are safe. For the generated table.
pub(super) const fn higher(msb: u8, lsb: u8, first: u8, last: u8) -> FieldRule {
    field(msb, lsb, FieldType::Higher, first, last)
}

/// Returns a field whose higher values and zero are safe. For the generated table.
pub(super) const fn higher_or_zero(msb: u8, lsb: u8, first: u8, last: u8) -> FieldRule {
    field(msb, lsb, FieldType::HigherOrZero, first, last)
}

/// Returns a field with one safe value. For the generated table.
pub(super) const fn exact(msb: u8, lsb: u8, safe: u64, first: u8, last: u8) -> FieldRule {
    field(msb, lsb, FieldType::Exact(safe), first, last)
}

impl FieldRule {
    /// Returns the mask of the field's bits.
    pub(super) const fn mask(self) -> u64 {
        (u64::MAX >> (63 - (self.msb - self.lsb))) << self.lsb
    }

    /// Returns `true` if the release with this index has the field.
    pub(super) fn is_in_release(self, release: usize) -> bool {
        (usize::from(self.first_release)..=usize::from(self.last_release)).contains(&release)
    }

    /// Returns `true` if KVM accepts the field of `value` where the field of `limit` is the limit.
    pub(super) fn accepts(self, value: u64, limit: u64) -> bool {
        let [value, limit] = [value, limit].map(|register| (register & self.mask()) >> self.lsb);
        let rank = |field: u64| field ^ 1 << (self.msb - self.lsb);
        value == limit
            || match self.kind {
                FieldType::Lower => value < limit,
                FieldType::SignedLower => rank(value) < rank(limit),
                FieldType::Higher => value > limit,
                FieldType::HigherOrZero => value == 0 || limit != 0 && value > limit,
                FieldType::Exact(safe) => value == safe,
            }
    }

    /// Returns `true` if KVM accepts the field of `value` for any limit that accepts `known`.
    pub(super) fn accepts_for_any_limit(self, value: u64, known: u64) -> bool {
        match self.kind {
            // The limit is `known`, or on the far side of `known`.
            FieldType::Lower | FieldType::SignedLower | FieldType::Higher => {
                self.accepts(value, known)
            }
            // The limit is `known`, or lower, or any value if `known` is zero.
            FieldType::HigherOrZero => {
                (value & self.mask()) == 0 || known & self.mask() != 0 && self.accepts(value, known)
            }
            FieldType::Exact(safe) => {
                let value = (value & self.mask()) >> self.lsb;
                value == safe || value == (known & self.mask()) >> self.lsb
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn accepted(rule: FieldRule, limit: u64) -> Vec<u64> {
        (0..16)
            .filter(|value| rule.accepts(value << 4, limit << 4))
            .collect()
    }

    #[test]
    fn types_decide_about_values() {
        assert_eq!(accepted(lower(7, 4, 0, 0), 2), [0, 1, 2]);
        assert_eq!(
            accepted(signed(7, 4, 0, 0), 0),
            [0, 8, 9, 10, 11, 12, 13, 14, 15]
        );
        assert_eq!(
            accepted(signed(7, 4, 0, 0), 0xe),
            [8, 9, 10, 11, 12, 13, 14]
        );
        assert_eq!(accepted(higher(7, 4, 0, 0), 0xe), [0xe, 0xf]);
        assert_eq!(accepted(higher_or_zero(7, 4, 0, 0), 0xe), [0, 0xe, 0xf]);
        assert_eq!(accepted(higher_or_zero(7, 4, 0, 0), 0), [0]);
        assert_eq!(accepted(exact(7, 4, 1, 0, 0), 3), [1, 3]);
    }

    #[test]
    fn masks_have_the_bits_of_the_field() {
        assert_eq!(lower(7, 4, 0, 0).mask(), 0xf0);
        assert_eq!(lower(63, 0, 0, 0).mask(), u64::MAX);
        assert_eq!(lower(31, 31, 0, 0).mask(), 1 << 31);
    }

    proptest! {
        /// A value that any limit accepts is accepted by every limit that accepts the known value.
        #[test]
        fn unknown_limits_accept_less(kind in 0..5_usize, known in 0..16_u64, value in 0..16_u64) {
            let rules = [
                lower(3, 0, 0, 0),
                signed(3, 0, 0, 0),
                higher(3, 0, 0, 0),
                higher_or_zero(3, 0, 0, 0),
                exact(3, 0, 1, 0, 0),
            ];
            let rule = rules[kind];
            let mut limits = (0..16).filter(|limit| rule.accepts(known, *limit));
            let all = limits.all(|limit| rule.accepts(value, limit));
            prop_assert!(all || !rule.accepts_for_any_limit(value, known));
        }
    }
}
