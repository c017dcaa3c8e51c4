//! The JSON of `diff` for two recorded hosts, schema `cpreg.diff-hosts/1`; documented in docs/json.md. 64-bit values are strings, `"0x…"`.

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value, differing_fields};
use cpreg_hosts::history::AtReset;
use cpreg_hosts::record::Trial;
use serde::Serialize;

use super::{HostDiff, Row};
use crate::field::FieldChange;
use crate::host::json::{HostReport, TakesReport, names};
use crate::value::id_digits;

/// The schema's name and version.
const SCHEMA: &str = "cpreg.diff-hosts/1";

type Sets = Vec<Vec<&'static str>>;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    equal: bool,
    a: HostReport<'a>,
    b: HostReport<'a>,
    guests: Sets,
    guests_only_a: Sets,
    guests_only_b: Sets,
    capabilities: Vec<Capability<'a>>,
    only_a: Vec<Register<Held>>,
    only_b: Vec<Register<Held>>,
    values: Vec<Register<Change>>,
    write_back: Vec<Register<Errnos>>,
    writable: Vec<Register<Masks>>,
    takes: Vec<Register<Taken>>,
    trials: Vec<Register<Tried>>,
    left_out: LeftOut,
}

#[derive(Serialize)]
struct Capability<'a> {
    name: &'a str,
    a: i32,
    b: i32,
}

/// A register, the guests, and what differs.
#[derive(Serialize)]
struct Register<T> {
    guests: Sets,
    id: String,
    name: String,
    #[serde(flatten)]
    what: T,
}

#[derive(Serialize)]
struct Held {
    at_reset: Option<String>,
    is: &'static str,
}

#[derive(Serialize)]
struct Change {
    a: Option<String>,
    b: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
    fields: Vec<FieldChange>,
}

#[derive(Serialize)]
struct Errnos {
    a: u16,
    b: u16,
}

#[derive(Serialize)]
struct Masks {
    a: String,
    b: String,
}

#[derive(Serialize)]
struct Taken {
    a: TakesReport,
    b: TakesReport,
}

#[derive(Serialize)]
struct Tried {
    value: String,
    a: Outcome,
    b: Outcome,
}

#[derive(Serialize)]
struct Outcome {
    errno: u16,
    reads: String,
}

#[derive(Serialize)]
struct LeftOut {
    no_value: Vec<Named>,
    writable: Sets,
    tried: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
    id: String,
    name: String,
}

/// The answer as one JSON document.
///
/// # Errors
/// If JSON cannot hold it, which no answer brings about.
pub fn report(diff: &HostDiff<'_>) -> serde_json::Result<String> {
    let hexadecimal = |value: u64| format!("{value:#x}");
    let secret = |id: RegisterId| id.is_secret() && !diff.printing.secrets;
    let held = |id, at_reset: &AtReset| Held {
        at_reset: match at_reset {
            AtReset::Value(value) => diff.printing.value(id, value),
            _ => None,
        },
        is: match at_reset {
            AtReset::Value(_) => "value",
            AtReset::Poison => "poison",
            AtReset::Counts => "counts",
            AtReset::Unreadable(_) => "unreadable",
        },
    };
    let change = |id, (a, b): &(Value, Value)| Change {
        a: diff.printing.value(id, a),
        b: diff.printing.value(id, b),
        secret: secret(id).then_some(true),
        fields: match (a.as_u64(), b.as_u64()) {
            (Some(a), Some(b)) if !secret(id) => fields(id, a, b),
            _ => Vec::new(),
        },
    };
    let outcome = |trial: &Trial| Outcome {
        errno: trial.errno,
        reads: hexadecimal(trial.reads),
    };
    let named = |id: &RegisterId| Named {
        id: id_digits(*id),
        name: diff.printing.name(*id),
    };
    let left_out = &diff.left_out;
    let document = Document {
        schema: SCHEMA,
        equal: diff.is_equal(),
        a: HostReport::of(diff.a.record),
        b: HostReport::of(diff.b.record),
        guests: sets(&diff.guests),
        guests_only_a: sets(&diff.guests_only_a),
        guests_only_b: sets(&diff.guests_only_b),
        capabilities: diff
            .capabilities
            .iter()
            .map(|(name, a, b)| Capability { name, a: *a, b: *b })
            .collect(),
        only_a: registers(diff, &diff.only_a, held),
        only_b: registers(diff, &diff.only_b, held),
        values: registers(diff, &diff.values, change),
        write_back: registers(diff, &diff.write_back, |_, (a, b)| Errnos { a: *a, b: *b }),
        writable: registers(diff, &diff.writable, |_, (a, b)| Masks {
            a: hexadecimal(*a),
            b: hexadecimal(*b),
        }),
        takes: registers(diff, &diff.takes, |_, (a, b)| Taken {
            a: TakesReport::of(a),
            b: TakesReport::of(b),
        }),
        trials: registers(diff, &diff.trials, |_, (a, b)| Tried {
            value: hexadecimal(a.value),
            a: outcome(a),
            b: outcome(b),
        }),
        left_out: LeftOut {
            no_value: left_out.no_value.iter().map(named).collect(),
            writable: left_out.masks.iter().map(|it| names(*it)).collect(),
            tried: left_out.untried.iter().map(named).collect(),
        },
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

fn sets(features: &[Features]) -> Sets {
    features.iter().map(|features| names(*features)).collect()
}

fn registers<T, R>(
    diff: &HostDiff<'_>,
    rows: &[Row<T>],
    what: impl Fn(RegisterId, &T) -> R,
) -> Vec<Register<R>> {
    let rows = rows.iter().map(|row| Register {
        guests: sets(&row.guests),
        id: id_digits(row.id),
        name: diff.printing.name(row.id),
        what: what(row.id, &row.what),
    });
    rows.collect()
}

fn fields(id: RegisterId, a: u64, b: u64) -> Vec<FieldChange> {
    if id.fields().is_empty() {
        return Vec::new();
    }
    let differing = differing_fields(id, a, b);
    differing.map(FieldChange::from).collect()
}
