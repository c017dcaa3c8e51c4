//! [`DecisiveState`]: the part of a VM's state on which its plans depend.
//!
//! The VMs of a fleet differ in most values, and plans depend on few of them: KVM accepts every
//! value of plain storage. So VMs with equal decisive states need only one plan at each host.
//!
//! A value counts, unless all of this is true:
//! - KVM accepts every value of the register, and no ID field hides the register.
//! - No tolerance and no consent depends on the value.
//! - No rule reads the value. Rules about the guest's settings read [`GuestState`], which is a part
//!   of the state. Other rules read [`RULE_INPUTS`], the PMU, and registers that ID fields hide.
//!
//! PSTATE outside the list of registers counts as a part of [`GuestState`]. No plan depends on
//! [`Vcpu::is_halted`].

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::Consents;
use crate::destination::extension;
use crate::destination::kernel::{self, RegisterKind};
use crate::destination::{Accelerator, AcceptedValues, Destination, DestinationVcpu};
use crate::hardware::HardwareFacts;
use crate::register::{RegisterId, Value};
use crate::severity::GuestState;
use crate::tolerance::{Tolerances, condition};
use crate::vm::{Content, Vcpu, Vm};

/// Part of a VM's state on which its plans depend.
///
/// Two VMs with equal states have checks with the same verdict, blockers, proposals and highest
/// severity at each destination for which [`Self::is_sufficient_at`] returns `true`. Only values in
/// the details of both checks differ.
///
/// ```
/// use cpreg::plan::{Consents, DecisiveState};
/// use cpreg::register::{RegisterId, Value};
/// use cpreg::tolerance::Tolerances;
/// use cpreg::vm::{Registers, Vcpu, Vm};
///
/// let state = |id, value| {
///     let mut registers = Registers::new();
///     registers.insert(id, Value::U64(value));
///     let vcpus = vec![Vcpu { registers, ..Vcpu::default() }];
///     let vm = Vm { vcpus, ..Vm::default() };
///     DecisiveState::new(&vm, &Tolerances::default(), &Consents::default())
/// };
/// assert_eq!(state(RegisterId::TPIDR_EL1, 1), state(RegisterId::TPIDR_EL1, 2));
/// assert_ne!(state(RegisterId::PSCI_VERSION, 1), state(RegisterId::PSCI_VERSION, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DecisiveState {
    /// vCPUs that differ from each other.
    distinct: Vec<DecisiveVcpu>,
    /// Index of each vCPU in `distinct`.
    vcpus: Vec<usize>,
    guest: GuestState,
    source_hardware: HardwareFacts,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct DecisiveVcpu {
    /// Registers, ascending by id.
    registers: Vec<(RegisterId, DecisiveValue)>,
    /// Extensions in the order of the source, with their contents unless these are
    /// [opaque](extension::is_opaque).
    extensions: Vec<(Cow<'static, str>, Option<Content>)>,
}

/// Value of a register, as far as plans depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum DecisiveValue {
    /// Every bit counts.
    Exact(Value),
    /// Value of a PMU counter that has counted.
    CounterInUse,
    /// No plan depends on the value.
    Any,
}

/// Registers of plain storage that a rule reads. ZCR_EL1 has the vector length that the guest
/// requested.
const RULE_INPUTS: [RegisterId; 1] = [RegisterId::ZCR_EL1];

impl DecisiveState {
    /// Returns the decisive state of a VM, for plans with these tolerances and consents.
    pub fn new(vm: &Vm, tolerances: &Tolerances, consents: &Consents) -> Self {
        let mut distinct: Vec<DecisiveVcpu> = Vec::new();
        let mut vcpus = Vec::with_capacity(vm.vcpus.len());
        for vcpu in &vm.vcpus {
            let decisive = DecisiveVcpu::new(vcpu, tolerances, consents);
            let known = distinct.iter().position(|known| *known == decisive);
            vcpus.push(known.unwrap_or_else(|| {
                distinct.push(decisive);
                distinct.len() - 1
            }));
        }
        Self {
            distinct,
            vcpus,
            guest: GuestState::from_vm(vm, |id, value| consents.apply_sets(id, value)),
            source_hardware: vm.source_hardware,
        }
    }

    /// Returns the number of vCPUs that differ from each other.
    pub const fn distinct_vcpu_count(&self) -> usize {
        self.distinct.len()
    }

