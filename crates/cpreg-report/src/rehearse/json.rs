//! Conversion of the findings of `rehearse` to their model.

use cpreg::plan;

use super::model::{Deviation, FailureExplanation, RehearsalReport, SCHEMA};
use super::{LoadOutcome, RehearsalFindings, SCOPE};
use crate::check;
use crate::names::RehearsalOutcome;
use crate::scalar::Vcpus;
use crate::value::ValueFormat;

impl From<&RehearsalFindings<'_>> for RehearsalReport {
    fn from(findings: &RehearsalFindings<'_>) -> Self {
        let value_format = findings.prediction.value_format;
        let explanations =
            findings
                .explanations()
                .into_iter()
                .map(|explanation| FailureExplanation {
                    kind: explanation.kind.name().to_owned(),
                    meaning: explanation.meaning,
                    causes: explanation
                        .causes
                        .into_iter()
                        .map(|cause| cause.description)
                        .collect(),
                });
        let deviations = findings.deviations.iter();
        let deviations =
            deviations.map(|(vcpus, difference)| deviation(value_format, vcpus.into(), difference));
        let check = match &findings.initial_state_error {
            Some(_) => None,
            None => Some(check::model::CheckReport::from(findings.prediction)),
        };
        Self {
            schema: SCHEMA.to_owned(),
            verdict: findings.verdict.into(),
            meaning: findings.meaning(),
            scope: SCOPE.to_owned(),
            qemu: findings.version.clone(),
            package: findings.package.clone(),
            converted: findings.converted,
            outcome: match &findings.outcome {
                Some(LoadOutcome::Loaded) => RehearsalOutcome::LOADED,
                Some(LoadOutcome::Failed { .. }) => RehearsalOutcome::FAILED,
                None => RehearsalOutcome::NOT_TRIED,
            },
            stderr: findings.stderr.clone(),
            explanations: explanations.collect(),
            deviations: deviations.collect(),
            not_verified: findings.not_verified.clone(),
            replacements: findings.replacements.clone(),
            command: findings.command.clone(),
            initial_state_error: findings.initial_state_error.clone(),
            final_state_error: findings.final_state_error.clone(),
            check,
        }
    }
}

fn deviation(value_format: ValueFormat, vcpus: Vcpus, deviation: &plan::Deviation) -> Deviation {
    match deviation {
        plan::Deviation::Register {
            id,
            expected,
            actual,
        } => Deviation {
            vcpus,
            id: Some((*id).into()),
            name: value_format.name(*id),
            expected: value_format.value(*id, expected),
            actual: actual
                .as_ref()
                .and_then(|actual| value_format.value(*id, actual)),
            present: actual.is_some(),
        },
        plan::Deviation::Extension { name, actual, .. } => Deviation {
            vcpus,
            id: None,
            name: name.clone().into_owned(),
            expected: None,
            actual: None,
            present: actual.is_some(),
        },
        _ => Deviation {
            vcpus,
            id: None,
            name: String::new(),
            expected: None,
            actual: None,
            present: false,
        },
    }
}
