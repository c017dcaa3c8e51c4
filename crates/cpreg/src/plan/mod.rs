//! [`Plan`]: one decision for every register and extension of a VM.
//!
//! [`Plan::new`] makes a plan from the VM, the destination, the tolerances and the user's consents,
//! and changes nothing. A loader executes a plan as a whole or not at all.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the plan as data |
//! | `outcome.rs` | the outcome of a plan |
//! | `decision.rs` | the decision about one register, as data |
//! | `decisions.rs` | the decisions about one vCPU, of which vCPUs share the equal ones |
//! | `reason.rs` | reasons of decisions |
//! | `input.rs` | inputs that all decisions share |
//! | `disagreement.rs` | VM-wide registers on which the vCPUs disagree |
//! | `merge.rs` | the decision about each register |
//! | `draft.rs` | the decisions about each vCPU, without deciding anything twice |
//! | `extensions.rs` | the decision about each extension |
//! | `hardware.rs` | the decision about each property of the hosts that no register list holds |
//! | `adjust.rs` | construction of a plan, and adjustments that would let a refused plan load |
//! | `fatal.rs` | refusal of changes that break a running guest |
//! | `fatal_change.rs` | such a change, with its consequence |
//! | `rename.rs` | registers that the VM records under another id than the destination |
//! | `visible.rs` | changes that the guest could notice |
//! | `order.rs` | the order of writes |
//! | `first_run.rs` | features that KVM removes when the guest first runs |
//! | `consent.rs` | the user's consents |
//! | `birth.rs` | values with which a VM could have started, to avoid a difference |
//! | `blocker.rs` | the parts that block the load or lack a decision |
//! | `advice.rs` | reasons as text, and remedies |
//! | `alternatives.rs` | checks at several possible destinations, compared with each other |
//! | `decisive_state.rs` | the part of a VM's state on which plans depend |
//! | `dependence.rs` | the open facts on which the result of these checks depends |
//! | `check.rs` | the plan together with each loader's predicted behaviour: the verdict |
//! | `operator_entries.rs` | the use that a plan made of each operator's entry |
//! | `incremental.rs` | a check of a VM whose vCPUs arrive one after the other |
//! | `verification.rs` | a finished load, compared with the plan |
//! | `vcpus.rs` | sets of vCPUs |
//!
//! The plan does not depend on the order of registers in the input.

mod adjust;
mod advice;
mod alternatives;
mod birth;
mod blocker;
mod check;
mod consent;
mod decision;
mod decisions;
mod decisive_state;
mod dependence;
mod disagreement;
mod draft;
mod extensions;
mod fatal;
mod fatal_change;
mod first_run;
mod hardware;
mod incremental;
mod input;
mod merge;
mod operator_entries;
mod order;
mod outcome;
mod reason;
mod rename;
#[cfg(test)]
mod testing;
mod vcpus;
mod verification;
mod visible;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

pub use alternatives::{DecidedPart, PlanDifference, PossibleCheck};
pub use birth::BirthValue;
pub use blocker::Blocker;
pub use check::{Check, LoaderPrediction, UnchangedLoad, Verdict};
pub use consent::{Consents, IgnoreConsent, SetConsent};
pub use decision::{Action, Decision};
pub use decisions::{Decisions, Iter as DecisionIter};
pub use decisive_state::DecisiveState;
pub use dependence::{Dependence, Premise};
pub use fatal_change::FatalChange;
pub use hardware::{HardwareAction, HardwareDecision, HardwareReason, TagBlock, ZeroingBlock};
pub use incremental::IncrementalPlan;
pub use operator_entries::{EntryUse, OperatorEntryUse};
pub use outcome::PlanOutcome;
pub use reason::Reason;
pub use vcpus::VcpuSet;
pub use verification::{Deviation, LoadResult};

use crate::destination::Confidence;
use crate::register::RegisterId;
use crate::remedy::Remedy;
use crate::severity::Severity;
use crate::vm::{Content, Extension, Registers, Vcpu, Vm};

/// One decision for every register and extension of every vCPU.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Decisions about each vCPU.
    pub vcpus: Vec<VcpuPlan>,
    /// Decisions about properties of the hosts that no register list holds.
    pub hardware: Vec<HardwareDecision>,
    /// Changes that the guest could notice although the load succeeds.
    pub visible_changes: Vec<VisibleChange>,
    /// Adjustments that the user accepted and the plan needs.
    pub accepted_adjustments: Vec<Adjustment>,
    /// Further adjustments that would let the plan load. Empty if the plan needs none, or if no
    /// adjustment would help.
    pub proposed_adjustments: Vec<Adjustment>,
    /// Outcome of the plan with all of [`Self::proposed_adjustments`].
    pub outcome_with_proposed: PlanOutcome,
}

