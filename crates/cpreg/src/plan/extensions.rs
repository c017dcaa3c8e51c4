//! The decision about each extension.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::input::PlanInput;
use super::{ExtensionAction, ExtensionDecision, Reason, VcpuPlan, VcpuSet, VisibleChange};
use crate::destination::extension::{self, ExtensionOutcome};
use crate::destination::load;
use crate::destination::{Confidence, DestinationVcpu, Loader};
use crate::severity::Severity;
use crate::vm::{Content, Extension, Vcpu};

/// The decisions about one vCPU's extensions, ascending by name.
pub(super) fn decide(
    question: PlanInput<'_>,
    vcpu: &Vcpu,
    host: &DestinationVcpu,
) -> Vec<ExtensionDecision> {
    let mut decisions: Vec<_> = vcpu
        .extensions
        .iter()
        .map(|extension| decide_incoming(question, vcpu, extension, host))
        .collect();
    let only_there = host.extensions.iter().filter(|extension| {
        !vcpu
            .extensions
            .iter()
            .any(|other| other.name == extension.name)
    });
    decisions.extend(only_there.map(decide_missing));
    decisions.sort_by(|a, b| a.name.cmp(&b.name));
    decisions
}

fn decide_incoming(
    question: PlanInput<'_>,
    vcpu: &Vcpu,
    extension: &Extension,
    host: &DestinationVcpu,
) -> ExtensionDecision {
    let there = host.extension(&extension.name);
    let (action, knowledge, reason) = if question
        .consents
        .drop_extensions
        .iter()
        .any(|name| *name == extension.name)
    {
        (
            ExtensionAction::Ignore,
            Confidence::Proven,
            Reason::UserIgnores,
        )
    } else if extension.name == Extension::FEATURES {
        decide_features(extension, there)
    } else {
        decide_subsection(question, vcpu, extension, host)
    };
    ExtensionDecision {
        name: extension.name.clone(),
        source: Some(extension.content.clone()),
        destination: there.map(|extension| extension.content.clone()),
        action,
        confidence: knowledge,
        reason,
    }
}

type ExtensionRuling = (ExtensionAction, Confidence, Reason);

/// Feature bits belong to the program that made them: another one's mean something else.
fn decide_features(extension: &Extension, there: Option<&Extension>) -> ExtensionRuling {
    match there {
        Some(there) if there.content == extension.content => (
            ExtensionAction::Copy,
            Confidence::Proven,
            Reason::ValueTaken,
        ),
        Some(there) => (
            ExtensionAction::Set(there.content.clone()),
            Confidence::Proven,
            Reason::ExtensionFromDestination(Cow::Borrowed(
                "QEMU up to 5.2 takes its feature bits from the input, and they must be its own",
            )),
        ),
        None => (
            ExtensionAction::Ignore,
            Confidence::Inferred,
            Reason::ExtensionIdle(Cow::Borrowed(
                "QEMU after 5.2 does not look at these feature bits",
            )),
        ),
    }
}

fn decide_subsection(
    question: PlanInput<'_>,
    vcpu: &Vcpu,
    extension: &Extension,
    host: &DestinationVcpu,
) -> ExtensionRuling {
    let loaders: Vec<Loader> = match question.destination.loader {
        Some(loader) => alloc::vec![loader],
        None => load::candidates(question.destination).collect(),
    };
    let fates = || {
        loaders
            .iter()
            .map(|loader| extension::predict_outcome(*loader, host, extension))
    };
    if fates().all(|fate| fate == ExtensionOutcome::Loads) {
        return (
            ExtensionAction::Copy,
            Confidence::Inferred,
            Reason::ExtensionKnown,
        );
    }
    if let Some(why) = extension::idle_reason(vcpu, extension) {
        return (
            ExtensionAction::Ignore,
            Confidence::Inferred,
            Reason::ExtensionIdle(Cow::Borrowed(why)),
        );
    }
    if fates().all(|fate| matches!(fate, ExtensionOutcome::Refused | ExtensionOutcome::Aborts)) {
        let why = if extension.name == Extension::WFXT_TIMER {
            "the timer is running: a vCPU that waits with a time limit would wait for ever"
        } else {
            "the loader does not know this part of the vCPU's state"
        };
        return (
            ExtensionAction::Refuse,
            Confidence::Inferred,
            Reason::ExtensionInUse(Cow::Borrowed(why)),
        );
    }
    (
        ExtensionAction::Undecided,
        Confidence::Unknown,
        Reason::ExtensionUnknown,
    )
}

fn decide_missing(extension: &Extension) -> ExtensionDecision {
    let (action, reason) = if extension.name == Extension::FEATURES {
        (
            ExtensionAction::Set(extension.content.clone()),
            Reason::ExtensionFromDestination(Cow::Borrowed(
                "QEMU up to 5.2 takes its feature bits from the input, and they must be its own",
            )),
        )
    } else {
        (ExtensionAction::KeepAtReset, Reason::OnlyAtDestination)
    };
    ExtensionDecision {
        name: extension.name.clone(),
        source: None,
        destination: Some(extension.content.clone()),
        action,
        confidence: Confidence::Proven,
        reason,
    }
}

/// What the guest could notice of the decisions about one vCPU's extensions.
pub(super) fn visible_changes(plan: &VcpuPlan) -> Vec<VisibleChange> {
    plan.extensions
        .iter()
        .filter(|decision| decision.reason == Reason::UserIgnores)
        .map(|decision| VisibleChange {
            vcpus: VcpuSet::default(),
            register: None,
            field: Some(decision.name.clone()),
            from: match &decision.source {
                Some(Content::Number(number)) => Some(*number),
                _ => None,
            },
            to: None,
            severity: Severity::High,
            description: Cow::Borrowed("lost, by the user's decision"),
            remedy: None,
        })
        .collect()
}
