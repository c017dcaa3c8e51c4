//! Tolerance files, which an operator adds to the built-in table.
//!
//! An entry uses the words of the table:
//!
//! ```toml
//! [[tolerance]]
//! registers = ["TCR2_EL1"]
//! difference = "source-only"       # destination-only, value-not-accepted, other-id
//! handling = "ignore"                # keep-at-reset, set VALUE, set-to-nearest, refuse; for
//!                                    # other-id: rename REGISTER
//! when = { register = "ID_AA64MMFR3_EL1", field = "TCRX", equals = 0 }
//! # or: when = { equals = 0 }
//! # or: when = { value = "0x0", mask = "0xffff" }
//! accelerator = "kvm"                # optional: kvm, tcg, hvf
//! reason = "our guests never set it"
//! ```

use std::borrow::Cow;
use std::path::Path;

use cpreg::register::{Naming, RegisterField, RegisterId};
use cpreg::remedy::Remedy;
use cpreg::tolerance::{
    Category, Condition, EntryOrigin, Handling, RegisterDifference, RegisterSelector, Tolerance,
};
use cpreg_report::names::FailureKind;
use serde::Deserialize;

use crate::failure::Failure;
use crate::names::{
    BitsValue, parse_field, parse_field_value, parse_number, parse_register, parse_register_value,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    tolerance: Vec<ToleranceEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToleranceEntry {
    registers: Vec<String>,
    difference: String,
    handling: String,
    #[serde(default)]
    when: Option<ConditionEntry>,
    #[serde(default)]
    accelerator: Option<String>,
    reason: String,
    #[serde(default)]
    advice: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionEntry {
    register: Option<String>,
    field: Option<String>,
    equals: Option<Scalar>,
    value: Option<Scalar>,
    mask: Option<Scalar>,
}

/// Number or name of a value.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// Parses the text of a tolerance file. Error messages contain `path`.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Vec<Tolerance>, Failure> {
    let document: Document = toml::from_str(text).map_err(|error| {
        Failure::new(format!("{} is not a tolerance file", path.display()))
            .with_kind(FailureKind::DOCUMENT)
            .with_path(path)
            .with_cause(error)
    })?;
    let entries = document.tolerance.into_iter().zip(1..);
    entries
        .map(|(entry, number)| {
            let origin = EntryOrigin {
                file: path.display().to_string(),
                number,
            };
            let context = format!("{}, entry {number}", origin.file);
            entry
                .into_tolerance(origin)
                .map_err(|failure| failure.with_context(context).with_path(path))
        })
        .collect()
}

/// Handling in front of the name of a register.
const RENAME: &str = "rename ";

impl ToleranceEntry {
    fn into_tolerance(self, origin: EntryOrigin) -> Result<Tolerance, Failure> {
        let registers: Vec<RegisterId> = self
            .registers
            .iter()
            .map(|name| parse_register(name, Naming::Kvm))
            .collect::<Result<_, _>>()?;
        if registers.is_empty() {
            return Err(Failure::new("registers is empty"));
        }
        if self.reason.trim().is_empty() {
            return Err(Failure::new("the reason is empty").with_hint(
                "write why the difference is harmless, or why it is refused: every report prints \
                 the reason",
            ));
        }
        let difference = self.difference.to_ascii_lowercase();
        let difference = RegisterDifference::from_name(&difference).ok_or_else(|| {
            Failure::new(format!(
                "difference `{}` is not one of source-only, destination-only, value-not-accepted, \
                 other-id",
                self.difference
            ))
        })?;
        let handling = parse_handling(&self.handling)?;
        let accelerator = match &self.accelerator {
            None => None,
            Some(name) => Some(cpreg::destination::Accelerator::from_name(name).ok_or_else(
                || Failure::new(format!("accelerator `{name}` is not one of kvm, tcg, hvf")),
            )?),
        };
        let is_rename = matches!(handling, Handling::Rename(_));
        if is_rename != (difference == RegisterDifference::OtherId) {
            return Err(Failure::new(
                "the difference other-id and the handling `rename REGISTER` need each other",
            ));
        }
        if is_rename && (registers.len() != 1 || accelerator.is_none() || self.when.is_some()) {
            return Err(Failure::new(
                "an entry for other-id has one register, an accelerator, and no `when`",
            ));
        }
        let condition = match &self.when {
            None => Condition::Always,
            Some(when) => when.to_condition(&registers)?,
        };
        Ok(Tolerance {
            registers: RegisterSelector::Ids(Cow::Owned(registers)),
            accelerator,
            difference,
            condition,
            handling,
            visible_effect: None,
            category: Category::Operator,
            reason: Cow::Owned(self.reason),
            remedy: (!self.advice.is_empty()).then_some(Remedy::Text(Cow::Owned(self.advice))),
            history: Vec::new(),
            is_operator_entry: true,
            origin: Some(origin),
        })
    }
}

fn parse_handling(text: &str) -> Result<Handling, Failure> {
    let name = text.to_ascii_lowercase();
    if name.starts_with(RENAME) {
        return parse_register(&text[RENAME.len()..], Naming::Kvm).map(Handling::Rename);
    }
    if let Some(value) = name.strip_prefix("set ") {
        return parse_number(value).map(Handling::Set);
    }
    [
        Handling::Ignore,
        Handling::KeepAtReset,
        Handling::SetToNearest,
        Handling::Refuse,
    ]
    .into_iter()
    .find(|handling| handling.name() == name)
    .ok_or_else(|| {
        Failure::new(format!(
            "handling `{name}` is not one of ignore, keep-at-reset, set-to-nearest, set VALUE, \
             rename REGISTER, refuse"
        ))
    })
}

impl ConditionEntry {
    /// Returns the condition of an entry for these registers.
    fn to_condition(&self, registers: &[RegisterId]) -> Result<Condition, Failure> {
        let other = self.register.as_ref();
        let other = other
            .map(|name| parse_register(name, Naming::Kvm))
            .transpose()?;
        let compared = match other {
            Some(other) => vec![other],
            None => registers.to_vec(),
        };
        // One condition of the table compares the same bits of all registers of the entry.
        let mut common: Option<(RegisterId, BitsValue)> = None;
        for id in compared {
            let bits = self.bits(id)?;
            match common {
                Some((first, common)) if common != bits => {
                    let message = format!("`when` means other bits in {id} than in {first}");
                    return Err(Failure::new(message).with_hint("write an entry for each register"));
                }
                _ => common = Some((id, bits)),
            }
        }
        let Some((_, BitsValue { mask, value })) = common else {
            return Ok(Condition::Always);
        };
        if value & !mask != 0 {
            return Err(Failure::new(format!(
                "`when` never holds: value {value:#x} has bits outside mask {mask:#x}"
            )));
        }
        Ok(match other {
            None => Condition::Value {
                mask,
                expected: value,
            },
            Some(register) => Condition::OtherRegister {
                register,
                mask,
                expected: value,
            },
        })
    }

    /// Returns the bits of a register that the condition compares, and their value.
    fn bits(&self, id: RegisterId) -> Result<BitsValue, Failure> {
        match (&self.field, &self.equals, &self.value, &self.mask) {
            (Some(field), Some(value), None, None) => {
                let RegisterField { field, .. } =
                    parse_field(&format!("{id}.{field}"), Naming::Kvm)?;
                let value = parse_field_value(RegisterField { id, field }, &value.text())?;
                Ok(BitsValue {
                    mask: field.mask(),
                    value: field.insert(0, value).unwrap_or_default(),
                })
            }
            (None, Some(value), None, None) => parse_register_value(id, &value.text()),
            (None, None, Some(value), mask) => Ok(BitsValue {
                mask: match mask {
                    Some(mask) => parse_number(&mask.text())?,
                    None => u64::MAX,
                },
                value: parse_number(&value.text())?,
            }),
            _ => Err(Failure::new(
                "`when` has other members than { field, equals }, { equals } or { value, mask }",
            )
            .with_hint(
                "write { field = \"TCRX\", equals = 0 }, { equals = 0 } or \
                 { value = \"0x0\", mask = \"0xf\" }, each also with register = \"NAME\" for \
                 another register of the same vCPU",
            )),
        }
    }
}
