//! Explanation of registers that lines of any program name, and of a kernel's messages.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use cpreg::errno::Errno;
use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::{RegisterDifference, Tolerances};

use super::explanation::{AffectedRegister, Cause, Explanation, FailureKind, cause};
use super::registers::histories;
use crate::failure::LoadFailure;
use crate::message::{NamedRegister, Symptom};

/// Returns `true` if no line is a message of a known loader.
pub(super) fn is_only_mention(failure: &LoadFailure) -> bool {
    let is_front_end = |symptom: &Symptom| matches!(symptom, Symptom::FrontEnd { .. });
    failure
        .symptoms()
        .all(|it| is_mention(it) || is_front_end(it))
}

fn is_mention(symptom: &Symptom) -> bool {
    matches!(
        symptom,
        Symptom::RegisterMention { .. } | Symptom::GuestAccess { .. } | Symptom::CoresDiffer { .. }
    )
}

/// Explains a failure whose lines only mention registers.
pub(super) fn explain(failure: &LoadFailure) -> Option<Explanation> {
    let symptom = failure.symptoms().find(|symptom| is_mention(symptom))?;
    let register = symptom.register()?;
    Some(match symptom {
        Symptom::GuestAccess { .. } => explain_guest_access(register),
        Symptom::CoresDiffer { .. } => explain_cores(register),
        _ => explain_mention(failure),
    })
}

fn explain_mention(failure: &LoadFailure) -> Explanation {
    let mut meaning = String::new();
    let mut causes: Vec<Cause> = Vec::new();
    let mut steps: Vec<String> = Vec::new();
    let is_error = |it: &&Symptom| matches!(it, Symptom::RegisterMention { error: Some(_), .. });
    let has_error = failure.symptoms().any(|it| is_error(&it));
    let mentions = failure.symptoms().filter(|it| !has_error || is_error(it));
    let count = mentions.clone().count();
    for symptom in mentions.take(MAX_REGISTERS) {
        let Symptom::RegisterMention {
            register,
            value,
            error,
        } = symptom
        else {
            continue;
        };
        if !meaning.is_empty() {
            meaning += ". ";
        }
        meaning += &describe(register);
        meaning += describe_error(*error);
        for cause in history(register, *error) {
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        let is_secret = register.id.is_some_and(RegisterId::is_secret);
        steps.push(match value {
            Some(value) if !is_secret => format!("cpreg explain {register} {value:#x}"),
            _ => format!("cpreg explain {register}"),
        });
    }
    if count > MAX_REGISTERS {
        let _ = write!(meaning, ". There are {} more", count - MAX_REGISTERS);
    }
    let explanation = Explanation::new(FailureKind::REGISTER, meaning, causes, Vec::new());
    steps.into_iter().fold(explanation, |explanation, step| {
        explanation.with_command(
            step,
            "shows the register's fields, its history in Linux and the values that KVM accepts",
        )
    })
}

fn describe_error(error: Option<Errno>) -> &'static str {
    match error {
        Some(Errno::ENOENT) => {
            ". KVM of this host lacks the register, or hides it from this VM (ENOENT)"
        }
        Some(Errno::EINVAL) => ". KVM of this host does not accept the value (EINVAL)",
        Some(Errno::EBUSY) => {
            ". KVM fixes the register once the VM has run, or another value is set (EBUSY)"
        }
        Some(Errno::EPERM) => ". KVM does not permit the access in this state of the vCPU (EPERM)",
        Some(Errno::ENOEXEC) => ". The vCPU is not initialized (ENOEXEC)",
        _ => "",
    }
}

/// Returns the history of the register from the table of tolerances. The error selects the entry.
fn history(register: &NamedRegister, error: Option<Errno>) -> Vec<Cause> {
    let differences: &[RegisterDifference] = match error {
        Some(Errno::ENOENT) => &[RegisterDifference::SourceOnly],
        Some(Errno::EINVAL | Errno::EBUSY) => &[RegisterDifference::ValueNotAccepted],
        _ => &[
            RegisterDifference::SourceOnly,
            RegisterDifference::ValueNotAccepted,
        ],
    };
    let tolerances = Tolerances::default();
    let entries = differences.iter().map(|difference| {
        let tolerance = register
            .id
            .and_then(|id| tolerances.find(id, *difference, register.accelerator));
        let affected = AffectedRegister {
            register: register.clone(),
            difference: Some(*difference),
            value: None,
            destination_value: None,
            hidden: false,
            tolerance,
        };
        histories(&[affected], *difference)
    });
    entries.flatten().collect()
}

/// Maximum number of registers that an answer describes.
const MAX_REGISTERS: usize = 4;

fn describe(register: &NamedRegister) -> String {
    let purpose = register.id.and_then(|id| {
        id.purpose(Naming::Kvm)
            .or_else(|| id.purpose(Naming::Architectural))
    });
    let text = if register.text.is_empty() {
        String::new()
    } else {
        format!("`{}` is ", register.text)
    };
    match purpose {
        Some(purpose) => format!("{text}{register}: {purpose}"),
        None => format!("{text}{register}"),
    }
}

fn explain_guest_access(register: &NamedRegister) -> Explanation {
    Explanation::new(
        FailureKind::GUEST,
        format!(
            "the guest accessed {register}, which KVM does not emulate. KVM gave the guest an \
             undefined-instruction exception; the VM continues, and nothing was migrated or loaded"
        ),
        [cause(
            "the guest probes a feature that its ID registers do not have, or it moved from a host \
             that has it",
            "Linux's arch/arm64/kvm/sys_regs.c",
        )]
        .into(),
        Vec::new(),
    )
    .with_command(
        format!("cpreg explain {register}"),
        "shows the register, and the ID field that announces it to a guest",
    )
}

fn explain_cores(register: &NamedRegister) -> Explanation {
    let name = register
        .id
        .map_or_else(|| register.text.clone(), |id| id.to_string());
    Explanation::new(
        FailureKind::GUEST,
        format!(
            "the kernel that printed this line runs on cores that differ in {name}. In a guest's \
             log the guest sees cores of two kinds, in a host's log the machine has them; nothing \
             was migrated or loaded"
        ),
        [cause(
            "a machine with two kinds of cores, or vCPUs that ran on both",
            "Linux's arch/arm64/kernel/cpufeature.c",
        )]
        .into(),
        Vec::new(),
    )
    .with_command(
        "grep 'CPU part' /proc/cpuinfo | sort | uniq -c",
        "counts the kinds of cores of the machine",
    )
}
