//! Meaning, usual causes and remedies of a failure.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | choice of the line that decides the kind of a failure |
//! | `explanation` | explanation, as data |
//! | `count` | length of the register list |
//! | `registers` | named registers |
//! | `activity` | activity that failed: a start, a migration, a restore, a save |
//! | `vcpu`, `ram`, `device`, `stream`, `blocker` | single lines |
//! | `interrupt_controller`, `vgic` | the interrupt controller and its attributes |
//! | `machine_type` | machine types that differ |
//! | `snapshot` | saved VMs of Firecracker and of Apple's framework |
//! | `start` | a VM that did not start |
//! | `mention` | registers in the lines of any program, messages of a kernel |
//! | `front_end` | failures that a front end reports without the reason |
//! | `unnamed_register` | failed vCPUs without a register, and failed loads without a reason |
//!
//! A line does not prove the content of a VM. An explanation therefore states the meaning of the
//! line, and lists causes seen elsewhere, each with its source. The explanation also names a remedy
//! that finds the cause.

mod activity;
mod blocker;
mod count;
mod device;
mod explanation;
mod front_end;
mod interrupt_controller;
mod machine_type;
mod mention;
mod ram;
mod registers;
mod snapshot;
mod start;
mod stream;
mod unnamed_register;
mod vcpu;
mod vgic;

use alloc::vec::Vec;

use cpreg::destination::Accelerator;
use cpreg::tolerance::{RegisterDifference, Tolerances};

pub use explanation::{AffectedRegister, Cause, Explanation, FailureKind, NextStep};

use crate::failure::LoadFailure;
use crate::message::{LENGTH_FIELD, Statement, Symptom};
use count::explain_register_count;
use registers::{explain_psci, explain_source_only, explain_value_not_accepted};
use unnamed_register::explain_unnamed_register;

/// Explains a failure from all of its lines.
pub fn explain(failure: &LoadFailure) -> Explanation {
    let mut explanation = explain_kind(failure);
    explanation.situation = activity::find(failure);
    // The VM loads in spite of warnings.
    if explanation.kind != FailureKind::WARNINGS {
        explanation.vm_state = explanation.situation.vm_state();
    }
    front_end::add_steps(&mut explanation, failure);
    explanation
}

/// Explains a failure by the most specific of its lines.
fn explain_kind(failure: &LoadFailure) -> Explanation {
    let registers = affected_registers(failure);
    let has_symptom = |is_match: &dyn Fn(&Symptom) -> bool| failure.symptoms().any(is_match);
    let count = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::TooManyRegisters { incoming, local } => Some((*incoming, *local)),
        _ => None,
    });
    let length_failed = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::FieldFailed { section, field } => Some(section == "cpu" && field == LENGTH_FIELD),
        _ => None,
    });
    // Two numbers without a field name are nearly always lengths of the register list. QEMU reads
    // no other field in this way.
    if length_failed == Some(true) || count.is_some() && length_failed.is_none() {
        let accelerator = accelerator(failure);
        return explain_register_count(count, accelerator, registers);
    }
    if has_symptom(&|symptom| matches!(symptom, Symptom::NoSuchPsci { .. } | Symptom::PsciHint)) {
        return explain_psci(failure, registers);
    }
    if mention::is_only_mention(failure)
        && let Some(explanation) = mention::explain(failure)
    {
        return explanation.with_registers(registers);
    }
    let has_difference = |difference| {
        registers
            .iter()
            .any(|register: &AffectedRegister| register.difference == Some(difference))
    };
    if has_difference(RegisterDifference::SourceOnly) {
        return explain_source_only(failure, registers);
    }
    if has_difference(RegisterDifference::ValueNotAccepted) {
        return explain_value_not_accepted(failure, registers);
    }
    for statement in &failure.statements {
        if let Some(explanation) = explain_statement(statement, failure) {
            return Explanation {
                registers,
                ..explanation
            };
        }
    }
    explain_unnamed_register(failure, registers)
}

/// Returns the accelerator of the loader, if the lines tell it.
fn accelerator(failure: &LoadFailure) -> Option<Accelerator> {
    let named = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::RegisterMention { .. } => None,
        symptom => symptom.register().and_then(|register| register.accelerator),
    });
    failure.settings.accelerator.or(named)
}

/// Explains a line by itself, with little regard to the other lines.
fn explain_statement(statement: &Statement, failure: &LoadFailure) -> Option<Explanation> {
    let symptom = &statement.symptom;
    blocker::explain(symptom)
        .or_else(|| vcpu::explain(statement, failure))
        .or_else(|| ram::explain(symptom, failure))
        .or_else(|| interrupt_controller::explain(symptom, statement.emitter))
        .or_else(|| device::explain(symptom, failure))
        .or_else(|| stream::explain(symptom, failure))
        .or_else(|| snapshot::explain(symptom))
}

fn affected_registers(failure: &LoadFailure) -> Vec<AffectedRegister> {
    let tolerances = Tolerances::default();
    let mut registers: Vec<AffectedRegister> = Vec::new();
    for symptom in failure.symptoms() {
        let (difference, value, current) = match symptom {
            Symptom::SourceOnly { .. } => (Some(RegisterDifference::SourceOnly), None, None),
            Symptom::DestinationOnly { .. } => {
                (Some(RegisterDifference::DestinationOnly), None, None)
            }
            Symptom::ValueNotAccepted { value, current, .. } => {
                (Some(RegisterDifference::ValueNotAccepted), *value, *current)
            }
            Symptom::RegisterMention { value, .. } => (None, *value, None),
            Symptom::GuestAccess { .. } | Symptom::CoresDiffer { .. } => (None, None, None),
            // Firecracker writes every saved register, so the destination lacks the register in
            // this line.
            Symptom::UnknownToKvm { value, .. } if failure.has_no_list() => {
                (Some(RegisterDifference::SourceOnly), *value, None)
            }
            Symptom::UnknownToKvm { value, .. } => {
                (Some(RegisterDifference::ValueNotAccepted), *value, None)
            }
            _ => continue,
        };
        let Some(register) = symptom.register() else {
            continue;
        };
        let tolerance = register
            .id
            .zip(difference)
            .and_then(|(id, difference)| tolerances.find(id, difference, register.accelerator));
        let new = AffectedRegister {
            register: register.clone(),
            difference,
            value,
            destination_value: current,
            hidden: difference == Some(RegisterDifference::ValueNotAccepted)
                && matches!(symptom, Symptom::UnknownToKvm { .. }),
            tolerance,
        };
        if !registers.contains(&new) {
            registers.push(new);
        }
    }
    registers
}
