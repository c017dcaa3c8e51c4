//! [`Field`]: a register's bits by name, what two values of a register have not in common, and the
//! names of values.
//!
//! The positions come from the generated tables. Which difference matters is decided elsewhere.
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
use core::str::FromStr;

use alloc::vec::Vec;

use super::id::{DecodedId, RegisterClass, RegisterId};
use super::name::{Naming, compare_names};
use super::parse_error::{ParseRegisterError, ParseRegisterErrorKind, nearest};
use super::tables;

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
    /// [`differing_fields`] names.
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

/// A field whose value differs between two values of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldDifference {
    /// The field; nameless for bits that belong to none.
    pub field: Field,
    /// Its value in the first register value.
    pub from: u64,
    /// Its value in the second register value.
    pub to: u64,
}

impl RegisterId {
    /// The register's fields, most significant first; empty if we know none.
    ///
    /// They can share bits; see [`Field::is_alternative`]. An AArch32 register has the fields of
    /// its [counterpart](Self::counterpart) where the layout is the same.
    ///
    /// A saved program status (`PSTATE`, `SPSR_EL1` …) has the fields of AArch64 state; see
    /// [`fields_of`](Self::fields_of) for that of a guest in AArch32 state.
    pub fn fields(self) -> &'static [Field] {
        if self.is_program_status() {
            AARCH64_STATUS
        } else {
            self.tabled_fields()
        }
    }

    /// The fields that this value has: those of [`fields`](Self::fields), or of AArch32 state where
    /// a saved program status says by its bit 4 (`M[4]`) that it comes from there.
    pub fn fields_of(self, value: u64) -> &'static [Field] {
        if value & AARCH32_STATE == 0 {
            self.fields()
        } else {
            self.tabled_fields()
        }
    }

    fn is_program_status(self) -> bool {
        let name = self.name_in(Naming::Architectural).or_else(|| self.name());
        name.is_some_and(|name| PROGRAM_STATUS.contains(&name))
    }

    fn tabled_fields(self) -> &'static [Field] {
        match self.decode() {
            DecodedId::Demux { index: 0, .. } => named_fields("CCSIDR_EL1[<n>]"),
            DecodedId::Coprocessor(register) => match self.counterpart() {
                Some(counterpart) if counterpart.same_fields && counterpart.lsb == 0 => {
                    let fields = counterpart.id.tabled_fields();
                    let most = if register.wide { 63 } else { 31 };
                    let above = fields.iter().take_while(|field| field.msb > most).count();
                    fields.get(above..).unwrap_or_default()
                }
                _ => &[],
            },
            DecodedId::SystemRegister(_) => self
                .name_in(Naming::Architectural)
                .map_or(&[], named_fields),
            _ => self.name().map_or(&[], named_fields),
        }
    }

    /// The field with this name, whatever the case of its letters; of a program status first that of
    /// AArch64 state.
    pub fn field(self, name: &str) -> Option<Field> {
        find_field(self.fields(), name).or_else(|| find_field(self.tabled_fields(), name))
    }

    /// What the whole value means, where it has a name: `1.3` for `PSCI_VERSION` 0x10003.
    pub fn value_name(self, value: u64) -> Option<&'static str> {
        value_name(self.name()?, "", value)
    }

    /// The value with this name, whatever the case of its letters.
    pub fn value_named(self, text: &str) -> Option<u64> {
        value_named(self.name()?, "", text)
    }

    /// The whole values that have names, ascending: 0x10003 `1.3` of `PSCI_VERSION`.
    pub fn named_values(self) -> impl Iterator<Item = (u64, &'static str)> {
        named_values(self, "")
    }
}

/// Registers that hold a program status. The tables have their fields in AArch32 state.
const PROGRAM_STATUS: &[&str] = &["PSTATE", "SPSR_EL1", "SPSR_EL2", "SPSR_EL3", "DSPSR_EL0"];

/// `M[4]` of a program status: it is one of AArch32 state.
const AARCH32_STATE: u64 = 1 << 4;

/// A program status of AArch64 state (Arm's `SPSR_EL1`, "when exception taken from AArch64 state").
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

fn named_fields(register: &str) -> &'static [Field] {
    tables::FIELDS
        .binary_search_by(|(name, _)| compare_names(name, register))
        .ok()
        .and_then(|index| tables::FIELDS.get(index))
        .map_or(&[], |(_, fields)| fields)
}

/// Of several fields with one name the one that is no alternative.
fn find_field(fields: &[Field], name: &str) -> Option<Field> {
    let mut found: Vec<Field> = fields
        .iter()
        .copied()
        .filter(|field| field.name.eq_ignore_ascii_case(name))
        .collect();
    found.sort_by_key(|field| field.is_alternative());
    found.first().copied()
}

fn value_name(register: &str, field: &str, value: u64) -> Option<&'static str> {
    tables::VALUES
        .iter()
        .find(|(r, f, v, _)| (*r, *f, *v) == (register, field, value))
        .map(|(_, _, _, text)| *text)
}

