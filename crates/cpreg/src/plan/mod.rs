//! [`Plan`]: for a VM, a destination, the tolerances and the user's consents, one decision for every register and
//! extension. Made before anything is touched; all or nothing.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the plan as data, and what it comes to |
//! | `reason.rs` | why a decision was made |
//! | `input.rs` | what every decision needs to see |
//! | `merge.rs` | the decision about each register |
//! | `extensions.rs` | the decision about each extension |
//! | `adjust.rs` | making a plan: changes of value that would let a refused one load |
//! | `visible.rs` | everything that the guest could notice |
//! | `order.rs` | what to write in which order |
//! | `first_run.rs` | what KVM takes away when the guest first runs |
//! | `consent.rs` | what the user decided |
//! | `advice.rs` | the reason in words, and what to do about it |
//! | `check.rs` | the plan beside what each loader would do on its own: the verdict |
//! | `incremental.rs` | the same while the VM's vCPUs come one after the other |
//! | `verification.rs` | a load that was tried, compared with the plan |
//! | `vcpus.rs` | sets of vCPUs |
//!
//! The plan does not depend on the order in which registers arrive or are looked at.

mod adjust;
mod advice;
mod check;
mod consent;
mod extensions;
mod first_run;
mod incremental;
mod input;
mod merge;
mod order;
mod reason;
mod vcpus;
mod verification;
mod visible;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

pub use check::{Check, LoaderPrediction, Verdict};
pub use consent::{Consents, IgnoreConsent, SetConsent};
pub use incremental::IncrementalPlan;
pub use reason::Reason;
pub use vcpus::VcpuSet;
pub use verification::{Deviation, LoadResult};

use crate::destination::Confidence;
use crate::register::{RegisterId, Value};
use crate::remedy::Remedy;
use crate::severity::Severity;
use crate::vm::{Content, Extension, Registers, Vcpu, Vm};

/// One decision for every register and extension of every vCPU.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each vCPU's decisions.
    pub vcpus: Vec<VcpuPlan>,
    /// What the guest could notice though the load succeeds.
    pub visible_changes: Vec<VisibleChange>,
    /// The adjustments that the user accepted and the plan needs.
    pub accepted_adjustments: Vec<Adjustment>,
    /// Further adjustments that the plan would need; empty where it needs none or none would help.
    pub proposed_adjustments: Vec<Adjustment>,
    /// What the plan would come to with all of [`Self::proposed`].
    pub outcome_with_proposed: PlanOutcome,
}

/// What a plan comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanOutcome {
    /// It can be carried out.
    Ready,
    /// Something stands in the way.
    Refused,
    /// Nothing is known to stand in the way, but something is not known.
    Unknown,
}

/// The decisions about one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuPlan {
    /// One for each register of either side, ascending by id.
    pub decisions: Vec<Decision>,
    /// One for each extension of either side.
    pub extensions: Vec<ExtensionDecision>,
}

/// What is done about one register of one vCPU, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// Which register.
    pub register: RegisterId,
    /// What the VM holds, if it has the register.
    pub source: Option<Value>,
    /// Whether the destination lists the register.
    pub is_listed: bool,
    /// What the destination held, if it lists it and that is known.
    pub destination: Option<Value>,
    /// What is done.
    pub action: Action,
    /// How the premises are known.
    pub confidence: Confidence,
    /// Why.
    pub reason: Reason,
}

/// What is done about a register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// The VM's value is loaded.
    Copy,
    /// The VM's value is left out.
    Ignore,
    /// The destination's reset value stays.
    KeepAtReset,
    /// The destination's reset value is written, where the loader would write something else.
    WriteReset(Value),
    /// This value is loaded in place of the VM's.
    Set(Value),
    /// It stands in the way.
    Refuse,
    /// Not enough is known.
    Undecided,
}

impl Action {
    /// The word for it in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Ignore => "ignore",
            Self::KeepAtReset | Self::WriteReset(_) => "keep-at-reset",
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

/// What is done about one extension of one vCPU, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtensionDecision {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What the VM holds, if it has the extension.
    pub source: Option<Content>,
    /// What the destination held.
    pub destination: Option<Content>,
    /// What is done.
    pub action: ExtensionAction,
    /// How the premises are known.
    pub confidence: Confidence,
    /// Why.
    pub reason: Reason,
}

