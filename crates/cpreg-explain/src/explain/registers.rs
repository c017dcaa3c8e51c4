//! Explanation of failures that name registers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use cpreg::destination::Accelerator;
use cpreg::destination::kernel::RegisterKind;
use cpreg::errno::Errno;
use cpreg::register::RegisterId;
use cpreg::remedy::Remedy;
use cpreg::tolerance::{RegisterDifference, Tolerances};

use super::explanation::{AffectedRegister, Cause, Explanation, FailureKind, cause};
use super::start;
use crate::failure::LoadFailure;
use crate::message::{NamedRegister, Symptom};

pub(super) fn explain_source_only(
    failure: &LoadFailure,
    registers: Vec<AffectedRegister>,
) -> Explanation {
    let mut named: Vec<String> = registers
        .iter()
        .filter(|register| register.difference == Some(RegisterDifference::SourceOnly))
        .map(|register| register.register.to_string())
        .collect();
    let count = named.len();
    named.truncate(8);
    let mut list = named.join(", ");
    if count > 8 {
        list = format!("{list} and {} more", count - 8);
    }
    let is_qemu = !failure.has_no_list();
    let mut meaning = format!(
        "the VM has {} that the destination's list lacks: {list}",
        if count == 1 {
            "a register"
        } else {
            "registers"
        }
    );
    if is_qemu {
        meaning += ". QEMU 11 names each of them; 11.1 and later tolerate a few that are known to \
                    be harmless";
    } else {
        meaning += ". This program writes every saved register and stops at the first that KVM \
                    lacks; there may be more";
    }
    let refused = |register: &AffectedRegister| {
        register.difference == Some(RegisterDifference::ValueNotAccepted)
    };
    if registers.iter().any(refused) {
        meaning += ". KVM at the destination also does not accept the values of other registers, \
                    as listed below";
    }
    let mut causes = histories(&registers, RegisterDifference::SourceOnly);
    if is_qemu && !failure.symptoms().any(Symptom::is_fatal) {
        causes.push(cause(
            "if the VM runs nevertheless: QEMU 11.1 forgets this failure when a tolerated \
             register follows in the list, and the value of the register is lost",
            "recorded with QEMU 11.1.3",
        ));
    }
    let remedies = if is_qemu {
        vec![Remedy::CHECK, Remedy::Tolerances, Remedy::Convert]
    } else {
        vec![Remedy::Tolerances, Remedy::Compare]
    };
    Explanation::new(FailureKind::SOURCE_ONLY, meaning, causes, remedies).with_registers(registers)
}

/// Returns the history of the given registers from the table of tolerances, each change once.
pub(super) fn histories(
    registers: &[AffectedRegister],
    difference: RegisterDifference,
) -> Vec<Cause> {
    let tolerances = Tolerances::default();
    let mut causes: Vec<Cause> = Vec::new();
    for register in registers {
        if register.difference != Some(difference) {
            continue;
        }
        let entry = register
            .tolerance
            .and_then(|entry| tolerances.entries().get(entry));
        for change in entry.map_or(&[][..], |entry| &entry.history) {
            let source = if change.commit.is_empty() {
                change.release.to_string()
            } else {
                format!("{} ({})", change.release, change.commit)
            };
            let new = cause(
                format!("{}: {}", register.register, change.description),
                source,
            );
            if !causes.contains(&new) {
                causes.push(new);
            }
        }
    }
    causes
}

fn describe_value_not_accepted(failure: &LoadFailure) -> String {
    let is_unknown = |symptom: &Symptom| matches!(symptom, Symptom::UnknownToKvm { .. });
    let has_unknown = failure.symptoms().any(is_unknown);
    let is_refused = |symptom: &Symptom| matches!(symptom, Symptom::ValueNotAccepted { .. });
    let mut meaning = String::new();
    if failure.symptoms().any(is_refused) {
        // A line without an error comes from a program that does not compare lists.
        let lacks_error = |symptom: &Symptom| {
            matches!(
                symptom,
                Symptom::ValueNotAccepted {
                    error: None,
                    current: None,
                    ..
                }
            )
        };
        meaning += if failure.has_no_list() && failure.symptoms().any(lacks_error) {
            "KVM at the destination lacks these registers, or does not accept the VM's values: \
             the line has no error (ENOENT, `No such file or directory`, means that KVM lacks \
             the register)"
        } else {
            "KVM at the destination does not accept the VM's values of these registers"
        };
        let is_busy = failure.symptoms().any(|symptom| {
            matches!(
                symptom,
                Symptom::ValueNotAccepted {
                    error: Some(Errno::EBUSY),
                    ..
                }
            )
        });
        if is_busy {
            meaning += "; with the error `Device or resource busy` the VM had already run at the \
                        destination, and the register can no longer change";
        }
    }
    if has_unknown {
        if !meaning.is_empty() {
            meaning += ". ";
        }
        meaning += "`unknown to KVM`: the register was in the destination's list, but an ID \
                    register of the VM that was written before hides it";
    }
    meaning
}

