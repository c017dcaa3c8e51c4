//! [`AcceptedFields`]: the values that an ID register accepts, field by field.

use alloc::vec::Vec;

/// Values that an ID register accepts, field by field, as trials on the host showed.
///
/// KVM decides about each field independently of the others (`arm64_check_features` and the
/// registers' own functions in Linux `arch/arm64/kvm/sys_regs.c`, up to v7.3). The register
/// therefore accepts a value if each field accepts its part. Bits of no field must equal the
/// recorded value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AcceptedFields {
    /// Bits that user space may change, if the kernel reports them
    /// (`KVM_ARM_GET_REG_WRITABLE_MASKS`).
    pub writable: Option<u64>,
    fields: Vec<AcceptedField>,
}

/// Values that one field accepts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AcceptedField {
    msb: u8,
    lsb: u8,
    kept: u64,
    dropped: Vec<DroppedValues>,
}

/// Values of a field that KVM accepts and replaces by another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DroppedValues {
    /// Value that the field reads after the write.
    pub reads: u8,
    /// Accepted values; bit `n` stands for value `n`.
    pub values: u64,
}

/// Maximum number of bits of an [`AcceptedField`], whose values must fit a set of 64.
pub const MAX_FIELD_WIDTH: u8 = 6;

/// Result of writing one value to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldWrite {
    Kept,
    Dropped(u8),
    Refused,
}

impl AcceptedField {
    /// Returns bits `msb` to `lsb` that keep the values `kept` and drop the values `dropped`.
    ///
    /// Bit `n` of a set stands for value `n`. Returns `None` if the bits are not 1 to
    /// [`MAX_FIELD_WIDTH`] bits of a register, if a value does not fit, or if a value occurs in two
    /// sets.
    pub fn new(msb: u8, lsb: u8, kept: u64, mut dropped: Vec<DroppedValues>) -> Option<Self> {
        if msb >= 64 || lsb > msb || msb - lsb >= MAX_FIELD_WIDTH {
            return None;
        }
        let count = 1_u32 << (msb - lsb + 1);
        let all = u64::MAX >> (u64::BITS - count);
        let mut seen = kept;
        for group in &dropped {
            if group.values == 0 || group.values & seen != 0 || u32::from(group.reads) >= count {
                return None;
            }
            seen |= group.values;
        }
        dropped.sort_unstable();
        let has_equal_reads = dropped
            .windows(2)
            .any(|groups| matches!(groups, [one, other] if one.reads == other.reads));
        (seen & !all == 0 && !has_equal_reads).then_some(Self {
            msb,
            lsb,
            kept,
            dropped,
        })
    }

    /// Returns the number of the most significant bit.
    pub const fn msb(&self) -> u8 {
        self.msb
    }

    /// Returns the number of the least significant bit.
    pub const fn lsb(&self) -> u8 {
        self.lsb
    }

    /// Returns the set of values that the field keeps; bit `n` stands for value `n`.
    pub const fn kept(&self) -> u64 {
        self.kept
    }

    /// Returns the values that KVM accepts and replaces.
    pub fn dropped(&self) -> &[DroppedValues] {
        &self.dropped
    }

    /// Returns the mask of the field's bits in a register value.
    pub const fn mask(&self) -> u64 {
        (u64::MAX >> (63 - (self.msb - self.lsb))) << self.lsb
    }

    fn extract(&self, value: u64) -> u64 {
        (value & self.mask()) >> self.lsb
    }

    /// Returns the result of writing a value whose bits fit the field.
    fn write(&self, value: u64) -> FieldWrite {
        let bit = 1 << value;
        let mut dropped = self.dropped.iter();
        match dropped.find(|group| group.values & bit != 0) {
            _ if self.kept & bit != 0 => FieldWrite::Kept,
            Some(group) => FieldWrite::Dropped(group.reads),
            None => FieldWrite::Refused,
        }
    }
}

impl AcceptedFields {
    /// Returns the fields of a register, in any order. Returns `None` if two fields share a bit.
    pub fn new(writable: Option<u64>, mut fields: Vec<AcceptedField>) -> Option<Self> {
        fields.sort_unstable_by_key(AcceptedField::lsb);
        let mut seen = 0;
        for field in &fields {
            if seen & field.mask() != 0 {
                return None;
            }
            seen |= field.mask();
        }
        Some(Self { writable, fields })
    }

    /// Returns the fields that accept more than one value, ascending by position.
    pub fn fields(&self) -> &[AcceptedField] {
        &self.fields
    }

    /// Returns the value that the register reads after a write of `value`, where `own` is the
    /// recorded value. Returns `None` if KVM refuses `value`.
    pub fn value_after_write(&self, own: u64, value: u64) -> Option<u64> {
        if value == own {
            return Some(value);
        }
        let mut unexplained = value ^ own;
        let mut after = value;
        for field in &self.fields {
            unexplained &= !field.mask();
            match field.write(field.extract(value)) {
                FieldWrite::Kept => {}
                FieldWrite::Dropped(reads) => {
                    after = after & !field.mask() | u64::from(reads) << field.lsb;
                }
                FieldWrite::Refused if (value ^ own) & field.mask() == 0 => {}
                FieldWrite::Refused => return None,
            }
        }
        (unexplained == 0).then_some(after)
    }

