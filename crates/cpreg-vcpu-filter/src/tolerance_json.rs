//! An operator's tolerances in the JSON document of a policy.
//!
//! The command reads them from TOML files, checks them, and resolves names of registers and fields.
//! The document has ids, masks and values.

use std::borrow::Cow;

use cpreg::destination::Accelerator;
use cpreg::register::RegisterId;
use cpreg::remedy::Remedy;
use cpreg::tolerance::{
    Category, Condition, EntryOrigin, Handling, RegisterDifference, RegisterSelector, Tolerance,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy_text::{PolicyError, id_text, parse_ids, parse_number};

/// Tolerance of the operator.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToleranceJson {
    /// Ids of the registers.
    registers: Vec<String>,
    /// `"source-only"`, `"destination-only"`, `"value-not-accepted"` or `"other-id"`.
    difference: String,
    /// `"ignore"`, `"keep-at-reset"`, `"set"`, `"set-to-nearest"`, `"rename"` or `"refuse"`.
    handling: String,
    /// Value that `"set"` writes, or the correct id for `"rename"`; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Condition of the entry; absent if it always holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condition: Option<ConditionJson>,
    /// `"kvm"`, `"tcg"` or `"hvf"`; absent for any accelerator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accelerator: Option<String>,
    /// Reason of the operator, in words.
    reason: String,
    /// Remedy if the condition does not hold, in words; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    /// Place of the entry; absent for an entry without a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<OriginJson>,
}

/// Condition of a tolerance: bits of a register have a value.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConditionJson {
    /// Id of another register of the same vCPU; absent for the register itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    register: Option<String>,
    /// Compared bits.
    mask: String,
    /// Expected value of these bits.
    value: String,
}

/// Place of a tolerance.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OriginJson {
    /// Name of the file.
    file: String,
    /// Number of the entry in the file, from 1.
    entry: usize,
}

impl ToleranceJson {
    /// Returns the entry as JSON.
    ///
    /// # Errors
    /// Returns an error for an entry that no file of an operator can have.
    pub(crate) fn from_entry(entry: &Tolerance) -> Result<Self, PolicyError> {
        let invalid = |member| PolicyError::Member {
            member,
            text: entry.reason.to_string(),
        };
        let RegisterSelector::Ids(registers) = &entry.registers else {
            return Err(invalid("registers"));
        };
        let bits = |register: Option<RegisterId>, mask: u64, value: u64| {
            Some(ConditionJson {
                register: register.map(id_text),
                mask: format!("{mask:#x}"),
                value: format!("{value:#x}"),
            })
        };
        let condition = match &entry.condition {
            Condition::Always => None,
            Condition::Value { mask, expected } => bits(None, *mask, *expected),
            Condition::OtherRegister {
                register,
                mask,
                expected,
            } => bits(Some(*register), *mask, *expected),
            _ => return Err(invalid("condition")),
        };
        Ok(Self {
            registers: registers.iter().copied().map(id_text).collect(),
            difference: entry.difference.name().to_owned(),
            handling: entry.handling.name().to_owned(),
            value: match entry.handling {
                Handling::Set(value) => Some(format!("{value:#x}")),
                Handling::Rename(id) => Some(id_text(id)),
                _ => None,
            },
            condition,
            accelerator: entry.accelerator.map(|accelerator| accelerator.to_string()),
            reason: entry.reason.to_string(),
            advice: entry.remedy.as_ref().map(ToString::to_string),
            origin: entry.origin.as_ref().map(|origin| OriginJson {
                file: origin.file.clone(),
                entry: origin.number,
            }),
        })
    }

