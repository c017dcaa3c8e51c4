//! User's consents to changes of the VM, from the command line.

use std::collections::BTreeSet;

use cpreg::plan::{Adjustment, Check, Consents, IgnoreConsent, Plan, Reason, SetConsent};
use cpreg::register::{Naming, RegisterId};
use cpreg::severity::Severity;
use cpreg::vm::Vm;

use crate::arguments::ConsentArgs;
use crate::failure::Failure;
use crate::names::{
    BitsValue, parse_field, parse_field_value, parse_number, parse_register, parse_register_value,
    value_names,
};
use crate::suggestion;

/// Parses the consents in the arguments.
pub(crate) fn read(arguments: &ConsentArgs, naming: Naming) -> Result<Consents, Failure> {
    let mut consents = Consents::default();
    for text in &arguments.ignore {
        consents.ignore.push(parse_ignore(text, naming)?);
    }
    for text in &arguments.drop {
        if text.contains('/') || text == cpreg::vm::Extension::FEATURES {
            consents.drop_extensions.push(text.clone());
        } else {
            consents.drop_registers.push(parse_register(text, naming)?);
        }
    }
    for text in &arguments.set {
        consents.set.push(parse_set("--set", text, naming)?);
    }
    for text in &arguments.accept {
        match Severity::from_name(text) {
            Some(Severity::Fatal) => {
                let message = "--accept fatal: such changes break a running guest";
                return Err(Failure::new(message).with_hint(
                    "--set REG.FIELD=VALUE takes the change of one field; `cpreg check` names the \
                     fields and what happens to the guest",
                ));
            }
            Some(severity) => {
                consents.accept_up_to = consents.accept_up_to.max(Some(severity));
            }
            None => consents.accept.push(
                parse_register(text, naming).map_err(|failure| with_severities(failure, text))?,
            ),
        }
    }
    Ok(consents)
}

/// Parses the consents in the arguments of a command that does not know its VMs in advance.
///
/// # Errors
/// Those of [`read`]; also for `--accept high`, because the registers to name are not known.
pub(crate) fn read_for_any_vm(
    arguments: &ConsentArgs,
    naming: Naming,
) -> Result<Consents, Failure> {
    let consents = read(arguments, naming)?;
    if consents.accept_up_to == Some(Severity::High) {
        return Err(high_failure().with_hint(
            "`cpreg check SOURCE DESTINATION` lists the registers; name each: --accept REG",
        ));
    }
    Ok(consents)
}

/// Returns the error of an `--accept` that names no register and no severity.
fn with_severities(failure: Failure, text: &str) -> Failure {
    let severities = [Severity::Low.name(), Severity::Medium.name()];
    // Registers of similar spelling only distract from a similar severity.
    match suggestion::find_nearest(text, severities.into_iter()) {
        Some(severity) => Failure::new(format!("`{text}` is neither a register nor a severity"))
            .with_hint(format!("similar severity: --accept {severity}")),
        None => failure.with_hint(format!("severities are {}", severities.join(" and "))),
    }
}

/// Returns an error for consents of a whole severity in a service, which decides about VMs that the
/// user has not reviewed. `command` is the service.
pub(crate) fn reject_unreviewed(arguments: &ConsentArgs, command: &str) -> Result<(), Failure> {
    let severities = arguments.accept.iter();
    let Some(severity) = severities
        .clone()
        .find(|it| Severity::from_name(it).is_some())
    else {
        return read(arguments, Naming::Kvm).map(drop);
    };
    Err(Failure::new(format!(
        "{command} with --accept {severity} would accept adjustments that were not reviewed"
    ))
    .with_hint("name the registers (--accept REG) that `cpreg check` proposes"))
}

/// Returns an error for `--accept high` that lists the registers to name instead.
pub(crate) fn reject_high_for_plan(
    consents: &Consents,
    plan: &Plan,
    naming: Naming,
) -> Result<(), Failure> {
    if consents.accept_up_to != Some(Severity::High) {
        return Ok(());
    }
    let proposed = plan.proposed_adjustments.iter();
    let high = proposed.filter(|adjustment| adjustment.severity == Severity::High);
    let names: BTreeSet<_> = high
        .map(|adjustment| format!("--accept {}", adjustment.register.display_in(naming)))
        .collect();
    let hint = if names.is_empty() {
        "no proposed change is of high severity; --accept medium takes all others".to_owned()
    } else {
        let names: Vec<_> = names.into_iter().collect();
        format!(
            "review each change and name its register: {}",
            names.join(" ")
        )
    };
    Err(high_failure().with_hint(hint))
}

fn high_failure() -> Failure {
    Failure::new("--accept high: changes of high severity are accepted only by register")
}

