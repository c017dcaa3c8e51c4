//! The values that a destination accepts for its registers, and the confidence in each answer.
//!
//! KVM accepts:
//! - Any register: its current value, because the register already holds the value.
//! - Plain storage and counters: any value.
//! - ID registers: the values of each field that trials showed. Without trials, each writable field
//!   up to its limit, by its type; see `id_register.rs`.
//! - MIDR_EL1, REVIDR_EL1, AIDR_EL1: only the host's own value, unless the loader enables the
//!   capability (QEMU does not).
//! - CLIDR_EL1, CCSIDR_EL1: up to v6.2 only the host's own value; since v6.3 any value that agrees
//!   with the host's CTR_EL0.
//! - OSLSR_EL1: the host's own value with another OSLK.
//! - PMMIR_EL1: zero.
//! - PSCI_VERSION: any lower version that exists. A host whose vCPU no program had configured
//!   refuses a higher version. On other hosts the answer for a higher version is unknown, because
//!   the VM may have a lower version than the kernel.
//! - KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_n: at most the host's level. For n = 2, 1 counts as 0 and 2
//!   as 3.
//! - Firmware bitmaps: any subset of the observed bits. Other bits are as for PSCI_VERSION, except
//!   in KVM_REG_ARM_VENDOR_HYP_BMAP_2, which is 0 until it is set.
//!
//! Sources are those of [`super::kernel`]. [`tcg`] has the values that TCG accepts. [`crate::plan`]
//! decides about values that the destination refuses.

mod acceptance;
mod id_fields;
mod id_register;
mod id_rule;
mod kvm;
mod nearest;
pub mod tcg;

pub use acceptance::{Acceptance, Acceptor};
pub(crate) use id_register::may_ignore_writes;
pub use id_register::special_rule_names;
pub(crate) use nearest::nearest_value;

use super::kernel::RegisterKind;
use super::{
    Accelerator, AcceptedValues, Confidence, Destination, DestinationRegister, DestinationVcpu,
    ValueOrigin,
};
use crate::register::{RegisterId, Value};

impl Destination {
    /// Returns the part of the destination that decides whether a value is accepted.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor {
            accelerator: self.accelerator,
            loader: self.loader,
            kernel_version: self.kernel_version,
            value_origin: Some(self.value_origin),
        }
    }
}

impl Acceptor {
    /// Evaluates whether `value` is accepted for a register of the destination's vCPU.
    pub fn evaluate(
        self,
        destination_vcpu: &DestinationVcpu,
        register: &DestinationRegister,
        value: &Value,
    ) -> Acceptance {
        let limit = self
            .value_origin
            .map_or(Confidence::Proven, ValueOrigin::max_confidence);
        match self.evaluate_uncapped(destination_vcpu, register, value) {
            Acceptance::Taken(confidence) => Acceptance::Taken(confidence.min(limit)),
            Acceptance::Refused(confidence) => Acceptance::Refused(confidence.min(limit)),
            Acceptance::Unknown => Acceptance::Unknown,
        }
    }

    /// Returns the value that a register reads after an accepted write of `value`, if KVM replaces
    /// a part of `value`.
    pub fn replaced_value(
        self,
        destination_vcpu: &DestinationVcpu,
        register: &DestinationRegister,
        value: u64,
    ) -> Option<u64> {
        // A write of the recorded value replaces nothing.
        if register.value == Some(Value::U64(value)) {
            return None;
        }
        let tried = register.replaced_value(value);
        if tried.is_some() || self.accelerator != Some(Accelerator::Kvm) {
            return tried;
        }
        match RegisterKind::from_id(register.id) {
            RegisterKind::Identification => {
                id_register::replaced_value(self, destination_vcpu, register, value)
            }
            _ => None,
        }
    }

