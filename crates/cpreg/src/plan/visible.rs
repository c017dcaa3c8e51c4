//! All changes of a plan that the guest could notice.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::draft::Draft;
use super::input::PlanInput;
use super::{
    Action, Decision, HardwareAction, HardwareDecision, Reason, VcpuSet, VisibleChange, extensions,
    first_run,
};
use crate::destination::accept;
use crate::destination::kernel::{self, RegisterKind};
use crate::destination::{Accelerator, DestinationVcpu};
use crate::register::{RegisterId, Value, differing_fields};
use crate::severity::{self, GuestState, Severity};
use crate::vm::Vcpu;

/// Returns all changes of a plan that the guest could notice.
pub(super) fn visible_changes(
    input: PlanInput<'_>,
    vcpus: &[Draft],
    hardware: &[HardwareDecision],
) -> Vec<VisibleChange> {
    // Equal changes occur once, in the order of their first occurrence.
    let mut grouped: BTreeMap<VisibleChange, (usize, VcpuSet)> = BTreeMap::new();
    let empty = DestinationVcpu::default();
    for ((number, draft), vcpu) in vcpus.iter().enumerate().zip(&input.vm.vcpus) {
        let destination_vcpu = input.destination.vcpu(number).unwrap_or(&empty);
        // Plain copies change nothing.
        let register_changes = draft
            .noted_decisions()
            .flat_map(|decision| decision_changes(input, vcpu, destination_vcpu, decision));
        let lost_feature =
            first_run::lost_feature(input.destination, number, &draft.plan.decisions);
        for change in register_changes
            .chain(extensions::visible_changes(&draft.plan))
            .chain(lost_feature)
        {
            let first = grouped.len();
            let (_, set) = grouped.entry(change).or_insert((first, VcpuSet::default()));
            set.insert(number);
        }
    }
    let mut grouped: Vec<_> = grouped.into_iter().collect();
    grouped.sort_by_key(|(_, (first, _))| *first);
    let mut changes: Vec<_> = grouped
        .into_iter()
        .map(|(change, (_, vcpus))| VisibleChange { vcpus, ..change })
        .collect();
    changes.extend(unlisted_changes(input, vcpus));
    changes.extend(hardware_changes(hardware, vcpus.len()));
    changes.sort_by_key(|change| core::cmp::Reverse(change.severity));
    changes
}

/// Returns the changes that the guest could notice because a property differs.
fn hardware_changes(
    decisions: &[HardwareDecision],
    vcpu_count: usize,
) -> impl Iterator<Item = VisibleChange> {
    let changes = decisions
        .iter()
        .filter(|decision| decision.action == HardwareAction::Change);
    changes.map(move |decision| VisibleChange {
        vcpus: (0..vcpu_count).collect(),
        register: None,
        field: Some(Cow::Borrowed(decision.fact.name())),
        from: decision.source,
        to: decision.destination,
        severity: decision.severity(),
        description: Cow::Owned(decision.to_string()),
        remedy: None,
    })
}

/// Registers that identify an emulated CPU. No list contains them, so cpreg cannot see their
/// changes.
const UNLISTED_BY_TCG: [RegisterId; 6] = [
    RegisterId::MIDR_EL1,
    RegisterId::ID_PFR1_EL1,
    RegisterId::ID_AA64PFR0_EL1,
    RegisterId::ID_AA64ISAR0_EL1,
    RegisterId::DCZID_EL0,
    CCSIDR_EL1,
];

const CCSIDR_EL1: RegisterId = RegisterId::sysreg(3, 1, 0, 0, 0);

/// Returns changes of registers that an emulator does not list.
///
/// If the listed ID registers of two emulated CPUs differ, the unlisted registers may differ too,
/// in an unknown way.
fn unlisted_changes(input: PlanInput<'_>, vcpus: &[Draft]) -> Vec<VisibleChange> {
    let has_changed_id_registers = input.destination.accelerator == Some(Accelerator::Tcg)
        && vcpus.iter().any(|vcpu| {
            vcpu.noted_decisions().any(|decision| {
                matches!(decision.reason, Reason::UserAccepts | Reason::UserSets)
                    && severity::is_identification(decision.register)
            })
        });
    if !has_changed_id_registers {
        return Vec::new();
    }
    let is_listed = |id| {
        let mut destination_vcpus = input.destination.vcpus.iter();
        destination_vcpus.any(|destination_vcpu| destination_vcpu.get(id).is_some())
    };
    let unlisted = UNLISTED_BY_TCG.into_iter().filter(|id| !is_listed(*id));
    unlisted
        .map(|id| {
            let description =
                "in no register list; if the CPUs differ, the guest reads the destination's value";
            VisibleChange {
                vcpus: (0..vcpus.len()).collect(),
                ..register_change(id, None, None, Severity::Low, description)
            }
        })
        .collect()
}

