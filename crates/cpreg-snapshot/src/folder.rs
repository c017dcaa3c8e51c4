//! [`Folder`]: the saved VMs in a folder, such as a bundle of UTM or libvirt's save folder.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::format::Format;
use crate::saved_vm::Container;

/// Maximum number of files whose beginning is read.
const MAX_FILES: usize = 1000;
/// Maximum number of folders inside each other. A UTM bundle has its disks in `Data`, Multipass has
/// them below `vault/instances/NAME`.
const MAX_DEPTH: usize = 4;

/// Files with saved VMs in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folder {
    /// Kind of the folder, if it is known: `a bundle of UTM`.
    pub kind: Option<&'static str>,
    /// Files with saved VMs, in the order of their paths.
    pub files: Vec<SavedFile>,
    /// Number of disk images without a saved VM.
    pub disks_without_vm: usize,
    /// `true` if the folder has more files than were looked at.
    pub is_cut: bool,
}

/// File with saved VMs in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Format of the file.
    pub format: Format,
    /// Names of the VMs in it; empty if only an open of the file tells them.
    pub names: Vec<String>,
}

impl Folder {
    /// Looks for saved VMs in a folder and the folders in it.
    ///
    /// Unreadable files and folders are passed over.
    ///
    /// # Errors
    /// If the folder itself cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut found = Self {
            kind: kind_of(path),
            ..Self::default()
        };
        let mut left = MAX_FILES;
        found.search(path, MAX_DEPTH, &mut left)?;
        Ok(found)
    }

    fn search(&mut self, folder: &Path, depth: usize, left: &mut usize) -> io::Result<()> {
        let entries = folder.read_dir()?.flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if *left == 0 {
                self.is_cut = true;
                return Ok(());
            }
            *left -= 1;
            // A link could lead out of the folder, or in a circle.
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            if metadata.is_dir() && depth > 1 {
                // A folder that cannot be read is passed over.
                let _ = self.search(&path, depth - 1, left);
            } else if metadata.is_file() {
                self.add(path);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf) {
        let Ok(file) = File::open(&path) else {
            return;
        };
        let Ok(Some(format)) = Format::identify(&file) else {
            return;
        };
        // A disk image need not have a saved VM; all other formats exist for one.
        let names: Vec<_> = match format {
            Format::Qcow2 => match Container::open(file, &path, format) {
                Ok(container) => container.vms().into_iter().map(|vm| vm.name).collect(),
                Err(_) => Vec::new(),
            },
            _ => Vec::new(),
        };
        if format == Format::Qcow2 && names.is_empty() {
            self.disks_without_vm += 1;
            return;
        }
        self.files.push(SavedFile {
            path,
            format,
            names,
        });
    }
}

/// Recognises a folder by its name and content.
fn kind_of(path: &Path) -> Option<&'static str> {
    let ends_with = |end: &str| path.ends_with(end);
    let has = |name: &str| path.join(name).exists();
    let suffix = path.extension().and_then(|suffix| suffix.to_str());
    if suffix == Some("utm") && has("config.plist") {
        Some("a bundle of UTM")
    } else if ends_with("libvirt/qemu/save") {
        Some("libvirt's folder of managed save images")
    } else if ends_with("vault/instances")
        || path
            .parent()
            .is_some_and(|it| it.ends_with("vault/instances"))
    {
        Some("a folder of Multipass")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_nested_folders() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("Debian.utm");
        std::fs::create_dir_all(bundle.join("Data")).unwrap();
        std::fs::write(bundle.join("config.plist"), "").unwrap();
        std::fs::write(bundle.join("Data/vm.save"), b"LibvirtQemudSave\x02").unwrap();
        std::fs::write(bundle.join("Data/other"), b"other").unwrap();
        let found = Folder::open(&bundle).unwrap();
        assert_eq!(found.kind, Some("a bundle of UTM"));
        assert_eq!(found.files.len(), 1);
        assert_eq!(found.files[0].path, bundle.join("Data/vm.save"));
        assert_eq!(found.files[0].format, Format::LibvirtImage);
        assert!(!found.is_cut);
    }

    #[test]
    fn a_folder_with_many_files_is_searched_in_part() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=MAX_FILES {
            std::fs::write(folder.path().join(format!("{number:04}")), "").unwrap();
        }
        let found = Folder::open(folder.path()).unwrap();
        assert!(found.is_cut);
        assert_eq!(found.files, []);
    }

    #[test]
    fn known_folders_are_named() {
        assert!(kind_of(Path::new("/var/lib/libvirt/qemu/save")).is_some());
        assert!(kind_of(Path::new("/data/vault/instances/primary")).is_some());
        assert_eq!(kind_of(Path::new("/tmp")), None);
    }
}
