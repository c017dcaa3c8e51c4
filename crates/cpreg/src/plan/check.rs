//! [`Check`]: the plan, each loader's predicted behaviour without the plan, and the resulting
//! verdict.

use alloc::vec::Vec;

use super::{Action, Consents, Plan, PlanOutcome, first_run};
use crate::destination::load::{self, SimulatedLoad};
use crate::destination::{Destination, Loader};
use crate::tolerance::Tolerances;
use crate::vm::Vm;

/// Verdict on whether a VM loads at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The VM loads unchanged or, with a loader that executes plans, by this plan.
    Loads,
    /// The VM loads after a conversion by this plan.
    Converts,
    /// The VM loads only with a decision by the user, or not at all.
    Refused,
    /// Not enough information to decide.
    Unknown,
}

impl Verdict {
    /// Returns the verdict's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::Converts => "converts",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Returns `true` if the VM loads, at least after a conversion.
    pub const fn can_load(self) -> bool {
        matches!(self, Self::Loads | Self::Converts)
    }
}

/// Result of loading the unchanged VM, without cpreg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnchangedLoad {
    /// The loader loads everything that the plan loads.
    Loads,
    /// The loader continues, but loses registers that the plan would not ignore.
    LosesRegisters,
    /// The loader fails.
    Fails,
    /// Not enough information to decide, or the possible loaders differ.
    Unknown,
}

impl UnchangedLoad {
    /// Returns the result's name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::LosesRegisters => "loses-registers",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the result if either of two holds: unknown, unless both are equal.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Unknown }
    }
}

/// Prediction of one loader's behaviour with the unchanged VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderPrediction {
    /// Loader that the prediction is about.
    pub loader: Loader,
    /// `true` if `loader` is known to be the destination's loader.
    pub is_destination_loader: bool,
    /// Predicted load.
    pub load: SimulatedLoad,
}

/// A plan and the verdict on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// Verdict on the VM.
    pub verdict: Verdict,
    /// Decisions that lead to the verdict.
    pub plan: Plan,
    /// Predictions for each loader without a plan. Empty if the destination's loader executes
    /// plans.
    pub loaders: Vec<LoaderPrediction>,
}

impl Check {
    /// Returns the check of a VM whose CPU state cannot be compared with the destination's, because
    /// another accelerator ran the VM, or because the state has not arrived.
    ///
    /// The check has no decisions. [`Destination::shape_differences`] or
    /// [`Destination::setup_differences`] has the reason.
    pub fn incomparable() -> Self {
        Self {
            verdict: Verdict::Refused,
            plan: Plan {
                hardware: Vec::new(),
                vcpus: Vec::new(),
                visible_changes: Vec::new(),
                accepted_adjustments: Vec::new(),
                proposed_adjustments: Vec::new(),
                outcome_with_proposed: PlanOutcome::Refused,
            },
            loaders: Vec::new(),
        }
    }

    /// Returns the check of a VM at a destination of which no register is known.
    ///
    /// The check has no decisions.
    pub fn undecided() -> Self {
        let mut check = Self::incomparable();
        check.verdict = Verdict::Unknown;
        check.plan.outcome_with_proposed = PlanOutcome::Unknown;
        check
    }

