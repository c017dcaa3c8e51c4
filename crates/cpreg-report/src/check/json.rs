//! The JSON of `check`, schema `cpreg.check/1`; documented in docs/json.md. 64-bit values are strings, `"0x…"`.

use cpreg::destination::Accelerator;
use cpreg::plan::{Adjustment, Decision, ExtensionDecision, VcpuSet, VisibleChange};
use cpreg::vm::Content;
use serde::Serialize;

use super::{Answer, SCOPE};
use crate::attempt::AttemptReport;
use crate::remedy;
use crate::value::{Printing, id_digits};

/// The schema's name and version.
const SCHEMA: &str = "cpreg.check/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    verdict: &'static str,
    scope: &'static str,
    source: Source,
    destination: DestinationReport,
    shape: Vec<Shape>,
    decisions: Vec<DecisionReport>,
    extensions: Vec<ExtensionReport>,
    visible_changes: Vec<Visible>,
    adjustments: Adjustments,
    to_find_out: Vec<String>,
    loaders: Vec<LoaderReport>,
    attempt: Option<AttemptReport>,
}

#[derive(Serialize)]
struct Source {
    name: String,
    machine: Option<String>,
    vcpus: usize,
    accelerator: Option<&'static str>,
    run_state: Option<String>,
    opened: String,
}

#[derive(Serialize)]
struct DestinationReport {
    name: String,
    evidence: String,
    accelerator: Option<&'static str>,
    loader: Option<String>,
    vcpus: usize,
}

#[derive(Serialize)]
struct Shape {
    what: String,
    source: Option<String>,
    destination: Option<String>,
    refuses: bool,
}

#[derive(Serialize)]
struct DecisionReport {
    vcpus: String,
    id: String,
    name: String,
    source: Option<String>,
    host: Option<String>,
    listed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    becomes: Option<String>,
    knowledge: &'static str,
    tolerance: Option<usize>,
    reason: String,
    advice: Option<String>,
}

