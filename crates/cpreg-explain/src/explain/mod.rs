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
mod unnamed;
mod vcpu;

use alloc::vec::Vec;

use cpreg::tolerance::{Difference, Tolerances};

pub use explanation::{Cause, Concerned, Explanation, Kind};

use crate::failure::Failure;
use crate::message::Symptom;
use count::register_count;
use registers::{only_in_input, psci, value_not_taken};
use unnamed::unnamed;

/// The end of QEMU's name for the length of the list.
const LENGTH: &str = "cpreg_vmstate_array_len";

/// What the lines of a failure mean together.
pub fn explain(failure: &Failure) -> Explanation {
    let registers = concerned(failure);
    let find = |wanted: &dyn Fn(&Symptom) -> bool| failure.symptoms().any(wanted);
    let count = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::TooMany { incoming, own } => Some((*incoming, *own)),
        _ => None,
    });
    let length_failed = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::FieldFailed { section, field } => Some(section == "cpu" && field == LENGTH),
        _ => None,
    });
    // The two numbers alone are nearly always the register list's: nothing else of QEMU's is read so.
    if length_failed == Some(true) || count.is_some() && length_failed.is_none() {
        return register_count(count, registers);
    }
    if find(&|symptom| matches!(symptom, Symptom::NoSuchPsci { .. } | Symptom::PsciHint)) {
        return psci(failure, registers);
    }
    let has_difference = |difference| {
        registers
            .iter()
            .any(|register: &Concerned| register.difference == Some(difference))
    };
    if has_difference(Difference::OnlyInInput) {
        return only_in_input(failure, registers);
    }
    if has_difference(Difference::ValueNotTaken) {
        return value_not_taken(failure, registers);
    }
    for symptom in failure.symptoms() {
        if let Some(explanation) = by_itself(symptom, failure) {
            return Explanation {
                registers,
                ..explanation
            };
        }
    }
    unnamed(failure, registers)
}

/// What a line means that needs no look at the others, or hardly any.
fn by_itself(symptom: &Symptom, failure: &Failure) -> Option<Explanation> {
    vcpu::explain(symptom)
        .or_else(|| ram::explain(symptom, failure))
        .or_else(|| device::explain(symptom, failure))
        .or_else(|| stream::explain(symptom))
}

fn concerned(failure: &Failure) -> Vec<Concerned> {
    let tolerances = Tolerances::default();
    let mut registers: Vec<Concerned> = Vec::new();
    for symptom in failure.symptoms() {
        let (difference, value, is) = match symptom {
            Symptom::OnlyInInput { .. } => (Difference::OnlyInInput, None, None),
            Symptom::OnlyAtDestination { .. } => (Difference::OnlyAtDestination, None, None),
            Symptom::NotTaken { value, is, .. } => (Difference::ValueNotTaken, *value, *is),
            // Of Firecracker, which writes what it has: the destination has no such register.
            Symptom::UnknownToKvm { value, .. } if failure.has_no_list() => {
                (Difference::OnlyInInput, *value, None)
            }
            Symptom::UnknownToKvm { value, .. } => (Difference::ValueNotTaken, *value, None),
            _ => continue,
        };
        let Some(register) = symptom.register() else {
            continue;
        };
        let tolerance = register
            .id
            .and_then(|id| tolerances.find(id, difference, register.accelerator));
        let new = Concerned {
            register: register.clone(),
            difference: Some(difference),
            value,
            is,
            hidden: difference == Difference::ValueNotTaken
                && matches!(symptom, Symptom::UnknownToKvm { .. }),
            tolerance,
        };
        if !registers.contains(&new) {
            registers.push(new);
        }
    }
    registers
}
