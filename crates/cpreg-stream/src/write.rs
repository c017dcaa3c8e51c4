//! An edited stream as a new file, which appears whole or not at all.
//!
//! The content goes into a file without a name in the target's directory, is synced, and then gets
//! its name ([`crate::new_file`]). A process that dies before that leaves nothing behind.
//! RAM is shared with the old file where the filesystem can do so, else copied by the kernel.
//! Changing a file where it is lives in [`crate::in_place`].

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::copy::{self, CopyError};
use crate::error::{Error, ErrorKind};
use crate::new_file::{NewFile, path_error};
use crate::os;
use crate::replacement::{Edit, Segment};
use crate::source::ReadAt;

/// How a new file is written.
#[derive(Default)]
pub struct WriteOptions<'p> {
    /// Takes the place of a file that is there.
    pub overwrite: bool,
    /// Called now and then with the bytes done and the bytes in all.
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
/// The new file has the source's permissions, or is its owner's only if the source is no file.
///
/// # Errors
/// If the target is the source itself, exists and is not to be overwritten, or is no regular file;
/// if reading or writing fails. Then there is no new file, and an old one is still there.
pub fn write_new(
    source: &dyn ReadAt,
    edit: &Edit,
    target: &Path,
    options: WriteOptions<'_>,
) -> Result<(), Error> {
    let length = crate::cursor::length(source)?;
    if length != edit.old_length() {
        return Err(Error::new(
            ErrorKind::BadEdit,
            format!(
                "the source has {length} bytes, the edit was made for {}",
                edit.old_length()
            ),
        ));
    }
    let place = OutputTarget::new(source, target, options.overwrite)?;
    let new = NewFile::create(&place.target)?;
    fill(source, edit, new.file(), options.progress, target)?;

    let failed = |what: &str| path_error(what, target);
    os::copy_permissions(source.as_file(), new.file()).map_err(failed("set the permissions of"))?;
    new.file().sync_all().map_err(failed("write"))?;
    new.persist(&place.target, place.replaces)
        .map_err(failed("create"))
}

/// Where the new file shall appear.
struct OutputTarget {
    target: PathBuf,
    /// Something is there already, and may be replaced.
    replaces: bool,
}

impl OutputTarget {
    fn new(source: &dyn ReadAt, target: &Path, overwrite: bool) -> Result<Self, Error> {
        let old = match std::fs::metadata(target) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    target: target.to_owned(),
                    replaces: false,
                });
            }
            Err(error) => return Err(path_error("write", target)(error)),
        };
        Self::check_replaceable(source, target, &old, overwrite)?;
        // What a symbolic link names is replaced, not the link.
        let target = target.canonicalize().map_err(path_error("write", target))?;
        Ok(Self {
            target,
            replaces: true,
        })
    }

    fn check_replaceable(
        source: &dyn ReadAt,
        target: &Path,
        old: &Metadata,
        overwrite: bool,
    ) -> Result<(), Error> {
        let refused = |what| Error::new(ErrorKind::Io, format!("{} {what}", target.display()));
        if !old.is_file() {
            return Err(refused("is no regular file").with_hint("give the name of a new file"));
        }
        let same = source
            .as_file()
            .is_some_and(|file| os::is_same_file(file, target, old));
        if same {
            return Err(refused("is the input itself")
                .with_hint("give another name, or change the file in place"));
        }
        if !overwrite {
            return Err(refused("is there already").with_hint("give another name, or overwrite it"));
        }
        Ok(())
    }
}

/// Writes the edited content into an empty file.
fn fill(
    source: &dyn ReadAt,
    edit: &Edit,
    to: &File,
    progress: Option<&mut dyn FnMut(u64, u64)>,
    target: &Path,
) -> Result<(), Error> {
    let total = edit.new_length();
    let mut so_far = 0;
    let mut nobody = |_: u64, _: u64| {};
    let progress = progress.unwrap_or(&mut nobody);
    let mut done = |count: u64| {
        so_far += count;
        progress(so_far, total);
    };
    let failed_write = path_error("write", target);
    let first_change = edit
        .replacements()
        .first()
        .map_or(total, |it| it.range.start);
    let shared = source
        .as_file()
        .is_some_and(|file| copy::share_all(file, to));
    // What is not written stays a hole.
    let keep = if shared { first_change } else { 0 };
    to.set_len(keep)
        .and_then(|()| to.set_len(total))
        .map_err(&failed_write)?;

    let mut at = 0;
    for segment in edit.segments() {
        let length = segment.length();
        match segment {
            Segment::Old(range) if shared && range.end <= first_change => done(length),
            Segment::Old(range) => {
                copy::copy(source, range, to, at, &mut done).map_err(|fault| match fault {
                    CopyError::Read(offset, error) => {
                        Error::io("cannot read", error).at_offset(offset)
                    }
                    CopyError::Write(error) => failed_write(error),
                })?;
            }
            Segment::New(bytes) => {
                os::write_all_at(to, bytes, at).map_err(&failed_write)?;
                done(length);
            }
        }
        at += length;
    }
    Ok(())
}
