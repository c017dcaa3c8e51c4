//! [`OperatorEntryUse`]: the use that a plan made of an operator's entry for a register.
//!
//! An operator who adds an entry expects it to decide. If it does not, the report says why.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::OnceCell;

use super::input::{Targets, planned_registers};
use super::{Decision, Plan, Reason, SetConsent, VcpuSet};
use crate::destination::{Accelerator, Destination};
use crate::register::RegisterId;
use crate::tolerance::condition::Context;
use crate::tolerance::{
    Condition, Handling, RegisterDifference, RegisterSelector, Tolerance, Tolerances,
};
use crate::vm::Vm;

/// Use that a plan made of an operator's entry for one register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct OperatorEntryUse {
    /// Index of the entry in the table.
    pub entry: usize,
    /// Register of the entry; `None` for a class of registers of which neither side has one.
    pub register: Option<RegisterId>,
    /// vCPUs; empty for a register that neither side has.
    pub vcpus: VcpuSet,
    /// Use of the entry.
    pub entry_use: EntryUse,
}

/// Use of an entry for a register: it decided, or the reason why it did not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EntryUse {
    /// The entry decided about the register.
    Applied,
    /// Neither the VM nor the destination has the register.
    Absent,
    /// The entry applies to another accelerator than the destination's.
    OtherAccelerator,
    /// Both sides have the register, and the destination accepts the value.
    ValueAccepted,
    /// The sides differ in another way than the entry says.
    OtherDifference(RegisterDifference),
    /// The entry with this index comes first.
    EarlierEntry(usize),
    /// Value that does not meet the condition, which expects another value under the mask.
    Unmet {
        /// Register that the condition compares.
        register: RegisterId,
        /// Bits that the condition compares.
        mask: u64,
        /// Expected value of these bits.
        expected: u64,
        /// Value of the register; `None` if it is not known.
        value: Option<u64>,
    },
    /// The condition does not hold.
    ConditionFalse,
    /// The destination accepts no value near the VM's.
    NoNearestValue,
    /// An option of the user decided about the register.
    UserDecision,
    /// Value that the destination may accept. The entry is for values that the destination is known
    /// not to accept.
    AcceptanceUnknown,
    /// The VM's value is not known.
    SourceUnknown,
    /// Reason that comes before every tolerance.
    OtherReason(Reason),
}

impl EntryUse {
    /// Returns `true` if the register of the entry does not differ, or differs in no way that this
    /// entry could be about.
    pub const fn is_unconcerned(&self) -> bool {
        matches!(
            self,
            Self::Absent | Self::OtherAccelerator | Self::ValueAccepted
        )
    }
}

impl Plan {
    /// Returns the use of each operator's entry, by entry, for every register of the entry.
    ///
    /// `vm`, `destination` and `tolerances` are those of the plan, and `sets` the user's values.
    pub fn operator_entries(
        &self,
        vm: &Vm,
        destination: &Destination,
        tolerances: &Tolerances,
        sets: &[SetConsent],
    ) -> Vec<OperatorEntryUse> {
        let entries = tolerances.entries().iter().enumerate();
        let entries: Vec<_> = entries.filter(|(_, it)| it.is_operator_entry).collect();
        if entries.is_empty() {
            return Vec::new();
        }
        let targets: Targets = self
            .accepted_adjustments
            .iter()
            .flat_map(|it| it.vcpus.iter().map(|vcpu| ((vcpu, it.register), it.to)))
            .collect();
        let mut uses: BTreeMap<_, VcpuSet> = BTreeMap::new();
        for (number, (plan, vcpu)) in self.vcpus.iter().zip(&vm.vcpus).enumerate() {
            let Some(destination_vcpu) = destination.vcpu(number) else {
                continue;
            };
            let planned = planned_registers(sets, &targets, number, vcpu);
            let is_pmu_unused = OnceCell::new();
            for (index, entry) in &entries {
                for decision in &plan.decisions {
                    let register = decision.register;
                    if !entry.registers.contains(register) {
                        continue;
                    }
                    let observer = Observer {
                        tolerances,
                        accelerator: destination.accelerator,
                        context: Context {
                            id: register,
                            value: planned.get_u64(register),
                            incoming_vcpu: vcpu,
                            planned_registers: &planned,
                            destination_vcpu,
                            is_pmu_unused: &is_pmu_unused,
                        },
                    };
                    let entry_use = observer.entry_use(*index, entry, decision);
                    let key = (*index, Some(register), entry_use);
                    uses.entry(key).or_default().insert(number);
                }
            }
        }
        for (index, entry) in entries {
            for register in absent_registers(entry, index, &uses) {
                uses.insert((index, register, EntryUse::Absent), VcpuSet::default());
            }
        }
        let uses = uses.into_iter();
        uses.map(|((entry, register, entry_use), vcpus)| OperatorEntryUse {
            entry,
            register,
            vcpus,
            entry_use,
        })
        .collect()
    }
}

