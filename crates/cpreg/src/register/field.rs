//! [`Field`]: some adjacent bits of a register by name.
//!
//! The positions come from the generated tables. Which field matters is decided elsewhere.
//!
//! # Order of values
//!
//! For most ID registers a larger field value promises more, so lowering a field takes something
//! away. [`Field::rank`] gives numbers that compare so. It differs from the plain value only for
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
//! (Linux v6.5 `arch/arm64/kernel/cpufeature.c` compares these so; it does not compare MTE_frac, E2H0
//! and the MTPMU of ID_AA64DFR0_EL1, which follow from their definition.)
//!
//! Not every field has such an order at all, and where there is none rank orders plain values and
//! means nothing: TGran4_2, TGran16_2 and TGran64_2 of ID_AA64MMFR0_EL1 (0 means "as for stage 1",
//! 1 "not supported"), L1Ip of CTR_EL0, and the fields of control registers. Of SpecSEI
//! (ID_AA64MMFR1_EL1, ID_MMFR4_EL1), BC (ID_AA64ISAR2_EL1), CWG and ERG (CTR_EL0) Linux takes the
//! *higher* value for the safe one.

use core::fmt;

/// Some adjacent bits of a register, usually with a name.
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

/// A field of the register's layout. For the generated tables.
pub(super) const fn field(name: &'static str, msb: u8, lsb: u8) -> Field {
    Field {
        name,
        msb,
        lsb,
        kind: FieldKind::Unsigned,
    }
}

/// A field whose values are signed. For the generated tables.
pub(super) const fn signed(name: &'static str, msb: u8, lsb: u8) -> Field {
    Field {
        name,
        msb,
        lsb,
        kind: FieldKind::Signed,
    }
}

/// A field of another layout of the register. For the generated tables.
pub(super) const fn alternative(name: &'static str, msb: u8, lsb: u8) -> Field {
    Field {
        name,
        msb,
        lsb,
        kind: FieldKind::Alternative,
    }
}

impl Field {
    /// Bits `msb` to `lsb`, without a name, or `None` unless 63 >= `msb` >= `lsb`.
    pub const fn bits(msb: u8, lsb: u8) -> Option<Self> {
        if msb < 64 && lsb <= msb {
            Some(field("", msb, lsb))
        } else {
            None
        }
    }

    /// The architecture's or KVM's name; empty for bits that belong to no field.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The number of the most significant bit, 0 to 63.
    pub const fn msb(self) -> u8 {
        self.msb
    }

    /// The number of the least significant bit, not above [`Self::msb`].
    pub const fn lsb(self) -> u8 {
        self.lsb
    }

    /// The number of bits, 1 to 64.
    pub const fn width(self) -> u8 {
        self.msb - self.lsb + 1
    }

    /// A register value in which just the field's bits are set.
    pub const fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.width())) << self.lsb
    }

    /// The field's value in a register's `value`, moved down to bit 0.
    pub const fn extract(self, value: u64) -> u64 {
        (value & self.mask()) >> self.lsb
    }

    /// The register's `value` with the field set to `field`, or `None` if that has more bits than
    /// the field.
    pub const fn insert(self, value: u64, field: u64) -> Option<u64> {
        if field > u64::MAX >> (64 - self.width()) {
            return None;
        }
        Some((value & !self.mask()) | field << self.lsb)
    }

    /// Whether the bits belong to another field of the register too, which is the one that
    /// [`differing_fields`](super::differing_fields) names.
    ///
    /// Examples are the parts of ESR_EL1.ISS, which depend on the exception class.
    pub const fn is_alternative(self) -> bool {
        matches!(self.kind, FieldKind::Alternative)
    }

    /// Whether values with the top bit set mean less than 0. See the module for the list.
    pub const fn is_signed(self) -> bool {
        matches!(self.kind, FieldKind::Signed)
    }

    /// A number that compares as the field's value does: of two values of an ID register's field
    /// the one with the lower rank promises less. Bits that the field has not are ignored.
    ///
    /// See the module for the fields for which there is no such order.
    pub const fn rank(self, field: u64) -> u64 {
        let field = field & (u64::MAX >> (64 - self.width()));
        if self.is_signed() {
            field ^ (1 << (self.width() - 1))
        } else {
            field
        }
    }
}

/// The name, or `[msb:lsb]`, or `[bit]`.
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
        fn extract_what_was_inserted(msb in 0..64_u8, lsb in 0..64_u8, value: u64, new: u64) {
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
