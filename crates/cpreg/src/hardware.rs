//! [`HardwareFacts`]: properties of a host that its guests see and that no register list holds;
//! [`HardwareFact`]: one of them.
//!
//! A fact that is not known is `None`.

use crate::gic::Gic;
use crate::register::{RegisterId, Value};

/// Properties of a host that its guests see and that no register list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardwareFacts {
    /// Frequency of the system counter (CNTFRQ_EL0) in hertz.
    ///
    /// The guest reads the frequency once, when it boots. KVM does not scale the counter.
    pub counter_frequency: Option<u32>,
    /// SVE vector lengths of a guest with SVE.
    pub vector_lengths: Option<VectorLengths>,
    /// DCZID_EL0: the block size of `DC ZVA`.
    pub dczid: Option<u64>,
    /// `true` if the facts are those of an emulated host. A real host with the same kernel and CPU
    /// model can have others.
    pub is_emulated: bool,
    /// Interrupt controller. KVM compares the limits of a VM's GICv3 with those of the host's.
    pub gic: Option<Gic>,
    /// GMID_EL1: the block size of the instructions that access several MTE tags, of a guest with
    /// MTE.
    pub gmid: Option<u64>,
    /// PMU events of a guest with a PMU.
    pub pmu_events: Option<PmuEvents>,
    /// GICD_IIDR: implementer and revision of the GICv3 that KVM emulates.
    pub gicd_iidr: Option<u32>,
    /// `true` if the VM's GIC delivers LPIs, the interrupts of an ITS. No property of the host, but
    /// state of the VM.
    pub uses_lpis: Option<bool>,
}

impl HardwareFacts {
    /// The facts of a host of which none is known.
    pub const UNKNOWN: Self = Self {
        counter_frequency: None,
        vector_lengths: None,
        dczid: None,
        is_emulated: false,
        gic: None,
        gmid: None,
        pmu_events: None,
        gicd_iidr: None,
        uses_lpis: None,
    };

    /// Returns the value of a property, if it is known: hertz, bits of [`VectorLengths`] or of
    /// [`GicLimits`](crate::gic::GicLimits), or the register.
    pub fn get(self, fact: HardwareFact) -> Option<u64> {
        match fact {
            HardwareFact::CounterFrequency => self.counter_frequency.map(u64::from),
            HardwareFact::VectorLengths => self.vector_lengths.map(|set| set.bits().into()),
            HardwareFact::ZeroingBlock => self.dczid,
            HardwareFact::GicLimits => match self.gic {
                Some(Gic::V3(limits)) => Some(limits.bits()),
                _ => None,
            },
            HardwareFact::TagBlock => self.gmid,
            HardwareFact::PmuEvents0 => self.pmu_events.map(|events| events.pmceid0),
            HardwareFact::PmuEvents1 => self.pmu_events.map(|events| events.pmceid1),
            HardwareFact::GicRevision => self.gicd_iidr.map(u64::from),
        }
    }

    /// Returns the revision of the GICv3 that KVM emulates: 2 up to Linux 5.18, 3 later.
    pub fn gic_revision(self) -> Option<u64> {
        self.get(HardwareFact::GicRevision).map(gic_revision)
    }

    /// Returns these facts, and the facts of `other` where these lack one.
    ///
    /// The result counts as emulated only if no fact is of a real host.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let is_emulated = match (self.has_host_facts(), other.has_host_facts()) {
            (true, false) => self.is_emulated,
            (false, true) => other.is_emulated,
            _ => self.is_emulated && other.is_emulated,
        };
        Self {
            counter_frequency: self.counter_frequency.or(other.counter_frequency),
            vector_lengths: self.vector_lengths.or(other.vector_lengths),
            dczid: self.dczid.or(other.dczid),
            gic: self.gic.or(other.gic),
            gmid: self.gmid.or(other.gmid),
            pmu_events: self.pmu_events.or(other.pmu_events),
            gicd_iidr: self.gicd_iidr.or(other.gicd_iidr),
            uses_lpis: self.uses_lpis.or(other.uses_lpis),
            is_emulated,
        }
    }

    /// Returns `true` if any fact is known besides the state of the GIC, which a VM brings along.
    fn has_host_facts(self) -> bool {
        let without_gic = Self {
            gic: None,
            uses_lpis: None,
            is_emulated: false,
            ..self
        };
        without_gic != Self::UNKNOWN
    }

    /// Returns these facts without those that differ from the known facts of `other`.
    #[must_use]
    pub(crate) fn without_differing(self, other: Self) -> Self {
        fn keep<T: PartialEq>(own: Option<T>, other: Option<T>) -> Option<T> {
            own.filter(|own| other.is_none_or(|other| *own == other))
        }
        Self {
            counter_frequency: keep(self.counter_frequency, other.counter_frequency),
            vector_lengths: keep(self.vector_lengths, other.vector_lengths),
            dczid: keep(self.dczid, other.dczid),
            gic: keep(self.gic, other.gic),
            gmid: keep(self.gmid, other.gmid),
            pmu_events: keep(self.pmu_events, other.pmu_events),
            // The kernel decides the revision, also on an emulated CPU.
            gicd_iidr: self.gicd_iidr,
            uses_lpis: self.uses_lpis,
            is_emulated: self.is_emulated,
        }
    }
}

