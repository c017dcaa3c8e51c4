//! [`KernelName`]: the kernel in the name of a host, as people write it.
//!
//! | name | kernel |
//! |---|---|
//! | `6.12.63`, `6.8` | the upstream version, with or without the last number |
//! | `6.8.0-45-generic`, `5.14.0-427.el9.aarch64` | a release (`uname -r`) |
//! | `ubuntu-24.04`, `debian-13`, `rhel-9` | the default kernel of a distribution |
//!
//! Some distributions backport KVM's changes to old versions. Their version does not determine the
//! behaviour, so no recorded kernel stands for them ([`KernelName::backporter`]).

use cpreg::destination::Version;

/// A kernel, by its version and distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelName {
    /// Series: `6.12` for 6.12.63.
    pub series: Version,
    /// Last number of the upstream version; `None` if it is not known, as in Ubuntu's `6.8.0`.
    pub patch: Option<u32>,
    /// `true` for a release candidate, which is between the series and the one before.
    pub is_candidate: bool,
    /// Distribution that backports large changes to this version.
    pub backporter: Option<&'static str>,
}

/// Default kernel of a release of a distribution.
struct DistributionKernel {
    names: &'static [&'static str],
    series: (u16, u16),
    backporter: Option<&'static str>,
}

const fn distribution(names: &'static [&'static str], series: (u16, u16)) -> DistributionKernel {
    DistributionKernel {
        names,
        series,
        backporter: None,
    }
}

const fn backporting(
    backporter: &'static str,
    names: &'static [&'static str],
    series: (u16, u16),
) -> DistributionKernel {
    DistributionKernel {
        names,
        series,
        backporter: Some(backporter),
    }
}

const RHEL: &str = "Red Hat Enterprise Linux";
const SUSE: &str = "SUSE Linux Enterprise";
const OPENEULER: &str = "openEuler";

/// Default kernels, from the release notes of the distributions.
const DISTRIBUTIONS: &[DistributionKernel] = &[
    distribution(&["debian-11", "bullseye"], (5, 10)),
    distribution(&["debian-12", "bookworm"], (6, 1)),
    distribution(&["debian-13", "trixie"], (6, 12)),
    distribution(&["ubuntu-20.04", "focal"], (5, 4)),
    distribution(&["ubuntu-22.04", "jammy"], (5, 15)),
    distribution(&["ubuntu-24.04", "noble"], (6, 8)),
    distribution(&["ubuntu-26.04", "resolute"], (7, 0)),
    distribution(&["amazon-linux-2", "al2"], (5, 10)),
    distribution(&["amazon-linux-2023", "al2023"], (6, 1)),
    distribution(&["proxmox-8", "pve-8"], (6, 8)),
    distribution(&["proxmox-9", "pve-9"], (6, 17)),
    backporting(
        RHEL,
        &[
            "rhel-8",
            "centos-8",
            "centos-stream-8",
            "rocky-8",
            "almalinux-8",
            "alma-8",
            "el8",
        ],
        (4, 18),
    ),
    backporting(
        RHEL,
        &[
            "rhel-9",
            "centos-9",
            "centos-stream-9",
            "rocky-9",
            "almalinux-9",
            "alma-9",
            "el9",
        ],
        (5, 14),
    ),
    backporting(
        RHEL,
        &[
            "rhel-10",
            "centos-10",
            "centos-stream-10",
            "rocky-10",
            "almalinux-10",
            "alma-10",
            "el10",
        ],
        (6, 12),
    ),
    backporting(SUSE, &["sles-15-sp5", "leap-15.5"], (5, 14)),
    backporting(
        SUSE,
        &["sles-15-sp6", "sles-15-sp7", "sles-15", "leap-15.6"],
        (6, 4),
    ),
    backporting(SUSE, &["sles-16", "leap-16"], (6, 12)),
    backporting(OPENEULER, &["openeuler-22.03"], (5, 10)),
    backporting(OPENEULER, &["openeuler-24.03"], (6, 6)),
];

