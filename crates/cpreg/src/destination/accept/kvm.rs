//! The values that KVM accepts; the table is in [`super`].

use super::acceptance::{Acceptance, Acceptor};
use super::id_register;
use crate::destination::kernel::{self, PSCI_VERSIONS, RegisterKind};
use crate::destination::{DestinationRegister, DestinationVcpu, ValueOrigin};
use crate::register::{Field, RegisterId, Value};

/// Evaluates whether KVM accepts a value that was not observed on the host.
pub(super) fn evaluate(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
    value: &Value,
) -> Acceptance {
    let kind = RegisterKind::from_id(register.id);
    match kind {
        kind if kind.accepts_every_value() => return Acceptance::INFERRED_TAKEN,
        RegisterKind::VectorLengths | RegisterKind::Unknown => return Acceptance::Unknown,
        RegisterKind::Implementation => return Acceptance::INFERRED_REFUSED,
        RegisterKind::CacheLevels if kernel::is_cache_geometry_writable(destination_vcpu) => {
            return value.as_u64().map_or(Acceptance::Unknown, |value| {
                evaluate_cache_levels(destination_vcpu, value)
            });
        }
        RegisterKind::CacheLevels => return Acceptance::INFERRED_REFUSED,
        _ => {}
    }
    let (Some(value), Some(own)) = (
        value.as_u64(),
        register.value.as_ref().and_then(Value::as_u64),
    ) else {
        return Acceptance::Unknown;
    };
    // The recorded value of an emulated host is the maximum of its kernel.
    let is_maximum = acceptor.value_origin == Some(ValueOrigin::EmulatedHost);
    match kind {
        RegisterKind::Identification | RegisterKind::CacheType => {
            id_register::evaluate(acceptor, destination_vcpu, register, own, value)
        }
        RegisterKind::CacheSize(slot) => evaluate_cache_size(destination_vcpu, slot, value),
        RegisterKind::LockStatus => Acceptance::new_inferred((value ^ own) & !OSLSR_OSLK == 0),
        RegisterKind::PmuModel => Acceptance::new_inferred(value == 0),
        RegisterKind::PsciVersion if PSCI_VERSIONS.contains(&value) && value < own => {
            Acceptance::INFERRED_TAKEN
        }
        RegisterKind::PsciVersion if is_maximum && value > own => Acceptance::INFERRED_REFUSED,
        RegisterKind::Workaround(2) => evaluate_workaround_2(destination_vcpu, own, value),
        RegisterKind::Workaround(_) => Acceptance::new_inferred(value <= own),
        RegisterKind::FirmwareBitmap(_) if value & !own == 0 => Acceptance::INFERRED_TAKEN,
        RegisterKind::FirmwareBitmap(0..=2) if is_maximum => Acceptance::INFERRED_REFUSED,
        _ => Acceptance::Unknown,
    }
}

/// Evaluates a value of KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2.
///
/// KVM has two levels, not available (0) and not required (3). KVM treats 1 (unknown) as 0, and 2
/// (available) as 3, and accepts no more than the host's level (`kvm_arm_set_fw_reg` in Linux
/// `arch/arm64/kvm/hypercalls.c`, since v5.10). Every recorded host with level 0 accepts 1, and
/// then reads 0.
fn evaluate_workaround_2(destination_vcpu: &DestinationVcpu, own: u64, value: u64) -> Acceptance {
    // Only with level 2.
    const ENABLED: u64 = 1 << 4;
    const SSBS: u64 = 0xf << 4;
    if value > 3 && value != ENABLED | 2 {
        return Acceptance::INFERRED_REFUSED;
    }
    let has_ssbs = || {
        let pfr1 = destination_vcpu.value(RegisterId::ID_AA64PFR1_EL1);
        pfr1.is_none_or(|pfr1| pfr1 & SSBS != 0)
    };
    if value <= 1 || own >= 2 {
        Acceptance::INFERRED_TAKEN
    } else if has_ssbs() {
        // The level may be 0 only because the guest has SSBS.
        Acceptance::Unknown
    } else {
        Acceptance::INFERRED_REFUSED
    }
}

/// Bit OSLSR_EL1.OSLK, the only one that user space may change (d42e26716d03).
const OSLSR_OSLK: u64 = 1 << 1;

/// Returns `true` if lower values of an ID register's field promise less.
pub(super) fn has_order(field: Field) -> bool {
    !UNORDERED_FIELDS.contains(&field.name())
}

/// Fields whose lower values do not promise less; see [`crate::register::field`].
const UNORDERED_FIELDS: [&str; 8] = [
    "TGran4_2",
    "TGran16_2",
    "TGran64_2",
    "SpecSEI",
    "BC",
    "L1Ip",
    "CWG",
    "ERG",
];

/// Evaluates a value of CLIDR_EL1, since v6.3.
///
/// KVM accepts any levels, except those that let the guest omit cleaning that the host needs.
/// Without CTR_EL0.IDC a level of coherence and one of unification are required (7af0c2534f4c).
fn evaluate_cache_levels(destination_vcpu: &DestinationVcpu, value: u64) -> Acceptance {
    const CLIDR_RES0: u64 = !0 << 47;
    match destination_vcpu.value(RegisterId::CTR_EL0) {
        _ if value & CLIDR_RES0 != 0 => Acceptance::INFERRED_REFUSED,
        _ if !kernel::clidr_implies_idc(value) => Acceptance::INFERRED_TAKEN,
        Some(ctr) => Acceptance::new_inferred(ctr & kernel::CTR_IDC != 0),
        None => Acceptance::Unknown,
    }
}

/// Evaluates a value of a CCSIDR_EL1 slot, since v6.3.
///
/// KVM accepts any geometry whose lines are no shorter than CTR_EL0 says.
fn evaluate_cache_size(destination_vcpu: &DestinationVcpu, slot: u8, value: u64) -> Acceptance {
    if !kernel::is_cache_geometry_writable(destination_vcpu) {
        return Acceptance::INFERRED_REFUSED;
    }
    let Some(ctr) = destination_vcpu.value(RegisterId::CTR_EL0) else {
        return Acceptance::Unknown;
    };
    // CCSIDR_EL1.LineSize counts from 16-byte lines, CTR_EL0's from 4-byte words.
    let line_size = (value & 7) + 4;
    let is_instruction_cache = slot & 1 == 1;
    let min_line_size = (if is_instruction_cache { ctr } else { ctr >> 16 } & 0xf) + 2;
    if line_size >= min_line_size {
        Acceptance::INFERRED_TAKEN
    } else {
        Acceptance::Unknown
    }
}
