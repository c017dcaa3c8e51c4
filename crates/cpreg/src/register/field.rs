//! [`Field`]: adjacent bits of a register, by name.
//!
//! The positions come from the generated tables.
//!
//! # Order of values
//!
//! For most ID registers a larger field value promises more, so lowering a field removes a feature.
//! [`Field::rank`] returns numbers in this order. The rank differs from the plain value only for
//! signed fields, whose values with the top bit set mean less than 0:
//!
//! | register | fields | value below 0 |
//! |---|---|---|
//! | ID_AA64PFR0_EL1 | FP, AdvSIMD | 0xf not implemented |
//! | ID_AA64PFR1_EL1 | MTE_frac | 0xf asynchronous faulting not implemented |
//! | ID_AA64DFR0_EL1 | PMUVer | 0xf IMPLEMENTATION DEFINED, not PMUv3 |
//! | ID_AA64DFR0_EL1 | DoubleLock | 0xf not implemented |
//! | ID_AA64DFR0_EL1, ID_DFR1_EL1 | MTPMU | 0xf not implemented |
//! | ID_AA64MMFR0_EL1 | TGran4, TGran64 | 0xf not supported |
//! | ID_AA64MMFR4_EL1 | E2H0 | 0xf, 0xe HCR_EL2.E2H cannot be 0 |
//! | ID_DFR0_EL1 | PerfMon | 0xf IMPLEMENTATION DEFINED, not PMUv3 |
//! | ID_MMFR0_EL1 | InnerShr, OuterShr | 0xf shareability ignored |
//!
//! (Linux v6.5 `arch/arm64/kernel/cpufeature.c` compares these fields in this order. It does not
//! compare MTE_frac, E2H0 and the MTPMU of ID_AA64DFR0_EL1, whose order follows from their
//! definition.)
//!
//! Some fields have no such order, and their rank only orders plain values. These are TGran4_2,
//! TGran16_2 and TGran64_2 of ID_AA64MMFR0_EL1 (0 means "as for stage 1", 1 "not supported"), L1Ip
//! of CTR_EL0, and the fields of control registers. For SpecSEI (ID_AA64MMFR1_EL1, ID_MMFR4_EL1),
//! BC (ID_AA64ISAR2_EL1), CWG and ERG (CTR_EL0) Linux considers the *higher* value the safe one.

use core::fmt;

/// Adjacent bits of a register, usually with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    name: &'static str,
    msb: u8,
    lsb: u8,
    kind: FieldKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FieldKind {
    Unsigned,
    Signed,
    Alternative,
}

/// Returns a field of the register's layout. For the generated tables.
pub(super) const fn field(name: &'static str, msb: u8, lsb: u8) -> Field {
    Field {
        name,
        msb,
        lsb,
        kind: FieldKind::Unsigned,
    }
}

/// Returns a field whose values are signed. For the generated tables.
pub(super) const fn signed(name: &'static str, msb: u8, lsb: u8) -> Field {
    Field {
        name,
        msb,
        lsb,
        kind: FieldKind::Signed,
    }
}

/// Returns a field of another layout of the register. For the generated tables.
pub(super) const fn alternative(name: &'static str, msb: u8, lsb: u8) -> Field {
    Field {
        name,
        msb,
        lsb,
        kind: FieldKind::Alternative,
    }
}

impl Field {
    /// Returns bits `msb` to `lsb` without a name, or `None` unless 63 >= `msb` >= `lsb`.
    pub const fn bits(msb: u8, lsb: u8) -> Option<Self> {
        if msb < 64 && lsb <= msb {
            Some(field("", msb, lsb))
        } else {
            None
        }
    }

    /// Returns the architecture's or KVM's name; empty for bits that belong to no field.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Returns the number of the most significant bit, 0 to 63.
    pub const fn msb(self) -> u8 {
        self.msb
    }

    /// Returns the number of the least significant bit, not above [`Self::msb`].
    pub const fn lsb(self) -> u8 {
        self.lsb
    }

    /// Returns the number of bits, 1 to 64.
    pub const fn width(self) -> u8 {
        self.msb - self.lsb + 1
    }

