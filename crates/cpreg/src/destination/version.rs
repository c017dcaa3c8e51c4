//! [`Version`] and [`VersionRange`]: of a program that writes or loads VMs, or says something.

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
    pub(super) fn from_machine_type(machine: &str) -> Option<Self> {
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
pub struct VersionRange {
    /// The first one.
    pub first: Option<Version>,
    /// The last one.
    pub last: Option<Version>,
}

impl VersionRange {
    /// Any.
    pub const ANY: Self = Self {
        first: None,
        last: None,
    };

    /// From this one on.
    pub const fn with_first(major: u16, minor: u16) -> Self {
        Self {
            first: Some(Version::new(major, minor)),
            last: None,
        }
    }

    /// Up to this one.
    pub const fn with_last(major: u16, minor: u16) -> Self {
        Self {
            first: None,
            last: Some(Version::new(major, minor)),
        }
    }

    /// Only this one.
    pub const fn single(major: u16, minor: u16) -> Self {
        Self {
            first: Some(Version::new(major, minor)),
            last: Some(Version::new(major, minor)),
        }
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self {
            first: self.first.max(other.first),
            last: match (self.last, other.last) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (one, other) => one.or(other),
            },
        }
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (None, None) => f.write_str("any version"),
            (Some(since), None) => write!(f, "{since} and later"),
            (None, Some(until)) => write!(f, "up to {until}"),
            (Some(since), Some(until)) if since == until => write!(f, "{since}"),
            (Some(since), Some(until)) => write!(f, "{since} to {until}"),
        }
    }
}
