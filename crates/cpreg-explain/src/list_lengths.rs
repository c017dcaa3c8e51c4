//! Search for recorded register lists with two given lengths, and the differences of these lists.
//!
//! If a list is too long, QEMU up to 10.2 prints only two lengths: the stream's and its own. The
//! lengths depend on the CPU, on the vCPU's features and on the kernel (under TCG on QEMU).
//! Recorded lists with both lengths suggest kernels and registers. Only a comparison of the two
//! hosts proves them.

use alloc::vec::Vec;

use cpreg::destination::Accelerator;
use cpreg::register::RegisterId;

use crate::recorded_list_lengths::FAMILIES;

/// Recorded lists of one CPU model under one accelerator.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) accelerator: Accelerator,
    pub(super) cpu: &'static str,
    /// Registers that are in some of the lists but not in all, ascending.
    pub(super) varying: &'static [u64],
    pub(super) lists: &'static [List],
}

/// Recorded list.
#[derive(Debug)]
pub(super) struct List {
    /// Kernels (under TCG: QEMU versions) with this list, oldest first.
    pub(super) hosts: &'static [&'static str],
    pub(super) count: u16,
    /// Bit set of the family's varying registers in this list: bit n stands for `varying[n]`.
    pub(super) has: u128,
}

/// Pair of recorded lists: the input's list and the loader's list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pair {
    /// Accelerator of both lists.
    pub accelerator: Accelerator,
    /// CPU of both lists, by its name in the recording.
    pub cpu: &'static str,
    /// Kernels (under TCG: QEMU versions) with the input's list, oldest first.
    pub source_hosts: &'static [&'static str],
    /// Kernels (under TCG: QEMU versions) with the loader's list, oldest first.
    pub destination_hosts: &'static [&'static str],
    /// Lengths of the two lists: first the input's, then the loader's.
    pub lengths: (u16, u16),
    /// Registers that only the source's list has.
    pub source_only: Vec<RegisterId>,
    /// Registers that only the loader's list has.
    pub destination_only: Vec<RegisterId>,
}

impl Pair {
    /// Returns `true` if the lists differ only in the registers of the PMU, which the source has.
    pub fn is_pmu_only(&self) -> bool {
        const MIN_PMU_REGISTERS: usize = 32;
        self.destination_only.is_empty()
            && self.source_only.len() >= MIN_PMU_REGISTERS
            && self.source_only.iter().all(|id| id.is_pmu())
    }
}

/// Returns `true` if a recorded list has this length.
pub fn has_length(length: i64) -> bool {
    FAMILIES
        .iter()
        .flat_map(|it| it.lists)
        .any(|it| i64::from(it.count) == length)
}

/// Returns the CPUs that have lists of both lengths under one accelerator.
pub fn families_with(accelerator: Accelerator, incoming: i64, local: i64) -> Vec<&'static str> {
    let has = |family: &Family, length| family.lists.iter().any(|it| i64::from(it.count) == length);
    FAMILIES
        .iter()
        .filter(|it| it.accelerator == accelerator && has(it, incoming) && has(it, local))
        .map(|it| it.cpu)
        .collect()
}

/// Returns `true` if every recorded list of a VM with a PMU under KVM is longer.
pub fn is_shorter_than_recorded(length: i64) -> bool {
    let has_pmu = |family: &Family, list: &List| {
        let mut varying = family.varying.iter().enumerate();
        varying.any(|(bit, id)| list.has >> bit & 1 == 1 && RegisterId::from_raw(*id).is_pmu())
    };
    let kvm = FAMILIES
        .iter()
        .filter(|it| it.accelerator == Accelerator::Kvm);
    let mut lengths = kvm.flat_map(|family| {
        let lists = family.lists.iter().filter(|list| has_pmu(family, list));
        lists.map(|list| i64::from(list.count))
    });
    lengths.all(|recorded| length < recorded)
}

/// Returns the recorded pairs of lists with the given lengths.
///
/// Under TCG the list is QEMU's own. The destination is then a version that compares lengths: 10.2
/// or earlier.
pub fn pairs(incoming: i64, local: i64) -> Vec<Pair> {
    let mut pairs =
        pairs_where(|from, to| i64::from(from.count) == incoming && i64::from(to.count) == local);
    pairs.retain(|pair| {
        pair.accelerator == Accelerator::Kvm
            || pair
                .destination_hosts
                .iter()
                .any(|qemu| has_length_check(qemu))
    });
    pairs
}

