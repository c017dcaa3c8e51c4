//! Registers that the VM records under another id than the destination.
//!
//! An entry of the table says that a program recorded a register under a wrong id. The plan of a VM
//! with such a register is that of the VM with the destination's id. [`Renames::note`] adds what
//! happened to the plan's decisions.
//!
//! Both sides decide by their own lists which id stands for the register. A list with both ids uses
//! the correct one; the other one is the register that the id belongs to.

use alloc::vec::Vec;

use super::{Action, Consents, Decision, Reason, VcpuPlan};
use crate::destination::{Accelerator, Confidence, Destination, DestinationVcpu};
use crate::register::{RegisterId, Value};
use crate::tolerance::{Handling, RegisterDifference, RegisterSelector, Tolerance, Tolerances};
use crate::vm::{Registers, Vm};

/// Registers of a VM that the destination lists under another id.
pub(super) struct Renames {
    /// The VM with the destination's ids; `None` if no register was renamed.
    vm: Option<Vm>,
    renames: Vec<Rename>,
}

/// Register of one vCPU with two ids.
struct Rename {
    vcpu: usize,
    entry: usize,
    /// Id in the VM.
    from: RegisterId,
    /// Id at the destination.
    to: RegisterId,
    /// The VM's value.
    value: Value,
    outcome: Outcome,
}

/// Outcome of a rename.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The register has the destination's id in the planned VM.
    Renamed,
    /// The VM lists the same value under both ids.
    SameValue,
    /// The VM lists another value under the destination's id.
    OtherValue,
    /// The lists do not prove which program wrote them.
    Unproven,
}

impl Renames {
    /// Finds the registers that the VM and the destination list under different ids.
    pub(super) fn find(
        vm: &Vm,
        destination: &Destination,
        tolerances: &Tolerances,
        consents: &Consents,
    ) -> Self {
        let mut renames = Vec::new();
        // Without a known accelerator an entry only shows that something is not known.
        let can_apply = |entry: &Tolerance| {
            destination.accelerator.is_none() || destination.accelerator == entry.accelerator
        };
        let entries = || {
            let entries = tolerances.entries().iter().enumerate();
            entries.filter_map(|(index, entry)| {
                let (wrong, right) = ids(entry).filter(|_| can_apply(entry))?;
                Some((index, entry, wrong, right))
            })
        };
        for (number, vcpu) in vm.vcpus.iter().enumerate() {
            let Some(destination_vcpu) = destination.vcpu(number) else {
                continue;
            };
            for (index, entry, wrong, right) in entries() {
                let is_listed = |id| destination_vcpu.get(id).is_some();
                let is_in_vm = |id| vcpu.registers.get(id).is_some();
                let from = used_id(wrong, right, is_in_vm);
                let to = used_id(wrong, right, is_listed);
                let (Some(from), Some(to)) = (from, to) else {
                    continue;
                };
                let is_decided_by_user =
                    consents.find_ignore(from).is_some() || consents.drop_registers.contains(&from);
                if from == to || is_decided_by_user {
                    continue;
                }
                let Some(value) = vcpu.registers.get(from).cloned() else {
                    continue;
                };
                let outcome = match vcpu.registers.get(to) {
                    _ if !is_proven(entry, destination, &vcpu.registers) => Outcome::Unproven,
                    None => Outcome::Renamed,
                    Some(other) if *other == value => Outcome::SameValue,
                    Some(_) => Outcome::OtherValue,
                };
                renames.push(Rename {
                    vcpu: number,
                    entry: index,
                    from,
                    to,
                    value,
                    outcome,
                });
            }
        }
        let mut renamed: Option<Vm> = None;
        for rename in &renames {
            if matches!(rename.outcome, Outcome::Renamed | Outcome::SameValue) {
                let vm = renamed.get_or_insert_with(|| vm.clone());
                let registers = &mut vm.vcpus[rename.vcpu].registers;
                registers.remove(rename.from);
                registers.insert(rename.to, rename.value.clone());
            }
        }
        Self {
            vm: renamed,
            renames,
        }
    }

