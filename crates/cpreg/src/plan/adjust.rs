//! [`Adjustment`]: a change of value that would let a refused plan load, proposed with what the guest could notice.
//!
//! Only the user takes one. The plan is made, adjusted by what the user accepted, and made again until nothing changes; then
//! once more with everything accepted, to tell whether anything would help and what all of it is.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::merge::{self, Question};
use super::{
    Action, Consents, Decision, Outcome, Plan, Reason, Severity, VcpuPlan, VcpuSet, VisibleChange,
    extensions, first_run, outcome_of, severity,
};
use crate::destination::accept::{self, tcg};
use crate::destination::kernel::{self, Kind};
use crate::destination::{Accelerator, Accepts, Destination, HostRegister, HostVcpu};
use crate::register::{RegisterId, Value, differing_fields};
use crate::tolerance::Tolerances;
use crate::vm::{Vcpu, Vm};

/// One change of value that the destination needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// Of which vCPUs.
    pub vcpus: VcpuSet,
    /// Which register.
    pub register: RegisterId,
    /// What the VM holds.
    pub from: u64,
    /// What it would be given.
    pub to: u64,
    /// How bad that is for the guest.
    pub severity: Severity,
}

/// The values that registers are adjusted to, by vCPU and register.
pub(super) type Targets = BTreeMap<(usize, RegisterId), u64>;

/// A register is adjusted once, and once more for every ID field that hides something.
const ROUNDS: usize = 8;

/// Makes the plan; see the module.
pub(super) fn settle(
    vm: &Vm,
    destination: &Destination,
    tolerances: &Tolerances,
    consents: &Consents,
) -> Plan {
    let none = Targets::new();
    let question = Question {
        vm,
        destination,
        tolerances,
        consents,
        adjusted: &none,
    };
    let first = decide(question);
    let accepted = rounds(question, &first, |register, severity| {
        consents.accepts(register, severity)
    });
    let outcome = outcome_of(accepted.vcpus.as_ref().unwrap_or(&first));
    let (proposed, with_proposed) = if outcome == Outcome::Ready {
        (Vec::new(), Outcome::Ready)
    } else {
        let all = rounds(question, &first, |_, _| true);
        let with_all = outcome_of(all.vcpus.as_ref().unwrap_or(&first));
        let mut further = all.adjusted;
        further.retain(|place, to| accepted.adjusted.get(place) != Some(to));
        let mut further = adjustments(vm, &further);
        further.sort_by_cached_key(Adjustment::rank);
        (further, with_all)
    };
    let vcpus = accepted.vcpus.unwrap_or(first);
    Plan {
        visible: visible_changes(question, &vcpus),
        vcpus,
        adjusted: adjustments(vm, &accepted.adjusted),
        proposed,
        with_proposed,
    }
}

struct Settled {
    /// Nothing if they are as they were before the first adjustment.
    vcpus: Option<Vec<VcpuPlan>>,
    adjusted: Targets,
}

/// What vCPUs have in common as one adjustment, ascending by register.
fn adjustments(vm: &Vm, targets: &Targets) -> Vec<Adjustment> {
    let mut alike: BTreeMap<(RegisterId, u64, u64), VcpuSet> = BTreeMap::new();
    for ((number, register), to) in targets {
        let vcpu = vm.vcpus.get(*number);
        if let Some(from) = vcpu.and_then(|vcpu| vcpu.registers.get_u64(*register)) {
            let set = alike.entry((*register, from, *to)).or_default();
            set.insert(*number);
        }
    }
    let alike = alike.into_iter();
    alike
        .map(|((register, from, to), vcpus)| Adjustment {
            vcpus,
            register,
            from,
            to,
            severity: severity::of_change(register, from, to),
        })
        .collect()
}

