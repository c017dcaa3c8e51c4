//! Conversion of the findings of `check` to their model.

use std::borrow::Cow;

use cpreg::plan::{self, Action, DecidedPart, Decision, VcpuSet};
use cpreg::register::{RegisterId, Value};

use super::CheckFindings;
use super::blockers::{blockers, content};
use super::hardware;
use super::model::{
    Adjustment, Adjustments, Alternative, AlternativeDifference, CheckReport, Destination,
    ExtensionDecision, HardwareReport, LoaderReport, LostRegister, RegisterDecision, SCHEMA,
    ShapeDifference, Source, VisibleChange, WrittenFile,
};
use crate::command::Step;
use crate::remedy::{self, Vmm};
use crate::value::ValueFormat;

impl From<&CheckFindings<'_>> for CheckReport {
    fn from(findings: &CheckFindings<'_>) -> Self {
        let value_format = findings.value_format;
        let plan = &findings.check.plan;
        let shape = findings.shape.iter().map(|difference| ShapeDifference {
            kind: (&difference.part).into(),
            name: difference.part.name().map(str::to_owned),
            instance: difference.part.instance(),
            source: difference.source.clone(),
            destination: difference.destination.clone(),
            blocks: difference.blocks,
            reason: difference.reason.clone().map(Cow::into_owned),
            advice: difference.remedy.as_ref().map(remedy::command),
        });
        let decisions = plan.decisions();
        let decisions = decisions.iter();
        let extensions = plan.extensions();
        let extensions = extensions.iter();
        let visible = plan.visible_changes.iter();
        let dry_run = findings.dry_run.as_ref();
        Self {
            schema: SCHEMA.to_owned(),
            verdict: findings.verdict().into(),
            cpreg_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            scope: findings.scope().to_owned(),
            source: source(findings),
            destination: destination(findings),
            blockers: blockers(findings),
            written: findings.written.as_ref().map(|written| WrittenFile {
                path: written.path.clone(),
                bytes: written.bytes,
                in_place: written.is_in_place,
            }),
            shape: shape.collect(),
            hardware: plan.hardware.iter().map(hardware_decision).collect(),
            decisions: decisions
                .map(|(vcpus, decision)| register(findings, vcpus, decision))
                .collect(),
            extensions: extensions
                .map(|(vcpus, decision)| extension(findings, vcpus, decision))
                .collect(),
            visible_changes: visible
                .map(|change| visible_change(value_format, findings.vmm(), change))
                .collect(),
            adjustments: adjustments(findings),
            alternatives: findings
                .alternatives
                .iter()
                .flat_map(alternatives)
                .collect(),
            operator_entries: findings.operator_entries(),
            unrecorded_kernel: findings
                .alternatives
                .iter()
                .find_map(|it| it.open.kernel.as_ref().map(|open| open.kernel.clone())),
            differences: differences(findings),
            notes: findings.notes(),
            missing_facts: findings.missing_facts(),
            next_steps: findings.next_steps().iter().map(Step::text).collect(),
            next_command: findings.next_command(),
            loaders: loaders(findings),
            dry_run: dry_run.map(|dry_run| dry_run.to_model(value_format)),
        }
    }
}

fn alternatives(alternatives: &super::Alternatives) -> Vec<Alternative> {
    let feature = alternatives.open.feature.as_ref();
    let checks = alternatives.checks.iter().enumerate();
    let models = checks.map(|(index, check)| Alternative {
        feature: feature.map(|open| open.feature.to_string()),
        has_feature: check.destination.has_feature,
        recorded_host: check.destination.recorded_host.clone(),
        destination: check.destination.argument.clone(),
        verdict: check.verdict.into(),
        command: check.destination.command.clone(),
        shown: alternatives.shown == index,
    });
    models.collect()
}

fn differences(findings: &CheckFindings<'_>) -> Vec<AlternativeDifference> {
    let value_format = findings.value_format;
    let differences = findings.alternatives.iter().flat_map(|it| &it.differences);
    let models = differences.map(|difference| {
        let id = match &difference.part {
            DecidedPart::Register(id) => Some(*id),
            DecidedPart::Extension(_) | DecidedPart::Hardware(_) => None,
        };
        let values = difference.values.iter().map(|value| {
            let (id, value) = id.zip(value.as_ref())?;
            value_format.value(id, value)
        });
        AlternativeDifference {
            id: id.map(Into::into),
            name: value_format.part(&difference.part),
            fields: difference.fields.iter().map(ToString::to_string).collect(),
            decisions: difference
                .actions
                .iter()
                .map(|action| action.map(str::to_owned))
                .collect(),
            destinations: values.collect(),
        }
    });
    models.collect()
}

