//! The decision about each register.
//!
//! [`RegisterPlanner::decide_all`] walks the lists of the VM and the destination once. A decision
//! depends on the register and on the planned values of the other registers of its vCPU.
//!
//! [`super::extensions`] decides about extensions. [`super::adjust`] finds changes of value that
//! make a plan load.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::cmp::Ordering;

use super::input::PlanInput;
use super::{Action, Decision, Reason};
use crate::destination::accept::{Acceptor, nearest_value, tcg};
use crate::destination::counters::{self, LostCounter};
use crate::destination::kernel::{self, FeatureGate, GateSearch};
use crate::destination::{
    Accelerator, Confidence, DestinationRegister, DestinationVcpu, Loader, ValueOrigin,
};
use crate::register::{RegisterId, Value};
use crate::tolerance::condition::Context;
use crate::tolerance::{Handling, RegisterDifference};
use crate::vm::{Registers, Vcpu};

/// Largest usual number of registers that only the shorter of two lists has. Kernels up to v6.2
/// lack 11 CCSIDR_EL1 of newer ones.
const USUAL_DIFFERENCE: usize = 16;

/// Decisions about the registers of one vCPU.
pub(super) struct RegisterDecisions {
    /// One decision for each register of either side, ascending by id.
    pub(super) decisions: Vec<Decision>,
    /// Positions of all decisions but plain copies, ascending. A plain copy loads the value that
    /// the destination recorded: it blocks nothing, changes nothing, and depends on nothing else.
    pub(super) noted: Vec<usize>,
}

/// Decides about the registers of one vCPU.
pub(super) struct RegisterPlanner<'a> {
    input: PlanInput<'a>,
    acceptor: Acceptor,
    number: usize,
    vcpu: &'a Vcpu,
    planned: &'a Registers,
    /// `true` if `planned` are the vCPU's own registers.
    is_unchanged: bool,
    destination_vcpu: &'a DestinationVcpu,
    disagreements: &'a BTreeSet<RegisterId>,
    is_pmu_unused: OnceCell<bool>,
}

/// Action for a register, with its confidence and reason.
type Ruling = (Action, Confidence, Reason);

/// Returns `true` if the VM has the value that the destination recorded, and no other register or
/// host decides what the guest reads. The caller also searches for a
/// [gate](kernel::find_active_gate).
///
/// The host may lack event counters of PMCR_EL0, and the guest may read another CTR_EL0. The other
/// two registers decide together whether KVM removes a feature when the guest first runs.
fn is_plain(id: RegisterId, value: &Value, register: &DestinationRegister) -> bool {
    register.value.as_ref() == Some(value)
        && !value.is_unknown()
        && !matches!(
            id,
            RegisterId::PMCR_EL0
                | RegisterId::CTR_EL0
                | RegisterId::ID_AA64MMFR3_EL1
                | RegisterId::ID_AA64ISAR2_EL1
        )
}

const fn refuse(confidence: Confidence, reason: Reason) -> Ruling {
    (Action::Refuse, confidence, reason)
}

impl<'a> RegisterPlanner<'a> {
    /// Returns the planner of a vCPU. `planned` has its
    /// [planned registers](super::input::planned_registers).
    pub(super) fn new(
        input: PlanInput<'a>,
        number: usize,
        vcpu: &'a Vcpu,
        planned: &'a Registers,
        destination_vcpu: &'a DestinationVcpu,
        disagreements: &'a BTreeSet<RegisterId>,
    ) -> Self {
        Self {
            input,
            acceptor: input.destination.acceptor(),
            number,
            vcpu,
            planned,
            is_unchanged: core::ptr::eq(planned, &raw const vcpu.registers),
            destination_vcpu,
            disagreements,
            is_pmu_unused: OnceCell::new(),
        }
    }

