//! The answer of `check` as its model.

use std::borrow::Cow;

use cpreg::plan::{self, Action, Decision, VcpuSet};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Content;

use super::model::{
    Adjustment, Adjustments, Destination, ExtensionDecision, Loader, Lost, RegisterDecision,
    Report, SCHEMA, Shape, Source, VisibleChange,
};
use super::{Answer, SCOPE};
use crate::remedy;
use crate::value::Printing;

impl From<&Answer<'_>> for Report {
    fn from(answer: &Answer<'_>) -> Self {
        let printing = answer.printing;
        let plan = &answer.check.plan;
        let shape = answer.shape.iter().map(|difference| Shape {
            what: difference.what.clone(),
            source: difference.source.clone(),
            destination: difference.destination.clone(),
            refuses: difference.refuses,
        });
        let decisions = plan.decisions();
        let decisions = decisions.iter();
        let extensions = plan.extensions();
        let extensions = extensions.iter();
        let visible = plan.visible.iter();
        let attempt = answer.attempt.as_ref();
        Self {
            schema: SCHEMA.to_owned(),
            verdict: answer.verdict().into(),
            scope: SCOPE.to_owned(),
            source: source(answer),
            destination: destination(answer),
            shape: shape.collect(),
            decisions: decisions
                .map(|(vcpus, decision)| register(answer, vcpus, decision))
                .collect(),
            extensions: extensions
                .map(|(vcpus, decision)| extension(answer, vcpus, decision))
                .collect(),
            visible_changes: visible
                .map(|change| visible_change(printing, change))
                .collect(),
            adjustments: adjustments(answer),
            to_find_out: answer.ways_to_find_out(),
            loaders: loaders(answer),
            attempt: attempt.map(|attempt| attempt.to_model(printing)),
        }
    }
}

fn source(answer: &Answer<'_>) -> Source {
    let source = &answer.source;
    Source {
        name: source.name.clone(),
        machine: source.machine.clone(),
        vcpus: source.vcpus,
        accelerator: source.accelerator.map(Into::into),
        run_state: source.run_state.clone(),
        opened: source.opened.clone(),
    }
}

fn destination(answer: &Answer<'_>) -> Destination {
    let destination = answer.destination;
    Destination {
        name: destination.name.clone(),
        evidence: answer.evidence.to_owned(),
        accelerator: destination.accelerator.map(Into::into),
        loader: destination.loader.map(|loader| loader.to_string()),
        vcpus: destination.vcpus.len(),
    }
}

fn register(answer: &Answer<'_>, vcpus: &VcpuSet, decision: &Decision) -> RegisterDecision {
    let printing = answer.printing;
    let id = decision.register;
    let value = |value: &Option<Value>| value.as_ref().and_then(|value| printing.value(id, value));
    RegisterDecision {
        vcpus: vcpus.into(),
        id: id.into(),
        name: printing.name(id),
        source: value(&decision.source),
        host: value(&decision.host),
        listed: decision.listed,
        secret: (id.is_secret() && !printing.secrets).then_some(true),
        decision: (&decision.action).into(),
        becomes: match &decision.action {
            Action::Set(value) | Action::WriteReset(value) => printing.value(id, value),
            _ => None,
        },
        knowledge: decision.knowledge.into(),
        tolerance: decision.reason.tolerance(),
        reason: decision.reason.display(answer.tolerances).to_string(),
        advice: remedy::of_decision(decision, answer.tolerances),
    }
}

fn extension(
    answer: &Answer<'_>,
    vcpus: &VcpuSet,
    decision: &plan::ExtensionDecision,
) -> ExtensionDecision {
    ExtensionDecision {
        vcpus: vcpus.into(),
        name: decision.name.clone().into_owned(),
        source: decision.source.as_ref().map(content),
        host: decision.host.as_ref().map(content),
        decision: (&decision.action).into(),
        knowledge: decision.knowledge.into(),
        reason: decision.reason.display(answer.tolerances).to_string(),
    }
}

fn content(content: &Content) -> String {
    match content {
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn visible_change(printing: Printing, change: &plan::VisibleChange) -> VisibleChange {
    let is_secret = change.register.is_some_and(RegisterId::is_secret);
    let value = |value: Option<u64>| value.filter(|_| printing.secrets || !is_secret);
    VisibleChange {
        vcpus: (&change.vcpus).into(),
        id: change.register.map(Into::into),
        name: change.register.map(|id| printing.name(id)),
        field: change.field.clone().map(Cow::into_owned),
        from: value(change.from).map(Into::into),
        to: value(change.to).map(Into::into),
        severity: change.severity.into(),
        what: remedy::of_change(change).into_owned(),
    }
}

fn adjustments(answer: &Answer<'_>) -> Adjustments {
    let plan = &answer.check.plan;
    let all = |adjustments: &[plan::Adjustment]| {
        let adjustments = adjustments.iter();
        adjustments
            .map(|it| adjustment(answer.printing, it))
            .collect()
    };
    Adjustments {
        taken: all(&plan.adjusted),
        proposed: all(&plan.proposed),
        with_all_proposed: answer.verdict_with_proposed().into(),
    }
}

fn adjustment(printing: Printing, adjustment: &plan::Adjustment) -> Adjustment {
    let id = adjustment.register;
    let name = printing.name(id);
    let is_visible = printing.secrets || !id.is_secret();
    let value = |value: u64| is_visible.then_some(value.into());
    Adjustment {
        vcpus: (&adjustment.vcpus).into(),
        id: id.into(),
        consent: format!("--accept {name}"),
        name,
        from: value(adjustment.from),
        to: value(adjustment.to),
        severity: adjustment.severity.into(),
    }
}

fn loaders(answer: &Answer<'_>) -> Vec<Loader> {
    let foretold = answer.check.loaders.iter();
    foretold
        .map(|foretold| {
            let lost = foretold.load.lost.iter().map(|(vcpu, id)| Lost {
                vcpu: *vcpu,
                id: (*id).into(),
                name: answer.printing.name(*id),
            });
            Loader {
                name: foretold.loader.program.name().to_owned(),
                version: foretold.loader.version.to_string(),
                is_destinations: foretold.is_destinations,
                loads: foretold.load.loads,
                knowledge: foretold.load.knowledge.into(),
                says: answer.words(foretold.loader, &foretold.load),
                says_complete: foretold.load.complete,
                loses: lost.collect(),
            }
        })
        .collect()
}
