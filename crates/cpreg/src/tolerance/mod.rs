//! [`Tolerance`]: a harmless difference in one register, with its condition and reason.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the table of all entries, and lookup |
//! | `entry.rs` | an entry as data |
//! | [`condition`] | conditions of entries |
//! | [`table`], `table_el2` | the built-in entries for KVM, and for EL2 under KVM |
//! | `table_tcg` | the built-in entries for TCG |
//!
//! [`crate::plan`] applies the entries to a VM.

pub mod condition;
mod entry;
pub mod table;
mod table_el2;
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
}
