//! Whether a destination would take a value for a register that it lists, and how that is known.
//!
//! | register | KVM takes |
//! |---|---|
//! | any, its own value | always; the same value has been there |
//! | plain storage, counters | anything |
//! | ID registers | nothing that a writable mask forbids, and what changes within it only to lower fields; unknown without one |
//! | MIDR_EL1, REVIDR_EL1, AIDR_EL1 | only its own, for a loader that does not ask for more (QEMU does not) |
//! | CLIDR_EL1, CCSIDR_EL1 | up to v6.2 only its own; since v6.3 any that agrees with the host's CTR_EL0 |
//! | OSLSR_EL1 | its own with another OSLK |
//! | PMMIR_EL1 | zero |
//! | PSCI_VERSION | any lower version that exists; a higher one is refused by a host whose vCPU nobody had configured, else unknown: the VM may have been given a lower one than the kernel has |
//! | KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_n | no more than the host's own level; of the second one 1 counts as 0 and 2 as 3 |
//! | firmware bitmaps | any subset of what was seen there; others as for PSCI_VERSION, but KVM_REG_ARM_VENDOR_HYP_BMAP_2, which is 0 until it is set |
//!
//! Sources: as for [`super::kernel`]. What TCG takes: [`tcg`]. What is done about a value that is not taken: [`crate::plan`].

mod acceptance;
mod kvm;
mod nearest;
pub mod tcg;

pub use acceptance::{Acceptance, Acceptor};
pub(crate) use nearest::nearest_value;

use super::kernel::RegisterKind;
use super::{
    Accelerator, AcceptedValues, Confidence, Destination, DestinationRegister, DestinationVcpu,
    ValueOrigin,
};
use crate::register::{RegisterId, Value};

impl Destination {
    /// Who would take a value here.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor {
            accelerator: self.accelerator,
            loader: self.loader,
            value_origin: Some(self.value_origin),
        }
    }
}

impl Acceptor {
    /// Whether `value` is taken for a register of the vCPU `host`.
    pub fn evaluate(
        self,
        host: &DestinationVcpu,
        register: &DestinationRegister,
        value: &Value,
    ) -> Acceptance {
        let limit = self
            .value_origin
            .map_or(Confidence::Proven, ValueOrigin::max_confidence);
        match self.evaluate_uncapped(host, register, value) {
            Acceptance::Taken(knowledge) => Acceptance::Taken(knowledge.min(limit)),
            Acceptance::Refused(knowledge) => Acceptance::Refused(knowledge.min(limit)),
            Acceptance::Unknown => Acceptance::Unknown,
        }
    }

    fn evaluate_uncapped(
        self,
        host: &DestinationVcpu,
        register: &DestinationRegister,
        value: &Value,
    ) -> Acceptance {
        if self.accelerator == Some(Accelerator::Tcg)
            && tcg::lacks_fixed_bits(self, register.id, value)
        {
            return Acceptance::INFERRED_REFUSED;
        }
        if let Some(answer) = evaluate_recorded(register, value) {
            return answer;
        }
        if !fits(register.id, value) {
            // Cut off, refused or read back differently, as the program has it.
            return Acceptance::Unknown;
        }
        match self.accelerator {
            Some(Accelerator::Tcg) => tcg::evaluate(self, host, register, value),
            Some(Accelerator::Kvm) => kvm::evaluate(self, host, register, value),
            Some(Accelerator::Hvf) | None => match RegisterKind::from_id(register.id) {
                RegisterKind::Storage => Acceptance::INFERRED_TAKEN,
                _ => Acceptance::Unknown,
            },
        }
    }
}

/// Whether the value has no more bits than the register.
fn fits(id: RegisterId, value: &Value) -> bool {
    match (value, id.size_bytes()) {
        (Value::U64(value), Some(size @ 0..8)) => value >> (8 * size) == 0,
        _ => true,
    }
}

