//! [`GuestState`]: the guest's own settings as evidence of the features it uses.
//!
//! A vCPU's registers are evidence only while its MMU is on (SCTLR_EL1.M is 1). Before that, the
//! guest's kernel has not configured its features yet, so the state proves nothing. vCPUs that the
//! guest has not started have their MMU off, and are ignored.
//!
//! A guest with EL2 may run its kernel at EL2, whose settings are in other registers. The state of
//! such a guest can prove that it uses a feature, and never that it does not.
//!
//! Register layouts: Arm ARM, and `data/fields.tsv`.

use alloc::vec::Vec;

use crate::register::RegisterId;
use crate::tolerance::condition::RESET_POISON;
use crate::vm::{Registers, Vm};

/// Use of a feature by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// The guest's state proves that it does not use the feature.
    Unused,
    /// The guest's state does not decide.
    Unknown,
    /// The guest's state proves that it uses the feature.
    InUse,
}

impl Usage {
    /// Returns the name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Unknown => "unknown",
            Self::InUse => "in use",
        }
    }

    const fn from_bool(is_in_use: bool) -> Self {
        if is_in_use { Self::InUse } else { Self::Unused }
    }
}

/// Settings of all vCPUs of a guest, as evidence of the features it uses.
///
/// Equal states give the same [`Usage`] of each feature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GuestState {
    /// Different settings of vCPUs with their MMU on, ascending. Their order is no evidence.
    vcpus: Vec<VcpuSettings>,
    /// `true` if the guest has EL2.
    has_el2: bool,
    /// `true` if the destination's caches need no maintenance by the guest.
    has_coherent_caches: bool,
}

/// Settings of a vCPU with its MMU on, without values that are no evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct VcpuSettings {
    sctlr: u64,
    sctlr2: Option<u64>,
    tcr: Option<u64>,
    tcr2: Option<u64>,
    /// `true` if TTBR0_EL1 or TTBR1_EL1 holds an ASID of more than 8 bits.
    has_wide_asid: bool,
    cpacr: Option<u64>,
    zcr: Option<u64>,
    gcscr: Option<u64>,
    gcscre0: Option<u64>,
    /// `true` if the guest has set its key for generic authentication.
    has_generic_key: Option<bool>,
    /// The bits of [`PSTATE_SETTINGS`].
    pstate: Option<u64>,
    has_el2: bool,
}

const HCR_EL2: RegisterId = RegisterId::sysreg(3, 4, 1, 1, 0);
const GCSCR_EL1: RegisterId = RegisterId::sysreg(3, 0, 2, 5, 0);
const GCSCRE0_EL1: RegisterId = RegisterId::sysreg(3, 0, 2, 5, 2);
const APGAKEYLO_EL1: RegisterId = RegisterId::sysreg(3, 0, 2, 3, 0);
const APGAKEYHI_EL1: RegisterId = RegisterId::sysreg(3, 0, 2, 3, 1);
const SCTLR_M: u64 = 1;

/// Upper half of the ASID in a translation table base register.
const WIDE_ASID: u64 = 0xff << 56;
const PSTATE_SSBS: u8 = 12;
const PSTATE_PAN: u8 = 22;
const PSTATE_UAO: u8 = 23;
const PSTATE_DIT: u8 = 24;
/// Bits of PSTATE that are evidence.
const PSTATE_SETTINGS: u64 = 1 << PSTATE_SSBS | 1 << PSTATE_PAN | 1 << PSTATE_UAO | 1 << PSTATE_DIT;

impl GuestState {
    /// State that proves nothing.
    pub const UNKNOWN: Self = Self {
        vcpus: Vec::new(),
        has_el2: false,
        has_coherent_caches: false,
    };

    /// Returns the state of a VM, in which `planned` returns the value of a register that the user
    /// may have set.
    ///
    /// A setting that proves use counts both as it came in and as the user set it.
    pub fn from_vm(vm: &Vm, planned: impl Fn(RegisterId, u64) -> u64) -> Self {
        let mut state = Self::UNKNOWN;
        for vcpu in &vm.vcpus {
            let registers = &vcpu.registers;
            state.has_el2 |= registers.get(HCR_EL2).is_some();
            let incoming = VcpuSettings::read(registers, vcpu.pstate, |_, value| value);
            let set = VcpuSettings::read(registers, vcpu.pstate, &planned);
            for settings in set.into_iter().chain(incoming) {
                // Most vCPUs have the same settings.
                if let Err(index) = state.vcpus.binary_search(&settings) {
                    state.vcpus.insert(index, settings);
                }
            }
        }
        state
    }

