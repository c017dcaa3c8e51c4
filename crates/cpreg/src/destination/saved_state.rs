//! Versions of Firecracker's snapshots: [`SnapshotVersion`], and the releases that load each.
//!
//! A release loads snapshots of its own major version only, up to its own minor version. Every
//! change of the state raises the major version.
//!
//! | Firecracker | snapshot version | format |
//! |---|---|---|
//! | 0.23 to 1.6 | a data version | versionize |
//! | 1.7, 1.8, 1.9, 1.10, 1.11 | 1.0.0 to 5.0.0 | bincode 1 |
//! | 1.12 | 6.0.0 | bincode 2 |
//! | 1.13, 1.14 | 8.0.0 | bincode 2 |
//! | 1.15 | 9.0.0 | bitcode |
//! | 1.16 | 10.0.0 | bitcode |
//!
//! Sources: Firecracker `src/vmm/src/persist.rs` (`SNAPSHOT_VERSION`) of each release, and recorded
//! loads of other versions by 1.10.1, 1.14.4 and 1.16.1.

use core::fmt;

use super::Version;

/// Version of a Firecracker snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotVersion {
    /// Major version; each change of the state raises it.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Patch version.
    pub patch: u16,
}

/// Releases of Firecracker with the major version of their snapshots, oldest first.
const RELEASES: [(Version, u16); 10] = [
    (Version::new(1, 7), 1),
    (Version::new(1, 8), 2),
    (Version::new(1, 9), 3),
    (Version::new(1, 10), 4),
    (Version::new(1, 11), 5),
    (Version::new(1, 12), 6),
    (Version::new(1, 13), 8),
    (Version::new(1, 14), 8),
    (Version::new(1, 15), 9),
    (Version::new(1, 16), 10),
];

impl SnapshotVersion {
    /// Returns the version `major.0.0`.
    pub const fn new(major: u16) -> Self {
        Self {
            major,
            minor: 0,
            patch: 0,
        }
    }

    /// Returns the version in a text such as `8.0.0`, or `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |number: &&str| number.bytes().all(|byte| byte.is_ascii_digit());
        let mut numbers = text.split('.');
        let mut number = || -> Option<u16> { numbers.next().filter(is_plain)?.parse().ok() };
        let version = Self {
            major: number()?,
            minor: number()?,
            patch: number()?,
        };
        numbers.next().is_none().then_some(version)
    }

    /// Returns the version that a release of Firecracker writes, or `None` for a release that the
    /// table lacks.
    pub fn from_release(release: Version) -> Option<Self> {
        RELEASES
            .into_iter()
            .find(|(version, _)| *version == release)
            .map(|(_, major)| Self::new(major))
    }

    /// Returns the releases of Firecracker that load this version, oldest first.
    pub fn releases(self) -> impl Iterator<Item = Version> {
        RELEASES
            .into_iter()
            .filter(move |(_, major)| Self::new(*major).loads(self))
            .map(|(release, _)| release)
    }

    /// Returns `true` if the release that writes this version loads a snapshot of version `saved`.
    pub const fn loads(self, saved: Self) -> bool {
        self.major == saved.major && saved.minor <= self.minor
    }
}

impl fmt::Display for SnapshotVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_version_round_trips() {
        let version = SnapshotVersion::parse("8.0.0").unwrap();
        assert_eq!(version, SnapshotVersion::new(8));
        assert_eq!(version.to_string(), "8.0.0");
        for text in [
            "",
            "8",
            "8.0",
            "8.0.0.0",
            "+8.0.0",
            "8.0.0-rc1",
            "8..0",
            "99999.0.0",
        ] {
            assert_eq!(SnapshotVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn releases_load_their_own_major_version() {
        let releases = |major| SnapshotVersion::new(major).releases().collect::<Vec<_>>();
        assert_eq!(releases(8), [Version::new(1, 13), Version::new(1, 14)]);
        assert_eq!(releases(10), [Version::new(1, 16)]);
        assert_eq!(releases(7), []);
        let newer = SnapshotVersion::parse("8.1.0").unwrap();
        assert!(!SnapshotVersion::new(8).loads(newer));
    }
}
