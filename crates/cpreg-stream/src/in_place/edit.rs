//! [`edit_in_place`]: an edit applied in the file itself, in separate steps.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::journal::{ChangedBytes, encode, journal_path, remove_journal};
use super::lock::Lock;
use super::mark::Mark;
use super::recover::{restore, truncate};
use crate::error::{Error, ErrorKind};
use crate::new_file::{NewFile, path_error};
use crate::os;
use crate::replacement::Edit;
use crate::source::ReadAt;

/// Applies an edit in the file that it was made for.
///
/// `source` is the file that the edit was made for, `path` its name.
///
/// # Errors
/// - If `path` is not `source`, is not a regular file, has another length than the edit expects, or
///   already has a journal.
/// - If another process is changing the file ([`Lock`]).
/// - If writing fails.
///
/// The file is unchanged after an error, except after [`ErrorKind::UnfinishedEdit`] for a failed
/// undo.
pub fn edit_in_place(source: &dyn ReadAt, edit: &Edit, path: &Path) -> Result<(), Error> {
    if edit.is_identity() {
        return Ok(());
    }
    let _lock = source.as_file().map(Lock::take).transpose()?;
    let mut edit_in_progress = InPlaceEdit::begin(source, edit, path)?;
    if let Err(error) = edit_in_progress.run() {
        return Err(edit_in_progress.undo(&error));
    }
    edit_in_progress.remove_journal()
}

/// Edit in progress. A test can stop after each of its steps.
pub(super) struct InPlaceEdit {
    path: PathBuf,
    pub(super) file: File,
    pub(super) change: ChangedBytes,
    mark: Mark,
    /// `true` if the file's first bytes and its content may have changed.
    is_marked: bool,
}

impl InPlaceEdit {
    /// Checks the preconditions and writes the journal.
    pub(super) fn begin(source: &dyn ReadAt, edit: &Edit, path: &Path) -> Result<Self, Error> {
        // Resolve links: the journal is next to the file itself.
        let path = path.canonicalize().map_err(path_error("open", path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(path_error("open", &path))?;
        let metadata = file.metadata().map_err(path_error("open", &path))?;
        let bad_file =
            |problem: &str| Error::new(ErrorKind::BadEdit, format!("{} {problem}", path.display()));
        if !metadata.is_file() {
            return Err(bad_file("is not a regular file").with_hint("write a new file instead"));
        }
        let same = source
            .as_file()
            .is_some_and(|file| os::is_same_file(file, &path, &metadata));
        if !same || metadata.len() != edit.old_length() {
            return Err(bad_file("is not the file that the edit was made for"));
        }
        let mark = match Mark::of_file(&file).map_err(path_error("read", &path))? {
            Some((mark, false)) => mark,
            Some((_, true)) => return Err(bad_file("was left unfinished by another edit")),
            None => return Err(bad_file("is no file of which an edit in place is possible")),
        };
        let change = ChangedBytes::from_edit(source, edit)?;
        if change.start < mark.end() {
            return Err(bad_file("would change in its first bytes"));
        }
        let edit_in_progress = Self {
            path,
            file,
            change,
            mark,
            is_marked: false,
        };
        edit_in_progress.write_journal()?;
        Ok(edit_in_progress)
    }

    fn write_journal(&self) -> Result<(), Error> {
        let journal = journal_path(&self.path);
        let failed = path_error("write the journal", &journal);
        let new = NewFile::create(&journal)?;
        os::write_all_at(new.file(), &encode(&self.change), 0)
            .and_then(|()| new.file().sync_all())
            .map_err(&failed)?;
        match new.persist(&journal, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::new(
                ErrorKind::UnfinishedEdit,
                format!(
                    "{} exists: another edit is in progress, or was interrupted",
                    journal.display()
                ),
            )
            .with_hint("recover the file first")),
            other => other.map_err(failed),
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        self.reserve()?;
        self.mark()?;
        self.write()?;
        self.unmark()
    }

    /// Reserves space for the new bytes before any old byte is overwritten.
    pub(super) fn reserve(&self) -> Result<(), Error> {
        let (old, new) = (self.change.old_length, self.change.new_length);
        if new <= old {
            return Ok(());
        }
        let end = usize::try_from(new - old).unwrap_or(usize::MAX);
        // Write zeros, because the filesystem would allocate a hole only later.
        os::write_all_at(&self.file, &vec![0; end], old)
            .and_then(|()| self.file.sync_all())
            .map_err(path_error("write", &self.path))
    }

    pub(super) fn mark(&mut self) -> Result<(), Error> {
        self.is_marked = true;
        let marked = self.mark.set(&self.file);
        marked.map_err(path_error("write", &self.path))
    }

    pub(super) fn write(&self) -> Result<(), Error> {
        os::write_all_at(&self.file, &self.change.new_bytes, self.change.start)
            .and_then(|()| self.file.set_len(self.change.new_length))
            .and_then(|()| self.file.sync_all())
            .map_err(path_error("write", &self.path))
    }

    pub(super) fn unmark(&self) -> Result<(), Error> {
        let unmarked = self.mark.clear(&self.file);
        unmarked.map_err(path_error("write", &self.path))
    }

    fn remove_journal(&self) -> Result<(), Error> {
        remove_journal(&journal_path(&self.path))
    }

    /// Restores the old file after `error`; returns the resulting error.
    pub(super) fn undo(self, error: &Error) -> Error {
        let undone = if self.is_marked {
            restore(&self.file, &self.path, &self.change, &self.mark)
        } else {
            truncate(&self.file, &self.path, &self.change)
        };
        let kind = error.kind();
        let error = error.to_string_with_hint();
        match undone.and_then(|()| self.remove_journal()) {
            Ok(()) => Error::new(kind, format!("{error}; nothing was changed")),
            Err(second) => Error::new(
                ErrorKind::UnfinishedEdit,
                format!("{error}; the old content could not be restored: {second}"),
            )
            .with_hint(format!(
                "after removing the cause, recover the file from {}",
                journal_path(&self.path).display()
            )),
        }
    }
}