/// Returns the registers of an entry that have no decision; `None` for a class without any.
fn absent_registers(
    entry: &Tolerance,
    index: usize,
    uses: &BTreeMap<(usize, Option<RegisterId>, EntryUse), VcpuSet>,
) -> Vec<Option<RegisterId>> {
    let is_used = |id: Option<RegisterId>| {
        let mut keys = uses.keys();
        keys.any(|(entry, register, _)| *entry == index && (id.is_none() || *register == id))
    };
    match &entry.registers {
        RegisterSelector::Ids(ids) => {
            let ids = ids.iter().copied().map(Some);
            ids.filter(|id| !is_used(*id)).collect()
        }
        _ if is_used(None) => Vec::new(),
        _ => alloc::vec![None],
    }
}

/// Finds the use of entries for one register of one vCPU.
struct Observer<'a> {
    tolerances: &'a Tolerances,
    accelerator: Option<Accelerator>,
    context: Context<'a>,
}

impl Observer<'_> {
    fn entry_use(&self, index: usize, entry: &Tolerance, decision: &Decision) -> EntryUse {
        if entry.accelerator.is_some() && entry.accelerator != self.accelerator {
            return EntryUse::OtherAccelerator;
        }
        match &decision.reason {
            Reason::ListedAs(entry, _) if *entry == index => return EntryUse::Applied,
            reason @ Reason::PerhapsListedAs(entry, _) if *entry == index => {
                return EntryUse::OtherReason(reason.clone());
            }
            _ => {}
        }
        let difference = match (&decision.source, decision.is_listed) {
            (Some(_), false) => RegisterDifference::SourceOnly,
            (None, _) => RegisterDifference::DestinationOnly,
            (Some(_), true) if decision.reason == Reason::ValueAccepted => {
                return EntryUse::ValueAccepted;
            }
            (Some(_), true) => RegisterDifference::ValueNotAccepted,
        };
        if difference != entry.difference {
            return EntryUse::OtherDifference(difference);
        }
        match &decision.reason {
            Reason::UserIgnores
            | Reason::UserDrops
            | Reason::UserSets
            | Reason::UserCondition
            | Reason::UserAccepts
            | Reason::SetNotAccepted => return EntryUse::UserDecision,
            _ => {}
        }
        let first = self
            .tolerances
            .find(decision.register, difference, self.accelerator);
        if let Some(first) = first.filter(|first| *first != index) {
            return EntryUse::EarlierEntry(first);
        }
        match &decision.reason {
            Reason::Tolerated(_) => EntryUse::Applied,
            Reason::NotTolerated(_) if entry.handling == Handling::Refuse => EntryUse::Applied,
            Reason::NotTolerated(_) => match entry.condition.unmet_part(self.context) {
                Some(part) => self.describe_unmet(part),
                None => EntryUse::NoNearestValue,
            },
            Reason::ValueUnknown(_) if difference == RegisterDifference::ValueNotAccepted => {
                EntryUse::AcceptanceUnknown
            }
            Reason::ValueUnknown(_) => EntryUse::SourceUnknown,
            reason => EntryUse::OtherReason(reason.clone()),
        }
    }

    fn describe_unmet(&self, part: &Condition) -> EntryUse {
        let (register, mask, expected, value) = match part {
            Condition::Value { mask, expected } => {
                (self.context.id, *mask, *expected, self.context.value)
            }
            Condition::OtherRegister {
                register,
                mask,
                expected,
            } => {
                let value = self.context.planned_registers.get_u64(*register);
                (*register, *mask, *expected, value)
            }
            _ => return EntryUse::ConditionFalse,
        };
        EntryUse::Unmet {
            register,
            mask,
            expected,
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::Cow;
    use alloc::vec;

    use super::*;
    use crate::destination::{AcceptedValues, DestinationRegister, DestinationVcpu, ValueOrigin};
    use crate::hardware::HardwareFacts;
    use crate::plan::{Consents, IgnoreConsent};
    use crate::register::Value;
    use crate::tolerance::{Category, EntryOrigin};

    const ONLY_IN_VM: RegisterId = RegisterId::TCR2_EL1;
    const ONLY_AT_DESTINATION: RegisterId = RegisterId::OSLSR_EL1;
    const REFUSED: RegisterId = RegisterId::PSCI_VERSION;
    const ACCEPTED: RegisterId = RegisterId::CLIDR_EL1;
    const ABSENT: RegisterId = RegisterId::PTIMER_CTL;

    fn entry(
        registers: &[RegisterId],
        difference: RegisterDifference,
        condition: Condition,
        handling: Handling,
    ) -> Tolerance {
        Tolerance {
            registers: RegisterSelector::Ids(Cow::Owned(registers.to_vec())),
            accelerator: None,
            difference,
            condition,
            handling,
            visible_effect: None,
            category: Category::Operator,
            reason: "because".into(),
            remedy: None,
            history: Vec::new(),
            is_operator_entry: true,
            origin: Some(EntryOrigin {
                file: "ours.toml".into(),
                number: 1,
            }),
        }
    }

    /// Plans a VM with these entries in front of the built-in ones.
    fn uses(entries: Vec<Tolerance>, consents: &Consents) -> Vec<OperatorEntryUse> {
        let vm = Vm::with_one_vcpu(&[(ONLY_IN_VM, 5), (REFUSED, 0x10003), (ACCEPTED, 3)]);
        let register = |id, value| DestinationRegister {
            id,
            value: Some(Value::U64(value)),
            accepted_values: AcceptedValues::Writable(0),
        };
        let registers = [
            register(ONLY_AT_DESTINATION, 8),
            register(REFUSED, 0x10001),
            register(ACCEPTED, 3),
        ];
        let destination = Destination {
            name: "here".into(),
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            value_origin: ValueOrigin::Reset,
            vcpus: vec![DestinationVcpu::new(registers, Vec::new())],
            kernel_version: None,
            hardware: HardwareFacts::UNKNOWN,
            shape: None,
        };
        let mut tolerances = Tolerances::default();
        tolerances.add_operator_entries(entries);
        let plan = Plan::new(&vm, &destination, &tolerances, consents);
        plan.operator_entries(&vm, &destination, &tolerances, &consents.set)
    }

    fn one(entry: Tolerance) -> EntryUse {
        let mut uses = uses(vec![entry], &Consents::default());
        assert_eq!(uses.len(), 1, "{uses:?}");
        uses.remove(0).entry_use
    }

    #[test]
    fn each_entry_has_its_use() {
        use RegisterDifference::{DestinationOnly, SourceOnly, ValueNotAccepted};
        let value = |expected| Condition::Value {
            mask: 0xf,
            expected,
        };
        let unmet = EntryUse::Unmet {
            register: ONLY_IN_VM,
            mask: 0xf,
            expected: 4,
            value: Some(5),
        };
        let other = Condition::OtherRegister {
            register: ACCEPTED,
            mask: 1,
            expected: 0,
        };
        let unmet_other = EntryUse::Unmet {
            register: ACCEPTED,
            mask: 1,
            expected: 0,
            value: Some(3),
        };
        let (always, ignore) = (Condition::Always, Handling::Ignore);
        for (register, difference, condition, handling, expected) in [
            (
                ONLY_IN_VM,
                SourceOnly,
                always.clone(),
                ignore,
                EntryUse::Applied,
            ),
            (ONLY_IN_VM, SourceOnly, value(5), ignore, EntryUse::Applied),
            (ONLY_IN_VM, SourceOnly, value(4), ignore, unmet.clone()),
            (ONLY_IN_VM, SourceOnly, other.clone(), ignore, unmet_other),
            (
                ONLY_IN_VM,
                SourceOnly,
                Condition::And(value(5).into(), value(4).into()),
                ignore,
                unmet,
            ),
            (
                ONLY_IN_VM,
                SourceOnly,
                always.clone(),
                Handling::Refuse,
                EntryUse::Applied,
            ),
            (
                ONLY_IN_VM,
                ValueNotAccepted,
                always.clone(),
                ignore,
                EntryUse::OtherDifference(SourceOnly),
            ),
            (
                ONLY_AT_DESTINATION,
                SourceOnly,
                always.clone(),
                ignore,
                EntryUse::OtherDifference(DestinationOnly),
            ),
            (
                ACCEPTED,
                ValueNotAccepted,
                always.clone(),
                ignore,
                EntryUse::ValueAccepted,
            ),
            (ABSENT, SourceOnly, always, ignore, EntryUse::Absent),
        ] {
            let of_entry = entry(&[register], difference, condition, handling);
            assert_eq!(one(of_entry), expected, "{register}");
        }
    }

    #[test]
    fn entries_of_other_accelerators_and_later_entries_do_not_apply() {
        let ignore = entry(
            &[ONLY_IN_VM],
            RegisterDifference::SourceOnly,
            Condition::Always,
            Handling::Ignore,
        );
        let tcg = Tolerance {
            accelerator: Some(Accelerator::Tcg),
            ..ignore.clone()
        };
        assert_eq!(one(tcg.clone()), EntryUse::OtherAccelerator);
        let entries = vec![tcg, ignore.clone(), ignore];
        let uses = uses(entries, &Consents::default());
        let uses: Vec<_> = uses
            .into_iter()
            .map(|it| (it.entry, it.entry_use))
            .collect();
        let expected = [
            (0, EntryUse::OtherAccelerator),
            (1, EntryUse::Applied),
            (2, EntryUse::EarlierEntry(1)),
        ];
        assert_eq!(uses, expected);
    }

    #[test]
    fn a_decision_of_the_user_comes_first() {
        let ignore = entry(
            &[ONLY_IN_VM],
            RegisterDifference::SourceOnly,
            Condition::Always,
            Handling::Ignore,
        );
        let consents = Consents {
            ignore: vec![IgnoreConsent {
                register: ONLY_IN_VM,
                condition: None,
            }],
            ..Consents::default()
        };
        let uses = uses(vec![ignore], &consents);
        assert_eq!(uses[0].entry_use, EntryUse::UserDecision);
    }

    #[test]
    fn a_table_without_operators_has_no_uses() {
        assert_eq!(uses(Vec::new(), &Consents::default()), []);
    }
}
