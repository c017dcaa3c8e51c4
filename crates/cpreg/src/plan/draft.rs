//! [`Draft`]: the decisions about one vCPU while the plan is made.
//!
//! A plan decides about hundreds of registers of up to hundreds of vCPUs, and nearly all of these
//! decisions are alike: both sides have the register with the same value. Two shortcuts avoid
//! deciding twice. Tests compare both with [`Planner::decide_alone`].
//!
//! - [`Planner::decide_like`] shares the decisions about the vCPU before, and decides about those
//!   registers that differ.
//! - [`Planner::decide_again`] decides only about registers that an adjustment may affect.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::disagreement;
use super::input::{PlanInput, Targets, planned_registers, targets_of};
use super::merge::{RegisterDecisions, RegisterPlanner};
use super::rename::Renames;
use super::{Decision, Decisions, PlanOutcome, VcpuPlan, extensions, fatal, first_run};
use crate::destination::{Accelerator, DestinationVcpu, extension, kernel};
use crate::register::RegisterId;
use crate::vm::{Registers, Vcpu};

/// Decisions about one vCPU.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(super) struct Draft {
    pub(super) plan: VcpuPlan,
    /// Positions of the decisions that are no [plain copies](super::merge::RegisterDecisions),
    /// ascending.
    noted: Vec<usize>,
}

impl Draft {
    /// Returns the decisions that are no plain copies, ascending by register.
    pub(super) fn noted_decisions(&self) -> impl Iterator<Item = &Decision> {
        let positions = self.noted.iter();
        positions.filter_map(|position| self.plan.decisions.get(*position))
    }

    /// Returns the outcome with these decisions in place of those that are no plain copies.
    pub(super) fn outcome_with<'d>(
        &self,
        decisions: impl Iterator<Item = &'d Decision>,
    ) -> PlanOutcome {
        let registers = decisions.map(|decision| decision.action.outcome());
        let extensions = self.plan.extensions.iter();
        let extensions = extensions.map(|decision| decision.action.outcome());
        registers
            .chain(extensions)
            .fold(PlanOutcome::Ready, PlanOutcome::worse)
    }

    /// Replaces the decisions about the registers of `decisions`.
    pub(super) fn replace(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            if let Some(position) = self.plan.decisions.position(decision.register) {
                self.plan.decisions[position] = decision;
                self.note(position);
            }
        }
    }

    fn note(&mut self, position: usize) {
        if let Err(index) = self.noted.binary_search(&position) {
            self.noted.insert(index, position);
        }
    }
}

/// Makes the drafts of a VM.
pub(super) struct Planner<'a> {
    input: PlanInput<'a>,
    renames: &'a Renames,
    disagreements: BTreeSet<RegisterId>,
    no_vcpu: &'a DestinationVcpu,
}

impl<'a> Planner<'a> {
    /// Returns the planner of a VM. `no_vcpu` stands for the vCPUs of a destination without any.
    pub(super) fn new(
        input: PlanInput<'a>,
        renames: &'a Renames,
        no_vcpu: &'a DestinationVcpu,
    ) -> Self {
        Self {
            input,
            renames,
            disagreements: disagreement::disagreements(input),
            no_vcpu,
        }
    }

    /// Decides about every vCPU, without adjustments.
    pub(super) fn decide(&self) -> Vec<Draft> {
        let mut drafts: Vec<Draft> = Vec::with_capacity(self.input.vm.vcpus.len());
        for (number, vcpu) in self.input.vm.vcpus.iter().enumerate() {
            let like = drafts
                .last()
                .and_then(|previous| self.decide_like(previous, number, vcpu));
            let draft = like.unwrap_or_else(|| self.decide_alone(self.input, number, vcpu));
            drafts.push(draft);
        }
        drafts
    }