    fn evaluate_uncapped(
        self,
        destination_vcpu: &DestinationVcpu,
        register: &DestinationRegister,
        value: &Value,
    ) -> Acceptance {
        if value.is_unknown() {
            return match (self.accelerator, RegisterKind::from_id(register.id)) {
                (
                    Some(Accelerator::Kvm | Accelerator::Hvf) | None,
                    RegisterKind::Storage | RegisterKind::Counter,
                ) => Acceptance::INFERRED_TAKEN,
                _ => Acceptance::Unknown,
            };
        }
        if self.accelerator == Some(Accelerator::Tcg)
            && tcg::lacks_fixed_bits(self, register.id, value)
        {
            return Acceptance::INFERRED_REFUSED;
        }
        if let Some(acceptance) = evaluate_recorded(register, value) {
            return acceptance;
        }
        if !fits(register.id, value) {
            // The program truncates the value, refuses the write or reads back another value.
            return Acceptance::Unknown;
        }
        match self.accelerator {
            Some(Accelerator::Tcg) => tcg::evaluate(self, destination_vcpu, register, value),
            Some(Accelerator::Kvm) => kvm::evaluate(self, destination_vcpu, register, value),
            Some(Accelerator::Hvf) | None => match RegisterKind::from_id(register.id) {
                RegisterKind::Storage => Acceptance::INFERRED_TAKEN,
                // QEMU compares the value with its own (`write_list_to_cpustate`).
                RegisterKind::Identification
                    if self.accelerator == Some(Accelerator::Hvf) && register.value.is_some() =>
                {
                    Acceptance::INFERRED_REFUSED
                }
                _ => Acceptance::Unknown,
            },
        }
    }
}

/// Returns `true` if the value has no more bits than the register.
fn fits(id: RegisterId, value: &Value) -> bool {
    match (value, id.size_bytes()) {
        (Value::U64(value), Some(size @ 0..8)) => value >> (8 * size) == 0,
        _ => true,
    }
}

