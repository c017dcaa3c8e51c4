//! The answer of `diff` about two recorded hosts as its model.

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value, differing_fields};
use cpreg_hosts::record;
use cpreg_hosts::record::AtReset;

use super::model::{
    Capability, LeftOut, Only, Report, SCHEMA, Sets, Taken, Trial, TrialResult, Values, Writable,
    WriteBack,
};
use super::{HostDiff, Row};
use crate::field::FieldChange;
use crate::host::json::names;
use crate::host::model::NotListed as Named;
use crate::scalar::Id;

impl From<&HostDiff<'_>> for Report {
    fn from(diff: &HostDiff<'_>) -> Self {
        let capabilities = diff.capabilities.iter();
        let capabilities = capabilities.map(|(name, a, b)| Capability {
            name: (*name).to_owned(),
            a: *a,
            b: *b,
        });
        let values = diff.values.iter();
        let named = |id: &RegisterId| Named {
            id: (*id).into(),
            name: diff.printing.name(*id),
        };
        let left_out = &diff.left_out;
        Self {
            schema: SCHEMA.to_owned(),
            equal: diff.is_equal(),
            a: diff.a.record.into(),
            b: diff.b.record.into(),
            guests: sets(&diff.guests),
            guests_only_a: sets(&diff.guests_only_a),
            guests_only_b: sets(&diff.guests_only_b),
            capabilities: capabilities.collect(),
            only_a: only(diff, &diff.only_a),
            only_b: only(diff, &diff.only_b),
            values: values.map(|row| value(diff, row)).collect(),
            write_back: rows(diff, &diff.write_back, |guests, id, name, (a, b)| {
                WriteBack {
                    guests,
                    id,
                    name,
                    a: *a,
                    b: *b,
                }
            }),
            writable: rows(diff, &diff.writable, |guests, id, name, (a, b)| Writable {
                guests,
                id,
                name,
                a: (*a).into(),
                b: (*b).into(),
            }),
            takes: rows(diff, &diff.takes, |guests, id, name, (a, b)| Taken {
                guests,
                id,
                name,
                a: a.into(),
                b: b.into(),
            }),
            trials: rows(diff, &diff.trials, |guests, id, name, (a, b)| Trial {
                guests,
                id,
                name,
                value: a.value.into(),
                a: a.into(),
                b: b.into(),
            }),
            left_out: LeftOut {
                no_value: left_out.no_value.iter().map(named).collect(),
                writable: left_out.masks.iter().map(|it| names(*it)).collect(),
                tried: left_out.untried.iter().map(named).collect(),
            },
        }
    }
}

fn sets(features: &[Features]) -> Sets {
    features.iter().map(|features| names(*features)).collect()
}

/// The rows, each made of its guests, its register's id and name, and what differs.
fn rows<T, R>(
    diff: &HostDiff<'_>,
    rows: &[Row<T>],
    row: impl Fn(Sets, Id, String, &T) -> R,
) -> Vec<R> {
    let rows = rows.iter().map(|it| {
        let name = diff.printing.name(it.id);
        row(sets(&it.guests), it.id.into(), name, &it.what)
    });
    rows.collect()
}

fn only(diff: &HostDiff<'_>, registers: &[Row<AtReset>]) -> Vec<Only> {
    rows(diff, registers, |guests, id, name, at_reset| Only {
        guests,
        id,
        name,
        at_reset: match at_reset {
            AtReset::Value(value) => diff.printing.value(id.0, value),
            _ => None,
        },
        is: at_reset.into(),
    })
}

fn value(diff: &HostDiff<'_>, row: &Row<(Value, Value)>) -> Values {
    let id = row.id;
    let (a, b) = &row.what;
    let is_hidden = id.is_secret() && !diff.printing.secrets;
    let fields = match (a.as_u64(), b.as_u64()) {
        (Some(a), Some(b)) if !is_hidden && !id.fields().is_empty() => {
            differing_fields(id, a, b).map(FieldChange::from).collect()
        }
        _ => Vec::new(),
    };
    Values {
        guests: sets(&row.guests),
        id: id.into(),
        name: diff.printing.name(id),
        a: diff.printing.value(id, a),
        b: diff.printing.value(id, b),
        secret: is_hidden.then_some(true),
        fields,
    }
}

impl From<&record::Trial> for TrialResult {
    fn from(trial: &record::Trial) -> Self {
        Self {
            errno: trial.errno,
            reads: trial.reads.into(),
        }
    }
}
