//! The values that KVM accepts; the table is in [`super`].

use super::acceptance::{Acceptance, Acceptor};
use crate::destination::kernel::{self, PSCI_VERSIONS, RegisterKind};
use crate::destination::{
    AcceptedValues, Confidence, DestinationRegister, DestinationVcpu, ValueOrigin,
};
use crate::register::{Field, FieldDifference, RegisterId, Value, differing_fields};

/// Evaluates whether KVM accepts a value that was not observed on the host.
pub(super) fn evaluate(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
    value: &Value,
) -> Acceptance {
    let kind = RegisterKind::from_id(register.id);
    match kind {
        RegisterKind::Storage | RegisterKind::Counter => return Acceptance::INFERRED_TAKEN,
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
            evaluate_id_register(register, own, value)
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

fn evaluate_id_register(register: &DestinationRegister, own: u64, value: u64) -> Acceptance {
    match register.accepted_values {
        AcceptedValues::Writable(mask)
            if (value ^ own) & !mask & !dropped_bits(register.id) != 0 =>
        {
            Acceptance::Refused(Confidence::Proven)
        }
        AcceptedValues::Writable(mask) if (value ^ own) & !mask != 0 => Acceptance::Unknown,
        AcceptedValues::Writable(_) if is_below_floor(register.id, own, value) => {
            Acceptance::INFERRED_REFUSED
        }
        // KVM decides about each field within the mask. KVM accepts no more than the host has, and
        // a lower field certainly is no more.
        AcceptedValues::Writable(_) if has_only_lowered_fields(register.id, own, value) => {
            Acceptance::INFERRED_TAKEN
        }
        _ => Acceptance::Unknown,
    }
}

/// Returns bits that no writable mask allows, but that KVM accepts and drops if they equal the
/// CPU's.
///
/// Older kernels showed these bits to guests by mistake (`set_id_aa64mmfr2_el1` and similar
/// functions in Linux `arch/arm64/kvm/sys_regs.c`). A recording of KVM does not contain the CPU's
/// own bits.
fn dropped_bits(id: RegisterId) -> u64 {
    match id {
        // NV.
        RegisterId::ID_AA64MMFR2_EL1 => 0xf << 24,
        // MPAM, since v6.13 (6685f5d572c2).
        RegisterId::ID_AA64PFR0_EL1 => 0xf << 40,
        // MPAM_frac, since v6.13 (6685f5d572c2).
        RegisterId::ID_AA64PFR1_EL1 => 0xf << 16,
        _ => 0,
    }
}

/// Returns `true` if every changed field promises less.
fn has_only_lowered_fields(id: RegisterId, own: u64, value: u64) -> bool {
    differing_fields(id, own, value).all(|difference| is_lowering(&difference))
}

/// Returns `true` if a change of an ID register's field certainly promises less.
///
/// Within a writable mask KVM lets user space make such changes.
pub(super) fn is_lowering(difference: &FieldDifference) -> bool {
    let FieldDifference { field, from, to } = *difference;
    let has_order = has_order(field);
    // KVM lets user space remove the PMU only for some vCPUs, depending on their features. Newer
    // kernels do not let user space change the exception levels.
    let must_stay = ["PMUVer", "PerfMon", "EL0", "EL1", "EL2"].contains(&field.name())
        && matches!(to, 0 | 8..=0xf);
    has_order && !must_stay && field.rank(to) < field.rank(from)
}

/// Returns `true` if the debug architecture changes to a version before Armv8, or AArch32's PMU to
/// a version before PMUv3.
///
/// KVM refuses both, even if the writable mask allows them (observed from v6.12 on).
fn is_below_floor(id: RegisterId, own: u64, value: u64) -> bool {
    const ARMV8: u64 = 6;
    const PMUV3: u64 = 3;
    let has_debug_version = matches!(id, RegisterId::ID_AA64DFR0_EL1 | RegisterId::ID_DFR0_EL1);
    let pmu_version = |value: u64| value >> 24 & 0xf;
    let is_old_pmu = id == RegisterId::ID_DFR0_EL1
        && pmu_version(value) != pmu_version(own)
        && (1..PMUV3).contains(&pmu_version(value));
    is_old_pmu || has_debug_version && value & 0xf != own & 0xf && value & 0xf < ARMV8
}

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
