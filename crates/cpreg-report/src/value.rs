//! Registers and values as they are printed. Pointer-authentication keys are the guest's secrets.

use cpreg::destination::Accelerator;
use cpreg::plan::{Action, Decision, Reason};
use cpreg::register::{BLANKED, FieldDifference, Naming, RegisterId, Value, differing_fields};
use cpreg::tolerance::{Difference, Tolerances};

/// How registers and values are to be printed.
#[derive(Clone, Copy, Debug)]
pub struct Printing {
    pub naming: Naming,
    pub secrets: bool,
}

impl Printing {
    pub fn new(accelerator: Option<Accelerator>, secrets: bool) -> Self {
        let naming = match accelerator {
            Some(Accelerator::Tcg | Accelerator::Hvf) => Naming::Architectural,
            Some(Accelerator::Kvm) | None => Naming::Kvm,
        };
        Self { naming, secrets }
    }

    pub fn name(self, id: RegisterId) -> String {
        id.display_in(self.naming).to_string()
    }

    /// A value, or `None` if it is secret.
    pub fn value(self, id: RegisterId, value: &Value) -> Option<String> {
        (self.secrets || !id.is_secret()).then(|| value.to_string())
    }

    /// A value with what it means, for people. What a report does not tell has a mark in its place.
    pub fn describe(self, id: RegisterId, value: &Value) -> String {
        let Some(number) = self.value(id, value) else {
            return "(secret)".to_owned();
        };
        if id.is_guest_pointer() && value.as_u64() == Some(BLANKED) {
            return "(blanked)".to_owned();
        }
        match value.as_u64().and_then(|value| id.value_name(value)) {
            Some(name) => format!("{name} ({number})"),
            None => number,
        }
    }
}

/// An id as reports write it: all 16 digits.
pub fn id_digits(id: RegisterId) -> String {
    format!("{:#018x}", id.raw())
}

/// What to do about a decision: the table's advice, or what can be done about every register with that reason.
pub fn advice(decision: &Decision, tolerances: &Tolerances) -> Option<String> {
    let without_entry = || without_entry(decision, tolerances).map(str::to_owned);
    decision.advice(tolerances).or_else(without_entry)
}

/// What can be done where the table has no advice. A decision that does not stand in the way needs none.
fn without_entry(decision: &Decision, tolerances: &Tolerances) -> Option<&'static str> {
    if !matches!(decision.action, Action::Refuse | Action::Undecided) {
        return None;
    }
    let only_in_input = "choose a destination that has it; or, if the guest can do without, --ignore REG leaves it out and loses what it holds";
    let not_taken = "choose a destination that takes it (the same CPU model, a newer kernel or QEMU); --ignore REG leaves the destination's own value to the guest";
    match &decision.reason {
        Reason::OnlyInInput => Some(only_in_input),
        Reason::ValueNotTaken => Some(not_taken),
        Reason::NotTolerated(entry) => match tolerances.entries().get(*entry)?.difference {
            Difference::OnlyInInput => Some(only_in_input),
            Difference::ValueNotTaken => Some(not_taken),
            Difference::OnlyAtDestination => None,
        },
        Reason::SetNotTaken => Some(
            "set one that it takes, or leave --set out; cpreg explain REG tells what the values mean",
        ),
        Reason::Disagreement | Reason::FieldDisagreement(_) => {
            Some("save the VM again; if they still disagree, --set REG=VALUE makes them agree")
        }
        Reason::UserCondition => {
            Some("see whether what it holds may be lost; --ignore REG without a value loses it")
        }
        _ => None,
    }
}

/// The fields that differ between two values, `TCRX 0x0 -> 0x1`.
pub fn field_changes(id: RegisterId, from: u64, to: u64) -> Vec<String> {
    if id.fields().is_empty() {
        return Vec::new();
    }
    let text = |difference: FieldDifference| {
        format!(
            "{} {:#x} -> {:#x}",
            difference.field, difference.from, difference.to
        )
    };
    differing_fields(id, from, to).map(text).collect()
}
