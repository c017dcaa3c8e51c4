//! Saved VMs that this crate recognises and does not read, so that the user learns what the file is
//! and what to do instead.
//!
//! | kind | recognised by |
//! |---|---|
//! | VirtualBox, saved state | `\x7fVirtualBox SavedState V` |
//! | VMware, `.vmss` and `.vmsn` | u32 0xbed2bed0, 0xbad1bad1, 0xbed2bed2, 0xbed3bed3 |
//! | encrypted files | LUKS, age, OpenPGP and `openssl enc` |
//! | Android Emulator, snapshot | folder with `snapshot.pb` and `ram.bin` |
//! | Apple Virtualization | folder or file named `*.vzvmsave`, or a folder with one |
//! | crosvm, snapshot | folder with `mem` and `vcpu0` |

use std::fs::Metadata;
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// Saved VM of another program, or an encrypted file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Foreign {
    /// Saved state of VirtualBox.
    VirtualBox,
    /// Suspended VM or snapshot of VMware.
    Vmware,
    /// Snapshot of the Android Emulator.
    AndroidEmulator,
    /// Saved VM of Apple's Virtualization framework.
    AppleVirtualization,
    /// Snapshot of crosvm.
    Crosvm,
    /// Encrypted file, with the name of its format.
    Encrypted(&'static str),
}

/// Beginnings of files.
const MAGICS: [(&[u8], Foreign); 10] = [
    (b"\x7fVirtualBox SavedState V", Foreign::VirtualBox),
    (&0xbed2_bed0_u32.to_le_bytes(), Foreign::Vmware),
    (&0xbad1_bad1_u32.to_le_bytes(), Foreign::Vmware),
    (&0xbed2_bed2_u32.to_le_bytes(), Foreign::Vmware),
    (&0xbed3_bed3_u32.to_le_bytes(), Foreign::Vmware),
    (b"LUKS\xba\xbe", Foreign::Encrypted("LUKS")),
    (b"age-encryption.org/", Foreign::Encrypted("age")),
    (b"-----BEGIN AGE ENCRYPTED FILE", Foreign::Encrypted("age")),
    (b"-----BEGIN PGP MESSAGE", Foreign::Encrypted("OpenPGP")),
    (b"Salted__", Foreign::Encrypted("openssl enc")),
];

impl Foreign {
    /// Number of bytes at the start of a file that tell its kind.
    pub const START_LEN: usize = 32;

    /// Recognises a file by its first bytes.
    pub fn of_start(start: &[u8]) -> Option<Self> {
        let found = MAGICS.iter().find(|(magic, _)| start.starts_with(magic));
        found.map(|(_, foreign)| *foreign)
    }

    /// Recognises a file or folder by its name and by the names in the folder.
    pub fn of_path(path: &Path) -> Option<Self> {
        let is_vz = |path: &Path| path.extension().is_some_and(|suffix| suffix == "vzvmsave");
        if is_vz(path) {
            return Some(Self::AppleVirtualization);
        }
        if !path.is_dir() {
            return None;
        }
        let has = |name: &str| path.join(name).exists();
        if has("snapshot.pb") && has("ram.bin") {
            return Some(Self::AndroidEmulator);
        }
        let is_folder = |name: &str| {
            path.join(name)
                .metadata()
                .is_ok_and(|it| Metadata::is_dir(&it))
        };
        if has("mem") && is_folder("vcpu") || has("vcpu0") && has("mem") {
            return Some(Self::Crosvm);
        }
        let mut entries = path.read_dir().ok()?.flatten();
        entries
            .any(|entry| is_vz(&entry.path()))
            .then_some(Self::AppleVirtualization)
    }

    /// Returns the error for a file or folder of this kind.
    pub fn error(self) -> Error {
        let foreign = |what: &'static str, advice: &'static str| {
            Error::new(
                ErrorKind::Foreign,
                format!("{what}, which cpreg does not read"),
            )
            .with_hint(advice)
        };
        match self {
            Self::VirtualBox => foreign(
                "a saved state of VirtualBox",
                "resume it with the VirtualBox that saved it, and shut the guest down before the \
                 move",
            ),
            Self::Vmware => foreign(
                "a suspended VM or snapshot of VMware",
                "resume it with the VMware that saved it, and shut the guest down before the move",
            ),
            Self::AndroidEmulator => foreign(
                "a snapshot of the Android Emulator",
                "delete the snapshot and boot the virtual device: `emulator -no-snapshot-load`",
            ),
            Self::AppleVirtualization => foreign(
                "a saved VM of Apple's Virtualization framework, in a format that Apple does not \
                 publish",
                "resume it on the Mac that saved it, and shut the guest down before the move",
            ),
            Self::Crosvm => foreign(
                "a snapshot of crosvm",
                "restore it with the crosvm and on the kernel that saved it, or boot the VM again",
            ),
            Self::Encrypted(format) => Error::new(
                ErrorKind::Encrypted,
                format!("a file encrypted with {format}, which cpreg does not decrypt"),
            )
            .with_hint("decrypt it with the program that encrypted it, and name the result"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_their_start() {
        let recognise = Foreign::of_start;
        assert_eq!(
            recognise(b"\x7fVirtualBox SavedState V2.0\n\0\0\0"),
            Some(Foreign::VirtualBox)
        );
        assert_eq!(
            recognise(b"\xd2\xbe\xd2\xbe\x08\0\0\0"),
            Some(Foreign::Vmware)
        );
        assert_eq!(
            recognise(b"\xd0\xbe\xd2\xbe\x08\0\0\0"),
            Some(Foreign::Vmware)
        );
        assert_eq!(
            recognise(b"LUKS\xba\xbe\0\x02"),
            Some(Foreign::Encrypted("LUKS"))
        );
        assert_eq!(recognise(b"QEVM\0\0\0\x03"), None);
        assert_eq!(recognise(b""), None);
        for (magic, foreign) in MAGICS {
            assert!(magic.len() <= Foreign::START_LEN);
            let error = foreign.error();
            assert!(matches!(
                error.kind(),
                ErrorKind::Foreign | ErrorKind::Encrypted
            ));
            assert!(error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn folders_are_recognised_by_the_names_in_them() {
        let recognise = |names: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                std::fs::write(folder.path().join(name), "").unwrap();
            }
            Foreign::of_path(folder.path())
        };
        assert_eq!(recognise(&[]), None);
        assert_eq!(
            recognise(&["ram.bin", "snapshot.pb", "hardware.ini"]),
            Some(Foreign::AndroidEmulator)
        );
        assert_eq!(
            recognise(&["config.json", "state.vzvmsave"]),
            Some(Foreign::AppleVirtualization)
        );
        assert_eq!(
            Foreign::of_path(Path::new("vm.vzvmsave")),
            Some(Foreign::AppleVirtualization)
        );
    }
}