/// Decisions about one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VcpuPlan {
    /// One decision for each register of the VM or the destination, ascending by id.
    pub decisions: Decisions,
    /// One decision for each extension of the VM or the destination, ascending by name.
    pub extensions: Vec<ExtensionDecision>,
}

/// Decision about one extension of one vCPU, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ExtensionDecision {
    /// Name of the extension.
    pub name: Cow<'static, str>,
    /// The VM's content, if the VM has the extension.
    pub source: Option<Content>,
    /// The destination's recorded content, if the destination has the extension.
    pub destination: Option<Content>,
    /// Action for the extension.
    pub action: ExtensionAction,
    /// Confidence in the premises of the decision.
    pub confidence: Confidence,
    /// Reason of the decision.
    pub reason: Reason,
}

/// Action for an extension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ExtensionAction {
    /// Load the VM's extension unchanged.
    Copy,
    /// Leave out the VM's extension.
    Ignore,
    /// Leave out the VM's extension, and let the vCPU execute instructions after the load.
    IgnoreAndWake,
    /// Leave the destination's extension at its reset content.
    KeepAtReset,
    /// Load this content in place of the VM's content.
    Set(Content),
    /// Refuse the load because of the extension.
    Refuse,
    /// No action, because there is not enough information to decide.
    Undecided,
}

impl ExtensionAction {
    /// Returns the action's name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Ignore | Self::IgnoreAndWake => "ignore",
            Self::KeepAtReset => "keep-at-reset",
            Self::Set(_) => "set",
            Self::Refuse => "refuse",
            Self::Undecided => "unknown",
        }
    }

    const fn outcome(&self) -> PlanOutcome {
        match self {
            Self::Refuse => PlanOutcome::Refused,
            Self::Undecided => PlanOutcome::Unknown,
            _ => PlanOutcome::Ready,
        }
    }
}

/// Change of value that the destination needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adjustment {
    /// vCPUs that need the change.
    pub vcpus: VcpuSet,
    /// Register to change.
    pub register: RegisterId,
    /// The VM's value.
    pub from: u64,
    /// The new value.
    pub to: u64,
    /// Severity of the change for the guest.
    pub severity: Severity,
}

/// Change that the guest could notice although the load succeeds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct VisibleChange {
    /// vCPUs with the change.
    pub vcpus: VcpuSet,
    /// Register that changes, or `None` for an extension or a property of the hosts.
    pub register: Option<RegisterId>,
    /// Field within the register, or the name of the extension or property.
    pub field: Option<Cow<'static, str>>,
    /// Old value, of the field if `field` names one, otherwise of the register. `None` if not
    /// known.
    pub from: Option<u64>,
    /// New value, of the field if `field` names one, otherwise of the register. `None` if not
    /// known.
    pub to: Option<u64>,
    /// Severity of the change.
    pub severity: Severity,
    /// Further explanation; may be empty.
    pub description: Cow<'static, str>,
    /// Remedy that avoids the change.
    pub remedy: Option<Remedy>,
}

impl Plan {
    /// Returns the plan's outcome.
    pub fn outcome(&self) -> PlanOutcome {
        worst_outcome(&self.vcpus).worse(hardware_outcome(&self.hardware))
    }

    /// Returns the lowest confidence of all decisions.
    pub fn confidence(&self) -> Confidence {
        self.vcpus
            .iter()
            .flat_map(|vcpu| {
                let registers = vcpu.decisions.iter().map(|decision| decision.confidence);
                registers.chain(vcpu.extensions.iter().map(|decision| decision.confidence))
            })
            .min()
            .unwrap_or(Confidence::Proven)
    }

    /// Applies `update` to every decision about a register.
    pub fn update_decisions(&mut self, update: impl Fn(&mut Decision)) {
        let vcpus = self.vcpus.iter_mut();
        Decisions::update_all(vcpus.map(|vcpu| &mut vcpu.decisions), update);
    }

    /// Returns the VM with the values that a loader of this plan would load.
    ///
    /// The result is meaningful for a plan that is [`PlanOutcome::Ready`]. Refused and undecided
    /// registers keep the VM's values.
    pub fn apply(&self, vm: &Vm) -> Vm {
        let vcpus = self.vcpus.iter().zip(&vm.vcpus);
        Vm {
            vcpus: vcpus.map(|(plan, vcpu)| plan.apply(vcpu)).collect(),
            source_hardware: vm.source_hardware,
        }
    }

    /// Returns each distinct decision with the vCPUs that share the decision, ascending by
    /// register.
    pub fn decisions(&self) -> Vec<(VcpuSet, &Decision)> {
        self.decisions_where(|_| true)
    }

    /// Returns those of [`Plan::decisions`] that are wanted. Less work than a selection among all.
    pub fn decisions_where(
        &self,
        is_wanted: impl Fn(&Decision) -> bool,
    ) -> Vec<(VcpuSet, &Decision)> {
        let vcpus = self.vcpus.iter();
        let decisions = vcpus.map(|vcpu| vcpu.decisions.iter().filter(|it| is_wanted(it)));
        group(decisions, |decision| decision.register)
    }