/// Adjusts and decides again until nothing changes; `first` is what is decided without adjustments.
fn rounds(
    question: Question<'_>,
    first: &[VcpuPlan],
    accepts: impl Fn(RegisterId, Severity) -> bool,
) -> Settled {
    let mut vcpus: Option<Vec<VcpuPlan>> = None;
    let mut adjusted = Targets::new();
    for _ in 0..ROUNDS {
        let now = Question {
            adjusted: &adjusted,
            ..question
        };
        let proposals = propose(now, vcpus.as_deref().unwrap_or(first));
        let mut next = adjusted.clone();
        next.extend(
            proposals
                .into_iter()
                .filter_map(|(place, Proposal { from, to })| {
                    let severity = severity::of_change(place.1, from, to);
                    accepts(place.1, severity).then_some((place, to))
                }),
        );
        if next == adjusted {
            break;
        }
        adjusted = next;
        vcpus = Some(decide(Question {
            adjusted: &adjusted,
            ..question
        }));
    }
    Settled { vcpus, adjusted }
}

fn decide(question: Question<'_>) -> Vec<VcpuPlan> {
    let disagreements = merge::disagreements(question);
    let empty = HostVcpu::default();
    let vcpus = question.vm.vcpus.iter().enumerate();
    vcpus
        .map(|(number, vcpu)| {
            let host = question.destination.vcpu(number).unwrap_or(&empty);
            VcpuPlan {
                decisions: merge::registers(question, number, vcpu, host, &disagreements),
                extensions: extensions::decide(question, vcpu, host),
            }
        })
        .collect()
}

/// The changes of value that would take away what stands in the way, as far as values do.
fn propose(question: Question<'_>, vcpus: &[VcpuPlan]) -> BTreeMap<(usize, RegisterId), Proposal> {
    let mut proposals = BTreeMap::new();
    for (number, plan) in vcpus.iter().enumerate() {
        let (Some(vcpu), Some(host)) = (
            question.vm.vcpus.get(number),
            question.destination.vcpu(number),
        ) else {
            continue;
        };
        let planned = merge::planned(question, number, vcpu);
        for decision in &plan.decisions {
            let proposal = match &decision.reason {
                Reason::ValueNotTaken | Reason::ValueUnknown(_) | Reason::NotTolerated(_) => {
                    let planned = planned.get_u64(decision.register);
                    host.get(decision.register)
                        .and_then(|register| nearest(question.destination, host, register, planned))
                        .map(|to| (decision.register, to))
                }
                Reason::Hidden(hides) | Reason::PerhapsHidden(hides) => {
                    raise(host, hides.by, hides.lsb, planned.get_u64(hides.by))
                        .map(|to| (hides.by, to))
                }
                _ => None,
            };
            if let Some((register, to)) = proposal {
                // To what it holds already it is not changed: the user's value is what is not taken.
                let from = vcpu.registers.get_u64(register);
                let Some(from) = from.filter(|from| *from != to) else {
                    continue;
                };
                let mine = proposals
                    .entry((number, register))
                    .or_insert(Proposal { from, to });
                // The one that changes the most bits is the one that satisfies all.
                if (mine.to ^ from).count_ones() < (to ^ from).count_ones() {
                    mine.to = to;
                }
            }
        }
    }
    proposals
}

/// A change of one vCPU's register.
struct Proposal {
    from: u64,
    to: u64,
}

/// The value nearest to the VM's that the destination is known to take, if that is another one.
pub(super) fn nearest(
    destination: &Destination,
    host: &HostVcpu,
    register: &HostRegister,
    planned: Option<u64>,
) -> Option<u64> {
    let planned = planned?;
    if destination.accelerator == Some(Accelerator::Tcg) {
        return tcg::nearest(destination.acceptor(), host, register, planned)
            .filter(|to| *to != planned);
    }
    let own = register.value.as_ref().and_then(Value::as_u64)?;
    let to = match (Kind::of(register.id), &register.accepts) {
        (Kind::Identification, Accepts::Writable(mask)) => {
            // A field that may differ keeps the VM's value where that is the lower one.
            let fields = differing_fields(register.id, own, planned);
            fields.fold(own, |to, it| {
                let bits = it.field.mask();
                if accept::lowers(&it) && bits & !mask == 0 {
                    to & !bits | planned & bits
                } else {
                    to
                }
            })
        }
        (Kind::Services(_), Accepts::ByKind) => planned & own,
        (_, Accepts::Subset(bits)) => planned & bits,
        (_, Accepts::OneOf(values)) => values
            .iter()
            .copied()
            .filter(|value| *value <= planned)
            .max()
            .unwrap_or(own),
        _ => own,
    };
    (to != planned).then_some(to)
}

