//! The answer of `rehearse` as its model.

use cpreg::plan;

use super::model::{Deviation, Explained, Report, SCHEMA};
use super::{Outcome, SCOPE, Tried};
use crate::check;
use crate::names::RehearsalOutcome;
use crate::scalar::Vcpus;
use crate::value::Printing;

impl From<&Tried<'_>> for Report {
    fn from(tried: &Tried<'_>) -> Self {
        let printing = tried.answer.printing;
        let explained = tried.explained().into_iter().map(|it| Explained {
            kind: it.kind.name().to_owned(),
            means: it.means,
            causes: it.causes.into_iter().map(|cause| cause.what).collect(),
        });
        let deviations = tried.deviations.iter();
        let deviations = deviations.map(|(vcpus, it)| deviation(printing, vcpus.into(), it));
        let check = match &tried.unknown_host {
            Some(_) => None,
            None => Some(check::model::Report::from(tried.answer)),
        };
        Self {
            schema: SCHEMA.to_owned(),
            verdict: tried.verdict.into(),
            meaning: tried.meaning(),
            scope: SCOPE.to_owned(),
            qemu: tried.version.clone(),
            package: tried.package.clone(),
            repaired: tried.repaired,
            outcome: match &tried.outcome {
                Some(Outcome::Loaded) => RehearsalOutcome::LOADED,
                Some(Outcome::Failed { .. }) => RehearsalOutcome::FAILED,
                None => RehearsalOutcome::NOT_TRIED,
            },
            said: tried.said.clone(),
            explained: explained.collect(),
            deviations: deviations.collect(),
            not_judged: tried.not_judged.clone(),
            replaced: tried.replaced.clone(),
            command: tried.command.clone(),
            unknown_host: tried.unknown_host.clone(),
            unreadable: tried.unreadable.clone(),
            check,
        }
    }
}

fn deviation(printing: Printing, vcpus: Vcpus, deviation: &plan::Deviation) -> Deviation {
    match deviation {
        plan::Deviation::Register {
            id,
            expected,
            found,
        } => Deviation {
            vcpus,
            id: Some((*id).into()),
            name: printing.name(*id),
            expected: printing.value(*id, expected),
            found: found.as_ref().and_then(|found| printing.value(*id, found)),
            there: found.is_some(),
        },
        plan::Deviation::Extension { name, found, .. } => Deviation {
            vcpus,
            id: None,
            name: name.clone().into_owned(),
            expected: None,
            found: None,
            there: found.is_some(),
        },
        _ => Deviation {
            vcpus,
            id: None,
            name: String::new(),
            expected: None,
            found: None,
            there: false,
        },
    }
}
