//! [`Check`]: the plan beside what each loader would do on its own, and the verdict that follows from both.

use alloc::vec::Vec;

use super::{Action, Consents, Plan, PlanOutcome};
use crate::destination::load::{self, SimulatedLoad};
use crate::destination::{Destination, Loader};
use crate::tolerance::Tolerances;
use crate::vm::Vm;

/// The answer to "will it load there?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// As it is, with that loader; with one that carries plans out, by this plan.
    Loads,
    /// After it is converted.
    Converts,
    /// Not without a decision that is the user's, or not at all.
    Refused,
    /// What is known does not tell.
    Unknown,
}

impl Verdict {
    /// The word for it in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::Converts => "converts",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// What one loader would do with the VM as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderPrediction {
    /// Which loader.
    pub loader: Loader,
    /// Whether it is the destination's own, as far as that is known.
    pub is_destination_loader: bool,
    /// What it would do.
    pub load: SimulatedLoad,
}

/// A plan and what it comes to.
#[derive(Clone, Debug)]
pub struct Check {
    /// The answer.
    pub verdict: Verdict,
    /// The decisions behind it.
    pub plan: Plan,
    /// What each loader would do on its own; none where the destination's carries plans out.
    pub loaders: Vec<LoaderPrediction>,
}

impl Check {
    /// Plans, and plays every modelled loader through.
    ///
    /// Outlines are not compared: do that first, with [`crate::shape::MachineShape::differences`]. A VM without vCPUs loads anywhere.
    pub fn new(
        vm: &Vm,
        destination: &Destination,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Self {
        let plan = Plan::new(vm, destination, tolerances, consents);
        let mut modelled: Vec<_> = match destination.loader {
            Some(loader) if loader.can_execute_plans() => Vec::new(),
            _ => load::candidates(destination).collect(),
        };
        modelled.extend(
            destination
                .loader
                .filter(|loader| !modelled.contains(loader) && !loader.can_execute_plans()),
        );
        let loaders: Vec<_> = modelled
            .into_iter()
            .map(|loader| LoaderPrediction {
                loader,
                is_destination_loader: destination.loader == Some(loader),
                load: load::simulate(loader, vm, destination),
            })
            .collect();
        let verdict = verdict(vm, destination, &plan, &loaders);
        Self {
            verdict,
            plan,
            loaders,
        }
    }
}

fn verdict(
    vm: &Vm,
    destination: &Destination,
    plan: &Plan,
    loaders: &[LoaderPrediction],
) -> Verdict {
    match plan.outcome() {
        PlanOutcome::Refused => return Verdict::Refused,
        PlanOutcome::Unknown => return Verdict::Unknown,
        PlanOutcome::Ready => {}
    }
    if let Some(loader) = destination.loader
        && loader.can_execute_plans()
    {
        return if load::is_plausible(loader, destination) {
            Verdict::Loads
        } else {
            Verdict::Unknown
        };
    }
    if relevant_loaders(destination, loaders).next().is_none() {
        // No loader that is known can be the one there.
        return Verdict::Unknown;
    }
    let as_it_is = |foretold: &LoaderPrediction| loads_unchanged(plan, &foretold.load);
    if !plan.changes_values() && relevant_loaders(destination, loaders).all(as_it_is) {
        return Verdict::Loads;
    }
    if loads_converted(vm, destination, plan, loaders) {
        Verdict::Converts
    } else {
        // The plan is ready but the loader is not known to take its result: it would be a fault of one of the two models.
        Verdict::Unknown
    }
}

/// The loaders that count: the destination's own, or all that it may be.
fn relevant_loaders<'l>(
    destination: &Destination,
    loaders: &'l [LoaderPrediction],
) -> impl Iterator<Item = &'l LoaderPrediction> {
    let is_known = destination.loader.is_some();
    loaders
        .iter()
        .filter(move |foretold| !is_known || foretold.is_destination_loader)
}

/// Whether every loader that counts takes what the plan makes of the VM.
fn loads_converted(
    vm: &Vm,
    destination: &Destination,
    plan: &Plan,
    loaders: &[LoaderPrediction],
) -> bool {
    let result = plan.apply(vm);
    relevant_loaders(destination, loaders)
        .all(|foretold| load::simulate(foretold.loader, &result, destination).loads == Some(true))
}

impl Check {
    /// Whether what loads as it is would load as the plan makes it, too.
    pub(super) fn loads_converted(&self, vm: &Vm, destination: &Destination) -> bool {
        loads_converted(vm, destination, &self.plan, &self.loaders)
    }
}

/// A loader may take the VM and lose what the plan would not.
fn loads_unchanged(plan: &Plan, load: &SimulatedLoad) -> bool {
    load.loads == Some(true)
        && load.lost_registers.iter().all(|(vcpu, id)| {
            plan.vcpus.get(*vcpu).is_some_and(|vcpu| {
                vcpu.decisions
                    .binary_search_by_key(id, |decision| decision.register)
                    .is_ok_and(|at| vcpu.decisions[at].action == Action::Ignore)
            })
        })
}

impl Plan {
    /// Whether anything is loaded that the VM did not hold and the loader would not leave there by itself.
    pub fn changes_values(&self) -> bool {
        self.vcpus.iter().any(|vcpu| {
            let registers = vcpu
                .decisions
                .iter()
                .any(|decision| matches!(decision.action, Action::Set(_) | Action::WriteReset(_)));
            let extensions = vcpu
                .extensions
                .iter()
                .any(|decision| matches!(decision.action, super::ExtensionAction::Set(_)));
            registers || extensions
        })
    }
}