/// Reason of a note about a consent to a fatal change.
const FATAL: &str = "the change breaks a running guest";

/// Returns a note for each consent without effect on this VM, because such a consent is most likely
/// a mistake.
pub(crate) fn describe_unused(
    consents: &Consents,
    vm: &Vm,
    check: &Check,
    naming: Naming,
) -> Vec<String> {
    let name = |id: RegisterId| id.display_in(naming).to_string();
    let has = |id: RegisterId| {
        let mut vcpus = vm.vcpus.iter();
        vcpus.any(|vcpu| vcpu.registers.get(id).is_some())
    };
    let decisions = || check.plan.vcpus.iter().flat_map(|vcpu| &vcpu.decisions);
    let is_fatal = |id: RegisterId| {
        decisions().any(|decision| {
            decision.register == id && matches!(decision.reason, Reason::FatalChange(_))
        })
    };
    let mut notes = Vec::new();
    let mut note = |option: &str, value: &str, reason: &str| {
        notes.push(format!("--{option} {value} has no effect: {reason}"));
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
        } else if !decides && !consents.drop_registers.contains(&id) {
            let reason = if is_fatal(id) {
                FATAL
            } else {
                "the destination accepts the register, or another option decides it"
            };
            note("ignore", &name(id), reason);
        }
    }
    for id in &consents.drop_registers {
        if !has(*id) {
            note("drop", &name(*id), absent);
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
            adjustment.register == *id
                || counterpart.is_some_and(|counterpart| counterpart.id == *id)
        };
        let plan = &check.plan;
        if !plan
            .accepted_adjustments
            .iter()
            .chain(&plan.proposed_adjustments)
            .any(adjusted)
        {
            let reason = if is_fatal(*id) {
                FATAL
            } else {
                "no adjustment of it is proposed"
            };
            note("accept", &name(*id), reason);
        }
    }
    for extension in &consents.drop_extensions {
        let mut extensions = vm.vcpus.iter().flat_map(|vcpu| &vcpu.extensions);
        if !extensions.any(|vm_extension| vm_extension.name == extension.as_str()) {
            note(
                "drop",
                extension,
                "the VM has no such extension that can be dropped",
            );
        }
    }
    notes
}

fn parse_ignore(text: &str, naming: Naming) -> Result<IgnoreConsent, Failure> {
    let Some((name, condition)) = text.split_once('=').filter(|_| !text.starts_with("op0=")) else {
        return Ok(IgnoreConsent {
            register: parse_register(text, naming)?,
            condition: None,
        });
    };
    let id = parse_register(name, naming)?;
    let with_option = |failure: Failure| failure.with_context(format!("--ignore {text}"));
    let condition = if let Some((value, mask)) = condition.split_once('/') {
        let BitsValue { value, .. } = parse_register_value(id, value).map_err(with_option)?;
        (value, parse_number(mask).map_err(with_option)?)
    } else {
        let bits = parse_register_value(id, condition).map_err(with_option)?;
        (bits.value, bits.mask)
    };
    Ok(IgnoreConsent {
        register: id,
        condition: Some(condition),
    })
}

/// Parses the value of an option such as `--set`: `REG[.FIELD]=VALUE`.
pub(crate) fn parse_set(option: &str, text: &str, naming: Naming) -> Result<SetConsent, Failure> {
    let (name, value) = text
        .rsplit_once('=')
        .ok_or_else(|| missing_value(option, text, naming))?;
    let with_option = |failure: Failure| failure.with_context(format!("{option} {text}"));
    if !name.contains('.') {
        let register = parse_register(name, naming)?;
        let BitsValue { mask, value } =
            parse_register_value(register, value).map_err(with_option)?;
        return Ok(SetConsent {
            register,
            mask,
            value,
        });
    }
    let field = parse_field(name, naming)?;
    let value = parse_field_value(field, value).map_err(with_option)?;
    Ok(SetConsent {
        register: field.id,
        mask: field.field.mask(),
        value: field.field.insert(0, value).unwrap_or_default(),
    })
}

/// Returns the error for an option such as `--set REG` without a value, with the names of the
/// register's values.
fn missing_value(option: &str, text: &str, naming: Naming) -> Failure {
    let failure = Failure::new(format!("{option} {text}: a value is missing"));
    let names: Vec<_> = match parse_field(text, naming) {
        Ok(field) => field.named_values().collect(),
        Err(_) => parse_register(text, naming).map_or_else(|_| Vec::new(), value_names),
    };
    if names.is_empty() {
        return failure
            .with_hint("write it as REG=VALUE or REG.FIELD=VALUE, such as PSCI_VERSION=1.1");
    }
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    failure.with_hint(format!(
        "write it as {text}=VALUE, with a number or one of the names {}",
        names.join(", ")
    ))
}
