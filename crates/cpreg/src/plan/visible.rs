//! Everything that the guest could notice of a plan.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::input::PlanInput;
use super::{Action, Decision, Reason, VcpuPlan, VcpuSet, VisibleChange, extensions, first_run};
use crate::destination::kernel::{self, RegisterKind};
use crate::destination::{Accelerator, DestinationVcpu};
use crate::register::{RegisterId, Value, differing_fields};
use crate::severity::{self, Severity};
use crate::vm::Vcpu;

/// Everything that the guest could notice of a plan.
pub(super) fn visible_changes(question: PlanInput<'_>, vcpus: &[VcpuPlan]) -> Vec<VisibleChange> {
    // Equal changes once, with where they came first.
    let mut alike: BTreeMap<VisibleChange, (usize, VcpuSet)> = BTreeMap::new();
    let empty = DestinationVcpu::default();
    for ((number, plan), vcpu) in vcpus.iter().enumerate().zip(&question.vm.vcpus) {
        let there = question.destination.vcpu(number).unwrap_or(&empty);
        let decisions = plan.decisions.iter();
        let of_registers =
            decisions.flat_map(|decision| decision_changes(question, vcpu, there, decision));
        let lost = first_run::lost_feature(question.destination, number, plan);
        for change in of_registers
            .chain(extensions::visible_changes(plan))
            .chain(lost)
        {
            let first = alike.len();
            let (_, set) = alike.entry(change).or_insert((first, VcpuSet::default()));
            set.insert(number);
        }
    }
    let mut alike: Vec<_> = alike.into_iter().collect();
    alike.sort_by_key(|(_, (first, _))| *first);
    let mut changes: Vec<_> = alike
        .into_iter()
        .map(|(change, (_, vcpus))| VisibleChange { vcpus, ..change })
        .collect();
    changes.extend(unlisted_changes(question, vcpus));
    changes.sort_by_key(|change| core::cmp::Reverse(change.severity));
    changes
}

/// What an emulated CPU is that no list holds, so that it changes unseen when the rest changes.
const UNLISTED_BY_TCG: [RegisterId; 6] = [
    RegisterId::MIDR_EL1,
    RegisterId::ID_PFR1_EL1,
    RegisterId::ID_AA64PFR0_EL1,
    RegisterId::ID_AA64ISAR0_EL1,
    RegisterId::DCZID_EL0,
    CCSIDR_EL1,
];

const CCSIDR_EL1: RegisterId = RegisterId::sysreg(3, 1, 0, 0, 0);

/// An emulated CPU that differs in its ID registers differs in those that are not listed, too, and nothing tells how.
fn unlisted_changes(question: PlanInput<'_>, vcpus: &[VcpuPlan]) -> Vec<VisibleChange> {
    let differs = question.destination.accelerator == Some(Accelerator::Tcg)
        && vcpus.iter().any(|vcpu| {
            vcpu.decisions.iter().any(|decision| {
                matches!(decision.reason, Reason::UserAccepts | Reason::UserSets)
                    && severity::is_identification(decision.register)
            })
        });
    if !differs {
        return Vec::new();
    }
    let listed = |id| {
        let mut lists = question.destination.vcpus.iter();
        lists.any(|host| host.get(id).is_some())
    };
    let hidden = UNLISTED_BY_TCG.into_iter().filter(|id| !listed(*id));
    hidden
        .map(|id| {
            let what = "no list holds it; where the CPUs differ the guest reads the destination's";
            VisibleChange {
                vcpus: (0..vcpus.len()).collect(),
                ..register_change(id, None, None, Severity::Low, what)
            }
        })
        .collect()
}

/// A change of one register's value as a whole.
fn register_change(
    id: RegisterId,
    from: Option<u64>,
    to: Option<u64>,
    severity: Severity,
    what: impl Into<Cow<'static, str>>,
) -> VisibleChange {
    VisibleChange {
        vcpus: VcpuSet::default(),
        register: Some(id),
        field: None,
        from,
        to,
        severity,
        description: what.into(),
        remedy: None,
    }
}

