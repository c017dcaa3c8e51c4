//! [`plan_change`]: the writes that replace the state of a snapshot.
//!
//! The changed parts of the state go to new clusters. Each table on the way to them is copied: L2
//! tables, the snapshot's L1 table, the snapshot table. Nothing that another snapshot or the disk
//! refers to is overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use cpreg_stream::{Edit, ReadAt, Segment};

use super::change::{Change, Phase, Write};
use super::entry::{COPIED, L2Entry};
use super::header::{TABLES_AT, Table};
use super::image::Image;
use super::refcount::{Allocations, Refcounts, inconsistent};
use super::snapshot::{EntryChange, Snapshot, change_entry};
use super::state::{SnapshotState, first_cluster};
use crate::error::{Error, ErrorKind};

/// Maximum length of changed clusters, which are in memory; device state has less than 64 MiB.
const MAX_CHANGED_LEN: u64 = 256 << 20;

/// Plans the change of the image after which `state` has the edited bytes. Writes nothing.
///
/// The function opens the changed image and compares it with the edit.
///
/// # Errors
/// - [`ErrorKind::Unfinished`] if the image is marked dirty or corrupt.
/// - [`ErrorKind::BadEdit`] if the edit is for other bytes.
/// - [`ErrorKind::Malformed`] if the reference counts do not match the tables.
/// - [`ErrorKind::Unsupported`] for images that this crate reads and does not change.
/// - [`ErrorKind::NotAsPlanned`] if the changed image does not hold the edited bytes.
pub fn plan_change<S: ReadAt>(state: &SnapshotState<S>, edit: &Edit) -> Result<Change, Error> {
    let (image, snapshot) = (state.image(), state.snapshot());
    check_editable(image)?;
    if edit.old_length() != snapshot.state_len {
        return Err(Error::new(
            ErrorKind::BadEdit,
            format!(
                "the state has {} bytes, the edit was made for {}",
                snapshot.state_len,
                edit.old_length()
            ),
        ));
    }
    let old_tables = image.read_range(TABLES_AT, 24)?;
    if edit.is_identity() {
        return Ok(Change {
            old_length: image.length(),
            old_tables,
            phases: Vec::new(),
        });
    }
    let mut plan = Plan {
        state,
        image,
        snapshot,
        refcounts: Refcounts::load(image)?,
        fill: Vec::new(),
        released: Vec::new(),
        released_tables: Vec::new(),
        released_entries: Vec::new(),
    };
    let phases = plan.run(edit)?;
    let change = Change {
        old_length: image.length(),
        old_tables,
        phases,
    };
    verify(state, edit, &change)?;
    Ok(change)
}

fn check_editable<S: ReadAt>(image: &Image<S>) -> Result<(), Error> {
    let header = &image.header;
    if header.is_corrupt() || header.is_dirty() {
        let mark = if header.is_corrupt() {
            "corrupt"
        } else {
            "dirty: its program did not close it"
        };
        return Err(
            Error::new(ErrorKind::Unfinished, format!("the image is marked {mark}"))
                .with_hint("repair the image with `qemu-img check -r all FILE`, on a copy first"),
        );
    }
    if header.unknown_autoclear() != 0 {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "unknown autoclear features {:#x}, which a change would lose",
                header.unknown_autoclear()
            ),
        ));
    }
    Ok(())
}

/// Entry that the snapshot no longer refers to, by its place in the tables.
struct ReleasedEntry {
    l1_index: u64,
    /// Index in the L2 table; `None` for the table itself.
    l2_index: Option<u64>,
    /// Offset of the cluster.
    offset: u64,
}

struct Plan<'s, S> {
    state: &'s SnapshotState<S>,
    image: &'s Image<S>,
    snapshot: &'s Snapshot,
    refcounts: Refcounts<'s, S>,
    fill: Vec<Write>,
    /// Ranges of the file that the state and its L2 tables no longer use.
    released: Vec<Range<u64>>,
    /// Ranges of tables that have a new place.
    released_tables: Vec<Range<u64>>,
    released_entries: Vec<ReleasedEntry>,
}

