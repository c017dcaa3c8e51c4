//! The JSON of `rehearse`, schema `cpreg.rehearsal/1`; documented in docs/json.md.

use cpreg::plan::Deviation;
use serde::Serialize;
use serde_json::Value;

use super::{Outcome, Tried, text};
use crate::value::id_digits;

const SCHEMA: &str = "cpreg.rehearsal/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    verdict: &'static str,
    meaning: String,
    scope: &'static str,
    qemu: String,
    package: String,
    repaired: bool,
    outcome: &'static str,
    said: Vec<String>,
    explained: Vec<Explained>,
    deviations: Vec<DeviationReport>,
    not_judged: Vec<NotJudged>,
    replaced: Vec<Replaced>,
    command: Vec<String>,
    unknown_host: Option<String>,
    unreadable: Option<String>,
    check: Option<Value>,
}

#[derive(Serialize)]
struct Explained {
    kind: &'static str,
    means: String,
    causes: Vec<String>,
}

#[derive(Serialize)]
struct DeviationReport {
    vcpus: String,
    id: Option<String>,
    name: String,
    expected: Option<String>,
    found: Option<String>,
    there: bool,
}

#[derive(Serialize)]
struct NotJudged {
    what: String,
    reason: &'static str,
    loaded: bool,
    sections: Vec<String>,
}

#[derive(Serialize)]
struct Replaced {
    was: Vec<String>,
    now: Vec<String>,
    reason: String,
}

/// The document.
///
/// # Errors
/// Those of serde_json.
pub fn report(tried: &Tried<'_>) -> Result<String, serde_json::Error> {
    let printing = tried.answer.printing;
    let deviations = tried.deviations.iter().map(|(vcpus, deviation)| {
        let vcpus = vcpus.to_string();
        match deviation {
            Deviation::Register {
                id,
                expected,
                found,
            } => DeviationReport {
                vcpus,
                id: Some(id_digits(*id)),
                name: printing.name(*id),
                expected: printing.value(*id, expected),
                found: found.as_ref().and_then(|found| printing.value(*id, found)),
                there: found.is_some(),
            },
            Deviation::Extension { name, found, .. } => DeviationReport {
                vcpus,
                id: None,
                name: name.clone().into_owned(),
                expected: None,
                found: None,
                there: found.is_some(),
            },
            _ => DeviationReport {
                vcpus,
                id: None,
                name: String::new(),
                expected: None,
                found: None,
                there: false,
            },
        }
    });
    let check = match &tried.unknown_host {
        Some(_) => None,
        None => Some(serde_json::from_str(&crate::check::json::report(
            tried.answer,
        )?)?),
    };
    let report = Report {
        schema: SCHEMA,
        verdict: tried.verdict.name(),
        meaning: tried.meaning(),
        scope: text::SCOPE,
        qemu: tried.version.clone(),
        package: tried.package.clone(),
        repaired: tried.repaired,
        outcome: match &tried.outcome {
            Some(Outcome::Loaded) => "loaded",
            Some(Outcome::Failed { .. }) => "failed",
            None => "not tried",
        },
        said: tried.said.clone(),
        explained: tried
            .explained()
            .into_iter()
            .map(|it| Explained {
                kind: it.kind.name(),
                means: it.means,
                causes: it.causes.into_iter().map(|cause| cause.what).collect(),
            })
            .collect(),
        deviations: deviations.collect(),
        not_judged: tried
            .not_judged
            .iter()
            .map(|it| NotJudged {
                what: it.what.clone(),
                reason: it.reason,
                loaded: it.loaded,
                sections: it.sections.clone(),
            })
            .collect(),
        replaced: tried
            .replaced
            .iter()
            .map(|it| Replaced {
                was: it.was.clone(),
                now: it.now.clone(),
                reason: it.reason.clone(),
            })
            .collect(),
        command: tried.command.clone(),
        unknown_host: tried.unknown_host.clone(),
        unreadable: tried.unreadable.clone(),
        check,
    };
    serde_json::to_string_pretty(&report)
}