fn decision_changes(
    question: PlanInput<'_>,
    vcpu: &Vcpu,
    there: &DestinationVcpu,
    decision: &Decision,
) -> Vec<VisibleChange> {
    let id = decision.register;
    let source = decision.source.as_ref().and_then(Value::as_u64);
    let host = decision.destination.as_ref().and_then(Value::as_u64);
    let is_kvm = question.destination.accelerator == Some(Accelerator::Kvm);
    match (&decision.action, &decision.reason) {
        (Action::Set(value), reason) => match (source, value.as_u64()) {
            (Some(from), Some(to)) => value_changes(id, from, to, *reason == Reason::UserSets),
            (from, to) => alloc::vec![register_change(
                id,
                from,
                to,
                Severity::Medium,
                "set by the user"
            )],
        },
        (Action::Ignore, Reason::UserIgnores | Reason::UserDrops) => {
            let what = "the register's value is lost, by the user's decision";
            alloc::vec![register_change(id, source, None, Severity::Medium, what)]
        }
        (
            Action::KeepAtReset | Action::WriteReset(_),
            Reason::UserIgnores | Reason::UserDrops | Reason::Tolerated(_),
        ) if source.is_some() && source != host => {
            let severity = source.zip(host).map_or(Severity::Medium, |(from, to)| {
                severity::rate_change(id, from, to)
            });
            alloc::vec![register_change(id, source, host, severity, "")]
        }
        (_, Reason::Tolerated(entry)) => {
            let entry = question.tolerances.entries().get(*entry);
            let visible = entry.and_then(|entry| entry.visible_effect.clone());
            let visible =
                visible.map(|it| register_change(id, source, host, it.severity, it.description));
            visible.into_iter().collect()
        }
        (Action::WriteReset(to), Reason::OnlyAtDestination) => {
            let what = "the source did not list the register: what the guest read there before, if \
                        anything, is not known";
            alloc::vec![register_change(id, None, to.as_u64(), Severity::Low, what)]
        }
        (Action::KeepAtReset, Reason::OnlyAtDestination) if is_kvm => {
            unsaved_control_change(id, host).into_iter().collect()
        }
        (Action::Copy, _) if is_kvm => copy_changes(vcpu, there, id, source, host),
        _ => Vec::new(),
    }
}

/// A register that decides what the kernel shows the guest, and that the source did not save.
fn unsaved_control_change(id: RegisterId, host: Option<u64>) -> Option<VisibleChange> {
    let what = match RegisterKind::from_id(id) {
        RegisterKind::PsciVersion => {
            "the source's kernel showed the guest PSCI 0.2, and the destination's shows its newest"
        }
        RegisterKind::FirmwareBitmap(_) if host != Some(0) => {
            "the guest may be offered hypercall services that the source's kernel did not have"
        }
        _ => return None,
    };
    Some(register_change(id, None, host, Severity::Low, what))
}

/// What KVM makes of a value that it takes.
fn copy_changes(
    vcpu: &Vcpu,
    there: &DestinationVcpu,
    id: RegisterId,
    source: Option<u64>,
    host: Option<u64>,
) -> Vec<VisibleChange> {
    match (id, source, host) {
        (RegisterId::PMCR_EL0, Some(source), Some(own)) => pmcr_changes(there, source, own),
        (RegisterId::CTR_EL0, Some(ctr), _) if kernel::cache_type_may_differ(vcpu, there, ctr) => {
            let what = "not known, the guest may read another: up to Linux 6.2 it reads the CPU's \
                        own CTR_EL0, later what is listed, where Linux sets IDC also if only \
                        CLIDR_EL1 says that no data cache needs cleaning";
            alloc::vec![VisibleChange {
                field: Some(Cow::Borrowed("IDC")),
                ..register_change(id, None, None, Severity::Low, what)
            }]
        }
        _ => Vec::new(),
    }
}

/// What KVM drops in silence of a PMCR_EL0 that it takes.
fn pmcr_changes(there: &DestinationVcpu, source: u64, own: u64) -> Vec<VisibleChange> {
    let keeps_all = kernel::keeps_all_of_pmcr(there);
    // A host that holds the value keeps it.
    if keeps_all == Some(true) || source == own {
        return Vec::new();
    }
    let kept = kernel::effective_pmcr(source, own);
    let change = |field, from, to, severity, what: &'static str| VisibleChange {
        field,
        ..register_change(RegisterId::PMCR_EL0, Some(from), Some(to), severity, what)
    };
    let mut changes = Vec::new();
    let (number, left) = (
        kernel::event_counter_count(source),
        kernel::event_counter_count(kept),
    );
    if number != left {
        changes.push(change(
            Some(Cow::Borrowed("N")),
            number,
            left,
            Severity::Medium,
            "KVM takes no more event counters than the host has, and says nothing",
        ));
    }
    // But for N.
    let same_number = kernel::effective_pmcr(source, source);
    if same_number != source {
        let what = if keeps_all.is_none() {
            "KVM since v6.7, which this may be, keeps N and the bits 7:0 only, and says nothing; IMP and IDCODE of 0 refer the guest to MIDR_EL1"
        } else {
            "KVM keeps N and the bits 7:0 only, and says nothing; IMP and IDCODE of 0 refer the guest to MIDR_EL1"
        };
        changes.push(change(None, source, same_number, Severity::Low, what));
    }
    changes
}

/// A change of value, field by field where the fields are known.
fn value_changes(id: RegisterId, from: u64, to: u64, by_user: bool) -> Vec<VisibleChange> {
    let whole = severity::rate_change(id, from, to);
    let what = if by_user { "set by the user" } else { "" };
    let change = |field: Option<Cow<'static, str>>, from, to, severity| VisibleChange {
        field,
        ..register_change(id, Some(from), Some(to), severity, what)
    };
    if id.fields().is_empty() || id.value_name(from).is_some() {
        return alloc::vec![change(None, from, to, whole)];
    }
    let identification = severity::is_identification(id);
    differing_fields(id, from, to)
        .map(|difference| {
            let severity = if identification {
                severity::rate_field_change(id, difference)
            } else {
                whole
            };
            let name = Cow::Owned(difference.field.to_string());
            change(Some(name), difference.from, difference.to, severity)
        })
        .collect()
}
