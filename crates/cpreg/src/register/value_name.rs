//! Names of values of registers and fields.

use alloc::borrow::Cow;

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
    pub fn describe_value(self, value: u64) -> Option<Cow<'static, str>> {
        if self == Self::MIDR_EL1 {
            return cpu_model::describe_midr(value).map(Cow::Owned);
        }
        self.value_name(value).map(Cow::Borrowed)
    }

    /// Returns the value with this name, in upper or lower case.
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
        .find(|(r, f, _, t)| (*r, *f) == (register, field) && t.eq_ignore_ascii_case(text))
        .map(|(_, _, value, _)| *value)
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
        assert_eq!(level.value_name(2), Some("not required"));
        assert_eq!(level.value_by_name("Not Required"), Some(2));
    }
}