    /// Returns the state at a destination whose caches need no maintenance by the guest, if
    /// `has_coherent_caches` is `true`. Emulation has no caches.
    #[must_use]
    pub(crate) fn with_coherent_caches(self, has_coherent_caches: bool) -> Self {
        Self {
            has_coherent_caches,
            ..self
        }
    }

    /// Returns `true` if the destination's caches need no maintenance by the guest.
    pub(super) const fn has_coherent_caches(&self) -> bool {
        self.has_coherent_caches
    }

    /// Returns the guest's use of SVE.
    pub(crate) fn vectors(&self) -> Usage {
        self.usage(VcpuSettings::vectors)
    }

    /// Returns the guest's use of a feature, whose use by one vCPU `usage` returns.
    pub(super) fn usage(&self, usage: impl Fn(&VcpuSettings) -> Usage) -> Usage {
        let all = self.vcpus.iter().map(usage).max();
        match all.unwrap_or(Usage::Unknown) {
            Usage::Unused if self.has_el2 => Usage::Unknown,
            usage => usage,
        }
    }
}

/// A translation granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granule {
    Size4K,
    Size16K,
    Size64K,
}

impl VcpuSettings {
    /// Reads the settings of a vCPU, or returns `None` if its MMU is off.
    fn read(
        registers: &Registers,
        pstate: Option<u64>,
        planned: impl Fn(RegisterId, u64) -> u64,
    ) -> Option<Self> {
        let value = |id| registers.get_u64(id).map(|value| planned(id, value));
        let sctlr = value(RegisterId::SCTLR_EL1).filter(|sctlr| sctlr & SCTLR_M != 0)?;
        let has_wide_asid = |id| value(id).is_some_and(|ttbr| ttbr & WIDE_ASID != 0);
        let is_set = |half: u64| ![0, RESET_POISON].contains(&half);
        Some(Self {
            sctlr,
            sctlr2: value(RegisterId::SCTLR2_EL1),
            tcr: value(RegisterId::TCR_EL1),
            tcr2: value(RegisterId::TCR2_EL1),
            has_wide_asid: has_wide_asid(RegisterId::TTBR0_EL1)
                || has_wide_asid(RegisterId::TTBR1_EL1),
            cpacr: value(RegisterId::CPACR_EL1),
            zcr: value(RegisterId::ZCR_EL1),
            gcscr: value(GCSCR_EL1),
            gcscre0: value(GCSCRE0_EL1),
            has_generic_key: value(APGAKEYLO_EL1)
                .zip(value(APGAKEYHI_EL1))
                .map(|(low, high)| is_set(low) || is_set(high)),
            pstate: value(RegisterId::CORE_PSTATE)
                .or(pstate)
                .map(|pstate| pstate & PSTATE_SETTINGS),
            has_el2: registers.get(HCR_EL2).is_some(),
        })
    }

    /// Returns the use of translation tables with a granule.
    pub(super) fn granule(&self, granule: Granule) -> Usage {
        let Some(tcr) = self.tcr else {
            return Usage::Unknown;
        };
        let (low, high) = match granule {
            Granule::Size4K => (0b00, 0b10),
            Granule::Size16K => (0b10, 0b01),
            Granule::Size64K => (0b01, 0b11),
        };
        let (tg0, tg1) = (tcr >> 14 & 0b11, tcr >> 30 & 0b11);
        let are_high_addresses_disabled = tcr & TCR_EPD1 != 0;
        if tg0 == low || tg1 == high {
            Usage::InUse
        } else if tg0 == RESERVED_TG0 || tg1 == RESERVED_TG1 && !are_high_addresses_disabled {
            Usage::Unknown
        } else {
            Usage::Unused
        }
    }

    /// Returns the use of 52-bit addresses with a granule of 4 KiB or 16 KiB (FEAT_LPA2).
    pub(super) fn wide_addresses(&self, granule: Granule) -> Usage {
        self.tcr_bits(TCR_DS).min(self.granule(granule))
    }