#[derive(Serialize)]
struct ExtensionReport {
    vcpus: String,
    name: String,
    source: Option<String>,
    host: Option<String>,
    decision: &'static str,
    knowledge: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct Visible {
    vcpus: String,
    id: Option<String>,
    name: Option<String>,
    field: Option<String>,
    from: Option<String>,
    to: Option<String>,
    severity: &'static str,
    what: String,
}

#[derive(Serialize)]
struct Adjustments {
    taken: Vec<AdjustmentReport>,
    proposed: Vec<AdjustmentReport>,
    with_all_proposed: &'static str,
}

#[derive(Serialize)]
struct AdjustmentReport {
    vcpus: String,
    id: String,
    name: String,
    from: Option<String>,
    to: Option<String>,
    severity: &'static str,
    consent: String,
}

#[derive(Serialize)]
struct LoaderReport {
    name: &'static str,
    version: String,
    is_destinations: bool,
    loads: Option<bool>,
    knowledge: &'static str,
    says: Vec<String>,
    says_complete: bool,
    loses: Vec<Lost>,
}

#[derive(Serialize)]
struct Lost {
    vcpu: usize,
    id: String,
    name: String,
}

/// The report as one JSON document.
///
/// # Errors
/// If JSON cannot hold it, which no answer brings about.
pub fn report(answer: &Answer<'_>) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&document(answer))?;
    text.push('\n');
    Ok(text)
}

fn document(answer: &Answer<'_>) -> Report {
    let printing = answer.printing;
    let plan = &answer.check.plan;
    let adjustment = |adjustment: &Adjustment| adjustment_report(printing, adjustment);
    Report {
        schema: SCHEMA,
        verdict: answer.verdict().name(),
        scope: SCOPE,
        source: Source {
            name: answer.source.name.clone(),
            machine: answer.source.machine.clone(),
            vcpus: answer.source.vcpus,
            accelerator: answer.source.accelerator.map(Accelerator::name),
            run_state: answer.source.run_state.clone(),
            opened: answer.source.opened.clone(),
        },
        destination: DestinationReport {
            name: answer.destination.name.clone(),
            evidence: answer.evidence.to_owned(),
            accelerator: answer.destination.accelerator.map(Accelerator::name),
            loader: answer.destination.loader.map(|loader| loader.to_string()),
            vcpus: answer.destination.vcpus.len(),
        },
        shape: answer
            .shape
            .iter()
            .map(|difference| Shape {
                what: difference.what.clone(),
                source: difference.source.clone(),
                destination: difference.destination.clone(),
                refuses: difference.refuses,
            })
            .collect(),
        decisions: plan
            .decisions()
            .iter()
            .map(|(vcpus, decision)| decision_report(answer, vcpus, decision))
            .collect(),
        extensions: plan
            .extensions()
            .iter()
            .map(|(vcpus, decision)| extension_report(answer, vcpus, decision))
            .collect(),
        visible_changes: plan
            .visible
            .iter()
            .map(|change| visible(printing, change))
            .collect(),
        adjustments: Adjustments {
            taken: plan.adjusted.iter().map(adjustment).collect(),
            proposed: plan.proposed.iter().map(adjustment).collect(),
            with_all_proposed: answer.verdict_with_proposed().name(),
        },
        to_find_out: answer.ways_to_find_out(),
        loaders: loaders(answer),
        attempt: answer
            .attempt
            .as_ref()
            .map(|attempt| attempt.to_json(printing)),
    }
}

fn decision_report(answer: &Answer<'_>, vcpus: &VcpuSet, decision: &Decision) -> DecisionReport {
    use cpreg::plan::Action;
    let printing = answer.printing;
    let id = decision.register;
    let value = |value: &Option<cpreg::register::Value>| {
        value.as_ref().and_then(|value| printing.value(id, value))
    };
    DecisionReport {
        vcpus: vcpus.to_string(),
        id: id_digits(id),
        name: printing.name(id),
        source: value(&decision.source),
        host: value(&decision.host),
        listed: decision.listed,
        secret: (id.is_secret() && !printing.secrets).then_some(true),
        decision: decision.action.name(),
        becomes: match &decision.action {
            Action::Set(value) | Action::WriteReset(value) => printing.value(id, value),
            _ => None,
        },
        knowledge: decision.knowledge.name(),
        tolerance: decision.reason.tolerance(),
        reason: decision.reason.display(answer.tolerances).to_string(),
        advice: remedy::of_decision(decision, answer.tolerances),
    }
}

fn extension_report(
    answer: &Answer<'_>,
    vcpus: &VcpuSet,
    decision: &ExtensionDecision,
) -> ExtensionReport {
    ExtensionReport {
        vcpus: vcpus.to_string(),
        name: decision.name.clone().into_owned(),
        source: decision.source.as_ref().map(content),
        host: decision.host.as_ref().map(content),
        decision: decision.action.name(),
        knowledge: decision.knowledge.name(),
        reason: decision.reason.display(answer.tolerances).to_string(),
    }
}

fn content(content: &Content) -> String {
    match content {
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn visible(printing: Printing, change: &VisibleChange) -> Visible {
    let secret = change
        .register
        .is_some_and(cpreg::register::RegisterId::is_secret);
    let value = |value: Option<u64>| {
        value
            .filter(|_| printing.secrets || !secret)
            .map(|value| format!("{value:#x}"))
    };
    Visible {
        vcpus: change.vcpus.to_string(),
        id: change.register.map(id_digits),
        name: change.register.map(|id| printing.name(id)),
        field: change.field.clone().map(std::borrow::Cow::into_owned),
        from: value(change.from),
        to: value(change.to),
        severity: change.severity.name(),
        what: remedy::of_change(change).into_owned(),
    }
}

fn adjustment_report(printing: Printing, adjustment: &Adjustment) -> AdjustmentReport {
    let id = adjustment.register;
    let name = printing.name(id);
    let value = |value: u64| printing.value(id, &value.into());
    AdjustmentReport {
        vcpus: adjustment.vcpus.to_string(),
        id: id_digits(id),
        consent: format!("--accept {name}"),
        name,
        from: value(adjustment.from),
        to: value(adjustment.to),
        severity: adjustment.severity.name(),
    }
}

fn loaders(answer: &Answer<'_>) -> Vec<LoaderReport> {
    let foretold = answer.check.loaders.iter();
    foretold
        .map(|foretold| LoaderReport {
            name: foretold.loader.program.name(),
            version: foretold.loader.version.to_string(),
            is_destinations: foretold.is_destinations,
            loads: foretold.load.loads,
            knowledge: foretold.load.knowledge.name(),
            says: answer.words(foretold.loader, &foretold.load),
            says_complete: foretold.load.complete,
            loses: foretold
                .load
                .lost
                .iter()
                .map(|(vcpu, id)| Lost {
                    vcpu: *vcpu,
                    id: id_digits(*id),
                    name: answer.printing.name(*id),
                })
                .collect(),
        })
        .collect()
}