/// The VM's ID register with one field as the destination has it, so that it no longer hides what the destination lists.
fn raise(host: &HostVcpu, by: RegisterId, lsb: u8, planned: Option<u64>) -> Option<u64> {
    let field = 0xf << lsb;
    let own = host.value(by)?;
    let planned = planned?;
    let raised = planned & !field | own & field;
    let register: &HostRegister = host.get(by)?;
    // Where nothing tells which values are taken, only the destination's own is sure to be.
    let to = if register.accepts == Accepts::ByKind {
        own
    } else {
        raised
    };
    (to != planned).then_some(to)
}

impl Adjustment {
    /// Fewest visible fields first, lowering before raising, then by id.
    fn rank(&self) -> (usize, bool, RegisterId) {
        let fields = differing_fields(self.register, self.from, self.to);
        (fields.count(), self.to > self.from, self.register)
    }
}

/// Everything that the guest could notice of a plan.
fn visible_changes(question: Question<'_>, vcpus: &[VcpuPlan]) -> Vec<VisibleChange> {
    // Equal changes once, with where they came first.
    let mut alike: BTreeMap<VisibleChange, (usize, VcpuSet)> = BTreeMap::new();
    let empty = HostVcpu::default();
    for ((number, plan), vcpu) in vcpus.iter().enumerate().zip(&question.vm.vcpus) {
        let there = question.destination.vcpu(number).unwrap_or(&empty);
        let decisions = plan.decisions.iter();
        let of_registers =
            decisions.flat_map(|decision| of_decision(question, vcpu, there, decision));
        let lost = first_run::lost(question.destination, number, plan);
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
    changes.extend(unlisted(question, vcpus));
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
fn unlisted(question: Question<'_>, vcpus: &[VcpuPlan]) -> Vec<VisibleChange> {
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
        .map(|id| VisibleChange {
            vcpus: (0..vcpus.len()).collect(),
            register: Some(id),
            field: None,
            from: None,
            to: None,
            severity: Severity::Low,
            what: Cow::Borrowed(
                "no list holds it; where the CPUs differ the guest reads the destination's",
            ),
        })
        .collect()
}

fn of_decision(
    question: Question<'_>,
    vcpu: &Vcpu,
    there: &HostVcpu,
    decision: &Decision,
) -> Vec<VisibleChange> {
    let id = decision.register;
    let source = decision.source.as_ref().and_then(Value::as_u64);
    let host = decision.host.as_ref().and_then(Value::as_u64);
    let change = |from, to, severity, what: Cow<'static, str>| VisibleChange {
        vcpus: VcpuSet::default(),
        register: Some(id),
        field: None,
        from,
        to,
        severity,
        what,
    };
    if let Action::Set(value) = &decision.action {
        let (Some(from), Some(to)) = (source, value.as_u64()) else {
            return alloc::vec![change(
                source,
                value.as_u64(),
                Severity::Medium,
                Cow::Borrowed("set by the user"),
            )];
        };
        return of_value(id, from, to, decision.reason == Reason::UserSets);
    }
    match (&decision.action, &decision.reason) {
        (Action::Ignore, Reason::UserIgnores | Reason::UserHides) => alloc::vec![change(
            source,
            None,
            Severity::Medium,
            Cow::Borrowed("the register's value is lost, by the user's decision"),
        )],
        (
            Action::KeepAtReset | Action::WriteReset(_),
            Reason::UserIgnores | Reason::UserHides | Reason::Tolerated(_),
        ) if source.is_some() && source != host => {
            let severity = source.zip(host).map_or(Severity::Medium, |(from, to)| {
                severity::of_change(id, from, to)
            });
            alloc::vec![change(source, host, severity, Cow::Borrowed(""))]
        }
        (_, Reason::Tolerated(entry)) => {
            let visible = question
                .tolerances
                .entries()
                .get(*entry)
                .and_then(|entry| entry.visible.clone());
            visible
                .map(|visible| change(source, host, visible.severity, visible.what))
                .into_iter()
                .collect()
        }
        (Action::WriteReset(to), Reason::OnlyAtDestination) => alloc::vec![change(
            None,
            to.as_u64(),
            Severity::Low,
            Cow::Borrowed(
                "the source did not list the register: what the guest read there before, if anything, is not known"
            ),
        )],
        (Action::KeepAtReset, Reason::OnlyAtDestination)
            if Kind::of(id) == Kind::PsciVersion
                && question.destination.accelerator == Some(Accelerator::Kvm) =>
        {
            alloc::vec![change(
                None,
                host,
                Severity::Low,
                Cow::Borrowed(
                    "the source's kernel showed the guest PSCI 0.2, and the destination's shows its newest"
                ),
            )]
        }
        (Action::Copy, _)
            if id == RegisterId::PMCR_EL0
                && question.destination.accelerator == Some(Accelerator::Kvm) =>
        {
            source
                .zip(host)
                .map(|(source, own)| of_monitor_control(there, source, own))
                .unwrap_or_default()
        }
        (Action::Copy, _)
            if id == RegisterId::CTR_EL0
                && question.destination.accelerator == Some(Accelerator::Kvm)
                && source.is_some_and(|ctr| kernel::shows_another_cache_type(vcpu, there, ctr)) =>
        {
            alloc::vec![VisibleChange {
                field: Some(Cow::Borrowed("IDC")),
                ..change(
                    None,
                    None,
                    Severity::Low,
                    Cow::Borrowed(
                        "not known, the guest may read another: up to Linux 6.2 it reads the CPU's own CTR_EL0, later what is listed, where Linux sets IDC also if only CLIDR_EL1 \
                         says that no data cache needs cleaning"
                    ),
                )
            }]
        }
        (Action::KeepAtReset, Reason::OnlyAtDestination)
            if matches!(Kind::of(id), Kind::Services(_))
                && question.destination.accelerator == Some(Accelerator::Kvm)
                && host != Some(0) =>
        {
            alloc::vec![change(
                None,
                host,
                Severity::Low,
                Cow::Borrowed(
                    "the guest may be offered hypercall services that the source's kernel did not have"
                ),
            )]
        }
        _ => Vec::new(),
    }
}

/// What KVM drops in silence of a PMCR_EL0 that it takes.
fn of_monitor_control(there: &HostVcpu, source: u64, own: u64) -> Vec<VisibleChange> {
    let keeps_all = kernel::keeps_all_of_pmcr(there);
    // A host that holds the value keeps it.
    if keeps_all == Some(true) || source == own {
        return Vec::new();
    }
    let kept = kernel::kept_of_pmcr(source, own);
    let change = |field, from, to, severity, what| VisibleChange {
        vcpus: VcpuSet::default(),
        register: Some(RegisterId::PMCR_EL0),
        field,
        from: Some(from),
        to: Some(to),
        severity,
        what: Cow::Borrowed(what),
    };
    let mut changes = Vec::new();
    let (number, left) = (kernel::counters(source), kernel::counters(kept));
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
    let same_number = kernel::kept_of_pmcr(source, source);
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
fn of_value(id: RegisterId, from: u64, to: u64, by_user: bool) -> Vec<VisibleChange> {
    let whole = severity::of_change(id, from, to);
    let what = if by_user { "set by the user" } else { "" };
    let change = |field: Option<Cow<'static, str>>, from, to, severity| VisibleChange {
        vcpus: VcpuSet::default(),
        register: Some(id),
        field,
        from: Some(from),
        to: Some(to),
        severity,
        what: Cow::Borrowed(what),
    };
    if id.fields().is_empty() || id.value_name(from).is_some() {
        return alloc::vec![change(None, from, to, whole)];
    }
    let identification = severity::is_identification(id);
    differing_fields(id, from, to)
        .map(|difference| {
            let severity = if identification {
                severity::of_field(id, difference)
            } else {
                whole
            };
            let name = Cow::Owned(difference.field.to_string());
            change(Some(name), difference.from, difference.to, severity)
        })
        .collect()
}