/// Returns a change of one register's whole value.
fn register_change(
    id: RegisterId,
    from: Option<u64>,
    to: Option<u64>,
    severity: Severity,
    description: impl Into<Cow<'static, str>>,
) -> VisibleChange {
    VisibleChange {
        vcpus: VcpuSet::default(),
        register: Some(id),
        field: None,
        from,
        to,
        severity,
        description: description.into(),
        remedy: None,
    }
}

fn decision_changes(
    input: PlanInput<'_>,
    vcpu: &Vcpu,
    destination_vcpu: &DestinationVcpu,
    decision: &Decision,
) -> Vec<VisibleChange> {
    let id = decision.register;
    let source = decision.source.as_ref().and_then(Value::as_u64);
    let destination_value = decision.destination.as_ref().and_then(Value::as_u64);
    let is_kvm = input.destination.accelerator == Some(Accelerator::Kvm);
    match (&decision.action, &decision.reason) {
        (Action::Set(value), reason) => match (
            source,
            decision.replaced_value.as_ref().unwrap_or(value).as_u64(),
        ) {
            (Some(from), Some(to)) => {
                value_changes(input.guest, id, from, to, *reason == Reason::UserSets)
            }
            (from, to) => alloc::vec![register_change(id, from, to, Severity::Medium, SET_BY_USER)],
        },
        (Action::Ignore, Reason::UserIgnores | Reason::UserDrops) => {
            let description = "ignored by the user; the register's value is lost";
            alloc::vec![register_change(
                id,
                source,
                None,
                Severity::Medium,
                description
            )]
        }
        (
            Action::KeepAtReset | Action::WriteReset(_),
            Reason::UserIgnores | Reason::UserDrops | Reason::Tolerated(_),
        ) if source.is_some() && source != destination_value => {
            let severity = source
                .zip(destination_value)
                .map_or(Severity::Medium, |(from, to)| {
                    severity::rate_change(id, from, to, input.guest)
                });
            alloc::vec![register_change(id, source, destination_value, severity, "")]
        }
        (_, Reason::Tolerated(entry)) => {
            let entry = input.tolerances.entries().get(*entry);
            let effect = entry.and_then(|entry| entry.visible_effect.clone());
            let effect = effect.map(|effect| {
                register_change(
                    id,
                    source,
                    destination_value,
                    effect.severity,
                    effect.description,
                )
            });
            effect.into_iter().collect()
        }
        (Action::WriteReset(to), Reason::DestinationOnly) => {
            let description = "the source did not list the register: not known what the guest \
                               read on the source, if anything";
            alloc::vec![register_change(
                id,
                None,
                to.as_u64(),
                Severity::Low,
                description
            )]
        }
        (Action::KeepAtReset, Reason::DestinationOnly) if is_kvm => {
            unsaved_control_change(id, destination_value)
                .into_iter()
                .collect()
        }
        (Action::Copy, _) if is_kvm => {
            let replaced = decision.replaced_value.as_ref().and_then(Value::as_u64);
            match source.zip(replaced) {
                Some((from, to)) if accept::may_ignore_writes(destination_vcpu, id) => {
                    let description = "the host has no AArch32: the register reads as zero and \
                                       ignores the value; 64-bit programs do not use it";
                    let (from, to) = (Some(from), Some(to));
                    alloc::vec![register_change(id, from, to, Severity::Low, description)]
                }
                Some((from, to)) => value_changes(input.guest, id, from, to, false),
                None => copy_changes(vcpu, destination_vcpu, id, source, destination_value),
            }
        }
        _ => Vec::new(),
    }
}

/// Returns the change that a control register causes if the source did not save the register.
fn unsaved_control_change(id: RegisterId, destination_value: Option<u64>) -> Option<VisibleChange> {
    let description = match RegisterKind::from_id(id) {
        RegisterKind::PsciVersion => {
            "the source's kernel showed the guest PSCI 0.2, and the destination's shows its newest"
        }
        RegisterKind::FirmwareBitmap(_) if destination_value != Some(0) => {
            "the guest may be offered hypercall services that the source's kernel did not have"
        }
        _ => return None,
    };
    Some(register_change(
        id,
        None,
        destination_value,
        Severity::Low,
        description,
    ))
}

