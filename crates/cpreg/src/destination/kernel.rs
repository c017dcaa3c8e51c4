//! What each register is to a kernel: its [`RegisterKind`] and [`Scope`], which ID field hides it, which services a firmware bitmap names.
//!
//! Whether one destination takes one value does not live here ([`super::accept`]), nor whether losing it is harmless ([`crate::tolerance`]).
//!
//! Sources: Linux `arch/arm64/kvm/{sys_regs,guest,hypercalls,arch_timer}.c` of v5.10 to v7.3-rc7 (read), and what a fresh vCPU of 5.10.223,
//! 6.1.176, 6.12, 6.16, 6.18, 6.19, 7.2 and 7.3 took when each register was set to other values (recorded): every register outside
//! the kinds below took every value, though some bits were masked.

use super::{AcceptedValues, DestinationVcpu};
use crate::register::RegisterId;
use crate::vm::Vcpu;

/// The class of KVM's firmware registers, without the number in its low 16 bits.
pub(super) const FIRMWARE_CLASS: u64 = 0x6030_0000_0014_0000;
/// The versions of PSCI that KVM can show a guest that has PSCI 0.2 or later: major in 31:16, minor in 15:0.
pub const PSCI_VERSIONS: [u64; 5] = [0x2, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003];

const BITMAP_CLASS: u64 = 0x6030_0000_0016_0000;
const CCSIDR_CLASS: u64 = 0x6020_0000_0011_0000;
const SYSREG_CLASS: u64 = 0x6030_0000_0013_0000;

/// What kind of register this is when it comes to the values KVM takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegisterKind {
    /// Holds what it is given, perhaps with some bits masked.
    Storage,
    /// Time itself: KVM turns what is written into an offset for the whole VM.
    Counter,
    /// One of the ID registers, allocated or not.
    Identification,
    /// MIDR_EL1, REVIDR_EL1, AIDR_EL1: writable only after `KVM_CAP_ARM_WRITABLE_IMP_ID_REGS` (v6.15).
    Implementation,
    /// CTR_EL0.
    CacheType,
    /// CLIDR_EL1.
    CacheLevels,
    /// One slot of CCSIDR_EL1, by its CSSELR_EL1 value.
    CacheSize(u8),
    /// OSLSR_EL1: only OSLK may differ.
    LockStatus,
    /// PMMIR_EL1: zero, or the very value (v7.3, 453f6ff04b8d).
    PmuModel,
    /// The PSCI version shown to the guest.
    PsciVersion,
    /// KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_n: compared with the host's level, not stored.
    Workaround(u8),
    /// A bitmap of hypercall services, by its number.
    FirmwareBitmap(u8),
    /// KVM_REG_ARM64_SVE_VLS.
    VectorLengths,
    /// Of a class or number that is not known to exist.
    Unknown,
}

/// Returns the bits of a register that time changes while its vCPU stands still.
///
/// These are ISTATUS of the timers' control registers: whether the timer's condition is met. It is read-only
/// (Arm ARM, CNTV_CTL_EL0).
pub const fn time_dependent_bits(id: RegisterId) -> u64 {
    match id {
        RegisterId::TIMER_CTL | RegisterId::PTIMER_CTL => 1 << 2,
        _ => 0,
    }
}

/// Whether a register belongs to one vCPU or to the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each vCPU has its own.
    Vcpu,
    /// One value for the VM, the last write wins: vCPUs must agree.
    Vm,
    /// One value for the VM that runs on by itself: vCPUs read at different moments differ.
    VmCounter,
}

impl RegisterKind {
    /// The kind of a register.
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