/// Evaluates a value by observations of the register itself, independent of its kind.
fn evaluate_recorded(register: &DestinationRegister, value: &Value) -> Option<Acceptance> {
    if register.value.as_ref() == Some(value) {
        return Some(Acceptance::Taken(Confidence::Proven));
    }
    let number = value.as_u64();
    let is_accepted = match &register.accepted_values {
        AcceptedValues::OneOf(values) => number.is_some_and(|value| values.contains(&value)),
        AcceptedValues::Subset(bits) => number.is_some_and(|value| value & !bits == 0),
        AcceptedValues::Fields(fields) => {
            let own = register.value.as_ref()?.as_u64()?;
            number.is_some_and(|value| fields.value_after_write(own, value).is_some())
        }
        AcceptedValues::ByKind | AcceptedValues::Writable(_) => return None,
    };
    Some(if is_accepted {
        Acceptance::Taken(Confidence::Proven)
    } else {
        Acceptance::Refused(Confidence::Proven)
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::destination::{AcceptedField, AcceptedFields, DroppedValues};

    fn evaluate(id: RegisterId, own: u64, mask: Option<u64>, value: u64) -> Acceptance {
        let register = DestinationRegister {
            id,
            value: Some(Value::U64(own)),
            accepted_values: mask.map_or(AcceptedValues::ByKind, AcceptedValues::Writable),
        };
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            kernel_version: None,
            value_origin: Some(ValueOrigin::EmulatedHost),
        };
        acceptor.evaluate(&DestinationVcpu::default(), &register, &Value::U64(value))
    }

    #[test]
    fn a_value_that_is_not_known_is_accepted_only_by_storage() {
        let evaluate = |id| {
            let register = DestinationRegister {
                id,
                value: Some(Value::U64(1)),
                accepted_values: AcceptedValues::ByKind,
            };
            let acceptor = Acceptor {
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                kernel_version: None,
                value_origin: Some(ValueOrigin::Reset),
            };
            acceptor.evaluate(&DestinationVcpu::default(), &register, &Value::unknown())
        };
        assert_eq!(evaluate(RegisterId::SCTLR_EL1), Acceptance::INFERRED_TAKEN);
        assert_eq!(evaluate(RegisterId::TIMER_CNT), Acceptance::INFERRED_TAKEN);
        for id in [
            RegisterId::MIDR_EL1,
            RegisterId::ID_AA64PFR0_EL1,
            RegisterId::PSCI_VERSION,
            RegisterId::CLIDR_EL1,
        ] {
            assert_eq!(evaluate(id), Acceptance::Unknown, "{id}");
        }
    }

    #[test]
    fn observed_values_are_proven_except_on_an_emulated_host() {
        let register = DestinationRegister {
            id: RegisterId::VENDOR_HYP_BMAP_2,
            value: Some(Value::U64(0)),
            accepted_values: AcceptedValues::Subset(0b11),
        };
        let evaluate = |value_origin, value| {
            let acceptor = Acceptor {
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                kernel_version: None,
                value_origin: Some(value_origin),
            };
            acceptor.evaluate(&DestinationVcpu::default(), &register, &Value::U64(value))
        };
        let proven = Acceptance::Taken(Confidence::Proven);
        assert_eq!(evaluate(ValueOrigin::Reset, 0b10), proven);
        assert_eq!(
            evaluate(ValueOrigin::Reset, 0b110),
            Acceptance::Refused(Confidence::Proven)
        );
        assert_eq!(
            evaluate(ValueOrigin::EmulatedHost, 0b11),
            Acceptance::INFERRED_TAKEN
        );
    }

    /// Tried fields leave nothing unknown.
    #[test]
    fn tried_fields_decide_about_every_value() {
        let dropped = DroppedValues {
            reads: 0,
            values: 1 << 1,
        };
        let fields = [
            AcceptedField::new(19, 16, 1 << 0xf | 0b11, Vec::new()),
            AcceptedField::new(43, 40, 1, alloc::vec![dropped]),
        ];
        let fields = AcceptedFields::new(Some(0xf_0000), fields.map(Option::unwrap).to_vec());
        let register = DestinationRegister {
            id: RegisterId::ID_AA64PFR0_EL1,
            value: Some(Value::U64(0x1_0011)),
            accepted_values: AcceptedValues::Fields(alloc::boxed::Box::new(fields.unwrap())),
        };
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            kernel_version: None,
            value_origin: Some(ValueOrigin::Reset),
        };
        let destination_vcpu = DestinationVcpu::new([register.clone()], Vec::new());
        let evaluate = |value| acceptor.evaluate(&destination_vcpu, &register, &Value::U64(value));
        let taken = Acceptance::Taken(Confidence::Proven);
        let refused = Acceptance::Refused(Confidence::Proven);
        for (value, expected) in [
            (0x1_0011, taken),
            (0x0_0011, taken),
            (0xf_0011, taken),
            (0x2_0011, refused),
            (0x1_0021, refused),
            (0x100_0001_0011, taken),
            (0x200_0001_0011, refused),
        ] {
            assert_eq!(evaluate(value), expected, "{value:#x}");
        }
        let replaced = |value| register.replaced_value(value);
        assert_eq!(replaced(0xf_0011), None);
        assert_eq!(replaced(0x100_000f_0011), Some(0xf_0011));
        assert_eq!(replaced(0x2_0011), None);
    }

    /// Recorded hosts that hold 0 accept 1; the other rows are from the kernel's source.
    #[test]
    fn workaround_2_has_two_levels() {
        let level = |ssbs: u64, own, value| {
            let register_with = |id, value| DestinationRegister {
                id,
                value: Some(Value::U64(value)),
                accepted_values: AcceptedValues::ByKind,
            };
            let register = register_with(RegisterId::SMCCC_ARCH_WORKAROUND_2, own);
            let destination_vcpu = DestinationVcpu::new(
                [
                    register.clone(),
                    register_with(RegisterId::ID_AA64PFR1_EL1, ssbs << 4),
                ],
                alloc::vec::Vec::new(),
            );
            let acceptor = Acceptor {
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                kernel_version: None,
                value_origin: Some(ValueOrigin::EmulatedHost),
            };
            acceptor.evaluate(&destination_vcpu, &register, &Value::U64(value))
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
    fn an_unconfigured_host_has_its_maximum() {
        let psci = |value| evaluate(RegisterId::PSCI_VERSION, 0x1_0001, None, value);
        assert_eq!(psci(0x1_0003), Acceptance::INFERRED_REFUSED);
        assert_eq!(psci(0x1_0000), Acceptance::INFERRED_TAKEN);
        // Even its own value is only inferred: a machine of that name may have another.
        assert_eq!(psci(0x1_0001), Acceptance::INFERRED_TAKEN);
        let evaluate_bitmap = |id| evaluate(id, 1, None, 3);
        assert_eq!(
            evaluate_bitmap(RegisterId::STD_BMAP),
            Acceptance::INFERRED_REFUSED
        );
        assert_eq!(
            evaluate_bitmap(RegisterId::VENDOR_HYP_BMAP_2),
            Acceptance::Unknown
        );
    }
}
