//! Meaning, usual causes and remedies of a failure.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | choice of the line that decides the kind of a failure |
//! | `explanation` | explanation, as data |
//! | `count` | length of the register list |
//! | `registers` | named registers |
//! | `vcpu`, `ram`, `device`, `stream` | single lines |
//! | `unnamed_register` | failed vCPUs without a register, and failed loads without a reason |
//!
//! A line does not prove the content of a VM. An explanation therefore states the meaning of the
//! line, and lists causes seen elsewhere, each with its source. The explanation also names a remedy
//! that finds the cause.

mod count;
mod device;
mod explanation;
mod ram;
mod registers;
mod stream;
mod unnamed_register;
mod vcpu;

use alloc::vec::Vec;

use cpreg::tolerance::{RegisterDifference, Tolerances};

pub use explanation::{AffectedRegister, Cause, Explanation, FailureKind};

use crate::failure::LoadFailure;
use crate::message::Symptom;
use count::explain_register_count;
use registers::{explain_psci, explain_source_only, explain_value_not_accepted};
use unnamed_register::explain_unnamed_register;

/// QEMU's name of the field with the length of the list.
const LENGTH_FIELD: &str = "cpreg_vmstate_array_len";

/// Explains a failure from all of its lines.
pub fn explain(failure: &LoadFailure) -> Explanation {
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
        return explain_register_count(count, registers);
    }
    if has_symptom(&|symptom| matches!(symptom, Symptom::NoSuchPsci { .. } | Symptom::PsciHint)) {
        return explain_psci(failure, registers);
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
    for symptom in failure.symptoms() {
        if let Some(explanation) = explain_symptom(symptom, failure) {
            return Explanation {
                registers,
                ..explanation
            };
        }
    }
    explain_unnamed_register(failure, registers)
}

/// Explains a line by itself, with little regard to the other lines.
fn explain_symptom(symptom: &Symptom, failure: &LoadFailure) -> Option<Explanation> {
    vcpu::explain(symptom)
        .or_else(|| ram::explain(symptom, failure))
        .or_else(|| device::explain(symptom, failure))
        .or_else(|| stream::explain(symptom))
}

fn affected_registers(failure: &LoadFailure) -> Vec<AffectedRegister> {
    let tolerances = Tolerances::default();
    let mut registers: Vec<AffectedRegister> = Vec::new();
    for symptom in failure.symptoms() {
        let (difference, value, current) = match symptom {
            Symptom::SourceOnly { .. } => (RegisterDifference::SourceOnly, None, None),
            Symptom::DestinationOnly { .. } => (RegisterDifference::DestinationOnly, None, None),
            Symptom::ValueNotAccepted { value, current, .. } => {
                (RegisterDifference::ValueNotAccepted, *value, *current)
            }
            // Firecracker writes every saved register, so the destination lacks the register in
            // this line.
            Symptom::UnknownToKvm { value, .. } if failure.has_no_list() => {
                (RegisterDifference::SourceOnly, *value, None)
            }
            Symptom::UnknownToKvm { value, .. } => {
                (RegisterDifference::ValueNotAccepted, *value, None)
            }
            _ => continue,
        };
        let Some(register) = symptom.register() else {
            continue;
        };
        let tolerance = register
            .id
            .and_then(|id| tolerances.find(id, difference, register.accelerator));
        let new = AffectedRegister {
            register: register.clone(),
            difference: Some(difference),
            value,
            destination_value: current,
            hidden: difference == RegisterDifference::ValueNotAccepted
                && matches!(symptom, Symptom::UnknownToKvm { .. }),
            tolerance,
        };
        if !registers.contains(&new) {
            registers.push(new);
        }
    }
    registers
}