/// What has been seen of that register itself, whatever its kind.
fn evaluate_recorded(register: &DestinationRegister, value: &Value) -> Option<Acceptance> {
    if register.value.as_ref() == Some(value) {
        return Some(Acceptance::Taken(Confidence::Proven));
    }
    let number = value.as_u64();
    let taken = match &register.accepted_values {
        AcceptedValues::OneOf(values) => number.is_some_and(|value| values.contains(&value)),
        AcceptedValues::Subset(bits) => number.is_some_and(|value| value & !bits == 0),
        AcceptedValues::ByKind | AcceptedValues::Writable(_) => return None,
    };
    Some(if taken {
        Acceptance::Taken(Confidence::Proven)
    } else {
        Acceptance::Refused(Confidence::Proven)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: RegisterId, own: u64, mask: Option<u64>, value: u64) -> Acceptance {
        let register = DestinationRegister {
            id,
            value: Some(Value::U64(own)),
            accepted_values: mask.map_or(AcceptedValues::ByKind, AcceptedValues::Writable),
        };
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            value_origin: Some(ValueOrigin::EmulatedHost),
        };
        acceptor.evaluate(&DestinationVcpu::default(), &register, &Value::U64(value))
    }

    /// What recorded kernels did with values for ID registers of which they told the mask.
    #[test]
    fn a_mask_tells_what_is_refused_and_ranks_what_is_taken() {
        let pfr0 = |value| answer(RegisterId::ID_AA64PFR0_EL1, 0x11, Some(!0 << 16), value);
        assert_eq!(pfr0(0x10), Acceptance::INFERRED_REFUSED);
        assert_eq!(pfr0(0x11 | 1 << 40), Acceptance::Unknown);
        // 0xf of a signed field is less than 0, not more.
        let fp = |own, value| answer(RegisterId::ID_AA64PFR0_EL1, own, Some(!0), value);
        assert_eq!(fp(0x11_0011, 0xff_0011), Acceptance::INFERRED_TAKEN);
        assert_eq!(fp(0xff_0011, 0x11_0011), Acceptance::Unknown);
        let tgran = |value| answer(RegisterId::ID_AA64MMFR0_EL1, 2 << 32, Some(!0), value);
        assert_eq!(tgran(1 << 32), Acceptance::Unknown);
        let nv = |value| answer(RegisterId::ID_AA64MMFR2_EL1, 0x10, Some(0xff), value);
        assert_eq!(nv(0x200_0010), Acceptance::Unknown);
    }

    #[test]
    fn debug_before_armv8_is_refused() {
        let debug = |value| answer(RegisterId::ID_DFR0_EL1, 0x600_000a, Some(!0), value);
        assert_eq!(debug(0), Acceptance::INFERRED_REFUSED);
        assert_eq!(debug(0x600_0006), Acceptance::INFERRED_TAKEN);
        assert_eq!(debug(0x300_000a), Acceptance::INFERRED_TAKEN);
        assert_eq!(debug(0x100_000a), Acceptance::INFERRED_REFUSED);
        assert_eq!(debug(0xa), Acceptance::Unknown);
    }

    #[test]
    fn what_was_tried_is_proven_but_for_an_emulated_host() {
        let register = DestinationRegister {
            id: RegisterId::VENDOR_HYP_BMAP_2,
            value: Some(Value::U64(0)),
            accepted_values: AcceptedValues::Subset(0b11),
        };
        let answer = |values, value| {
            let acceptor = Acceptor {
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                value_origin: Some(values),
            };
            acceptor.evaluate(&DestinationVcpu::default(), &register, &Value::U64(value))
        };
        let proven = Acceptance::Taken(Confidence::Proven);
        assert_eq!(answer(ValueOrigin::Reset, 0b10), proven);
        assert_eq!(
            answer(ValueOrigin::Reset, 0b110),
            Acceptance::Refused(Confidence::Proven)
        );
        assert_eq!(
            answer(ValueOrigin::EmulatedHost, 0b11),
            Acceptance::INFERRED_TAKEN
        );
    }

    /// All recorded hosts take 1 where they hold 0; the others are the kernel's source's.
    #[test]
    fn the_second_mitigation_has_two_levels() {
        let level = |ssbs: u64, own, value| {
            let there = |id, value| DestinationRegister {
                id,
                value: Some(Value::U64(value)),
                accepted_values: AcceptedValues::ByKind,
            };
            let register = there(RegisterId::SMCCC_ARCH_WORKAROUND_2, own);
            let host = DestinationVcpu::new(
                [
                    register.clone(),
                    there(RegisterId::ID_AA64PFR1_EL1, ssbs << 4),
                ],
                alloc::vec::Vec::new(),
            );
            let acceptor = Acceptor {
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                value_origin: Some(ValueOrigin::EmulatedHost),
            };
            acceptor.evaluate(&host, &register, &Value::U64(value))
        };
        assert_eq!(level(0, 0, 1), Acceptance::INFERRED_TAKEN);
        for value in [2, 3, 0x12] {
            assert_eq!(level(0, 0, value), Acceptance::INFERRED_REFUSED);
            assert_eq!(level(2, 0, value), Acceptance::Unknown);
            assert_eq!(level(0, 3, value), Acceptance::INFERRED_TAKEN);
        }
        for value in [4, 0x10, 0x13, !0] {
            assert_eq!(level(0, 3, value), Acceptance::INFERRED_REFUSED);
        }
    }

    #[test]
    fn a_host_that_nobody_configured_has_its_most() {
        let psci = |value| answer(RegisterId::PSCI_VERSION, 0x1_0001, None, value);
        assert_eq!(psci(0x1_0003), Acceptance::INFERRED_REFUSED);
        assert_eq!(psci(0x1_0000), Acceptance::INFERRED_TAKEN);
        // Its own as well is inferred only: a machine of that name may have another.
        assert_eq!(psci(0x1_0001), Acceptance::INFERRED_TAKEN);
        let services = |id| answer(id, 1, None, 3);
        assert_eq!(services(RegisterId::STD_BMAP), Acceptance::INFERRED_REFUSED);
        assert_eq!(services(RegisterId::VENDOR_HYP_BMAP_2), Acceptance::Unknown);
    }
}