    /// Makes the plan and simulates every modelled loader.
    ///
    /// The check does not compare shapes. The caller compares them first with
    /// [`Destination::shape_differences`]. A VM without vCPUs loads anywhere.
    ///
    /// # Examples
    ///
    /// The crate `cpreg-hosts` has recorded destinations. This one is made by hand:
    ///
    /// ```
    /// use cpreg::destination::{Destination, DestinationVcpu, Loader, Accelerator, ValueOrigin};
    /// use cpreg::hardware::HardwareFacts;
    /// use cpreg::plan::{Check, Consents, Verdict};
    /// use cpreg::register::{RegisterId, Value};
    /// use cpreg::tolerance::Tolerances;
    /// use cpreg::vm::{DuplicateRegister, Registers, Vcpu, Vm};
    ///
    /// # fn main() -> Result<(), DuplicateRegister> {
    /// let vcpu = |psci: u64| -> Result<Vcpu, DuplicateRegister> {
    ///     let registers = Registers::from_pairs([(RegisterId::PSCI_VERSION, Value::U64(psci))])?;
    ///     Ok(Vcpu { registers, ..Vcpu::default() })
    /// };
    /// let vm = Vm { vcpus: vec![vcpu(0x1_0001)?], ..Vm::default() };
    /// let destination = Destination {
    ///     name: "the other host".to_owned(),
    ///     accelerator: Some(Accelerator::Kvm),
    ///     loader: Some(Loader::qemu(10, 0)),
    ///     value_origin: ValueOrigin::Reset,
    ///     vcpus: vec![DestinationVcpu::from_vcpu(&vcpu(0x1_0001)?)],
    ///     kernel_version: None,
    ///     hardware: HardwareFacts::UNKNOWN,
    ///     shape: None,
    /// };
    /// let check = Check::new(&vm, &destination, &Tolerances::default(), &Consents::default());
    /// assert_eq!(check.verdict, Verdict::Loads);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(
        vm: &Vm,
        destination: &Destination,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Self {
        let plan = Plan::new(vm, destination, tolerances, consents);
        let mut candidates: Vec<_> = match destination.loader {
            Some(loader) if loader.can_execute_plans() => Vec::new(),
            _ => load::candidates(destination).collect(),
        };
        candidates.extend(
            destination
                .loader
                .filter(|loader| !candidates.contains(loader) && !loader.can_execute_plans()),
        );
        let loaders: Vec<_> = candidates
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
    if first_run::may_prevent_saving(destination, &plan.vcpus) {
        return Verdict::Unknown;
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
        // No modelled loader can be the destination's.
        return Verdict::Unknown;
    }
    let predicts_unchanged_load =
        |prediction: &LoaderPrediction| loads_unchanged(plan, &prediction.load);
    if !plan.changes_values() && relevant_loaders(destination, loaders).all(predicts_unchanged_load)
    {
        return Verdict::Loads;
    }
    if loads_converted(vm, destination, plan, loaders) {
        Verdict::Converts
    } else {
        // The plan is ready, but the simulated loader does not load the converted VM. One of the
        // two models is wrong.
        Verdict::Unknown
    }
}

/// Returns the prediction for the destination's loader or, if that is unknown, for all plausible
/// loaders.
fn relevant_loaders<'l>(
    destination: &Destination,
    loaders: &'l [LoaderPrediction],
) -> impl Iterator<Item = &'l LoaderPrediction> {
    let is_known = destination.loader.is_some();
    loaders
        .iter()
        .filter(move |prediction| !is_known || prediction.is_destination_loader)
}

/// Returns `true` if every relevant loader loads the converted VM.
fn loads_converted(
    vm: &Vm,
    destination: &Destination,
    plan: &Plan,
    loaders: &[LoaderPrediction],
) -> bool {
    let converted = plan.apply(vm);
    relevant_loaders(destination, loaders).all(|prediction| {
        load::simulate(prediction.loader, &converted, destination).loads == Some(true)
    })
}

impl Check {
    /// Returns the verdict for each modelled loader, if the destination's loader is not known.
    ///
    /// A loader can resolve a verdict that is unknown only because the loaders differ.
    pub fn verdicts_by_loader(
        vm: &Vm,
        destination: &Destination,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Vec<(Loader, Verdict)> {
        if destination.loader.is_some() {
            return Vec::new();
        }
        let loaders = load::candidates(destination).map(|loader| {
            let destination = Destination {
                loader: Some(loader),
                ..destination.clone()
            };
            let check = Self::new(vm, &destination, tolerances, consents);
            (loader, check.verdict)
        });
        loaders.collect()
    }

    /// Returns the result of loading the unchanged VM without cpreg, by the destination's loader or
    /// by any loader that it can be.
    pub fn unchanged_load(&self, destination: &Destination) -> UnchangedLoad {
        let results =
            relevant_loaders(destination, &self.loaders).map(|prediction| {
                match prediction.load.loads {
                    Some(true) if loads_unchanged(&self.plan, &prediction.load) => {
                        UnchangedLoad::Loads
                    }
                    Some(true) => UnchangedLoad::LosesRegisters,
                    Some(false) => UnchangedLoad::Fails,
                    None => UnchangedLoad::Unknown,
                }
            });
        results
            .reduce(UnchangedLoad::or)
            .unwrap_or(UnchangedLoad::Unknown)
    }

    /// Returns `true` if the converted VM also loads.
    pub(super) fn loads_converted(&self, vm: &Vm, destination: &Destination) -> bool {
        loads_converted(vm, destination, &self.plan, &self.loaders)
    }
}

/// Returns `true` if the unchanged VM loads and the loader loses only registers that the plan
/// ignores.
fn loads_unchanged(plan: &Plan, load: &SimulatedLoad) -> bool {
    load.loads == Some(true)
        && load.lost_registers.iter().all(|(vcpu, id)| {
            let decision = plan
                .vcpus
                .get(*vcpu)
                .and_then(|vcpu| vcpu.decisions.find(*id));
            decision.is_some_and(|decision| decision.action == Action::Ignore)
        })
}

impl Plan {
    /// Returns `true` if the plan loads a value that differs from the VM's, and that the loader
    /// would not choose itself.
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
            registers || extensions || vcpu.wakes()
        })
    }
}