    /// Whether a guest's vCPUs share it.
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

/// Whether the guest counts with its performance monitors: they are on (PMCR_EL0.E), and a counter is enabled.
///
/// On kernels with a45f41d754e0 and without f2aeb7bbd574 (v6.7 to v6.14, but for some stable releases; seen on 6.12.107) such a guest's counters stop
/// when QEMU writes back what it has read: when it loads, and when it is asked for its registers. See docs/facts.md.
pub fn is_pmu_counting(vcpu: &Vcpu) -> bool {
    let holds = |id| vcpu.registers.get_u64(id).unwrap_or(0);
    holds(RegisterId::PMCR_EL0) & 1 != 0 && holds(RegisterId::PMCNTENSET_EL0) != 0
}

/// PMCR_EL0.N: how many event counters there are (Arm ARM).
pub const fn event_counter_count(pmcr: u64) -> u64 {
    (pmcr & PMCR_N) >> PMCR_N.trailing_zeros()
}

/// PMCR_EL0.{IMP, IDCODE}: whose CPU it is. Zero refers to MIDR_EL1 (Arm ARM).
pub const PMCR_IDENTITY_MASK: u64 = 0xffff << 16;

const PMCR_N: u64 = 0x1f << 11;
const PMCR_CONTROLS: u64 = 0xff;

/// What a kernel that does not keep all of PMCR_EL0 ([`keeps_all_of_pmcr`]) makes of a value, where its own is `own`: the controls in 7:0 stay, and N
/// if that is no more than the host has; everything else reads as zero, and nothing is said (seen from 6.12.43 to 7.3.4).
pub const fn effective_pmcr(value: u64, own: u64) -> u64 {
    let number = if event_counter_count(value) <= event_counter_count(own) {
        value & PMCR_N
    } else {
        own & PMCR_N
    };
    value & PMCR_CONTROLS | number
}

/// Whether this host's kernel holds PMCR_EL0 as it is written, each vCPU its own: before v6.7 (ea9ca904d24f; 5.10.223 and 6.1.176 do). Later ones have one
/// PMCR_EL0.N for the VM and [keep little else](kept_of_pmcr). `None` where its list does not tell.
pub fn keeps_all_of_pmcr(host: &DestinationVcpu) -> Option<bool> {
    let says_whose = host
        .value(RegisterId::PMCR_EL0)
        .is_some_and(|own| own & PMCR_IDENTITY_MASK != 0);
    // The registers of the physical timer are older (v6.4).
    if says_whose || host.get(RegisterId::PTIMER_CTL).is_none() {
        return Some(true);
    }
    // Masks are as old (v6.7), the bitmap is younger (v6.15).
    let mut registers = host.registers().iter();
    let tells_masks = registers.any(|it| matches!(it.accepted_values, AcceptedValues::Writable(_)));
    (tells_masks || host.get(RegisterId::VENDOR_HYP_BMAP_2).is_some()).then_some(false)
}

/// An ID register's field whose zero hides other registers of the same VM from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeatureGate {
    /// The ID register.
    pub id_register: RegisterId,
    /// The field's name.
    pub field: &'static str,
    /// Its lowest bit; it is four bits wide.
    pub lsb: u8,
    /// The registers that go with it.
    pub registers: &'static [RegisterId],
    /// Since when.
    pub first_version: &'static str,
}

impl FeatureGate {
    /// The field's value in a value of its register.
    pub const fn extract(&self, value: u64) -> u64 {
        value >> self.lsb & 0xf
    }
}

/// Which ID fields hide which registers when they are zero, on kernels that go by the VM's own ID registers.
pub const FEATURE_GATES: [FeatureGate; 5] = [
    FeatureGate {
        id_register: RegisterId::ID_AA64MMFR3_EL1,
        field: "TCRX",
        lsb: 0,
        registers: &[RegisterId::TCR2_EL1],
        first_version: "v6.13 (0fcb4eea5345)",
    },
    FeatureGate {
        id_register: RegisterId::ID_AA64MMFR3_EL1,
        field: "SCTLRX",
        lsb: 4,
        registers: &[RegisterId::SCTLR2_EL1],
        first_version: "v6.17 (81fbef164766)",
    },
    FeatureGate {
        id_register: RegisterId::ID_AA64MMFR3_EL1,
        field: "S1PIE",
        lsb: 8,
        registers: &[RegisterId::PIRE0_EL1, RegisterId::PIR_EL1],
        first_version: "v6.13 (a68cddbe47ef)",
    },
    FeatureGate {
        id_register: RegisterId::ID_AA64MMFR3_EL1,
        field: "S1POE",
        lsb: 16,
        registers: &[RegisterId::POR_EL1, RegisterId::POR_EL0],
        first_version: "v6.12",
    },
    FeatureGate {
        id_register: RegisterId::ID_AA64PFR2_EL1,
        field: "FPMR",
        lsb: 32,
        registers: &[RegisterId::FPMR],
        first_version: "v6.12 (ef3be86021c3)",
    },
];

/// The ID field that hides a register when it is zero.
pub fn find_feature_gate(id: RegisterId) -> Option<&'static FeatureGate> {
    FEATURE_GATES
        .iter()
        .find(|hides| hides.registers.contains(&id))
}