    /// Returns the destination's vCPU, or one without registers.
    fn destination_vcpu(&self, number: usize) -> &'a DestinationVcpu {
        self.input.destination.vcpu(number).unwrap_or(self.no_vcpu)
    }

    /// Returns the planner of one vCPU's registers. `planned` has its planned registers.
    fn registers<'p>(
        &'p self,
        input: PlanInput<'p>,
        number: usize,
        vcpu: &'p Vcpu,
        planned: &'p Registers,
    ) -> RegisterPlanner<'p> {
        let destination_vcpu = self.destination_vcpu(number);
        let disagreements = &self.disagreements;
        RegisterPlanner::new(
            input,
            number,
            vcpu,
            planned,
            destination_vcpu,
            disagreements,
        )
    }

    /// Decides about one vCPU with the targets of `input`, whatever is decided about other vCPUs.
    fn decide_alone(&self, input: PlanInput<'_>, number: usize, vcpu: &Vcpu) -> Draft {
        let destination_vcpu = self.destination_vcpu(number);
        let planned = planned_registers(&input.consents.set, input.targets, number, vcpu);
        let RegisterDecisions {
            mut decisions,
            mut noted,
        } = self.registers(input, number, vcpu, &planned).decide_all();
        for position in &noted {
            if let Some(decision) = decisions.get_mut(*position) {
                fatal::refuse_fatal_change(input, destination_vcpu, &planned, decision);
            }
        }
        let mut plan = VcpuPlan {
            decisions: decisions.into(),
            extensions: extensions::decide(input, vcpu, destination_vcpu),
        };
        first_run::refuse_lost_feature(input.destination, number, vcpu, &mut plan.decisions);
        if self.renames.has_vcpu(number) {
            self.renames.note(number, destination_vcpu, &mut plan);
            // Positions have changed.
            noted = (0..plan.decisions.len()).collect();
        }
        Draft { plan, noted }
    }

    /// Decides about a vCPU like about the vCPU before, if the two differ only in values on which
    /// no other decision depends.
    fn decide_like(&self, previous: &Draft, number: usize, vcpu: &Vcpu) -> Option<Draft> {
        let input = self.input;
        if input.destination.accelerator != Some(Accelerator::Kvm)
            || !input.consents.set.is_empty()
            || self.renames.has_vcpu(number)
            || self.renames.has_vcpu(number - 1)
        {
            return None;
        }
        let previous_vcpu = input.vm.vcpus.get(number - 1)?;
        let previous_destination = input.destination.vcpu(number - 1)?;
        let destination_vcpu = input.destination.vcpu(number)?;
        if !extension::are_alike(&vcpu.extensions, &previous_vcpu.extensions)
            || destination_vcpu.extensions != previous_destination.extensions
        {
            return None;
        }
        let mut differing = Vec::new();
        let mut note_difference = |id: RegisterId| {
            let is_independent = self.is_independent(id);
            differing.push(id);
            is_independent
        };
        let has_same_incoming =
            (vcpu.registers).differ_only_in(&previous_vcpu.registers, &mut note_difference);
        let has_same_destination = core::ptr::eq(destination_vcpu, previous_destination)
            || destination_vcpu.differs_only_in(previous_destination, &mut note_difference);
        if !has_same_incoming || !has_same_destination {
            return None;
        }
        let registers = self.registers(input, number, vcpu, &vcpu.registers);
        let mut draft = previous.clone();
        for id in differing {
            let position = draft.plan.decisions.position(id)?;
            draft.plan.decisions[position] = registers.decide_one(id)?;
            draft.note(position);
        }
        if vcpu.extensions != previous_vcpu.extensions {
            // The decisions have the contents.
            draft.plan.extensions = extensions::decide(input, vcpu, destination_vcpu);
        }
        Some(draft)
    }

    /// Returns `true` if no decision about another register depends on the value of this one.
    fn is_independent(&self, id: RegisterId) -> bool {
        kernel::is_independent(self.input.destination.kernel_version, id)
            && !self.input.tolerances.is_condition(id)
    }

    /// Decides again about a vCPU with adjustments, and returns the decisions that may have
    /// changed, ascending by register.
    pub(super) fn decide_again(
        &self,
        first: &Draft,
        targets: &Targets,
        number: usize,
    ) -> Vec<Decision> {
        let input = PlanInput {
            targets,
            ..self.input
        };
        let Some(vcpu) = input.vm.vcpus.get(number) else {
            return Vec::new();
        };
        if self.renames.has_vcpu(number) {
            let draft = self.decide_alone(input, number, vcpu);
            return draft.plan.decisions.into_vec();
        }
        let mut positions = first.noted.clone();
        for id in targets_of(targets, number).map(|(id, _)| id) {
            if let Some(position) = first.plan.decisions.position(id)
                && let Err(index) = positions.binary_search(&position)
            {
                positions.insert(index, position);
            }
        }
        let destination_vcpu = self.destination_vcpu(number);
        let planned = planned_registers(&input.consents.set, targets, number, vcpu);
        let registers = self.registers(input, number, vcpu, &planned);
        let ids = positions
            .into_iter()
            .filter_map(|position| first.plan.decisions.get(position));
        let decisions = ids.filter_map(|decision| registers.decide_one(decision.register));
        let mut decisions: Vec<_> = decisions.collect();
        for decision in &mut decisions {
            fatal::refuse_fatal_change(input, destination_vcpu, &planned, decision);
        }
        let mut decisions = Decisions::from(decisions);
        first_run::refuse_lost_feature(input.destination, number, vcpu, &mut decisions);
        decisions.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::destination::{AcceptedValues, Destination, DestinationRegister};
    use crate::plan::testing::{destination, ids, lists, value, vm};
    use crate::plan::{Action, Consents, Reason, SetConsent};
    use crate::register::Value;
    use crate::severity::{GuestState, Severity};
    use crate::tolerance::Tolerances;
    use crate::vm::Vm;

    /// Calls `test` with the planner of a VM.
    fn with_planner<T>(
        vm: &Vm,
        destination: &Destination,
        consents: &Consents,
        test: impl FnOnce(&Planner<'_>) -> T,
    ) -> T {
        let tolerances = Tolerances::default();
        let renames = Renames::find(vm, destination, &tolerances, consents);
        let guest = GuestState::from_vm(vm, |id, value| consents.apply_sets(id, value));
        let input = PlanInput {
            vm: renames.vm(vm),
            destination,
            tolerances: &tolerances,
            consents,
            targets: &Targets::new(),
            guest: &guest,
        };
        test(&Planner::new(input, &renames, &DestinationVcpu::default()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// The plan of several vCPUs decides about each of them like the plan of this vCPU alone,
        /// and a second decision after adjustments like a first one with these adjustments.
        #[test]
        fn shortcuts_decide_like_each_vcpu_alone(
            (incoming, listed) in lists(),
            targets in proptest::collection::vec(
                (0_usize..4, any::<prop::sample::Index>(), value()),
                0..6,
            ),
            is_tcg in prop::bool::weighted(0.2),
            is_set in prop::bool::weighted(0.2),
            accept_up_to in prop_oneof![Just(None), Just(Some(Severity::Medium))],
        ) {
            let accelerator = if is_tcg { Accelerator::Tcg } else { Accelerator::Kvm };
            let vm = vm(&incoming);
            let destination = destination(&listed, accelerator);
            let set = SetConsent { register: RegisterId::MPIDR_EL1, mask: 0xff, value: 1 };
            let consents = Consents {
                accept_up_to,
                set: if is_set { Vec::from([set]) } else { Vec::new() },
                ..Consents::default()
            };
            with_planner(&vm, &destination, &consents, |planner| {
                let drafts = planner.decide();
                prop_assert_eq!(drafts.len(), vm.vcpus.len());
                let all = ids();
                let targets: Targets = targets
                    .iter()
                    .map(|(vcpu, index, value)| ((*vcpu, *index.get(&all)), *value))
                    .collect();
                for (number, draft) in drafts.iter().enumerate() {
                    let vcpu = &planner.input.vm.vcpus[number];
                    let alone = planner.decide_alone(planner.input, number, vcpu);
                    prop_assert_eq!(&draft.plan, &alone.plan);
                    for (position, decision) in draft.plan.decisions.iter().enumerate() {
                        let is_plain = decision.action == Action::Copy
                            && decision.reason == Reason::ValueAccepted
                            && decision.source == decision.destination
                            && decision.replaced_value.is_none();
                        prop_assert!(is_plain || draft.noted.contains(&position));
                    }
                    let input = PlanInput { targets: &targets, ..planner.input };
                    let alone = planner.decide_alone(input, number, vcpu);
                    let mut again = draft.clone();
                    again.replace(planner.decide_again(draft, &targets, number));
                    prop_assert_eq!(again.plan, alone.plan);
                }
                Ok(())
            })?;
        }
    }

    /// A lower ATS1A makes Linux 7.3 remove S1PIE, whose register is not adjusted.
    #[test]
    fn an_adjustment_can_refuse_another_register() {
        let mut list = Vec::from([
            (RegisterId::ID_AA64ISAR2_EL1, 1 << first_run::ATS1A),
            (RegisterId::ID_AA64MMFR3_EL1, 1 << 8),
            (RegisterId::TCR2_EL1, 2),
            (RegisterId::PMMIR_EL1, 0),
        ]);
        list.sort();
        let lists = [list];
        let vm = vm(&lists);
        let mut destination = destination(&lists, Accelerator::Kvm);
        let registers = lists[0].iter().map(|(id, value)| DestinationRegister {
            id: *id,
            value: Some(Value::U64(*value)),
            accepted_values: if *id == RegisterId::ID_AA64ISAR2_EL1 {
                AcceptedValues::Writable(u64::MAX)
            } else {
                AcceptedValues::ByKind
            },
        });
        destination.vcpus = Vec::from([DestinationVcpu::new(registers, Vec::new())]);
        with_planner(&vm, &destination, &Consents::default(), |planner| {
            let drafts = planner.decide();
            let outcome = drafts[0].outcome_with(drafts[0].noted_decisions());
            assert_eq!(outcome, PlanOutcome::Ready);
            let targets = Targets::from([((0, RegisterId::ID_AA64ISAR2_EL1), 0)]);
            let again = planner.decide_again(&drafts[0], &targets, 0);
            let id = RegisterId::ID_AA64MMFR3_EL1;
            let decision = again.iter().find(|decision| decision.register == id);
            assert_eq!(decision.map(|it| &it.action), Some(&Action::Refuse));
        });
    }

    #[test]
    fn a_vcpu_with_other_storage_is_decided_like_the_one_before() {
        let list = |mpidr, features| {
            Vec::from([
                (RegisterId::MPIDR_EL1, mpidr),
                (RegisterId::SCTLR_EL1, 5),
                (RegisterId::ID_AA64PFR0_EL1, features),
            ])
        };
        let lists = [list(0, 0x11), list(1, 0x11), list(1, 0x10)];
        let vm = vm(&lists);
        let destination = destination(&lists[..1], Accelerator::Kvm);
        with_planner(&vm, &destination, &Consents::default(), |planner| {
            let first = planner.decide_alone(planner.input, 0, &vm.vcpus[0]);
            let second = planner.decide_like(&first, 1, &vm.vcpus[1]);
            let second = second.expect("only MPIDR_EL1 differs");
            assert_eq!(second.plan.decisions[0].source, Some(Value::U64(1)));
            // An ID register may decide about others.
            assert_eq!(planner.decide_like(&second, 2, &vm.vcpus[2]), None);
        });
    }
}
