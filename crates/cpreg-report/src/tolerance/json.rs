//! Entries of the table of tolerances as their model.

use cpreg::destination::Accelerator;
use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::{Condition, Handling, Tolerance, Which};

use super::model::{Change, Entry, Report, SCHEMA, When};
use super::words::{condition, names};
use crate::names::RegisterClass;
use crate::remedy;

impl Report {
    /// Makes a report of entries, each with its number in the table.
    pub fn of(entries: &[(usize, &Tolerance)]) -> Self {
        let entries = entries.iter();
        Self {
            schema: SCHEMA.to_owned(),
            tolerances: entries.map(|(number, it)| entry(*number, it)).collect(),
        }
    }
}

/// How an entry's registers are named: as those mean them who run under its accelerator.
fn naming(entry: &Tolerance) -> Naming {
    match entry.accelerator {
        Some(Accelerator::Tcg) => Naming::Architectural,
        _ => Naming::Kvm,
    }
}

/// An entry and its number in the table.
pub(crate) fn entry(number: usize, entry: &Tolerance) -> Entry {
    let ids: &[RegisterId] = match &entry.registers {
        Which::These(ids) => ids,
        _ => &[],
    };
    let words = condition(&entry.condition);
    let remedy = entry.remedy.as_ref();
    let visible = entry.visible.as_ref();
    let history = entry.history.iter().map(|change| Change {
        release: change.release.to_owned(),
        commit: change.commit.to_owned(),
        what: change.what.to_owned(),
    });
    Entry {
        number,
        registers: names(&entry.registers),
        ids: ids.iter().copied().map(Into::into).collect(),
        class: RegisterClass::of(&entry.registers),
        accelerator: entry.accelerator.map(Into::into),
        category: entry.category.name().to_owned(),
        difference: entry.difference.into(),
        handling: entry.handling.into(),
        value: match entry.handling {
            Handling::Set(value) => Some(value.into()),
            _ => None,
        },
        condition: words.trim_start_matches(", if ").to_owned(),
        when: when(&entry.condition, naming(entry)),
        reason: entry.reason.clone().into_owned(),
        advice: remedy.map(|it| remedy::advice(it, remedy::HOST)),
        visible: visible.map(|visible| visible.what.clone().into_owned()),
        severity: visible.map(|visible| visible.severity.into()),
        history: history.collect(),
        by_operator: entry.by_operator,
    }
}

fn when(condition: &Condition, naming: Naming) -> When {
    match condition {
        Condition::Always => When::Always,
        Condition::Value { mask, expected } => When::Value {
            mask: (*mask).into(),
            expected: (*expected).into(),
        },
        Condition::Other {
            register,
            mask,
            expected,
        } => When::OtherRegister {
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
        } => When::WithoutFeature {
            register: register.display_in(naming).to_string(),
            id: (*register).into(),
            field: (*field).to_owned(),
            lsb: *lsb,
            unused: Box::new(when(unused, naming)),
        },
        Condition::NoSuchCache => When::NoSuchCache,
        Condition::MonitorsUnused => When::MonitorsUnused,
        Condition::DiffersIn { mask } => When::DiffersIn {
            mask: (*mask).into(),
        },
        Condition::Both(one, other) => When::Both {
            conditions: [one, other].map(|it| Box::new(when(it, naming))),
        },
    }
}
