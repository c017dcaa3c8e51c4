//! What a failure means, what is usually behind it, what settles it.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | which of a failure's lines decides what kind it is |
//! | `explanation` | the answer, as data |
//! | `count` | the length of the register list |
//! | `registers` | registers that are named |
//! | `vcpu`, `ram`, `device`, `stream` | what one line alone tells |
//! | `unnamed` | vCPUs that fail without a name, and loads that fail without a reason |
//!
//! A line is no evidence of what a VM holds. So a meaning is stated, causes are what was seen behind these words elsewhere, each with where
//! that is known from, and a remedy is named that finds out.

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
use registers::{explain_only_in_input, explain_psci, explain_value_not_taken};
use unnamed_register::explain_unnamed_register;

/// The end of QEMU's name for the length of the list.
const LENGTH_FIELD: &str = "cpreg_vmstate_array_len";

/// What the lines of a failure mean together.
pub fn explain(failure: &LoadFailure) -> Explanation {
    let registers = affected_registers(failure);
    let find = |wanted: &dyn Fn(&Symptom) -> bool| failure.symptoms().any(wanted);
    let count = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::TooManyRegisters {
            incoming,
            local: own,
        } => Some((*incoming, *own)),
        _ => None,
    });
    let length_failed = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::FieldFailed { section, field } => Some(section == "cpu" && field == LENGTH_FIELD),
        _ => None,
    });
    // The two numbers alone are nearly always the register list's: nothing else of QEMU's is read so.
    if length_failed == Some(true) || count.is_some() && length_failed.is_none() {
        return explain_register_count(count, registers);
    }
    if find(&|symptom| matches!(symptom, Symptom::NoSuchPsci { .. } | Symptom::PsciHint)) {
        return explain_psci(failure, registers);
    }
    let has_difference = |difference| {
        registers
            .iter()
            .any(|register: &AffectedRegister| register.difference == Some(difference))
    };
    if has_difference(RegisterDifference::OnlyInInput) {
        return explain_only_in_input(failure, registers);
    }
    if has_difference(RegisterDifference::ValueNotTaken) {
        return explain_value_not_taken(failure, registers);
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

/// What a line means that needs no look at the others, or hardly any.
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
        let (difference, value, is) = match symptom {
            Symptom::OnlyInInput { .. } => (RegisterDifference::OnlyInInput, None, None),
            Symptom::OnlyAtDestination { .. } => {
                (RegisterDifference::OnlyAtDestination, None, None)
            }
            Symptom::ValueNotTaken {
                value, current: is, ..
            } => (RegisterDifference::ValueNotTaken, *value, *is),
            // Of Firecracker, which writes what it has: the destination has no such register.
            Symptom::UnknownToKvm { value, .. } if failure.has_no_list() => {
                (RegisterDifference::OnlyInInput, *value, None)
            }
            Symptom::UnknownToKvm { value, .. } => {
                (RegisterDifference::ValueNotTaken, *value, None)
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
            destination_value: is,
            hidden: difference == RegisterDifference::ValueNotTaken
                && matches!(symptom, Symptom::UnknownToKvm { .. }),
            tolerance,
        };
        if !registers.contains(&new) {
            registers.push(new);
        }
    }
    registers
}
