//! [`PossibleCheck`]: one of two checks of a VM, at destinations that are both possible.
//!
//! A source may leave open if its guest has a feature, such as a PMU. The feature decides which
//! registers the destination lists. The verdict is known only if it holds with and without the
//! feature.

use super::{Plan, PlanOutcome, Verdict};
use crate::severity::Severity;
use crate::vm::Vm;

/// Check of a VM at one of its possible destinations.
#[derive(Clone, Copy, Debug)]
pub struct PossibleCheck<'p> {
    /// Verdict of the check.
    pub verdict: Verdict,
    /// Plan of the check.
    pub plan: &'p Plan,
}

impl PossibleCheck<'_> {
    /// Returns `true` if both checks of `vm` have the same result: the same verdict and, if the VM
    /// is to be loaded, the same loaded state.
    pub fn has_same_result(self, other: Self, vm: &Vm) -> bool {
        self.verdict == other.verdict
            && match self.verdict {
                Verdict::Refused | Verdict::Unknown => true,
                Verdict::Loads | Verdict::Converts => {
                    self.plan.apply(vm).is_same_state(&other.plan.apply(vm))
                }
            }
    }

    /// Returns `true` if this check blocks more than `other` or, with the same blockers, changes
    /// more for the guest.
    pub fn is_stricter_than(self, other: Self) -> bool {
        self.strictness() > other.strictness()
    }

    fn strictness(self) -> impl Ord {
        let rank = |outcome| match outcome {
            PlanOutcome::Ready => 0,
            PlanOutcome::Unknown => 1,
            PlanOutcome::Refused => 2,
        };
        let changes = &self.plan.visible_changes;
        let severity: Option<Severity> = changes.iter().map(|change| change.severity).max();
        (
            rank(self.plan.outcome()),
            rank(self.plan.outcome_with_proposed),
            self.plan.count_with(PlanOutcome::Refused),
            self.plan.count_with(PlanOutcome::Unknown),
            severity,
            changes.len(),
        )
    }
}

impl Plan {
    /// Returns the number of decisions with this outcome.
    fn count_with(&self, outcome: PlanOutcome) -> usize {
        let hardware = self.hardware.iter().map(|it| it.action.outcome());
        let vcpus = self.vcpus.iter().flat_map(|vcpu| {
            let registers = vcpu.decisions.iter().map(|it| it.action.outcome());
            let extensions = vcpu.extensions.iter().map(|it| it.action.outcome());
            registers.chain(extensions)
        });
        hardware.chain(vcpus).filter(|it| *it == outcome).count()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::destination::{
        Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, ValueOrigin,
    };
    use crate::hardware::HardwareFacts;
    use crate::plan::{Action, Check, Consents};
    use crate::register::{RegisterId, Value};
    use crate::tolerance::Tolerances;

    const ACCEPTED: u64 = 8;

    /// Returns a destination with these registers, which all accept only [`ACCEPTED`].
    fn destination(ids: &[RegisterId]) -> Destination {
        let registers = ids.iter().map(|id| DestinationRegister {
            id: *id,
            value: Some(Value::U64(ACCEPTED)),
            accepted_values: AcceptedValues::Writable(0),
        });
        Destination {
            name: "here".into(),
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            value_origin: ValueOrigin::Reset,
            vcpus: vec![DestinationVcpu::new(
                registers.collect::<Vec<_>>(),
                Vec::new(),
            )],
            kernel_version: None,
            hardware: HardwareFacts::UNKNOWN,
            shape: None,
        }
    }

    fn check(vm: &Vm, ids: &[RegisterId]) -> Check {
        let tolerances = Tolerances::default();
        Check::new(vm, &destination(ids), &tolerances, &Consents::default())
    }

    fn possible(check: &Check) -> PossibleCheck<'_> {
        PossibleCheck {
            verdict: check.verdict,
            plan: &check.plan,
        }
    }

    const DFR0: RegisterId = RegisterId::ID_AA64DFR0_EL1;
    const PFR0: RegisterId = RegisterId::ID_AA64PFR0_EL1;

    #[test]
    fn equal_checks_have_the_same_result_and_none_is_stricter() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let check = check(&vm, &[DFR0]);
        assert_eq!(check.plan.outcome(), PlanOutcome::Ready);
        let one = possible(&check);
        assert!(one.has_same_result(one, &vm));
        assert!(!one.is_stricter_than(one));
    }

    #[test]
    fn a_refusal_is_stricter_than_a_load() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let [loads, refused] = [&[DFR0][..], &[]].map(|ids| check(&vm, ids));
        assert_eq!(refused.verdict, Verdict::Refused);
        let [loads, refused] = [&loads, &refused].map(possible);
        assert!(!loads.has_same_result(refused, &vm));
        assert!(refused.is_stricter_than(loads) && !loads.is_stricter_than(refused));
    }

    #[test]
    fn refusals_have_the_same_result_and_more_blockers_are_stricter() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED), (PFR0, ACCEPTED)]);
        let [one, two] = [&[DFR0][..], &[]].map(|ids| check(&vm, ids));
        let [one, two] = [&one, &two].map(possible);
        assert!(one.has_same_result(two, &vm));
        assert!(two.is_stricter_than(one) && !one.is_stricter_than(two));
    }

    /// The loaded states differ by a register that one plan leaves out.
    #[test]
    fn other_loaded_states_are_other_results() {
        let vm = Vm::with_one_vcpu(&[(DFR0, ACCEPTED)]);
        let full = check(&vm, &[DFR0]);
        let mut without = full.clone();
        without.plan.vcpus[0].decisions[0].action = Action::Ignore;
        let [mut full, mut without] = [&full, &without].map(possible);
        for verdict in [Verdict::Loads, Verdict::Converts] {
            full.verdict = verdict;
            without.verdict = verdict;
            assert!(!full.has_same_result(without, &vm));
            assert!(full.has_same_result(full, &vm));
        }
    }
}
