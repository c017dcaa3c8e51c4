//! Everything that blocks the load or lacks a decision, each with its reason and remedies.

use cpreg::plan::{
    Action, Decision, ExtensionAction, ExtensionDecision, HardwareAction, HardwareDecision,
};
use cpreg::register::Value;
use cpreg::shape::ShapeDifference;
use cpreg::vm::Content;

use super::CheckFindings;
use super::hardware;
use super::model::{Blocker, BlockerKind};
use crate::names;
use crate::remedy;

/// Remedy for a difference of the machine shapes, unless the difference has its own.
pub const MACHINE_ADVICE: &str =
    "start the destination with the machine type, vCPUs, RAM and devices of the source";

/// Returns the remedies of a blocking decision about a register, best first.
pub(super) fn register_remedies(findings: &CheckFindings<'_>, decision: &Decision) -> Vec<String> {
    let proposed = &findings.check.plan.proposed_adjustments;
    let is_proposed = proposed
        .iter()
        .any(|adjustment| adjustment.register == decision.register);
    let accept = is_proposed.then(|| {
        let name = findings.value_format.name(decision.register);
        format!("--accept {name}")
    });
    let advice = remedy::decision_advice(decision, findings.tolerances, findings.vmm());
    advice.into_iter().chain(accept).collect()
}

/// Returns the remedy of a blocking decision about an extension.
pub(crate) fn extension_remedy(decision: &ExtensionDecision) -> Option<String> {
    decision.source.is_some().then(|| {
        format!(
            "if the guest can do without it, --drop {} drops it and loses its content",
            decision.name
        )
    })
}

/// Returns the remedy of a blocking difference of the machine shapes.
pub(crate) fn shape_remedy(difference: &ShapeDifference) -> String {
    let own = difference.remedy.as_ref().map(remedy::command);
    own.unwrap_or_else(|| MACHINE_ADVICE.to_owned())
}

/// Returns all blockers: differences of the machine, properties of the hosts, registers,
/// extensions; refusals first within a kind.
///
/// The list is empty if the VM may be one of two that need different plans.
pub(super) fn blockers(findings: &CheckFindings<'_>) -> Vec<Blocker> {
    let plan = &findings.check.plan;
    let shape = findings.shape.iter().filter(|it| it.blocks).map(shape);
    if findings.decisive_alternatives().is_some() {
        return Vec::new();
    }
    let hardware = [HardwareAction::Refuse, HardwareAction::Undecided]
        .into_iter()
        .flat_map(|action| findings.hardware_with(action))
        .map(fact);
    let registers = [Action::Refuse, Action::Undecided].map(|action| {
        let matching = plan.decisions_where(|decision| decision.action == action);
        let blockers = matching.into_iter().map(|(vcpus, decision)| Blocker {
            vcpus: Some(vcpus.into()),
            ..register(findings, decision)
        });
        blockers.collect::<Vec<_>>()
    });
    let extensions = plan.extensions();
    let extensions = [ExtensionAction::Refuse, ExtensionAction::Undecided].map(|action| {
        let matching = extensions.iter().filter(move |row| row.1.action == action);
        matching
            .map(|(vcpus, decision)| Blocker {
                vcpus: Some(vcpus.into()),
                ..extension(findings, decision)
            })
            .collect::<Vec<_>>()
    });
    shape
        .chain(hardware)
        .chain(registers.into_iter().flatten())
        .chain(extensions.into_iter().flatten())
        .collect()
}

fn shape(difference: &ShapeDifference) -> Blocker {
    Blocker {
        kind: BlockerKind::SHAPE,
        name: difference.part.to_string(),
        id: None,
        vcpus: None,
        decision: names::Decision::REFUSE,
        source: difference.source.clone(),
        destination: difference.destination.clone(),
        reason_code: None,
        reason: difference.describe(),
        remedies: vec![shape_remedy(difference)],
    }
}

fn fact(decision: &HardwareDecision) -> Blocker {
    let value = |value: Option<u64>| value.map(|_| hardware::describe_value(decision.fact, value));
    Blocker {
        kind: BlockerKind::FACT,
        name: decision.fact.name().to_owned(),
        id: None,
        vcpus: None,
        decision: if decision.action == HardwareAction::Refuse {
            names::Decision::REFUSE
        } else {
            names::Decision::UNKNOWN
        },
        source: value(decision.source),
        destination: value(decision.destination),
        reason_code: None,
        reason: decision.to_string(),
        remedies: hardware::advice(decision).into_iter().collect(),
    }
}

fn register(findings: &CheckFindings<'_>, decision: &Decision) -> Blocker {
    let id = decision.register;
    let value = |value: &Option<Value>| {
        let value = value.as_ref();
        value.and_then(|value| findings.value_format.value(id, value))
    };
    Blocker {
        kind: BlockerKind::REGISTER,
        name: findings.value_format.name(id),
        id: Some(id.into()),
        vcpus: None,
        decision: (&decision.action).into(),
        source: value(&decision.source),
        destination: value(&decision.destination),
        reason_code: Some((&decision.reason).into()),
        reason: decision.reason.display(findings.tolerances).to_string(),
        remedies: register_remedies(findings, decision),
    }
}

fn extension(findings: &CheckFindings<'_>, decision: &ExtensionDecision) -> Blocker {
    let content = |it: &Option<Content>| it.as_ref().map(content);
    Blocker {
        kind: BlockerKind::EXTENSION,
        name: decision.name.clone().into_owned(),
        id: None,
        vcpus: None,
        decision: (&decision.action).into(),
        source: content(&decision.source),
        destination: content(&decision.destination),
        reason_code: Some((&decision.reason).into()),
        reason: decision.reason.display(findings.tolerances).to_string(),
        remedies: extension_remedy(decision).into_iter().collect(),
    }
}

/// Returns the content of an extension: a number, or only the number of bytes.
pub(crate) fn content(content: &Content) -> String {
    match content {
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}
