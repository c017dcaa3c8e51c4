//! vCPU features that decide which registers KVM lists ([`Features`]), and the features that a
//! guest has according to its registers ([`GuestFeatures`]).
//!
//! | feature | evidence in the guest's registers | `KVM_ARM_VCPU_…` |
//! |---|---|---|
//! | `pmu` | PMCR_EL0; see below | `PMU_V3` |
//! | `sve` | ZCR_EL1 | `SVE` |
//! | `ptrauth` | APIAKEYLO_EL1 | `PTRAUTH_ADDRESS`, `PTRAUTH_GENERIC` |
//! | `mte` | RGSR_EL1 | the VM's `KVM_CAP_ARM_MTE` |
//! | `el2` | HCR_EL2 | `HAS_EL2` |
//! | `el2-e2h0` | HCR_EL2, and ID_AA64MMFR4_EL1.E2H0 is 0 | `HAS_EL2_E2H0` |
//! | `el1-32bit` | none: list and values equal those of a guest without the feature | `EL1_32BIT` |
//!
//! Kernels before v5.11 (11663111cd49) list the PMU's registers for guests without a PMU too, and
//! show such guests a PMU in the ID registers. These kernels do not list OSLSR_EL1 (v5.18). A guest
//! without a PMU cannot write the registers, so PMCNTENSET_EL0 keeps KVM's reset poison. A guest
//! with a PMU may also have left PMCNTENSET_EL0 alone, so the poison leaves the feature
//! undetermined. A value that is not known does too. One vCPU with another value is evidence for
//! all vCPUs.
//!
//! Sources: Linux `arch/arm64/kvm/sys_regs.c` (read), and recorded lists of every feature set
//! (`crates/cpreg-hosts/data`). SVE's own registers are in none of QEMU's lists.

use core::fmt;
use core::ops::BitOr;

use alloc::vec::Vec;

use crate::register::RegisterId;
use crate::tolerance::condition::RESET_POISON;
use crate::vm::Registers;

/// Set of vCPU features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Features(u8);

/// Features with their names, in the order in which [`Features::names`] returns them.
const NAMES: [(Features, &str); 7] = [
    (Features::PMU, "pmu"),
    (Features::SVE, "sve"),
    (Features::POINTER_AUTHENTICATION, "ptrauth"),
    (Features::EL1_32BIT, "el1-32bit"),
    (Features::EL2, "el2"),
    (Features::EL2_E2H0, "el2-e2h0"),
    (Features::MTE, "mte"),
];

/// Name of the empty set.
const EMPTY_SET_NAME: &str = "none";

impl Features {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// A performance monitoring unit, PMUv3.
    pub const PMU: Self = Self(1);
    /// The Scalable Vector Extension.
    pub const SVE: Self = Self(1 << 1);
    /// Pointer authentication, by address and generic.
    pub const POINTER_AUTHENTICATION: Self = Self(1 << 2);
    /// AArch32 at EL1.
    pub const EL1_32BIT: Self = Self(1 << 3);
    /// EL2 in the guest (nested virtualization).
    pub const EL2: Self = Self(1 << 4);
    /// HCR_EL2.E2H = 0 at the guest's EL2.
    pub const EL2_E2H0: Self = Self(1 << 5);
    /// The Memory Tagging Extension.
    pub const MTE: Self = Self(1 << 6);

    /// Returns the features in the first word of `struct kvm_vcpu_init`, with which a program
    /// initialises a vCPU (Linux `arch/arm64/include/uapi/asm/kvm.h`).
    ///
    /// Ignores bits that are no feature here: power off, PSCI 0.2, and unknown bits. MTE is a
    /// capability of the VM and has no bit.
    pub const fn from_init(word: u32) -> Self {
        const BITS: [(u32, Features); 6] = [
            (1, Features::EL1_32BIT),
            (3, Features::PMU),
            (4, Features::SVE),
            (5, Features::POINTER_AUTHENTICATION),
            (7, Features::EL2),
            (8, Features::EL2_E2H0),
        ];
        let mut set = Self::NONE;
        let mut index = 0;
        while index < BITS.len() {
            let (bit, feature) = BITS[index];
            if word >> bit & 1 == 1 {
                set.0 |= feature.0;
            }
            index += 1;
        }
        set
    }

