//! Names of values of registers and fields.

use alloc::borrow::Cow;

use super::field::Field;
use super::id::RegisterId;
use super::tables;
use crate::cpu_model;

impl RegisterId {
    /// Returns the name of the whole value, if it has one: `1.3` for `PSCI_VERSION` 0x10003.
    pub fn value_name(self, value: u64) -> Option<&'static str> {
        value_name(self.name()?, "", value)
    }

    /// Returns the name of the value, as [`value_name`](Self::value_name); for MIDR_EL1 the CPU
    /// model and the machines that have it.
    ///
    /// If no whole value has a name, returns the name of the value of
    /// [`named_field`](Self::named_field), unless other bits are set.
    pub fn describe_value(self, value: u64) -> Option<Cow<'static, str>> {
        if self == Self::MIDR_EL1 {
            return cpu_model::describe_midr(value).map(Cow::Owned);
        }
        let field_value_name = || {
            let field = self.named_field()?;
            let is_alone = value & !field.mask() == 0;
            value_name(self.name()?, field.name(), field.extract(value)).filter(|_| is_alone)
        };
        self.value_name(value)
            .or_else(field_value_name)
            .map(Cow::Borrowed)
    }

    /// Returns the only field of the register whose values have names: `level` of
    /// `KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1`.
    pub fn named_field(self) -> Option<Field> {
        let fields = self.fields().iter();
        let mut named = fields.filter(|field| named_values(self, field.name()).next().is_some());
        named.next().filter(|_| named.next().is_none()).copied()
    }

    /// Returns the value with this name. Case does not matter, nor which of blank, `-` and `_`
    /// separates words.
    pub fn value_by_name(self, text: &str) -> Option<u64> {
        value_by_name(self.name()?, "", text)
    }

    /// Returns the whole values that have names, ascending: 0x10003 `1.3` of `PSCI_VERSION`.
    pub fn named_values(self) -> impl Iterator<Item = (u64, &'static str)> {
        named_values(self, "")
    }
}

pub(super) fn value_name(register: &str, field: &str, value: u64) -> Option<&'static str> {
    tables::VALUES
        .iter()
        .find(|(r, f, v, _)| (*r, *f, *v) == (register, field, value))
        .map(|(_, _, _, text)| *text)
}

pub(super) fn named_values(
    id: RegisterId,
    field: &'static str,
) -> impl Iterator<Item = (u64, &'static str)> {
    let name = id.name();
    tables::VALUES
        .iter()
        .filter(move |(r, f, _, _)| name == Some(*r) && *f == field)
        .map(|(_, _, value, text)| (*value, *text))
}

pub(super) fn value_by_name(register: &str, field: &str, text: &str) -> Option<u64> {
    tables::VALUES
        .iter()
        .find(|(r, f, _, t)| (*r, *f) == (register, field) && is_same_name(t, text.trim()))
        .map(|(_, _, value, _)| *value)
}

fn is_same_name(a: &str, b: &str) -> bool {
    let normalize = |byte: u8| match byte {
        b' ' | b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    a.bytes().map(normalize).eq(b.bytes().map(normalize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::RegisterField;

    fn parse(text: &str) -> RegisterField {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn values_have_names() {
        let psci = RegisterId::PSCI_VERSION;
        assert_eq!(psci.value_name(0x10003), Some("1.3"));
        assert_eq!(psci.value_by_name("1.3"), Some(0x10003));
        assert_eq!(psci.value_by_name("0.2"), Some(2));
        assert_eq!(psci.value_by_name("9.9"), None);
        let level = parse("SMCCC_ARCH_WORKAROUND_1.level");
        assert_eq!(level.value_name(2), Some("not-required"));
        for text in ["not-required", "Not Required", "NOT_REQUIRED"] {
            assert_eq!(level.value_by_name(text), Some(2), "{text}");
        }
        assert_eq!(level.value_by_name("notrequired"), None);
    }

    #[test]
    fn the_only_named_field_names_the_whole_value() {
        let workaround = parse("SMCCC_ARCH_WORKAROUND_2.level").id;
        assert_eq!(workaround.named_field().map(Field::name), Some("level"));
        assert_eq!(
            workaround.describe_value(3).as_deref(),
            Some("not-required")
        );
        // Bit 4, `enabled`, is another field.
        assert_eq!(workaround.describe_value(0x13), None);
        assert_eq!(workaround.describe_value(9), None);
        for id in [RegisterId::PSCI_VERSION, RegisterId::TCR2_EL1] {
            assert_eq!(id.named_field(), None, "{id}");
        }
    }
}
