//! The decision about each extension.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::input::Question;
use super::{ExtensionAction, ExtensionDecision, Reason, VcpuPlan, VcpuSet, VisibleChange};
use crate::destination::extension::{self, Fate};
use crate::destination::load;
use crate::destination::{HostVcpu, Knowledge, Loader};
use crate::severity::Severity;
use crate::vm::{Content, Extension, Vcpu};

/// The decisions about one vCPU's extensions, ascending by name.
pub(super) fn decide(
    question: Question<'_>,
    vcpu: &Vcpu,
    host: &HostVcpu,
) -> Vec<ExtensionDecision> {
    let mut decisions: Vec<_> = vcpu
        .extensions
        .iter()
        .map(|extension| arrived(question, vcpu, extension, host))
        .collect();
    let only_there = host.extensions.iter().filter(|extension| {
        !vcpu
            .extensions
            .iter()
            .any(|other| other.name == extension.name)
    });
    decisions.extend(only_there.map(missing));
    decisions.sort_by(|a, b| a.name.cmp(&b.name));
    decisions
}

fn arrived(
    question: Question<'_>,
    vcpu: &Vcpu,
    extension: &Extension,
    host: &HostVcpu,
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
            Knowledge::Proven,
            Reason::UserIgnores,
        )
    } else if extension.name == Extension::FEATURES {
        features(extension, there)
    } else {
        subsection(question, vcpu, extension, host)
    };
    ExtensionDecision {
        name: extension.name.clone(),
        source: Some(extension.content.clone()),
        host: there.map(|extension| extension.content.clone()),
        action,
        knowledge,
        reason,
    }
}

type Verdict = (ExtensionAction, Knowledge, Reason);

/// Feature bits belong to the program that made them: another one's mean something else.
fn features(extension: &Extension, there: Option<&Extension>) -> Verdict {
    match there {
        Some(there) if there.content == extension.content => {
            (ExtensionAction::Copy, Knowledge::Proven, Reason::Taken)
        }
        Some(there) => (
            ExtensionAction::Set(there.content.clone()),
            Knowledge::Proven,
            Reason::ExtensionIsHosts(Cow::Borrowed(
                "QEMU up to 5.2 takes its feature bits from the input, and they must be its own",
            )),
        ),
        None => (
            ExtensionAction::Ignore,
            Knowledge::Inferred,
            Reason::ExtensionIdle(Cow::Borrowed(
                "QEMU after 5.2 does not look at these feature bits",
            )),
        ),
    }
}

fn subsection(
    question: Question<'_>,
    vcpu: &Vcpu,
    extension: &Extension,
    host: &HostVcpu,
) -> Verdict {
    let loaders: Vec<Loader> = match question.destination.loader {
        Some(loader) => alloc::vec![loader],
        None => load::candidates(question.destination).collect(),
    };
    let fates = || {
        loaders
            .iter()
            .map(|loader| extension::fate(*loader, host, extension))
    };
    if fates().all(|fate| fate == Fate::Loads) {
        return (
            ExtensionAction::Copy,
            Knowledge::Inferred,
            Reason::ExtensionKnown,
        );
    }
    if let Some(why) = extension::idle(vcpu, extension) {
        return (
            ExtensionAction::Ignore,
            Knowledge::Inferred,
            Reason::ExtensionIdle(Cow::Borrowed(why)),
        );
    }
    if fates().all(|fate| matches!(fate, Fate::Refused | Fate::Aborts)) {
        let why = if extension.name == Extension::WFXT_TIMER {
            "the timer is running: a vCPU that waits with a time limit would wait for ever"
        } else {
            "the loader does not know this part of the vCPU's state"
        };
        return (
            ExtensionAction::Refuse,
            Knowledge::Inferred,
            Reason::ExtensionInUse(Cow::Borrowed(why)),
        );
    }
    (
        ExtensionAction::Undecided,
        Knowledge::Unknown,
        Reason::ExtensionUnknown,
    )
}

fn missing(extension: &Extension) -> ExtensionDecision {
    let (action, reason) = if extension.name == Extension::FEATURES {
        (
            ExtensionAction::Set(extension.content.clone()),
            Reason::ExtensionIsHosts(Cow::Borrowed(
                "QEMU up to 5.2 takes its feature bits from the input, and they must be its own",
            )),
        )
    } else {
        (ExtensionAction::KeepAtReset, Reason::OnlyAtDestination)
    };
    ExtensionDecision {
        name: extension.name.clone(),
        source: None,
        host: Some(extension.content.clone()),
        action,
        knowledge: Knowledge::Proven,
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
            what: Cow::Borrowed("lost, by the user's decision"),
            remedy: None,
        })
        .collect()
}
