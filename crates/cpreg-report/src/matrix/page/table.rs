//! [`Table`]: different values, each once, with their indexes.

use std::collections::HashMap;
use std::hash::Hash;

/// Different values in the order of their first occurrence.
#[derive(Debug)]
pub(super) struct Table<T> {
    values: Vec<T>,
    indexes: HashMap<T, usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            indexes: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Table<T> {
    /// Returns the index of a value. Adds the value if the table lacks it.
    pub(super) fn insert(&mut self, value: T) -> usize {
        if let Some(index) = self.indexes.get(&value) {
            return *index;
        }
        let index = self.values.len();
        self.values.push(value.clone());
        self.indexes.insert(value, index);
        index
    }

    /// Returns the values in the order of their indexes.
    pub(super) fn into_values(self) -> Vec<T> {
        self.values
    }
}
