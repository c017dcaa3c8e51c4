//! [`FieldDifference`]: a difference between two values of a register.

use super::field::Field;
use super::id::RegisterId;

/// Field that differs between two values of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FieldDifference {
    /// The field; nameless for bits that belong to no field.
    pub field: Field,
    /// The field's value in the first register value.
    pub from: u64,
    /// The field's value in the second register value.
    pub to: u64,
}

/// Returns the differences between two values of a register.
///
/// Named fields come first, then the bits of no field, both from the most significant down. The
/// iterator omits alternative fields ([`Field::is_alternative`]).
pub fn differing_fields(
    id: RegisterId,
    from: u64,
    to: u64,
) -> impl Iterator<Item = FieldDifference> {
    let fields = id
        .fields_for_value(to)
        .iter()
        .copied()
        .filter(|field| !field.is_alternative());
    let named_mask = fields.clone().fold(0, |mask, field| mask | field.mask());
    let bits = match id.size_bytes() {
        Some(bytes @ 1..=7) => 8 * bytes,
        _ => 64,
    };
    let nameless = Gaps {
        free: !named_mask & (u64::MAX >> (64 - bits)),
    };
    fields.chain(nameless).filter_map(move |field| {
        let (from, to) = (field.extract(from), field.extract(to));
        (from != to).then_some(FieldDifference { field, from, to })
    })
}

/// Iterator over runs of set bits, from the most significant down, as nameless fields.
struct Gaps {
    free: u64,
}

impl Iterator for Gaps {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let msb = self.free.checked_ilog2()?;
        let run = (self.free << (63 - msb)).leading_ones();
        let lsb = msb + 1 - run;
        let gap = Field::bits(u8::try_from(msb).ok()?, u8::try_from(lsb).ok()?)?;
        self.free &= !gap.mask();
        Some(gap)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::register::tables;

    fn differences(id: RegisterId, from: u64, to: u64) -> String {
        differing_fields(id, from, to)
            .map(|d| alloc::format!("{} {:#x} {:#x};", d.field, d.from, d.to))
            .collect::<Vec<_>>()
            .concat()
    }

    #[test]
    fn differences_contain_fields_and_bits_of_no_field() {
        assert_eq!(
            differences(RegisterId::ID_AA64MMFR3_EL1, 0x101, 0x0001_0000_0000_0111),
            "SCTLRX 0x0 0x1;[51:48] 0x0 0x1;"
        );
        assert_eq!(
            differences(RegisterId::PSCI_VERSION, 0x10003, 0x10001),
            "minor 0x3 0x1;"
        );
        assert_eq!(differences(RegisterId::TPIDR_EL1, 0, 1), "[63:0] 0x0 0x1;");
        assert_eq!(
            differences(RegisterId::ccsidr(0), 0x701f_e01a, 2),
            "NumSets 0xff 0x0;Associativity 0x3 0x0;[31:28] 0x7 0x0;"
        );
        assert_eq!(
            differences(RegisterId::VENDOR_HYP_BMAP, 3, 1),
            "PTP 0x1 0x0;"
        );
        // The meaning of ISS depends on the exception class, so ISS is named as a whole.
        assert_eq!(
            differences("ESR_EL1".parse().unwrap(), 0x8600_0010, 0),
            "EC 0x21 0x0;IL 0x1 0x0;ISS 0x10 0x0;"
        );
    }

    proptest! {
        #[test]
        fn differences_cover_all_differing_bits(
            index in 0..tables::IDS_BY_NAME.len(), from: u64, to: u64
        ) {
            let (_, id) = tables::IDS_BY_NAME[index];
            let id = RegisterId::from_raw(id);
            let bits = id.size_bytes().unwrap_or(8).min(8) * 8;
            let (from, to) = (from & u64::MAX >> (64 - bits), to & u64::MAX >> (64 - bits));
            let mut rebuilt = from;
            for difference in differing_fields(id, from, to) {
                prop_assert_ne!(difference.from, difference.to);
                rebuilt = difference.field.insert(rebuilt, difference.to).unwrap();
            }
            prop_assert_eq!(rebuilt, to);
        }
    }
}
