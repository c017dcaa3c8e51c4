//! The kernel's view of registers: [`RegisterKind`], [`Scope`], and services in firmware
//! bitmaps. `feature_gate.rs` has the ID fields that hide registers.
//!
//! [`super::accept`] decides which values a destination accepts. [`crate::tolerance`] lists
//! harmless differences.
//!
//! Sources: Linux `arch/arm64/kvm/{sys_regs,guest,hypercalls,arch_timer}.c` of v5.10 to v7.3-rc7
//! (read). Also trial writes to each register of a fresh vCPU of 5.10.223, 6.1.176, 6.12, 6.16,
//! 6.18, 6.19, 7.2 and 7.3 (recorded). Every register of kind [`RegisterKind::Storage`] accepted
//! every value, although KVM masked some bits.

pub(crate) use super::feature_gate::GateSearch;
pub use super::feature_gate::{
    FEATURE_GATES, FeatureGate, find_active_gate, find_feature_gate, gates_by_vm_id_field,
};
use super::{DestinationVcpu, Version};
use crate::register::RegisterId;
use crate::vm::Vcpu;

/// Id bits of KVM's firmware registers, without the number in the low 16 bits.
pub(super) const FIRMWARE_CLASS: u64 = 0x6030_0000_0014_0000;
/// PSCI versions that KVM can show a guest with PSCI 0.2 or later: major in 31:16, minor in 15:0.
pub const PSCI_VERSIONS: [u64; 5] = [0x2, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003];

const BITMAP_CLASS: u64 = 0x6030_0000_0016_0000;
const CCSIDR_CLASS: u64 = 0x6020_0000_0011_0000;
const SYSREG_CLASS: u64 = 0x6030_0000_0013_0000;

/// Kind of a register, by the values that KVM accepts for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegisterKind {
    /// Plain storage. KVM may mask some bits of a written value.
    Storage,
    /// Counter of time: KVM turns the written value into an offset for the whole VM.
    Counter,
    /// ID register, with fields or reserved.
    Identification,
    /// MIDR_EL1, REVIDR_EL1, AIDR_EL1: writable only after `KVM_CAP_ARM_WRITABLE_IMP_ID_REGS`
    /// (v6.15).
    Implementation,
    /// CTR_EL0.
    CacheType,
    /// CLIDR_EL1.
    CacheLevels,
    /// Slot of CCSIDR_EL1, with the CSSELR_EL1 value that selects the slot.
    CacheSize(u8),
    /// OSLSR_EL1. KVM accepts a change of bit OSLK only.
    LockStatus,
    /// PMMIR_EL1. KVM accepts zero and the host's value (v7.3, 453f6ff04b8d).
    PmuModel,
    /// PSCI version shown to the guest.
    PsciVersion,
    /// KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_n, with n. KVM compares a written value with the host's
    /// level and does not store the value.
    Workaround(u8),
    /// Bitmap of hypercall services, with the number of the register in its class.
    FirmwareBitmap(u8),
    /// KVM_REG_ARM64_SVE_VLS.
    VectorLengths,
    /// Register of an unknown class or number.
    Unknown,
}

/// Returns the bits of a register that time changes while its vCPU is paused.
///
/// The only such bit is ISTATUS of a timer's control register, which is read-only and set while the
/// timer's condition is met (Arm ARM, CNTV_CTL_EL0). Returns 0 for all other registers.
pub const fn time_dependent_bits(id: RegisterId) -> u64 {
    match id {
        RegisterId::TIMER_CTL | RegisterId::PTIMER_CTL => 1 << 2,
        _ => 0,
    }
}

/// Scope of a register: one vCPU, or the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each vCPU has its own value.
    Vcpu,
    /// The VM has one value, and the last write wins. All vCPUs must have the same value.
    Vm,
    /// The VM has one value that advances with time. Values read from two vCPUs differ by the time
    /// in between.
    VmCounter,
}

