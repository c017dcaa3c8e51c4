//! Event counters of the PMU that a host takes away from a running guest.
//!
//! KVM since v6.7 limits PMCR_EL0.N to the host's number of event counters, without an error
//! (`set_pmcr` in its `sys_regs.c`). An access of the guest to a counter that is gone is undefined:
//! Linux gets an exception in its kernel.

use super::DestinationVcpu;
use super::kernel::{self, effective_pmcr, event_counter_count};
use crate::register::RegisterId;
use crate::tolerance::condition::RESET_POISON;
use crate::vm::Registers;

/// Event counter that a guest uses and that the destination does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostCounter {
    /// Number of the lowest such counter, from 0.
    pub counter: u8,
    /// Number of event counters that the guest keeps.
    pub kept_count: u8,
}

/// Returns the lowest event counter in use that the destination takes away, if there is one.
///
/// `registers` are the planned registers of the vCPU.
pub(crate) fn lost_counter(
    registers: &Registers,
    destination_vcpu: &DestinationVcpu,
) -> Option<LostCounter> {
    if kernel::keeps_all_of_pmcr(destination_vcpu) == Some(true) {
        return None;
    }
    let pmcr = registers.get_u64(RegisterId::PMCR_EL0)?;
    let own = destination_vcpu
        .get(RegisterId::PMCR_EL0)?
        .value
        .as_ref()?
        .as_u64()?;
    let kept = event_counter_count(effective_pmcr(pmcr, own));
    let count = event_counter_count(pmcr);
    let counter = (kept..count).find(|counter| is_counter_in_use(registers, *counter, count))?;
    Some(LostCounter {
        counter: u8::try_from(counter).ok()?,
        kept_count: u8::try_from(kept).ok()?,
    })
}

/// Returns `true` if the guest has enabled or configured an event counter, or if it holds a count.
///
/// `count` is the number of the guest's event counters. KVM's reset poison is no sign of use.
fn is_counter_in_use(registers: &Registers, counter: u64, count: u64) -> bool {
    let counters = 1 << 31 | ((1 << count) - 1);
    let is_set = |id| {
        registers.get_u64(id).is_some_and(|value: u64| {
            let is_poison = (value ^ RESET_POISON) & counters == 0;
            value >> counter & 1 != 0 && !is_poison
        })
    };
    let has_type = registers
        .get_u64(numbered(FIRST_EVENT_TYPE, counter))
        .is_some_and(|value| value != 0 && !is_poisoned_event_type(value));
    let has_value = registers
        .get_u64(numbered(FIRST_EVENT_COUNTER, counter))
        .is_some_and(|value| {
            value != 0 && value != RESET_POISON && value != RESET_POISON & 0xffff_ffff
        });
    is_set(RegisterId::PMCNTENSET_EL0)
        || is_set(RegisterId::PMINTENSET_EL1)
        || has_type
        || has_value
}

const FIRST_EVENT_COUNTER: RegisterId = RegisterId::sysreg(3, 3, 14, 8, 0);
const FIRST_EVENT_TYPE: RegisterId = RegisterId::sysreg(3, 3, 14, 12, 0);

/// Returns the register of an event counter, 0 to 30, of a series that begins with `first`.
const fn numbered(first: RegisterId, counter: u64) -> RegisterId {
    RegisterId::from_raw(first.raw() + counter)
}

/// Returns `true` if a value of `PMEVTYPER<n>_EL0` is KVM's reset poison, as the kernel masks it.
///
/// A kernel keeps 10 or 16 bits of the event number (FEAT_PMUv3p1), and some filter bits.
const fn is_poisoned_event_type(value: u64) -> bool {
    let event = value & 0xffff;
    event == RESET_POISON & 0xffff || event == RESET_POISON & 0x3ff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Value;
    use crate::vm::Vcpu;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Returns the counter that a host with four event counters takes from a guest with six.
    fn lost(state: &[(RegisterId, u64)]) -> Option<LostCounter> {
        lost_of(6, 4, state)
    }

    fn lost_of(count: u64, own: u64, state: &[(RegisterId, u64)]) -> Option<LostCounter> {
        let registers = |count: u64, more: &[(RegisterId, u64)]| {
            let mut all = vec![(RegisterId::PMCR_EL0, count << 11)];
            all.extend_from_slice(more);
            let pairs = all.into_iter().map(|(id, value)| (id, Value::U64(value)));
            Registers::from_pairs(pairs.collect::<Vec<_>>()).expect("no id twice")
        };
        let host = registers(
            own,
            &[
                (RegisterId::PTIMER_CTL, 0),
                (RegisterId::VENDOR_HYP_BMAP_2, 0),
            ],
        );
        let host = DestinationVcpu::from_vcpu(&Vcpu {
            registers: host,
            ..Vcpu::default()
        });
        lost_counter(&registers(count, state), &host)
    }

    #[test]
    fn each_sign_of_use_counts() {
        let lost_five = Some(LostCounter {
            counter: 5,
            kept_count: 4,
        });
        for (id, value) in [
            (RegisterId::PMCNTENSET_EL0, 1 << 5),
            (RegisterId::PMINTENSET_EL1, 1 << 5),
            (numbered(FIRST_EVENT_TYPE, 5), 0x11),
            (numbered(FIRST_EVENT_TYPE, 5), 0x8),
            (numbered(FIRST_EVENT_COUNTER, 5), 1),
        ] {
            assert_eq!(lost(&[(id, value)]), lost_five, "{id} {value:#x}");
            // The host has the counter.
            assert_eq!(lost_of(6, 6, &[(id, value)]), None);
            // The guest does not have it.
            assert_eq!(lost_of(5, 4, &[(id, value)]), None);
        }
        let four = lost(&[(RegisterId::PMCNTENSET_EL0, 0b11_0000)]);
        assert_eq!(four.map(|lost| lost.counter), Some(4));
    }

    #[test]
    fn idle_counters_may_go() {
        let counters = 0x8000_003f;
        for value in [0, 0b1111, 1 << 31, RESET_POISON, RESET_POISON & counters] {
            assert_eq!(lost(&[(RegisterId::PMCNTENSET_EL0, value)]), None);
            assert_eq!(lost(&[(RegisterId::PMINTENSET_EL1, value)]), None);
        }
        for value in [0, RESET_POISON, RESET_POISON & 0xffff_ffff] {
            assert_eq!(lost(&[(numbered(FIRST_EVENT_COUNTER, 4), value)]), None);
        }
        for mask in [u64::MAX, 0xffff_ffff, 0xc000_ffff, 0xc800_03ff] {
            let state = [(numbered(FIRST_EVENT_TYPE, 4), RESET_POISON & mask)];
            assert_eq!(lost(&state), None);
        }
        assert_eq!(lost(&[]), None);
    }

    #[test]
    fn kernels_before_6_7_keep_the_number() {
        let pmcr = |count: u64| (RegisterId::PMCR_EL0, count << 11);
        let registers = |pairs: &[(RegisterId, u64)]| {
            let pairs = pairs.iter().map(|(id, value)| (*id, Value::U64(*value)));
            Registers::from_pairs(pairs).expect("no id twice")
        };
        // Without a physical timer in the list the kernel is older than v6.4.
        let host = DestinationVcpu::from_vcpu(&Vcpu {
            registers: registers(&[pmcr(4)]),
            ..Vcpu::default()
        });
        let guest = registers(&[pmcr(6), (RegisterId::PMCNTENSET_EL0, 1 << 5)]);
        assert_eq!(lost_counter(&guest, &host), None);
    }
}
