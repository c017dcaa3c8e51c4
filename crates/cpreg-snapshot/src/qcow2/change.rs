//! [`Change`]: the writes that change an image, in phases.
//!
//! | phase | on the disk | if the program is killed here |
//! |---|---|---|
//! | [`Phase::Fill`] | new clusters after the end, and their counts | old state, leaked clusters |
//! | [`Phase::Link`] | new blocks of counts in the refcount table | the same |
//! | [`Phase::Switch`] | the header points to the new snapshot table | old or new state |
//! | [`Phase::Release`] | the old clusters' counts | new state, leaked clusters |
//! | [`Phase::Mark`] | flags of clusters that the disk's tables no longer share | see below |
//!
//! Each phase is synced before the next one begins. `qemu-img check -r leaks` returns leaked
//! clusters. The last phase has writes only if QEMU has loaded the same snapshot and not saved the
//! VM again. A missing flag makes QEMU copy a cluster once; the same command sets the flag.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use cpreg_stream::{Edit, ReadAt, Replacement, WriteOptions, write_new};

use super::header::TABLES_AT;
use crate::error::{Error, ErrorKind};

/// Bytes written at an offset of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    /// Offset in the file.
    pub offset: u64,
    /// New bytes.
    pub bytes: Vec<u8>,
}

impl Write {
    pub(super) fn new(offset: u64, bytes: Vec<u8>) -> Self {
        Self { offset, bytes }
    }

    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl fmt::Debug for Write {
    /// Formats without content, which may be the guest's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("offset", &self.offset)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Phase of a change; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// New clusters are written, and their counts.
    Fill,
    /// New blocks of counts enter the refcount table.
    Link,
    /// The header points to the new tables.
    Switch,
    /// The counts of the old clusters decrease.
    Release,
    /// Clusters with one reference are marked in the tables of the disk.
    Mark,
}

/// Change of an image, made by [`plan_change`](super::plan_change()).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub(super) old_length: u64,
    /// Places of the tables in the old header.
    pub(super) old_tables: Vec<u8>,
    pub(super) phases: Vec<(Phase, Vec<Write>)>,
}

impl Change {
    /// Returns the phases in order, with their writes. Empty if nothing changes.
    pub fn phases(&self) -> &[(Phase, Vec<Write>)] {
        &self.phases
    }

    /// Returns the length of the changed image.
    pub fn new_length(&self) -> u64 {
        let writes = self.phases.iter().flat_map(|(_, writes)| writes);
        writes.map(Write::end).fold(self.old_length, u64::max)
    }

    /// Returns the change as one edit of the file, for a copy.
    pub fn to_edit(&self) -> Edit {
        let mut ranges: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for write in self.phases.iter().flat_map(|(_, writes)| writes) {
            overlay(&mut ranges, write);
        }
        let mut appended = Vec::new();
        let mut replacements = Vec::new();
        for (offset, bytes) in ranges {
            let end = offset + bytes.len() as u64;
            if offset < self.old_length {
                // New clusters begin after the end, so no write crosses it.
                let range = offset..end;
                replacements.push(Replacement { range, bytes });
            } else {
                // Clusters between the end and this one are not in use.
                let gap = usize::try_from(offset - self.old_length).unwrap_or(usize::MAX);
                appended.resize(gap, 0);
                appended.extend(bytes);
            }
        }
        replacements.push(Replacement {
            range: self.old_length..self.old_length,
            bytes: appended,
        });
        Edit::new(replacements, self.old_length)
    }

    /// Writes a changed copy of the image as a new file, all or nothing. `source` is the image.
    ///
    /// # Errors
    /// Those of [`write_new`]. An error leaves no new file.
    pub fn write_new(
        &self,
        source: &dyn ReadAt,
        target: &Path,
        options: WriteOptions<'_>,
    ) -> Result<(), Error> {
        Ok(write_new(source, &self.to_edit(), target, options)?)
    }

    /// Changes the image in place. The caller holds the lock ([`ImageLock`](super::ImageLock))
    /// since before it opened the image.
    ///
    /// # Errors
    /// - [`ErrorKind::BadEdit`] if the image has changed since the change was planned.
    /// - [`ErrorKind::Io`] if writing fails. The message says whether the image is the old one or
    ///   the new one.
    pub fn write_in_place(&self, file: &File) -> Result<(), Error> {
        if self.phases.is_empty() {
            return Ok(());
        }
        self.check_unchanged(file)?;
        let (before, after): (Vec<_>, Vec<_>) = self
            .phases
            .iter()
            .partition(|(phase, _)| *phase < Phase::Switch);
        let mut old_writes = Vec::new();
        for (_, writes) in before {
            if let Err(error) = self.save_and_write(file, writes, &mut old_writes) {
                return Err(self.undo(file, &old_writes, error));
            }
        }
        for (phase, writes) in after {
            write_all(file, writes).map_err(|error| {
                let message = if *phase == Phase::Switch {
                    "cannot write the header of the image, which has the old or the new state"
                } else {
                    "the image has the new state; cannot release all old clusters"
                };
                Error::io(message, error)
                    .with_hint("find out with `qemu-img check FILE`; `-r leaks` repairs leaks")
            })?;
        }
        Ok(())
    }