    /// Returns the accepted value nearest to `value`, where `own` is the recorded value.
    ///
    /// A field keeps its part of `value` if KVM accepts that part. Otherwise it gets the kept value
    /// with the highest rank below, and the recorded value if there is none. `rank` orders the
    /// values of the field with these most and least significant bits, or returns `None` for a
    /// field without an order.
    pub fn nearest(&self, own: u64, value: u64, rank: impl Fn(u8, u8, u64) -> Option<u64>) -> u64 {
        let mut nearest = own;
        for field in &self.fields {
            let wanted = field.extract(value);
            let is_own = (value ^ own) & field.mask() == 0;
            let chosen = if !is_own && field.write(wanted) == FieldWrite::Refused {
                let rank = |value| rank(field.msb, field.lsb, value);
                let kept = (0..u64::from(u64::BITS)).filter(|value| field.kept >> value & 1 == 1);
                let lower = kept.filter(|kept| {
                    rank(*kept)
                        .zip(rank(wanted))
                        .is_some_and(|(kept, wanted)| kept < wanted)
                });
                lower.max_by_key(|kept| rank(*kept))
            } else {
                Some(wanted)
            };
            if let Some(chosen) = chosen {
                nearest = nearest & !field.mask() | chosen << field.lsb;
            }
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    /// Two fields like CSV2 and MPAM: one lowered, one that drops a value.
    fn fields() -> AcceptedFields {
        let dropped = DroppedValues {
            reads: 0,
            values: 1 << 1,
        };
        let fields = vec![
            AcceptedField::new(59, 56, 0b11, Vec::new()).unwrap(),
            AcceptedField::new(43, 40, 1, vec![dropped]).unwrap(),
        ];
        AcceptedFields::new(None, fields).unwrap()
    }

    const OWN: u64 = 1 << 56 | 0x11;

    #[test]
    fn each_field_decides_about_its_part() {
        let write = |value| fields().value_after_write(OWN, value);
        assert_eq!(write(OWN), Some(OWN));
        assert_eq!(write(0x11), Some(0x11));
        assert_eq!(write(0x11 | 2 << 56), None);
        assert_eq!(write(0x11 | 1 << 40), Some(0x11));
        assert_eq!(write(OWN | 2 << 40), None);
        // Bits of no field must not change.
        assert_eq!(write(OWN ^ 1), None);
        assert_eq!(write(OWN ^ 1 << 63), None);
    }

    #[test]
    fn the_nearest_value_is_no_higher() {
        let nearest = |value| fields().nearest(OWN, value, |_, _, value| Some(value));
        assert_eq!(nearest(OWN), OWN);
        assert_eq!(nearest(0x22 | 1 << 40), 0x11 | 1 << 40);
        assert_eq!(nearest(0x11 | 3 << 56 | 2 << 40), OWN);
        // Without an order, the recorded value is the nearest.
        assert_eq!(fields().nearest(OWN, 3 << 56, |_, _, _| None), OWN);
    }

    #[test]
    fn inconsistent_fields_are_rejected() {
        let group = |reads, values| DroppedValues { reads, values };
        let new = AcceptedField::new;
        assert!(new(5, 0, u64::MAX, Vec::new()).is_some());
        assert!(new(6, 0, 1, Vec::new()).is_none());
        assert!(new(64, 60, 1, Vec::new()).is_none());
        assert!(new(0, 1, 1, Vec::new()).is_none());
        assert!(new(0, 0, 1 << 2, Vec::new()).is_none());
        assert!(new(3, 0, 1, vec![group(16, 2)]).is_none());
        assert!(new(3, 0, 1, vec![group(0, 1)]).is_none());
        assert!(new(3, 0, 1, vec![group(0, 2), group(0, 4)]).is_none());
        assert!(new(3, 0, 1, vec![group(0, 0)]).is_none());
        let [one, other] = [(3, 0), (4, 3)].map(|(msb, lsb)| new(msb, lsb, 1, Vec::new()));
        let overlapping = vec![one.unwrap(), other.unwrap()];
        assert!(AcceptedFields::new(None, overlapping).is_none());
    }

    proptest! {
        /// A write of the nearest value succeeds.
        #[test]
        fn the_nearest_value_is_accepted(value: u64, kept in 1_u64..0x1_0000, own: u64) {
            let field = AcceptedField::new(7, 4, kept, Vec::new()).unwrap();
            let fields = AcceptedFields::new(None, vec![field]).unwrap();
            let nearest = fields.nearest(own, value, |_, _, value| Some(value));
            prop_assert_eq!(fields.value_after_write(own, nearest), Some(nearest));
        }
    }
}
