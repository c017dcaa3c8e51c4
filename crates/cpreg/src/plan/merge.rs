//! The decision about each register: both lists are walked once, and each register is judged by itself and by what the
//! rest of its own vCPU will hold.
//!
//! Extensions are in [`super::extensions`]; changing values until the plan loads is [`super::adjust`]'s.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::input::PlanInput;
use super::{Action, Decision, Reason};
use crate::destination::accept::{nearest_value, tcg};
use crate::destination::kernel::{self, FeatureGate, RegisterKind, Scope};
use crate::destination::{
    Accelerator, Confidence, DestinationRegister, DestinationVcpu, ValueOrigin,
};
use crate::register::{RegisterId, Value};
use crate::tolerance::condition::Context;
use crate::tolerance::{Handling, RegisterDifference};
use crate::vm::{Registers, Vcpu};

/// Registers of the VM as a whole on which its vCPUs disagree: with different values, or by not all having one, since a loader writes
/// its own value for the vCPU that lacks it.
pub(super) fn disagreements(question: PlanInput<'_>) -> BTreeSet<RegisterId> {
    // Each of an emulator's CPUs keeps its own, and they may be of several kinds.
    if question.destination.accelerator == Some(Accelerator::Tcg) {
        return BTreeSet::new();
    }
    let mut shared: BTreeMap<RegisterId, (&Value, usize, bool)> = BTreeMap::new();
    // As they are with what the user sets.
    let set_in = |id, value: &Value| {
        let value = value.as_u64()?;
        Some(question.consents.apply_sets(id, value))
    };
    let mut counters: Option<u64> = None;
    let mut counters_agree = true;
    for vcpu in &question.vm.vcpus {
        for (id, value) in vcpu.registers.iter() {
            if id == RegisterId::PMCR_EL0 {
                let own = set_in(id, value).map(kernel::event_counter_count);
                counters_agree &= counters.is_none() || own == counters;
                counters = own;
            } else if RegisterKind::from_id(id).scope() == Scope::Vm {
                let (first, holders, agree) = shared.entry(id).or_insert((value, 0, true));
                *holders += 1;
                let same = || set_in(id, first).is_some_and(|it| set_in(id, value) == Some(it));
                *agree &= *first == value || same();
            }
        }
    }
    let vcpus = question.vm.vcpus.len();
    let disagreed = shared
        .into_iter()
        .filter(|(_, (_, holders, agree))| !agree || *holders != vcpus);
    let mut disagreed: BTreeSet<_> = disagreed.map(|(id, _)| id).collect();
    // Only its N is the VM's, and only on newer kernels, where the last write wins.
    let there = question.destination.vcpu(0);
    let holds_each = there.and_then(kernel::keeps_all_of_pmcr) == Some(true);
    if !counters_agree && question.destination.accelerator == Some(Accelerator::Kvm) && !holds_each
    {
        disagreed.insert(RegisterId::PMCR_EL0);
    }
    disagreed
}

/// Whether two vCPUs surely agree on what belongs to the VM as a whole; [`disagreements`] looks closer.
pub(super) fn has_same_vm_registers(one: &Vcpu, other: &Vcpu) -> bool {
    fn shared(vcpu: &Vcpu) -> impl Iterator<Item = (RegisterId, &Value)> {
        let registers = vcpu.registers.iter();
        registers.filter(|(id, _)| RegisterKind::from_id(*id).scope() == Scope::Vm)
    }
    let counters = |vcpu: &Vcpu| {
        let value = vcpu.registers.get_u64(RegisterId::PMCR_EL0);
        value.map(kernel::event_counter_count)
    };
    counters(one) == counters(other) && shared(one).eq(shared(other))
}

/// One vCPU's registers with what the user set and accepted.
pub(super) fn planned_registers(question: PlanInput<'_>, number: usize, vcpu: &Vcpu) -> Registers {
    let mut planned = vcpu.registers.clone();
    for set in &question.consents.set {
        if let Some(value) = planned.get_u64(set.register) {
            planned.insert(set.register, Value::U64(set.apply(value)));
        }
    }
    let all = (number, RegisterId::from_raw(0))..=(number, RegisterId::from_raw(u64::MAX));
    for ((_, register), to) in question.targets.range(all) {
        if planned.get(*register).is_some() {
            planned.insert(*register, Value::U64(*to));
        }
    }
    planned
}

