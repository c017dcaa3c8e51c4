//! [`RegisterRecord`]: what a fresh vCPU's register held, and which other values were tried on it.

use cpreg::destination::kernel::time_dependent_bits;
use cpreg::register::{Naming, RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;

/// KVM's reset poison, whole or, in a register of 32 bits, its low half.
const POISON: [u64; 2] = [RESET_POISON, RESET_POISON & 0xffff_ffff];

/// A register of a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterRecord {
    /// Which.
    pub id: RegisterId,
    /// What it held, if that is a value.
    pub at_reset: AtReset,
    /// Whether another vCPU of the same VM held something else (MPIDR_EL1).
    pub differs_by_vcpu: bool,
    /// The errno of writing back what was read; 0 if that worked.
    pub write_back: u16,
    /// Other values that were tried, one after another on one vCPU, what was read being written back between them.
    pub trials: Vec<WriteTrial>,
}

/// A value that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteTrial {
    /// What was written.
    pub value: u64,
    /// The errno of that; 0 if it was taken.
    pub errno: u16,
    /// What was read afterwards.
    pub read_back: u64,
}

/// What a register held in a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtReset {
    /// This value.
    Value(Value),
    /// KVM's reset poison, which stands for no value.
    Poison,
    /// It is a counter, which runs on.
    Counter,
    /// Reading it failed with this errno.
    Unreadable(u16),
}

impl AtReset {
    /// What it means that this value was read.
    pub fn from_value(id: RegisterId, value: Value) -> Self {
        if id.is_counter(Naming::Kvm) {
            return Self::Counter;
        }
        match value {
            Value::U64(small) if POISON.contains(&small) => Self::Poison,
            value => Self::Value(value),
        }
    }
}

impl RegisterRecord {
    /// Returns it without what depends on when it was read: to compare two records of one host.
    ///
    /// Of a counter, what was tried is left out too, since that is made of what was read. Of other registers the
    /// [bits that time changes](time_dependent_bits) are 0.
    #[must_use]
    pub fn without_time(&self) -> Self {
        if self.at_reset == AtReset::Counter {
            return Self {
                differs_by_vcpu: false,
                trials: Vec::new(),
                ..self.clone()
            };
        }
        let lasting = !time_dependent_bits(self.id);
        let at_reset = match &self.at_reset {
            AtReset::Value(Value::U64(value)) => AtReset::Value(Value::U64(value & lasting)),
            other => other.clone(),
        };
        let trials = self.trials.iter().map(|trial| WriteTrial {
            value: trial.value & lasting,
            errno: trial.errno,
            read_back: trial.read_back & lasting,
        });
        Self {
            at_reset,
            differs_by_vcpu: self.differs_by_vcpu && lasting == u64::MAX,
            trials: trials.collect(),
            ..self.clone()
        }
    }
}

impl WriteTrial {
    /// Whether the value was taken and stayed.
    pub fn is_accepted(&self) -> bool {
        self.errno == 0 && self.read_back == self.value
    }
}

/// What a register of 64 bits held, if that was a value.
pub(crate) fn reset_value(at_reset: &AtReset) -> Option<u64> {
    match at_reset {
        AtReset::Value(value) => value.as_u64(),
        _ => None,
    }
}

/// What is read after a trial: what was written, if it was taken; else what the register held, if that is known.
pub(crate) const fn expected_read_back(value: u64, errno: u16, own: Option<u64>) -> Option<u64> {
    if errno == 0 { Some(value) } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_of_a_timer_differ_in_time_alone() {
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