fn named_values(id: RegisterId, field: &'static str) -> impl Iterator<Item = (u64, &'static str)> {
    let name = id.name();
    tables::VALUES
        .iter()
        .filter(move |(r, f, _, _)| name == Some(*r) && *f == field)
        .map(|(_, _, value, text)| (*value, *text))
}

fn value_named(register: &str, field: &str, text: &str) -> Option<u64> {
    tables::VALUES
        .iter()
        .find(|(r, f, _, t)| (*r, *f) == (register, field) && t.eq_ignore_ascii_case(text))
        .map(|(_, _, value, _)| *value)
}

/// What differs between two values of a register: first the fields with names, then the bits of no
/// field, both from the most significant down. Alternatives are left out.
pub fn differing_fields(
    id: RegisterId,
    from: u64,
    to: u64,
) -> impl Iterator<Item = FieldDifference> {
    let fields = id
        .fields_of(to)
        .iter()
        .copied()
        .filter(|field| !field.is_alternative());
    let named = fields.clone().fold(0, |mask, field| mask | field.mask());
    let bits = match id.size_bytes() {
        Some(bytes @ 1..=7) => 8 * bytes,
        _ => 64,
    };
    let nameless = Gaps {
        free: !named & (u64::MAX >> (64 - bits)),
    };
    fields.chain(nameless).filter_map(move |field| {
        let (from, to) = (field.extract(from), field.extract(to));
        (from != to).then_some(FieldDifference { field, from, to })
    })
}

/// Runs of set bits, from the most significant down, as nameless fields.
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

/// A field of a particular register: `ID_AA64MMFR3_EL1.TCRX`.
///
/// Also reads and prints bits by number: `ID_AA64MMFR3_EL1.[51:48]`, `SCTLR_EL1.[17]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisterField {
    /// The register.
    pub id: RegisterId,
    /// One of its fields, or nameless bits of it.
    pub field: Field,
}

impl RegisterField {
    /// What a value of the field means, where it has a name: `not required` for level 2 of
    /// `KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1`.
    pub fn value_name(self, field: u64) -> Option<&'static str> {
        value_name(self.id.name()?, self.field.name, field)
    }

    /// The values of the field that have names, ascending.
    pub fn named_values(self) -> impl Iterator<Item = (u64, &'static str)> {
        named_values(self.id, self.field.name)
    }

    /// The value of the field with this name, whatever the case of its letters.
    pub fn value_named(self, text: &str) -> Option<u64> {
        value_named(self.id.name()?, self.field.name, text)
    }

    /// Reads `REGISTER.FIELD`, the register as [`RegisterId::parse_in`] does.
    ///
    /// # Errors
    ///
    /// If there is no such register, or it has no such field.
    pub fn parse_in(text: &str, naming: Naming) -> Result<Self, ParseRegisterError> {
        let error = |kind| ParseRegisterError::new(text, kind);
        let (register, name) = text.split_once('.').ok_or_else(|| {
            error(ParseRegisterErrorKind::Missing {
                part: "a field after a dot",
            })
        })?;
        let id = RegisterId::parse_in(register, naming)?;
        let name = name.trim();
        let field = match name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            // Some names of the architecture look like this, but they begin with a letter.
            Some(range) => {
                let (msb, lsb) = range.split_once(':').unwrap_or((range, range));
                let bits = msb.trim().parse().ok().zip(lsb.trim().parse().ok());
                bits.and_then(|(msb, lsb)| Field::bits(msb, lsb))
                    .ok_or_else(|| {
                        error(ParseRegisterErrorKind::OutOfRange {
                            part: "[msb:lsb]",
                            most: 63,
                        })
                    })?
            }
            None => id.field(name).ok_or_else(|| {
                let names = id.fields().iter().map(|field| field.name);
                let nearest = nearest(name, names);
                error(ParseRegisterErrorKind::UnknownField).suggesting(
                    nearest
                        .iter()
                        .map(|field| alloc::format!("{}.{field}", id.display_in(naming))),
                )
            })?,
        };
        let bits = id.size_bytes().unwrap_or(8).saturating_mul(8);
        if id.class() == RegisterClass::Unknown || usize::from(field.msb) >= bits {
            return Err(error(ParseRegisterErrorKind::UnknownField));
        }
        Ok(Self { id, field })
    }
}

impl FromStr for RegisterField {
    type Err = ParseRegisterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_in(text, Naming::Kvm)
    }
}

