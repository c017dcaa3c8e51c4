//! [`Condition`]: the condition of a tolerance, evaluated on the VM's own registers.

use alloc::boxed::Box;
use core::cell::OnceCell;

use crate::destination::DestinationVcpu;
use crate::destination::kernel::{self, RegisterKind};
use crate::register::RegisterId;
use crate::vm::{Registers, Vcpu};

/// Condition of a tolerance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The condition always holds.
    Always,
    /// The register's value under the mask is the expected one.
    Value {
        /// Bits to compare.
        mask: u64,
        /// Expected value of these bits.
        expected: u64,
    },
    /// Another register of the same vCPU is as expected under the mask, or is absent.
    OtherRegister {
        /// The other register.
        register: RegisterId,
        /// Bits to compare.
        mask: u64,
        /// Expected value of these bits.
        expected: u64,
    },
    /// The guest lacks the feature: the four-bit ID field is zero in the VM's own ID register.
    ///
    /// If the guest lacks the feature only by the user's decision, the register must also be
    /// unused.
    WithoutFeature {
        /// ID register with the field.
        register: RegisterId,
        /// Name of the field.
        field: &'static str,
        /// Lowest bit of the field.
        lsb: u8,
        /// Condition under which the register is unused although the guest has the feature.
        unused: Box<Self>,
    },
    /// The CCSIDR_EL1 slot describes a cache that does not exist according to CLIDR_EL1.
    NoSuchCache,
    /// The destination has no PMU, and all PMU registers in the input hold their reset values.
    PmuUnused,
    /// The value differs from the destination's at most in these bits.
    DiffersIn {
        /// Bits that may differ.
        mask: u64,
    },
    /// Both conditions hold.
    And(Box<Self>, Box<Self>),
}

/// Inputs that a condition is evaluated on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Register that the tolerance applies to.
    pub id: RegisterId,
    /// Planned value of the register.
    pub value: Option<u64>,
    /// The incoming vCPU, unchanged.
    pub incoming_vcpu: &'a Vcpu,
    /// The vCPU's registers with the user's changes.
    pub(crate) planned_registers: &'a Registers,
    /// The destination's vCPU.
    pub destination_vcpu: &'a DestinationVcpu,
    /// Result of [`Condition::PmuUnused`], which is the same for all registers of the vCPU.
    pub(crate) is_pmu_unused: &'a OnceCell<bool>,
}

impl Condition {
    /// Returns the first part of the condition that does not hold; `None` if the condition holds.
    pub(crate) fn unmet_part(&self, context: Context<'_>) -> Option<&Self> {
        match self {
            Self::And(one, other) => one
                .unmet_part(context)
                .or_else(|| other.unmet_part(context)),
            _ => (!self.holds(context)).then_some(self),
        }
    }

    /// Returns `true` if registers other than the tolerated one can change the result.
    pub(crate) fn depends_on_other_registers(&self) -> bool {
        match self {
            Self::Always | Self::Value { .. } | Self::DiffersIn { .. } => false,
            Self::And(one, other) => {
                one.depends_on_other_registers() || other.depends_on_other_registers()
            }
            Self::OtherRegister { .. }
            | Self::WithoutFeature { .. }
            | Self::NoSuchCache
            | Self::PmuUnused => true,
        }
    }

    /// Returns `true` if the value of the tolerated register can change the result.
    pub(super) fn depends_on_value(&self) -> bool {
        match self {
            Self::Value { .. } | Self::DiffersIn { .. } => true,
            Self::WithoutFeature { unused, .. } => unused.depends_on_value(),
            Self::And(one, other) => one.depends_on_value() || other.depends_on_value(),
            Self::Always | Self::OtherRegister { .. } | Self::NoSuchCache | Self::PmuUnused => {
                false
            }
        }
    }

    /// Returns a value of the register for which the condition holds, as far as the value decides.
    pub(super) fn example_value(&self) -> u64 {
        match self {
            Self::Value { expected, .. } => *expected,
            Self::And(one, other) => one.example_value() | other.example_value(),
            _ => 0,
        }
    }

    /// Returns `true` if the condition holds.
    pub fn holds(&self, context: Context<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::And(one, other) => one.holds(context) && other.holds(context),
            Self::Value { mask, expected } => {
                context.value.is_some_and(|value| value & mask == *expected)
            }
            Self::OtherRegister {
                register,
                mask,
                expected,
            } => context
                .planned_registers
                .get_u64(*register)
                .is_none_or(|value| value & mask == *expected),
            Self::WithoutFeature {
                register,
                lsb,
                unused,
                ..
            } => {
                let lacks_feature = |registers: &Registers| {
                    registers
                        .get_u64(*register)
                        .is_some_and(|value| value >> lsb & 0xf == 0)
                };
                lacks_feature(&context.incoming_vcpu.registers)
                    || lacks_feature(context.planned_registers) && unused.holds(context)
            }
            Self::DiffersIn { mask } => context
                .value
                .zip(context.destination_vcpu.value(context.id))
                .is_some_and(|(planned, own)| (planned ^ own) & !mask == 0),
            Self::NoSuchCache => match RegisterKind::from_id(context.id) {
                RegisterKind::CacheSize(slot) => context
                    .planned_registers
                    .get_u64(RegisterId::CLIDR_EL1)
                    .is_some_and(|clidr| !kernel::has_cache(clidr, slot)),
                _ => false,
            },
            Self::PmuUnused => *context
                .is_pmu_unused
                .get_or_init(|| is_pmu_unused(context.incoming_vcpu, context.destination_vcpu)),
        }
    }
}

/// Returns `true` if the destination's vCPU has no PMU, and the VM's holds its reset values.
fn is_pmu_unused(incoming_vcpu: &Vcpu, destination_vcpu: &DestinationVcpu) -> bool {
    let mut listed = destination_vcpu.registers().iter();
    let mut incoming = incoming_vcpu.registers.iter().filter(|(id, _)| id.is_pmu());
    !listed.any(|register| register.id.is_pmu())
        && incoming.all(|(id, value)| {
            value
                .as_u64()
                .is_some_and(|value| is_pmu_at_reset(id, value))
        })
}

/// KVM's reset poison: the value that KVM gives a register whose reset value is architecturally
/// UNKNOWN. Registers of 32 bits hold the low half.
pub const RESET_POISON: u64 = 0x1de7_ec7e_dbad_c0de;

/// Returns `true` if a PMU register holds its reset value.
pub(crate) fn is_pmu_at_reset(id: RegisterId, value: u64) -> bool {
    if id == RegisterId::PMCR_EL0 {
        // The other bits identify the CPU or are poison.
        return value & PMCR_CONTROLS == 0;
    }
    value == 0 || value == RESET_POISON || value == RESET_POISON & 0xffff_ffff
}

/// Mask of PMCR_EL0.{E, P, X}. 5.10 resets C, D, DP and LP to bits of its poison, so they carry no
/// information.
const PMCR_CONTROLS: u64 = 0b1_0011;