    /// Returns the use of ASIDs of 16 bits.
    pub(super) fn wide_asids(&self) -> Usage {
        if self.has_wide_asid {
            return Usage::InUse;
        }
        self.tcr_bits(1 << 36)
    }

    /// Returns the use of physical addresses beyond a range, in the encoding of
    /// ID_AA64MMFR0_EL1.PARange.
    pub(super) fn physical_range(&self, range: u64) -> Usage {
        self.tcr.map_or(Usage::Unknown, |tcr| {
            Usage::from_bool(tcr >> 32 & 0b111 > range)
        })
    }

    /// Returns the use of virtual addresses beyond a range, in the encoding of
    /// ID_AA64MMFR2_EL1.VARange.
    pub(super) fn virtual_range(&self, range: u64) -> Usage {
        let min_size_offset = if range == 0 { 16 } else { 12 };
        self.tcr.map_or(Usage::Unknown, |tcr| {
            Usage::from_bool([tcr, tcr >> 16].iter().any(|t| t & 0x3f < min_size_offset))
        })
    }

    /// Returns the use of more hardware updates of translation tables than `level` has, in the
    /// encoding of ID_AA64MMFR1_EL1.HAFDBS.
    pub(super) fn table_updates(&self, level: u64) -> Usage {
        const HA: u64 = 1 << 39;
        const HD: u64 = 1 << 40;
        match level {
            0 => self.tcr_bits(HA | HD),
            1 => self.tcr_bits(HD),
            // Without TCR2_EL1, table descriptors have no access flag.
            2 => Usage::from_bool(self.tcr2.is_some_and(|tcr2| tcr2 & 1 << 11 != 0)),
            _ => Usage::Unused,
        }
    }

    /// Returns the use of signed addresses.
    pub(super) fn signed_addresses(&self) -> Usage {
        // EnIA, EnIB, EnDA, EnDB.
        self.sctlr_bits(1 << 31 | 1 << 30 | 1 << 27 | 1 << 13)
    }

    /// Returns the use of generic authentication.
    ///
    /// The feature has no enable bit. It counts as in use once the guest has set a key.
    pub(super) fn generic_authentication(&self) -> Usage {
        self.has_generic_key
            .map_or(Usage::Unknown, Usage::from_bool)
    }

    /// Returns the use of branch target identification.
    pub(super) fn branch_targets(&self) -> Usage {
        self.sctlr_bits(1 << 36 | 1 << 35)
    }

    /// Returns the use of the instructions CPY and SET at EL0.
    pub(super) fn memory_copies(&self) -> Usage {
        self.sctlr_bits(1 << 33)
    }

    /// Returns the use of SVE.
    pub(super) fn vectors(&self) -> Usage {
        if self.zcr.is_some_and(|zcr| zcr & 0xf != 0) {
            return Usage::InUse;
        }
        self.cpacr_bits(0b11 << 16)
    }

    /// Returns the use of SME.
    pub(super) fn matrices(&self) -> Usage {
        self.cpacr_bits(0b11 << 24)
    }

    /// Returns the use of memory tags.
    pub(super) fn memory_tags(&self) -> Usage {
        // ATA, ATA0.
        self.sctlr_bits(1 << 43 | 1 << 42)
    }

    /// Returns the use of PSTATE.PAN.
    ///
    /// SCTLR_EL1.SPAN is 0 if exceptions set PSTATE.PAN.
    pub(super) fn privileged_access_never(&self) -> Usage {
        const SPAN: u64 = 1 << 23;
        if self.sctlr & SPAN == 0 {
            return Usage::InUse;
        }
        self.pstate.map_or(Usage::Unknown, |pstate| {
            Usage::from_bool(pstate >> PSTATE_PAN & 1 == 1)
        })
    }

    /// Returns the use of SCTLR_EL1.EPAN.
    pub(super) fn execute_access_never(&self) -> Usage {
        self.sctlr_bits(1 << 57)
    }

    /// Returns the use of PSTATE.UAO, as far as it is set now.
    pub(super) fn user_access_override(&self) -> Usage {
        self.pstate_bit(PSTATE_UAO)
    }

    /// Returns the use of PSTATE.SSBS, as far as it or its default is set now.
    pub(super) fn speculative_store_bypass(&self) -> Usage {
        let by_default = self.sctlr_bits(1 << 44);
        self.pstate_bit(PSTATE_SSBS).max(by_default)
    }

