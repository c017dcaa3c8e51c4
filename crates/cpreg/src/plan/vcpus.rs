//! [`VcpuSet`]: a set of vCPU numbers.

use alloc::vec::Vec;
use core::fmt;

/// Set of vCPU numbers, stored as ranges because VMs can have hundreds of vCPUs that mostly agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuSet {
    /// First and last number of each range, both included. Ranges ascend and neither touch nor
    /// overlap.
    ranges: Vec<(usize, usize)>,
}

impl VcpuSet {
    /// Returns the set of one vCPU.
    pub fn single(vcpu: usize) -> Self {
        let mut set = Self::default();
        set.insert(vcpu);
        set
    }

    /// Adds a vCPU.
    pub fn insert(&mut self, vcpu: usize) {
        // vCPUs usually arrive in ascending order.
        if let Some(last) = self.ranges.last_mut()
            && last.1 + 1 == vcpu
        {
            last.1 = vcpu;
            return;
        }
        let index = self.ranges.partition_point(|range| range.1 < vcpu);
        if self.ranges.get(index).is_some_and(|range| range.0 <= vcpu) {
            return;
        }
        let joins_left = index > 0 && self.ranges[index - 1].1 + 1 == vcpu;
        let joins_right = self
            .ranges
            .get(index)
            .is_some_and(|range| range.0 == vcpu + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[index - 1].1 = self.ranges[index].1;
                self.ranges.remove(index);
            }
            (true, false) => self.ranges[index - 1].1 = vcpu,
            (false, true) => self.ranges[index].0 = vcpu,
            (false, false) => self.ranges.insert(index, (vcpu, vcpu)),
        }
    }

    /// Returns `true` if the vCPU is in the set.
    pub fn contains(&self, vcpu: usize) -> bool {
        let index = self.ranges.partition_point(|range| range.1 < vcpu);
        self.ranges.get(index).is_some_and(|range| range.0 <= vcpu)
    }

    /// Iterates over the vCPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl FromIterator<usize> for VcpuSet {
    fn from_iter<T: IntoIterator<Item = usize>>(vcpus: T) -> Self {
        let mut set = Self::default();
        vcpus.into_iter().for_each(|vcpu| set.insert(vcpu));
        set
    }
}

impl fmt::Display for VcpuSet {
    /// Formats the set as `0-3,5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn adjacent_vcpus_join_into_ranges() {
        let set: VcpuSet = [5, 0, 2, 1, 3, 5].into_iter().collect();
        assert_eq!(set.to_string(), "0-3,5");
        assert!(set.contains(2) && !set.contains(4));
    }

    proptest! {
        #[test]
        fn iterates_over_its_members(members in prop::collection::btree_set(0usize..40, 0..30)) {
            let set: VcpuSet = members.iter().rev().copied().collect();
            prop_assert!(set.iter().eq(members.iter().copied()));
        }
    }
}
