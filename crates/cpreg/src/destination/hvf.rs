//! The register lists of QEMU under Hypervisor.framework (HVF).
//!
//! QEMU takes the list from a table of its own, not from the host. The table differs from the lists
//! of KVM and TCG, so a list shows that HVF ran the guest. Two versions changed the list:
//!
//! - Up to 9.0, and in the stable releases before 7.2.12 and 8.2.5, ID_AA64PFR1_EL1 is recorded
//!   under the encoding of ID_AA64PFR2_EL1 (commit 19ed42e8adc8). [`crate::tolerance`] has the
//!   entry.
//! - Up to 10.1 the list is not sorted: MDSCR_EL1 follows the ID registers (commit bffe756ea10d).
//!   QEMU loads a list only in the order of its own list.
//!
//! Source: `target/arm/hvf/hvf.c` and `sysreg.c.inc` of QEMU (read). No list of a real Mac was
//! seen.

use crate::register::RegisterId;

/// System registers that KVM and TCG do not list, or not all together. KVM keeps their state among
/// the core registers.
const ONLY_IN_LISTS_OF_HVF: [RegisterId; 4] = [
    RegisterId::sysreg(3, 0, 4, 0, 0),
    RegisterId::sysreg(3, 0, 4, 0, 1),
    RegisterId::sysreg(3, 0, 4, 1, 0),
    RegisterId::sysreg(3, 4, 4, 1, 0),
];

/// System registers that every list of KVM and TCG contains, and no list of HVF.
const NEVER_IN_LISTS_OF_HVF: [RegisterId; 2] =
    [RegisterId::ID_AA64MMFR0_EL1, RegisterId::CLIDR_EL1];

/// MDSCR_EL1, the only register out of order in an unsorted list.
const MOVED: RegisterId = RegisterId::sysreg(2, 0, 0, 2, 2);
/// First register behind the ID registers.
const FIRST_BEHIND_ID_REGISTERS: RegisterId = RegisterId::sysreg(3, 0, 1, 0, 0);

/// Evidence for a list of QEMU under HVF, collected register by register.
#[derive(Default)]
pub(super) struct ListEvidence {
    /// Bits of the registers in [`ONLY_IN_LISTS_OF_HVF`].
    seen: u8,
    is_excluded: bool,
}

impl ListEvidence {
    pub(super) fn note(&mut self, id: RegisterId) {
        let place = ONLY_IN_LISTS_OF_HVF.iter().position(|other| *other == id);
        self.seen |= place.map_or(0, |place| 1 << place);
        // HVF lists AArch64 system registers only.
        self.is_excluded |= id.raw() & !0xffff != RegisterId::MIDR_EL1.raw() & !0xffff
            || NEVER_IN_LISTS_OF_HVF.contains(&id);
    }

    pub(super) const fn is_conclusive(&self) -> bool {
        !self.is_excluded && self.seen == (1 << ONLY_IN_LISTS_OF_HVF.len()) - 1
    }
}

/// Returns `true` if the ids have the order of an unsorted list: ascending, but MDSCR_EL1 follows
/// the ID registers.
pub fn is_unsorted_order(ids: &[RegisterId]) -> bool {
    let Some(place) = ids.iter().position(|id| *id == MOVED) else {
        return false;
    };
    let (front, back) = (&ids[..place], &ids[place + 1..]);
    let is_ascending = |ids: &[RegisterId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
    is_ascending(front)
        && is_ascending(back)
        && front
            .last()
            .is_some_and(|last| MOVED < *last && *last < FIRST_BEHIND_ID_REGISTERS)
        && back
            .first()
            .is_none_or(|first| FIRST_BEHIND_ID_REGISTERS <= *first)
}

/// Brings an ascending list into the order of an unsorted list of HVF.
pub fn unsort<T>(registers: &mut [(RegisterId, T)]) {
    let Some(place) = registers.iter().position(|(id, _)| *id == MOVED) else {
        return;
    };
    let behind = registers
        .iter()
        .position(|(id, _)| FIRST_BEHIND_ID_REGISTERS <= *id)
        .unwrap_or(registers.len());
    if place < behind {
        registers[place..behind].rotate_left(1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::destination::Accelerator;

    /// Returns a list as QEMU has it, in ascending order, with ID_AA64PFR1_EL1 under this id.
    pub(crate) fn list(pfr1: RegisterId) -> Vec<RegisterId> {
        let mut ids: Vec<_> = (0..16)
            .flat_map(|crm| (4..8).map(move |op2| RegisterId::sysreg(2, 0, 0, crm, op2)))
            .collect();
        ids.extend([
            pfr1,
            RegisterId::ID_AA64ISAR0_EL1,
            MOVED,
            RegisterId::SCTLR_EL1,
        ]);
        ids.extend(ONLY_IN_LISTS_OF_HVF);
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_list_identifies_hvf() {
        for id in [RegisterId::ID_AA64PFR1_EL1, RegisterId::ID_AA64PFR2_EL1] {
            let ids = list(id);
            let accelerator = |ids: &[RegisterId]| Accelerator::from_registers(ids.iter().copied());
            assert_eq!(accelerator(&ids), Some(Accelerator::Hvf));
            assert_eq!(accelerator(&ids[..ids.len() - 1]), None);
            let with = |id| [&ids[..], &[id]].concat();
            let accelerator = |id| accelerator(&with(id));
            assert_eq!(
                accelerator(RegisterId::PSCI_VERSION),
                Some(Accelerator::Kvm)
            );
            assert_eq!(accelerator(RegisterId::CLIDR_EL1), None);
            assert_eq!(accelerator(RegisterId::ccsidr(0)), None);
            let aarch32 = RegisterId::from_raw(0x4020_0000_200f_0081);
            assert_eq!(accelerator(aarch32), Some(Accelerator::Tcg));
        }
    }

    #[test]
    fn an_unsorted_list_has_one_register_out_of_order() {
        let sorted = list(RegisterId::ID_AA64PFR1_EL1);
        assert!(!is_unsorted_order(&sorted));
        let mut moved: Vec<_> = sorted.iter().map(|id| (*id, ())).collect();
        unsort(&mut moved);
        let moved: Vec<_> = moved.into_iter().map(|(id, ())| id).collect();
        assert!(is_unsorted_order(&moved));
        let place = moved.iter().position(|id| *id == MOVED).unwrap();
        assert_eq!(moved[place + 1], RegisterId::SCTLR_EL1);
        let mut reversed = moved.clone();
        reversed.swap(0, 1);
        assert!(!is_unsorted_order(&reversed));
        let mut again = moved.clone();
        again.sort_unstable();
        assert_eq!(again, sorted);
    }
}