    /// Returns the use of PSTATE.DIT, as far as it is set now.
    pub(super) fn data_independent_timing(&self) -> Usage {
        self.pstate_bit(PSTATE_DIT)
    }

    /// Returns the use of VMIDs: only a guest with EL2 can use them.
    pub(super) fn vmids(&self) -> Usage {
        if self.has_el2 {
            Usage::Unknown
        } else {
            Usage::Unused
        }
    }

    /// Returns the use of any setting in TCR2_EL1, or of these settings.
    pub(super) fn extended_translation(&self, bits: u64) -> Usage {
        Usage::from_bool(self.tcr2.is_some_and(|tcr2| tcr2 & bits != 0))
    }

    /// Returns the use of any setting in SCTLR2_EL1.
    pub(super) fn extended_control(&self) -> Usage {
        Usage::from_bool(self.sctlr2.is_some_and(|sctlr2| sctlr2 != 0))
    }

    /// Returns the use of TCR_EL1.{HPD0, HPD1}.
    pub(super) fn flat_permissions(&self) -> Usage {
        self.tcr_bits(1 << 42 | 1 << 41)
    }

    /// Returns the use of TCR_EL1.{E0PD0, E0PD1}.
    pub(super) fn fast_faults(&self) -> Usage {
        self.tcr_bits(1 << 56 | 1 << 55)
    }

    /// Returns the use of non-maskable interrupts.
    pub(super) fn unmaskable_interrupts(&self) -> Usage {
        self.sctlr_bits(1 << 61)
    }

    /// Returns the use of guarded control stacks.
    pub(super) fn control_stacks(&self) -> Usage {
        let is_set = |value: Option<u64>| value.is_some_and(|value| value != 0);
        Usage::from_bool(is_set(self.gcscr) || is_set(self.gcscre0))
    }

    fn sctlr_bits(&self, bits: u64) -> Usage {
        Usage::from_bool(self.sctlr & bits != 0)
    }

    fn tcr_bits(&self, bits: u64) -> Usage {
        self.tcr
            .map_or(Usage::Unknown, |tcr| Usage::from_bool(tcr & bits != 0))
    }

    fn cpacr_bits(&self, bits: u64) -> Usage {
        self.cpacr
            .map_or(Usage::Unknown, |cpacr| Usage::from_bool(cpacr & bits != 0))
    }

    /// Returns the use of a bit of PSTATE. A clear bit proves nothing, because saved copies of
    /// PSTATE in the guest's memory may have it set.
    fn pstate_bit(&self, bit: u8) -> Usage {
        match self.pstate {
            Some(pstate) if pstate >> bit & 1 == 1 => Usage::InUse,
            _ => Usage::Unknown,
        }
    }
}

