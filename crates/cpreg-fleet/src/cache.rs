//! [`Cache`]: results by key, which threads share.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Results by key. A full cache begins anew, so that a hostile fleet does not fill the memory.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    /// Maximum number of results.
    limit: usize,
    results: Mutex<HashMap<K, Arc<V>>>,
}

impl<K: Eq + Hash, V> Cache<K, V> {
    /// Returns an empty cache for up to this number of results.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            results: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.lock().get(key).cloned()
    }

    pub(crate) fn insert(&self, key: K, result: Arc<V>) {
        let mut results = self.lock();
        if results.len() >= self.limit {
            results.clear();
        }
        results.insert(key, result);
    }

    /// Locks the results. A panic of another thread leaves complete ones.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<V>>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}
