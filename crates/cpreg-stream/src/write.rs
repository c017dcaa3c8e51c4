//! Writes an edited stream as a new file, all or nothing; or to a pipe ([`write_to`]).
//!
//! The content is written to an unnamed file in the target's directory and synced. Only then does
//! the file get its name ([`crate::new_file`]). A process that dies earlier leaves no file. The new
//! file shares RAM with the old file where the filesystem supports that; otherwise the kernel
//! copies RAM. [`crate::in_place`] changes an existing file.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::copy::{self, CopyError};
use crate::error::{Error, ErrorKind};
use crate::new_file::{NewFile, path_error};
use crate::os;
use crate::replacement::{Edit, Segment};
use crate::source::ReadAt;

/// Length in bytes of the buffer for a pipe.
const PIPE_BUFFER_LEN: usize = 1 << 20;

/// Options for writing a new file.
#[derive(Default)]
pub struct WriteOptions<'p> {
    /// Replaces an existing file if `true`.
    pub overwrite: bool,
    /// Progress callback; its arguments are the number of bytes written and the total number.
    pub progress: Option<&'p mut dyn FnMut(u64, u64)>,
}

impl fmt::Debug for WriteOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteOptions")
            .field("overwrite", &self.overwrite)
            .finish_non_exhaustive()
    }
}

/// Writes the edited file to `target`. `source` is the file that the edit was made for.
///
/// The new file has the source's owner, permissions, extended attributes and security label, as far
/// as the process may set them. Without a source file, only the owner can access the new file.
///
/// # Errors
/// - If the target is the source itself, is not a regular file, or exists and `overwrite` is not
///   set.
/// - If reading or writing fails.
///
/// An error leaves no new file and keeps an existing one.
pub fn write_new(
    source: &dyn ReadAt,
    edit: &Edit,
    target: &Path,
    options: WriteOptions<'_>,
) -> Result<(), Error> {
    check_length(source, edit)?;
    let existing = ExistingFile::from_overwrite(options.overwrite);
    let output = OutputTarget::new(source.as_file(), target, existing)?;
    let partial = PartialFile::create(source, edit.old_length(), &output)?;
    write_rest(source, edit, output, partial, options.progress)
}

/// New file that holds the beginning of the source.
pub(crate) struct PartialFile {
    pub(crate) file: NewFile,
    /// Number of bytes from the beginning of the source that the file holds. The bytes after them
    /// are not valid.
    pub(crate) held_len: u64,
}

impl PartialFile {
    /// Creates a new file that shares all blocks of `source`, or is empty.
    pub(crate) fn create(
        source: &dyn ReadAt,
        source_len: u64,
        output: &OutputTarget,
    ) -> Result<Self, Error> {
        let file = NewFile::create(&output.target)?;
        let is_shared = source
            .as_file()
            .is_some_and(|source| copy::share_all(source, file.file()));
        let held_len = if is_shared { source_len } else { 0 };
        Ok(Self { file, held_len })
    }
}

/// Completes a new file that holds the beginning of `source`, and gives it its name.
pub(crate) fn write_rest(
    source: &dyn ReadAt,
    edit: &Edit,
    output: OutputTarget,
    partial: PartialFile,
    progress: Option<&mut dyn FnMut(u64, u64)>,
) -> Result<(), Error> {
    let mut ignore = |_: u64, _: u64| {};
    let progress = progress.unwrap_or(&mut ignore);
    fill(source, edit, &partial, progress, &output.path)?;
    output.persist(partial.file, source.as_file())
}

/// Treatment of a file that exists in the place of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingFile {
    /// Any existing file is an error.
    Reject,
    /// An existing file is replaced, except the source itself.
    Replace,
    /// An existing file is replaced, even the source itself.
    ReplaceSource,
}

impl ExistingFile {
    /// Returns [`Self::Replace`] if `overwrite` permits to replace a file, else [`Self::Reject`].
    pub const fn from_overwrite(overwrite: bool) -> Self {
        if overwrite {
            Self::Replace
        } else {
            Self::Reject
        }
    }
}

/// Writes a new file with the content that `fill` writes into it. The file appears whole or not at
/// all.
///
/// The new file has the owner, permissions, extended attributes and security label of `source`, as
/// far as the process may set them. Without a source, only the owner can access the new file.
///
/// # Errors
/// - If the target is not a regular file, or `existing` rejects it.
/// - If `fill` or writing fails.
///
/// An error leaves no new file and keeps an existing one.
pub fn write_file_with<E: From<Error>>(
    source: Option<&File>,
    target: &Path,
    existing: ExistingFile,
    fill: impl FnOnce(&File) -> Result<(), E>,
) -> Result<(), E> {
    let output = OutputTarget::new(source, target, existing)?;
    let new_file = NewFile::create(&output.target)?;
    fill(new_file.file())?;
    Ok(output.persist(new_file, source)?)
}

