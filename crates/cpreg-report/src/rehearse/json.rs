//! The answer of `rehearse` as its model.

use cpreg::plan;

use super::model::{Deviation, FailureExplanation, RehearsalReport, SCHEMA};
use super::{LoadOutcome, RehearsalFindings, SCOPE};
use crate::check;
use crate::names::RehearsalOutcome;
use crate::scalar::Vcpus;
use crate::value::ValueFormat;

impl From<&RehearsalFindings<'_>> for RehearsalReport {
    fn from(tried: &RehearsalFindings<'_>) -> Self {
        let printing = tried.prediction.value_format;
        let explained = tried
            .explanations()
            .into_iter()
            .map(|it| FailureExplanation {
                kind: it.kind.name().to_owned(),
                meaning: it.meaning,
                causes: it
                    .causes
                    .into_iter()
                    .map(|cause| cause.description)
                    .collect(),
            });
        let deviations = tried.deviations.iter();
        let deviations = deviations.map(|(vcpus, it)| deviation(printing, vcpus.into(), it));
        let check = match &tried.initial_state_error {
            Some(_) => None,
            None => Some(check::model::CheckReport::from(tried.prediction)),
        };
        Self {
            schema: SCHEMA.to_owned(),
            verdict: tried.verdict.into(),
            meaning: tried.meaning(),
            scope: SCOPE.to_owned(),
            qemu: tried.version.clone(),
            package: tried.package.clone(),
            converted: tried.converted,
            outcome: match &tried.outcome {
                Some(LoadOutcome::Loaded) => RehearsalOutcome::LOADED,
                Some(LoadOutcome::Failed { .. }) => RehearsalOutcome::FAILED,
                None => RehearsalOutcome::NOT_TRIED,
            },
            stderr: tried.stderr.clone(),
            explanations: explained.collect(),
            deviations: deviations.collect(),
            not_verified: tried.not_verified.clone(),
            replacements: tried.replacements.clone(),
            command: tried.command.clone(),
            initial_state_error: tried.initial_state_error.clone(),
            final_state_error: tried.final_state_error.clone(),
            check,
        }
    }
}

fn deviation(printing: ValueFormat, vcpus: Vcpus, deviation: &plan::Deviation) -> Deviation {
    match deviation {
        plan::Deviation::Register {
            id,
            expected,
            actual: found,
        } => Deviation {
            vcpus,
            id: Some((*id).into()),
            name: printing.name(*id),
            expected: printing.value(*id, expected),
            actual: found.as_ref().and_then(|found| printing.value(*id, found)),
            present: found.is_some(),
        },
        plan::Deviation::Extension {
            name,
            actual: found,
            ..
        } => Deviation {
            vcpus,
            id: None,
            name: name.clone().into_owned(),
            expected: None,
            actual: None,
            present: found.is_some(),
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