    /// Returns the mask of the field's bits in a register value.
    pub const fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.width())) << self.lsb
    }

    /// Returns the field's value in a register's `value`, shifted to bit 0.
    pub const fn extract(self, value: u64) -> u64 {
        (value & self.mask()) >> self.lsb
    }

    /// Returns the register's `value` with the field set to `field`.
    ///
    /// Returns `None` if `field` has more bits than the field.
    pub const fn insert(self, value: u64, field: u64) -> Option<u64> {
        if field > u64::MAX >> (64 - self.width()) {
            return None;
        }
        Some((value & !self.mask()) | field << self.lsb)
    }

    /// Returns `true` if the bits also belong to another field of the register.
    ///
    /// [`differing_fields`](super::differing_fields) uses the other field. Examples are the parts
    /// of ESR_EL1.ISS, which depend on the exception class.
    pub const fn is_alternative(self) -> bool {
        matches!(self.kind, FieldKind::Alternative)
    }

    /// Returns `true` if values with the top bit set mean less than 0. See the module for the list.
    pub const fn is_signed(self) -> bool {
        matches!(self.kind, FieldKind::Signed)
    }

    /// Returns a number that orders the field's values.
    ///
    /// Of two values of an ID register's field, the value with the lower rank promises less. The
    /// method ignores bits above the field's width. See the module for the fields without such an
    /// order.
    pub const fn rank(self, field: u64) -> u64 {
        let field = field & (u64::MAX >> (64 - self.width()));
        if self.is_signed() {
            field ^ (1 << (self.width() - 1))
        } else {
            field
        }
    }
}

/// Formats the field as its name, or `[msb:lsb]`, or `[bit]`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            f.pad(self.name)
        } else if self.msb == self.lsb {
            f.pad(&alloc::format!("[{}]", self.lsb))
        } else {
            f.pad(&alloc::format!("[{}:{}]", self.msb, self.lsb))
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::register::{RegisterField, tables};

    fn parse(text: &str) -> RegisterField {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn ranks_of_signed_fields() {
        let field = |text| parse(text).field;
        let fp = field("ID_AA64PFR0_EL1.FP");
        assert!(fp.rank(0xf) < fp.rank(0) && fp.rank(0) < fp.rank(1));
        let version = field("ID_AA64DFR0_EL1.PMUVer");
        assert!(version.rank(0xf) < version.rank(0) && version.rank(1) < version.rank(6));
        let sve = field("ID_AA64PFR0_EL1.SVE");
        assert!(sve.rank(0) < sve.rank(1) && sve.rank(1) < sve.rank(0xf));
        let signed: Vec<String> = tables::FIELDS
            .iter()
            .flat_map(|(name, fields)| fields.iter().map(move |field| (name, field)))
            .filter(|(_, field)| field.is_signed())
            .map(|(name, field)| alloc::format!("{name}.{field}"))
            .collect();
        assert_eq!(
            signed,
            [
                "ID_AA64DFR0_EL1.MTPMU",
                "ID_AA64DFR0_EL1.DoubleLock",
                "ID_AA64DFR0_EL1.PMUVer",
                "ID_AA64MMFR0_EL1.TGran4",
                "ID_AA64MMFR0_EL1.TGran64",
                "ID_AA64MMFR4_EL1.E2H0",
                "ID_AA64PFR0_EL1.AdvSIMD",
                "ID_AA64PFR0_EL1.FP",
                "ID_AA64PFR1_EL1.MTE_frac",
                "ID_DFR0_EL1.PerfMon",
                "ID_DFR1_EL1.MTPMU",
                "ID_MMFR0_EL1.InnerShr",
                "ID_MMFR0_EL1.OuterShr",
            ]
        );
    }

    proptest! {
        #[test]
        fn extract_returns_the_inserted_value(msb in 0..64_u8, lsb in 0..64_u8, value: u64, new: u64) {
            let Some(field) = Field::bits(msb.max(lsb), msb.min(lsb)) else { unreachable!() };
            let fits = u128::from(new) < 1 << field.width();
            let inserted = field.insert(value, new);
            prop_assert_eq!(inserted.is_some(), fits);
            if let Some(inserted) = inserted {
                prop_assert_eq!(field.extract(inserted), new);
                prop_assert_eq!((inserted ^ value) & !field.mask(), 0);
            }
        }
    }
}
