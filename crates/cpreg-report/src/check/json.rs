//! The answer of `check` as its model.

use std::borrow::Cow;

use cpreg::plan::{self, Action, Decision, VcpuSet};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Content;

use super::model::{
    Adjustment, Adjustments, CheckReport, Destination, ExtensionDecision, LoaderReport,
    LostRegister, RegisterDecision, SCHEMA, ShapeDifference, Source, VisibleChange,
};
use super::{CheckFindings, SCOPE};
use crate::remedy;
use crate::value::ValueFormat;

impl From<&CheckFindings<'_>> for CheckReport {
    fn from(answer: &CheckFindings<'_>) -> Self {
        let printing = answer.value_format;
        let plan = &answer.check.plan;
        let shape = answer.shape.iter().map(|difference| ShapeDifference {
            kind: difference.subject.clone(),
            source: difference.source.clone(),
            destination: difference.destination.clone(),
            blocks: difference.blocks,
        });
        let decisions = plan.decisions();
        let decisions = decisions.iter();
        let extensions = plan.extensions();
        let extensions = extensions.iter();
        let visible = plan.visible_changes.iter();
        let attempt = answer.dry_run.as_ref();
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
            next_steps: answer.next_steps(),
            loaders: loaders(answer),
            dry_run: attempt.map(|attempt| attempt.to_model(printing)),
        }
    }
}

fn source(answer: &CheckFindings<'_>) -> Source {
    let source = &answer.source;
    Source {
        name: source.name.clone(),
        machine: source.machine.clone(),
        vcpus: source.vcpus,
        accelerator: source.accelerator.map(Into::into),
        run_state: source.run_state.clone(),
        open_method: source.open_method.clone(),
    }
}

fn destination(answer: &CheckFindings<'_>) -> Destination {
    let destination = answer.destination;
    Destination {
        name: destination.name.clone(),
        provenance: answer.provenance.to_owned(),
        accelerator: destination.accelerator.map(Into::into),
        loader: destination.loader.map(|loader| loader.to_string()),
        vcpus: destination.vcpus.len(),
    }
}

fn register(answer: &CheckFindings<'_>, vcpus: &VcpuSet, decision: &Decision) -> RegisterDecision {
    let printing = answer.value_format;
    let id = decision.register;
    let value = |value: &Option<Value>| value.as_ref().and_then(|value| printing.value(id, value));
    RegisterDecision {
        vcpus: vcpus.into(),
        id: id.into(),
        name: printing.name(id),
        source: value(&decision.source),
        destination: value(&decision.destination),
        listed: decision.is_listed,
        secret: (id.is_secret() && !printing.show_secrets).then_some(true),
        decision: (&decision.action).into(),
        written_value: match &decision.action {
            Action::Set(value) | Action::WriteReset(value) => printing.value(id, value),
            _ => None,
        },
        confidence: decision.confidence.into(),
        tolerance: decision.reason.tolerance(),
        reason: decision.reason.display(answer.tolerances).to_string(),
        advice: remedy::decision_advice(decision, answer.tolerances),
    }
}

fn extension(
    answer: &CheckFindings<'_>,
    vcpus: &VcpuSet,
    decision: &plan::ExtensionDecision,
) -> ExtensionDecision {
    ExtensionDecision {
        vcpus: vcpus.into(),
        name: decision.name.clone().into_owned(),
        source: decision.source.as_ref().map(content),
        destination: decision.destination.as_ref().map(content),
        decision: (&decision.action).into(),
        confidence: decision.confidence.into(),
        reason: decision.reason.display(answer.tolerances).to_string(),
    }
}

fn content(content: &Content) -> String {
    match content {
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn visible_change(printing: ValueFormat, change: &plan::VisibleChange) -> VisibleChange {
    let is_secret = change.register.is_some_and(RegisterId::is_secret);
    let value = |value: Option<u64>| value.filter(|_| printing.show_secrets || !is_secret);
    VisibleChange {
        vcpus: (&change.vcpus).into(),
        id: change.register.map(Into::into),
        name: change.register.map(|id| printing.name(id)),
        field: change.field.clone().map(Cow::into_owned),
        from: value(change.from).map(Into::into),
        to: value(change.to).map(Into::into),
        severity: change.severity.into(),
        description: remedy::describe_change(change).into_owned(),
    }
}

fn adjustments(answer: &CheckFindings<'_>) -> Adjustments {
    let plan = &answer.check.plan;
    let all = |adjustments: &[plan::Adjustment]| {
        let adjustments = adjustments.iter();
        adjustments
            .map(|it| adjustment(answer.value_format, it))
            .collect()
    };
    Adjustments {
        accepted: all(&plan.accepted_adjustments),
        proposed: all(&plan.proposed_adjustments),
        verdict_with_all: answer.verdict_with_all().into(),
    }
}

fn adjustment(printing: ValueFormat, adjustment: &plan::Adjustment) -> Adjustment {
    let id = adjustment.register;
    let name = printing.name(id);
    let is_visible = printing.show_secrets || !id.is_secret();
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

fn loaders(answer: &CheckFindings<'_>) -> Vec<LoaderReport> {
    let foretold = answer.check.loaders.iter();
    foretold
        .map(|foretold| {
            let lost = foretold
                .load
                .lost_registers
                .iter()
                .map(|(vcpu, id)| LostRegister {
                    vcpu: *vcpu,
                    id: (*id).into(),
                    name: answer.value_format.name(*id),
                });
            LoaderReport {
                name: foretold.loader.program.name().to_owned(),
                version: foretold.loader.version.to_string(),
                is_destination_loader: foretold.is_destination_loader,
                loads: foretold.load.loads,
                confidence: foretold.load.confidence.into(),
                messages: answer.predicted_messages(foretold.loader, &foretold.load),
                messages_complete: foretold.load.is_complete,
                lost_registers: lost.collect(),
            }
        })
        .collect()
}
