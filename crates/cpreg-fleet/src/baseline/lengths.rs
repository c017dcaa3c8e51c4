//! [`VectorLimit`]: the SVE vector lengths that all hosts have.

use cpreg::destination::Destination;
use cpreg::hardware::VectorLengths;

/// Greatest SVE vector length of a VM, up to which all hosts have the same lengths.
///
/// A guest has all lengths of its host up to the greatest one of its VM
/// (`KVM_REG_ARM64_SVE_VLS`), so the lengths below the limit must be the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VectorLimit {
    /// Greatest length in bits.
    pub max_bits: u32,
    /// Greatest length in bits that any host has.
    pub best_bits: u32,
    /// Hosts with other lengths than the host with the most, as indexes.
    pub forced_by: Vec<usize>,
}

/// Greatest length in bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct LengthLimit(u32);

impl LengthLimit {
    /// Returns the lengths up to the limit.
    pub(super) fn apply(self, lengths: VectorLengths) -> VectorLengths {
        let count = self.0 / LENGTH_UNIT;
        let mask = if count >= u16::BITS {
            u16::MAX
        } else {
            (1 << count) - 1
        };
        VectorLengths::from_bits(lengths.bits() & mask)
    }
}

impl VectorLimit {
    /// Returns the limit for these hosts, or `None` if all have the same lengths, or if the lengths
    /// of a host are not known.
    pub(super) fn find(hosts: &[Destination]) -> Option<Self> {
        let lengths = hosts.iter().map(|host| host.hardware.vector_lengths);
        let lengths: Vec<_> = lengths.collect::<Option<_>>()?;
        let first = *lengths.first()?;
        if lengths.iter().all(|other| *other == first) {
            return None;
        }
        let is_common = |bits: &u32| {
            let limit = LengthLimit(*bits);
            let below = limit.apply(first);
            let has_length = below.max_bits() == Some(*bits);
            has_length && lengths.iter().all(|other| limit.apply(*other) == below)
        };
        let candidates = (1..=u16::BITS).map(|count| count * LENGTH_UNIT);
        let max_bits = candidates.rev().find(is_common)?;
        let best = lengths
            .iter()
            .max_by_key(|lengths| (lengths.max_bits(), lengths.bits().count_ones()))?;
        let forced_by = lengths.iter().enumerate();
        let forced_by = forced_by.filter(|(_, lengths)| *lengths != best);
        Some(Self {
            max_bits,
            best_bits: best.max_bits()?,
            forced_by: forced_by.map(|(index, _)| index).collect(),
        })
    }

    pub(super) const fn limit(&self) -> LengthLimit {
        LengthLimit(self.max_bits)
    }
}

/// Difference between two lengths in bits.
const LENGTH_UNIT: u32 = 128;

#[cfg(test)]
mod tests {
    use cpreg::destination::ValueOrigin;
    use cpreg::hardware::HardwareFacts;

    use super::*;

    fn limit(sets: &[Option<u16>]) -> Option<(u32, u32, Vec<usize>)> {
        let hosts = sets.iter().map(|bits| Destination {
            name: String::new(),
            accelerator: None,
            loader: None,
            value_origin: ValueOrigin::Reset,
            vcpus: Vec::new(),
            kernel_version: None,
            hardware: HardwareFacts {
                vector_lengths: bits.map(VectorLengths::from_bits),
                ..HardwareFacts::UNKNOWN
            },
            shape: None,
        });
        let hosts: Vec<_> = hosts.collect();
        let limit = VectorLimit::find(&hosts)?;
        Some((limit.max_bits, limit.best_bits, limit.forced_by))
    }

    #[test]
    fn the_lengths_below_the_limit_are_the_same() {
        assert_eq!(limit(&[Some(0b11), Some(0b1)]), Some((128, 256, vec![1])));
        assert_eq!(
            limit(&[Some(0b1011), Some(0b1111)]),
            Some((256, 512, vec![0]))
        );
        assert_eq!(limit(&[Some(0b11), Some(0b11)]), None);
        assert_eq!(limit(&[Some(0b11), None]), None);
        assert_eq!(
            limit(&[Some(u16::MAX), Some(0x7fff)]),
            Some((1920, 2048, vec![1]))
        );
    }
}
