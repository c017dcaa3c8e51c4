//! [`Move`]: the plan of a VM that is born on one host, at another host.

use std::collections::BTreeSet;

use cpreg::destination::kernel::RegisterKind;
use cpreg::destination::loader::Loader;
use cpreg::plan::{
    Action, Adjustment, Blocker, Check, Decision, ExtensionAction, HardwareAction, Plan,
    PlanOutcome, Verdict, VisibleChange,
};
use cpreg::register::{RegisterField, RegisterId};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;

use super::birth::Birth;
use super::setting::has_setting;
use crate::inputs::PlanInputs;
use crate::pairs::plan_pairs;

/// Result of planning a VM of one host at another host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Move {
    /// Result in one word.
    pub outcome: MoveOutcome,
    /// Verdict of `cpreg check` on the pair.
    pub verdict: Verdict,
    /// Differences that block the load, or that lack a decision.
    pub blockers: Vec<Blocker>,
    /// Changes of value that would unblock the load, if the user accepts them.
    pub proposed: Vec<Adjustment>,
    /// Changes of value that the user accepts, and that the load needs.
    pub accepted: Vec<Adjustment>,
    /// Changes that the guest could notice although the load succeeds.
    pub visible_changes: Vec<VisibleChange>,
    /// Programs that may load the unchanged VM without cpreg at the destination, each with the
    /// prediction.
    pub loaders: Vec<(Loader, bool)>,
    /// The same for a VM that is born without [`Baseline::drops`](super::Baseline::drops).
    pub loaders_after_drops: Vec<(Loader, bool)>,
}

/// Result of planning a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "reports list all results")]
pub enum MoveOutcome {
    /// The plan is ready.
    Ready,
    /// The plan is ready after changes of value that the user can accept.
    NeedsConsent,
    /// Not enough information to decide.
    Unknown,
    /// All registers fit, but the CPUs differ. That breaks a running guest.
    CpuDiffers,
    /// A difference blocks the load.
    Refused,
}

/// Plans every birth at every host. The result has a row for each host of birth.
///
/// The diagonal has the births themselves: a VM that its own host does not take cannot be born.
pub(super) fn plan(
    births: &[Birth],
    inputs: PlanInputs<'_>,
) -> (Vec<Vec<Move>>, BTreeSet<RegisterId>) {
    let vms: Vec<_> = births.iter().map(|birth| birth.vm.clone()).collect();
    let destinations = births.iter().map(|birth| birth.destination.clone());
    let destinations: Vec<_> = destinations.collect();
    let rows = plan_pairs(&vms, &destinations, inputs, |vm, _, check| {
        let drops = drops(&births[vm], &check.plan);
        (Move::new(&check, inputs.tolerances), drops)
    });
    let mut drops = BTreeSet::new();
    let rows = rows.into_iter().map(|row| {
        let moves = row.into_iter().map(|(one, dropped)| {
            drops.extend(dropped);
            one
        });
        moves.collect()
    });
    let mut rows: Vec<Vec<Move>> = rows.collect();
    let is_hidden = births.iter().any(|birth| !birth.hidden.is_empty());
    if !is_hidden && drops.is_empty() {
        return (rows, drops);
    }
    let plain = births.iter().map(|birth| birth.plain_destination.clone());
    let plain: Vec<_> = plain.collect();
    let predict = |vms: &[Vm]| plan_pairs(vms, &plain, inputs, |_, _, check| predictions(&check));
    if is_hidden {
        for_each_move(&mut rows, predict(&vms), |one, loaders| {
            one.loaders.clone_from(&loaders);
            one.loaders_after_drops = loaders;
        });
    }
    if !drops.is_empty() {
        let vms = births.iter().map(|birth| birth.vm_without(&drops));
        let vms: Vec<_> = vms.collect();
        for_each_move(&mut rows, predict(&vms), |one, loaders| {
            one.loaders_after_drops = loaders;
        });
    }
    (rows, drops)
}

fn for_each_move<T>(rows: &mut [Vec<Move>], new: Vec<Vec<T>>, set: impl Fn(&mut Move, T)) {
    for (row, new) in rows.iter_mut().zip(new) {
        for (one, new) in row.iter_mut().zip(new) {
            set(one, new);
        }
    }
}

