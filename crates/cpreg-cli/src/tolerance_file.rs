//! Tolerance files, which an operator adds to the built-in table.
//!
//! An entry uses the words of the table:
//!
//! ```toml
//! [[tolerance]]
//! registers = ["TCR2_EL1"]
//! difference = "source-only"       # destination-only, value-not-accepted
//! handling = "ignore"                # keep-at-reset, set-to-nearest, refuse
//! when = { value = "0x0", mask = "0xffff" }
//! # or: when = { register = "ID_AA64MMFR3_EL1", value = "0x0", mask = "0xf" }
//! accelerator = "kvm"                # optional: kvm, tcg, hvf
//! reason = "our guests never set it"
//! ```

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use cpreg::register::{Naming, RegisterId};
use cpreg::remedy::Remedy;
use cpreg::tolerance::{
    Category, Condition, Handling, RegisterDifference, RegisterSelector, Tolerance, Tolerances,
};
use cpreg_report::names::FailureKind;
use serde::Deserialize;

use crate::failure::Failure;
use crate::names::{parse_number, parse_register};

/// Returns the built-in table, preceded by the entries of these files.
pub(crate) fn read(files: &[PathBuf]) -> Result<Tolerances, Failure> {
    let mut tolerances = Tolerances::default();
    for path in files.iter().rev() {
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, error))?;
        tolerances.add_operator_entries(parse(&text, path)?);
    }
    Ok(tolerances)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToleranceFile {
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
    value: String,
    mask: Option<String>,
}

/// Parses the text of a tolerance file. Error messages contain `path`.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Vec<Tolerance>, Failure> {
    let file: ToleranceFile = toml::from_str(text).map_err(|error| {
        Failure::new(format!("{} is not a tolerance file", path.display()))
            .with_kind(FailureKind::DOCUMENT)
            .with_path(path)
            .with_cause(error)
    })?;
    let entries = file.tolerance.into_iter().zip(1..);
    entries
        .map(|(entry, number)| {
            let context = format!("{}, entry {number}", path.display());
            entry
                .into_tolerance()
                .map_err(|failure| failure.with_context(context).with_path(path))
        })
        .collect()
}

impl ToleranceEntry {
    fn into_tolerance(self) -> Result<Tolerance, Failure> {
        let registers: Vec<RegisterId> = self
            .registers
            .iter()
            .map(|name| parse_register(name, Naming::Kvm))
            .collect::<Result<_, _>>()?;
        let difference = RegisterDifference::from_name(&self.difference).ok_or_else(|| {
            Failure::new(format!(
                "difference `{}` is not one of source-only, destination-only, value-not-accepted",
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
        Ok(Tolerance {
            registers: RegisterSelector::Ids(Cow::Owned(registers)),
            accelerator,
            difference,
            condition: self
                .when
                .as_ref()
                .map_or(Ok(Condition::Always), ConditionEntry::to_condition)?,
            handling,
            visible_effect: None,
            category: Category::Operator,
            reason: Cow::Owned(self.reason),
            remedy: (!self.advice.is_empty()).then_some(Remedy::Text(Cow::Owned(self.advice))),
            history: Vec::new(),
            is_operator_entry: true,
        })
    }
}

fn parse_handling(name: &str) -> Result<Handling, Failure> {
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
             refuse"
        ))
    })
}

impl ConditionEntry {
    fn to_condition(&self) -> Result<Condition, Failure> {
        let expected = parse_number(&self.value)?;
        let mask = self.mask.as_deref().map_or(Ok(u64::MAX), parse_number)?;
        Ok(match &self.register {
            None => Condition::Value { mask, expected },
            Some(name) => Condition::OtherRegister {
                register: parse_register(name, Naming::Kvm)?,
                mask,
                expected,
            },
        })
    }
}
