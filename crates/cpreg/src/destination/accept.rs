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

pub mod tcg;

use super::kernel::{self, Kind, PSCI_VERSIONS};
use super::{
    Accelerator, Accepts, Destination, HostRegister, HostVcpu, Knowledge, Loader, ValuesAre,
    Version,
};
use crate::register::{FieldDifference, RegisterId, Value, differing_fields};

/// Whether a value is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is, and stays (or is time, which runs on).
    Taken(Knowledge),
    /// The write fails.
    Refused(Knowledge),
    /// Nothing tells.
    Unknown,
}

impl Answer {
    const YES: Self = Self::Taken(Knowledge::Inferred);
    const NO: Self = Self::Refused(Knowledge::Inferred);

    /// Taken: `Some(true)`, refused: `Some(false)`.
    pub const fn takes(self) -> Option<bool> {
        match self {
            Self::Taken(_) => Some(true),
            Self::Refused(_) => Some(false),
            Self::Unknown => None,
        }
    }

    /// How it is known.
    pub const fn knowledge(self) -> Knowledge {
        match self {
            Self::Taken(knowledge) | Self::Refused(knowledge) => knowledge,
            Self::Unknown => Knowledge::Unknown,
        }
    }

    const fn inferred(takes: bool) -> Self {
        if takes { Self::YES } else { Self::NO }
    }
}

/// Who would take a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acceptor {
    /// What runs the guest there.
    pub accelerator: Option<Accelerator>,
    /// The program that loads.
    pub loader: Option<Loader>,
    /// What its registers' values are, if known.
    pub values: Option<ValuesAre>,
}

impl Destination {
    /// Who would take a value here.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor {
            accelerator: self.accelerator,
            loader: self.loader,
            values: Some(self.values),
        }
    }
}

impl Acceptor {
    /// Whether `value` is taken for a register of the vCPU `host`.
    pub fn takes(self, host: &HostVcpu, register: &HostRegister, value: &Value) -> Answer {
        let limit = self.values.map_or(Knowledge::Proven, ValuesAre::limit);
        match self.answer(host, register, value) {
            Answer::Taken(knowledge) => Answer::Taken(knowledge.min(limit)),
            Answer::Refused(knowledge) => Answer::Refused(knowledge.min(limit)),
            Answer::Unknown => Answer::Unknown,
        }
    }

    fn answer(self, host: &HostVcpu, register: &HostRegister, value: &Value) -> Answer {
        if self.accelerator == Some(Accelerator::Tcg)
            && tcg::lacks_fixed_bits(self, register.id, value)
        {
            return Answer::NO;
        }
        if let Some(answer) = takes_kept(register, value) {
            return answer;
        }
        if !fits(register.id, value) {
            // Cut off, refused or read back differently, as the program has it.
            return Answer::Unknown;
        }
        match self.accelerator {
            Some(Accelerator::Tcg) => tcg::takes(self, host, register, value),
            Some(Accelerator::Kvm) => kvm_takes(self, host, register, value),
            Some(Accelerator::Hvf) | None => match Kind::of(register.id) {
                Kind::Storage => Answer::YES,
                _ => Answer::Unknown,
            },
        }
    }

    fn version(self) -> Option<Version> {
        self.loader.map(|loader| loader.version)
    }
}

/// Whether the value has no more bits than the register.
fn fits(id: RegisterId, value: &Value) -> bool {
    match (value, id.size_bytes()) {
        (Value::Small(value), Some(size @ 0..8)) => value >> (8 * size) == 0,
        _ => true,
    }
}

/// What has been seen of that register itself, whatever its kind.
fn takes_kept(register: &HostRegister, value: &Value) -> Option<Answer> {
    if register.value.as_ref() == Some(value) {
        return Some(Answer::Taken(Knowledge::Proven));
    }
    let number = value.as_u64();
    let taken = match &register.accepts {
        Accepts::OneOf(values) => number.is_some_and(|value| values.contains(&value)),
        Accepts::Subset(bits) => number.is_some_and(|value| value & !bits == 0),
        Accepts::ByKind | Accepts::Writable(_) => return None,
    };
    Some(if taken {
        Answer::Taken(Knowledge::Proven)
    } else {
        Answer::Refused(Knowledge::Proven)
    })
}

