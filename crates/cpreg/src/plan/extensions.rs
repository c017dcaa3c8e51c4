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

/// Returns the decisions about one vCPU's extensions, ascending by name.
pub(super) fn decide(
    input: PlanInput<'_>,
    vcpu: &Vcpu,
    destination_vcpu: &DestinationVcpu,
) -> Vec<ExtensionDecision> {
    let mut decisions: Vec<_> = vcpu
        .extensions
        .iter()
        .map(|extension| decide_incoming(input, vcpu, extension, destination_vcpu))
        .collect();
    let destination_only = destination_vcpu.extensions.iter().filter(|extension| {
        !vcpu
            .extensions
            .iter()
            .any(|other| other.name == extension.name)
    });
    decisions.extend(destination_only.map(decide_missing));
    decisions.sort_by(|a, b| a.name.cmp(&b.name));
    decisions
}

fn decide_incoming(
    input: PlanInput<'_>,
    vcpu: &Vcpu,
    extension: &Extension,
    destination_vcpu: &DestinationVcpu,
) -> ExtensionDecision {
    let destination_extension = destination_vcpu.extension(&extension.name);
    let (action, confidence, reason) = if input
        .consents
        .drop_extensions
        .iter()
        .any(|name| *name == extension.name)
    {
        let action = if extension::is_armed_timer(extension) {
            ExtensionAction::IgnoreAndWake
        } else {
            ExtensionAction::Ignore
        };
        (action, Confidence::Proven, Reason::UserIgnores)
    } else if extension.name == Extension::FEATURES {
        decide_features(extension, destination_extension)
    } else if extension.name == Extension::HVF_ORDER && destination_extension.is_none() {
        (
            ExtensionAction::Ignore,
            Confidence::Inferred,
            Reason::ExtensionReplaced(Cow::Borrowed(HVF_ORDER_REASON)),
        )
    } else {
        decide_subsection(input, vcpu, extension, destination_vcpu)
    };
    ExtensionDecision {
        name: extension.name.clone(),
        source: Some(extension.content.clone()),
        destination: destination_extension.map(|extension| extension.content.clone()),
        action,
        confidence,
        reason,
    }
}

type ExtensionRuling = (ExtensionAction, Confidence, Reason);

/// Decides about QEMU's feature bits, whose meaning depends on the version of QEMU that wrote them.
fn decide_features(
    extension: &Extension,
    destination_extension: Option<&Extension>,
) -> ExtensionRuling {
    match destination_extension {
        Some(destination_extension) if destination_extension.content == extension.content => (
            ExtensionAction::Copy,
            Confidence::Proven,
            Reason::ValueAccepted,
        ),
        Some(destination_extension) => (
            ExtensionAction::Set(destination_extension.content.clone()),
            Confidence::Proven,
            Reason::ExtensionFromDestination(Cow::Borrowed(
                "QEMU up to 5.2 loads its feature bits from the input, and they must be its own",
            )),
        ),
        None => (
            ExtensionAction::Ignore,
            Confidence::Inferred,
            Reason::ExtensionIdle(Cow::Borrowed("QEMU after 5.2 ignores these feature bits")),
        ),
    }
}

fn decide_subsection(
    input: PlanInput<'_>,
    vcpu: &Vcpu,
    extension: &Extension,
    destination_vcpu: &DestinationVcpu,
) -> ExtensionRuling {
    let loaders: Vec<Loader> = match input.destination.loader {
        Some(loader) => alloc::vec![loader],
        None => load::candidates(input.destination).collect(),
    };
    let outcomes = || {
        loaders
            .iter()
            .map(|loader| extension::predict_outcome(*loader, destination_vcpu, extension))
    };
    if outcomes().all(|outcome| outcome == ExtensionOutcome::Loads) {
        return (
            ExtensionAction::Copy,
            Confidence::Inferred,
            Reason::ExtensionKnown,
        );
    }
    if let Some(explanation) = extension::idle_reason(vcpu, extension) {
        return (
            ExtensionAction::Ignore,
            Confidence::Inferred,
            Reason::ExtensionIdle(Cow::Borrowed(explanation)),
        );
    }
    if extension::is_armed_timer(extension) {
        return (
            ExtensionAction::IgnoreAndWake,
            Confidence::Inferred,
            Reason::ExtensionReplaced(Cow::Borrowed(
                "the timer is running, and the loader has none for this vCPU: the vCPU is woken, \
                 and WFIT or WFET returns early, as the architecture allows",
            )),
        );
    }
    if outcomes().all(|outcome| {
        matches!(
            outcome,
            ExtensionOutcome::Refused | ExtensionOutcome::Aborts
        )
    }) {
        return (
            ExtensionAction::Refuse,
            Confidence::Inferred,
            Reason::ExtensionInUse(Cow::Borrowed(
                "the loader does not know this part of the vCPU's state",
            )),
        );
    }
    (
        ExtensionAction::Undecided,
        Confidence::Unknown,
        Reason::ExtensionUnknown,
    )
}

/// Reason for an order of the list that differs between the VM and the destination.
const HVF_ORDER_REASON: &str =
    "QEMU loads a list only in the order of its own list, which 10.2 changed under HVF";

fn decide_missing(extension: &Extension) -> ExtensionDecision {
    let (action, reason) = if extension.name == Extension::HVF_ORDER {
        (
            ExtensionAction::Set(extension.content.clone()),
            Reason::ExtensionFromDestination(Cow::Borrowed(HVF_ORDER_REASON)),
        )
    } else if extension.name == Extension::FEATURES {
        (
            ExtensionAction::Set(extension.content.clone()),
            Reason::ExtensionFromDestination(Cow::Borrowed(
                "QEMU up to 5.2 loads its feature bits from the input, and they must be its own",
            )),
        )
    } else {
        (ExtensionAction::KeepAtReset, Reason::DestinationOnly)
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

/// Returns the changes that the guest could notice in one vCPU's extensions.
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
