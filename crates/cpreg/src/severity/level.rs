//! [`Severity`]: the classes of severity.

use core::fmt;

/// Severity of a change that the guest could notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A running guest will hardly notice the change.
    Low,
    /// A feature that a guest may use is missing or differs.
    Medium,
    /// A feature that guests rely on is missing or wrong. Only a consent that names the register
    /// takes such a change.
    High,
    /// The change breaks a running guest. Only a value that the user sets for the very field takes
    /// such a change.
    Fatal,
}

impl Severity {
    /// Returns the name used in reports and consents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Fatal => "fatal",
        }
    }

    /// Returns the severity with this name, in upper or lower case, or `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High, Self::Fatal]
            .into_iter()
            .find(|severity| severity.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