impl KernelName {
    /// Parses the name of a kernel: a version, a release, or a distribution and its release.
    ///
    /// ```
    /// use cpreg_hosts::kernel_name::KernelName;
    ///
    /// let kernel = KernelName::parse("6.8.0-45-generic").expect("Ubuntu's kernel");
    /// assert_eq!(kernel.series.to_string(), "6.8");
    /// assert_eq!(kernel.patch, None);
    /// let kernel = KernelName::parse("rhel-9").expect("a distribution");
    /// assert_eq!(kernel.backporter, Some("Red Hat Enterprise Linux"));
    /// assert!(KernelName::parse("next").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_distribution(text).or_else(|| Self::from_release(text))
    }

    /// Returns the version as a number that orders versions.
    ///
    /// Without a last number, it is the first version of the series.
    pub(crate) fn number(self) -> u64 {
        let Version { major, minor, .. } = self.series;
        let patch = self.patch.unwrap_or_default();
        u64::from(major) << 48 | u64::from(minor) << 32 | u64::from(patch)
    }

    /// Returns the default kernel of a distribution's release: `ubuntu-24.04`.
    pub(crate) fn from_distribution(text: &str) -> Option<Self> {
        let mut distributions = DISTRIBUTIONS.iter();
        let entry = distributions.find(|entry| {
            let mut names = entry.names.iter();
            names.any(|name| {
                // The part after the last `-` is a version: `rhel-9.4` is RHEL 9.
                let is_point_release = || {
                    let rest = text.get(name.len()..).unwrap_or_default();
                    let start = text.get(..name.len()).unwrap_or_default();
                    name.contains('-') && start.eq_ignore_ascii_case(name) && rest.starts_with('.')
                };
                name.eq_ignore_ascii_case(text) || is_point_release()
            })
        })?;
        let (major, minor) = entry.series;
        Some(Self {
            series: Version::new(major, minor),
            patch: None,
            is_candidate: false,
            backporter: entry.backporter,
        })
    }

    /// Parses a version or a release.
    fn from_release(text: &str) -> Option<Self> {
        let is_part = |letter: char| letter.is_ascii_digit() || letter == '.';
        let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let mut parts = numbers.trim_end_matches('.').split('.');
        let series = Version::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let patch: Option<u32> = parts.next().map(str::parse).transpose().ok()?;
        if parts.next().is_some() {
            return None;
        }
        let backporter = release_backporter(rest);
        // Distributions that number their own updates leave the upstream number at 0.
        let is_renumbered = rest.starts_with('-') && patch == Some(0);
        Some(Self {
            series,
            patch: patch.filter(|_| !is_renumbered && backporter.is_none()),
            is_candidate: rest.starts_with("-rc"),
            backporter,
        })
    }
}