impl<S: ReadAt> Plan<'_, S> {
    fn run(&mut self, edit: &Edit) -> Result<Vec<(Phase, Vec<Write>)>, Error> {
        let l1 = self.change_clusters(edit)?;
        let table_offset = self.copy_snapshot_table(l1, edit.new_length())?;
        let Allocations {
            fill,
            link,
            moved_table,
        } = self.refcounts.finish_allocations()?;
        self.fill.extend(fill);
        let switch = self.switch(table_offset, moved_table)?;
        self.check_released()?;
        let mut single = BTreeSet::new();
        let mut insert = |offset| {
            single.insert(offset);
        };
        for range in self.released.iter().chain(&self.released_tables) {
            self.refcounts.release(range.clone(), &mut insert)?;
        }
        let release = self.refcounts.take_writes();
        let mark = self.mark(&single)?;
        let phases = [
            (Phase::Fill, std::mem::take(&mut self.fill)),
            (Phase::Link, link),
            (Phase::Switch, vec![switch]),
            (Phase::Release, release),
            (Phase::Mark, mark),
        ];
        let used = phases.into_iter().filter(|(_, writes)| !writes.is_empty());
        Ok(used.collect())
    }

    /// Makes the new clusters and the tables that refer to them; returns the new L1 table.
    fn change_clusters(&mut self, edit: &Edit) -> Result<Table, Error> {
        let header = &self.image.header;
        let size = header.cluster_size();
        let changed = changed_clusters(edit, size);
        if changed.len() as u64 * size > MAX_CHANGED_LEN {
            return Err(Error::new(
                ErrorKind::BadEdit,
                "the edit changes more than 256 MiB of the state",
            ));
        }
        let old_end = edit.old_length().div_ceil(size);
        let dropped = edit.new_length().div_ceil(size)..old_end;
        let first = first_cluster(self.image, self.snapshot);
        let data = self.refcounts.allocate(changed.len() as u64)?;
        // New entries by L1 index and L2 index.
        let mut tables: BTreeMap<u64, BTreeMap<u64, L2Entry>> = BTreeMap::new();
        let mask = (1 << header.l2_bits()) - 1;
        let mut put = |cluster: u64, entry| {
            let cluster = first + cluster;
            let table = tables.entry(cluster >> header.l2_bits()).or_default();
            table.insert(cluster & mask, entry);
        };
        for (cluster, offset) in changed.iter().zip((data..).step_by(usize_of(size)?)) {
            put(*cluster, L2Entry::standard(offset, header));
            let bytes = self.read_cluster(edit, *cluster)?;
            self.fill.push(Write::new(offset, bytes));
        }
        for cluster in dropped {
            put(cluster, L2Entry::unallocated(header));
        }
        self.copy_l1(&tables)
    }

    /// Returns the bytes of a cluster of the edited state.
    fn read_cluster(&self, edit: &Edit, cluster: u64) -> Result<Vec<u8>, Error> {
        let size = self.image.cluster_size();
        let start = cluster * size;
        let count = usize_of(edit.new_length().min(start + size) - start)?;
        let mut bytes = vec![0; usize_of(size)?];
        edit.apply_to(self.state)
            .read_exact_at(&mut bytes[..count], start)
            .map_err(|error| Error::io("cannot read the state", error))?;
        Ok(bytes)
    }

    /// Copies the L1 table and the L2 tables with new entries.
    fn copy_l1(&mut self, tables: &BTreeMap<u64, BTreeMap<u64, L2Entry>>) -> Result<Table, Error> {
        let old = self.snapshot.l1;
        let size = self.image.cluster_size();
        let needed = tables.keys().next_back().map_or(0, |index| index + 1);
        let entries = old.entries.max(needed);
        let mut bytes = self.image.read_table(old)?;
        let length = (entries * 8).next_multiple_of(size);
        bytes.resize(usize_of(length)?, 0);
        for (index, changes) in tables {
            let l2 = self.copy_l2(*index, changes)?;
            let at = usize_of(index * 8)?;
            bytes[at..at + 8].copy_from_slice(&l2.to_be_bytes());
        }
        let offset = self.refcounts.allocate(length / size)?;
        self.fill.push(Write::new(offset, bytes));
        self.released_tables
            .push(old.offset..old.offset + old.length());
        Ok(Table { offset, entries })
    }

    /// Copies an L2 table with new entries; returns the offset of the copy.
    fn copy_l2(&mut self, l1_index: u64, changes: &BTreeMap<u64, L2Entry>) -> Result<u64, Error> {
        let header = &self.image.header;
        let size = header.cluster_size();
        let mut bytes = vec![0; usize_of(size)?];
        if let Some(old) = self.image.l2_offset(self.snapshot.l1, l1_index)? {
            self.image.read(&mut bytes, old)?;
            self.released.push(old..old + size);
            self.released_entries.push(ReleasedEntry {
                l1_index,
                l2_index: None,
                offset: old,
            });
        }
        let offset = self.refcounts.allocate(1)?;
        for (l2_index, entry) in changes {
            let cluster = (l1_index << header.l2_bits()) + l2_index;
            let old = self.image.l2_entry(self.snapshot.l1, cluster)?;
            if let Some(range) = old.host_range(header) {
                if !old.is_compressed() {
                    self.released_entries.push(ReleasedEntry {
                        l1_index,
                        l2_index: Some(*l2_index),
                        offset: range.start,
                    });
                }
                self.released.push(range);
            }
            let at = usize_of(l2_index * header.l2_entry_len())?;
            let new = entry.to_bytes();
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        self.fill.push(Write::new(offset, bytes));
        Ok(offset)
    }

    /// Copies the snapshot table with the changed entry; returns the offset of the copy.
    fn copy_snapshot_table(&mut self, l1: Table, state_len: u64) -> Result<u64, Error> {
        let size = self.image.cluster_size();
        let start = self.image.header.snapshots_offset;
        let length = self.image.table.length;
        let mut bytes = self.image.read_range(start, length)?;
        change_entry(&mut bytes, self.snapshot, &EntryChange { l1, state_len })?;
        bytes.resize(usize_of(length.next_multiple_of(size))?, 0);
        let offset = self.refcounts.allocate(length.div_ceil(size))?;
        self.fill.push(Write::new(offset, bytes));
        self.released_tables.push(start..start + length);
        Ok(offset)
    }

    /// Makes the one write after which the image has its new state.
    fn switch(&mut self, table_offset: u64, moved: Option<(u64, u32)>) -> Result<Write, Error> {
        let mut bytes = self.image.read_range(TABLES_AT, 24)?;
        if let Some((offset, clusters)) = moved {
            bytes[..8].copy_from_slice(&offset.to_be_bytes());
            bytes[8..12].copy_from_slice(&clusters.to_be_bytes());
            let old = self.image.header.refcount_table;
            self.released_tables
                .push(old.offset..old.offset + old.length());
        }
        bytes[16..].copy_from_slice(&table_offset.to_be_bytes());
        Ok(Write::new(TABLES_AT, bytes))
    }

    /// Checks that no released range holds something else of the image.
    fn check_released(&self) -> Result<(), Error> {
        let image = self.image;
        let size = image.cluster_size();
        let to_clusters = |range: &Range<u64>| range.start / size..range.end.div_ceil(size);
        let table_range = |table: Table| table.offset..table.offset + table.length();
        let others = image.snapshots().iter().filter(|it| *it != self.snapshot);
        let mut metadata = vec![0..size, table_range(image.header.active_l1)];
        metadata.extend(others.map(|snapshot| table_range(snapshot.l1)));
        metadata.extend(self.refcounts.old_blocks().map(|at| at..at + size));
        let start = image.header.snapshots_offset;
        let tables = [
            table_range(image.header.refcount_table),
            table_range(self.snapshot.l1),
            start..start + image.table.length,
        ];
        for table in &tables {
            let clusters = to_clusters(table);
            let overlapped = metadata
                .iter()
                .chain(tables.iter().filter(|it| *it != table));
            for range in overlapped.map(to_clusters).filter(|it| !it.is_empty()) {
                if range.start < clusters.end && clusters.start < range.end {
                    return Err(inconsistent(table.start));
                }
            }
        }
        metadata.extend(tables);
        let mut metadata: Vec<_> = metadata.iter().map(to_clusters).collect();
        metadata.retain(|range| !range.is_empty());
        metadata.sort_by_key(|range| range.start);
        // Metadata that does not overlap ends in the order in which it begins.
        for range in &self.released {
            let clusters = to_clusters(range);
            let end = metadata.partition_point(|it| it.start < clusters.end);
            if end > 0 && metadata[end - 1].end > clusters.start {
                return Err(inconsistent(range.start));
            }
        }
        Ok(())
    }

    /// Makes the writes that mark clusters with one reference in the tables of the disk.
    fn mark(&self, single: &BTreeSet<u64>) -> Result<Vec<Write>, Error> {
        let header = &self.image.header;
        let active = header.active_l1;
        let mut writes = Vec::new();
        for released in &self.released_entries {
            if !single.contains(&released.offset) {
                continue;
            }
            let Some(l2) = self.image.l2_offset(active, released.l1_index)? else {
                continue;
            };
            let Some(l2_index) = released.l2_index else {
                if l2 == released.offset {
                    let bytes = (l2 | COPIED).to_be_bytes().to_vec();
                    writes.push(Write::new(active.offset + released.l1_index * 8, bytes));
                }
                continue;
            };
            let cluster = (released.l1_index << header.l2_bits()) + l2_index;
            let entry = self.image.l2_entry(active, cluster)?;
            let range = entry.host_range(header);
            if !entry.is_compressed() && range.is_some_and(|it| it.start == released.offset) {
                let at = self.image.l2_entry_offset(l2, l2_index);
                let bytes = (entry.descriptor | COPIED).to_be_bytes().to_vec();
                writes.push(Write::new(at, bytes));
            }
        }
        Ok(writes)
    }
}

