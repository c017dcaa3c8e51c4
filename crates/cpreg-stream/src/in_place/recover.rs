//! [`recover`]: what becomes of an edit that was interrupted.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::journal::{ChangedBytes, checksum, decode, journal_path, remove_journal};
use super::lock::Lock;
use crate::element::{MAGIC, UNFINISHED_MAGIC};
use crate::error::{Error, ErrorKind};
use crate::new_file::path_error;
use crate::os;

/// What [`recover`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// No edit was under way.
    NotNeeded,
    /// The edit had not touched the file, which is as it was.
    NotBegun,
    /// The edit was half done; the old file is back.
    Restored,
    /// The edit had been completed; the new file stays.
    Completed,
}

/// Takes back the room that was reserved behind the end.
pub(super) fn truncate(file: &File, path: &Path, change: &ChangedBytes) -> Result<(), Error> {
    file.set_len(change.old_length)
        .and_then(|()| file.sync_all())
        .map_err(path_error("bring back", path))
}

/// Writes the old content back.
pub(super) fn restore(file: &File, path: &Path, change: &ChangedBytes) -> Result<(), Error> {
    os::write_all_at(file, &change.old_bytes, change.start)
        .and_then(|()| file.set_len(change.old_length))
        .and_then(|()| file.sync_all())
        .and_then(|()| os::write_all_at(file, &MAGIC, 0))
        .and_then(|()| file.sync_all())
        .map_err(path_error("bring back", path))
}

/// Ends an edit that was interrupted: brings the old file back, or finds that the new one is complete.
///
/// # Errors
/// If the edit is still under way, the file was changed by somebody else since, the journal is not there although the file needs
/// it, or reading or writing fails; then nothing was changed that [`recover`] cannot mend when it is
/// called again.
pub fn recover(path: &Path) -> Result<Recovery, Error> {
    let path = path.canonicalize().map_err(path_error("open", path))?;
    let journal = journal_path(&path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(path_error("open", &path))?;
    let _lock = Lock::take(&file)?;
    let mut magic = [0; 4];
    let marked = os::read_exact_at(&file, &mut magic, 0).is_ok() && magic == UNFINISHED_MAGIC;
    let bytes = match std::fs::read(&journal) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !marked => {
            return Ok(Recovery::NotNeeded);
        }
        Err(error) => return Err(path_error("read the journal", &journal)(error)),
    };
    let Some((change, new_sum)) = decode(&bytes) else {
        return Err(Error::new(
            ErrorKind::UnfinishedEdit,
            format!("{} is no journal, or is damaged", journal.display()),
        )
        .with_hint("if the file begins with QEVM, it was not touched: remove the journal"));
    };
    if marked {
        restore(&file, &path, &change)?;
        remove_journal(&journal)?;
        return Ok(Recovery::Restored);
    }
    let length = file.metadata().map_err(path_error("open", &path))?.len();
    let read = |end: u64| {
        let count = usize::try_from(end.checked_sub(change.start)?).ok()?;
        let mut now = vec![0; count];
        os::read_exact_at(&file, &mut now, change.start).ok()?;
        Some(now)
    };
    let new_end = if change.old_length == change.new_length {
        change.start + change.old_bytes.len() as u64
    } else {
        change.new_length
    };
    let is_new = length == change.new_length
        && new_end <= length
        && read(new_end).is_some_and(|now| checksum(&now) == new_sum);
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
    .with_hint("if the file is as it shall be, remove the journal"))
}