impl RegisterKind {
    /// Returns the kind of a register.
    pub fn from_id(id: RegisterId) -> Self {
        let raw = id.raw();
        match id {
            RegisterId::MIDR_EL1 | RegisterId::REVIDR_EL1 | RegisterId::AIDR_EL1 => {
                return Self::Implementation;
            }
            RegisterId::CTR_EL0 => return Self::CacheType,
            RegisterId::CLIDR_EL1 => return Self::CacheLevels,
            RegisterId::OSLSR_EL1 => return Self::LockStatus,
            RegisterId::PMMIR_EL1 => return Self::PmuModel,
            RegisterId::TIMER_CNT | RegisterId::PTIMER_CNT => return Self::Counter,
            RegisterId::SVE_VLS => return Self::VectorLengths,
            _ => {}
        }
        let low = raw & 0xffff;
        match raw & !0xffff {
            SYSREG_CLASS if id.is_id_register() => Self::Identification,
            CCSIDR_CLASS if low <= 0xff => Self::CacheSize((low & 0xff) as u8),
            FIRMWARE_CLASS => match low {
                0 => Self::PsciVersion,
                1..=3 => Self::Workaround((low & 3) as u8),
                _ => Self::Unknown,
            },
            BITMAP_CLASS => match low {
                0..=3 => Self::FirmwareBitmap((low & 3) as u8),
                _ => Self::Unknown,
            },
            _ => match raw >> 16 & 0xfff {
                0x10 | 0x13 | 0x15 if raw >> 56 == 0x60 => Self::Storage,
                _ if raw >> 56 == 0x40 => Self::Storage,
                _ => Self::Unknown,
            },
        }
    }

    /// Returns `true` if KVM accepts every value of registers of this kind.
    pub(crate) const fn accepts_every_value(self) -> bool {
        matches!(self, Self::Storage | Self::Counter)
    }

    /// Returns the scope of registers of this kind.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Identification
            | Self::Implementation
            | Self::CacheType
            | Self::PsciVersion
            | Self::Workaround(_)
            | Self::FirmwareBitmap(_) => Scope::Vm,
            Self::Counter => Scope::VmCounter,
            _ => Scope::Vcpu,
        }
    }
}

/// Returns `true` if KVM accepts other registers of the vCPU whatever this one holds.
///
/// Such a register is plain storage or a counter of time. A loader and a plan handle vCPUs alike
/// that differ only in such registers.
pub(crate) fn is_independent(kernel_version: Option<Version>, id: RegisterId) -> bool {
    RegisterKind::from_id(id).accepts_every_value()
        && !id.is_pmu()
        && find_active_gate(kernel_version, id).is_none()
}

/// Returns `true` if the guest has enabled its PMU (PMCR_EL0.E) and at least one counter.
///
/// Kernels v6.7 to v6.14 have Linux commit a45f41d754e0 and lack f2aeb7bbd574, except some stable
/// releases (observed on 6.12.107). On these kernels, such a guest's counters stop when QEMU writes
/// back the values that it read. QEMU does so during a load, and when a client queries its
/// registers. See docs/facts.md.
pub fn is_pmu_counting(vcpu: &Vcpu) -> bool {
    let value_of = |id| vcpu.registers.get_u64(id).unwrap_or(0);
    value_of(RegisterId::PMCR_EL0) & 1 != 0 && value_of(RegisterId::PMCNTENSET_EL0) != 0
}

/// Returns PMCR_EL0.N, the number of event counters, from a value of PMCR_EL0 (Arm ARM).
pub(crate) const fn event_counter_count(pmcr: u64) -> u64 {
    (pmcr & PMCR_N) >> PMCR_N.trailing_zeros()
}

/// Mask of PMCR_EL0.{IMP, IDCODE}, the identity of the CPU. Zero refers to MIDR_EL1 (Arm ARM).
pub(crate) const PMCR_IDENTITY_MASK: u64 = 0xffff << 16;

const PMCR_N: u64 = 0x1f << 11;
const PMCR_CONTROLS: u64 = 0xff;

/// Returns the value that PMCR_EL0 holds after a write, where the host's own value is `own`.
///
/// The caller checks with [`keeps_all_of_pmcr`] that the kernel does not keep all of PMCR_EL0. Such
/// kernels keep the controls in 7:0, and N up to the host's N. All other bits silently read as zero
/// (observed from 6.12.43 to 7.3.4).
pub const fn effective_pmcr(value: u64, own: u64) -> u64 {
    let count = if event_counter_count(value) <= event_counter_count(own) {
        value & PMCR_N
    } else {
        own & PMCR_N
    };
    value & PMCR_CONTROLS | count
}

/// Returns `Some(true)` if the host's kernel keeps all written bits of PMCR_EL0, per vCPU.
///
/// Kernels before v6.7 (ea9ca904d24f) keep all bits, for example 5.10.223 and 6.1.176. Later
/// kernels have one PMCR_EL0.N for the VM and [keep few other bits](effective_pmcr). Returns `None`
/// if the host's list does not show the kernel's behaviour.
pub fn keeps_all_of_pmcr(destination_vcpu: &DestinationVcpu) -> Option<bool> {
    let has_identity = destination_vcpu
        .value(RegisterId::PMCR_EL0)
        .is_some_and(|own| own & PMCR_IDENTITY_MASK != 0);
    // KVM listed the registers of the physical timer from v6.4 on, before it masked PMCR_EL0
    // (v6.7).
    if has_identity || destination_vcpu.get(RegisterId::PTIMER_CTL).is_none() {
        return Some(true);
    }
    // Kernels that report writable masks (v6.7) or list the bitmap (v6.15) also mask PMCR_EL0
    // (v6.7).
    (destination_vcpu.reports_masks()
        || destination_vcpu
            .get(RegisterId::VENDOR_HYP_BMAP_2)
            .is_some())
    .then_some(false)
}

