//! [`Version`] and [`Versions`]: of a program that writes or loads VMs, or says something.

use core::fmt;

/// A version of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

impl Version {
    /// `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The first version that has a machine type, by its name: `virt-10.0`; `None` for one without a version in its name.
    pub(super) fn of_machine(machine: &str) -> Option<Self> {
        let (_, version) = machine.rsplit_once('-')?;
        let (major, minor) = version.split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A range of versions. An end that nothing tells of is `None`; neither end: all that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// The first one.
    pub since: Option<Version>,
    /// The last one.
    pub until: Option<Version>,
}

impl Versions {
    /// Any.
    pub const ANY: Self = Self {
        since: None,
        until: None,
    };

    /// From this one on.
    pub const fn since(major: u16, minor: u16) -> Self {
        Self {
            since: Some(Version::new(major, minor)),
            until: None,
        }
    }

    /// Up to this one.
    pub const fn until(major: u16, minor: u16) -> Self {
        Self {
            since: None,
            until: Some(Version::new(major, minor)),
        }
    }

    /// Only this one.
    pub const fn only(major: u16, minor: u16) -> Self {
        Self {
            since: Some(Version::new(major, minor)),
            until: Some(Version::new(major, minor)),
        }
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            since: self.since.max(other.since),
            until: match (self.until, other.until) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (one, other) => one.or(other),
            },
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.since, self.until) {
            (None, None) => f.write_str("any version"),
            (Some(since), None) => write!(f, "{since} and later"),
            (None, Some(until)) => write!(f, "up to {until}"),
            (Some(since), Some(until)) if since == until => write!(f, "{since}"),
            (Some(since), Some(until)) => write!(f, "{since} to {until}"),
        }
    }
}
