//! [`Consents`]: what only the user can decide.

use alloc::string::String;
use alloc::vec::Vec;

use crate::register::RegisterId;
use crate::severity::Severity;

/// What the user decided beforehand.
#[derive(Clone, Debug, Default)]
pub struct Consents {
    /// Registers to ignore when only the input has them or their value is not taken.
    pub ignore: Vec<IgnoreConsent>,
    /// Registers to leave out of what is sent.
    pub drop_registers: Vec<RegisterId>,
    /// Values to change before anything is decided, and values for registers that only the destination has.
    pub set: Vec<SetConsent>,
    /// Registers whose adjustment is accepted.
    pub accept: Vec<RegisterId>,
    /// Adjustments up to this severity are accepted.
    pub accept_up_to: Option<Severity>,
    /// Extensions to leave out, by name.
    pub drop_extensions: Vec<String>,
}

/// One register to ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgnoreConsent {
    /// Which.
    pub register: RegisterId,
    /// Only if it holds this value under this mask.
    pub condition: Option<(u64, u64)>,
}

/// Bits of one register to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetConsent {
    /// Which.
    pub register: RegisterId,
    /// The bits to change.
    pub mask: u64,
    /// What to make them.
    pub value: u64,
}

impl SetConsent {
    /// The value with these bits set so.
    pub const fn apply(&self, value: u64) -> u64 {
        value & !self.mask | self.value & self.mask
    }
}

impl Consents {
    pub(super) fn find_ignore(&self, register: RegisterId) -> Option<&IgnoreConsent> {
        self.ignore
            .iter()
            .find(|ignore| ignore.register == register)
    }

    /// What the user makes of a register's value.
    pub(super) fn apply_sets(&self, register: RegisterId, value: u64) -> u64 {
        let sets = self.set.iter().filter(|set| set.register == register);
        sets.fold(value, |value, set| set.apply(value))
    }

    pub(super) fn accepts(&self, register: RegisterId, severity: Severity) -> bool {
        let named = |register| self.accept.contains(&register);
        named(register)
            || register
                .counterpart()
                .is_some_and(|counterpart| named(counterpart.id))
            || self.accept_up_to.is_some_and(|most| severity <= most)
    }
}
