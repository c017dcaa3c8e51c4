//! What the user decided: from the command line, and from files of tolerances.
//!
//! A file holds entries in the table's own words:
//!
//! ```toml
//! [[tolerance]]
//! registers = ["TCR2_EL1"]
//! difference = "only-in-input"       # only-at-destination, value-not-taken
//! handling = "ignore"                # keep-at-reset, set-to-nearest, refuse
//! when = { value = "0x0", mask = "0xffff" }          # or { register = "ID_AA64MMFR3_EL1", value = "0x0", mask = "0xf" }
//! accelerator = "kvm"                # optional: kvm, tcg, hvf
//! reason = "our guests never set it"
//! ```

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use cpreg::plan::{Adjustment, Check, Consents, Ignore, Reason, Set};
use cpreg::register::{Naming, ParseRegisterError, RegisterField, RegisterId, parse_u64};
use cpreg::severity::Severity;
use cpreg::tolerance::{Category, Condition, Difference, Handling, Tolerance, Tolerances, Which};
use cpreg::vm::Vm;
use serde::Deserialize;

use crate::arguments::Consenting;
use crate::failure::Failure;

/// Reads everything that the user decided.
pub(crate) fn read(consenting: &Consenting, naming: Naming) -> Result<Consents, Failure> {
    let mut consents = Consents::default();
    for text in &consenting.ignore {
        consents.ignore.push(ignore(text, naming)?);
    }
    for text in &consenting.hide {
        if text.contains('/') || text == cpreg::vm::Extension::FEATURES {
            consents.drop_extensions.push(text.clone());
        } else {
            consents.hide.push(register(text, naming)?);
        }
    }
    for text in &consenting.set {
        consents.set.push(set(text, naming)?);
    }
    for text in &consenting.accept {
        match Severity::from_name(&text.to_ascii_lowercase()) {
            Some(severity) => {
                consents.accept_up_to = consents.accept_up_to.max(Some(severity));
            }
            None => consents.accept.push(
                register(text, naming)
                    .map_err(|failure| failure.hint("severities are low, medium, high"))?,
            ),
        }
    }
    Ok(consents)
}

/// What of all that decides nothing for this VM: most likely a slip, which must not go by in silence.
pub(crate) fn idle(consents: &Consents, vm: &Vm, check: &Check, naming: Naming) -> Vec<String> {
    let name = |id: RegisterId| id.display_in(naming).to_string();
    let has = |id: RegisterId| {
        let mut vcpus = vm.vcpus.iter();
        vcpus.any(|vcpu| vcpu.registers.get(id).is_some())
    };
    let decisions = || check.plan.vcpus.iter().flat_map(|vcpu| &vcpu.decisions);
    let mut notes = Vec::new();
    let mut note = |option: &str, what: &str, why: &str| {
        notes.push(format!("--{option} {what} changes nothing: {why}"));
    };
    let absent = "it is not in the VM's list of registers";
    for ignore in &consents.ignore {
        let id = ignore.register;
        let decides = decisions().any(|decision| {
            decision.register == id
                && matches!(decision.reason, Reason::UserIgnores | Reason::UserCondition)
        });
        if !has(id) {
            note("ignore", &name(id), absent);
        } else if !decides && !consents.hide.contains(&id) {
            note(
                "ignore",
                &name(id),
                "the destination takes it, or it is decided otherwise",
            );
        }
    }
    for id in &consents.hide {
        if !has(*id) {
            note("hide", &name(*id), absent);
        }
    }
    for set in &consents.set {
        if !has(set.register) {
            note("set", &name(set.register), absent);
        }
    }
    for id in &consents.accept {
        let adjusted = |adjustment: &Adjustment| {
            let counterpart = adjustment.register.counterpart();
            adjustment.register == *id || counterpart.is_some_and(|it| it.id == *id)
        };
        let plan = &check.plan;
        if !plan.adjusted.iter().chain(&plan.proposed).any(adjusted) {
            note("accept", &name(*id), "no change of it is proposed");
        }
    }
    for extension in &consents.drop_extensions {
        let mut extensions = vm.vcpus.iter().flat_map(|vcpu| &vcpu.extensions);
        if !extensions.any(|it| it.name == extension.as_str()) {
            note(
                "hide",
                extension,
                "the VM has no such part that could be left out",
            );
        }
    }
    notes
}

/// The built-in table with the entries of these files before it.
pub(crate) fn tolerances(files: &[PathBuf]) -> Result<Tolerances, Failure> {
    let mut tolerances = Tolerances::default();
    for path in files.iter().rev() {
        tolerances.add_operator_entries(file(path)?);
    }
    Ok(tolerances)
}

/// A register by any of its spellings.
pub(crate) fn register(text: &str, naming: Naming) -> Result<RegisterId, Failure> {
    RegisterId::parse_in(text, naming).map_err(|error| misspelt(text, error))
}

/// A register's field, `REG.FIELD`.
pub(crate) fn field(text: &str, naming: Naming) -> Result<RegisterField, Failure> {
    let Some((name, field)) = text.split_once('.') else {
        return Err(Failure::new(format!("`{text}` names no field")).hint("write it as REG.FIELD"));
    };
    let id = register(name, naming)?;
    RegisterField::parse_in(text, naming).map_err(|error| {
        let failure = Failure::new(format!("`{text}` names no field")).because(error);
        let fields: Vec<_> = id.fields().iter().map(|field| field.name()).collect();
        if fields.is_empty() || field.starts_with('[') {
            failure.hint(format!(
                "bits are fields too: {}.[3:0]",
                id.display_in(naming)
            ))
        } else {
            failure.hint(format!("the register's fields: {}", fields.join(", ")))
        }
    })
}

