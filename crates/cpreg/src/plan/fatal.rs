//! Refusal of changes that break a running guest, whatever decided them: a consent, a tolerance, or
//! the destination's refusal of the VM's value.
//!
//! Only a value that the user sets for the very field takes a fatal change.

use alloc::vec::Vec;

use super::fatal_change::FatalChange;
use super::input::PlanInput;
use super::{Action, Decision, Reason};
use crate::destination::accept::nearest_value;
use crate::destination::{Confidence, DestinationVcpu};
use crate::register::{Field, FieldDifference, RegisterId, Value};
use crate::severity::{self, Rating, Severity};
use crate::vm::Registers;

/// Refuses the decision about a vCPU's register if it includes a fatal change.
pub(super) fn refuse_fatal_change(
    input: PlanInput<'_>,
    destination_vcpu: &DestinationVcpu,
    planned: &Registers,
    decision: &mut Decision,
) {
    // A register that keeps the VM's value changes no field.
    let keeps_value = decision.action == Action::Copy && decision.replaced_value.is_none();
    if keeps_value || !severity::is_rated_by_field(decision.register) {
        return;
    }
    let Some(from) = decision.source.as_ref().and_then(Value::as_u64) else {
        return;
    };
    let to = match (&decision.action, &decision.reason) {
        // The value that an adjustment would give the guest.
        (
            Action::Refuse,
            Reason::ValueNotAccepted | Reason::SetNotAccepted | Reason::NotTolerated(_),
        ) => {
            let register = destination_vcpu.get(decision.register);
            let planned = planned.get_u64(decision.register);
            let nearest = register.and_then(|register| {
                nearest_value(input.destination, destination_vcpu, register, planned)
            });
            match nearest {
                Some(to) => to,
                None => return,
            }
        }
        (Action::Ignore, _) => return,
        _ => {
            let Some(to) = decision.loaded_value().and_then(Value::as_u64) else {
                decision.action = Action::Undecided;
                decision.confidence = Confidence::Unknown;
                decision.reason = Reason::DestinationValueUnknown;
                return;
            };
            to
        }
    };
    let changes = fatal_changes(input, decision.register, from, to);
    if !changes.is_empty() {
        decision.action = Action::Refuse;
        decision.reason = Reason::FatalChange(changes);
    }
}

/// Returns the fatal changes of a register's fields that the user did not request field by field.
fn fatal_changes(
    input: PlanInput<'_>,
    register: RegisterId,
    from: u64,
    to: u64,
) -> Vec<FatalChange> {
    severity::rate_fields(register, from, to, input.guest)
        .filter(|(_, rating)| rating.severity == Severity::Fatal)
        .filter(|(difference, _)| !is_set_by_user(input, register, *difference))
        .map(|(difference, rating)| {
            let FieldDifference { field, from, to } = difference;
            let Rating {
                usage, consequence, ..
            } = rating;
            FatalChange {
                field: Field::name(field),
                from,
                to,
                usage,
                consequence,
            }
        })
        .collect()
}

/// Returns `true` if the user set exactly this field to exactly this value.
fn is_set_by_user(input: PlanInput<'_>, register: RegisterId, difference: FieldDifference) -> bool {
    let FieldDifference { field, to, .. } = difference;
    let sets = input.consents.set.iter();
    let mut of_field = sets.filter(|set| set.register == register && set.mask == field.mask());
    of_field.any(|set| field.extract(set.value) == to)
}
