//! [`Version`] and [`VersionRange`] of programs that write or load VMs, or print messages.

use core::fmt;

/// Version of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
}

impl Version {
    /// Returns the version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Returns the version of a Linux release (`uname -r`), such as `6.12.107+deb13-cloud-arm64`.
    ///
    /// Returns `None` if the text does not begin with two numbers.
    pub fn from_kernel_release(release: &str) -> Option<Self> {
        let (major, rest) = release.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }

    /// Returns the first version of QEMU that has a machine type, such as `virt-10.0`.
    ///
    /// Returns `None` if the name does not end in a version.
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

/// Range of versions, both ends included. An unknown end is `None`.
///
/// A range without both ends contains all examined versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionRange {
    /// First version of the range.
    pub first: Option<Version>,
    /// Last version of the range.
    pub last: Option<Version>,
}

impl VersionRange {
    /// Range of all versions.
    pub const ANY: Self = Self {
        first: None,
        last: None,
    };

    /// Returns the range of this version and all later ones.
    pub const fn with_first(major: u16, minor: u16) -> Self {
        Self {
            first: Some(Version::new(major, minor)),
            last: None,
        }
    }

    /// Returns the range of all versions up to this one.
    pub const fn with_last(major: u16, minor: u16) -> Self {
        Self {
            first: None,
            last: Some(Version::new(major, minor)),
        }
    }

    /// Returns the range of only this version.
    pub const fn single(major: u16, minor: u16) -> Self {
        Self {
            first: Some(Version::new(major, minor)),
            last: Some(Version::new(major, minor)),
        }
    }

    /// Returns the range of versions that are in both ranges. If there are none, `first` is later
    /// than `last`.
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
            (Some(first), None) => write!(f, "{first} and later"),
            (None, Some(last)) => write!(f, "up to {last}"),
            (Some(first), Some(last)) if first == last => write!(f, "{first}"),
            (Some(first), Some(last)) => write!(f, "{first} to {last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_release_begins_with_its_version() {
        let version = Version::from_kernel_release;
        assert_eq!(
            version("6.12.107+deb13-cloud-arm64"),
            Some(Version::new(6, 12))
        );
        assert_eq!(version("7.3.4"), Some(Version::new(7, 3)));
        assert_eq!(version("7.4-rc1"), Some(Version::new(7, 4)));
        for release in ["", "6", "6.", "6.x", "6-12", "v6.12", "6 12.1", "99999.1"] {
            assert_eq!(version(release), None, "{release}");
        }
    }
}
