//! [`RegisterField`]: a field of a particular register, with printing and parsing.

use core::fmt;
use core::str::FromStr;

use super::field::Field;
use super::id::{RegisterClass, RegisterId};
use super::name::Naming;
use super::suggestion::suggest;
use super::value_name::{named_values, value_by_name, value_name};
use crate::error::{Error, ErrorKind};

/// Field of a particular register: `ID_AA64MMFR3_EL1.TCRX`.
///
/// The type also parses and prints bits by number: `ID_AA64MMFR3_EL1.[51:48]`, `SCTLR_EL1.[17]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegisterField {
    /// Id of the register.
    pub id: RegisterId,
    /// Field of the register, or nameless bits of it.
    pub field: Field,
}

impl RegisterField {
    /// Returns the name of a value of the field, if it has one: `not-required` for level 2 of
    /// `KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1`.
    pub fn value_name(self, field: u64) -> Option<&'static str> {
        value_name(self.id.name()?, self.field.name(), field)
    }

    /// Returns the values of the field that have names, ascending.
    pub fn named_values(self) -> impl Iterator<Item = (u64, &'static str)> {
        named_values(self.id, self.field.name())
    }

    /// Returns the value of the field with this name. Case does not matter, nor which of blank, `-`
    /// and `_` separates words.
    pub fn value_by_name(self, text: &str) -> Option<u64> {
        value_by_name(self.id.name()?, self.field.name(), text)
    }

    /// Parses `REGISTER.FIELD`, with the register in any spelling of [`RegisterId::parse_in`].
    ///
    /// # Errors
    ///
    /// Returns an error if the register is unknown or lacks the field.
    pub fn parse_in(text: &str, naming: Naming) -> Result<Self, Error> {
        let error = |kind| Error::new(text, kind);
        let (register, name) = text.split_once('.').ok_or_else(|| {
            error(ErrorKind::Missing {
                part: "a field after a dot",
            })
        })?;
        let id = RegisterId::parse_in(register, naming)?;
        let name = name.trim();
        let field = match name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            // Some names of the architecture contain brackets too, but they begin with a letter.
            Some(range) => {
                let (msb, lsb) = range.split_once(':').unwrap_or((range, range));
                let bits = msb.trim().parse().ok().zip(lsb.trim().parse().ok());
                bits.and_then(|(msb, lsb)| Field::bits(msb, lsb))
                    .ok_or_else(|| {
                        error(ErrorKind::OutOfRange {
                            part: "[msb:lsb]",
                            max: 63,
                        })
                    })?
            }
            None => id.field(name).ok_or_else(|| {
                let names = id.fields().iter().map(|field| field.name());
                let nearest = suggest(name, names);
                error(ErrorKind::UnknownField).with_suggestions(
                    nearest
                        .iter()
                        .map(|field| alloc::format!("{}.{field}", id.display_in(naming))),
                )
            })?,
        };
        let bits = id.size_bytes().unwrap_or(8).saturating_mul(8);
        if id.class() == RegisterClass::Unknown || usize::from(field.msb()) >= bits {
            return Err(error(ErrorKind::UnknownField));
        }
        Ok(Self { id, field })
    }
}

impl FromStr for RegisterField {
    type Err = Error;

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
    use alloc::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> RegisterField {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
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
    fn an_unknown_field_is_an_error_with_suggestions() {
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

    proptest! {
        #[test]
        fn any_text_is_a_field_or_an_error(text in "\\PC{0,40}") {
            let _ = text.parse::<RegisterField>();
        }
    }
}