/// Writes the edited file to `to`, such as a pipe. `source` is the file that the edit was made for.
///
/// Calls `progress` with the number of bytes written and the total number. Holes of the source
/// become zeros.
///
/// # Errors
/// If reading or writing fails. The reader of `to` then has an incomplete stream.
pub fn write_to(
    source: &dyn ReadAt,
    edit: &Edit,
    to: &mut dyn Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Error> {
    check_length(source, edit)?;
    let total = edit.new_length();
    let mut buffer = vec![0; PIPE_BUFFER_LEN];
    let mut written = 0;
    for segment in edit.segments() {
        let range = match segment {
            Segment::Old(range) => range,
            Segment::New(bytes) => {
                to.write_all(bytes).map_err(Error::from_write_error)?;
                written += bytes.len() as u64;
                progress(written, total);
                continue;
            }
        };
        let mut at = range.start;
        while at < range.end {
            let rest = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let chunk = &mut buffer[..rest.min(PIPE_BUFFER_LEN)];
            source
                .read_exact_at(chunk, at)
                .map_err(|error| Error::io("cannot read", error).at_offset(at))?;
            to.write_all(chunk).map_err(Error::from_write_error)?;
            at += chunk.len() as u64;
            written += chunk.len() as u64;
            progress(written, total);
        }
    }
    to.flush().map_err(Error::from_write_error)
}

pub(crate) fn check_length(source: &dyn ReadAt, edit: &Edit) -> Result<(), Error> {
    let length = crate::cursor::length(source)?;
    if length == edit.old_length() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::BadEdit,
        format!(
            "the source has {length} bytes, the edit was made for {}",
            edit.old_length()
        ),
    ))
}

/// Place of the new file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutputTarget {
    /// Path as the caller gave it.
    path: PathBuf,
    /// Path of the new file, without a symbolic link.
    target: PathBuf,
    /// `true` if the target exists and may be replaced.
    replaces: bool,
}

impl OutputTarget {
    pub(crate) fn new(
        source: Option<&File>,
        path: &Path,
        existing: ExistingFile,
    ) -> Result<Self, Error> {
        let old = match std::fs::metadata(path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path: path.to_owned(),
                    target: path.to_owned(),
                    replaces: false,
                });
            }
            Err(error) => return Err(path_error("write", path)(error)),
        };
        Self::check_replaceable(source, path, &old, existing)?;
        // Replace the target of a symbolic link, not the link.
        let target = path.canonicalize().map_err(path_error("write", path))?;
        Ok(Self {
            path: path.to_owned(),
            target,
            replaces: true,
        })
    }

    /// Creates the new file without any name; returns `None` if the filesystem has no such files.
    pub(crate) fn create_unnamed(&self) -> Option<NewFile> {
        NewFile::create_unnamed(&self.target)
    }

    /// Gives the complete file the metadata of `source`, syncs it, and gives it its name.
    fn persist(self, new_file: NewFile, source: Option<&File>) -> Result<(), Error> {
        let failed = |action: &str| path_error(action, &self.path);
        os::copy_metadata(source, new_file.file()).map_err(failed("set the permissions of"))?;
        new_file.file().sync_all().map_err(failed("write"))?;
        let persisted = new_file.persist(&self.target, self.replaces);
        persisted.map_err(failed("create"))
    }

    fn check_replaceable(
        source: Option<&File>,
        target: &Path,
        old: &Metadata,
        existing: ExistingFile,
    ) -> Result<(), Error> {
        let refused =
            |problem| Error::new(ErrorKind::Io, format!("{} {problem}", target.display()));
        if !old.is_file() {
            return Err(refused("is not a regular file").with_hint("give the name of a new file"));
        }
        let same = source.is_some_and(|file| os::is_same_file(file, target, old));
        if same && existing != ExistingFile::ReplaceSource {
            return Err(refused("is the input itself")
                .with_hint("give another name, or change the file in place"));
        }
        if existing == ExistingFile::Reject {
            return Err(refused("already exists").with_hint("give another name, or overwrite it"));
        }
        Ok(())
    }
}

/// Writes the edited content into a file that holds the beginning of `source`.
fn fill(
    source: &dyn ReadAt,
    edit: &Edit,
    partial: &PartialFile,
    progress: &mut dyn FnMut(u64, u64),
    target: &Path,
) -> Result<(), Error> {
    let total = edit.new_length();
    let mut written = 0;
    let mut add_progress = |count: u64| {
        written += count;
        progress(written, total);
    };
    let failed_write = path_error("write", target);
    let first_change = edit
        .replacements()
        .first()
        .map_or(total, |it| it.range.start);
    let to = partial.file.file();
    let kept_len = partial.held_len.min(first_change);
    // A range that is not written stays a hole.
    to.set_len(kept_len)
        .and_then(|()| to.set_len(total))
        .map_err(&failed_write)?;

    let mut at = 0;
    for segment in edit.segments() {
        let length = segment.length();
        match segment {
            Segment::Old(range) => {
                // All kept bytes belong to the first segment.
                let kept = kept_len.saturating_sub(at);
                add_progress(kept);
                let rest = range.start + kept..range.end;
                copy::copy(source, rest, to, at + kept, &mut add_progress).map_err(|error| {
                    match error {
                        CopyError::Read(offset, error) => {
                            Error::io("cannot read", error).at_offset(offset)
                        }
                        CopyError::Write(error) => failed_write(error),
                    }
                })?;
            }
            Segment::New(bytes) => {
                os::write_all_at(to, bytes, at).map_err(&failed_write)?;
                add_progress(length);
            }
        }
        at += length;
    }
    Ok(())
}