/// The decisions about one vCPU's registers, ascending by id.
pub(super) fn decide_registers(
    question: PlanInput<'_>,
    number: usize,
    vcpu: &Vcpu,
    host: &DestinationVcpu,
    disagreements: &BTreeSet<RegisterId>,
) -> Vec<Decision> {
    let planned = planned_registers(question, number, vcpu);
    let judge = RegisterPlanner {
        question,
        number,
        vcpu,
        planned: &planned,
        destination_vcpu: host,
        disagreements,
    };
    let mut arrived = vcpu.registers.iter().peekable();
    let mut listed = host.registers().iter().peekable();
    let mut decisions = Vec::with_capacity(vcpu.registers.len().max(host.registers().len()));
    loop {
        let ids = (
            arrived.peek().map(|(id, _)| *id),
            listed.peek().map(|register| register.id),
        );
        let (source, register) = match ids {
            (None, None) => return decisions,
            (Some(theirs), Some(ours)) if theirs == ours => (arrived.next(), listed.next()),
            (Some(theirs), ours) if ours.is_none_or(|ours| theirs < ours) => (arrived.next(), None),
            _ => (None, listed.next()),
        };
        if let Some(decision) = judge.decide(source, register) {
            decisions.push(decision);
        }
    }
}

struct RegisterPlanner<'a> {
    question: PlanInput<'a>,
    number: usize,
    vcpu: &'a Vcpu,
    planned: &'a Registers,
    destination_vcpu: &'a DestinationVcpu,
    disagreements: &'a BTreeSet<RegisterId>,
}

/// What is to be done, how it is known, and why.
type Ruling = (Action, Confidence, Reason);

const fn refuse(knowledge: Confidence, reason: Reason) -> Ruling {
    (Action::Refuse, knowledge, reason)
}