/// Returns the changes that KVM makes to an accepted value.
fn copy_changes(
    vcpu: &Vcpu,
    destination_vcpu: &DestinationVcpu,
    id: RegisterId,
    source: Option<u64>,
    destination_value: Option<u64>,
) -> Vec<VisibleChange> {
    match (id, source, destination_value) {
        (RegisterId::PMCR_EL0, Some(source), Some(destination_value)) => {
            pmcr_changes(destination_vcpu, source, destination_value)
        }
        (RegisterId::CTR_EL0, Some(ctr), _)
            if kernel::cache_type_may_differ(vcpu, destination_vcpu, ctr) =>
        {
            let description = "not known, the guest may read another value: up to Linux 6.2 it \
                               reads the CPU's own CTR_EL0, later the listed value, in which Linux \
                               also sets IDC if only CLIDR_EL1 says that no data cache needs \
                               cleaning";
            alloc::vec![VisibleChange {
                field: Some(Cow::Borrowed("IDC")),
                ..register_change(id, None, None, Severity::Low, description)
            }]
        }
        _ => Vec::new(),
    }
}

/// Returns the changes that KVM silently makes to an accepted value of PMCR_EL0.
fn pmcr_changes(
    destination_vcpu: &DestinationVcpu,
    source: u64,
    destination_value: u64,
) -> Vec<VisibleChange> {
    let keeps_all = kernel::keeps_all_of_pmcr(destination_vcpu);
    // A host that already holds the value keeps it.
    if keeps_all == Some(true) || source == destination_value {
        return Vec::new();
    }
    let kept = kernel::effective_pmcr(source, destination_value);
    let change = |field, from, to, severity, description: &'static str| VisibleChange {
        field,
        ..register_change(
            RegisterId::PMCR_EL0,
            Some(from),
            Some(to),
            severity,
            description,
        )
    };
    let mut changes = Vec::new();
    let (number, kept_number) = (
        kernel::event_counter_count(source),
        kernel::event_counter_count(kept),
    );
    if number != kept_number {
        changes.push(change(
            Some(Cow::Borrowed("N")),
            number,
            kept_number,
            Severity::Medium,
            "KVM silently limits the event counters to those of the host",
        ));
    }
    // All bits but N.
    let same_number = kernel::effective_pmcr(source, source);
    if same_number != source {
        let description = if keeps_all.is_none() {
            "KVM since v6.7 (the destination may run it) silently keeps only N and bits 7:0; IMP \
             and IDCODE of 0 refer the guest to MIDR_EL1"
        } else {
            "KVM silently keeps only N and bits 7:0; IMP and IDCODE of 0 refer the guest to MIDR_EL1"
        };
        changes.push(change(
            None,
            source,
            same_number,
            Severity::Low,
            description,
        ));
    }
    changes
}

/// Description of a change that the user requested.
const SET_BY_USER: &str = "set by the user";

/// Returns the changes for a new value, one per field if the fields are known.
fn value_changes(
    guest: &GuestState,
    id: RegisterId,
    from: u64,
    to: u64,
    is_set_by_user: bool,
) -> Vec<VisibleChange> {
    let description = if is_set_by_user { SET_BY_USER } else { "" };
    let change = |field: Option<Cow<'static, str>>, from, to, severity| VisibleChange {
        field,
        ..register_change(id, Some(from), Some(to), severity, description)
    };
    if severity::is_rated_by_field(id) {
        let rated = severity::rate_fields(id, from, to, guest);
        return rated
            .map(|(difference, rating)| {
                let field = Some(Cow::Owned(difference.field.to_string()));
                let change = change(field, difference.from, difference.to, rating.severity);
                if rating.consequence.is_empty() {
                    change
                } else {
                    VisibleChange {
                        description: rating.consequence.into(),
                        ..change
                    }
                }
            })
            .collect();
    }
    let severity = severity::rate_change(id, from, to, guest);
    if id.fields().is_empty() || id.value_name(from).is_some() {
        return alloc::vec![change(None, from, to, severity)];
    }
    differing_fields(id, from, to)
        .map(|difference| {
            let name = Cow::Owned(difference.field.to_string());
            change(Some(name), difference.from, difference.to, severity)
        })
        .collect()
}
