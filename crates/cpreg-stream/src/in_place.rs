//! An edit carried out in the file itself: all of it or nothing, even if the process is killed or
//! the power fails.
//!
//! | step | what is on the disk | killed here, the file is |
//! |---|---|---|
//! | 1 | a journal beside the file with the old bytes; synced, then named | the old one |
//! | 2 | room for the new bytes is reserved behind the end | the old one, perhaps with zeros behind it |
//! | 3 | the file begins with `cpRG` instead of `QEVM`; synced | refused by QEMU and cpreg: recover it |
//! | 4 | the new bytes, the new length; synced | the same |
//! | 5 | `QEVM` again; synced | the new one |
//! | 6 | the journal is removed | the new one |
//!
//! So no program ever takes a half-edited file for a stream. [`recover`] brings back the old file
//! from step 3 or 4, and removes the journal in the others. The file stays the same file: owner,
//! labels, links and all.
//!
//! The journal, `NAME.cpreg-journal`, all integers big-endian: `cpreg journal 1\n`; u64 old length;
//! u64 new length; u64 offset and u64 length of the first stretch that changes, up to the end if the
//! length changes; its old bytes; u64 sum of its new bytes; u64 sum of all before it. Sums are
//! FNV-1a: they tell a torn journal, not a forged one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::cursor::read_bytes;
use crate::element::{MAGIC, UNFINISHED};
use crate::error::{Error, ErrorKind};
use crate::new_file::{NewFile, directory_of, failed, sync_directory};
use crate::replacement::Edit;
use crate::source::ReadAt;

const JOURNAL_MAGIC: &[u8; 16] = b"cpreg journal 1\n";
/// Device state behind the first `cpu` section is some hundred KiB; in a postcopy stream RAM can
/// follow it.
const MOST_CHANGED: u64 = 256 << 20;

/// What [`recover`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// No edit was under way.
    Nothing,
    /// The edit had not touched the file, which is as it was.
    NotBegun,
    /// The edit was half done; the old file is back.
    Restored,
    /// The edit had been completed; the new file stays.
    Completed,
}

/// Where the journal of an edit of this file stands; `path` is no link.
pub fn journal_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".cpreg-journal");
    name.into()
}

/// The journal that an interrupted edit of this file left, if there is one.
pub fn pending_journal(path: &Path) -> Option<PathBuf> {
    let journal = journal_of(&path.canonicalize().ok()?);
    journal.symlink_metadata().is_ok().then_some(journal)
}

/// Carries out an edit in the file it was made for.
///
/// `source` is the file that the edit was made for and `path` its name.
///
/// # Errors
/// If `path` is not `source` or has changed its length, is no regular file, has a journal already,
/// somebody else is changing it ([`Lock`]), or writing fails. Then the file is as it was; should even that fail, the error says so
/// ([`ErrorKind::UnfinishedEdit`]).
pub fn edit_in_place(source: &dyn ReadAt, edit: &Edit, path: &Path) -> Result<(), Error> {
    if edit.is_identity() {
        return Ok(());
    }
    let _lock = source.as_file().map(Lock::take).transpose()?;
    let mut running = Running::begin(source, edit, path)?;
    if let Err(error) = running.run() {
        return Err(running.undo(&error));
    }
    running.forget()
}

/// An edit under way keeps others from beginning one, and from taking its journal for one that was left behind.
///
/// It is advisory (`flock`), and belongs to the open file: who holds one on the source's file before it reads the stream
/// holds it still after the edit. It ends with the process. Where the filesystem knows no locks the journal alone
/// has to do.
#[derive(Debug)]
pub struct Lock(Option<File>);

