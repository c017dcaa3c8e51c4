//! What KVM takes; the table is in [`super`].

use super::acceptance::{Acceptance, Acceptor};
use crate::destination::kernel::{self, PSCI_VERSIONS, RegisterKind};
use crate::destination::{
    AcceptedValues, Confidence, DestinationRegister, DestinationVcpu, ValueOrigin,
};
use crate::register::{FieldDifference, RegisterId, Value, differing_fields};

/// Whether KVM takes a value that was not seen there.
pub(super) fn evaluate(
    acceptor: Acceptor,
    host: &DestinationVcpu,
    register: &DestinationRegister,
    value: &Value,
) -> Acceptance {
    let kind = RegisterKind::from_id(register.id);
    match kind {
        RegisterKind::Storage | RegisterKind::Counter => return Acceptance::INFERRED_TAKEN,
        RegisterKind::VectorLengths | RegisterKind::Unknown => return Acceptance::Unknown,
        RegisterKind::Implementation => return Acceptance::INFERRED_REFUSED,
        RegisterKind::CacheLevels if kernel::is_cache_geometry_writable(host) => {
            return value.as_u64().map_or(Acceptance::Unknown, |value| {
                evaluate_cache_levels(host, value)
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
    // What such a host has not at reset it has not at all.
    let is_most = acceptor.value_origin == Some(ValueOrigin::EmulatedHost);
    match kind {
        RegisterKind::Identification | RegisterKind::CacheType => {
            evaluate_id_register(register, own, value)
        }
        RegisterKind::CacheSize(slot) => evaluate_cache_size(host, slot, value),
        RegisterKind::LockStatus => Acceptance::new_inferred((value ^ own) & !OSLSR_OSLK == 0),
        RegisterKind::PmuModel => Acceptance::new_inferred(value == 0),
        RegisterKind::PsciVersion if PSCI_VERSIONS.contains(&value) && value < own => {
            Acceptance::INFERRED_TAKEN
        }
        RegisterKind::PsciVersion if is_most && value > own => Acceptance::INFERRED_REFUSED,
        RegisterKind::Workaround(2) => evaluate_workaround_2(host, own, value),
        RegisterKind::Workaround(_) => Acceptance::new_inferred(value <= own),
        RegisterKind::FirmwareBitmap(_) if value & !own == 0 => Acceptance::INFERRED_TAKEN,
        RegisterKind::FirmwareBitmap(0..=2) if is_most => Acceptance::INFERRED_REFUSED,
        _ => Acceptance::Unknown,
    }
}

/// KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2, of which KVM knows two levels: not available (0, and 1, unknown, is taken for it) and not required (3, and 2,
/// available, is taken for it), and takes no more than the host's (`kvm_arm_set_fw_reg` in Linux `arch/arm64/kvm/hypercalls.c`, since v5.10). That 1 is taken where the
/// host's is 0, and reads 0 then, was seen on every recorded host.
fn evaluate_workaround_2(host: &DestinationVcpu, own: u64, value: u64) -> Acceptance {
    // Only with level 2.
    const ENABLED: u64 = 1 << 4;
    const SSBS: u64 = 0xf << 4;
    if value > 3 && value != ENABLED | 2 {
        return Acceptance::INFERRED_REFUSED;
    }
    let spared = || {
        let pfr1 = host.value(RegisterId::ID_AA64PFR1_EL1);
        pfr1.is_none_or(|pfr1| pfr1 & SSBS != 0)
    };
    if value <= 1 || own >= 2 {
        Acceptance::INFERRED_TAKEN
    } else if spared() {
        // The level may be 0 only for guests that are told of SSBS.
        Acceptance::Unknown
    } else {
        Acceptance::INFERRED_REFUSED
    }
}

/// OSLSR_EL1.OSLK, the only bit that user space may change (d42e26716d03).
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
        // Within the mask KVM decides field by field; its rule is "no more than the host has",
        // which holds surely where every changed field went down.
        AcceptedValues::Writable(_) if has_only_lowered_fields(register.id, own, value) => {
            Acceptance::INFERRED_TAKEN
        }
        _ => Acceptance::Unknown,
    }
}

/// Bits that no mask allows, and that KVM takes all the same and drops if they are the CPU's own, which older kernels showed guests by mistake
/// (`set_id_aa64mmfr2_el1` and its like in Linux `arch/arm64/kvm/sys_regs.c`). What the CPU has, a recording of KVM does not tell.
fn dropped_bits(id: RegisterId) -> u64 {
    match id {
        // NV.
        RegisterId::ID_AA64MMFR2_EL1 => 0xf << 24,
        // MPAM, since v6.13 (6685f5d572c2).
        RegisterId::ID_AA64PFR0_EL1 => 0xf << 40,
        // MPAM_frac, likewise.
        RegisterId::ID_AA64PFR1_EL1 => 0xf << 16,
        _ => 0,
    }
}

/// Whether every field that changes promises less then.
fn has_only_lowered_fields(id: RegisterId, own: u64, value: u64) -> bool {
    differing_fields(id, own, value).all(|it| is_lowering(&it))
}

/// Whether a change of an ID register's field surely promises less: what KVM lets user space do within a writable mask.
pub(super) fn is_lowering(it: &FieldDifference) -> bool {
    let has_order = !UNORDERED_FIELDS.contains(&it.field.name());
    // Whether the PMU can go depends on whether the vCPU was made with one; newer kernels keep the exception levels.
    let must_stay = ["PMUVer", "PerfMon", "EL0", "EL1", "EL2"].contains(&it.field.name())
        && matches!(it.to, 0 | 8..=0xf);
    has_order && !must_stay && it.field.rank(it.to) < it.field.rank(it.from)
}

/// Whether the version of the debug architecture changes to one before Armv8, or that of AArch32's PMU to one before PMUv3, which KVM refuses whatever
/// its mask says (seen from v6.12 on).
fn is_below_floor(id: RegisterId, own: u64, value: u64) -> bool {
    const ARMV8: u64 = 6;
    const PMUV3: u64 = 3;
    let is_version = matches!(id, RegisterId::ID_AA64DFR0_EL1 | RegisterId::ID_DFR0_EL1);
    let monitors = |value: u64| value >> 24 & 0xf;
    let is_old_pmu = id == RegisterId::ID_DFR0_EL1
        && monitors(value) != monitors(own)
        && (1..PMUV3).contains(&monitors(value));
    is_old_pmu || is_version && value & 0xf != own & 0xf && value & 0xf < ARMV8
}

/// Fields of which a lower value does not promise less; see [`crate::register::field`].
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

/// Since v6.3 CLIDR_EL1 takes any levels, but none that let the guest leave out cleaning that the host needs: without CTR_EL0.IDC there
/// must be a level of coherence, and one of unification (7af0c2534f4c).
fn evaluate_cache_levels(host: &DestinationVcpu, value: u64) -> Acceptance {
    const CLIDR_RES0: u64 = !0 << 47;
    match host.value(RegisterId::CTR_EL0) {
        _ if value & CLIDR_RES0 != 0 => Acceptance::INFERRED_REFUSED,
        _ if !kernel::clidr_implies_idc(value) => Acceptance::INFERRED_TAKEN,
        Some(ctr) => Acceptance::new_inferred(ctr & kernel::CTR_IDC != 0),
        None => Acceptance::Unknown,
    }
}

/// Since v6.3 a slot takes any geometry whose lines are no shorter than CTR_EL0 says.
fn evaluate_cache_size(host: &DestinationVcpu, slot: u8, value: u64) -> Acceptance {
    if !kernel::is_cache_geometry_writable(host) {
        return Acceptance::INFERRED_REFUSED;
    }
    let Some(ctr) = host.value(RegisterId::CTR_EL0) else {
        return Acceptance::Unknown;
    };
    // CCSIDR_EL1.LineSize counts from 16-byte lines, CTR_EL0's from 4-byte words.
    let line = (value & 7) + 4;
    let is_instruction_cache = slot & 1 == 1;
    let smallest = (if is_instruction_cache { ctr } else { ctr >> 16 } & 0xf) + 2;
    if line >= smallest {
        Acceptance::INFERRED_TAKEN
    } else {
        Acceptance::Unknown
    }
}