    /// Returns `true` if all features of `other` are in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the features that are in the set and not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the features that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the number of features.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns `true` if the set has no features.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names of the features in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let own = NAMES.into_iter();
        own.filter(move |(feature, _)| self.contains(*feature))
            .map(|(_, name)| name)
    }

    /// Returns the feature with this name, in upper or lower case, or `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut names = NAMES.iter();
        let entry = names.find(|(_, own)| own.eq_ignore_ascii_case(name));
        entry.map(|(feature, _)| *feature)
    }

    /// Parses names separated by commas, as [`fmt::Display`] writes them. Returns `None` if a name
    /// is unknown.
    pub fn from_names(names: &str) -> Option<Self> {
        if names.eq_ignore_ascii_case(EMPTY_SET_NAME) {
            return Some(Self::NONE);
        }
        let mut features = names.split(',').map(Self::from_name);
        features.try_fold(Self::NONE, |set, feature| Some(set | feature?))
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Formats the set as `pmu,sve`, or `none`.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad(EMPTY_SET_NAME);
        }
        f.pad(&self.names().collect::<Vec<_>>().join(","))
    }
}

/// Features that a guest has according to its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestFeatures {
    /// Features that the guest has or may have.
    pub features: Features,
    /// Subset of `features` that the registers do not determine: the guest may lack these.
    pub undetermined: Features,
}

impl GuestFeatures {
    /// Returns the features, all of which the guest is known to have.
    pub const fn determined(features: Features) -> Self {
        Self {
            features,
            undetermined: Features::NONE,
        }
    }

    /// Returns the features of a KVM guest with these vCPUs, which all have the same features.
    pub fn from_vcpus<'r>(vcpus: impl IntoIterator<Item = &'r Registers>) -> Self {
        let mut vcpus = vcpus.into_iter().map(Self::from_registers);
        let Some(first) = vcpus.next() else {
            return Self::determined(Features::NONE);
        };
        let is_open = |it: Self| !it.undetermined.is_empty();
        if is_open(first) && vcpus.all(is_open) {
            return first;
        }
        Self::determined(first.features)
    }

    /// Returns the features that the registers show: the guest has at least these.
    #[must_use]
    pub const fn without_undetermined(self) -> Features {
        self.features.difference(self.undetermined)
    }

    /// Returns the features of a KVM guest with these registers.
    pub fn from_registers(registers: &Registers) -> Self {
        let has = |id| registers.get(id).is_some();
        let evidence = [
            (Features::PMU, RegisterId::PMCR_EL0),
            (Features::SVE, RegisterId::ZCR_EL1),
            (Features::POINTER_AUTHENTICATION, RegisterId::APIAKEYLO_EL1),
            (Features::MTE, RegisterId::RGSR_EL1),
            (Features::EL2, HCR_EL2),
        ];
        let mut features = evidence
            .into_iter()
            .filter(|(_, register)| has(*register))
            .fold(Features::NONE, |set, (feature, _)| set | feature);
        let e2h0 = registers.get_u64(RegisterId::ID_AA64MMFR4_EL1);
        if features.contains(Features::EL2) && e2h0.is_some_and(|value| value >> 24 & 0xf == 0) {
            features = features | Features::EL2_E2H0;
        }
        let enabled_counters = registers.get_u64(RegisterId::PMCNTENSET_EL0);
        let is_undetermined = features.contains(Features::PMU)
            && !has(RegisterId::OSLSR_EL1)
            && enabled_counters.is_none_or(|enabled| enabled == RESET_POISON);
        Self {
            features,
            undetermined: if is_undetermined {
                Features::PMU
            } else {
                Features::NONE
            },
        }
    }
}