fn source(findings: &CheckFindings<'_>) -> Source {
    let source = &findings.source;
    Source {
        name: source.name.clone(),
        machine: source.machine.clone(),
        vcpus: source.vcpus,
        accelerator: source.accelerator.map(Into::into),
        run_state: source.run_state.clone(),
        open_method: source.open_method.clone(),
        container: source.container.clone(),
    }
}

fn destination(findings: &CheckFindings<'_>) -> Destination {
    let destination = findings.destination;
    Destination {
        name: destination.name.clone(),
        provenance: findings.provenance.to_owned(),
        accelerator: destination.accelerator.map(Into::into),
        loader: destination.loader.map(|loader| loader.to_string()),
        vcpus: destination.vcpus.len(),
    }
}

fn hardware_decision(decision: &plan::HardwareDecision) -> HardwareReport {
    HardwareReport {
        property: decision.fact.name().to_owned(),
        source: decision.source.map(Into::into),
        destination: decision.destination.map(Into::into),
        decision: decision.action.into(),
        confidence: decision.confidence.into(),
        reason: decision.to_string(),
        advice: hardware::advice(decision),
    }
}

fn register(
    findings: &CheckFindings<'_>,
    vcpus: &VcpuSet,
    decision: &Decision,
) -> RegisterDecision {
    let value_format = findings.value_format;
    let id = decision.register;
    let value = |value: &Option<Value>| {
        value
            .as_ref()
            .and_then(|value| value_format.value(id, value))
    };
    RegisterDecision {
        vcpus: vcpus.into(),
        id: id.into(),
        name: value_format.name(id),
        source: value(&decision.source),
        destination: value(&decision.destination),
        listed: decision.is_listed,
        secret: (id.is_secret() && !value_format.show_secrets).then_some(true),
        decision: (&decision.action).into(),
        written_value: match &decision.action {
            Action::Set(value) | Action::WriteReset(value) => value_format.value(id, value),
            _ => None,
        },
        confidence: decision.confidence.into(),
        tolerance: decision.reason.tolerance(),
        reason_code: Some((&decision.reason).into()),
        reason: decision.reason.display(findings.tolerances).to_string(),
        advice: remedy::decision_advice(decision, findings.tolerances, findings.vmm()),
    }
}

fn extension(
    findings: &CheckFindings<'_>,
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
        reason_code: Some((&decision.reason).into()),
        reason: decision.reason.display(findings.tolerances).to_string(),
    }
}

fn visible_change(
    value_format: ValueFormat,
    vmm: Vmm,
    change: &plan::VisibleChange,
) -> VisibleChange {
    let is_secret = change.register.is_some_and(RegisterId::is_secret);
    let value = |value: Option<u64>| value.filter(|_| value_format.show_secrets || !is_secret);
    VisibleChange {
        vcpus: (&change.vcpus).into(),
        id: change.register.map(Into::into),
        name: change.register.map(|id| value_format.name(id)),
        field: change.field.clone().map(Cow::into_owned),
        from: value(change.from).map(Into::into),
        to: value(change.to).map(Into::into),
        severity: change.severity.into(),
        description: remedy::describe_change(change, vmm).into_owned(),
    }
}

fn adjustments(findings: &CheckFindings<'_>) -> Adjustments {
    let plan = &findings.check.plan;
    let all = |adjustments: &[plan::Adjustment]| {
        let adjustments = adjustments.iter();
        adjustments
            .map(|accepted_or_proposed| adjustment(findings.value_format, accepted_or_proposed))
            .collect()
    };
    Adjustments {
        accepted: all(&plan.accepted_adjustments),
        proposed: all(&plan.proposed_adjustments),
        verdict_with_all: findings.verdict_with_all().into(),
    }
}

fn adjustment(value_format: ValueFormat, adjustment: &plan::Adjustment) -> Adjustment {
    let id = adjustment.register;
    let name = value_format.name(id);
    let is_visible = value_format.show_secrets || !id.is_secret();
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

fn loaders(findings: &CheckFindings<'_>) -> Vec<LoaderReport> {
    let predictions = findings.check.loaders.iter();
    predictions
        .map(|prediction| {
            let lost = prediction
                .load
                .lost_registers
                .iter()
                .map(|(vcpu, id)| LostRegister {
                    vcpu: *vcpu,
                    id: (*id).into(),
                    name: findings.value_format.name(*id),
                });
            LoaderReport {
                name: prediction.loader.program.name().to_owned(),
                version: prediction.loader.version.to_string(),
                is_destination_loader: prediction.is_destination_loader,
                loads: prediction.load.loads,
                confidence: prediction.load.confidence.into(),
                messages: findings.predicted_messages(prediction.loader, &prediction.load),
                messages_complete: prediction.load.is_complete,
                lost_registers: lost.collect(),
            }
        })
        .collect()
}
