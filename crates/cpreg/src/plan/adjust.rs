//! [`Plan::new`], and each [`Adjustment`]: a change of value that would let a refused plan load.
//!
//! Only the user accepts adjustments. [`Plan::new`] decides, applies the accepted adjustments, and
//! decides again until nothing changes. If the plan is not ready, `Plan::new` decides once more
//! with all adjustments accepted, to find those that would help. Each time, it decides only about
//! the registers that an adjustment may affect.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::draft::{Draft, Planner};
use super::input::{PlanInput, Targets, planned_registers, targets_of};
use super::rename::Renames;
use super::{
    Adjustment, Consents, Decision, Plan, PlanOutcome, Reason, VcpuSet, first_run, hardware,
    hardware_outcome, visible,
};
use crate::destination::accept::nearest_value;
use crate::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu,
};
use crate::register::{RegisterId, differing_fields};
use crate::severity::{self, GuestState, Severity};
use crate::tolerance::Tolerances;
use crate::vm::{Registers, Vm};

/// Maximum number of rounds of decisions. One register needs one round, and one more for every ID
/// field that hides another register.
const MAX_ADJUST_ROUNDS: usize = 8;

impl Plan {
    /// Decides about every register and extension of `vm` at `destination`.
    pub fn new(
        vm: &Vm,
        destination: &Destination,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Self {
        let renames = Renames::find(vm, destination, tolerances, consents);
        let vm = renames.vm(vm);
        let no_targets = Targets::new();
        let guest = GuestState::from_vm(vm, |id, value| consents.apply_sets(id, value))
            .with_coherent_caches(destination.accelerator == Some(Accelerator::Tcg));
        let input = PlanInput {
            vm,
            destination,
            tolerances,
            consents,
            targets: &no_targets,
            guest: &guest,
        };
        let no_vcpu = DestinationVcpu::default();
        let planner = Planner::new(input, &renames, &no_vcpu);
        let mut drafts = planner.decide();
        let mut accepted = Adjusted::default();
        let (mut proposed, mut with_proposed) = (Vec::new(), PlanOutcome::Ready);
        if accepted.outcome(&drafts) != PlanOutcome::Ready {
            let first_proposals = propose(input, &drafts, &accepted);
            accepted = adjust_until_stable(
                &planner,
                input,
                &drafts,
                &first_proposals,
                |register, severity| consents.accepts(register, severity),
            );
            if accepted.outcome(&drafts) != PlanOutcome::Ready {
                let all = adjust_until_stable(
                    &planner,
                    input,
                    &drafts,
                    &first_proposals,
                    |_, severity| severity < Severity::Fatal,
                );
                with_proposed = all.outcome(&drafts);
                let mut remaining = all.targets;
                remaining.retain(|place, to| accepted.targets.get(place) != Some(to));
                proposed = adjustments(input, &remaining);
                proposed.sort_by_cached_key(Adjustment::rank);
            }
        }
        for (number, decisions) in accepted.decisions {
            if let Some(draft) = drafts.get_mut(number) {
                draft.replace(decisions);
            }
        }
        let hardware = hardware::decide(input);
        Self {
            visible_changes: visible::visible_changes(input, &drafts, &hardware),
            vcpus: drafts.into_iter().map(|draft| draft.plan).collect(),
            accepted_adjustments: adjustments(input, &accepted.targets),
            proposed_adjustments: proposed,
            outcome_with_proposed: with_proposed.worse(hardware_outcome(&hardware)),
            hardware,
        }
    }
}

/// Adjustments, with the decisions that they may have changed.
#[derive(Default)]
struct Adjusted {
    /// New decisions about each vCPU with adjustments, by the number of the vCPU.
    decisions: BTreeMap<usize, Vec<Decision>>,
    targets: Targets,
}

impl Adjusted {
    /// Returns the outcome of all vCPUs. `first` holds the decisions without adjustments.
    fn outcome(&self, first: &[Draft]) -> PlanOutcome {
        let drafts = first.iter().enumerate();
        let outcomes =
            drafts.map(|(number, draft)| draft.outcome_with(self.noted_decisions(number, draft)));
        outcomes.fold(PlanOutcome::Ready, PlanOutcome::worse)
    }

    /// Returns the decisions about a vCPU that are no plain copies. `draft` holds those without
    /// adjustments.
    fn noted_decisions<'d>(
        &'d self,
        number: usize,
        draft: &'d Draft,
    ) -> impl Iterator<Item = &'d Decision> {
        let again = self.decisions.get(&number);
        let first = again.is_none().then(|| draft.noted_decisions());
        again
            .into_iter()
            .flatten()
            .chain(first.into_iter().flatten())
    }
}

