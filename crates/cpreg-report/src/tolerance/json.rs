//! Conversion of entries of the table of tolerances to their model.

use cpreg::destination::Accelerator;
use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::{Condition, Handling, RegisterSelector, Tolerance};

use super::model::{HistoryEntry, SCHEMA, ToleranceEntry, TolerancesReport, TypedCondition};
use super::text::{condition, register_names};
use crate::names::RegisterClass;
use crate::remedy::{self, AdviceContext};

impl TolerancesReport {
    /// Creates a report of entries, each with its number in the table.
    pub fn new(entries: &[(usize, &Tolerance)]) -> Self {
        let entries = entries.iter();
        Self {
            schema: SCHEMA.to_owned(),
            tolerances: entries
                .map(|(number, tolerance)| entry(*number, tolerance))
                .collect(),
        }
    }
}

/// Returns the naming of an entry's registers, which depends on its accelerator.
fn naming(entry: &Tolerance) -> Naming {
    match entry.accelerator {
        Some(Accelerator::Tcg) => Naming::Architectural,
        _ => Naming::Kvm,
    }
}

/// Returns the model of an entry with its number in the table.
pub(crate) fn entry(number: usize, entry: &Tolerance) -> ToleranceEntry {
    let ids: &[RegisterId] = match &entry.registers {
        RegisterSelector::Ids(ids) => ids,
        _ => &[],
    };
    let condition = condition(&entry.condition);
    let remedy = entry.remedy.as_ref();
    let visible = entry.visible_effect.as_ref();
    let history = entry.history.iter().map(|change| HistoryEntry {
        release: change.release.to_owned(),
        commit: change.commit.to_owned(),
        description: change.description.to_owned(),
    });
    ToleranceEntry {
        number,
        registers: register_names(&entry.registers),
        ids: ids.iter().copied().map(Into::into).collect(),
        class: RegisterClass::from_selector(&entry.registers),
        accelerator: entry.accelerator.map(Into::into),
        category: entry.category.name().to_owned(),
        difference: entry.difference.into(),
        handling: entry.handling.into(),
        value: match entry.handling {
            Handling::Set(value) => Some(value.into()),
            _ => None,
        },
        correct_id: match entry.handling {
            Handling::Rename(id) => Some(id.into()),
            _ => None,
        },
        condition: condition.trim_start_matches(", if ").to_owned(),
        when: typed_condition(&entry.condition, naming(entry)),
        reason: entry.reason.clone().into_owned(),
        advice: remedy.map(|remedy| remedy::advice(remedy, AdviceContext::default())),
        visible_effect: visible.map(|visible| visible.description.clone().into_owned()),
        severity: visible.map(|visible| visible.severity.into()),
        history: history.collect(),
        is_operator_entry: entry.is_operator_entry,
        file: entry.origin.as_ref().map(|origin| origin.file.clone()),
        file_entry: entry.origin.as_ref().map(|origin| origin.number),
    }
}

fn typed_condition(condition: &Condition, naming: Naming) -> TypedCondition {
    match condition {
        Condition::Always => TypedCondition::Always,
        Condition::Value { mask, expected } => TypedCondition::Value {
            mask: (*mask).into(),
            expected: (*expected).into(),
        },
        Condition::OtherRegister {
            register,
            mask,
            expected,
        } => TypedCondition::OtherRegister {
            register: register.display_in(naming).to_string(),
            id: (*register).into(),
            mask: (*mask).into(),
            expected: (*expected).into(),
        },
        Condition::WithoutFeature {
            register,
            field,
            lsb,
            unused,
        } => TypedCondition::WithoutFeature {
            register: register.display_in(naming).to_string(),
            id: (*register).into(),
            field: (*field).to_owned(),
            lsb: *lsb,
            unused: Box::new(typed_condition(unused, naming)),
        },
        Condition::NoSuchCache => TypedCondition::NoSuchCache,
        Condition::PmuUnused => TypedCondition::MonitorsUnused,
        Condition::DiffersIn { mask } => TypedCondition::DiffersIn {
            mask: (*mask).into(),
        },
        Condition::And(one, other) => TypedCondition::Both {
            conditions: [one, other].map(|part| Box::new(typed_condition(part, naming))),
        },
    }
}
