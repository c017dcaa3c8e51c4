//! [`Changes`]: the changes that an installation needs. [`Removal`]: the changes that remove it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::files::{Content, InstalledFile};
use super::manifest::{Entry, MANIFEST, Manifest, digest};
use super::tree::{PathContent, Tree};
use crate::arguments::InstallPart;
use crate::failure::Failure;
use crate::printer::Printer;

/// State of a file of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    /// Nothing is at the path.
    Missing,
    /// cpreg wrote the file, with the wanted content.
    Current,
    /// cpreg wrote the file, with another content.
    Outdated,
    /// cpreg wrote the file, and its content was changed since.
    Changed,
    /// cpreg did not write the file.
    Foreign,
}

/// Returns the content to compare; `None` for a kind of file that cpreg never writes.
fn content_of(found: &PathContent) -> Option<&[u8]> {
    match found {
        PathContent::File { content, .. } => Some(content),
        PathContent::Link(target) => Some(target.as_os_str().as_bytes()),
        PathContent::Nothing | PathContent::Other => None,
    }
}

impl Content {
    /// Returns the content to compare.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text { text, .. } => text.as_bytes(),
            Self::Link(target) => target.as_bytes(),
        }
    }

    /// Returns `true` if this content is at the path.
    fn is_at(&self, found: &PathContent) -> bool {
        match (self, found) {
            (
                Self::Text { text, mode },
                PathContent::File {
                    content,
                    mode: other,
                },
            ) => text.as_bytes() == content && mode == other,
            (Self::Link(target), PathContent::Link(other)) => Path::new(target) == other,
            _ => false,
        }
    }
}

/// Returns the state of a file from its content and its entry in the record.
fn state_of(found: &PathContent, entry: Option<&Entry>, wanted: &Content) -> FileState {
    let Some(entry) = entry else {
        return match found {
            PathContent::Nothing => FileState::Missing,
            _ => FileState::Foreign,
        };
    };
    match content_of(found) {
        None if *found == PathContent::Nothing => FileState::Missing,
        Some(_) if wanted.is_at(found) => FileState::Current,
        Some(content) if entry.sha256.contains(&digest(content)) => FileState::Outdated,
        _ => FileState::Changed,
    }
}

/// Changes that bring an installation up to date.
#[derive(Debug)]
pub(super) struct Changes<'f> {
    /// Folders to create, outermost first.
    folders: Vec<String>,
    /// Files to create (`true`) or replace.
    files: Vec<(&'f InstalledFile, bool)>,
    /// Number of files that are current.
    current: usize,
}

impl<'f> Changes<'f> {
    /// Compares the files with those of the tree.
    ///
    /// # Errors
    /// Returns an error that names every file that cpreg did not write, or that was changed since.
    pub(super) fn new(
        tree: &Tree,
        manifest: &Manifest,
        files: &'f [InstalledFile],
    ) -> Result<Self, Failure> {
        let mut changes = Self {
            folders: Vec::new(),
            files: Vec::new(),
            current: 0,
        };
        let (mut foreign, mut changed) = (Vec::new(), Vec::new());
        for file in files {
            let found = tree.find(file.path)?;
            let path = format!("/{}", file.path);
            match state_of(&found, manifest.entry(file.path), &file.content) {
                FileState::Missing => changes.files.push((file, true)),
                FileState::Outdated => changes.files.push((file, false)),
                FileState::Current => changes.current += 1,
                FileState::Changed => changed.push(path),
                FileState::Foreign => foreign.push(path),
            }
        }
        if !foreign.is_empty() || !changed.is_empty() {
            return Err(conflict(&foreign, &changed));
        }
        if !changes.files.is_empty() {
            let paths = changes.files.iter().map(|(file, _)| file.path);
            for folder in paths
                .chain([MANIFEST])
                .flat_map(|it| tree.missing_folders(it))
            {
                if !changes.folders.contains(&folder) {
                    changes.folders.push(folder);
                }
            }
        }
        Ok(changes)
    }

    /// Returns `true` if all files are current.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns `true` if a file of this part changes.
    pub(super) fn concern(&self, part: InstallPart) -> bool {
        self.files.iter().any(|(file, _)| file.part == part)
    }

    /// Returns `true` if the file at this path is new.
    pub(super) fn creates(&self, path: &str) -> bool {
        let mut files = self.files.iter();
        files.any(|(file, is_new)| *is_new && file.path == path)
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        for (file, is_new) in &self.files {
            let verb = if *is_new { "create" } else { "replace" };
            match &file.content {
                Content::Text { .. } => printer.line(format_args!("{verb}: /{}", file.path)),
                Content::Link(target) => {
                    printer.line(format_args!("{verb}: /{} -> {target}", file.path));
                }
            }
        }
        if self.current > 0 {
            printer.line(format_args!("current: {} files", self.current));
        }
    }

