//! [`recover`]: recovery from an interrupted edit.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::journal::{ChangedBytes, checksum, decode, journal_path, remove_journal};
use super::lock::Lock;
use super::mark::Mark;
use crate::error::{Error, ErrorKind};
use crate::new_file::path_error;
use crate::os;

/// Result of [`recover`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// No edit was in progress.
    NotNeeded,
    /// The edit had not changed the file.
    NotBegun,
    /// The edit was incomplete; the old file is restored.
    Restored,
    /// The edit was complete; the new file stays.
    Completed,
}

/// Removes the space that the edit reserved after the end of the file.
pub(super) fn truncate(file: &File, path: &Path, change: &ChangedBytes) -> Result<(), Error> {
    file.set_len(change.old_length)
        .and_then(|()| file.sync_all())
        .map_err(path_error("restore", path))
}

/// Writes the old bytes of the journal into the file.
pub(super) fn restore(
    file: &File,
    path: &Path,
    change: &ChangedBytes,
    mark: &Mark,
) -> Result<(), Error> {
    os::write_all_at(file, &change.old_bytes, change.start)
        .and_then(|()| file.set_len(change.old_length))
        .and_then(|()| file.sync_all())
        .and_then(|()| mark.clear(file))
        .map_err(path_error("restore", path))
}

/// Ends an interrupted edit: restores the old file, or keeps the new one if it is complete.
///
/// # Errors
/// - If the edit is still in progress, or the file has changed since the edit.
/// - If the journal is missing although the file needs it.
/// - If reading or writing fails.
///
/// A later call of [`recover`] can repair everything that a failed call changed.
pub fn recover(path: &Path) -> Result<Recovery, Error> {
    let path = path.canonicalize().map_err(path_error("open", path))?;
    let journal = journal_path(&path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(path_error("open", &path))?;
    let _lock = Lock::take(&file)?;
    let mark = Mark::of_file(&file).map_err(path_error("read", &path))?;
    let mark = mark.filter(|(_, is_marked)| *is_marked);
    let bytes = match std::fs::read(&journal) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && mark.is_none() => {
            return Ok(Recovery::NotNeeded);
        }
        Err(error) => return Err(path_error("read the journal", &journal)(error)),
    };
    let Some((change, new_sum)) = decode(&bytes) else {
        return Err(Error::new(
            ErrorKind::UnfinishedEdit,
            format!("{} is not a journal, or is damaged", journal.display()),
        )
        .with_hint("if the file begins with QEVM, it is unchanged: remove the journal"));
    };
    if let Some((mark, _)) = mark {
        restore(&file, &path, &change, &mark)?;
        remove_journal(&journal)?;
        return Ok(Recovery::Restored);
    }
    let length = file.metadata().map_err(path_error("open", &path))?.len();
    let read = |end: u64| {
        let count = usize::try_from(end.checked_sub(change.start)?).ok()?;
        let mut current = vec![0; count];
        os::read_exact_at(&file, &mut current, change.start).ok()?;
        Some(current)
    };
    let new_end = if change.old_length == change.new_length {
        change.start + change.old_bytes.len() as u64
    } else {
        change.new_length
    };
    let is_new = length == change.new_length
        && new_end <= length
        && read(new_end).is_some_and(|current| checksum(&current) == new_sum);
    if is_new {
        remove_journal(&journal)?;
        return Ok(Recovery::Completed);
    }
    let is_old = (length == change.old_length || length == change.new_length)
        && read(change.start + change.old_bytes.len() as u64).as_ref() == Some(&change.old_bytes);
    if is_old {
        truncate(&file, &path, &change)?;
        remove_journal(&journal)?;
        return Ok(Recovery::NotBegun);
    }
    Err(Error::new(
        ErrorKind::UnfinishedEdit,
        format!(
            "{} was changed after the edit that left {}",
            path.display(),
            journal.display()
        ),
    )
    .with_hint("if the file is as intended, remove the journal"))
}
