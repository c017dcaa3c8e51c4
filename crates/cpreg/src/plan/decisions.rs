//! [`Decisions`]: the decisions about the registers of one vCPU.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Index, IndexMut};
use core::slice;

use super::decision::Decision;
use crate::register::RegisterId;

/// Decisions about the registers of one vCPU, ascending by register.
///
/// The vCPUs of a VM differ in few registers. They share the decisions about the others, so a plan
/// for hundreds of vCPUs takes little more memory than a plan for one.
#[derive(Clone)]
pub struct Decisions {
    /// Decisions that vCPUs have in common.
    common: Arc<Vec<Decision>>,
    /// Decisions of this vCPU in place of the common ones at these positions, ascending.
    overrides: Vec<(usize, Decision)>,
}

impl Decisions {
    /// Returns the number of decisions.
    pub fn len(&self) -> usize {
        self.common.len()
    }

    /// Returns `true` if there is no decision.
    pub fn is_empty(&self) -> bool {
        self.common.is_empty()
    }

    /// Iterates over the decisions, ascending by register.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            common: self.common.iter(),
            overrides: &self.overrides,
            position: 0,
        }
    }

    /// Returns the decision about a register.
    pub fn find(&self, id: RegisterId) -> Option<&Decision> {
        self.position(id).and_then(|position| self.get(position))
    }

    /// Returns the decision about a register, to change it for this vCPU alone.
    pub fn find_mut(&mut self, id: RegisterId) -> Option<&mut Decision> {
        self.position(id).map(|position| &mut self[position])
    }

    /// Returns the position of the decision about a register.
    pub(super) fn position(&self, id: RegisterId) -> Option<usize> {
        // An override is about the same register.
        self.common
            .binary_search_by_key(&id, |decision| decision.register)
            .ok()
    }

    /// Returns the decision at this position.
    pub(super) fn get(&self, position: usize) -> Option<&Decision> {
        match self.find_override(position) {
            Ok(index) => Some(&self.overrides[index].1),
            Err(_) => self.common.get(position),
        }
    }

    /// Returns the decisions as a list that no other vCPU shares.
    pub(super) fn make_mut(&mut self) -> &mut Vec<Decision> {
        let common = Arc::make_mut(&mut self.common);
        for (position, decision) in self.overrides.drain(..) {
            common[position] = decision;
        }
        common
    }

    /// Returns the decisions as a list.
    pub(super) fn into_vec(mut self) -> Vec<Decision> {
        self.make_mut();
        Arc::unwrap_or_clone(self.common)
    }

    /// Applies `update` to all decisions of all vCPUs, which continue to share them.
    pub(super) fn update_all<'d>(
        vcpus: impl Iterator<Item = &'d mut Self>,
        update: impl Fn(&mut Decision),
    ) {
        // Common decisions before and after their update.
        let mut last: Option<[Arc<Vec<Decision>>; 2]> = None;
        for decisions in vcpus {
            match &last {
                Some([old, new]) if Arc::ptr_eq(old, &decisions.common) => {
                    decisions.common = new.clone();
                }
                _ => {
                    let old = decisions.common.clone();
                    let new = Arc::make_mut(&mut decisions.common);
                    new.iter_mut().for_each(&update);
                    last = Some([old, decisions.common.clone()]);
                }
            }
            let overrides = decisions.overrides.iter_mut();
            overrides.for_each(|(_, decision)| update(decision));
        }
    }

    /// Returns the index of the override at this position; the index to insert one as `Err`.
    fn find_override(&self, position: usize) -> Result<usize, usize> {
        self.overrides
            .binary_search_by_key(&position, |(overridden, _)| *overridden)
    }
}

impl From<Vec<Decision>> for Decisions {
    /// Makes the list from decisions in ascending order of their registers.
    fn from(decisions: Vec<Decision>) -> Self {
        Self {
            common: Arc::new(decisions),
            overrides: Vec::new(),
        }
    }
}

impl Index<usize> for Decisions {
    type Output = Decision;

    fn index(&self, position: usize) -> &Decision {
        match self.find_override(position) {
            Ok(index) => &self.overrides[index].1,
            Err(_) => &self.common[position],
        }
    }
}