    /// Returns the VM to plan: `vm`, or the VM with the destination's ids.
    pub(super) fn vm<'v>(&'v self, vm: &'v Vm) -> &'v Vm {
        self.vm.as_ref().unwrap_or(vm)
    }

    /// Returns `true` if a register of this vCPU has two ids.
    pub(super) fn has_vcpu(&self, number: usize) -> bool {
        self.renames.iter().any(|rename| rename.vcpu == number)
    }

    /// Adds the renames to the decisions about a vCPU of the renamed VM.
    pub(super) fn note(
        &self,
        number: usize,
        destination_vcpu: &DestinationVcpu,
        plan: &mut VcpuPlan,
    ) {
        let renames = self.renames.iter().filter(|rename| rename.vcpu == number);
        for rename in renames {
            rename.note(destination_vcpu, plan.decisions.make_mut());
        }
    }
}

impl Rename {
    fn note(&self, destination_vcpu: &DestinationVcpu, decisions: &mut Vec<Decision>) {
        let find = |decisions: &[Decision], id| {
            decisions.binary_search_by_key(&id, |decision: &Decision| decision.register)
        };
        let (action, confidence, reason) = match self.outcome {
            Outcome::Renamed | Outcome::SameValue => (
                Action::Ignore,
                Confidence::Inferred,
                Reason::ListedAs(self.entry, self.to),
            ),
            Outcome::OtherValue => (
                Action::Refuse,
                Confidence::Inferred,
                Reason::OtherValueUnder(self.to),
            ),
            Outcome::Unproven => (
                Action::Undecided,
                Confidence::Unknown,
                Reason::PerhapsListedAs(self.entry, self.to),
            ),
        };
        if self.outcome == Outcome::Renamed
            && let Ok(index) = find(decisions, self.to)
        {
            let decision = &mut decisions[index];
            decision.confidence = decision.confidence.min(Confidence::Inferred);
            if decision.action == Action::Copy {
                decision.action = Action::Set(self.value.clone());
                decision.reason = Reason::RecordedUnder(self.entry, self.from);
            }
        }
        match find(decisions, self.from) {
            // The destination lists another register under the VM's id, and this decision is about
            // that register.
            Ok(_)
                if self.outcome == Outcome::Renamed
                    && destination_vcpu.get(self.from).is_some() => {}
            Ok(index) => {
                let decision = &mut decisions[index];
                decision.action = action;
                decision.confidence = confidence;
                decision.reason = reason;
            }
            Err(index) => decisions.insert(
                index,
                Decision {
                    register: self.from,
                    source: Some(self.value.clone()),
                    is_listed: false,
                    destination: None,
                    replaced_value: None,
                    action,
                    confidence,
                    reason,
                },
            ),
        }
    }
}

/// Returns the wrong id and the correct id of an entry about a register with two ids.
fn ids(entry: &Tolerance) -> Option<(RegisterId, RegisterId)> {
    match (&entry.registers, entry.difference, entry.handling) {
        (RegisterSelector::Ids(ids), RegisterDifference::OtherId, Handling::Rename(right)) => {
            ids.first().map(|wrong| (*wrong, right))
        }
        _ => None,
    }
}

/// Returns the id that stands for the register in a list.
fn used_id(
    wrong: RegisterId,
    right: RegisterId,
    contains: impl Fn(RegisterId) -> bool,
) -> Option<RegisterId> {
    [right, wrong].into_iter().find(|id| contains(*id))
}

/// Returns `true` if the entry's accelerator is known to have run the VM, and to run at the
/// destination.
fn is_proven(entry: &Tolerance, destination: &Destination, registers: &Registers) -> bool {
    let ran = Accelerator::from_registers(registers.iter().map(|(id, _)| id));
    entry.accelerator.is_some()
        && destination.accelerator == entry.accelerator
        && ran == entry.accelerator
}