/// Returns the numbers of the clusters whose bytes change.
fn changed_clusters(edit: &Edit, size: u64) -> BTreeSet<u64> {
    let mut clusters = BTreeSet::new();
    let mut at = 0;
    for segment in edit.segments() {
        let end = at + segment.length();
        let is_unchanged = matches!(&segment, Segment::Old(range) if range.start == at);
        if !is_unchanged && at < end {
            clusters.extend(at / size..end.div_ceil(size));
        }
        at = end;
    }
    clusters
}

/// Opens the changed image and compares it with the edit.
fn verify<S: ReadAt>(state: &SnapshotState<S>, edit: &Edit, change: &Change) -> Result<(), Error> {
    let failed = |problem: &str| {
        Error::new(
            ErrorKind::NotAsPlanned,
            format!("the changed image {problem}; nothing was written"),
        )
        .with_hint("this is a fault of cpreg: please report it")
    };
    let file_edit = change.to_edit();
    let image = Image::open(file_edit.apply_to(state.image().source()))
        .map_err(|error| failed("cannot be opened").with_source(error))?;
    let snapshot = state.snapshot();
    let pairs = image.snapshots().iter().zip(state.image().snapshots());
    for (new, old) in pairs {
        if old != snapshot && new != old {
            return Err(failed("has another snapshot changed"));
        }
    }
    let new = image
        .snapshots()
        .iter()
        .find(|it| it.entry == snapshot.entry);
    let new = new.cloned().ok_or_else(|| failed("lacks the snapshot"))?;
    if new.state_len != edit.new_length() {
        return Err(failed("has a state of another length"));
    }
    let size = image.cluster_size();
    let written = image.into_state(&new)?;
    let wanted = edit.apply_to(state);
    for cluster in changed_clusters(edit, size) {
        let start = cluster * size;
        let count = usize_of(edit.new_length().min(start + size) - start)?;
        let (mut one, mut other) = (vec![0; count], vec![0; count]);
        let read = written
            .read_exact_at(&mut one, start)
            .and_then(|()| wanted.read_exact_at(&mut other, start));
        if read.is_err() || one != other {
            return Err(failed("does not hold the edited state"));
        }
    }
    Ok(())
}

fn usize_of(number: u64) -> Result<usize, Error> {
    usize::try_from(number)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "a table does not fit in memory"))
}