    fn check_unchanged(&self, file: &File) -> Result<(), Error> {
        let failed = |error| Error::io("cannot read the image", error);
        let mut tables = vec![0; self.old_tables.len()];
        let length = ReadAt::length(file).map_err(failed)?;
        file.read_exact_at(&mut tables, TABLES_AT).map_err(failed)?;
        if length == self.old_length && tables == self.old_tables {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::BadEdit,
            "the image has changed since it was read; nothing was written",
        )
        .with_hint("run the command again when no other program writes to the image"))
    }

    /// Writes one phase after it has saved the bytes that this replaces.
    fn save_and_write(
        &self,
        file: &File,
        writes: &[Write],
        old_writes: &mut Vec<Write>,
    ) -> io::Result<()> {
        for write in writes.iter().filter(|write| write.end() <= self.old_length) {
            let mut bytes = vec![0; write.bytes.len()];
            file.read_exact_at(&mut bytes, write.offset)?;
            old_writes.push(Write::new(write.offset, bytes));
        }
        write_all(file, writes)
    }

    /// Restores the old file after a failure in front of the switch.
    fn undo(&self, file: &File, old_writes: &[Write], error: io::Error) -> Error {
        let undone = write_all(file, old_writes)
            .and_then(|()| file.set_len(self.old_length))
            .and_then(|()| file.sync_all());
        match undone {
            Ok(()) => Error::io("cannot write; the image is unchanged", error),
            Err(_) => Error::io(
                "cannot write; the image has the old state and leaked clusters",
                error,
            )
            .with_hint("`qemu-img check -r leaks FILE` returns them"),
        }
    }
}

/// Writes and syncs.
fn write_all(mut file: &File, writes: &[Write]) -> io::Result<()> {
    for write in writes {
        file.seek(SeekFrom::Start(write.offset))?;
        file.write_all(&write.bytes)?;
    }
    file.sync_all()
}

/// Puts a write over earlier ones, which do not overlap each other.
fn overlay(ranges: &mut BTreeMap<u64, Vec<u8>>, write: &Write) {
    let end = write.end();
    let first = ranges.range(..write.offset).next_back();
    let overlapping: Vec<u64> = first
        .map(|(start, _)| *start)
        .into_iter()
        .chain(ranges.range(write.offset..end).map(|(start, _)| *start))
        .collect();
    for start in overlapping {
        let Some(mut bytes) = ranges.remove(&start) else {
            continue;
        };
        let old_end = start + bytes.len() as u64;
        if old_end > end {
            let kept = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            ranges.insert(end, bytes.split_off(kept.min(bytes.len())));
        }
        if start < write.offset {
            let kept = usize::try_from(write.offset - start).unwrap_or(usize::MAX);
            bytes.truncate(kept);
            ranges.insert(start, bytes);
        }
    }
    ranges.insert(write.offset, write.bytes.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(writes: Vec<Vec<Write>>, old_length: u64) -> Change {
        let phases = [Phase::Fill, Phase::Release].into_iter().zip(writes);
        Change {
            old_length,
            old_tables: Vec::new(),
            phases: phases.collect(),
        }
    }

    #[test]
    fn later_writes_cover_earlier_ones() {
        let write = |offset, bytes: &[u8]| Write::new(offset, bytes.to_vec());
        let writes = vec![
            vec![write(2, b"abcdef"), write(10, b"XY"), write(14, b"Z")],
            vec![write(4, b"--"), write(1, b"12"), write(14, b"z")],
        ];
        let change = change(writes, 10);
        let edit = change.to_edit();
        let old = b"0000000000".as_slice();
        let edited = edit.apply_to(&old);
        let mut bytes = vec![0; 15];
        edited.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, b"012b--ef00XY\0\0z");
        assert_eq!(edited.length().unwrap(), 15);
        assert_eq!(change.new_length(), 15);
    }

    #[test]
    fn write_inside_another_keeps_both_ends() {
        let writes = vec![
            vec![Write::new(0, b"abcdefgh".to_vec())],
            vec![Write::new(3, b"X".to_vec())],
        ];
        let edit = change(writes, 8).to_edit();
        let mut bytes = [0; 8];
        let old = [0_u8; 8];
        let old = old.as_slice();
        let edited = edit.apply_to(&old);
        edited.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abcXefgh");
    }
}
