//! The journal of an edit: its path and its content.
//!
//! The file `NAME.cpreg-journal` holds, with big-endian integers:
//!
//! 1. `cpreg journal 1\n`
//! 2. u64 old length, u64 new length
//! 3. u64 offset and u64 length of the range that changes; up to the end if the length changes
//! 4. the old bytes of the range
//! 5. u64 sum of its new bytes
//! 6. u64 sum of all preceding bytes of the journal
//!
//! Sums are FNV-1a: they detect a torn journal, not a forged one.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::cursor::read_bytes;
use crate::error::{Error, ErrorKind};
use crate::new_file::{parent_directory, path_error};
use crate::os;
use crate::replacement::Edit;
use crate::source::ReadAt;

const JOURNAL_MAGIC: &[u8; 16] = b"cpreg journal 1\n";
/// Maximum number of bytes that an edit in place rewrites.
///
/// An edit rewrites the device state from the first `cpu` section on, some hundred KiB. In a
/// postcopy stream, RAM can follow the device state.
const MAX_CHANGED_LEN: u64 = 256 << 20;

/// Returns the path of the journal of an edit of this file; `path` must not be a link.
pub fn journal_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".cpreg-journal");
    name.into()
}

/// Returns the path of the journal that an interrupted edit of this file left, if any.
pub fn pending_journal(path: &Path) -> Option<PathBuf> {
    let journal = journal_path(&path.canonicalize().ok()?);
    journal.symlink_metadata().is_ok().then_some(journal)
}

/// Range that changes, with its old and new bytes.
pub(super) struct ChangedBytes {
    pub(super) old_length: u64,
    pub(super) new_length: u64,
    pub(super) start: u64,
    pub(super) old_bytes: Vec<u8>,
    pub(super) new_bytes: Vec<u8>,
}

impl ChangedBytes {
    pub(super) fn from_edit(source: &dyn ReadAt, edit: &Edit) -> Result<Self, Error> {
        let range = changed_range(edit);
        let length = range.end - range.start;
        if length > MAX_CHANGED_LEN {
            return Err(Error::new(
                ErrorKind::BadEdit,
                format!(
                    "the edit rewrites {length} bytes in place; a journal holds at most \
                     {MAX_CHANGED_LEN}"
                ),
            )
            .at_offset(range.start)
            .with_hint("write a new file instead"));
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
            old_bytes: read_bytes(source, range.start, count(length))?,
            new_bytes: read_bytes(
                &edit.apply_to(source),
                range.start,
                count(new_end - range.start),
            )?,
        })
    }
}

/// Returns the file range from the first changed byte to the last, or to the end if the length
/// changes.
fn changed_range(edit: &Edit) -> Range<u64> {
    let replacements = edit.replacements();
    let start = replacements.first().map_or(0, |it| it.range.start);
    let end = if edit.old_length() == edit.new_length() {
        replacements.last().map_or(0, |it| it.range.end)
    } else {
        edit.old_length()
    };
    start..end
}

pub(super) fn remove_journal(journal: &Path) -> Result<(), Error> {
    std::fs::remove_file(journal)
        .and_then(|()| os::sync_directory(&parent_directory(journal)))
        .map_err(path_error("remove", journal))
}

pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(super) fn encode(change: &ChangedBytes) -> Vec<u8> {
    let mut bytes = JOURNAL_MAGIC.to_vec();
    for number in [
        change.old_length,
        change.new_length,
        change.start,
        change.old_bytes.len() as u64,
    ] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(&change.old_bytes);
    bytes.extend(checksum(&change.new_bytes).to_be_bytes());
    bytes.extend(checksum(&bytes).to_be_bytes());
    bytes
}

/// Returns the change without its new bytes, and the sum of the new bytes. `None` for a torn
/// journal.
pub(super) fn decode(bytes: &[u8]) -> Option<(ChangedBytes, u64)> {
    let (content, last) = bytes.split_last_chunk::<8>()?;
    if u64::from_be_bytes(*last) != checksum(content) {
        return None;
    }
    let rest = content.strip_prefix(JOURNAL_MAGIC)?;
    let (old_length, rest) = rest.split_first_chunk::<8>()?;
    let (new_length, rest) = rest.split_first_chunk::<8>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (old_bytes, new_sum) = rest.split_last_chunk::<8>()?;
    let change = ChangedBytes {
        old_length: u64::from_be_bytes(*old_length),
        new_length: u64::from_be_bytes(*new_length),
        start: u64::from_be_bytes(*start),
        old_bytes: old_bytes.to_vec(),
        new_bytes: Vec::new(),
    };
    let is_consistent = u64::from_be_bytes(*length) == old_bytes.len() as u64
        && change.start.checked_add(old_bytes.len() as u64)? <= change.old_length
        && change.start <= change.new_length;
    is_consistent.then(|| (change, u64::from_be_bytes(*new_sum)))
}
