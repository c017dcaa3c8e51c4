//! [`Condition`]: when a tolerance holds, judged by the VM's own registers.

use alloc::boxed::Box;

use crate::destination::DestinationVcpu;
use crate::destination::kernel::{self, RegisterKind};
use crate::register::RegisterId;
use crate::vm::{Registers, Vcpu};

/// When a tolerance holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// The register's value under the mask is the expected one.
    Value {
        /// The bits that matter.
        mask: u64,
        /// What they must be.
        expected: u64,
    },
    /// Another register of the same vCPU, under the mask, is as expected, or is not there at all.
    OtherRegister {
        /// That register.
        register: RegisterId,
        /// The bits that matter.
        mask: u64,
        /// What they must be.
        expected: u64,
    },
    /// The guest has not got the feature: the four-bit ID field is zero in the VM's own ID register. Where the
    /// user has the plan take the feature away, the register must be unused besides.
    WithoutFeature {
        /// The ID register.
        register: RegisterId,
        /// The field's name.
        field: &'static str,
        /// Its lowest bit.
        lsb: u8,
        /// When the register is not in use though the feature is there.
        unused: Box<Self>,
    },
    /// The CCSIDR_EL1 slot describes a cache that CLIDR_EL1 has not got.
    NoSuchCache,
    /// The destination has no performance monitors, and all of them in the input hold what they held at reset.
    PmuUnused,
    /// The value differs from the destination's in these bits at most.
    DiffersIn {
        /// The bits that may differ.
        mask: u64,
    },
    /// Two conditions at once.
    And(Box<Self>, Box<Self>),
}

/// What a condition is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The register in question.
    pub id: RegisterId,
    /// What it holds.
    pub value: Option<u64>,
    /// The vCPU as it arrived.
    pub incoming_vcpu: &'a Vcpu,
    /// Its registers as they would be loaded, with what the user decided.
    pub planned_registers: &'a Registers,
    /// The vCPU there.
    pub destination_vcpu: &'a DestinationVcpu,
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self, situation: Context<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::And(one, other) => one.holds(situation) && other.holds(situation),
            Self::Value { mask, expected } => situation
                .value
                .is_some_and(|value| value & mask == *expected),
            Self::OtherRegister {
                register,
                mask,
                expected,
            } => situation
                .planned_registers
                .get_u64(*register)
                .is_none_or(|value| value & mask == *expected),
            Self::WithoutFeature {
                register,
                lsb,
                unused,
                ..
            } => {
                let absent = |registers: &Registers| {
                    registers
                        .get_u64(*register)
                        .is_some_and(|value| value >> lsb & 0xf == 0)
                };
                absent(&situation.incoming_vcpu.registers)
                    || absent(situation.planned_registers) && unused.holds(situation)
            }
            Self::DiffersIn { mask } => situation
                .value
                .zip(situation.destination_vcpu.value(situation.id))
                .is_some_and(|(ours, theirs)| (ours ^ theirs) & !mask == 0),
            Self::NoSuchCache => match RegisterKind::from_id(situation.id) {
                RegisterKind::CacheSize(slot) => situation
                    .planned_registers
                    .get_u64(RegisterId::CLIDR_EL1)
                    .is_some_and(|clidr| !kernel::has_cache(clidr, slot)),
                _ => false,
            },
            Self::PmuUnused => {
                let none_there = !situation
                    .destination_vcpu
                    .registers()
                    .iter()
                    .any(|register| register.id.is_pmu());
                none_there
                    && situation
                        .incoming_vcpu
                        .registers
                        .iter()
                        .filter(|(id, _)| id.is_pmu())
                        .all(|(id, value)| {
                            value
                                .as_u64()
                                .is_some_and(|value| is_pmu_at_reset(id, value))
                        })
            }
        }
    }
}

/// What KVM gives a register whose reset value is architecturally unknown, in full and cut to 32 bits.
pub const RESET_POISON: u64 = 0x1de7_ec7e_dbad_c0de;

/// Whether a register of the performance monitors holds what it held at reset.
fn is_pmu_at_reset(id: RegisterId, value: u64) -> bool {
    if id == RegisterId::PMCR_EL0 {
        // Its other bits identify the CPU or are poison.
        return value & PMCR_CONTROLS == 0;
    }
    value == 0 || value == RESET_POISON || value == RESET_POISON & 0xffff_ffff
}

/// PMCR_EL0.{E, P, X}: 5.10 resets C, D, DP and LP to bits of its poison, so they tell nothing.
const PMCR_CONTROLS: u64 = 0b1_0011;
