//! [`EntryIndex`]: lookup of entries by register. A plan looks up every register that differs.

use alloc::vec::Vec;

use super::{Condition, RegisterSelector, Tolerance};
use crate::register::RegisterId;

/// Index of a table of entries.
#[derive(Clone, Debug)]
pub(super) struct EntryIndex {
    /// Listed registers with the indexes of their entries, ascending.
    listed: Vec<(RegisterId, usize)>,
    /// Indexes of the entries about a class of registers, ascending.
    classes: Vec<usize>,
    /// Registers that conditions compare, without those that a class includes.
    conditions: Vec<RegisterId>,
}

impl EntryIndex {
    /// Index of a table without entries.
    pub(super) const EMPTY: Self = Self {
        listed: Vec::new(),
        classes: Vec::new(),
        conditions: Vec::new(),
    };

    /// Returns the index of these entries.
    pub(super) fn new(entries: &[Tolerance]) -> Self {
        let mut index = Self::EMPTY;
        for (number, entry) in entries.iter().enumerate() {
            match &entry.registers {
                RegisterSelector::Ids(ids) => {
                    index.listed.extend(ids.iter().map(|id| (*id, number)));
                }
                _ => index.classes.push(number),
            }
            index.add_conditions(&entry.condition);
        }
        index.listed.sort_unstable();
        index
    }

    fn add_conditions(&mut self, condition: &Condition) {
        match condition {
            Condition::OtherRegister { register, .. } => self.conditions.push(*register),
            Condition::WithoutFeature {
                register, unused, ..
            } => {
                self.conditions.push(*register);
                self.add_conditions(unused);
            }
            Condition::NoSuchCache => self.conditions.push(RegisterId::CLIDR_EL1),
            Condition::And(one, other) => {
                self.add_conditions(one);
                self.add_conditions(other);
            }
            // Only the register of the entry, or all PMU registers.
            Condition::Always
            | Condition::Value { .. }
            | Condition::DiffersIn { .. }
            | Condition::PmuUnused => {}
        }
    }

    /// Returns `true` if a condition compares this register, and not as a member of a class.
    pub(super) fn is_condition(&self, id: RegisterId) -> bool {
        self.conditions.contains(&id)
    }

    /// Returns the index of the first entry that lists the register or is about a class, and
    /// satisfies the condition.
    pub(super) fn find(
        &self,
        id: RegisterId,
        mut is_wanted: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let start = self.listed.partition_point(|(listed, _)| *listed < id);
        let of_id = self.listed.iter().skip(start);
        let mut of_id = of_id.take_while(|(listed, _)| *listed == id);
        let listed = of_id.find(|(_, entry)| is_wanted(*entry));
        let listed = listed.map(|(_, entry)| *entry);
        let mut earlier = self.classes.iter().copied();
        let mut earlier = earlier
            .by_ref()
            .take_while(|class| listed.is_none_or(|it| *class < it));
        earlier.find(|class| is_wanted(*class)).or(listed)
    }
}