/// What is done about an extension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ExtensionAction {
    /// It is loaded as it is.
    Copy,
    /// It is left out.
    Ignore,
    /// The destination's own stays.
    KeepAtReset,
    /// This is loaded in its place.
    Set(Content),
    /// It stands in the way.
    Refuse,
    /// Not enough is known.
    Undecided,
}

impl ExtensionAction {
    /// The word for it in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Ignore => "ignore",
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

/// Something that the guest could notice though the load succeeds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VisibleChange {
    /// Which vCPUs.
    pub vcpus: VcpuSet,
    /// The register, or `None` for an extension.
    pub register: Option<RegisterId>,
    /// The field within it, or the extension's name.
    pub field: Option<Cow<'static, str>>,
    /// What it was: the field's value where there is a field, else the register's.
    pub from: Option<u64>,
    /// What it will be.
    pub to: Option<u64>,
    /// How bad that is.
    pub severity: Severity,
    /// What that means, where there is more to say.
    pub description: Cow<'static, str>,
    /// What would spare the guest that.
    pub remedy: Option<Remedy>,
}

impl Plan {
    /// What it comes to.
    pub fn outcome(&self) -> PlanOutcome {
        worst_outcome(&self.vcpus)
    }

    /// How its premises are known: the weakest of them.
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

    /// The VM as it would be loaded. Meaningful for a plan that is [`PlanOutcome::Ready`]; registers that are refused or
    /// undecided are in it as they came.
    pub fn apply(&self, vm: &Vm) -> Vm {
        let vcpus = self.vcpus.iter().zip(&vm.vcpus);
        Vm {
            vcpus: vcpus.map(|(plan, vcpu)| plan.apply(vcpu)).collect(),
        }
    }

    /// The decisions with the vCPUs that share each, ascending by register.
    pub fn decisions(&self) -> Vec<(VcpuSet, &Decision)> {
        group(self.vcpus.iter().map(|vcpu| &vcpu.decisions), |decision| {
            decision.register
        })
    }

    /// The decisions about extensions with the vCPUs that share each, ascending by name.
    pub fn extensions(&self) -> Vec<(VcpuSet, &ExtensionDecision)> {
        group(self.vcpus.iter().map(|vcpu| &vcpu.extensions), |decision| {
            decision.name.clone()
        })
    }
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
    outcomes.fold(PlanOutcome::Ready, |worst, outcome| {
        match (worst, outcome) {
            (PlanOutcome::Refused, _) | (_, PlanOutcome::Refused) => PlanOutcome::Refused,
            (PlanOutcome::Unknown, _) | (_, PlanOutcome::Unknown) => PlanOutcome::Unknown,
            _ => PlanOutcome::Ready,
        }
    })
}

/// Puts equal decisions together: ascending by key, and for one key by the first vCPU.
fn group<'a, T: Ord + 'a, K: Ord>(
    vcpus: impl Iterator<Item = &'a Vec<T>>,
    key: impl Fn(&T) -> K,
) -> Vec<(VcpuSet, &'a T)> {
    let mut groups: BTreeMap<&'a T, VcpuSet> = BTreeMap::new();
    for (number, decisions) in vcpus.enumerate() {
        for decision in decisions {
            groups.entry(decision).or_default().insert(number);
        }
    }
    let mut groups: Vec<_> = groups
        .into_iter()
        .map(|(decision, set)| (set, decision))
        .collect();
    groups.sort_by(|(a_set, a), (b_set, b)| key(a).cmp(&key(b)).then_with(|| a_set.cmp(b_set)));
    groups
}

impl VcpuPlan {
    /// The vCPU as it would be loaded; see [`Plan::result`].
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
                ExtensionAction::Ignore => {
                    extensions.retain(|extension| extension.name != decision.name);
                }
                ExtensionAction::Set(content) => {
                    let set = Extension {
                        name: decision.name.clone(),
                        content: content.clone(),
                    };
                    match extensions
                        .iter_mut()
                        .find(|extension| extension.name == decision.name)
                    {
                        Some(extension) => *extension = set,
                        None => extensions.push(set),
                    }
                }
                _ => {}
            }
        }
        Vcpu {
            registers,
            extensions,
        }
    }
}