fn misspelt(text: &str, error: ParseRegisterError) -> Failure {
    let suggestions = error.suggestions().join(", ");
    let failure = Failure::new(format!("`{text}` names no register")).because(error);
    if suggestions.is_empty() {
        failure
    } else {
        failure.hint(format!("perhaps you mean: {suggestions}"))
    }
}

/// A number, decimal or `0x` hexadecimal.
pub(crate) fn number(text: &str) -> Result<u64, Failure> {
    parse_u64(text).map_err(|error| {
        Failure::new(format!("`{text}` is no number of 64 bits"))
            .because(error)
            .hint("write it as 42 or 0x2a")
    })
}

/// A register's value: a number, or the name that the value has (`1.1`).
fn value_of(id: RegisterId, text: &str) -> Result<u64, Failure> {
    id.value_named(text).map_or_else(|| number(text), Ok)
}

fn ignore(text: &str, naming: Naming) -> Result<Ignore, Failure> {
    let Some((name, condition)) = text.split_once('=').filter(|_| !text.starts_with("op0=")) else {
        return Ok(Ignore {
            register: register(text, naming)?,
            only_if: None,
        });
    };
    let id = register(name, naming)?;
    let (value, mask) = match condition.split_once('/') {
        Some((value, mask)) => (value_of(id, value)?, number(mask)?),
        None => (value_of(id, condition)?, u64::MAX),
    };
    Ok(Ignore {
        register: id,
        only_if: Some((value, mask)),
    })
}

fn set(text: &str, naming: Naming) -> Result<Set, Failure> {
    let (name, value) = text.rsplit_once('=').ok_or_else(|| {
        Failure::new(format!("--set {text}: a value is missing"))
            .hint("write it as REG=VALUE or REG.FIELD=VALUE, such as PSCI_VERSION=1.1")
    })?;
    if !name.contains('.') {
        let id = register(name, naming)?;
        let wanted = value_of(id, value)?;
        if let Some(bytes @ 1..=7) = id.size_bytes()
            && wanted >> (8 * bytes) != 0
        {
            return Err(Failure::new(format!(
                "--set {text}: {wanted:#x} does not fit into {} bits",
                8 * bytes
            )));
        }
        return Ok(Set {
            register: id,
            mask: u64::MAX,
            value: wanted,
        });
    }
    let field = field(name, naming)?;
    let wanted = field.value_named(value).map_or_else(|| number(value), Ok)?;
    let inserted = field.field.insert(0, wanted).ok_or_else(|| {
        Failure::new(format!(
            "--set {text}: {wanted:#x} does not fit into {} bits",
            field.field.width()
        ))
    })?;
    Ok(Set {
        register: field.id,
        mask: field.field.mask(),
        value: inserted,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOfTolerances {
    #[serde(default)]
    tolerance: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    registers: Vec<String>,
    difference: String,
    handling: String,
    #[serde(default)]
    when: Option<When>,
    #[serde(default)]
    accelerator: Option<String>,
    reason: String,
    #[serde(default)]
    advice: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    register: Option<String>,
    value: String,
    mask: Option<String>,
}

fn file(path: &Path) -> Result<Vec<Tolerance>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, error))?;
    let file: FileOfTolerances = toml::from_str(&text).map_err(|error| {
        Failure::new(format!("{} is no file of tolerances", path.display())).because(error)
    })?;
    let entries = file.tolerance.into_iter().zip(1..);
    entries
        .map(|(entry, number)| {
            let place = format!("{}, entry {number}", path.display());
            entry.read().map_err(|failure| failure.within(place))
        })
        .collect()
}

impl Entry {
    fn read(self) -> Result<Tolerance, Failure> {
        let registers: Vec<RegisterId> = self
            .registers
            .iter()
            .map(|name| register(name, Naming::Kvm))
            .collect::<Result<_, _>>()?;
        let difference = Difference::from_name(&self.difference).ok_or_else(|| {
            Failure::new(format!(
                "difference `{}` is none of only-in-input, only-at-destination, value-not-taken",
                self.difference
            ))
        })?;
        let handling = handling(&self.handling)?;
        let accelerator = match &self.accelerator {
            None => None,
            Some(name) => Some(cpreg::destination::Accelerator::from_name(name).ok_or_else(
                || Failure::new(format!("accelerator `{name}` is none of kvm, tcg, hvf")),
            )?),
        };
        Ok(Tolerance {
            registers: Which::These(Cow::Owned(registers)),
            accelerator,
            difference,
            condition: self
                .when
                .as_ref()
                .map_or(Ok(Condition::Always), When::read)?,
            handling,
            visible: None,
            category: Category::Operator,
            reason: Cow::Owned(self.reason),
            advice: Cow::Owned(self.advice),
            history: Vec::new(),
            by_operator: true,
        })
    }
}

fn handling(name: &str) -> Result<Handling, Failure> {
    if let Some(value) = name.strip_prefix("set ") {
        return number(value).map(Handling::Set);
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
            "handling `{name}` is none of ignore, keep-at-reset, set-to-nearest, set VALUE, refuse"
        ))
    })
}

impl When {
    fn read(&self) -> Result<Condition, Failure> {
        let expected = number(&self.value)?;
        let mask = self.mask.as_deref().map_or(Ok(u64::MAX), number)?;
        Ok(match &self.register {
            None => Condition::Value { mask, expected },
            Some(name) => Condition::Other {
                register: register(name, Naming::Kvm)?,
                mask,
                expected,
            },
        })
    }
}