/// Property of a host that its guests see and that no register list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HardwareFact {
    /// Frequency of the system counter, CNTFRQ_EL0.
    CounterFrequency,
    /// SVE vector lengths, KVM_REG_ARM64_SVE_VLS.
    VectorLengths,
    /// Block size of `DC ZVA`, DCZID_EL0.
    ZeroingBlock,
    /// Limits of the GICv3's CPU interface, ICC_CTLR_EL1.
    GicLimits,
    /// Number of MTE tags that one instruction accesses, GMID_EL1.
    TagBlock,
    /// Common events of the PMU, PMCEID0_EL0.
    PmuEvents0,
    /// Further common events of the PMU, PMCEID1_EL0.
    PmuEvents1,
    /// Implementer and revision of the GICv3, GICD_IIDR.
    GicRevision,
}

impl HardwareFact {
    /// All properties, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::CounterFrequency,
        Self::VectorLengths,
        Self::ZeroingBlock,
        Self::TagBlock,
        Self::GicLimits,
        Self::GicRevision,
        Self::PmuEvents0,
        Self::PmuEvents1,
    ];

    /// Returns the register in which the guest reads the property; for the vector lengths, that of
    /// KVM.
    pub const fn register(self) -> &'static str {
        match self {
            Self::CounterFrequency => "CNTFRQ_EL0",
            Self::VectorLengths => "KVM_REG_ARM64_SVE_VLS",
            Self::ZeroingBlock => "DCZID_EL0",
            Self::GicLimits => "ICC_CTLR_EL1",
            Self::TagBlock => "GMID_EL1",
            Self::PmuEvents0 => "PMCEID0_EL0",
            Self::PmuEvents1 => "PMCEID1_EL0",
            Self::GicRevision => "GICD_IIDR",
        }
    }

    /// Returns the register in which a list of QEMU's emulator can hold the property.
    pub(crate) const fn listed_register(self) -> Option<RegisterId> {
        match self {
            Self::CounterFrequency => Some(RegisterId::sysreg(3, 3, 14, 0, 0)),
            Self::ZeroingBlock => Some(RegisterId::DCZID_EL0),
            Self::TagBlock => Some(RegisterId::sysreg(3, 1, 0, 0, 4)),
            _ => None,
        }
    }

    /// Returns the name without the register.
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::GicLimits => "GIC limits",
            Self::TagBlock => "MTE tag block",
            Self::PmuEvents0 | Self::PmuEvents1 => "PMU events",
            Self::GicRevision => "GIC revision",
            Self::CounterFrequency | Self::VectorLengths | Self::ZeroingBlock => self.name(),
        }
    }

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CounterFrequency => "counter frequency",
            Self::VectorLengths => "SVE vector lengths",
            Self::ZeroingBlock => "DC ZVA block size",
            Self::GicLimits => "GIC limits (ICC_CTLR_EL1)",
            Self::TagBlock => "MTE tag block (GMID_EL1)",
            Self::PmuEvents0 => "PMU events (PMCEID0_EL0)",
            Self::PmuEvents1 => "PMU events (PMCEID1_EL0)",
            Self::GicRevision => "GIC revision (GICD_IIDR)",
        }
    }

    /// Returns `true` if a difference stops no load, but the guest can notice it.
    pub(crate) const fn is_only_visible(self) -> bool {
        matches!(self, Self::PmuEvents0 | Self::PmuEvents1)
    }
}

/// Returns the revision in GICD_IIDR: 2 or 3 for the GICv3 of KVM.
pub(crate) const fn gic_revision(iidr: u64) -> u64 {
    iidr >> 12 & 0xf
}

/// Set of SVE vector lengths.
///
/// Bit `n` stands for a length of `(n + 1) * 128` bits, as in KVM_REG_ARM64_SVE_VLS. The
/// architecture has lengths up to 2048 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VectorLengths(u16);

impl VectorLengths {
    /// Returns the set with these bits.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Returns the set in a value of KVM_REG_ARM64_SVE_VLS.
    ///
    /// Returns `None` if no CPU with SVE has such a set. Every set has the length of 128 bits, and
    /// none has a length above 2048 bits.
    pub fn from_value(value: &Value) -> Option<Self> {
        let bits = match value {
            Value::U64(bits) => *bits,
            Value::Bytes(bytes) => {
                let (low, high) = bytes.split_at_checked(2)?;
                if high.iter().any(|byte| *byte != 0) {
                    return None;
                }
                u64::from(u16::from_le_bytes(low.try_into().ok()?))
            }
        };
        let bits = u16::try_from(bits).ok()?;
        (bits & 1 != 0).then_some(Self(bits))
    }