impl IndexMut<usize> for Decisions {
    /// Returns the decision at this position, to change it for this vCPU alone. The register stays
    /// the same.
    fn index_mut(&mut self, position: usize) -> &mut Decision {
        match self.find_override(position) {
            Ok(index) => &mut self.overrides[index].1,
            Err(index) => {
                // A list without another user needs no copy.
                if Arc::get_mut(&mut self.common).is_some() {
                    return &mut Arc::make_mut(&mut self.common)[position];
                }
                let decision = self.common[position].clone();
                self.overrides.insert(index, (position, decision));
                &mut self.overrides[index].1
            }
        }
    }
}

impl<'d> IntoIterator for &'d Decisions {
    type Item = &'d Decision;
    type IntoIter = Iter<'d>;

    fn into_iter(self) -> Iter<'d> {
        self.iter()
    }
}

impl PartialEq for Decisions {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Decisions {}

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Iterator over [`Decisions`].
#[derive(Clone, Debug)]
pub struct Iter<'d> {
    common: slice::Iter<'d, Decision>,
    overrides: &'d [(usize, Decision)],
    position: usize,
}

impl<'d> Iterator for Iter<'d> {
    type Item = &'d Decision;

    fn next(&mut self) -> Option<&'d Decision> {
        let common = self.common.next()?;
        let position = self.position;
        self.position += 1;
        match self.overrides {
            [(overridden, decision), rest @ ..] if *overridden == position => {
                self.overrides = rest;
                Some(decision)
            }
            _ => Some(common),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.common.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::destination::Confidence;
    use crate::plan::{Action, Reason};
    use crate::register::Value;

    fn decision(id: RegisterId, value: u64) -> Decision {
        Decision {
            register: id,
            source: Some(Value::U64(value)),
            is_listed: true,
            destination: None,
            replaced_value: None,
            action: Action::Copy,
            confidence: Confidence::Inferred,
            reason: Reason::ValueAccepted,
        }
    }

    fn values(decisions: &Decisions) -> Vec<u64> {
        let values = decisions
            .iter()
            .filter_map(|it| it.source.as_ref()?.as_u64());
        values.collect()
    }

    fn decisions() -> Decisions {
        Decisions::from(vec![
            decision(RegisterId::x(0), 10),
            decision(RegisterId::x(1), 11),
            decision(RegisterId::x(2), 12),
        ])
    }

    #[test]
    fn changes_are_those_of_one_vcpu() {
        let mut first = decisions();
        // No other vCPU shares the list yet.
        first[1] = decision(RegisterId::x(1), 13);
        assert!(first.overrides.is_empty());
        let mut second = first.clone();
        second[2] = decision(RegisterId::x(2), 22);
        *second.find_mut(RegisterId::x(0)).unwrap() = decision(RegisterId::x(0), 20);
        second[2].confidence = Confidence::Proven;
        assert_eq!(values(&first), [10, 13, 12]);
        assert_eq!(values(&second), [20, 13, 22]);
        assert_eq!(second.iter().len(), 3);
        assert_eq!(second.find(RegisterId::x(2)), Some(&second[2]));
        assert_eq!(second.get(1), Some(&first[1]));
        assert_eq!((second.get(3), second.find(RegisterId::x(3))), (None, None));
        assert!(Arc::ptr_eq(&first.common, &second.common) && first != second);
        let whole: Vec<_> = second.iter().cloned().collect();
        assert_eq!(second, Decisions::from(whole.clone()));
        assert_eq!(*second.make_mut(), whole);
        assert_eq!(
            (values(&first), values(&second)),
            (vec![10, 13, 12], vec![20, 13, 22])
        );
    }

    #[test]
    fn updates_reach_common_decisions_and_overrides() {
        let first = decisions();
        let mut second = first.clone();
        second[0] = decision(RegisterId::x(0), 20);
        let mut all = [first.clone(), second, decisions()];
        Decisions::update_all(all.iter_mut(), |it| it.confidence = Confidence::Unknown);
        for decisions in &all {
            assert!(
                decisions
                    .iter()
                    .all(|it| it.confidence == Confidence::Unknown)
            );
        }
        assert!(Arc::ptr_eq(&all[0].common, &all[1].common));
        assert!(first.iter().all(|it| it.confidence == Confidence::Inferred));
        assert_eq!(values(&all[1]), [20, 11, 12]);
    }
}