pub(super) fn explain_value_not_accepted(
    failure: &LoadFailure,
    registers: Vec<AffectedRegister>,
) -> Explanation {
    let mut causes = histories(&registers, RegisterDifference::ValueNotAccepted);
    let kinds = || {
        registers
            .iter()
            .filter_map(|register| register.register.id)
            .map(RegisterKind::from_id)
    };
    let is_core_specific = |kind| {
        matches!(
            kind,
            RegisterKind::CacheSize(_)
                | RegisterKind::Identification
                | RegisterKind::Implementation
                | RegisterKind::CacheLevels
                | RegisterKind::CacheType
        )
    };
    if kinds().any(|kind| matches!(kind, RegisterKind::CacheSize(_))) {
        causes.push(cause(
            "caches: KVM before 6.3 accepts only the geometry of the host's caches; later kernels \
             show a synthetic one and accept others",
            "Linux v6.3 (7af0c2534f4c)",
        ));
    }
    if kinds().any(|kind| matches!(kind, RegisterKind::Implementation)) {
        causes.push(cause(
            "another CPU: KVM accepts only the host's MIDR_EL1, REVIDR_EL1 and AIDR_EL1; from \
             6.15 on a program may request others",
            "Linux v6.15 (3adaee783061)",
        ));
    }
    if kinds().any(|kind| matches!(kind, RegisterKind::Identification)) {
        causes.push(cause(
            "ID registers: KVM before 6.7 accepts only its own value; later kernels accept a \
             lower value in more and more fields",
            "Linux v6.7 (56d77aa8bdf5, d5a32b60dc18, 8cfd5be88ebe), v6.12 (78c4446b5f95)",
        ));
    }
    let is_load = |symptom: &Symptom| {
        matches!(
            symptom,
            Symptom::SectionFailed { .. } | Symptom::LoadFailed { .. }
        )
    };
    let may_be_start =
        !failure.has_no_list() && kinds().any(is_core_specific) && !failure.symptoms().any(is_load);
    if may_be_start {
        causes.push(start::heterogeneous_cores_cause());
    }
    let remedies = if failure.has_no_list() {
        vec![Remedy::Compare]
    } else {
        vec![Remedy::CHECK, Remedy::Compare, Remedy::Convert]
    };
    let meaning = describe_value_not_accepted(failure);
    let explanation = Explanation::new(FailureKind::VALUE_NOT_ACCEPTED, meaning, causes, remedies)
        .with_registers(registers);
    if may_be_start {
        start::add_pinning(explanation, failure)
    } else {
        explanation
    }
}

pub(super) fn explain_psci(failure: &LoadFailure, registers: Vec<AffectedRegister>) -> Explanation {
    let version = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::NoSuchPsci { version } => Some(version.as_str()),
        _ => None,
    });
    let version = version.map_or_else(String::new, |version| format!(" {version}"));
    let meaning = format!(
        "`kvm-psci-version` requests PSCI{version} at the destination, and its kernel does not \
         support that version. Set it at the source: a version that all hosts support, from the \
         start of the VM"
    );
    Explanation::new(
        FailureKind::PSCI_VERSION,
        meaning,
        psci_history(),
        vec![
            Remedy::Show {
                register: Some(RegisterId::PSCI_VERSION),
            },
            Remedy::Check {
                accept: Some(RegisterId::PSCI_VERSION),
            },
        ],
    )
    .with_registers(registers)
}

fn psci_history() -> Vec<Cause> {
    let register = NamedRegister::from_id(RegisterId::PSCI_VERSION, "");
    let tolerance = Tolerances::default().find(
        RegisterId::PSCI_VERSION,
        RegisterDifference::ValueNotAccepted,
        Some(Accelerator::Kvm),
    );
    histories(
        &[AffectedRegister {
            register,
            difference: Some(RegisterDifference::ValueNotAccepted),
            value: None,
            destination_value: None,
            hidden: false,
            tolerance,
        }],
        RegisterDifference::ValueNotAccepted,
    )
}
