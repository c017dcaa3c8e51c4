//! [`Plan::new`], and each [`Adjustment`]: a change of value that would let a refused plan load.
//!
//! Only the user accepts adjustments. [`Plan::new`] decides, applies the accepted adjustments, and
//! decides again until nothing changes. If the plan is not ready, `Plan::new` decides once more
//! with all adjustments accepted, to find those that would help.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::input::{PlanInput, Targets};
use super::rename::Renames;
use super::{
    Adjustment, Consents, Plan, PlanOutcome, Reason, VcpuPlan, VcpuSet, extensions, fatal,
    first_run, hardware, hardware_outcome, merge, visible, worst_outcome,
};
use crate::destination::accept::nearest_value;
use crate::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu,
};
use crate::register::{RegisterId, differing_fields};
use crate::severity::{self, GuestState, Severity};
use crate::tolerance::Tolerances;
use crate::vm::Vm;

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
        let first = decide(&renames, input);
        let accepted = adjust_until_stable(&renames, input, &first, |register, severity| {
            consents.accepts(register, severity)
        });
        let outcome = worst_outcome(accepted.vcpus.as_ref().unwrap_or(&first));
        let (proposed, with_proposed) = if outcome == PlanOutcome::Ready {
            (Vec::new(), PlanOutcome::Ready)
        } else {
            let adjusted_by_all = adjust_until_stable(&renames, input, &first, |_, severity| {
                severity < Severity::Fatal
            });
            let outcome_with_all = worst_outcome(adjusted_by_all.vcpus.as_ref().unwrap_or(&first));
            let mut remaining = adjusted_by_all.targets;
            remaining.retain(|place, to| accepted.targets.get(place) != Some(to));
            let mut remaining = adjustments(input, &remaining);
            remaining.sort_by_cached_key(Adjustment::rank);
            (remaining, outcome_with_all)
        };
        let vcpus = accepted.vcpus.unwrap_or(first);
        let hardware = hardware::decide(input);
        Self {
            visible_changes: visible::visible_changes(input, &vcpus, &hardware),
            vcpus,
            accepted_adjustments: adjustments(input, &accepted.targets),
            proposed_adjustments: proposed,
            outcome_with_proposed: with_proposed.worse(hardware_outcome(&hardware)),
            hardware,
        }
    }
}

struct AdjustedPlans {
    /// Plans after the adjustments, or `None` without any adjustment.
    vcpus: Option<Vec<VcpuPlan>>,
    targets: Targets,
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
/// adjustments.
fn adjust_until_stable(
    renames: &Renames,
    input: PlanInput<'_>,
    first: &[VcpuPlan],
    accepts: impl Fn(RegisterId, Severity) -> bool,
) -> AdjustedPlans {
    let mut vcpus: Option<Vec<VcpuPlan>> = None;
    let mut adjusted = Targets::new();
    for _ in 0..MAX_ADJUST_ROUNDS {
        let current = PlanInput {
            targets: &adjusted,
            ..input
        };
        let proposals = propose(current, vcpus.as_deref().unwrap_or(first));
        let mut next = adjusted.clone();
        next.extend(
            proposals
                .into_iter()
                .filter_map(|(place, Proposal { from, to })| {
                    let severity = rate_adjustment(current, place.1, from, to);
                    accepts(place.1, severity).then_some((place, to))
                }),
        );
        if next == adjusted {
            break;
        }
        adjusted = next;
        vcpus = Some(decide(
            renames,
            PlanInput {
                targets: &adjusted,
                ..input
            },
        ));
    }
    AdjustedPlans {
        vcpus,
        targets: adjusted,
    }
}

/// Returns the severity of an adjustment, without the part that the user set.
fn rate_adjustment(input: PlanInput<'_>, register: RegisterId, from: u64, to: u64) -> Severity {
    let from = input.consents.apply_sets(register, from);
    severity::rate_change(register, from, to, input.guest)
}

fn decide(renames: &Renames, input: PlanInput<'_>) -> Vec<VcpuPlan> {
    let disagreements = merge::disagreements(input);
    let empty = DestinationVcpu::default();
    let vcpus = input.vm.vcpus.iter().enumerate();
    vcpus
        .map(|(number, vcpu)| {
            let destination_vcpu = input.destination.vcpu(number).unwrap_or(&empty);
            let planned =
                merge::planned_registers(&input.consents.set, input.targets, number, vcpu);
            let mut plan = VcpuPlan {
                decisions: merge::decide_registers(
                    input,
                    number,
                    vcpu,
                    &planned,
                    destination_vcpu,
                    &disagreements,
                ),
                extensions: extensions::decide(input, vcpu, destination_vcpu),
            };
            fatal::refuse_fatal_changes(input, destination_vcpu, &planned, &mut plan);
            first_run::refuse_lost_feature(input.destination, number, vcpu, &mut plan);
            renames.note(number, destination_vcpu, &mut plan);
            plan
        })
        .collect()
}

/// Returns the changes of value that would unblock the registers whose values block the load.
fn propose(input: PlanInput<'_>, vcpus: &[VcpuPlan]) -> BTreeMap<(usize, RegisterId), Proposal> {
    let mut proposals = BTreeMap::new();
    for (number, plan) in vcpus.iter().enumerate() {
        let (Some(vcpu), Some(destination_vcpu)) =
            (input.vm.vcpus.get(number), input.destination.vcpu(number))
        else {
            continue;
        };
        let planned = merge::planned_registers(&input.consents.set, input.targets, number, vcpu);
        for decision in &plan.decisions {
            let proposal = match &decision.reason {
                Reason::ValueNotAccepted | Reason::ValueUnknown(_) | Reason::NotTolerated(_) => {
                    let planned = planned.get_u64(decision.register);
                    destination_vcpu
                        .get(decision.register)
                        .and_then(|register| {
                            nearest_value(input.destination, destination_vcpu, register, planned)
                        })
                        .map(|to| (decision.register, to))
                }
                Reason::RemovedAtFirstRun => restore_field(
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
            };
            if let Some((register, to)) = proposal {
                // If the nearest value is the VM's own, the destination refuses only the user's
                // value.
                let from = vcpu.registers.get_u64(register);
                let Some(from) = from.filter(|from| *from != to) else {
                    continue;
                };
                let best = proposals
                    .entry((number, register))
                    .or_insert(Proposal { from, to });
                // Of several proposals, the one that changes the most bits satisfies all decisions.
                if (best.to ^ from).count_ones() < (to ^ from).count_ones() {
                    best.to = to;
                }
            }
        }
    }
    proposals
}

/// Change of one vCPU's register.
struct Proposal {
    from: u64,
    to: u64,
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
