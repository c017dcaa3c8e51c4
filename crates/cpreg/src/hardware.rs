//! [`HardwareFacts`]: properties of a host that its guests see and that no register list holds.
//!
//! A fact that is not known is `None`.

/// Properties of a host that its guests see and that no register list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardwareFacts {
    /// Frequency of the system counter (CNTFRQ_EL0) in hertz.
    ///
    /// The guest reads the frequency once, when it boots. KVM does not scale the counter.
    pub counter_frequency: Option<u32>,
    /// SVE vector lengths of a guest with SVE.
    pub vector_lengths: Option<VectorLengths>,
    /// DCZID_EL0: the block size of `DC ZVA`.
    pub dczid: Option<u64>,
}

impl HardwareFacts {
    /// The facts of a host of which none is known.
    pub const UNKNOWN: Self = Self {
        counter_frequency: None,
        vector_lengths: None,
        dczid: None,
    };
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
    }
}
