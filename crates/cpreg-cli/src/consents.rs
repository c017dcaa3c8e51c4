//! What the user decided, from the command line.

use cpreg::plan::{Adjustment, Check, Consents, Ignore, Reason, Set};
use cpreg::register::{Naming, RegisterId};
use cpreg::severity::Severity;
use cpreg::vm::Vm;

use crate::arguments::Consenting;
use crate::failure::Failure;
use crate::names::{field, number, register};

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