    /// Returns the entry of the table.
    ///
    /// # Errors
    /// Returns an error for an unknown name or an invalid number.
    pub(crate) fn to_entry(&self) -> Result<Tolerance, PolicyError> {
        let unknown = |member, text: &str| PolicyError::Member {
            member,
            text: text.to_owned(),
        };
        let difference = RegisterDifference::from_name(&self.difference)
            .ok_or_else(|| unknown("difference", &self.difference))?;
        let handling = match (self.handling.as_str(), &self.value) {
            ("set", Some(value)) => Handling::Set(parse_number("value", value)?),
            ("rename", Some(id)) => {
                Handling::Rename(RegisterId::from_raw(parse_number("value", id)?))
            }
            ("ignore", None) => Handling::Ignore,
            ("keep-at-reset", None) => Handling::KeepAtReset,
            ("set-to-nearest", None) => Handling::SetToNearest,
            ("refuse", None) => Handling::Refuse,
            (name, _) => return Err(unknown("handling", name)),
        };
        let accelerator = self
            .accelerator
            .as_ref()
            .map(|name| Accelerator::from_name(name).ok_or_else(|| unknown("accelerator", name)));
        let condition = self.condition.as_ref().map(ConditionJson::to_condition);
        let advice = self.advice.clone();
        Ok(Tolerance {
            registers: RegisterSelector::Ids(Cow::Owned(parse_ids("registers", &self.registers)?)),
            accelerator: accelerator.transpose()?,
            difference,
            condition: condition.transpose()?.unwrap_or(Condition::Always),
            handling,
            visible_effect: None,
            category: Category::Operator,
            reason: Cow::Owned(self.reason.clone()),
            remedy: advice.map(|advice| Remedy::Text(Cow::Owned(advice))),
            history: Vec::new(),
            is_operator_entry: true,
            origin: self.origin.as_ref().map(|origin| EntryOrigin {
                file: origin.file.clone(),
                number: origin.entry,
            }),
        })
    }
}

impl ConditionJson {
    fn to_condition(&self) -> Result<Condition, PolicyError> {
        let mask = parse_number("mask", &self.mask)?;
        let expected = parse_number("value", &self.value)?;
        Ok(match &self.register {
            None => Condition::Value { mask, expected },
            Some(register) => Condition::OtherRegister {
                register: RegisterId::from_raw(parse_number("register", register)?),
                mask,
                expected,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(condition: Condition, handling: Handling) -> Tolerance {
        Tolerance {
            registers: RegisterSelector::Ids(Cow::Owned(vec![RegisterId::TCR2_EL1])),
            accelerator: Some(Accelerator::Kvm),
            difference: RegisterDifference::SourceOnly,
            condition,
            handling,
            visible_effect: None,
            category: Category::Operator,
            reason: Cow::Borrowed("our guests never set it"),
            remedy: Some(Remedy::Text(Cow::Borrowed("ask us"))),
            history: Vec::new(),
            is_operator_entry: true,
            origin: Some(EntryOrigin {
                file: "site.toml".to_owned(),
                number: 2,
            }),
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let other = Condition::OtherRegister {
            register: RegisterId::ID_AA64MMFR3_EL1,
            mask: 0xf,
            expected: 0,
        };
        let value = Condition::Value {
            mask: u64::MAX,
            expected: 3,
        };
        for (condition, handling) in [
            (Condition::Always, Handling::Refuse),
            (value, Handling::Set(0x1234)),
            (other, Handling::Ignore),
        ] {
            let entry = entry(condition, handling);
            let json = ToleranceJson::from_entry(&entry).expect("an operator's entry");
            let read = json.to_entry().expect("an entry");
            assert_eq!(format!("{read:?}"), format!("{entry:?}"));
        }
    }

    #[test]
    fn entries_of_other_forms_are_errors() {
        let built_in = Condition::NoSuchCache;
        assert!(ToleranceJson::from_entry(&entry(built_in, Handling::Ignore)).is_err());
        let json = ToleranceJson::from_entry(&entry(Condition::Always, Handling::Set(1)));
        let json = json.expect("an operator's entry");
        let without_value = ToleranceJson {
            value: None,
            ..json
        };
        assert!(without_value.to_entry().is_err());
    }
}
