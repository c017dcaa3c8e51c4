//! [`HostTools`]: programs that the host must have, and properties that shape the files.

use std::path::{Path, PathBuf};

use super::tree::Tree;
use crate::arguments::InstallPart;
use crate::failure::Failure;

/// Possible paths of nft, best first.
const NFT: [&str; 3] = ["usr/sbin/nft", "sbin/nft", "usr/bin/nft"];
/// Possible paths of systemd.
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd", "lib/systemd/systemd"];
/// Files of which a host with libvirt's QEMU driver has at least one.
const LIBVIRT: [&str; 5] = [
    "usr/sbin/libvirtd",
    "usr/sbin/virtqemud",
    "usr/bin/libvirtd",
    "usr/bin/virtqemud",
    "etc/libvirt/qemu.conf",
];
/// Folders of unit files.
const UNIT_FOLDERS: [&str; 3] = [
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "etc/systemd/system",
];
/// Daemons that run hooks of the QEMU driver.
const LIBVIRT_UNITS: [&str; 2] = ["libvirtd.service", "virtqemud.service"];
/// Profiles in which AppArmor confines libvirt's daemons and their hooks.
const APPARMOR_PROFILES: [&str; 2] = [
    "etc/apparmor.d/usr.sbin.libvirtd",
    "etc/apparmor.d/usr.sbin.virtqemud",
];
/// Folders whose programs these profiles let hooks start.
const HOOK_PROGRAM_FOLDERS: [&str; 4] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"];
/// Folder that exists while systemd runs.
const SYSTEMD_RUNS: &str = "run/systemd/system";

/// State of systemd on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Systemd {
    #[default]
    Missing,
    Installed,
    Running,
}

/// Tools of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct HostTools {
    /// Path of nft on the host, with the leading slash.
    pub(super) nft: Option<PathBuf>,
    /// Services of libvirt's daemons.
    pub(super) libvirt_units: Vec<&'static str>,
    /// `true` if the host has the group `kvm`, which may open `/dev/kvm`.
    pub(super) has_kvm_group: bool,
    pub(super) systemd: Systemd,
    has_libvirt: bool,
    has_apparmor_profile: bool,
}

impl HostTools {
    pub(super) fn find(tree: &Tree) -> Self {
        let exists = |path: &str| tree.path(Path::new(path)).exists();
        let nft = NFT.into_iter().find(|path| exists(path));
        let has_unit = |unit: &&str| {
            let mut folders = UNIT_FOLDERS.into_iter();
            folders.any(|folder| exists(&format!("{folder}/{unit}")))
        };
        let groups = std::fs::read_to_string(tree.path(Path::new("etc/group")));
        Self {
            nft: nft.map(|path| Path::new("/").join(path)),
            libvirt_units: LIBVIRT_UNITS.into_iter().filter(has_unit).collect(),
            has_kvm_group: groups
                .is_ok_and(|groups| groups.lines().any(|line| line.starts_with("kvm:"))),
            has_libvirt: LIBVIRT.into_iter().any(exists),
            has_apparmor_profile: APPARMOR_PROFILES.into_iter().any(exists),
            systemd: match SYSTEMD.into_iter().any(exists) {
                true if exists(SYSTEMD_RUNS) => Systemd::Running,
                true => Systemd::Installed,
                false => Systemd::Missing,
            },
        }
    }

    /// Returns `true` if AppArmor, if it is enabled, does not let hooks start this program.
    pub(super) fn confines_hook(&self, program: &Path) -> bool {
        let folder = program.parent();
        let is_permitted = folder.is_some_and(|folder| {
            let mut folders = HOOK_PROGRAM_FOLDERS.iter();
            folders.any(|permitted| Path::new(permitted) == folder)
        });
        self.has_apparmor_profile && !is_permitted
    }

    /// Checks that the host has the programs that these parts need.
    ///
    /// # Errors
    /// Returns an error that names everything that is missing.
    pub(super) fn require(&self, parts: &[InstallPart], is_live: bool) -> Result<(), Failure> {
        let mut missing = Vec::new();
        if !self.has_libvirt {
            missing.push(
                "libvirtd or virtqemud (package libvirt-daemon-system of Debian, \
                 libvirt-daemon-driver-qemu of Fedora)",
            );
        }
        if parts.contains(&InstallPart::Relay) {
            match self.systemd {
                Systemd::Missing => missing.push("systemd"),
                Systemd::Installed if is_live => missing.push("a running systemd"),
                Systemd::Installed | Systemd::Running => {}
            }
            if self.nft.is_none() {
                missing.push("nft (package nftables)");
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let failure = Failure::new(format!(
            "nothing was changed: this host lacks {}",
            missing.join("; ")
        ));
        if self.has_libvirt {
            return Err(failure.with_hint(
                "`--part hook` needs neither systemd nor nft, and installs only the hook; for live \
                 migrations, run `cpreg relay --serve` by hand",
            ));
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apparmor_confines_programs_outside_of_system_folders() {
        let mut tools = HostTools::default();
        assert!(!tools.confines_hook(Path::new("/usr/local/bin/cpreg")));
        tools.has_apparmor_profile = true;
        assert!(tools.confines_hook(Path::new("/usr/local/bin/cpreg")));
        assert!(tools.confines_hook(Path::new("/usr/bin/cpreg/cpreg")));
        assert!(!tools.confines_hook(Path::new("/usr/bin/cpreg")));
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let all = [InstallPart::Hook, InstallPart::Relay];
        let complete = HostTools {
            nft: Some("/usr/sbin/nft".into()),
            has_libvirt: true,
            systemd: Systemd::Running,
            ..HostTools::default()
        };
        let message = |tools: &HostTools, parts: &[InstallPart], is_live| {
            let result = tools.require(parts, is_live);
            result.err().map(|failure| failure.to_string())
        };
        assert_eq!(message(&complete, &all, true), None);
        let stopped = HostTools {
            systemd: Systemd::Installed,
            ..complete.clone()
        };
        assert_eq!(message(&stopped, &all, false), None);
        let text = message(&stopped, &all, true).unwrap();
        assert!(text.contains("a running systemd"), "{text}");
        let nothing = HostTools::default();
        let text = message(&nothing, &all, true).unwrap();
        for tool in ["libvirtd or virtqemud", "; systemd; ", "nft (package"] {
            assert!(text.contains(tool), "{text}");
        }
        let only_libvirt = HostTools {
            has_libvirt: true,
            ..HostTools::default()
        };
        assert_eq!(message(&only_libvirt, &[InstallPart::Hook], true), None);
        assert!(message(&only_libvirt, &all, true).is_some());
    }
}