impl RegisterPlanner<'_> {
    fn decide(
        &self,
        source: Option<(RegisterId, &Value)>,
        register: Option<&DestinationRegister>,
    ) -> Option<Decision> {
        let id = source
            .map(|(id, _)| id)
            .or(register.map(|register| register.id))?;
        let (action, knowledge, reason) = match (source, register) {
            (Some(_), Some(_))
                if id == RegisterId::PMCR_EL0 && self.disagreements.contains(&id) =>
            {
                refuse(Confidence::Inferred, Reason::FieldDisagreement("N"))
            }
            (Some(_), _) if id != RegisterId::PMCR_EL0 && self.disagreements.contains(&id) => {
                refuse(Confidence::Proven, Reason::Disagreement)
            }
            (Some(_), register) if self.question.consents.drop_registers.contains(&id) => {
                let (action, knowledge, reason) = register.map_or(
                    (Action::Ignore, Confidence::Proven, Reason::UserDrops),
                    |register| {
                        self.decide_hidden(register)
                            .unwrap_or_else(|| self.keep_at_reset(register))
                    },
                );
                match reason {
                    Reason::ResetUnknown | Reason::Hidden(_) | Reason::PerhapsHidden(_) => {
                        (action, knowledge, reason)
                    }
                    _ => (action, knowledge, Reason::UserDrops),
                }
            }
            (Some(_), None) => self.decide_only_in_input(id),
            (None, Some(register)) => self.decide_only_at_destination(register),
            (Some((_, value)), Some(register)) => self.decide_in_both(value, register),
            (None, None) => return None,
        };
        Some(Decision {
            register: id,
            source: source.map(|(_, value)| value.clone()),
            is_listed: register.is_some(),
            destination: register.and_then(|register| register.value.clone()),
            action,
            confidence: knowledge,
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
        }
    }

    fn find_tolerance(
        &self,
        id: RegisterId,
        difference: RegisterDifference,
    ) -> Option<(usize, bool, Handling)> {
        let tolerances = self.question.tolerances;
        let number = tolerances.find(id, difference, self.question.destination.accelerator)?;
        let entry = &tolerances.entries()[number];
        let holds = entry.handling != Handling::Refuse && entry.condition.holds(self.context(id));
        Some((number, holds, entry.handling))
    }

    /// The user's word on ignoring the register, if there is one.
    fn apply_user_ignore(&self, id: RegisterId) -> Option<Ruling> {
        let ignore = self.question.consents.find_ignore(id)?;
        let holds = ignore.condition.is_none_or(|(value, mask)| {
            self.planned
                .get_u64(id)
                .is_some_and(|held| held & mask == value & mask)
        });
        Some(if holds {
            (Action::Ignore, Confidence::Proven, Reason::UserIgnores)
        } else {
            refuse(Confidence::Proven, Reason::UserCondition)
        })
    }

    /// The user's value for a register that only the destination has, if there is one.
    fn apply_user_set(&self, register: &DestinationRegister) -> Option<Ruling> {
        let sets = self.question.consents.set.iter();
        let mut sets = sets.filter(|set| set.register == register.id).peekable();
        sets.peek()?;
        let own = register.value.as_ref().and_then(Value::as_u64);
        let value = sets.fold(own, |value, set| {
            if set.mask == u64::MAX {
                return Some(set.value);
            }
            value.map(|value| set.apply(value))
        });
        let Some(value) = value.map(Value::U64) else {
            return Some((Action::Undecided, Confidence::Unknown, Reason::ResetUnknown));
        };
        let acceptor = self.question.destination.acceptor();
        let answer = acceptor.evaluate(self.destination_vcpu, register, &value);
        let knowledge = answer.confidence();
        Some(match answer.as_bool() {
            Some(true) => (Action::Set(value), knowledge, Reason::UserSets),
            Some(false) => refuse(knowledge, Reason::SetNotTaken),
            None => (Action::Undecided, knowledge, Reason::ValueUnknown(None)),
        })
    }

    fn decide_only_in_input(&self, id: RegisterId) -> Ruling {
        if let Some(verdict) = self.apply_user_ignore(id) {
            return verdict;
        }
        match self.find_tolerance(id, RegisterDifference::OnlyInInput) {
            Some((entry, true, _)) => {
                (Action::Ignore, Confidence::Proven, Reason::Tolerated(entry))
            }
            Some((entry, false, _)) => refuse(Confidence::Proven, Reason::NotTolerated(entry)),
            None => refuse(Confidence::Proven, Reason::OnlyInInput),
        }
    }

    fn decide_only_at_destination(&self, register: &DestinationRegister) -> Ruling {
        if let Some(verdict) = self
            .decide_hidden(register)
            .or_else(|| self.apply_user_set(register))
        {
            return verdict;
        }
        match self.find_tolerance(register.id, RegisterDifference::OnlyAtDestination) {
            Some((entry, true, Handling::Set(value))) => (
                Action::Set(Value::U64(value)),
                Confidence::Inferred,
                Reason::Tolerated(entry),
            ),
            Some((entry, true, _)) => {
                let (action, knowledge, _) = self.keep_at_reset(register);
                (action, knowledge, Reason::Tolerated(entry))
            }
            Some((entry, false, _)) => refuse(Confidence::Proven, Reason::NotTolerated(entry)),
            None => self.keep_at_reset(register),
        }
    }

    /// Leaves the destination's reset value, which the loader must be made to write where it would write something else.
    fn keep_at_reset(&self, register: &DestinationRegister) -> Ruling {
        let destination = self.question.destination;
        if destination.accelerator == Some(Accelerator::Kvm) {
            return (
                Action::KeepAtReset,
                destination.value_origin.max_confidence(),
                Reason::OnlyAtDestination,
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
        let knowledge = match destination.value_origin {
            ValueOrigin::Reset | ValueOrigin::EmulatedHost => {
                Some(destination.value_origin.max_confidence())
            }
            // What its kind says no guest can change.
            ValueOrigin::Guest => constant.then_some(Confidence::Inferred),
        };
        match (&register.value, knowledge) {
            (Some(value), Some(knowledge)) => (
                Action::WriteReset(value.clone()),
                knowledge,
                Reason::OnlyAtDestination,
            ),
            _ => (Action::Undecided, Confidence::Unknown, Reason::ResetUnknown),
        }
    }

    /// An emulator lists the AArch32 and the AArch64 name of one state, and the one that is written last wins: what the VM holds
    /// under the other name.
    fn other_view(&self, id: RegisterId) -> Option<(RegisterId, u64)> {
        let whole = |view: RegisterId| {
            view.counterpart()
                .is_some_and(|counterpart| counterpart.lsb == 0)
        };
        if let Some(counterpart) = id.counterpart().filter(|_| whole(id)) {
            let value = self.planned.get_u64(counterpart.id)?;
            return u32::try_from(value)
                .ok()
                .map(|value| (counterpart.id, u64::from(value)));
        }
        id.aarch32_views()
            .filter(|view| whole(*view))
            .find_map(|view| Some((view, self.planned.get_u64(view)?)))
    }

    fn decide_in_both(&self, source: &Value, register: &DestinationRegister) -> Ruling {
        let id = register.id;
        let value = self.planned.get(id).unwrap_or(source);
        if let Some(verdict) = self.decide_hidden(register) {
            return verdict;
        }
        let answer =
            self.question
                .destination
                .acceptor()
                .evaluate(self.destination_vcpu, register, value);
        let knowledge = answer.confidence();
        match answer.as_bool() {
            Some(true) if value == source => (Action::Copy, knowledge, Reason::ValueTaken),
            Some(true) => {
                let reason = if self.question.targets.contains_key(&(self.number, id)) {
                    Reason::UserAccepts
                } else {
                    Reason::UserSets
                };
                (Action::Set(value.clone()), knowledge, reason)
            }
            Some(false) => match self.decide_value_not_taken(register, knowledge) {
                // What the table says is about values that VMs hold.
                (Action::Refuse, knowledge, Reason::ValueNotTaken | Reason::NotTolerated(_))
                    if value != source && self.is_user_set(id) =>
                {
                    refuse(knowledge, Reason::SetNotTaken)
                }
                verdict => verdict,
            },
            None => {
                if let Some((Action::Ignore, ..)) = self.apply_user_ignore(id) {
                    self.ignore_in_both(register)
                } else {
                    let entry = self
                        .find_tolerance(id, RegisterDifference::ValueNotTaken)
                        .map(|(entry, ..)| entry);
                    (Action::Undecided, knowledge, Reason::ValueUnknown(entry))
                }
            }
        }
    }

    /// Whether the value that the register would be given is one that the user set.
    fn is_user_set(&self, id: RegisterId) -> bool {
        let mut sets = self.question.consents.set.iter();
        let adjusted = self.question.targets.contains_key(&(self.number, id));
        !adjusted && sets.any(|set| set.register == id)
    }

    fn ignore_in_both(&self, register: &DestinationRegister) -> Ruling {
        let (action, knowledge, reason) = self.keep_at_reset(register);
        match reason {
            Reason::ResetUnknown => (action, knowledge, reason),
            _ => (action, knowledge, Reason::UserIgnores),
        }
    }

    fn decide_value_not_taken(
        &self,
        register: &DestinationRegister,
        knowledge: Confidence,
    ) -> Ruling {
        match self.apply_user_ignore(register.id) {
            Some((Action::Ignore, ..)) => return self.ignore_in_both(register),
            Some(verdict) => return verdict,
            None => {}
        }
        match self.find_tolerance(register.id, RegisterDifference::ValueNotTaken) {
            Some((entry, true, handling)) => {
                let reason = Reason::Tolerated(entry);
                match handling {
                    Handling::Set(value) => (Action::Set(Value::U64(value)), knowledge, reason),
                    Handling::SetToNearest => {
                        let planned = self.planned.get_u64(register.id);
                        match nearest_value(
                            self.question.destination,
                            self.destination_vcpu,
                            register,
                            planned,
                        ) {
                            Some(value) => (Action::Set(Value::U64(value)), knowledge, reason),
                            None => refuse(knowledge, Reason::NotTolerated(entry)),
                        }
                    }
                    _ => {
                        let (action, knowledge, kept) = self.keep_at_reset(register);
                        match kept {
                            Reason::ResetUnknown => (action, knowledge, kept),
                            _ => (action, knowledge, reason),
                        }
                    }
                }
            }
            Some((entry, false, _)) => refuse(knowledge, Reason::NotTolerated(entry)),
            None => refuse(knowledge, Reason::ValueNotTaken),
        }
    }

    /// Whether the VM's own ID registers, once loaded, take the register away from under the loader's write.
    fn decide_hidden(&self, register: &DestinationRegister) -> Option<Ruling> {
        if self.question.destination.accelerator != Some(Accelerator::Kvm) {
            return None;
        }
        let hides: &'static FeatureGate = kernel::find_feature_gate(register.id)?;
        let field = hides.extract(self.planned.get_u64(hides.id_register)?);
        let there = hides.extract(self.destination_vcpu.value(hides.id_register)?);
        if field != 0 || there == 0 {
            return None;
        }
        match kernel::gates_by_vm_id_field(self.destination_vcpu, register.id) {
            Some(true) => Some(refuse(Confidence::Inferred, Reason::Hidden(hides))),
            Some(false) => None,
            None => Some((
                Action::Undecided,
                Confidence::Unknown,
                Reason::PerhapsHidden(hides),
            )),
        }
    }
}
