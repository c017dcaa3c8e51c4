//! [`Manifest`]: the record of the files that an installation wrote, in a file of its own.
//!
//! cpreg writes the record before the files, with their old and new digests, and again after them.
//! An interrupted installation can therefore be continued or removed.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::tree::Tree;
use crate::arguments::InstallPart;
use crate::failure::Failure;

/// Path of the record, below the root.
pub(super) const MANIFEST: &str = "etc/cpreg/install-libvirt.json";
const SCHEMA: &str = "cpreg.install/1";

/// Record of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    schema: String,
    /// Version of cpreg that wrote the record.
    version: String,
    /// Folders below the root that the installation created, outermost first.
    pub(super) folders: Vec<String>,
    pub(super) files: Vec<Entry>,
}

/// File or link that the installation wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    part: String,
    /// Path below the root.
    pub(super) path: String,
    /// SHA-256 of each content that the installation may have written. The content of a link is its
    /// target.
    pub(super) sha256: Vec<String>,
}

impl Entry {
    pub(super) fn new(part: InstallPart, path: &str, sha256: Vec<String>) -> Self {
        Self {
            part: part_name(part).to_owned(),
            path: path.to_owned(),
            sha256,
        }
    }

    /// Returns `true` if the entry belongs to one of these parts.
    pub(super) fn is_of(&self, parts: &[InstallPart]) -> bool {
        parts.iter().any(|part| part_name(*part) == self.part)
    }
}

const fn part_name(part: InstallPart) -> &'static str {
    match part {
        InstallPart::Hook => "hook",
        InstallPart::Relay => "relay",
    }
}

impl Manifest {
    /// Reads the record; returns an empty one if nothing is installed.
    pub(super) fn read(tree: &Tree) -> Result<Self, Failure> {
        let path = tree.path(Path::new(MANIFEST));
        let json = match std::fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::io("read", &path, error)),
        };
        let invalid = |failure: Failure| {
            failure.with_path(&path).with_hint(
                "the file lists what cpreg has written; if it is lost, remove these files by hand",
            )
        };
        let manifest: Self = serde_json::from_slice(&json).map_err(|error| {
            invalid(Failure::new(format!("cannot read {}", path.display())).with_cause(error))
        })?;
        let is_below_root = |path: &String| {
            let mut components = Path::new(path).components();
            components.all(|it| matches!(it, std::path::Component::Normal(_)))
        };
        let mut paths = manifest.files.iter().map(|entry| &entry.path);
        if manifest.schema != SCHEMA
            || !paths.all(is_below_root)
            || !manifest.folders.iter().all(is_below_root)
        {
            let message = format!("{} is not a record of this version", path.display());
            return Err(invalid(Failure::new(message)));
        }
        Ok(manifest)
    }

    /// Writes the record; removes its file if nothing is installed.
    pub(super) fn write(&mut self, tree: &Tree) -> Result<(), Failure> {
        if self.files.is_empty() {
            return tree.remove(MANIFEST);
        }
        SCHEMA.clone_into(&mut self.schema);
        env!("CARGO_PKG_VERSION").clone_into(&mut self.version);
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::new("cannot write the record").with_cause(error))?;
        tree.write(MANIFEST, format!("{json}\n").as_bytes(), 0o644)
    }

    /// Returns the entry of a path.
    pub(super) fn entry(&self, path: &str) -> Option<&Entry> {
        self.files.iter().find(|entry| entry.path == path)
    }
}

/// Returns the digest of a content, as the record has it.
pub(super) fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("etc/cpreg")).unwrap();
        let mut manifest = Manifest {
            folders: vec!["etc/cpreg".to_owned()],
            files: vec![Entry::new(InstallPart::Hook, "etc/a", vec![digest(b"a")])],
            ..Manifest::default()
        };
        manifest.write(&tree).unwrap();
        assert_eq!(Manifest::read(&tree).unwrap(), manifest);
        assert!(manifest.files[0].is_of(&[InstallPart::Hook]));
        assert!(!manifest.files[0].is_of(&[InstallPart::Relay]));
        manifest.files.clear();
        manifest.write(&tree).unwrap();
        assert_eq!(Manifest::read(&tree).unwrap(), Manifest::default());
    }

    #[test]
    fn a_record_cannot_name_files_outside_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let path = folder.path().join(MANIFEST);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for name in ["../etc/passwd", "/etc/passwd"] {
            let json = format!(
                r#"{{"schema":"{SCHEMA}","version":"1","folders":[],"files":[{{"part":"hook","path":"{name}","sha256":[]}}]}}"#
            );
            std::fs::write(&path, json).unwrap();
            assert!(Manifest::read(&tree).is_err(), "{name}");
        }
    }
}
