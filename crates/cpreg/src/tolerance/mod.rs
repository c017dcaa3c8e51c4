//! [`Tolerance`]: one entry that says that a difference in one register is harmless, when, and why.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | all entries that count, and looking one up |
//! | `entry.rs` | what an entry is |
//! | [`condition`] | when an entry holds |
//! | [`table`], `table_tcg` | the entries for KVM, and for TCG |
//!
//! Applying an entry to a VM does not live here; see [`crate::plan`].

pub mod condition;
mod entry;
pub mod table;
mod table_tcg;

use alloc::vec::Vec;

use crate::destination::Accelerator;
use crate::register::RegisterId;

pub use condition::Condition;
pub use entry::{
    Category, Handling, HistoryEntry, RegisterDifference, RegisterSelector, Tolerance,
    VisibleEffect,
};

/// All entries that count: an operator's before the built-in ones.
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
    /// No entries at all: every register that is only in the input refuses.
    pub const fn empty() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Puts an operator's entries before those that are there.
    pub fn add_operator_entries(&mut self, entries: impl IntoIterator<Item = Tolerance>) {
        let entries = entries.into_iter().map(|entry| Tolerance {
            is_operator_entry: true,
            ..entry
        });
        self.entries.splice(0..0, entries);
    }

    /// The entries in the order in which they are looked at.
    pub fn entries(&self) -> &[Tolerance] {
        &self.entries
    }

    /// The entry for this difference: the first one that is about it.
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
