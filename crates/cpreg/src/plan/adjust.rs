//! [`Plan::new`], and each [`Adjustment`]: a change of value that would let a refused plan load, proposed with what the guest could notice.
//!
//! Only the user takes one. The plan is made, adjusted by what the user accepted, and made again until nothing changes; then
//! once more with everything accepted, to tell whether anything would help and what all of it is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::input::{PlanInput, Targets};
use super::{
    Adjustment, Consents, Plan, PlanOutcome, Reason, VcpuPlan, VcpuSet, extensions, merge, visible,
    worst_outcome,
};
use crate::destination::accept::nearest_value;
use crate::destination::{AcceptedValues, Destination, DestinationRegister, DestinationVcpu};
use crate::register::{RegisterId, differing_fields};
use crate::severity::{self, Severity};
use crate::tolerance::Tolerances;
use crate::vm::Vm;

/// A register is adjusted once, and once more for every ID field that hides something.
const MAX_ADJUST_ROUNDS: usize = 8;

impl Plan {
    /// Decides. Nothing is touched.
    pub fn new(
        vm: &Vm,
        destination: &Destination,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Self {
        let none = Targets::new();
        let question = PlanInput {
            vm,
            destination,
            tolerances,
            consents,
            targets: &none,
        };
        let first = decide(question);
        let accepted = adjust_until_stable(question, &first, |register, severity| {
            consents.accepts(register, severity)
        });
        let outcome = worst_outcome(accepted.vcpus.as_ref().unwrap_or(&first));
        let (proposed, with_proposed) = if outcome == PlanOutcome::Ready {
            (Vec::new(), PlanOutcome::Ready)
        } else {
            let all = adjust_until_stable(question, &first, |_, _| true);
            let with_all = worst_outcome(all.vcpus.as_ref().unwrap_or(&first));
            let mut further = all.targets;
            further.retain(|place, to| accepted.targets.get(place) != Some(to));
            let mut further = adjustments(vm, &further);
            further.sort_by_cached_key(Adjustment::rank);
            (further, with_all)
        };
        let vcpus = accepted.vcpus.unwrap_or(first);
        Self {
            visible_changes: visible::visible_changes(question, &vcpus),
            vcpus,
            accepted_adjustments: adjustments(vm, &accepted.targets),
            proposed_adjustments: proposed,
            outcome_with_proposed: with_proposed,
        }
    }
}

struct AdjustedPlans {
    /// Nothing if they are as they were before the first adjustment.
    vcpus: Option<Vec<VcpuPlan>>,
    targets: Targets,
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
            severity: severity::rate_change(register, from, to),
        })
        .collect()
}

/// Adjusts and decides again until nothing changes; `first` is what is decided without adjustments.
fn adjust_until_stable(
    question: PlanInput<'_>,
    first: &[VcpuPlan],
    accepts: impl Fn(RegisterId, Severity) -> bool,
) -> AdjustedPlans {
    let mut vcpus: Option<Vec<VcpuPlan>> = None;
    let mut adjusted = Targets::new();
    for _ in 0..MAX_ADJUST_ROUNDS {
        let now = PlanInput {
            targets: &adjusted,
            ..question
        };
        let proposals = propose(now, vcpus.as_deref().unwrap_or(first));
        let mut next = adjusted.clone();
        next.extend(
            proposals
                .into_iter()
                .filter_map(|(place, Proposal { from, to })| {
                    let severity = severity::rate_change(place.1, from, to);
                    accepts(place.1, severity).then_some((place, to))
                }),
        );
        if next == adjusted {
            break;
        }
        adjusted = next;
        vcpus = Some(decide(PlanInput {
            targets: &adjusted,
            ..question
        }));
    }
    AdjustedPlans {
        vcpus,
        targets: adjusted,
    }
}

fn decide(question: PlanInput<'_>) -> Vec<VcpuPlan> {
    let disagreements = merge::disagreements(question);
    let empty = DestinationVcpu::default();
    let vcpus = question.vm.vcpus.iter().enumerate();
    vcpus
        .map(|(number, vcpu)| {
            let host = question.destination.vcpu(number).unwrap_or(&empty);
            VcpuPlan {
                decisions: merge::decide_registers(question, number, vcpu, host, &disagreements),
                extensions: extensions::decide(question, vcpu, host),
            }
        })
        .collect()
}

/// The changes of value that would take away what stands in the way, as far as values do.
fn propose(question: PlanInput<'_>, vcpus: &[VcpuPlan]) -> BTreeMap<(usize, RegisterId), Proposal> {
    let mut proposals = BTreeMap::new();
    for (number, plan) in vcpus.iter().enumerate() {
        let (Some(vcpu), Some(host)) = (
            question.vm.vcpus.get(number),
            question.destination.vcpu(number),
        ) else {
            continue;
        };
        let planned = merge::planned_registers(question, number, vcpu);
        for decision in &plan.decisions {
            let proposal = match &decision.reason {
                Reason::ValueNotTaken | Reason::ValueUnknown(_) | Reason::NotTolerated(_) => {
                    let planned = planned.get_u64(decision.register);
                    host.get(decision.register)
                        .and_then(|register| {
                            nearest_value(question.destination, host, register, planned)
                        })
                        .map(|to| (decision.register, to))
                }
                Reason::Hidden(hides) | Reason::PerhapsHidden(hides) => restore_field(
                    host,
                    hides.id_register,
                    hides.lsb,
                    planned.get_u64(hides.id_register),
                )
                .map(|to| (hides.id_register, to)),
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

/// The VM's ID register with one field as the destination has it, so that it no longer hides what the destination lists.
fn restore_field(
    host: &DestinationVcpu,
    by: RegisterId,
    lsb: u8,
    planned: Option<u64>,
) -> Option<u64> {
    let field = 0xf << lsb;
    let own = host.value(by)?;
    let planned = planned?;
    let raised = planned & !field | own & field;
    let register: &DestinationRegister = host.get(by)?;
    // Where nothing tells which values are taken, only the destination's own is sure to be.
    let to = if register.accepted_values == AcceptedValues::ByKind {
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
