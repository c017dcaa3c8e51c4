//! [`Tree`]: the file system of the host, or a folder in its place.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::small_file;

/// Folder below which files are written and removed.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

/// Kind and content of the file at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathContent {
    Nothing,
    File {
        content: Vec<u8>,
        mode: u32,
    },
    Link(PathBuf),
    /// Folder, device or socket.
    Other,
}

impl Tree {
    /// Opens the tree; the root must be a folder.
    pub(super) fn open(root: &Path) -> Result<Self, Failure> {
        let root = root
            .canonicalize()
            .map_err(|error| Failure::io("open", root, error))?;
        if !root.is_dir() {
            let message = format!("--root {}: it is not a folder", root.display());
            return Err(Failure::new(message).with_path(&root));
        }
        Ok(Self { root })
    }

    /// Returns `true` if the tree is that of the running host.
    pub(super) fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Returns the path of a file of the tree.
    pub(super) fn path(&self, relative: &Path) -> PathBuf {
        self.root.join(relative)
    }

    /// Returns the kind and content of the file at a path.
    pub(super) fn find(&self, relative: &str) -> Result<PathContent, Failure> {
        let path = self.path(Path::new(relative));
        let unreadable = |error| Failure::io("read", &path, error);
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(PathContent::Nothing);
            }
            Err(error) => return Err(unreadable(error)),
        };
        if metadata.is_symlink() {
            return fs::read_link(&path)
                .map(PathContent::Link)
                .map_err(unreadable);
        }
        if !metadata.is_file() {
            return Ok(PathContent::Other);
        }
        Ok(PathContent::File {
            content: fs::read(&path).map_err(unreadable)?,
            mode: metadata.permissions().mode() & 0o7777,
        })
    }

    /// Returns the missing parent folders of a file, outermost first.
    pub(super) fn missing_folders(&self, relative: &str) -> Vec<String> {
        let ancestors = Path::new(relative).ancestors().skip(1);
        let missing = ancestors
            .filter(|path| !path.as_os_str().is_empty() && !self.path(path).exists())
            .map(|path| path.display().to_string());
        let mut missing: Vec<_> = missing.collect();
        missing.reverse();
        missing
    }

    /// Creates a folder; an existing one is left alone.
    pub(super) fn create_folder(&self, relative: &str) -> Result<(), Failure> {
        let path = self.path(Path::new(relative));
        let created = match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            created => created,
        };
        created
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
            .map_err(|error| Failure::io("create", &path, error))
    }

    /// Writes a file completely or not at all.
    pub(super) fn write(&self, relative: &str, content: &[u8], mode: u32) -> Result<(), Failure> {
        let path = self.path(Path::new(relative));
        small_file::replace(&path, content, Some(mode))
            .map_err(|error| Failure::io("write", &path, error))
    }

    /// Creates a link, in place of an existing one.
    pub(super) fn link(&self, relative: &str, target: &str) -> Result<(), Failure> {
        self.remove(relative)?;
        let path = self.path(Path::new(relative));
        symlink(target, &path).map_err(|error| Failure::io("create", &path, error))
    }

    /// Removes a file or link, if it exists.
    pub(super) fn remove(&self, relative: &str) -> Result<(), Failure> {
        let path = self.path(Path::new(relative));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a folder if it is empty. Returns `true` if the folder no longer exists.
    pub(super) fn remove_empty_folder(&self, relative: &str) -> Result<bool, Failure> {
        let path = self.path(Path::new(relative));
        match fs::remove_dir(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(Failure::io("remove", &path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_folders_are_listed_outermost_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        assert_eq!(tree.missing_folders("etc/a/b/file"), ["etc/a", "etc/a/b"]);
        assert!(tree.missing_folders("etc/file").is_empty());
        assert!(!tree.is_live());
    }

    #[test]
    fn files_and_links_are_found_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        tree.write("file", b"text", 0o755).unwrap();
        tree.link("link", "/target").unwrap();
        tree.link("link", "/other").unwrap();
        let content = b"text".to_vec();
        let file = PathContent::File {
            content,
            mode: 0o755,
        };
        assert_eq!(tree.find("file").unwrap(), file);
        assert_eq!(
            tree.find("link").unwrap(),
            PathContent::Link("/other".into())
        );
        assert_eq!(tree.find("none").unwrap(), PathContent::Nothing);
        assert_eq!(tree.find(".").unwrap(), PathContent::Other);
        tree.remove("link").unwrap();
        tree.remove("link").unwrap();
        assert_eq!(tree.find("link").unwrap(), PathContent::Nothing);
    }
}