fn kvm_takes(
    acceptor: Acceptor,
    host: &HostVcpu,
    register: &HostRegister,
    value: &Value,
) -> Answer {
    let kind = Kind::of(register.id);
    match kind {
        Kind::Storage | Kind::Counter => return Answer::YES,
        Kind::VectorLengths | Kind::Unheard => return Answer::Unknown,
        Kind::Implementation => return Answer::NO,
        Kind::CacheLevels if kernel::cache_geometry_is_writable(host) => {
            return value
                .as_u64()
                .map_or(Answer::Unknown, |value| cache_levels(host, value));
        }
        Kind::CacheLevels => return Answer::NO,
        _ => {}
    }
    let (Some(value), Some(own)) = (
        value.as_u64(),
        register.value.as_ref().and_then(Value::as_u64),
    ) else {
        return Answer::Unknown;
    };
    // What such a host has not at reset it has not at all.
    let is_most = acceptor.values == Some(ValuesAre::OfAnEmulatedHost);
    match kind {
        Kind::Identification | Kind::CacheType => identification(register, own, value),
        Kind::CacheSize(slot) => cache_size(host, slot, value),
        Kind::LockStatus => Answer::inferred((value ^ own) & !OSLSR_OSLK == 0),
        Kind::PmuModel => Answer::inferred(value == 0),
        Kind::PsciVersion if PSCI_VERSIONS.contains(&value) && value < own => Answer::YES,
        Kind::PsciVersion if is_most && value > own => Answer::NO,
        Kind::Workaround(2) => store_bypass(host, own, value),
        Kind::Workaround(_) => Answer::inferred(value <= own),
        Kind::Services(_) if value & !own == 0 => Answer::YES,
        Kind::Services(0..=2) if is_most => Answer::NO,
        _ => Answer::Unknown,
    }
}

/// KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2, of which KVM knows two levels: not available (0, and 1, unknown, is taken for it) and not required (3, and 2,
/// available, is taken for it), and takes no more than the host's (`kvm_arm_set_fw_reg` in Linux `arch/arm64/kvm/hypercalls.c`, since v5.10). That 1 is taken where the
/// host's is 0, and reads 0 then, was seen on every recorded host.
fn store_bypass(host: &HostVcpu, own: u64, value: u64) -> Answer {
    // Only with level 2.
    const ENABLED: u64 = 1 << 4;
    const SSBS: u64 = 0xf << 4;
    if value > 3 && value != ENABLED | 2 {
        return Answer::NO;
    }
    let spared = || {
        let pfr1 = host.value(RegisterId::ID_AA64PFR1_EL1);
        pfr1.is_none_or(|pfr1| pfr1 & SSBS != 0)
    };
    if value <= 1 || own >= 2 {
        Answer::YES
    } else if spared() {
        // The level may be 0 only for guests that are told of SSBS.
        Answer::Unknown
    } else {
        Answer::NO
    }
}

/// OSLSR_EL1.OSLK, the only bit that user space may change (d42e26716d03).
const OSLSR_OSLK: u64 = 1 << 1;

fn identification(register: &HostRegister, own: u64, value: u64) -> Answer {
    match register.accepts {
        Accepts::Writable(mask) if (value ^ own) & !mask & !forgiven(register.id) != 0 => {
            Answer::Refused(Knowledge::Proven)
        }
        Accepts::Writable(mask) if (value ^ own) & !mask != 0 => Answer::Unknown,
        Accepts::Writable(_) if is_below_floor(register.id, own, value) => Answer::NO,
        // Within the mask KVM decides field by field; its rule is "no more than the host has",
        // which holds surely where every changed field went down.
        Accepts::Writable(_) if only_lowers(register.id, own, value) => Answer::YES,
        _ => Answer::Unknown,
    }
}