    /// Returns the decisions about all registers of both sides, ascending by id.
    pub(super) fn decide_all(&self) -> RegisterDecisions {
        let incoming = self.vcpu.registers.as_slice();
        let listed = self.destination_vcpu.registers();
        // Nearly always enough, because moving hundreds of decisions costs as much as making them.
        let capacity = listed.len().max(incoming.len()) + USUAL_DIFFERENCE;
        let mut decisions = Vec::with_capacity(capacity);
        let mut noted = Vec::new();
        let plain_confidence = self.plain_confidence();
        let mut gates = GateSearch::new(self.input.destination.kernel_version);
        let (mut incoming, mut listed) = (incoming.iter(), listed.iter());
        let (mut next_incoming, mut next_listed) = (incoming.next(), listed.next());
        loop {
            let order = match (next_incoming, next_listed) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((id, _)), Some(register)) => id.cmp(&register.id),
            };
            let source = next_incoming.filter(|_| order.is_le());
            let register = next_listed.filter(|_| order.is_ge());
            if order.is_le() {
                next_incoming = incoming.next();
            }
            if order.is_ge() {
                next_listed = listed.next();
            }
            if let (Some((id, value)), Some(register), Some(confidence)) =
                (source, register, plain_confidence)
                && is_plain(*id, value, register)
                && !gates.is_gated(*id)
            {
                decisions.push(Decision {
                    register: *id,
                    source: Some(value.clone()),
                    is_listed: true,
                    destination: Some(value.clone()),
                    replaced_value: None,
                    action: Action::Copy,
                    confidence,
                    reason: Reason::ValueAccepted,
                });
                continue;
            }
            let source = source.map(|(id, value)| (*id, value));
            if let Some(decision) = self.decide(source, register) {
                noted.push(decisions.len());
                decisions.push(decision);
            }
        }
        RegisterDecisions { decisions, noted }
    }

    /// Returns the decision about one register, if either side has it.
    pub(super) fn decide_one(&self, id: RegisterId) -> Option<Decision> {
        let value = self.vcpu.registers.get(id);
        self.decide(
            value.map(|value| (id, value)),
            self.destination_vcpu.get(id),
        )
    }

    /// Returns the confidence of plain copies, or `None` if no decision may be one: KVM keeps a
    /// register that already has the value, unless the user decided otherwise.
    fn plain_confidence(&self) -> Option<Confidence> {
        let has_plain_copies = self.input.destination.accelerator == Some(Accelerator::Kvm)
            && self.is_unchanged
            && self.disagreements.is_empty()
            && self.input.consents.drop_registers.is_empty();
        has_plain_copies.then(|| self.input.destination.value_origin.max_confidence())
    }

    fn decide(
        &self,
        source: Option<(RegisterId, &Value)>,
        register: Option<&DestinationRegister>,
    ) -> Option<Decision> {
        let id = source
            .map(|(id, _)| id)
            .or(register.map(|register| register.id))?;
        let (action, confidence, reason) = match (source, register) {
            (Some(_), Some(_))
                if id == RegisterId::PMCR_EL0 && self.disagreements.contains(&id) =>
            {
                refuse(Confidence::Inferred, Reason::FieldDisagreement("N"))
            }
            (Some(_), _) if id != RegisterId::PMCR_EL0 && self.disagreements.contains(&id) => {
                refuse(Confidence::Proven, Reason::Disagreement)
            }
            (Some(_), register) if self.input.consents.drop_registers.contains(&id) => {
                let (action, confidence, reason) = register.map_or(
                    (Action::Ignore, Confidence::Proven, Reason::UserDrops),
                    |register| {
                        self.decide_hidden(register)
                            .unwrap_or_else(|| self.keep_at_reset(register))
                    },
                );
                match reason {
                    Reason::ResetUnknown | Reason::Hidden(_) | Reason::PerhapsHidden(_) => {
                        (action, confidence, reason)
                    }
                    _ => (action, confidence, Reason::UserDrops),
                }
            }
            (Some(_), None) => self.decide_source_only(id),
            (None, Some(register)) => self.decide_destination_only(register),
            (Some((_, value)), Some(register)) => self.decide_in_both(value, register),
            (None, None) => return None,
        };
        let loaded = match &action {
            Action::Copy => source.and_then(|(_, value)| value.as_u64()),
            Action::Set(value) => value.as_u64(),
            _ => None,
        };
        let replaced_value = loaded
            .zip(register)
            .and_then(|(value, register)| {
                self.acceptor
                    .replaced_value(self.destination_vcpu, register, value)
            })
            .map(Value::U64);
        Some(Decision {
            register: id,
            source: source.map(|(_, value)| value.clone()),
            is_listed: register.is_some(),
            destination: register.and_then(|register| register.value.clone()),
            replaced_value,
            action,
            confidence,
            reason,
        })
    }

    fn context(&self, id: RegisterId) -> Context<'_> {
        Context {
            id,
            value: self.planned.get_u64(id),
            incoming_vcpu: self.vcpu,
            planned_registers: self.planned,
            destination_vcpu: self.destination_vcpu,
            is_pmu_unused: &self.is_pmu_unused,
        }
    }

    fn find_tolerance(
        &self,
        id: RegisterId,
        difference: RegisterDifference,
    ) -> Option<(usize, bool, Handling)> {
        let tolerances = self.input.tolerances;
        let number = tolerances.find(id, difference, self.input.destination.accelerator)?;
        let entry = &tolerances.entries()[number];
        let holds = entry.handling != Handling::Refuse && entry.condition.holds(self.context(id));
        Some((number, holds, entry.handling))
    }

    /// Returns the ruling by the user's consent to ignore the register, if there is one.
    fn apply_user_ignore(&self, id: RegisterId) -> Option<Ruling> {
        let ignore = self.input.consents.find_ignore(id)?;
        let holds = ignore.condition.is_none_or(|(value, mask)| {
            self.planned
                .get_u64(id)
                .is_some_and(|current| current & mask == value & mask)
        });
        Some(if holds {
            (Action::Ignore, Confidence::Proven, Reason::UserIgnores)
        } else {
            refuse(Confidence::Proven, Reason::UserCondition)
        })
    }

    /// Returns the ruling by the user's value for a register that only the destination has, if
    /// there is one.
    fn apply_user_set(&self, register: &DestinationRegister) -> Option<Ruling> {
        let sets = self.input.consents.set.iter();
        let mut sets = sets.filter(|set| set.register == register.id).peekable();
        sets.peek()?;
        let reset_value = register.value.as_ref().and_then(Value::as_u64);
        let value = sets.fold(reset_value, |value, set| {
            if set.mask == u64::MAX {
                return Some(set.value);
            }
            value.map(|value| set.apply(value))
        });
        let Some(value) = value.map(Value::U64) else {
            return Some((Action::Undecided, Confidence::Unknown, Reason::ResetUnknown));
        };
        let acceptance = self
            .acceptor
            .evaluate(self.destination_vcpu, register, &value);
        let confidence = acceptance.confidence();
        Some(match acceptance.as_bool() {
            Some(true) => (Action::Set(value), confidence, Reason::UserSets),
            Some(false) => refuse(confidence, Reason::SetNotAccepted),
            None => (Action::Undecided, confidence, Reason::ValueUnknown(None)),
        })
    }

    fn decide_source_only(&self, id: RegisterId) -> Ruling {
        if let Some(ruling) = self.apply_user_ignore(id) {
            return ruling;
        }
        match self.find_tolerance(id, RegisterDifference::SourceOnly) {
            Some((entry, true, _)) => {
                (Action::Ignore, Confidence::Proven, Reason::Tolerated(entry))
            }
            // The condition of the tolerance may hold.
            Some((entry, false, handling))
                if handling != Handling::Refuse
                    && self.planned.get(id).is_some_and(Value::is_unknown) =>
            {
                (
                    Action::Undecided,
                    Confidence::Unknown,
                    Reason::ValueUnknown(Some(entry)),
                )
            }
            Some((entry, false, _)) => refuse(Confidence::Proven, Reason::NotTolerated(entry)),
            None => refuse(Confidence::Proven, Reason::SourceOnly),
        }
    }

    fn decide_destination_only(&self, register: &DestinationRegister) -> Ruling {
        if let Some(ruling) = self
            .decide_hidden(register)
            .or_else(|| self.apply_user_set(register))
        {
            return ruling;
        }
        match self.find_tolerance(register.id, RegisterDifference::DestinationOnly) {
            Some((entry, true, Handling::Set(value))) => (
                Action::Set(Value::U64(value)),
                Confidence::Inferred,
                Reason::Tolerated(entry),
            ),
            Some((entry, true, _)) => {
                let (action, confidence, _) = self.keep_at_reset(register);
                (action, confidence, Reason::Tolerated(entry))
            }
            Some((entry, false, _)) => refuse(Confidence::Proven, Reason::NotTolerated(entry)),
            None => self.keep_at_reset(register),
        }
    }

    /// Keeps the destination's reset value.
    ///
    /// Writes the value explicitly if the loader would write another value.
    fn keep_at_reset(&self, register: &DestinationRegister) -> Ruling {
        let destination = self.input.destination;
        if destination.accelerator == Some(Accelerator::Kvm) {
            return (
                Action::KeepAtReset,
                destination.value_origin.max_confidence(),
                Reason::DestinationOnly,
            );
        }
        let emulated = destination.accelerator == Some(Accelerator::Tcg);
        let constant = emulated && tcg::is_constant(register.id);
        let view = self
            .other_view(register.id)
            .filter(|_| emulated && !constant);
        if let Some((view, value)) = view {
            return (
                Action::WriteReset(Value::U64(value)),
                Confidence::Inferred,
                Reason::SameStateAs(view),
            );
        }
        let confidence = match destination.value_origin {
            ValueOrigin::Reset | ValueOrigin::EmulatedHost => {
                Some(destination.value_origin.max_confidence())
            }
            // A guest cannot change a register of a constant kind.
            ValueOrigin::Guest => constant.then_some(Confidence::Inferred),
        };
        match (&register.value, confidence) {
            (Some(value), Some(confidence)) => (
                Action::WriteReset(value.clone()),
                confidence,
                Reason::DestinationOnly,
            ),
            _ => (Action::Undecided, Confidence::Unknown, Reason::ResetUnknown),
        }
    }

    /// Returns the other register that holds the same state, with its planned value.
    ///
    /// TCG lists the AArch32 and the AArch64 name of one state, and the last write wins.
    fn other_view(&self, id: RegisterId) -> Option<(RegisterId, u64)> {
        let is_whole_view = |view: RegisterId| {
            view.counterpart()
                .is_some_and(|counterpart| counterpart.lsb == 0)
        };
        if let Some(counterpart) = id.counterpart().filter(|_| is_whole_view(id)) {
            let value = self.planned.get_u64(counterpart.id)?;
            return u32::try_from(value)
                .ok()
                .map(|value| (counterpart.id, u64::from(value)));
        }
        id.aarch32_views()
            .filter(|view| is_whole_view(*view))
            .find_map(|view| Some((view, self.planned.get_u64(view)?)))
    }

    fn decide_in_both(&self, source: &Value, register: &DestinationRegister) -> Ruling {
        let id = register.id;
        let value = if self.is_unchanged {
            source
        } else {
            self.planned.get(id).unwrap_or(source)
        };
        if let Some(ruling) = self.decide_hidden(register) {
            return ruling;
        }
        let acceptance = self
            .acceptor
            .evaluate(self.destination_vcpu, register, value);
        let confidence = acceptance.confidence();
        if acceptance.as_bool() == Some(true)
            && let Some(lost) = self.lost_counter(id)
        {
            return refuse(confidence, Reason::CounterInUse(lost));
        }
        match acceptance.as_bool() {
            Some(true) if value == source => (Action::Copy, confidence, Reason::ValueAccepted),
            Some(true) => {
                let reason = if self.input.targets.contains_key(&(self.number, id)) {
                    Reason::UserAccepts
                } else {
                    Reason::UserSets
                };
                (Action::Set(value.clone()), confidence, reason)
            }
            Some(false) => match self.decide_value_not_accepted(register, confidence) {
                // Tolerances apply to values that VMs hold, and not to a user's value.
                (
                    Action::Refuse,
                    confidence,
                    Reason::ValueNotAccepted | Reason::NotTolerated(_),
                ) if value != source && self.is_user_set(id) => {
                    refuse(confidence, Reason::SetNotAccepted)
                }
                ruling => ruling,
            },
            None => {
                if let Some((Action::Ignore, ..)) = self.apply_user_ignore(id) {
                    self.ignore_in_both(register)
                } else {
                    let entry = self
                        .find_tolerance(id, RegisterDifference::ValueNotAccepted)
                        .map(|(entry, ..)| entry);
                    (Action::Undecided, confidence, Reason::ValueUnknown(entry))
                }
            }
        }
    }

    /// Returns the event counter that the destination takes from the guest, if the register is
    /// PMCR_EL0 and the guest uses that counter.
    fn lost_counter(&self, id: RegisterId) -> Option<LostCounter> {
        let is_kvm = self.input.destination.accelerator == Some(Accelerator::Kvm);
        if id != RegisterId::PMCR_EL0 || !is_kvm {
            return None;
        }
        counters::lost_counter(self.planned, self.destination_vcpu)
    }

    /// Returns `true` if the planned value of the register is one that the user set.
    fn is_user_set(&self, id: RegisterId) -> bool {
        let mut sets = self.input.consents.set.iter();
        let adjusted = self.input.targets.contains_key(&(self.number, id));
        !adjusted && sets.any(|set| set.register == id)
    }

    fn ignore_in_both(&self, register: &DestinationRegister) -> Ruling {
        let (action, confidence, reason) = self.keep_at_reset(register);
        match reason {
            Reason::ResetUnknown => (action, confidence, reason),
            _ => (action, confidence, Reason::UserIgnores),
        }
    }

    fn decide_value_not_accepted(
        &self,
        register: &DestinationRegister,
        confidence: Confidence,
    ) -> Ruling {
        match self.apply_user_ignore(register.id) {
            Some((Action::Ignore, ..)) => return self.ignore_in_both(register),
            Some(ruling) => return ruling,
            None => {}
        }
        match self.find_tolerance(register.id, RegisterDifference::ValueNotAccepted) {
            Some((entry, true, handling)) => {
                let reason = Reason::Tolerated(entry);
                match handling {
                    Handling::Set(value) => (Action::Set(Value::U64(value)), confidence, reason),
                    Handling::SetToNearest => {
                        let planned = self.planned.get_u64(register.id);
                        match nearest_value(
                            self.input.destination,
                            self.destination_vcpu,
                            register,
                            planned,
                        ) {
                            Some(value) => (Action::Set(Value::U64(value)), confidence, reason),
                            None => refuse(confidence, Reason::NotTolerated(entry)),
                        }
                    }
                    _ => {
                        let (action, confidence, reset_reason) = self.keep_at_reset(register);
                        match reset_reason {
                            Reason::ResetUnknown => (action, confidence, reset_reason),
                            _ => (action, confidence, reason),
                        }
                    }
                }
            }
            Some((entry, false, _)) => refuse(confidence, Reason::NotTolerated(entry)),
            None => refuse(confidence, Reason::ValueNotAccepted),
        }
    }

    /// Returns the ruling for a register that the VM's own ID registers, once loaded, hide from the
    /// loader.
    fn decide_hidden(&self, register: &DestinationRegister) -> Option<Ruling> {
        if self.input.destination.accelerator != Some(Accelerator::Kvm) {
            return None;
        }
        let kernel_version = self.input.destination.kernel_version;
        let gate: &'static FeatureGate = kernel::find_active_gate(kernel_version, register.id)?;
        // Such a loader does not write a register that only the destination has.
        let loader = self.input.destination.loader;
        if loader.is_some_and(Loader::writes_only_incoming)
            && self.vcpu.registers.get(register.id).is_none()
        {
            return None;
        }
        let is_hidden = gate.hides(self.planned.get_u64(gate.id_register)?);
        if !is_hidden || gate.hides(self.destination_vcpu.value(gate.id_register)?) {
            return None;
        }
        match kernel::gates_by_vm_id_field(self.destination_vcpu, kernel_version, register.id) {
            Some(true) => {
                let left_out = self.leave_out_hidden(register);
                Some(left_out.unwrap_or(refuse(Confidence::Inferred, Reason::Hidden(gate))))
            }
            Some(false) => None,
            None => Some((
                Action::Undecided,
                Confidence::Unknown,
                Reason::PerhapsHidden(gate),
            )),
        }
    }

    /// Returns the ruling for a register that the kernel hides, if the loader can leave out its
    /// write and the guest loses nothing.
    ///
    /// For this VM, a kernel that hides the register is like one that lacks it.
    fn leave_out_hidden(&self, register: &DestinationRegister) -> Option<Ruling> {
        if !self.input.destination.loader?.can_execute_plans() {
            return None;
        }
        let (action, reason) = if self.vcpu.registers.get(register.id).is_some() {
            let (action, _, reason) = self.decide_source_only(register.id);
            (action, reason)
        } else if self.apply_user_set(register).is_some() {
            return None;
        } else {
            (Action::KeepAtReset, Reason::DestinationOnly)
        };
        matches!(action, Action::Ignore | Action::KeepAtReset).then_some((
            action,
            Confidence::Inferred,
            reason,
        ))
    }
}