fn has_length_check(qemu: &str) -> bool {
    let major = qemu.split('.').next().and_then(|major| major.parse().ok());
    major.is_some_and(|major: u16| major < 11)
}

/// Returns the recorded pairs of lists with the same difference in length, each difference once,
/// oldest first.
///
/// On a CPU with other caches, breakpoints or features both lengths change, but the difference
/// between two kernels is the same.
pub fn pairs_with_difference(incoming: i64, local: i64) -> Vec<Pair> {
    let difference = incoming.saturating_sub(local);
    let mut pairs = pairs_where(|from, to| {
        i64::from(from.count) - i64::from(to.count) == difference && difference > 0
    });
    let mut seen: Vec<(Vec<RegisterId>, Vec<RegisterId>)> = Vec::new();
    pairs.retain(|pair| {
        let key = (pair.source_only.clone(), pair.destination_only.clone());
        let is_new = !seen.contains(&key);
        if is_new {
            seen.push(key);
        }
        is_new
    });
    pairs
}

fn pairs_where(is_match: impl Fn(&List, &List) -> bool) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for family in FAMILIES {
        for from in family.lists {
            for to in family.lists.iter().filter(|to| is_match(from, to)) {
                pairs.push(pair(family, from, to));
            }
        }
    }
    pairs
}

fn pair(family: &Family, from: &List, to: &List) -> Pair {
    let only_in = |one: &List, other: &List| {
        let bits = one.has & !other.has;
        family
            .varying
            .iter()
            .enumerate()
            .filter(|(bit, _)| bits >> bit & 1 == 1)
            .map(|(_, id)| RegisterId::from_raw(*id))
            .collect()
    };
    Pair {
        accelerator: family.accelerator,
        cpu: family.cpu,
        source_hosts: from.hosts,
        destination_hosts: to.hosts,
        lengths: (from.count, to.count),
        source_only: only_in(from, to),
        destination_only: only_in(to, from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcr2_failure_is_found() {
        let found = pairs(258, 256);
        let kvm: Vec<_> = found
            .iter()
            .filter(|pair| pair.accelerator == Accelerator::Kvm)
            .collect();
        let [pair] = kvm.as_slice() else {
            panic!("{kvm:#?}");
        };
        assert_eq!(
            pair.source_only,
            [
                RegisterId::TCR2_EL1,
                RegisterId::PIRE0_EL1,
                RegisterId::PIR_EL1
            ]
        );
        assert_eq!(pair.destination_only, [RegisterId::VENDOR_HYP_BMAP_2]);
        assert!(pair.source_hosts.contains(&"6.12.107"));
        assert!(pair.destination_hosts.contains(&"6.16.12"));
    }

    #[test]
    fn unrecorded_lengths_are_not_found() {
        assert_eq!(pairs(236, 162), []);
        assert_eq!(pairs(-1, 256), []);
        // From QEMU 10.0 to 11.1, which does not compare lengths.
        assert_eq!(pairs(292, 291), []);
        assert_eq!(pairs_with_difference(5, 5), []);
        assert_eq!(pairs_with_difference(i64::MAX, i64::MIN), []);
    }

    #[test]
    fn lengths_are_judged() {
        assert!(has_length(258) && !has_length(233) && !has_length(232));
        assert!(is_shorter_than_recorded(233));
        assert!(!is_shorter_than_recorded(258));
        assert_eq!(families_with(Accelerator::Tcg, 292, 291), ["neoverse-n1"]);
        assert!(families_with(Accelerator::Kvm, 292, 291).is_empty());
    }

    /// Lengths 236 and 162, reported in 2021 for a host that had not detected its PMU.
    #[test]
    fn difference_is_found_on_another_cpu() {
        let found = pairs_with_difference(236, 162);
        let pair = found.first().expect("a pair");
        assert!(pair.source_only.iter().all(|id| id.is_pmu()));
        assert_eq!(pair.source_only.len(), 74);
    }
}