/// Bits that no mask allows, and that KVM takes all the same and drops if they are the CPU's own, which older kernels showed guests by mistake
/// (`set_id_aa64mmfr2_el1` and its like in Linux `arch/arm64/kvm/sys_regs.c`). What the CPU has, a recording of KVM does not tell.
fn forgiven(id: RegisterId) -> u64 {
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
fn only_lowers(id: RegisterId, own: u64, value: u64) -> bool {
    differing_fields(id, own, value).all(|it| lowers(&it))
}

/// Whether a change of an ID register's field surely promises less: what KVM lets user space do within a writable mask.
pub(crate) fn lowers(it: &FieldDifference) -> bool {
    let has_order = !UNORDERED.contains(&it.field.name());
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
const UNORDERED: [&str; 8] = [
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
fn cache_levels(host: &HostVcpu, value: u64) -> Answer {
    const CLIDR_RES0: u64 = !0 << 47;
    match host.value(RegisterId::CTR_EL0) {
        _ if value & CLIDR_RES0 != 0 => Answer::NO,
        _ if !kernel::needs_no_cleaning(value) => Answer::YES,
        Some(ctr) => Answer::inferred(ctr & kernel::CTR_IDC != 0),
        None => Answer::Unknown,
    }
}

/// Since v6.3 a slot takes any geometry whose lines are no shorter than CTR_EL0 says.
fn cache_size(host: &HostVcpu, slot: u8, value: u64) -> Answer {
    if !kernel::cache_geometry_is_writable(host) {
        return Answer::NO;
    }
    let Some(ctr) = host.value(RegisterId::CTR_EL0) else {
        return Answer::Unknown;
    };
    // CCSIDR_EL1.LineSize counts from 16-byte lines, CTR_EL0's from 4-byte words.
    let line = (value & 7) + 4;
    let is_instruction_cache = slot & 1 == 1;
    let smallest = (if is_instruction_cache { ctr } else { ctr >> 16 } & 0xf) + 2;
    if line >= smallest {
        Answer::YES
    } else {
        Answer::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: RegisterId, own: u64, mask: Option<u64>, value: u64) -> Answer {
        let register = HostRegister {
            id,
            value: Some(Value::Small(own)),
            accepts: mask.map_or(Accepts::ByKind, Accepts::Writable),
        };
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            values: Some(ValuesAre::OfAnEmulatedHost),
        };
        acceptor.takes(&HostVcpu::default(), &register, &Value::Small(value))
    }

    /// What recorded kernels did with values for ID registers of which they told the mask.
    #[test]
    fn a_mask_tells_what_is_refused_and_ranks_what_is_taken() {
        let pfr0 = |value| answer(RegisterId::ID_AA64PFR0_EL1, 0x11, Some(!0 << 16), value);
        assert_eq!(pfr0(0x10), Answer::NO);
        assert_eq!(pfr0(0x11 | 1 << 40), Answer::Unknown);
        // 0xf of a signed field is less than 0, not more.
        let fp = |own, value| answer(RegisterId::ID_AA64PFR0_EL1, own, Some(!0), value);
        assert_eq!(fp(0x11_0011, 0xff_0011), Answer::YES);
        assert_eq!(fp(0xff_0011, 0x11_0011), Answer::Unknown);
        let tgran = |value| answer(RegisterId::ID_AA64MMFR0_EL1, 2 << 32, Some(!0), value);
        assert_eq!(tgran(1 << 32), Answer::Unknown);
        let nv = |value| answer(RegisterId::ID_AA64MMFR2_EL1, 0x10, Some(0xff), value);
        assert_eq!(nv(0x200_0010), Answer::Unknown);
    }

    #[test]
    fn debug_before_armv8_is_refused() {
        let debug = |value| answer(RegisterId::ID_DFR0_EL1, 0x600_000a, Some(!0), value);
        assert_eq!(debug(0), Answer::NO);
        assert_eq!(debug(0x600_0006), Answer::YES);
        assert_eq!(debug(0x300_000a), Answer::YES);
        assert_eq!(debug(0x100_000a), Answer::NO);
        assert_eq!(debug(0xa), Answer::Unknown);
    }

    #[test]
    fn what_was_tried_is_proven_but_for_an_emulated_host() {
        let register = HostRegister {
            id: RegisterId::VENDOR_HYP_BMAP_2,
            value: Some(Value::Small(0)),
            accepts: Accepts::Subset(0b11),
        };
        let answer = |values, value| {
            let acceptor = Acceptor {
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                values: Some(values),
            };
            acceptor.takes(&HostVcpu::default(), &register, &Value::Small(value))
        };
        let proven = Answer::Taken(Knowledge::Proven);
        assert_eq!(answer(ValuesAre::AtReset, 0b10), proven);
        assert_eq!(
            answer(ValuesAre::AtReset, 0b110),
            Answer::Refused(Knowledge::Proven)
        );
        assert_eq!(answer(ValuesAre::OfAnEmulatedHost, 0b11), Answer::YES);
    }

    /// All recorded hosts take 1 where they hold 0; the others are the kernel's source's.
    #[test]
    fn the_second_mitigation_has_two_levels() {
        let level = |ssbs: u64, own, value| {
            let there = |id, value| HostRegister {
                id,
                value: Some(Value::Small(value)),
                accepts: Accepts::ByKind,
            };
            let register = there(RegisterId::SMCCC_ARCH_WORKAROUND_2, own);
            let host = HostVcpu::new(
                [
                    register.clone(),
                    there(RegisterId::ID_AA64PFR1_EL1, ssbs << 4),
                ],
                alloc::vec::Vec::new(),
            );
            let acceptor = Acceptor {
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                values: Some(ValuesAre::OfAnEmulatedHost),
            };
            acceptor.takes(&host, &register, &Value::Small(value))
        };
        assert_eq!(level(0, 0, 1), Answer::YES);
        for value in [2, 3, 0x12] {
            assert_eq!(level(0, 0, value), Answer::NO);
            assert_eq!(level(2, 0, value), Answer::Unknown);
            assert_eq!(level(0, 3, value), Answer::YES);
        }
        for value in [4, 0x10, 0x13, !0] {
            assert_eq!(level(0, 3, value), Answer::NO);
        }
    }

    #[test]
    fn a_host_that_nobody_configured_has_its_most() {
        let psci = |value| answer(RegisterId::PSCI_VERSION, 0x1_0001, None, value);
        assert_eq!(psci(0x1_0003), Answer::NO);
        assert_eq!(psci(0x1_0000), Answer::YES);
        // Its own as well is inferred only: a machine of that name may have another.
        assert_eq!(psci(0x1_0001), Answer::YES);
        let services = |id| answer(id, 1, None, 3);
        assert_eq!(services(RegisterId::STD_BMAP), Answer::NO);
        assert_eq!(services(RegisterId::VENDOR_HYP_BMAP_2), Answer::Unknown);
    }
}
