//! [`RegisterRecord`]: the value of a fresh vCPU's register, and the writes tried on it.

use cpreg::destination::AcceptedField;
use cpreg::destination::kernel::time_dependent_bits;
use cpreg::register::{Naming, RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;

/// KVM's reset poison in a register of 64 bits, and the low half of the poison for a register of 32
/// bits.
const RESET_POISON_VALUES: [u64; 2] = [RESET_POISON, RESET_POISON & 0xffff_ffff];

/// A register of a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterRecord {
    /// Id of the register.
    pub id: RegisterId,
    /// Content of the register.
    pub at_reset: AtReset,
    /// `true` if another vCPU of the same VM has another value (MPIDR_EL1).
    pub differs_by_vcpu: bool,
    /// Errno of writing back the value that was read; 0 on success.
    pub write_back: u16,
    /// Trials of other values, one after another on one vCPU.
    ///
    /// The probe writes the original value back between trials.
    pub trials: Vec<WriteTrial>,
    /// Fields of an ID register that accept more than their value at reset, ascending by position.
    ///
    /// `None` if the probe did not try every value of every field.
    pub fields: Option<Vec<AcceptedField>>,
}

/// Result of writing another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteTrial {
    /// Value that was written.
    pub value: u64,
    /// Errno of the write; 0 on success.
    pub errno: u16,
    /// Value that was read after the write.
    pub read_back: u64,
}

/// Content of a register in a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtReset {
    /// Value that the register holds.
    Value(Value),
    /// KVM's reset poison, which stands for an architecturally UNKNOWN value.
    Poison,
    /// Value of a running counter, which the record does not keep.
    Counter,
    /// Failure of the read, with this errno.
    Unreadable(u16),
}

impl AtReset {
    /// Classifies a value that was read.
    pub fn from_value(id: RegisterId, value: Value) -> Self {
        if id.is_counter(Naming::Kvm) {
            return Self::Counter;
        }
        match value {
            Value::U64(number) if RESET_POISON_VALUES.contains(&number) => Self::Poison,
            value => Self::Value(value),
        }
    }
}

impl RegisterRecord {
    /// Returns a copy without the parts that depend on time, for comparing two records of one host.
    ///
    /// A counter loses its trials too, because the values to try derive from the value read. In
    /// other registers the [bits that time changes](time_dependent_bits) become 0.
    #[must_use]
    pub fn without_time(&self) -> Self {
        if self.at_reset == AtReset::Counter {
            return Self {
                differs_by_vcpu: false,
                trials: Vec::new(),
                ..self.clone()
            };
        }
        let stable_mask = !time_dependent_bits(self.id);
        let at_reset = match &self.at_reset {
            AtReset::Value(Value::U64(value)) => AtReset::Value(Value::U64(value & stable_mask)),
            other => other.clone(),
        };
        let trials = self.trials.iter().map(|trial| WriteTrial {
            value: trial.value & stable_mask,
            errno: trial.errno,
            read_back: trial.read_back & stable_mask,
        });
        Self {
            at_reset,
            differs_by_vcpu: self.differs_by_vcpu && stable_mask == u64::MAX,
            trials: trials.collect(),
            ..self.clone()
        }
    }
}

impl WriteTrial {
    /// Returns `true` if the write succeeded and the value was read back.
    pub fn is_accepted(&self) -> bool {
        self.errno == 0 && self.read_back == self.value
    }
}

/// Returns the value at reset of a register of at most 64 bits, if it has one.
pub(crate) fn reset_value(at_reset: &AtReset) -> Option<u64> {
    match at_reset {
        AtReset::Value(value) => value.as_u64(),
        _ => None,
    }
}

/// Returns the value that a read after a trial should return.
///
/// After a successful write this is the written value, else the value at reset, if it is known.
pub(crate) const fn expected_read_back(
    value: u64,
    errno: u16,
    reset_value: Option<u64>,
) -> Option<u64> {
    if errno == 0 { Some(value) } else { reset_value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_time_ignores_the_status_of_a_timer() {
        let control = |status: u64| RegisterRecord {
            id: RegisterId::PTIMER_CTL,
            at_reset: AtReset::Value(Value::U64(status)),
            differs_by_vcpu: status == 0,
            write_back: 0,
            trials: vec![WriteTrial {
                value: status ^ 1,
                errno: 0,
                read_back: status | 1,
            }],
            fields: None,
        };
        assert_eq!(control(0).without_time(), control(4).without_time());
        assert_ne!(control(0).without_time(), control(2).without_time());
        let other = |value: u64| RegisterRecord {
            id: RegisterId::CPACR_EL1,
            ..control(value)
        };
        assert_ne!(other(0).without_time(), other(4).without_time());
    }
}