impl Lock {
    /// Takes it, at once or not at all.
    ///
    /// # Errors
    /// If somebody else has it ([`ErrorKind::UnfinishedEdit`]), or the file cannot be used.
    pub fn take(file: &File) -> Result<Self, Error> {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            // The same open file: what is locked there is locked here.
            Ok(()) => file
                .try_clone()
                .map(|file| Self(Some(file)))
                .map_err(|error| Error::io("cannot lock the file", error)),
            Err(Errno::WOULDBLOCK) => Err(Error::new(
                ErrorKind::UnfinishedEdit,
                "another process is changing the file",
            )
            .hint("wait until it has ended, and look at the file again")),
            Err(_) => Ok(Self(None)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // Closing the file ends it as well.
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}

/// The stretch that changes, before and after.
struct Change {
    old_length: u64,
    new_length: u64,
    start: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Change {
    fn of(source: &dyn ReadAt, edit: &Edit) -> Result<Self, Error> {
        let range = changed(edit);
        let length = range.end - range.start;
        if length > MOST_CHANGED {
            return Err(Error::new(
                ErrorKind::BadEdit,
                format!(
                    "{length} bytes would have to be rewritten, with their old content in a journal"
                ),
            )
            .at(range.start)
            .hint("write a new file instead"));
        }
        let new_end = if edit.old_length() == edit.new_length() {
            range.end
        } else {
            edit.new_length()
        };
        let count = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Self {
            old_length: edit.old_length(),
            new_length: edit.new_length(),
            start: range.start,
            old: read_bytes(source, range.start, count(length))?,
            new: read_bytes(
                &edit.over(source),
                range.start,
                count(new_end - range.start),
            )?,
        })
    }
}

/// From the first byte that changes to the last, or to the end if all behind it moves.
fn changed(edit: &Edit) -> Range<u64> {
    let replacements = edit.replacements();
    let start = replacements.first().map_or(0, |it| it.range.start);
    let end = if edit.old_length() == edit.new_length() {
        replacements.last().map_or(0, |it| it.range.end)
    } else {
        edit.old_length()
    };
    start..end
}

/// An edit under way. The steps are separate so that each can be the last one.
struct Running {
    path: PathBuf,
    file: File,
    change: Change,
    /// The file's first bytes may be other than they were, and all that changes too.
    marked: bool,
}

impl Running {
    /// Looks whether everything is as it must be, and writes the journal.
    fn begin(source: &dyn ReadAt, edit: &Edit, path: &Path) -> Result<Self, Error> {
        // Through a link: the journal stands beside the file itself.
        let path = path.canonicalize().map_err(failed("open", path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let metadata = file.metadata().map_err(failed("open", &path))?;
        let wrong =
            |what: &str| Error::new(ErrorKind::BadEdit, format!("{} {what}", path.display()));
        if !metadata.is_file() {
            return Err(wrong("is no regular file").hint("write a new file instead"));
        }
        let same = source
            .as_file()
            .and_then(|file| file.metadata().ok())
            .is_some_and(|it| (it.dev(), it.ino()) == (metadata.dev(), metadata.ino()));
        if !same || metadata.len() != edit.old_length() {
            return Err(wrong("is not the file that the edit was made for"));
        }
        let change = Change::of(source, edit)?;
        if change.start < MAGIC.len() as u64 {
            return Err(wrong("would change where it begins"));
        }
        let running = Self {
            path,
            file,
            change,
            marked: false,
        };
        running.write_journal()?;
        Ok(running)
    }

    fn write_journal(&self) -> Result<(), Error> {
        let journal = journal_of(&self.path);
        let failed = failed("write the journal", &journal);
        let new = NewFile::create(&journal)?;
        new.file()
            .write_all_at(&encode(&self.change), 0)
            .and_then(|()| new.file().sync_all())
            .map_err(&failed)?;
        match new.name(&journal, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::new(
                ErrorKind::UnfinishedEdit,
                format!(
                    "{} is there: another edit is under way, or was interrupted",
                    journal.display()
                ),
            )
            .hint("recover the file first")),
            other => other.map_err(failed),
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        self.reserve()?;
        self.mark()?;
        self.write()?;
        self.unmark()
    }

    /// Makes sure that there is room, before anything is overwritten.
    fn reserve(&self) -> Result<(), Error> {
        let (old, new) = (self.change.old_length, self.change.new_length);
        if new <= old {
            return Ok(());
        }
        let end = usize::try_from(new - old).unwrap_or(usize::MAX);
        // Bytes, not a hole: a hole takes its room only later.
        self.file
            .write_all_at(&vec![0; end], old)
            .and_then(|()| self.file.sync_all())
            .map_err(failed("write", &self.path))
    }

    fn mark(&mut self) -> Result<(), Error> {
        self.marked = true;
        self.file
            .write_all_at(&UNFINISHED, 0)
            .and_then(|()| self.file.sync_all())
            .map_err(failed("write", &self.path))
    }

    fn write(&self) -> Result<(), Error> {
        self.file
            .write_all_at(&self.change.new, self.change.start)
            .and_then(|()| self.file.set_len(self.change.new_length))
            .and_then(|()| self.file.sync_all())
            .map_err(failed("write", &self.path))
    }

    fn unmark(&self) -> Result<(), Error> {
        self.file
            .write_all_at(&MAGIC, 0)
            .and_then(|()| self.file.sync_all())
            .map_err(failed("write", &self.path))
    }

    fn forget(&self) -> Result<(), Error> {
        remove(&journal_of(&self.path))
    }

    /// Brings the old file back after `error`; says what the matter is in the end.
    fn undo(self, error: &Error) -> Error {
        let undone = if self.marked {
            restore(&self.file, &self.path, &self.change)
        } else {
            shorten(&self.file, &self.path, &self.change)
        };
        let kind = error.kind();
        match undone.and_then(|()| self.forget()) {
            Ok(()) => Error::new(kind, format!("{error}; nothing was changed")),
            Err(second) => Error::new(
                ErrorKind::UnfinishedEdit,
                format!("{error}; and the old content could not be brought back: {second}"),
            )
            .hint(format!(
                "when the cause is gone, recover the file from {}",
                journal_of(&self.path).display()
            )),
        }
    }
}

/// Takes back the room that was reserved behind the end.
fn shorten(file: &File, path: &Path, change: &Change) -> Result<(), Error> {
    file.set_len(change.old_length)
        .and_then(|()| file.sync_all())
        .map_err(failed("bring back", path))
}

/// Writes the old content back.
fn restore(file: &File, path: &Path, change: &Change) -> Result<(), Error> {
    file.write_all_at(&change.old, change.start)
        .and_then(|()| file.set_len(change.old_length))
        .and_then(|()| file.sync_all())
        .and_then(|()| file.write_all_at(&MAGIC, 0))
        .and_then(|()| file.sync_all())
        .map_err(failed("bring back", path))
}

/// Ends an edit that was interrupted: brings the old file back, or finds that the new one is complete.
///
/// # Errors
/// If the edit is still under way, the file was changed by somebody else since, the journal is not there although the file needs
/// it, or reading or writing fails; then nothing was changed that [`recover`] cannot mend when it is
/// called again.
pub fn recover(path: &Path) -> Result<Recovery, Error> {
    let path = path.canonicalize().map_err(failed("open", path))?;
    let journal = journal_of(&path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed("open", &path))?;
    let _lock = Lock::take(&file)?;
    let mut magic = [0; 4];
    let marked = FileExt::read_exact_at(&file, &mut magic, 0).is_ok() && magic == UNFINISHED;
    let bytes = match std::fs::read(&journal) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !marked => {
            return Ok(Recovery::Nothing);
        }
        Err(error) => return Err(failed("read the journal", &journal)(error)),
    };
    let Some((change, new_sum)) = decode(&bytes) else {
        return Err(Error::new(
            ErrorKind::UnfinishedEdit,
            format!("{} is no journal, or is damaged", journal.display()),
        )
        .hint("if the file begins with QEVM, it was not touched: remove the journal"));
    };
    if marked {
        restore(&file, &path, &change)?;
        remove(&journal)?;
        return Ok(Recovery::Restored);
    }
    let length = file.metadata().map_err(failed("open", &path))?.len();
    let read = |end: u64| {
        let count = usize::try_from(end.checked_sub(change.start)?).ok()?;
        let mut now = vec![0; count];
        FileExt::read_exact_at(&file, &mut now, change.start).ok()?;
        Some(now)
    };
    let new_end = if change.old_length == change.new_length {
        change.start + change.old.len() as u64
    } else {
        change.new_length
    };
    let is_new = length == change.new_length
        && new_end <= length
        && read(new_end).is_some_and(|now| sum(&now) == new_sum);
    if is_new {
        remove(&journal)?;
        return Ok(Recovery::Completed);
    }
    let is_old = (length == change.old_length || length == change.new_length)
        && read(change.start + change.old.len() as u64).as_ref() == Some(&change.old);
    if is_old {
        shorten(&file, &path, &change)?;
        remove(&journal)?;
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
    .hint("if the file is as it shall be, remove the journal"))
}

fn remove(journal: &Path) -> Result<(), Error> {
    std::fs::remove_file(journal)
        .and_then(|()| sync_directory(&directory_of(journal)))
        .map_err(failed("remove", journal))
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn encode(change: &Change) -> Vec<u8> {
    let mut bytes = JOURNAL_MAGIC.to_vec();
    for number in [
        change.old_length,
        change.new_length,
        change.start,
        change.old.len() as u64,
    ] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(&change.old);
    bytes.extend(sum(&change.new).to_be_bytes());
    bytes.extend(sum(&bytes).to_be_bytes());
    bytes
}

/// The change, without its new bytes, and their sum.
fn decode(bytes: &[u8]) -> Option<(Change, u64)> {
    let (content, last) = bytes.split_last_chunk::<8>()?;
    if u64::from_be_bytes(*last) != sum(content) {
        return None;
    }
    let rest = content.strip_prefix(JOURNAL_MAGIC)?;
    let (old_length, rest) = rest.split_first_chunk::<8>()?;
    let (new_length, rest) = rest.split_first_chunk::<8>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (old, new_sum) = rest.split_last_chunk::<8>()?;
    let change = Change {
        old_length: u64::from_be_bytes(*old_length),
        new_length: u64::from_be_bytes(*new_length),
        start: u64::from_be_bytes(*start),
        old: old.to_vec(),
        new: Vec::new(),
    };
    let fits = u64::from_be_bytes(*length) == old.len() as u64
        && change.start.checked_add(old.len() as u64)? <= change.old_length
        && change.start <= change.new_length;
    fits.then(|| (change, u64::from_be_bytes(*new_sum)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replacement::Replacement;

    const OLD: &[u8] = b"QEVM0123456789abcdefghij";

    fn edit(new: &[u8]) -> Edit {
        let replacements = vec![
            Replacement {
                range: 6..9,
                bytes: new.to_vec(),
            },
            Replacement {
                range: 12..13,
                bytes: b"#".to_vec(),
            },
        ];
        Edit::new(replacements, OLD.len() as u64)
    }

    fn expected(new: &[u8]) -> Vec<u8> {
        [&OLD[..6], new, &OLD[9..12], b"#", &OLD[13..]].concat()
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stream");
        std::fs::write(&path, OLD).unwrap();
        (directory, path)
    }

    const NEW: [&[u8]; 3] = [b"longer than before", b"", b"xyz"];

    #[test]
    fn edits_and_leaves_nothing_else_behind() {
        for new in NEW {
            let (directory, path) = file();
            let source = File::open(&path).unwrap();
            edit_in_place(&source, &edit(new), &path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), expected(new));
            assert_eq!(pending_journal(&path), None);
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
            assert_eq!(recover(&path).unwrap(), Recovery::Nothing);
        }
    }

    /// Stops behind each step, as if the process had been killed there; recovers.
    #[test]
    fn whatever_step_is_the_last_one_the_file_is_old_or_new() {
        for new in NEW {
            for steps in 0..=4 {
                let (directory, path) = file();
                let source = File::open(&path).unwrap();
                let mut running = Running::begin(&source, &edit(new), &path).unwrap();
                if steps > 0 {
                    running.reserve().unwrap();
                }
                if steps > 1 {
                    running.mark().unwrap();
                    assert!(std::fs::read(&path).unwrap().starts_with(&UNFINISHED));
                }
                if steps > 2 {
                    running.write().unwrap();
                }
                if steps > 3 {
                    running.unmark().unwrap();
                }
                drop(running);
                assert!(pending_journal(&path).is_some());
                // Nobody else begins an edit meanwhile.
                let error = edit_in_place(&source, &edit(b""), &path).unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::UnfinishedEdit | ErrorKind::BadEdit),
                    "{error}"
                );
                let (recovery, content) = match steps {
                    0 | 1 => (Recovery::NotBegun, OLD.to_vec()),
                    2 | 3 => (Recovery::Restored, OLD.to_vec()),
                    _ => (Recovery::Completed, expected(new)),
                };
                assert_eq!(recover(&path).unwrap(), recovery, "after step {steps}");
                assert_eq!(std::fs::read(&path).unwrap(), content);
                assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
            }
        }
    }

    /// Another process: a lock belongs to the open file.
    #[test]
    fn an_edit_under_way_is_not_an_interrupted_one() {
        let (_directory, path) = file();
        let source = File::open(&path).unwrap();
        let lock = Lock::take(&source).unwrap();
        let mut running = Running::begin(&source, &edit(NEW[0]), &path).unwrap();
        running.reserve().unwrap();
        running.mark().unwrap();
        let error = recover(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnfinishedEdit);
        let other = File::open(&path).unwrap();
        let error = edit_in_place(&other, &edit(b""), &path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        running.write().unwrap();
        running.unmark().unwrap();
        drop(lock);
        assert_eq!(recover(&path).unwrap(), Recovery::Completed);
        assert_eq!(std::fs::read(&path).unwrap(), expected(NEW[0]));
    }

    /// Half-written new bytes, as a power cut leaves them.
    #[test]
    fn half_written_bytes_are_taken_back() {
        let (_directory, path) = file();
        let source = File::open(&path).unwrap();
        let mut running = Running::begin(&source, &edit(NEW[0]), &path).unwrap();
        running.reserve().unwrap();
        running.mark().unwrap();
        running
            .file
            .write_all_at(&running.change.new[..5], running.change.start)
            .unwrap();
        drop(running);
        assert_eq!(recover(&path).unwrap(), Recovery::Restored);
        assert_eq!(std::fs::read(&path).unwrap(), OLD);
    }

    #[test]
    fn failures_are_undone_at_once() {
        for marked in [false, true] {
            let (directory, path) = file();
            let source = File::open(&path).unwrap();
            let mut running = Running::begin(&source, &edit(NEW[0]), &path).unwrap();
            running.reserve().unwrap();
            if marked {
                running.mark().unwrap();
                running.file.write_all_at(b"garbage", 10).unwrap();
            }
            let cause = Error::io("cannot write", io::ErrorKind::StorageFull.into());
            let error = running.undo(&cause);
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert!(error.to_string().contains("nothing was changed"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), OLD);
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_that_was_changed_since_is_left_alone() {
        let (_directory, path) = file();
        let source = File::open(&path).unwrap();
        drop(Running::begin(&source, &edit(NEW[2]), &path).unwrap());
        std::fs::write(&path, b"QEVM something else").unwrap();
        let error = recover(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnfinishedEdit);
        assert_eq!(std::fs::read(&path).unwrap(), b"QEVM something else");
        assert!(pending_journal(&path).is_some());
    }

    #[test]
    fn damaged_journals_are_not_believed() {
        let (_directory, path) = file();
        let source = File::open(&path).unwrap();
        let mut running = Running::begin(&source, &edit(NEW[2]), &path).unwrap();
        running.mark().unwrap();
        drop(running);
        let journal = journal_of(&path.canonicalize().unwrap());
        let whole = std::fs::read(&journal).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_none(), "bit {bit}");
            assert!(decode(&whole[..bit / 8]).is_none());
        }
        std::fs::remove_file(&journal).unwrap();
        assert!(recover(&path).is_err());
        std::fs::write(&journal, whole).unwrap();
        assert_eq!(recover(&path).unwrap(), Recovery::Restored);
    }

    #[test]
    fn another_file_is_not_touched() {
        let (directory, path) = file();
        let other = directory.path().join("other");
        std::fs::write(&other, OLD).unwrap();
        let source = File::open(&path).unwrap();
        let error = edit_in_place(&source, &edit(NEW[0]), &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadEdit);
        assert!(edit_in_place(&OLD.to_vec(), &edit(NEW[0]), &path).is_err());
        assert_eq!(std::fs::read(&other).unwrap(), OLD);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2);
    }
}