    /// Returns the lengths that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the greatest length in bits that is at most `limit` bits, or `None` if there is
    /// none.
    pub(crate) const fn max_bits_up_to(self, limit: u32) -> Option<u32> {
        let count = limit / 128;
        if count >= u16::BITS {
            return self.max_bits();
        }
        Self(self.0 & ((1 << count) - 1)).max_bits()
    }

    /// Returns the bits of the set.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns `true` if all lengths of `other` are in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the greatest length in bits, or `None` for the empty set.
    pub const fn max_bits(self) -> Option<u32> {
        match self.0 {
            0 => None,
            bits => Some((u16::BITS - bits.leading_zeros()) * 128),
        }
    }
}

/// PMCEID0_EL0 and PMCEID1_EL0: the common PMU events that a guest can count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PmuEvents {
    /// PMCEID0_EL0: events 0x0 to 0x1f, and in bits 63:32 events 0x4000 to 0x401f.
    pub pmceid0: u64,
    /// PMCEID1_EL0: events 0x20 to 0x3f, and in bits 63:32 events 0x4020 to 0x403f.
    pub pmceid1: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bit_is_the_greatest_length() {
        let lengths = VectorLengths::from_bits;
        assert_eq!(lengths(0).max_bits(), None);
        assert_eq!(lengths(1).max_bits(), Some(128));
        assert_eq!(lengths(0b1011).max_bits(), Some(512));
        assert_eq!(lengths(0xffff).max_bits(), Some(2048));
        assert!(lengths(0b1011).contains(lengths(0b11)));
        assert!(!lengths(0b1011).contains(lengths(0b101)));
        assert_eq!(lengths(0b1011).max_bits_up_to(2048), Some(512));
        assert_eq!(lengths(0b1011).max_bits_up_to(511), Some(256));
        assert_eq!(lengths(0b1010).max_bits_up_to(128), None);
        assert_eq!(lengths(0xffff).max_bits_up_to(u32::MAX), Some(2048));
    }

    #[test]
    fn impossible_sets_are_recognised() {
        let from_bytes = |low: u8, high: u8| {
            let mut bytes = [0; 64];
            (bytes[0], bytes[63]) = (low, high);
            VectorLengths::from_value(&Value::Bytes(bytes.into()))
        };
        let set = Some(VectorLengths::from_bits(3));
        assert_eq!(VectorLengths::from_value(&Value::U64(3)), set);
        assert_eq!(from_bytes(3, 0), set);
        assert_eq!(from_bytes(3, 1), None);
        for bits in [0, 2, 0x1_0001] {
            assert_eq!(VectorLengths::from_value(&Value::U64(bits)), None);
        }
    }

    #[test]
    fn known_facts_are_kept() {
        let one = HardwareFacts {
            counter_frequency: Some(1),
            ..HardwareFacts::UNKNOWN
        };
        let other = HardwareFacts {
            counter_frequency: Some(2),
            dczid: Some(4),
            ..HardwareFacts::UNKNOWN
        };
        let both = one.or(other);
        assert_eq!((both.counter_frequency, both.dczid), (Some(1), Some(4)));
        assert_eq!(HardwareFacts::UNKNOWN.or(other), other);
    }

    #[test]
    fn a_fact_of_a_real_host_is_never_emulated() {
        let real = HardwareFacts {
            dczid: Some(4),
            ..HardwareFacts::UNKNOWN
        };
        let emulated = HardwareFacts {
            counter_frequency: Some(1),
            is_emulated: true,
            ..HardwareFacts::UNKNOWN
        };
        assert!(emulated.or(HardwareFacts::UNKNOWN).is_emulated);
        assert!(emulated.or(emulated).is_emulated);
        assert!(!emulated.or(real).is_emulated);
        assert!(!real.or(emulated).is_emulated);
    }

    /// The GIC comes with the VM, and the other facts come from the record of its host.
    #[test]
    fn the_gic_of_a_vm_is_no_fact_of_its_host() {
        let vm = HardwareFacts {
            gic: Some(Gic::Other),
            uses_lpis: Some(false),
            ..HardwareFacts::UNKNOWN
        };
        let host = HardwareFacts {
            dczid: Some(4),
            is_emulated: true,
            ..HardwareFacts::UNKNOWN
        };
        let both = HardwareFacts {
            gic: Some(Gic::Other),
            uses_lpis: Some(false),
            ..host
        };
        assert_eq!(vm.or(host), both);
        assert_eq!(host.or(vm), both);
    }
}
