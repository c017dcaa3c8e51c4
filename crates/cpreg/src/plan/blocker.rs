//! [`Blocker`]: a part of a plan that blocks the load, or that lacks a decision.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::{Action, DecidedPart, ExtensionAction, HardwareAction, Plan};
use crate::tolerance::Tolerances;

/// Part of a plan that blocks the load, or that lacks a decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a part blocks or is unknown")]
pub struct Blocker {
    /// The part.
    pub part: DecidedPart,
    /// Reason, in words.
    pub reason: String,
    /// `true` if the decision lacks information.
    pub is_unknown: bool,
}

impl Plan {
    /// Returns the parts that block the load or lack a decision: properties of the hosts,
    /// registers, extensions. A part that blocks on several vCPUs occurs once, with the reason for
    /// the first vCPU.
    pub fn blockers(&self, tolerances: &Tolerances) -> Vec<Blocker> {
        let mut blockers: Vec<Blocker> = Vec::new();
        let mut add = |part: DecidedPart, is_unknown, reason: &dyn Fn() -> String| {
            let is_known = |it: &Blocker| it.part == part && it.is_unknown == is_unknown;
            if !blockers.iter().any(is_known) {
                let reason = reason();
                blockers.push(Blocker {
                    part,
                    reason,
                    is_unknown,
                });
            }
        };
        for decision in &self.hardware {
            if let HardwareAction::Refuse | HardwareAction::Undecided = decision.action {
                let is_unknown = decision.action == HardwareAction::Undecided;
                let part = DecidedPart::Hardware(decision.fact);
                add(part, is_unknown, &|| decision.to_string());
            }
        }
        for decision in self.vcpus.iter().flat_map(|vcpu| &vcpu.decisions) {
            if let Action::Refuse | Action::Undecided = decision.action {
                let is_unknown = decision.action == Action::Undecided;
                let part = DecidedPart::Register(decision.register);
                let reason = || decision.reason.display(tolerances).to_string();
                add(part, is_unknown, &reason);
            }
        }
        for decision in self.vcpus.iter().flat_map(|vcpu| &vcpu.extensions) {
            if let ExtensionAction::Refuse | ExtensionAction::Undecided = decision.action {
                let is_unknown = decision.action == ExtensionAction::Undecided;
                let part = DecidedPart::Extension(decision.name.clone());
                let reason = || decision.reason.display(tolerances).to_string();
                add(part, is_unknown, &reason);
            }
        }
        blockers
    }
}
