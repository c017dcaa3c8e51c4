//! [`Tolerance`]: a harmless difference in one register, with its condition and reason.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the table of all entries, and lookup |
//! | `entry.rs` | an entry as data |
//! | `index.rs` | lookup of entries by register |
//! | [`condition`] | conditions of entries |
//! | [`table`], `table_el2` | the built-in entries for KVM, and for EL2 under KVM |
//! | `table_tcg` | the built-in entries for TCG |
//! | `table_hvf` | the built-in entries for HVF |
//!
//! [`crate::plan`] applies the entries to a VM.

pub mod condition;
mod entry;
mod index;
pub mod table;
mod table_el2;
mod table_hvf;
mod table_tcg;

use alloc::vec::Vec;

use crate::destination::Accelerator;
use crate::register::RegisterId;

pub use condition::Condition;
pub use entry::{
    Category, EntryOrigin, Handling, HistoryEntry, RegisterDifference, RegisterSelector, Tolerance,
    VisibleEffect,
};
use index::EntryIndex;

/// Table of tolerances. An operator's entries precede the built-in entries.
#[derive(Clone, Debug)]
pub struct Tolerances {
    entries: Vec<Tolerance>,
    index: EntryIndex,
}

impl Default for Tolerances {
    fn default() -> Self {
        let entries = table::built_in_entries();
        Self {
            index: EntryIndex::new(&entries),
            entries,
        }
    }
}

impl Tolerances {
    /// Returns a table without entries. A plan with this table refuses every register that only the
    /// input has.
    pub const fn empty() -> Self {
        Self {
            entries: Vec::new(),
            index: EntryIndex::EMPTY,
        }
    }

    /// Inserts an operator's entries in front of the existing entries, so that the former take
    /// precedence.
    pub fn add_operator_entries(&mut self, entries: impl IntoIterator<Item = Tolerance>) {
        let entries = entries.into_iter().map(|entry| Tolerance {
            is_operator_entry: true,
            ..entry
        });
        self.entries.splice(0..0, entries);
        self.index = EntryIndex::new(&self.entries);
    }

    /// Returns the entries in lookup order.
    pub fn entries(&self) -> &[Tolerance] {
        &self.entries
    }

    /// Returns the index of the first entry for this register and difference.
    pub fn find(
        &self,
        id: RegisterId,
        difference: RegisterDifference,
        accelerator: Option<Accelerator>,
    ) -> Option<usize> {
        self.index.find(id, |index| {
            let entry = self.entries.get(index);
            entry.is_some_and(|entry| entry.applies_to(id, difference, accelerator))
        })
    }

    /// Returns `true` if the condition of an entry about another register may depend on this one.
    /// PMU registers and ID registers are not considered.
    pub(crate) fn is_condition(&self, id: RegisterId) -> bool {
        self.index.is_condition(id)
    }

    /// Returns `true` if the condition of an entry may depend on the value of this register. PMU
    /// registers and ID registers are considered only as the register of the entry.
    pub(crate) fn depends_on_value(&self, id: RegisterId) -> bool {
        let depends_on_own_value = |index: usize| {
            let entry = self.entries.get(index);
            entry.is_some_and(|entry| {
                entry.condition.depends_on_value() && entry.registers.contains(id)
            })
        };
        self.is_condition(id) || self.index.find(id, depends_on_own_value).is_some()
    }

    /// Returns `true` if an entry for this accelerator may give a register another id.
    pub(crate) fn can_rename(&self, accelerator: Accelerator) -> bool {
        self.entries.iter().any(|entry| {
            entry.difference == RegisterDifference::OtherId
                && entry.accelerator.is_none_or(|it| it == accelerator)
        })
    }

    /// Returns a value with which the table ignores a register that only the source has, as far as
    /// the value alone decides. Returns `None` if the table ignores no value.
    pub fn ignorable_value(&self, id: RegisterId, accelerator: Option<Accelerator>) -> Option<u64> {
        let number = self.find(id, RegisterDifference::SourceOnly, accelerator)?;
        let entry = &self.entries[number];
        (entry.handling != Handling::Refuse).then(|| entry.condition.example_value())
    }
}

#[cfg(test)]
mod tests {
    use alloc::borrow::Cow;

    use super::*;

    /// The index finds what a search of the whole table finds, for every id that an entry lists and
    /// for every system register and coprocessor register.
    #[test]
    fn the_index_finds_the_first_entry() {
        let mut tolerances = Tolerances::default();
        // Operators' entries: about one register, and about a class, in front of all others.
        let copies = [1, 0, 1].map(|position| tolerances.entries()[position].clone());
        tolerances.add_operator_entries(copies);
        let class = Tolerance {
            registers: RegisterSelector::PerformanceMonitors,
            ..tolerances.entries()[0].clone()
        };
        tolerances.add_operator_entries([class]);
        let listed = tolerances.entries().iter().flat_map(|entry| {
            let ids = match &entry.registers {
                RegisterSelector::Ids(ids) => ids,
                _ => &Cow::Borrowed(&[][..]),
            };
            ids.to_vec()
        });
        let classes = [
            0x6030_0000_0013_0000,
            0x6020_0000_0011_0000,
            0x4020_0000_000f_0000,
        ];
        let numbered = classes.into_iter().flat_map(|class| {
            let numbers = 0..=0xffff_u64;
            numbers.map(move |number| RegisterId::from_raw(class | number))
        });
        for id in listed.chain(numbered) {
            for difference in RegisterDifference::ALL {
                for accelerator in [None, Some(Accelerator::Kvm), Some(Accelerator::Tcg)] {
                    let mut entries = tolerances.entries().iter();
                    let expected =
                        entries.position(|entry| entry.applies_to(id, difference, accelerator));
                    let found = tolerances.find(id, difference, accelerator);
                    assert_eq!(found, expected, "{id} {difference:?} {accelerator:?}");
                }
            }
        }
    }

    #[test]
    fn an_ignorable_value_satisfies_the_condition_on_the_value() {
        let tolerances = Tolerances::default();
        let value = |id| tolerances.ignorable_value(id, Some(Accelerator::Kvm));
        assert_eq!(value(RegisterId::TCR2_EL1), Some(0));
        assert_eq!(value(RegisterId::OSLSR_EL1), Some(8));
        assert_eq!(value(RegisterId::PSCI_VERSION), Some(2));
        assert_eq!(value(RegisterId::PTIMER_CTL), Some(0));
        assert_eq!(value(RegisterId::SCTLR_EL1), None);
        for entry in tolerances.entries() {
            if let Condition::Value { mask, expected } = entry.condition {
                assert_eq!(entry.condition.example_value() & mask, expected);
                assert!(!entry.condition.depends_on_other_registers());
            }
        }
    }
}