    /// Writes the files and the record.
    pub(super) fn apply(&self, tree: &Tree, mut manifest: Manifest) -> Result<(), Failure> {
        for folder in &self.folders {
            tree.create_folder(folder)?;
        }
        for folder in &self.folders {
            if !manifest.folders.contains(folder) {
                manifest.folders.push(folder.clone());
            }
        }
        let mut after = manifest.clone();
        for (file, _) in &self.files {
            let new = digest(file.content.bytes());
            let old = manifest.entry(file.path).map(|it| it.sha256.clone());
            let both = [old.unwrap_or_default(), vec![new.clone()]].concat();
            replace_entry(&mut manifest, Entry::new(file.part, file.path, both));
            replace_entry(&mut after, Entry::new(file.part, file.path, vec![new]));
        }
        manifest.write(tree)?;
        for (file, _) in &self.files {
            match &file.content {
                Content::Text { text, mode } => tree.write(file.path, text.as_bytes(), *mode)?,
                Content::Link(target) => tree.link(file.path, target)?,
            }
        }
        after.write(tree)
    }
}

fn replace_entry(manifest: &mut Manifest, entry: Entry) {
    let mut files = manifest.files.iter_mut();
    match files.find(|other| other.path == entry.path) {
        Some(other) => *other = entry,
        None => manifest.files.push(entry),
    }
}

/// Returns the error for files that cpreg must not replace.
fn conflict(foreign: &[String], changed: &[String]) -> Failure {
    let mut parts = Vec::new();
    if !foreign.is_empty() {
        parts.push(format!("cpreg did not write {}", foreign.join(", ")));
    }
    if !changed.is_empty() {
        parts.push(format!(
            "edited since cpreg wrote it: {}",
            changed.join(", ")
        ));
    }
    let failure = Failure::new(format!("nothing was changed: {}", parts.join("; ")));
    failure.with_hint("move these files away, and run the command again")
}

/// Removal of the files that an installation wrote.
#[derive(Debug)]
pub(super) struct Removal {
    parts: Vec<InstallPart>,
    /// `true` if the relay is installed.
    has_relay: bool,
    /// Paths to remove.
    removed: Vec<String>,
    /// Paths of files that were changed after the installation, and stay.
    kept: Vec<String>,
    /// Number of files in the record that no longer exist.
    absent: usize,
}

impl Removal {
    /// Finds the files that the installation of these parts wrote.
    pub(super) fn new(
        tree: &Tree,
        manifest: &Manifest,
        parts: &[InstallPart],
    ) -> Result<Self, Failure> {
        let mut removal = Self {
            parts: parts.to_vec(),
            has_relay: false,
            removed: Vec::new(),
            kept: Vec::new(),
            absent: 0,
        };
        for entry in manifest.files.iter().filter(|entry| entry.is_of(parts)) {
            removal.has_relay |= entry.is_of(&[InstallPart::Relay]);
            let found = tree.find(&entry.path)?;
            let content = content_of(&found);
            let is_own = content.is_some_and(|content| entry.sha256.contains(&digest(content)));
            if found == PathContent::Nothing {
                removal.absent += 1;
            } else if is_own {
                removal.removed.push(entry.path.clone());
            } else {
                removal.kept.push(entry.path.clone());
            }
        }
        Ok(removal)
    }

    /// Returns `true` if the record has nothing of these parts.
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.kept.is_empty() && self.absent == 0
    }

    /// Returns `true` if the relay is removed.
    pub(super) const fn has_relay(&self) -> bool {
        self.has_relay
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        for path in &self.removed {
            printer.line(format_args!("remove: /{path}"));
        }
        for path in &self.kept {
            printer.line(format_args!(
                "keep: /{path}: it changed after cpreg wrote it; remove it by hand"
            ));
        }
    }

    /// Removes the files, then the folders that are empty, then the record.
    pub(super) fn apply(&self, tree: &Tree, mut manifest: Manifest) -> Result<(), Failure> {
        for path in &self.removed {
            tree.remove(path)?;
        }
        manifest.files.retain(|entry| !entry.is_of(&self.parts));
        if !manifest.files.is_empty() {
            // A folder may hold files of the other part, so only the last removal removes folders.
            return manifest.write(tree);
        }
        manifest.write(tree)?;
        for folder in manifest.folders.iter().rev() {
            tree.remove_empty_folder(folder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_and_the_content_decide_about_a_file() {
        let wanted = Content::Text {
            text: "new".to_owned(),
            mode: 0o644,
        };
        let file = |content: &str, mode| PathContent::File {
            content: content.into(),
            mode,
        };
        let entry = Entry::new(InstallPart::Hook, "a", vec![digest(b"old"), digest(b"new")]);
        let (known, unknown) = (Some(&entry), None);
        for (found, entry, expected) in [
            (PathContent::Nothing, unknown, FileState::Missing),
            (PathContent::Nothing, known, FileState::Missing),
            (file("new", 0o644), known, FileState::Current),
            (file("new", 0o600), known, FileState::Outdated),
            (file("old", 0o644), known, FileState::Outdated),
            (file("mine", 0o644), known, FileState::Changed),
            (PathContent::Other, known, FileState::Changed),
            (PathContent::Link("/x".into()), known, FileState::Changed),
            (file("new", 0o644), unknown, FileState::Foreign),
            (PathContent::Other, unknown, FileState::Foreign),
        ] {
            assert_eq!(state_of(&found, entry, &wanted), expected, "{found:?}");
        }
    }
}
