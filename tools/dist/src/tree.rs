//! [`Tree`]: the files of a package before it is packed, in a temporary folder.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::project::Result;

/// Folder with files at the paths at which a package installs them.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

impl Tree {
    /// Adds a file.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(crate) fn add(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.make_parent(path)?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Adds `PATH.gz`.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(crate) fn add_compressed(&self, path: &str, content: &[u8]) -> Result<()> {
        let path = format!("{path}.gz");
        self.add(&path, b"", 0o644)?;
        let file = File::create(self.root.join(path))?;
        let mut writer = GzBuilder::new().mtime(0).write(file, Compression::best());
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// Returns an error if it cannot be made.
    pub(crate) fn add_link(&self, path: &str, to: &str) -> Result<()> {
        let path = self.make_parent(path)?;
        Ok(symlink(to, path)?)
    }

    /// Creates the folder of a path, and returns the file's path.
    fn make_parent(&self, path: &str) -> Result<PathBuf> {
        let path = self.root.join(path);
        let mut folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        // Not the umask of the user decides.
        while folder.starts_with(&self.root) {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
            folder = folder.parent().unwrap_or(Path::new("/"));
        }
        Ok(path)
    }

    /// Returns the paths of all files and links, relative to the root, in order.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be read.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else {
                    files.push(entry.path().strip_prefix(&self.root)?.to_owned());
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Returns the space that the files take, in KiB, each rounded up.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(crate) fn installed_kib(&self) -> Result<u64> {
        let mut sum = 0;
        for file in self.files()? {
            let length = self.root.join(file).symlink_metadata()?.len();
            sum += length.div_ceil(1024);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_links_are_listed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let tree = Tree { root };
        tree.add("usr/bin/b", &[0; 1025], 0o755).unwrap();
        tree.add_link("usr/bin/a", "b").unwrap();
        tree.add_compressed("etc/c", b"text").unwrap();
        let expected = ["etc/c.gz", "usr/bin/a", "usr/bin/b"];
        assert_eq!(tree.files().unwrap(), expected.map(PathBuf::from));
        assert_eq!(tree.installed_kib().unwrap(), 1 + 1 + 2);
        let mode = fs::metadata(tree.root.join("usr/bin/b"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);
    }
}