/// Returns the backporting distribution that the rest of a release names.
fn release_backporter(rest: &str) -> Option<&'static str> {
    let words = || rest.split(['.', '-', '_', '+']);
    let has_number_after = |prefix: &str| {
        words().any(|word| {
            let number = word.strip_prefix(prefix);
            number.is_some_and(|it| it.starts_with(|letter: char| letter.is_ascii_digit()))
        })
    };
    // `5.14.21-150500.55-default`: SUSE writes its product as six digits.
    let is_suse = words().any(|word| {
        let is_number = word.bytes().all(|letter| letter.is_ascii_digit());
        is_number && word.len() == 6 && (word.starts_with("15") || word.starts_with("16"))
    });
    if has_number_after("el") {
        Some(RHEL)
    } else if has_number_after("oe") {
        Some(OPENEULER)
    } else if is_suse {
        Some(SUSE)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (String, Option<u32>, Option<&'static str>);

    fn parse(text: &str) -> Option<Parts> {
        KernelName::parse(text).map(kernel_parts)
    }

    fn kernel_parts(kernel: KernelName) -> Parts {
        (kernel.series.to_string(), kernel.patch, kernel.backporter)
    }

    fn kernel(series: &str, patch: Option<u32>, backporter: Option<&'static str>) -> Parts {
        (series.to_owned(), patch, backporter)
    }

    #[test]
    fn versions_are_series_and_patch() {
        assert_eq!(parse("6.12.63"), Some(kernel("6.12", Some(63), None)));
        assert_eq!(parse("6.12"), Some(kernel("6.12", None, None)));
        assert_eq!(parse("6.12.0"), Some(kernel("6.12", Some(0), None)));
        for text in [
            "",
            "6",
            "six",
            "6.x",
            "6.12.1.2",
            "6..1",
            "99999999999.1",
            "-6.12",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// Releases as `uname -r` prints them.
    #[test]
    fn releases_name_their_distribution() {
        for (release, expected) in [
            ("6.8.0-45-generic", kernel("6.8", None, None)),
            (
                "6.12.107+deb13-cloud-arm64",
                kernel("6.12", Some(107), None),
            ),
            ("6.1.0-50-cloud-arm64", kernel("6.1", None, None)),
            ("6.8.12-4-pve", kernel("6.8", Some(12), None)),
            (
                "6.1.109-118.189.amzn2023.aarch64",
                kernel("6.1", Some(109), None),
            ),
            ("6.18.15", kernel("6.18", Some(15), None)),
            ("7.0.0-rc3", kernel("7.0", None, None)),
            (
                "4.18.0-553.16.1.el8_10.aarch64",
                kernel("4.18", None, Some(RHEL)),
            ),
            (
                "5.14.0-427.13.1.el9_4.aarch64",
                kernel("5.14", None, Some(RHEL)),
            ),
            (
                "6.12.0-55.9.1.el10_0.aarch64+64k",
                kernel("6.12", None, Some(RHEL)),
            ),
            (
                "5.14.21-150500.55.7-default",
                kernel("5.14", None, Some(SUSE)),
            ),
            (
                "6.4.0-150600.23.25-default",
                kernel("6.4", None, Some(SUSE)),
            ),
            ("6.12.0-160000.5-default", kernel("6.12", None, Some(SUSE))),
            (
                "5.10.0-136.12.0.86.oe2203sp1.aarch64",
                kernel("5.10", None, Some(OPENEULER)),
            ),
            (
                "6.6.0-28.0.0.34.oe2403.aarch64",
                kernel("6.6", None, Some(OPENEULER)),
            ),
        ] {
            assert_eq!(parse(release), Some(expected), "{release}");
        }
    }

    #[test]
    fn release_candidates_are_recognised() {
        for (release, expected) in [
            ("7.0.0-rc3", true),
            ("7.0-rc3-arm64", true),
            ("7.0.0-45-generic", false),
            ("7.0.13", false),
        ] {
            let kernel = KernelName::parse(release).expect("a kernel");
            assert_eq!(kernel.is_candidate, expected, "{release}");
        }
    }

    #[test]
    fn distributions_have_a_default_kernel() {
        assert_eq!(parse("ubuntu-24.04"), Some(kernel("6.8", None, None)));
        assert_eq!(parse("Ubuntu-24.04.2"), Some(kernel("6.8", None, None)));
        assert_eq!(parse("trixie"), Some(kernel("6.12", None, None)));
        assert_eq!(parse("rhel-9.4"), Some(kernel("5.14", None, Some(RHEL))));
        let centos = Some(kernel("6.12", None, Some(RHEL)));
        assert_eq!(parse("centos-stream-10"), centos);
        assert_eq!(parse("sles-15-sp6"), Some(kernel("6.4", None, Some(SUSE))));
        assert_eq!(parse("ubuntu"), None);
        assert_eq!(parse("ubuntu-24.045"), None);
    }
}
