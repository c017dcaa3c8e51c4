//! Conversion of the comparison of two recorded hosts to its model.

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value, differing_fields};
use cpreg_hosts::record;
use cpreg_hosts::record::AtReset;

use super::model::{
    AcceptedValuesDifference, CapabilityDifference, FeatureSets, HostDiffReport, Omissions,
    OneSidedRegister, ResetValueDifference, SCHEMA, TrialDifference, TrialResult,
    WritableDifference, WriteBackDifference,
};
use super::{HostDiff, HostDiffOmissions, HostDifference};
use crate::field::FieldChange;
use crate::host::json::feature_names;
use crate::host::model::MissingRegister as RegisterName;
use crate::scalar::Id;
use crate::value::ValueFormat;

impl From<&HostDiff<'_>> for HostDiffReport {
    fn from(diff: &HostDiff<'_>) -> Self {
        let capabilities = diff.capabilities.iter();
        let capabilities = capabilities.map(|(name, a, b)| CapabilityDifference {
            name: (*name).to_owned(),
            a: *a,
            b: *b,
        });
        let values = diff.values.iter();
        Self {
            schema: SCHEMA.to_owned(),
            equal: diff.is_equal(),
            a: diff.a.record.into(),
            b: diff.b.record.into(),
            guests: feature_sets(&diff.guests),
            guests_only_in_a: feature_sets(&diff.guests_only_in_a),
            guests_only_in_b: feature_sets(&diff.guests_only_in_b),
            capabilities: capabilities.collect(),
            only_in_a: only(diff, &diff.only_in_a),
            only_in_b: only(diff, &diff.only_in_b),
            values: values.map(|row| value(diff, row)).collect(),
            write_back: rows(diff, &diff.write_back, |guests, id, name, (a, b)| {
                WriteBackDifference {
                    guests,
                    id,
                    name,
                    a: *a,
                    b: *b,
                }
            }),
            writable: rows(diff, &diff.writable, |guests, id, name, (a, b)| {
                WritableDifference {
                    guests,
                    id,
                    name,
                    a: (*a).into(),
                    b: (*b).into(),
                }
            }),
            accepted_values: rows(diff, &diff.accepted_values, |guests, id, name, (a, b)| {
                AcceptedValuesDifference {
                    guests,
                    id,
                    name,
                    a: a.into(),
                    b: b.into(),
                }
            }),
            trials: rows(diff, &diff.trials, |guests, id, name, (a, b)| {
                TrialDifference {
                    guests,
                    id,
                    name,
                    value: a.value.into(),
                    a: a.into(),
                    b: b.into(),
                }
            }),
            omissions: to_omissions(diff.value_format, &diff.omissions),
        }
    }
}

/// Converts the registers and guests that were not compared.
pub(crate) fn to_omissions(value_format: ValueFormat, omissions: &HostDiffOmissions) -> Omissions {
    let register_name = |id: &RegisterId| RegisterName {
        id: (*id).into(),
        name: value_format.name(*id),
    };
    Omissions {
        registers_without_value: omissions
            .registers_without_value
            .iter()
            .map(register_name)
            .collect(),
        guests_without_writable_masks: omissions
            .guests_without_writable_masks
            .iter()
            .map(|features| feature_names(*features))
            .collect(),
        one_sided_trials: omissions
            .one_sided_trials
            .iter()
            .map(register_name)
            .collect(),
    }
}

fn feature_sets(features: &[Features]) -> FeatureSets {
    features
        .iter()
        .map(|features| feature_names(*features))
        .collect()
}

/// Converts rows: guests, id and name of the register, and the difference.
fn rows<T, R>(
    diff: &HostDiff<'_>,
    rows: &[HostDifference<T>],
    row: impl Fn(FeatureSets, Id, String, &T) -> R,
) -> Vec<R> {
    let rows = rows.iter().map(|difference| {
        let name = diff.value_format.name(difference.id);
        row(
            feature_sets(&difference.guests),
            difference.id.into(),
            name,
            &difference.difference,
        )
    });
    rows.collect()
}

fn only(diff: &HostDiff<'_>, registers: &[HostDifference<AtReset>]) -> Vec<OneSidedRegister> {
    rows(diff, registers, |guests, id, name, at_reset| {
        OneSidedRegister {
            guests,
            id,
            name,
            at_reset: match at_reset {
                AtReset::Value(value) => diff.value_format.value(id.0, value),
                _ => None,
            },
            kind: at_reset.into(),
        }
    })
}

fn value(diff: &HostDiff<'_>, row: &HostDifference<(Value, Value)>) -> ResetValueDifference {
    let id = row.id;
    let (a, b) = &row.difference;
    let is_hidden = id.is_secret() && !diff.value_format.show_secrets;
    let fields = match (a.as_u64(), b.as_u64()) {
        (Some(a), Some(b)) if !is_hidden && !id.fields().is_empty() => {
            differing_fields(id, a, b).map(FieldChange::from).collect()
        }
        _ => Vec::new(),
    };
    ResetValueDifference {
        guests: feature_sets(&row.guests),
        id: id.into(),
        name: diff.value_format.name(id),
        a: diff.value_format.value(id, a),
        b: diff.value_format.value(id, b),
        secret: is_hidden.then_some(true),
        fields,
    }
}

impl From<&record::WriteTrial> for TrialResult {
    fn from(trial: &record::WriteTrial) -> Self {
        Self {
            errno: trial.errno,
            read_back: trial.read_back.into(),
        }
    }
}