    /// Returns `true` if plans at this destination depend on no other part of a VM's state.
    ///
    /// That is so under KVM, with two exceptions: the destination has a record of values that it
    /// accepts for plain storage, or an operator's entry renames a register there.
    pub fn is_sufficient_at(destination: &Destination, tolerances: &Tolerances) -> bool {
        let vcpus = destination.vcpus.iter();
        let mut registers = vcpus.flat_map(DestinationVcpu::registers);
        destination.accelerator == Some(Accelerator::Kvm)
            && !tolerances.can_rename(Accelerator::Kvm)
            && registers.all(|register| {
                register.accepted_values == AcceptedValues::ByKind
                    || !RegisterKind::from_id(register.id).accepts_every_value()
            })
    }
}

impl DecisiveVcpu {
    fn new(vcpu: &Vcpu, tolerances: &Tolerances, consents: &Consents) -> Self {
        let registers = vcpu.registers.iter();
        let registers = registers.map(|(id, value)| {
            let depends_on_value = tolerances.depends_on_value(id) || consents.names(id);
            let decisive = if depends_on_value {
                DecisiveValue::Exact(value.clone())
            } else {
                DecisiveValue::new(id, value)
            };
            (id, decisive)
        });
        let extensions = vcpu.extensions.iter().map(|it| {
            let content = (!extension::is_opaque(it)).then(|| it.content.clone());
            (it.name.clone(), content)
        });
        Self {
            registers: registers.collect(),
            extensions: extensions.collect(),
        }
    }
}