const TCR_EPD1: u64 = 1 << 23;
const TCR_DS: u64 = 1 << 59;
/// Reserved value of TCR_EL1.TG0.
const RESERVED_TG0: u64 = 0b11;
/// Reserved value of TCR_EL1.TG1.
const RESERVED_TG1: u64 = 0b00;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Value;
    use crate::vm::Vcpu;

    /// TCR_EL1 and SCTLR_EL1 of a Linux guest with pages of 4 KiB and 48-bit addresses.
    const LINUX_TCR: u64 = 0x1b5_b510_3510;
    const LINUX_SCTLR: u64 = 0x34f4_d91d;

    fn vcpu(registers: &[(RegisterId, u64)]) -> Vcpu {
        let pairs = registers.iter();
        let pairs = pairs.map(|(id, value)| (*id, Value::U64(*value)));
        Vcpu {
            registers: Registers::from_pairs(pairs).expect("no id twice"),
            ..Vcpu::default()
        }
    }

    fn state(vcpus: &[&[(RegisterId, u64)]]) -> GuestState {
        let vm = Vm {
            vcpus: vcpus.iter().map(|registers| vcpu(registers)).collect(),
            ..Vm::default()
        };
        GuestState::from_vm(&vm, |_, value| value)
    }

    fn linux(tcr: u64, sctlr: u64) -> GuestState {
        state(&[&[(RegisterId::TCR_EL1, tcr), (RegisterId::SCTLR_EL1, sctlr)]])
    }

    fn granules(state: &GuestState) -> [Usage; 3] {
        [Granule::Size4K, Granule::Size16K, Granule::Size64K]
            .map(|granule| state.usage(|vcpu| vcpu.granule(granule)))
    }

    #[test]
    fn a_vcpu_with_its_mmu_off_is_no_evidence() {
        let off = linux(LINUX_TCR, LINUX_SCTLR & !1);
        assert_eq!(granules(&off), [Usage::Unknown; 3]);
        assert_eq!(off.usage(VcpuSettings::wide_asids), Usage::Unknown);
        // The second vCPU has not been started.
        let on = [
            (RegisterId::TCR_EL1, LINUX_TCR),
            (RegisterId::SCTLR_EL1, LINUX_SCTLR),
        ];
        let both = state(&[&on, &[(RegisterId::SCTLR_EL1, 0)]]);
        assert_eq!(
            granules(&both),
            [Usage::InUse, Usage::Unused, Usage::Unused]
        );
    }

    #[test]
    fn linux_uses_what_it_configured() {
        let linux = linux(LINUX_TCR, LINUX_SCTLR);
        let usage = |usage: fn(&VcpuSettings) -> Usage| linux.usage(usage);
        assert_eq!(usage(VcpuSettings::wide_asids), Usage::InUse);
        assert_eq!(usage(|vcpu| vcpu.physical_range(2)), Usage::InUse);
        assert_eq!(usage(|vcpu| vcpu.physical_range(5)), Usage::Unused);
        assert_eq!(usage(|vcpu| vcpu.virtual_range(0)), Usage::Unused);
        assert_eq!(usage(|vcpu| vcpu.table_updates(0)), Usage::InUse);
        assert_eq!(usage(|vcpu| vcpu.table_updates(1)), Usage::InUse);
        assert_eq!(usage(|vcpu| vcpu.table_updates(2)), Usage::Unused);
        assert_eq!(usage(VcpuSettings::signed_addresses), Usage::Unused);
        assert_eq!(usage(VcpuSettings::branch_targets), Usage::Unused);
        // Without CPACR_EL1 and PSTATE.
        assert_eq!(usage(VcpuSettings::vectors), Usage::Unknown);
        assert_eq!(usage(VcpuSettings::privileged_access_never), Usage::Unknown);
        assert_eq!(usage(VcpuSettings::data_independent_timing), Usage::Unknown);
    }

    #[test]
    fn granules_have_two_encodings() {
        let tcr =
            |tg0: u64, tg1: u64| LINUX_TCR & !(0b11 << 14 | 0b11 << 30) | tg0 << 14 | tg1 << 30;
        let usage = |tg0, tg1| granules(&linux(tcr(tg0, tg1), LINUX_SCTLR));
        assert_eq!(usage(1, 3), [Usage::Unused, Usage::Unused, Usage::InUse]);
        assert_eq!(usage(2, 1), [Usage::Unused, Usage::InUse, Usage::Unused]);
        assert_eq!(usage(0, 3), [Usage::InUse, Usage::Unused, Usage::InUse]);
        assert_eq!(usage(0, 0), [Usage::InUse, Usage::Unknown, Usage::Unknown]);
        assert_eq!(usage(3, 3), [Usage::Unknown, Usage::Unknown, Usage::InUse]);
    }

    #[test]
    fn the_users_settings_do_not_hide_use() {
        let vm = Vm {
            vcpus: alloc::vec![vcpu(&[
                (RegisterId::TCR_EL1, LINUX_TCR),
                (RegisterId::SCTLR_EL1, LINUX_SCTLR),
            ])],
            ..Vm::default()
        };
        let asids = |set: (RegisterId, u64)| {
            let planned = |id, value| if id == set.0 { set.1 } else { value };
            GuestState::from_vm(&vm, planned).usage(VcpuSettings::wide_asids)
        };
        assert_eq!(asids((RegisterId::TCR_EL1, 0)), Usage::InUse);
        assert_eq!(asids((RegisterId::SCTLR_EL1, 0)), Usage::InUse);
    }

    #[test]
    fn a_guest_with_el2_is_never_proven_to_lack_use() {
        let guest = state(&[&[
            (RegisterId::TCR_EL1, LINUX_TCR),
            (RegisterId::SCTLR_EL1, LINUX_SCTLR),
            (HCR_EL2, 0),
        ]]);
        assert_eq!(
            granules(&guest),
            [Usage::InUse, Usage::Unknown, Usage::Unknown]
        );
    }
}