/// Returns the registers that a plan ignores because the destination lacks them, and that the VM
/// can be born without.
fn drops(birth: &Birth, plan: &Plan) -> Vec<RegisterId> {
    let decisions = plan.vcpus.iter().flat_map(|vcpu| &vcpu.decisions);
    let ignored = decisions
        .filter(|decision| decision.action == Action::Ignore && !decision.is_listed)
        .map(|decision| decision.register);
    ignored.filter(|id| birth.can_drop(*id)).collect()
}

impl Move {
    fn new(check: &Check, tolerances: &Tolerances) -> Self {
        let plan = &check.plan;
        let loaders = predictions(check);
        Self {
            outcome: outcome(plan),
            verdict: check.verdict,
            blockers: plan.blockers(tolerances),
            proposed: plan.proposed_adjustments.clone(),
            accepted: plan.accepted_adjustments.clone(),
            visible_changes: plan.visible_changes.clone(),
            loaders_after_drops: loaders.clone(),
            loaders,
        }
    }
}

fn outcome(plan: &Plan) -> MoveOutcome {
    match plan.outcome() {
        PlanOutcome::Ready => return MoveOutcome::Ready,
        PlanOutcome::Unknown => return MoveOutcome::Unknown,
        PlanOutcome::Refused => {}
    }
    if plan.outcome_with_proposed == PlanOutcome::Ready {
        return MoveOutcome::NeedsConsent;
    }
    let decisions = plan.vcpus.iter().flat_map(|vcpu| &vcpu.decisions);
    let mut registers = decisions.filter(|decision| is_blocked(decision));
    let is_cpu = |decision: &Decision| {
        RegisterKind::from_id(decision.register) == RegisterKind::Implementation
    };
    let mut extensions = plan.vcpus.iter().flat_map(|vcpu| &vcpu.extensions);
    let has_extension = extensions.any(|decision| decision.action == ExtensionAction::Refuse);
    let mut hardware = plan.hardware.iter();
    let has_fact = hardware.any(|decision| decision.action == HardwareAction::Refuse);
    if registers.all(is_cpu) && !has_extension && !has_fact {
        MoveOutcome::CpuDiffers
    } else {
        MoveOutcome::Refused
    }
}

const fn is_blocked(decision: &Decision) -> bool {
    matches!(decision.action, Action::Refuse | Action::Undecided)
}

/// Returns the predictions of `check` for the unchanged VM.
///
/// A program that would lose a register which the plan keeps does not count as one that loads.
fn predictions(check: &Check) -> Vec<(Loader, bool)> {
    let plan = &check.plan;
    let can_be_unchanged = plan.outcome() == PlanOutcome::Ready && !plan.changes_values();
    let is_ignored = |(vcpu, id): &(usize, RegisterId)| {
        let vcpu = plan.vcpus.get(*vcpu);
        let decision = vcpu.and_then(|vcpu| vcpu.decisions.find(*id));
        decision.is_some_and(|decision| decision.action == Action::Ignore)
    };
    let loaders = check.loaders.iter().map(|prediction| {
        let load = &prediction.load;
        let loads = load.loads == Some(true) && load.lost_registers.iter().all(is_ignored);
        (prediction.loader, can_be_unchanged && loads)
    });
    loaders.collect()
}

/// Returns the fields that some host takes away from a guest after a load: the value that the guest
/// reads afterwards, and the hosts.
pub(super) fn lost_fields(moves: &[Vec<Move>]) -> Vec<(RegisterField, u64, Vec<usize>)> {
    let mut lost: Vec<(RegisterField, u64, Vec<usize>)> = Vec::new();
    let cells = moves.iter().flat_map(|row| row.iter().enumerate());
    for (destination, one) in cells {
        for change in &one.visible_changes {
            let place = change.register.zip(change.field.as_deref());
            let place = place.and_then(|(id, name)| {
                Some(RegisterField {
                    id,
                    field: id.field(name)?,
                })
            });
            let (Some(place), Some(value)) = (place, change.to) else {
                continue;
            };
            if !has_setting(RegisterKind::from_id(place.id)) || change.from.is_none() {
                continue;
            }
            match lost.iter_mut().find(|(known, ..)| *known == place) {
                Some((_, lowest, hosts)) => {
                    let rank = |value| place.field.rank(value);
                    if rank(value) < rank(*lowest) {
                        *lowest = value;
                    }
                    if !hosts.contains(&destination) {
                        hosts.push(destination);
                    }
                }
                None => lost.push((place, value, vec![destination])),
            }
        }
    }
    lost
}