/// Whether this host's kernel hides a register that it lists once the VM's ID field becomes zero.
/// `None` where its list does not tell.
pub fn gates_by_vm_id_field(host: &DestinationVcpu, id: RegisterId) -> Option<bool> {
    let hides = find_feature_gate(id)?;
    if !matches!(
        id,
        RegisterId::TCR2_EL1 | RegisterId::PIR_EL1 | RegisterId::PIRE0_EL1
    ) {
        // These came with the check.
        return Some(true);
    }
    if host
        .value(hides.id_register)
        .is_some_and(|value| hides.extract(value) == 0)
    {
        // Listed although the feature is absent: a kernel before v6.13.
        return Some(false);
    }
    // VENDOR_HYP_BMAP_2 (v6.15) is younger than the check (v6.13).
    host.get(RegisterId::VENDOR_HYP_BMAP_2).map(|_| true)
}

/// Whether the host fabricates cache geometry and lets user space write it: since v6.3 (7af0c2534f4c), which lists all 14 slots
/// of CCSIDR_EL1 whether or not the caches exist. Older kernels list the caches that exist, and want their own values back.
pub fn is_cache_geometry_writable(host: &DestinationVcpu) -> bool {
    lists_all_slots(host.registers().iter().map(|register| register.id))
}

/// Whether this is the list of a kernel since v6.3; see [`is_cache_geometry_writable`].
fn lists_all_slots(list: impl Iterator<Item = RegisterId>) -> bool {
    // Those of [`RegisterKind::CacheSize`]; this is asked for many registers.
    let slots = list.filter(|id| id.raw() & !0xff == CCSIDR_CLASS);
    slots.count() == CACHE_SLOTS
}

/// Whether a guest may read another CTR_EL0.IDC there, although both hosts list this value.
///
/// Up to v6.2 a guest reads the CPU's own CTR_EL0; since then (8cc6dedaff42) reads are trapped, but for CPUs with FEAT_EVT, and it reads what is
/// listed. That is Linux's view of the CPU, which sets IDC also where only CLIDR_EL1 says that no data cache needs to be cleaned for
/// instructions (`read_cpuid_effective_cachetype` in Linux `arch/arm64/include/asm/cache.h`): the level of coherence is 0, or both levels of unification are.
/// Seen: 0x8444c004 under 5.10.223, 0x9444c004 under later ones, both of which list 0x9444c004.
pub fn cache_type_may_differ(vcpu: &Vcpu, host: &DestinationVcpu, ctr: u64) -> bool {
    let was_trapped = lists_all_slots(vcpu.registers.iter().map(|(id, _)| id));
    if ctr & CTR_IDC == 0 || was_trapped == is_cache_geometry_writable(host) {
        return false;
    }
    // The older kernel lists the CPU's own CLIDR_EL1.
    let clidr = if was_trapped {
        host.value(RegisterId::CLIDR_EL1)
    } else {
        vcpu.registers.get_u64(RegisterId::CLIDR_EL1)
    };
    clidr.is_some_and(clidr_implies_idc)
}

/// CTR_EL0.IDC: no data cache needs to be cleaned for instructions.
pub const CTR_IDC: u64 = 1 << 28;

/// Whether CLIDR_EL1 says that no data cache needs to be cleaned for instructions: LoC is 0, or both LoUU and LoUIS are.
pub const fn clidr_implies_idc(clidr: u64) -> bool {
    const LEVELS_OF_UNIFICATION: u64 = 0b111 << 27 | 0b111 << 21;
    const LEVEL_OF_COHERENCE: u64 = 0b111 << 24;
    clidr & LEVEL_OF_COHERENCE == 0 || clidr & LEVELS_OF_UNIFICATION == 0
}

/// Seven levels, each with a data or unified and an instruction cache.
const CACHE_SLOTS: usize = 14;

/// Whether a cache level has the cache that a CCSIDR_EL1 slot describes, by CLIDR_EL1.
///
/// `slot` is CSSELR_EL1: bit 0 instruction cache, bits 3:1 level minus one.
pub const fn has_cache(clidr: u64, slot: u8) -> bool {
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

/// The services that the three older firmware bitmaps can name at all, and so the most that a kernel without them (before v5.19) offers.
pub const fn max_services_without_bitmap(bitmap: u8) -> Option<u64> {
    match bitmap {
        0 | 1 => Some(1),
        2 => Some(3),
        _ => None,
    }
}