    /// Returns each distinct decision about an extension with the vCPUs that share the decision,
    /// ascending by name.
    pub fn extensions(&self) -> Vec<(VcpuSet, &ExtensionDecision)> {
        let vcpus = self.vcpus.iter();
        group(vcpus.map(|vcpu| vcpu.extensions.iter()), |decision| {
            decision.name.clone()
        })
    }
}

impl HardwareAction {
    const fn outcome(self) -> PlanOutcome {
        match self {
            Self::Keep | Self::Change | Self::Assume => PlanOutcome::Ready,
            Self::Refuse => PlanOutcome::Refused,
            Self::Undecided => PlanOutcome::Unknown,
        }
    }
}

/// Returns the outcome of these decisions alone.
fn hardware_outcome(decisions: &[HardwareDecision]) -> PlanOutcome {
    let outcomes = decisions.iter().map(|decision| decision.action.outcome());
    outcomes.fold(PlanOutcome::Ready, PlanOutcome::worse)
}

fn worst_outcome(vcpus: &[VcpuPlan]) -> PlanOutcome {
    let outcomes = vcpus.iter().flat_map(|vcpu| {
        let registers = vcpu
            .decisions
            .iter()
            .map(|decision| decision.action.outcome());
        registers.chain(
            vcpu.extensions
                .iter()
                .map(|decision| decision.action.outcome()),
        )
    });
    outcomes.fold(PlanOutcome::Ready, PlanOutcome::worse)
}

/// Groups equal decisions, ascending by key and, for one key, by the first vCPU.
fn group<'a, T: Ord + 'a, K: Ord>(
    vcpus: impl Iterator<Item = impl Iterator<Item = &'a T>>,
    key: impl Fn(&T) -> K,
) -> Vec<(VcpuSet, &'a T)> {
    let mut groups: Vec<(VcpuSet, &'a T)> = Vec::new();
    let mut group_of: BTreeMap<&'a T, usize> = BTreeMap::new();
    // Group of each decision about the vCPU before. Most vCPUs agree with their neighbour, so a
    // comparison finds the group faster than a search.
    let mut neighbour: Vec<usize> = Vec::new();
    for (number, decisions) in vcpus.enumerate() {
        let mut current = Vec::with_capacity(neighbour.len());
        for (position, decision) in decisions.enumerate() {
            let same = neighbour.get(position).copied();
            let group = same
                .filter(|group| groups[*group].1 == decision)
                .unwrap_or_else(|| {
                    *group_of.entry(decision).or_insert_with(|| {
                        groups.push((VcpuSet::default(), decision));
                        groups.len() - 1
                    })
                });
            groups[group].0.insert(number);
            current.push(group);
        }
        neighbour = current;
    }
    groups.sort_by(|(a_set, a), (b_set, b)| key(a).cmp(&key(b)).then_with(|| a_set.cmp(b_set)));
    groups
}

impl VcpuPlan {
    /// Returns the vCPU with the values that a loader of this plan would load; see [`Plan::apply`].
    pub fn apply(&self, vcpu: &Vcpu) -> Vcpu {
        let mut registers = Registers::new();
        for decision in &self.decisions {
            let value = match &decision.action {
                Action::Copy | Action::Refuse | Action::Undecided => decision.source.clone(),
                Action::Set(value) | Action::WriteReset(value) => Some(value.clone()),
                Action::Ignore | Action::KeepAtReset => None,
            };
            if let Some(value) = value {
                registers.insert(decision.register, value);
            }
        }
        let mut extensions: Vec<_> = vcpu.extensions.clone();
        for decision in &self.extensions {
            match &decision.action {
                ExtensionAction::Ignore | ExtensionAction::IgnoreAndWake => {
                    extensions.retain(|extension| extension.name != decision.name);
                }
                ExtensionAction::Set(content) => {
                    let replacement = Extension {
                        name: decision.name.clone(),
                        content: content.clone(),
                    };
                    match extensions
                        .iter_mut()
                        .find(|extension| extension.name == decision.name)
                    {
                        Some(extension) => *extension = replacement,
                        None => extensions.push(replacement),
                    }
                }
                _ => {}
            }
        }
        Vcpu {
            registers,
            extensions,
            pstate: vcpu.pstate,
            is_halted: if self.wakes() {
                Some(false)
            } else {
                vcpu.is_halted
            },
        }
    }

    /// Returns `true` if the plan lets a vCPU execute instructions that may wait at the source.
    pub fn wakes(&self) -> bool {
        self.extensions
            .iter()
            .any(|decision| decision.action == ExtensionAction::IgnoreAndWake)
    }
}
