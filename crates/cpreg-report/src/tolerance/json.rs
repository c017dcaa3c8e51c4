//! The table as JSON, schema `cpreg.tolerances/1`: all that an entry says, so that a program can read it back.
//!
//! Documented in docs/json.md and docs/schemas/tolerances.schema.json. 64-bit values are strings, `"0x…"`. What is a
//! person's to read (`handling` and `condition` in words) stands beside what is a program's.

use cpreg::destination::Accelerator;
use cpreg::register::Naming;
use cpreg::tolerance::{Condition, Handling, Tolerance, Which};
use serde::Serialize;

use super::words::{condition, names};
use crate::json;
use crate::remedy;
use crate::value::id_digits;

/// The schema's name and version.
const SCHEMA: &str = "cpreg.tolerances/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    tolerances: Vec<Entry>,
}

/// One entry; `cpreg explain` has those about its register.
#[derive(Serialize)]
pub struct Entry {
    number: usize,
    registers: Vec<String>,
    ids: Vec<String>,
    class: Option<&'static str>,
    accelerator: Option<&'static str>,
    category: &'static str,
    difference: &'static str,
    handling: &'static str,
    value: Option<String>,
    condition: String,
    when: When,
    reason: String,
    advice: Option<String>,
    visible: Option<String>,
    severity: Option<&'static str>,
    history: Vec<Change>,
    by_operator: bool,
}

/// A condition, by its kind.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum When {
    Always,
    Value {
        mask: String,
        expected: String,
    },
    OtherRegister {
        register: String,
        id: String,
        mask: String,
        expected: String,
    },
    WithoutFeature {
        register: String,
        id: String,
        field: &'static str,
        lsb: u8,
        unused: Box<Self>,
    },
    NoSuchCache,
    MonitorsUnused,
    DiffersIn {
        mask: String,
    },
    Both {
        conditions: [Box<Self>; 2],
    },
}

#[derive(Serialize)]
struct Change {
    release: &'static str,
    commit: &'static str,
    what: &'static str,
}

/// These entries as one document, each with its number in the table.
///
/// # Errors
/// If JSON cannot hold it, which no entry brings about.
pub fn document(entries: &[(usize, &Tolerance)]) -> serde_json::Result<String> {
    json::document(&Report {
        schema: SCHEMA,
        tolerances: entries
            .iter()
            .map(|(number, entry)| report(*number, entry))
            .collect(),
    })
}

fn hexadecimal(value: u64) -> String {
    format!("{value:#x}")
}

/// How an entry's registers are named: as those mean them who run under its accelerator.
fn naming(entry: &Tolerance) -> Naming {
    match entry.accelerator {
        Some(Accelerator::Tcg) => Naming::Architectural,
        _ => Naming::Kvm,
    }
}

/// An entry and its number in the table.
pub fn report(number: usize, entry: &Tolerance) -> Entry {
    let (ids, class) = match &entry.registers {
        Which::These(ids) => (ids.iter().copied().map(id_digits).collect(), None),
        Which::CacheSizes => (Vec::new(), Some("cache-sizes")),
        Which::PerformanceMonitors => (Vec::new(), Some("performance-monitors")),
        Which::ImplementationDefined => (Vec::new(), Some("implementation-defined")),
        Which::ReservedAArch32 => (Vec::new(), Some("reserved-aarch32")),
    };
    Entry {
        number,
        registers: names(&entry.registers),
        ids,
        class,
        accelerator: entry.accelerator.map(Accelerator::name),
        category: entry.category.name(),
        difference: entry.difference.name(),
        handling: entry.handling.name(),
        value: match entry.handling {
            Handling::Set(value) => Some(hexadecimal(value)),
            _ => None,
        },
        condition: condition(&entry.condition)
            .trim_start_matches(", if ")
            .to_owned(),
        when: when(&entry.condition, naming(entry)),
        reason: entry.reason.clone().into_owned(),
        advice: entry
            .remedy
            .as_ref()
            .map(|it| remedy::advice(it, remedy::HOST)),
        visible: entry
            .visible
            .as_ref()
            .map(|visible| visible.what.clone().into_owned()),
        severity: entry
            .visible
            .as_ref()
            .map(|visible| visible.severity.name()),
        history: entry
            .history
            .iter()
            .map(|change| Change {
                release: change.release,
                commit: change.commit,
                what: change.what,
            })
            .collect(),
        by_operator: entry.by_operator,
    }
}

fn when(condition: &Condition, naming: Naming) -> When {
    match condition {
        Condition::Always => When::Always,
        Condition::Value { mask, expected } => When::Value {
            mask: hexadecimal(*mask),
            expected: hexadecimal(*expected),
        },
        Condition::Other {
            register,
            mask,
            expected,
        } => When::OtherRegister {
            register: register.display_in(naming).to_string(),
            id: id_digits(*register),
            mask: hexadecimal(*mask),
            expected: hexadecimal(*expected),
        },
        Condition::WithoutFeature {
            register,
            field,
            lsb,
            unused,
        } => When::WithoutFeature {
            register: register.display_in(naming).to_string(),
            id: id_digits(*register),
            field,
            lsb: *lsb,
            unused: Box::new(when(unused, naming)),
        },
        Condition::NoSuchCache => When::NoSuchCache,
        Condition::MonitorsUnused => When::MonitorsUnused,
        Condition::DiffersIn { mask } => When::DiffersIn {
            mask: hexadecimal(*mask),
        },
        Condition::Both(one, other) => When::Both {
            conditions: [one, other].map(|it| Box::new(when(it, naming))),
        },
    }
}
