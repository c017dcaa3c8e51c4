//! [`Tolerance`]: a harmless difference in one register, with its condition and reason.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the table of all entries, and lookup |
//! | `entry.rs` | an entry as data |
//! | [`condition`] | conditions of entries |
//! | [`table`], `table_el2` | the built-in entries for KVM, and for EL2 under KVM |
//! | `table_tcg` | the built-in entries for TCG |
//! | `table_hvf` | the built-in entries for HVF |
//!
//! [`crate::plan`] applies the entries to a VM.

pub mod condition;
mod entry;
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

/// Table of tolerances. An operator's entries precede the built-in entries.
#[derive(Clone, Debug)]
pub struct Tolerances {
    entries: Vec<Tolerance>,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self {
            entries: table::built_in_entries(),
        }
    }
}

impl Tolerances {
    /// Returns a table without entries. A plan with this table refuses every register that only the
    /// input has.
    pub const fn empty() -> Self {
        Self {
            entries: Vec::new(),
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
        self.entries.iter().position(|entry| {
            entry.difference == difference
                && (entry.accelerator.is_none() || entry.accelerator == accelerator)
                && entry.registers.contains(id)
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
    use super::*;

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