const HCR_EL2: RegisterId = RegisterId::sysreg(3, 4, 1, 1, 0);

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::register::Value;

    #[test]
    fn names_round_trip() {
        let all = NAMES
            .iter()
            .fold(Features::NONE, |set, (feature, _)| set | *feature);
        assert_eq!(
            Features::from_names("PMU,Sve"),
            Features::from_names("pmu,sve")
        );
        assert_eq!(Features::from_names("None"), Some(Features::NONE));
        assert_eq!(
            all.to_string(),
            "pmu,sve,ptrauth,el1-32bit,el2,el2-e2h0,mte"
        );
        for set in [all, Features::NONE, Features::SVE | Features::PMU] {
            assert_eq!(Features::from_names(&set.to_string()), Some(set));
        }
        for bad in ["", "pmu,", "none,pmu", "avx"] {
            assert_eq!(Features::from_names(bad), None, "{bad}");
        }
    }

    fn features_of(registers: &[(RegisterId, u64)]) -> GuestFeatures {
        let pairs = registers.iter();
        let pairs = pairs.map(|(id, value)| (*id, Value::U64(*value)));
        GuestFeatures::from_registers(
            &Registers::from_pairs(pairs.collect::<Vec<_>>()).expect("no id twice"),
        )
    }

    #[test]
    fn bits_of_the_initialisation_are_features() {
        assert_eq!(Features::from_init(0b101), Features::NONE);
        assert_eq!(Features::from_init(0b1_1100), Features::PMU | Features::SVE);
    }

    #[test]
    fn registers_determine_the_features() {
        let registers = [
            (RegisterId::OSLSR_EL1, 8),
            (RegisterId::PMCR_EL0, 0),
            (RegisterId::ZCR_EL1, 0),
            (RegisterId::APIAKEYLO_EL1, 0),
            (RegisterId::RGSR_EL1, 0),
            (HCR_EL2, 0),
            (RegisterId::ID_AA64MMFR4_EL1, 0xe10_0000),
        ];
        let all = features_of(&registers);
        assert_eq!(all.features.to_string(), "pmu,sve,ptrauth,el2,mte");
        assert_eq!(all.undetermined, Features::NONE);
        let mut registers = registers;
        registers[6].1 = 0;
        let features = features_of(&registers).features;
        assert!(features.contains(Features::EL2_E2H0));
        assert_eq!(features_of(&[]).features, Features::NONE);
    }

    #[test]
    fn old_lists_leave_the_pmu_undetermined_until_the_guest_uses_it() {
        let old = |enabled| {
            features_of(&[
                (RegisterId::PMCR_EL0, 0x410c_30ac),
                (RegisterId::PMCNTENSET_EL0, enabled),
            ])
        };
        assert_eq!(old(RESET_POISON).features, Features::PMU);
        assert_eq!(old(RESET_POISON).undetermined, Features::PMU);
        assert_eq!(old(RESET_POISON).without_undetermined(), Features::NONE);
        assert_eq!(old(0).undetermined, Features::NONE);
        let unknown = features_of(&[(RegisterId::PMCR_EL0, 0x410c_30ac)]);
        assert_eq!(unknown.undetermined, Features::PMU);
    }

    #[test]
    fn one_vcpu_that_uses_the_pmu_shows_it_for_all() {
        let vcpu = |enabled| {
            let registers = [
                (RegisterId::PMCR_EL0, 0x410c_30ac),
                (RegisterId::PMCNTENSET_EL0, enabled),
            ];
            let pairs = registers.map(|(id, value)| (id, Value::U64(value)));
            Registers::from_pairs(pairs).expect("no id twice")
        };
        let undetermined = |values: &[u64]| {
            let vcpus: Vec<_> = values.iter().map(|value| vcpu(*value)).collect();
            GuestFeatures::from_vcpus(&vcpus).undetermined
        };
        assert_eq!(undetermined(&[]), Features::NONE);
        assert_eq!(undetermined(&[RESET_POISON; 2]), Features::PMU);
        assert_eq!(undetermined(&[RESET_POISON, 0]), Features::NONE);
        assert_eq!(undetermined(&[0, RESET_POISON]), Features::NONE);
    }
}