impl fmt::Display for RegisterField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&alloc::format!("{}.{}", self.id, self.field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    fn parse(text: &str) -> RegisterField {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn differences(id: RegisterId, from: u64, to: u64) -> String {
        differing_fields(id, from, to)
            .map(|d| alloc::format!("{} {:#x} {:#x};", d.field, d.from, d.to))
            .collect::<Vec<_>>()
            .concat()
    }

    #[test]
    fn a_program_status_has_the_fields_of_its_state() {
        let names = |value| -> Vec<_> {
            let fields = RegisterId::CORE_PSTATE.fields_of(value).iter();
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
            let bits: Vec<_> = fields.iter().map(|f| (f.msb, f.lsb)).collect();
            assert!(bits.is_sorted_by(|a, b| a >= b), "{name}");
            assert!(
                bits.iter().all(|(msb, lsb)| *msb < 64 && lsb <= msb),
                "{name}"
            );
            let mut taken = 0;
            for field in fields.iter().filter(|field| !field.is_alternative()) {
                assert_eq!(taken & field.mask(), 0, "{name}.{field}");
                taken |= field.mask();
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
                let found = find_field(fields, field.name).expect(field.name);
                // A name may stand for several alternatives, but never hides the layout's field.
                assert!(found == *field || field.is_alternative(), "{name}.{field}");
                count += 1;
            }
            // The second name of an encoding has fields of its own, which the id cannot have.
            if id
                .name_in(Naming::Architectural)
                .is_some_and(|known| known == *name)
            {
                assert_eq!(id.tabled_fields(), *fields, "{name}");
            }
        }
        // fields.tsv has 3376, of which some repeat and some lie above bit 63.
        assert!(count > 3300, "{count}");
    }

    #[test]
    fn fields_are_spelt_register_dot_field() {
        let tcrx = parse("ID_AA64MMFR3_EL1.TCRX");
        assert_eq!(tcrx.id, RegisterId::ID_AA64MMFR3_EL1);
        assert_eq!((tcrx.field.msb(), tcrx.field.lsb()), (3, 0));
        assert_eq!(tcrx.field.extract(0x101), 1);
        assert_eq!(parse("0x603000000013c03b.s1pie").field.extract(0x101), 1);
        assert_eq!(parse("SCTLR_EL1.[17]").to_string(), "SCTLR_EL1.[17]");
        assert_eq!(parse("SCTLR_EL1.[17:16]").to_string(), "SCTLR_EL1.[17:16]");
        assert_eq!(parse("CCSIDR_EL1[3].NumSets").field.msb(), 27);
        assert_eq!(parse("ID_DFR0.PerfMon").id.raw(), 0x4020_0000_200f_0082);
        assert_eq!(parse("PSTATE.I").field.lsb(), 7);
        assert_eq!(parse("OSLSR_EL1.OSLK").field.lsb(), 1);
        assert_eq!(parse("CLIDR_EL1.Ctype3").field.lsb(), 6);
    }

    #[test]
    fn a_field_that_is_none_is_an_error_with_suggestions() {
        let error = "ID_AA64MMFR3_EL1.TCRZ"
            .parse::<RegisterField>()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`ID_AA64MMFR3_EL1.TCRZ`: the register has no such field"
        );
        assert_eq!(
            error.suggestions().first().map(String::as_str),
            Some("ID_AA64MMFR3_EL1.TCRX")
        );
        for text in [
            "ID_AA64MMFR3_EL1",
            "ID_AA64MMFR3_EL1.",
            "ID_AA64MMFR3_EL1.[64]",
            "ID_AA64MMFR3_EL1.[1:2]",
            "ID_AA64MMFR3_EL1.[]",
            "CCSIDR_EL1[0].[32]",
            "NONE.TCRX",
            "0x0.[3]",
        ] {
            assert!(text.parse::<RegisterField>().is_err(), "{text}");
        }
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

    #[test]
    fn differences_name_fields_and_the_bits_of_none() {
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
        // The exception class decides what ISS means, so ISS is named, not one reading of it.
        assert_eq!(
            differences("ESR_EL1".parse().unwrap(), 0x8600_0010, 0),
            "EC 0x21 0x0;IL 0x1 0x0;ISS 0x10 0x0;"
        );
    }

    #[test]
    fn values_have_names() {
        let psci = RegisterId::PSCI_VERSION;
        assert_eq!(psci.value_name(0x10003), Some("1.3"));
        assert_eq!(psci.value_named("1.3"), Some(0x10003));
        assert_eq!(psci.value_named("0.2"), Some(2));
        assert_eq!(psci.value_named("9.9"), None);
        let level = parse("SMCCC_ARCH_WORKAROUND_1.level");
        assert_eq!(level.value_name(2), Some("not required"));
        assert_eq!(level.value_named("Not Required"), Some(2));
    }

    #[test]
    fn aarch32_fields_are_those_of_the_counterpart() {
        let clidr: RegisterId = "CLIDR".parse().unwrap();
        assert!(clidr.fields().iter().all(|field| field.msb() < 32));
        assert!(clidr.field("LoC").is_some());
        // SCTLR and SCTLR_EL1 share state but are laid out differently.
        assert_eq!("SCTLR".parse::<RegisterId>().unwrap().fields(), &[]);
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

        #[test]
        fn differences_cover_exactly_what_differs(
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

        #[test]
        fn any_text_is_a_field_or_an_error(text in "\\PC{0,40}") {
            let _ = text.parse::<RegisterField>();
        }
    }
}