/// Merges equal changes of several vCPUs into one adjustment each, ascending by register.
fn adjustments(input: PlanInput<'_>, targets: &Targets) -> Vec<Adjustment> {
    let mut groups: BTreeMap<(RegisterId, u64, u64), VcpuSet> = BTreeMap::new();
    for ((number, register), to) in targets {
        let vcpu = input.vm.vcpus.get(*number);
        if let Some(from) = vcpu.and_then(|vcpu| vcpu.registers.get_u64(*register)) {
            let set = groups.entry((*register, from, *to)).or_default();
            set.insert(*number);
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|((register, from, to), vcpus)| Adjustment {
            vcpus,
            register,
            from,
            to,
            severity: rate_adjustment(input, register, from, to),
        })
        .collect()
}

/// Adjusts and decides again until nothing changes. `first` holds the decisions without
/// adjustments, and `first_proposals` the changes that would unblock them.
fn adjust_until_stable(
    planner: &Planner<'_>,
    input: PlanInput<'_>,
    first: &[Draft],
    first_proposals: &Proposals,
    accepts: impl Fn(RegisterId, Severity) -> bool,
) -> Adjusted {
    let mut adjusted = Adjusted::default();
    for round in 0..MAX_ADJUST_ROUNDS {
        let later_proposals;
        let proposals = if round == 0 {
            first_proposals
        } else {
            later_proposals = propose(input, first, &adjusted);
            &later_proposals
        };
        let mut next = adjusted.targets.clone();
        next.extend(proposals.iter().filter_map(|(place, proposal)| {
            let Proposal { to, severity } = *proposal;
            accepts(place.1, severity).then_some((*place, to))
        }));
        if next == adjusted.targets {
            break;
        }
        for (number, draft) in first.iter().enumerate() {
            let [now, before] =
                [&next, &adjusted.targets].map(|targets| targets_of(targets, number));
            if !now.eq(before) {
                let decisions = planner.decide_again(draft, &next, number);
                adjusted.decisions.insert(number, decisions);
            }
        }
        adjusted.targets = next;
    }
    adjusted
}

/// Returns the severity of an adjustment, without the part that the user set.
fn rate_adjustment(input: PlanInput<'_>, register: RegisterId, from: u64, to: u64) -> Severity {
    let from = input.consents.apply_sets(register, from);
    severity::rate_change(register, from, to, input.guest)
}

/// Changes of value, by vCPU number and register.
type Proposals = BTreeMap<(usize, RegisterId), Proposal>;

/// Returns the changes of value that would unblock the registers whose values block the load, after
/// these adjustments. `first` holds the decisions without adjustments.
fn propose(input: PlanInput<'_>, first: &[Draft], adjusted: &Adjusted) -> Proposals {
    let input = PlanInput {
        targets: &adjusted.targets,
        ..input
    };
    let mut changes = BTreeMap::new();
    for (number, draft) in first.iter().enumerate() {
        let (Some(vcpu), Some(destination_vcpu)) =
            (input.vm.vcpus.get(number), input.destination.vcpu(number))
        else {
            continue;
        };
        let planned = planned_registers(&input.consents.set, input.targets, number, vcpu);
        for decision in adjusted.noted_decisions(number, draft) {
            let Some((register, to)) = unblock(input, destination_vcpu, &planned, decision) else {
                continue;
            };
            // If the nearest value is the VM's own, the destination refuses only the user's
            // value.
            let from = vcpu.registers.get_u64(register);
            let Some(from) = from.filter(|from| *from != to) else {
                continue;
            };
            let (_, best) = changes.entry((number, register)).or_insert((from, to));
            // Of several proposals, the one that changes the most bits satisfies all decisions.
            if (*best ^ from).count_ones() < (to ^ from).count_ones() {
                *best = to;
            }
        }
    }
    let changes = changes.into_iter();
    changes
        .map(|(place, (from, to))| {
            let severity = rate_adjustment(input, place.1, from, to);
            (place, Proposal { to, severity })
        })
        .collect()
}

/// Returns the register whose change would unblock this decision, with its new value.
fn unblock(
    input: PlanInput<'_>,
    destination_vcpu: &DestinationVcpu,
    planned: &Registers,
    decision: &Decision,
) -> Option<(RegisterId, u64)> {
    match &decision.reason {
        Reason::ValueNotAccepted | Reason::ValueUnknown(_) | Reason::NotTolerated(_) => {
            let planned = planned.get_u64(decision.register);
            destination_vcpu
                .get(decision.register)
                .and_then(|register| {
                    nearest_value(input.destination, destination_vcpu, register, planned)
                })
                .map(|to| (decision.register, to))
        }
        Reason::FatalChange(changes) if !first_run::is_lost_feature(changes) => None,
        Reason::FatalChange(_) | Reason::RemovedAtFirstRun => restore_field(
            destination_vcpu,
            RegisterId::ID_AA64ISAR2_EL1,
            first_run::ATS1A,
            planned.get_u64(RegisterId::ID_AA64ISAR2_EL1),
        )
        .map(|to| (RegisterId::ID_AA64ISAR2_EL1, to)),
        Reason::Hidden(gate) | Reason::PerhapsHidden(gate) => restore_field(
            destination_vcpu,
            gate.id_register,
            gate.lsb,
            planned.get_u64(gate.id_register),
        )
        .map(|to| (gate.id_register, to)),
        _ => None,
    }
}

/// Change of one vCPU's register.
struct Proposal {
    to: u64,
    severity: Severity,
}

/// Returns the VM's ID register with the field of the gate set to the destination's value. The
/// field then no longer hides a register that the destination lists.
fn restore_field(
    destination_vcpu: &DestinationVcpu,
    id_register: RegisterId,
    lsb: u8,
    planned: Option<u64>,
) -> Option<u64> {
    let field = 0xf << lsb;
    let destination_value = destination_vcpu.value(id_register)?;
    let planned = planned?;
    let raised = planned & !field | destination_value & field;
    let register: &DestinationRegister = destination_vcpu.get(id_register)?;
    // Without a record of accepted values, only the destination's own value is certain.
    let to = if register.accepted_values == AcceptedValues::ByKind {
        destination_value
    } else {
        raised
    };
    (to != planned).then_some(to)
}

impl Adjustment {
    /// Returns the sort key: fewest changed fields first, lowering before raising, then by id.
    fn rank(&self) -> (usize, bool, RegisterId) {
        let fields = differing_fields(self.register, self.from, self.to);
        (fields.count(), self.to > self.from, self.register)
    }
}