impl DecisiveValue {
    /// Returns the decisive value of a register on whose value no tolerance and no consent
    /// depends.
    fn new(id: RegisterId, value: &Value) -> Self {
        // The kernel or the loader may refuse or change a value of another width.
        let has_width = id.size_bytes().is_some_and(|len| value.has_width(len));
        let is_exact = !has_width
            || !RegisterKind::from_id(id).accepts_every_value()
            || kernel::find_feature_gate(id).is_some()
            || RULE_INPUTS.contains(&id);
        if is_exact {
            return Self::Exact(value.clone());
        }
        if !id.is_pmu() {
            return Self::Any;
        }
        let is_counter = id == RegisterId::PMCCNTR_EL0 || id.event_counter().is_some();
        let has_counted = value
            .as_u64()
            .is_some_and(|value| !condition::is_pmu_at_reset(id, value));
        if is_counter && has_counted {
            Self::CounterInUse
        } else {
            Self::Exact(value.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::destination::{DestinationRegister, Loader};
    use crate::hardware::VectorLengths;
    use crate::plan::testing::{destination, ids, lists, value, vectors, vm};
    use crate::plan::{Adjustment, Check, IgnoreConsent, PlanOutcome, UnchangedLoad, Verdict};
    use crate::severity::Severity;
    use crate::tolerance::{Condition, RegisterDifference, RegisterSelector, Tolerance};

    /// Parts of a check that are equal for VMs with equal states.
    #[derive(Debug, PartialEq)]
    struct Summary {
        verdict: Verdict,
        unchanged_load: UnchangedLoad,
        blockers: Vec<(crate::plan::DecidedPart, bool)>,
        reasons: Vec<alloc::string::String>,
        proposed: Vec<Adjustment>,
        accepted: Vec<Adjustment>,
        outcome_with_proposed: PlanOutcome,
        /// Equal changes of two vCPUs are one change, so their number depends on values.
        severities: BTreeSet<(Option<RegisterId>, Severity)>,
    }

    impl Summary {
        fn new(
            vm: &Vm,
            destination: &Destination,
            tolerances: &Tolerances,
            consents: &Consents,
        ) -> Self {
            let check = Check::new(vm, destination, tolerances, consents);
            let blockers = check.plan.blockers(tolerances);
            let changes = check.plan.visible_changes.iter();
            Self {
                verdict: check.verdict,
                unchanged_load: check.unchanged_load(destination),
                blockers: blockers
                    .iter()
                    .map(|it| (it.part.clone(), it.is_unknown))
                    .collect(),
                reasons: blockers.into_iter().map(|it| it.reason).collect(),
                severities: changes.map(|it| (it.register, it.severity)).collect(),
                proposed: check.plan.proposed_adjustments,
                accepted: check.plan.accepted_adjustments,
                outcome_with_proposed: check.plan.outcome_with_proposed,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// VMs that differ only in values that do not count have equal checks.
        #[test]
        fn equal_states_have_equal_checks(
            (incoming, listed) in lists(),
            changes in proptest::collection::vec((any::<Index>(), any::<Index>(), value()), 1..60),
            mmu_is_on in any::<bool>(),
            accept_up_to in prop_oneof![Just(None), Just(Some(Severity::Medium))],
            drop in proptest::option::weighted(0.2, any::<Index>()),
            loader in prop_oneof![Just(Some(Loader::qemu(10, 0))), Just(None)],
            destination_lengths in prop_oneof![Just(0b1), Just(0b11), Just(0b1111), Just(0x80ff)],
        ) {
            let tolerances = Tolerances::default();
            let all = ids();
            let consents = Consents {
                accept_up_to,
                drop_registers: drop.iter().map(|index| *index.get(&all)).collect(),
                ..Consents::default()
            };
            let mut one = vm(&incoming);
            if mmu_is_on {
                for vcpu in &mut one.vcpus {
                    vcpu.registers.insert(RegisterId::SCTLR_EL1, Value::U64(1));
                }
            }
            let hardware = |bits| HardwareFacts {
                vector_lengths: Some(VectorLengths::from_bits(bits)),
                ..HardwareFacts::UNKNOWN
            };
            one.source_hardware = hardware(0b1111);
            let destination = Destination {
                loader,
                hardware: hardware(destination_lengths),
                ..destination(&listed, Accelerator::Kvm)
            };
            prop_assert!(DecisiveState::is_sufficient_at(&destination, &tolerances));
            let state = DecisiveState::new(&one, &tolerances, &consents);
            let mut other = one.clone();
            for vcpu in &mut other.vcpus {
                vcpu.extensions = Vec::from([vectors(0xff)]);
            }
            prop_assert_eq!(DecisiveState::new(&other, &tolerances, &consents), state.clone());
            for (vcpu, register, value) in changes {
                let mut changed = other.clone();
                let vcpu = vcpu.index(changed.vcpus.len());
                let registers = &mut changed.vcpus[vcpu].registers;
                let (id, _) = registers.as_slice()[register.index(registers.len())];
                registers.insert(id, Value::U64(value));
                if DecisiveState::new(&changed, &tolerances, &consents) == state {
                    other = changed;
                }
            }
            let summary = |vm| Summary::new(vm, &destination, &tolerances, &consents);
            prop_assert_eq!(summary(&one), summary(&other));
        }
    }

    /// Returns the states of two VMs with one vCPU, whose register has these values.
    fn states(id: RegisterId, values: [u64; 2]) -> [DecisiveState; 2] {
        values.map(|value| {
            let vm = Vm::with_one_vcpu(&[(id, value)]);
            DecisiveState::new(&vm, &Tolerances::default(), &Consents::default())
        })
    }

    #[test]
    fn values_that_decide_count() {
        for (id, values) in [
            (RegisterId::ID_AA64PFR0_EL1, [0x11, 0x10]),
            (RegisterId::PSCI_VERSION, [0x1_0001, 0x1_0000]),
            (RegisterId::SCTLR_EL1, [0, 1]),
            (RegisterId::ZCR_EL1, [1, 2]),
            (RegisterId::TCR2_EL1, [0, 2]),
            // Evidence of the use of S1PIE.
            (RegisterId::PIR_EL1, [0, 1]),
            (RegisterId::PTIMER_CTL, [0, 1]),
            (RegisterId::PMCR_EL0, [0x40, 0x41]),
            (RegisterId::PMCCNTR_EL0, [0, 1]),
            // Too wide for the register.
            (RegisterId::CORE_FPSR, [0, 1 << 32]),
        ] {
            let [one, other] = states(id, values);
            assert_ne!(one, other, "{id}");
        }
    }

    /// The rule about the first run reads some of them, whatever the tolerances compare.
    #[test]
    fn values_of_registers_that_an_id_field_hides_count() {
        for id in kernel::FEATURE_GATES.iter().flat_map(|gate| gate.registers) {
            let value = Value::U64(1);
            let exact = DecisiveValue::Exact(value.clone());
            assert_eq!(DecisiveValue::new(*id, &value), exact, "{id}");
        }
    }

    #[test]
    fn values_of_plain_storage_do_not_count() {
        for (id, values) in [
            (RegisterId::x(0), [0, u64::MAX]),
            (RegisterId::MPIDR_EL1, [0, 1]),
            // Without an MMU that is on, the guest's settings prove nothing.
            (RegisterId::TCR_EL1, [0, u64::MAX]),
            (RegisterId::TTBR0_EL1, [0, u64::MAX]),
            (RegisterId::TIMER_CNT, [1, 2]),
            (RegisterId::PMCCNTR_EL0, [1, 2]),
        ] {
            let [one, other] = states(id, values);
            assert_eq!(one, other, "{id}");
        }
    }

    #[test]
    fn sufficient_at_kvm_that_renames_nothing() {
        let list = [Vec::from([(RegisterId::TPIDR_EL1, 0)])];
        let is_sufficient = |destination: &Destination, tolerances: &Tolerances| {
            DecisiveState::is_sufficient_at(destination, tolerances)
        };
        let tolerances = Tolerances::default();
        let kvm = destination(&list, Accelerator::Kvm);
        assert!(is_sufficient(&kvm, &tolerances));
        let tcg = destination(&list, Accelerator::Tcg);
        assert!(!is_sufficient(&tcg, &tolerances));
        let with_record = |id| Destination {
            vcpus: Vec::from([DestinationVcpu::new(
                [DestinationRegister {
                    id,
                    value: Some(Value::U64(0)),
                    accepted_values: AcceptedValues::OneOf([0].into()),
                }],
                Vec::new(),
            )]),
            ..kvm.clone()
        };
        assert!(!is_sufficient(
            &with_record(RegisterId::TPIDR_EL1),
            &tolerances
        ));
        assert!(is_sufficient(
            &with_record(RegisterId::ID_AA64PFR0_EL1),
            &tolerances
        ));
        for (accelerator, expected) in [
            (None, false),
            (Some(Accelerator::Kvm), false),
            (Some(Accelerator::Hvf), true),
        ] {
            let mut renaming = Tolerances::default();
            let mut entries = renaming.entries().iter();
            let mut entry = entries
                .find(|entry| entry.difference == RegisterDifference::OtherId)
                .expect("HVF renames a register")
                .clone();
            entry.accelerator = accelerator;
            renaming.add_operator_entries([entry]);
            assert_eq!(is_sufficient(&kvm, &renaming), expected, "{accelerator:?}");
        }
    }

    #[test]
    fn values_that_an_operator_compares_count() {
        let mut tolerances = Tolerances::default();
        let mut entries = tolerances.entries().iter();
        let compares = |entry: &&Tolerance| matches!(entry.condition, Condition::Value { .. });
        let mut entry = entries.find(compares).expect("an entry").clone();
        entry.registers = RegisterSelector::Ids([RegisterId::TPIDR_EL1].to_vec().into());
        tolerances.add_operator_entries([entry]);
        let state = |value, tolerances: &Tolerances, consents: &Consents| {
            let vm = Vm::with_one_vcpu(&[(RegisterId::TPIDR_EL1, value)]);
            DecisiveState::new(&vm, tolerances, consents)
        };
        let none = Consents::default();
        assert_ne!(state(1, &tolerances, &none), state(2, &tolerances, &none));
        let ignore = IgnoreConsent {
            register: RegisterId::TPIDR_EL1,
            condition: Some((1, 1)),
        };
        let ignoring = Consents {
            ignore: Vec::from([ignore]),
            ..Consents::default()
        };
        let built_in = Tolerances::default();
        assert_ne!(
            state(1, &built_in, &ignoring),
            state(2, &built_in, &ignoring)
        );
        assert_eq!(state(1, &built_in, &none), state(2, &built_in, &none));
    }

    #[test]
    fn the_order_of_different_vcpus_counts() {
        let state = |values: &[u64]| {
            let vcpus = values.iter().map(|value| {
                let mut registers = crate::vm::Registers::new();
                registers.insert(RegisterId::ID_AA64PFR0_EL1, Value::U64(*value));
                Vcpu {
                    registers,
                    ..Vcpu::default()
                }
            });
            let vm = Vm {
                vcpus: vcpus.collect(),
                ..Vm::default()
            };
            DecisiveState::new(&vm, &Tolerances::default(), &Consents::default())
        };
        assert_ne!(state(&[0, 1, 1]), state(&[0, 1, 0]));
        assert_ne!(state(&[0]), state(&[0, 0]));
        assert_eq!(state(&[0, 0]).distinct_vcpu_count(), 1);
    }
}