/// Returns `true` if the host fabricates cache geometry and lets user space write it.
///
/// Kernels since v6.3 (7af0c2534f4c) fabricate the geometry. They list all 14 slots of CCSIDR_EL1,
/// even for caches that do not exist. Older kernels list the existing caches and accept only the
/// CPU's own geometry.
pub(crate) fn is_cache_geometry_writable(destination_vcpu: &DestinationVcpu) -> bool {
    lists_all_slots(
        destination_vcpu
            .registers()
            .iter()
            .map(|register| register.id),
    )
}

/// Returns `true` if this is the list of a kernel since v6.3; see [`is_cache_geometry_writable`].
fn lists_all_slots(list: impl Iterator<Item = RegisterId>) -> bool {
    // Ids of kind [`RegisterKind::CacheSize`]. A mask is cheaper than `from_id`, and lists are
    // long.
    let slots = list.filter(|id| id.raw() & !0xff == CCSIDR_CLASS);
    slots.count() == CACHE_SLOTS
}

/// Returns `true` if a guest may read another CTR_EL0.IDC at the destination, although both hosts
/// list this value.
///
/// Up to v6.2 a guest reads the CPU's own CTR_EL0. From v6.3 on (8cc6dedaff42) KVM traps reads,
/// except on CPUs with FEAT_EVT, and the guest reads the listed value. The listed value is Linux's
/// view of the CPU (`read_cpuid_effective_cachetype` in Linux `arch/arm64/include/asm/cache.h`).
/// Linux also sets IDC where only CLIDR_EL1 shows that instruction fetches need no cleaning of data
/// caches ([`clidr_implies_idc`]).
///
/// Observed: 0x8444c004 under 5.10.223, 0x9444c004 under later kernels; both list 0x9444c004.
pub(crate) fn cache_type_may_differ(
    vcpu: &Vcpu,
    destination_vcpu: &DestinationVcpu,
    ctr: u64,
) -> bool {
    let was_trapped = lists_all_slots(vcpu.registers.iter().map(|(id, _)| id));
    if ctr & CTR_IDC == 0 || was_trapped == is_cache_geometry_writable(destination_vcpu) {
        return false;
    }
    // The older kernel lists the CPU's own CLIDR_EL1.
    let clidr = if was_trapped {
        destination_vcpu.value(RegisterId::CLIDR_EL1)
    } else {
        vcpu.registers.get_u64(RegisterId::CLIDR_EL1)
    };
    clidr.is_some_and(clidr_implies_idc)
}

/// Bit CTR_EL0.IDC: instruction fetches need no cleaning of data caches.
pub(crate) const CTR_IDC: u64 = 1 << 28;

/// Returns `true` if CLIDR_EL1 shows that instruction fetches need no cleaning of data caches.
///
/// CLIDR_EL1 shows this by a level of coherence (LoC) of 0, or by two levels of unification (LoUU
/// and LoUIS) of 0.
pub(crate) const fn clidr_implies_idc(clidr: u64) -> bool {
    const LEVELS_OF_UNIFICATION: u64 = 0b111 << 27 | 0b111 << 21;
    const LEVEL_OF_COHERENCE: u64 = 0b111 << 24;
    clidr & LEVEL_OF_COHERENCE == 0 || clidr & LEVELS_OF_UNIFICATION == 0
}

/// Number of CCSIDR_EL1 slots: seven levels, each with an instruction cache and a data or unified
/// cache.
const CACHE_SLOTS: usize = 14;

/// Returns `true` if CLIDR_EL1 says that the cache of a CCSIDR_EL1 slot exists.
///
/// `slot` is a CSSELR_EL1 value. Bit 0 selects the instruction cache, and bits 3:1 hold the level
/// minus one.
pub(crate) const fn has_cache(clidr: u64, slot: u8) -> bool {
    let level = slot >> 1 & 7;
    if level >= 7 {
        return false;
    }
    let ctype = clidr >> (3 * level) & 7;
    if slot & 1 == 1 {
        matches!(ctype, 1 | 3)
    } else {
        matches!(ctype, 2..=4)
    }
}
