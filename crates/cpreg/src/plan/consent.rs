//! [`Consents`]: decisions that only the user can make.

use alloc::string::String;
use alloc::vec::Vec;

use crate::register::RegisterId;
use crate::severity::Severity;

/// Decisions that the user made in advance.
#[derive(Clone, Debug, Default)]
pub struct Consents {
    /// Registers to ignore if only the source has the register or the destination does not accept
    /// its value.
    pub ignore: Vec<IgnoreConsent>,
    /// Registers to leave out of the converted VM.
    pub drop_registers: Vec<RegisterId>,
    /// Values to change before any decision, and values for registers that only the destination
    /// has.
    pub set: Vec<SetConsent>,
    /// Registers whose adjustment the user accepts, up to [`Severity::High`].
    pub accept: Vec<RegisterId>,
    /// Maximum severity of adjustments that the user accepts without a register in
    /// [`Self::accept`]; `None` for none. [`Severity::Medium`] applies to higher values too.
    pub accept_up_to: Option<Severity>,
    /// Extensions to leave out, by name.
    pub drop_extensions: Vec<String>,
}

/// Consent to ignore one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgnoreConsent {
    /// Register to ignore.
    pub register: RegisterId,
    /// Value and mask, in this order. The plan ignores the register only if it holds the value
    /// under the mask. `None` ignores any value.
    pub condition: Option<(u64, u64)>,
}

/// Consent to set bits of one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetConsent {
    /// Register to change.
    pub register: RegisterId,
    /// Bits to change.
    pub mask: u64,
    /// New value of these bits.
    pub value: u64,
}

impl SetConsent {
    /// Returns `value` with the bits of the mask set to the consent's value.
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

    /// Applies the user's changes to a register's value.
    pub(super) fn apply_sets(&self, register: RegisterId, value: u64) -> u64 {
        let sets = self.set.iter().filter(|set| set.register == register);
        sets.fold(value, |value, set| set.apply(value))
    }

    /// Returns `true` if the user decided about this register by name.
    pub(super) fn names(&self, register: RegisterId) -> bool {
        self.find_ignore(register).is_some()
            || self.drop_registers.contains(&register)
            || self.set.iter().any(|set| set.register == register)
    }

    pub(super) fn accepts(&self, register: RegisterId, severity: Severity) -> bool {
        let is_named = |register| self.accept.contains(&register);
        if severity == Severity::Fatal {
            return false;
        }
        is_named(register)
            || register
                .counterpart()
                .is_some_and(|counterpart| is_named(counterpart.id))
            || self
                .accept_up_to
                .is_some_and(|max| severity <= max.min(Severity::Medium))
    }
}
