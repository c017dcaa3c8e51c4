//! The fields of a register, from the generated tables.

use alloc::vec::Vec;

use super::field::{Field, field};
use super::id::{DecodedId, RegisterId};
use super::name::{Naming, compare_names};
use super::tables;

impl RegisterId {
    /// Returns the register's fields, most significant first. The slice is empty if no field is
    /// known.
    ///
    /// Fields can share bits; see [`Field::is_alternative`]. An AArch32 register has the fields of
    /// its [counterpart](Self::counterpart) if the layout is the same.
    ///
    /// A saved program status (`PSTATE`, `SPSR_EL1` …) has the fields of AArch64 state; see
    /// [`Self::fields_for_value`] for AArch32 state.
    pub fn fields(self) -> &'static [Field] {
        if self.is_program_status() {
            AARCH64_STATUS
        } else {
            self.tabled_fields()
        }
    }

    /// Returns the fields that apply to this value.
    ///
    /// For a saved program status with bit 4 (`M[4]`) set, returns the fields of AArch32 state. For
    /// any other value, returns [`fields`](Self::fields).
    pub fn fields_for_value(self, value: u64) -> &'static [Field] {
        if value & AARCH32_STATE == 0 {
            self.fields()
        } else {
            self.tabled_fields()
        }
    }

    fn is_program_status(self) -> bool {
        // Plans ask mostly about these.
        if self.is_id_register() {
            return false;
        }
        let name = self.name_in(Naming::Architectural).or_else(|| self.name());
        name.is_some_and(|name| PROGRAM_STATUS.contains(&name))
    }

    fn tabled_fields(self) -> &'static [Field] {
        match self.decode() {
            DecodedId::Demux { index: 0, .. } => find_fields("CCSIDR_EL1[<n>]"),
            DecodedId::Coprocessor(register) => match self.counterpart() {
                Some(counterpart) if counterpart.same_fields && counterpart.lsb == 0 => {
                    let fields = counterpart.id.tabled_fields();
                    let max_bit = if register.wide { 63 } else { 31 };
                    let above = fields
                        .iter()
                        .take_while(|field| field.msb() > max_bit)
                        .count();
                    fields.get(above..).unwrap_or_default()
                }
                _ => &[],
            },
            DecodedId::SystemRegister(_) => {
                self.name_in(Naming::Architectural).map_or(&[], find_fields)
            }
            _ => self.name().map_or(&[], find_fields),
        }
    }

    /// Returns the field with this name, in upper or lower case.
    ///
    /// For a program status, a field of AArch64 state takes precedence over a field of AArch32
    /// state.
    pub fn field(self, name: &str) -> Option<Field> {
        find_field(self.fields(), name).or_else(|| find_field(self.tabled_fields(), name))
    }
}

/// Names of registers that hold a program status. The tables have their fields in AArch32 state.
const PROGRAM_STATUS: &[&str] = &["PSTATE", "SPSR_EL1", "SPSR_EL2", "SPSR_EL3", "DSPSR_EL0"];

/// Bit `M[4]` of a program status, set in AArch32 state.
const AARCH32_STATE: u64 = 1 << 4;

/// Fields of a program status of AArch64 state (Arm's `SPSR_EL1`, "when exception taken from
/// AArch64 state").
const AARCH64_STATUS: &[Field] = &[
    field("UINJ", 36, 36),
    field("PACM", 35, 35),
    field("EXLOCK", 34, 34),
    field("PPEND", 33, 33),
    field("PM", 32, 32),
    field("N", 31, 31),
    field("Z", 30, 30),
    field("C", 29, 29),
    field("V", 28, 28),
    field("TCO", 25, 25),
    field("DIT", 24, 24),
    field("UAO", 23, 23),
    field("PAN", 22, 22),
    field("SS", 21, 21),
    field("IL", 20, 20),
    field("ALLINT", 13, 13),
    field("SSBS", 12, 12),
    field("BTYPE", 11, 10),
    field("D", 9, 9),
    field("A", 8, 8),
    field("I", 7, 7),
    field("F", 6, 6),
    field("M[4]", 4, 4),
    field("M[3:0]", 3, 0),
];

fn find_fields(register: &str) -> &'static [Field] {
    tables::FIELDS
        .binary_search_by(|(name, _)| compare_names(name, register))
        .ok()
        .and_then(|index| tables::FIELDS.get(index))
        .map_or(&[], |(_, fields)| fields)
}

/// Returns the field with this name, preferring one that is not an alternative.
fn find_field(fields: &[Field], name: &str) -> Option<Field> {
    let mut found: Vec<Field> = fields
        .iter()
        .copied()
        .filter(|field| field.name().eq_ignore_ascii_case(name))
        .collect();
    found.sort_by_key(|field| field.is_alternative());
    found.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::differing_fields;

    #[test]
    fn a_program_status_has_the_fields_of_its_state() {
        let names = |value| -> Vec<_> {
            let fields = RegisterId::CORE_PSTATE.fields_for_value(value).iter();
            fields.map(|field| field.name()).collect()
        };
        assert!(names(0x3c5).contains(&"D") && !names(0x3c5).contains(&"E"));
        assert!(names(0x1d3).contains(&"T") && !names(0x1d3).contains(&"BTYPE"));
        let changed: Vec<_> = differing_fields(RegisterId::CORE_PSTATE, 0x3c5, 0x1c5).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].field.name(), "D");
    }

    #[test]
    fn tables_are_in_order() {
        let names = tables::FIELDS
            .iter()
            .map(|(name, _)| name.to_ascii_uppercase());
        assert!(names.is_sorted());
        for (name, fields) in tables::FIELDS {
            assert!(!fields.is_empty(), "{name}");
            let bits: Vec<_> = fields.iter().map(|f| (f.msb(), f.lsb())).collect();
            assert!(bits.is_sorted_by(|a, b| a >= b), "{name}");
            assert!(
                bits.iter().all(|(msb, lsb)| *msb < 64 && lsb <= msb),
                "{name}"
            );
            let mut used = 0;
            for field in fields.iter().filter(|field| !field.is_alternative()) {
                assert_eq!(used & field.mask(), 0, "{name}.{field}");
                used |= field.mask();
            }
        }
    }

    #[test]
    fn every_field_is_found_by_name() {
        let mut count = 0;
        for (name, fields) in tables::FIELDS {
            if name.contains("[<n>]") {
                continue;
            }
            let id = RegisterId::parse_in(name, Naming::Architectural).expect(name);
            for field in *fields {
                let found = find_field(fields, field.name()).expect("the field");
                // A name may stand for several alternatives, but never hides the layout's field.
                assert!(found == *field || field.is_alternative(), "{name}.{field}");
                count += 1;
            }
            // The second name of an encoding has separate fields, which the id cannot have.
            if id
                .name_in(Naming::Architectural)
                .is_some_and(|known| known == *name)
            {
                assert_eq!(id.tabled_fields(), *fields, "{name}");
            }
        }
        // fields.tsv has 3376; some occur twice and some are above bit 63.
        assert!(count > 3300, "{count}");
    }

    #[test]
    fn aarch32_fields_are_those_of_the_counterpart() {
        let clidr: RegisterId = "CLIDR".parse().unwrap();
        assert!(clidr.fields().iter().all(|field| field.msb() < 32));
        assert!(clidr.field("LoC").is_some());
        // SCTLR and SCTLR_EL1 share state but are laid out differently.
        assert_eq!("SCTLR".parse::<RegisterId>().unwrap().fields(), &[]);
    }
}
