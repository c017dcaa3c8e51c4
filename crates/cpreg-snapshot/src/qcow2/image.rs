//! [`Image`]: an open image, with its snapshots.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use cpreg_stream::ReadAt;

use super::entry::{self, L2Entry};
use super::header::{Header, Table};
use super::snapshot::{Snapshot, SnapshotTable};
use crate::error::{Error, ErrorKind};

/// Length in bytes of the pages through which tables are read.
const PAGE_LEN: u64 = 4096;
/// Maximum number of pages in memory.
const MAX_PAGES: usize = 256;

/// Open qcow2 image.
pub struct Image<S> {
    source: S,
    length: u64,
    pub(super) header: Header,
    pub(super) table: SnapshotTable,
    /// Pages of tables by their offset in the file.
    pages: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl<S> fmt::Debug for Image<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("header", &self.header)
            .field("snapshots", &self.table.snapshots)
            .finish_non_exhaustive()
    }
}

impl<S: ReadAt> Image<S> {
    /// Opens an image. Reads the header and the snapshot table.
    ///
    /// # Errors
    /// - [`ErrorKind::Encrypted`] for an encrypted image.
    /// - [`ErrorKind::Unsupported`] for a version or a feature that this crate does not know.
    /// - [`ErrorKind::Malformed`] and [`ErrorKind::Truncated`] for a damaged image.
    pub fn open(source: S) -> Result<Self, Error> {
        let length = source
            .length()
            .map_err(|error| Error::io("cannot read", error))?;
        let header = Header::read(&source, length)?;
        let table = SnapshotTable::read(&source, &header, length)?;
        Ok(Self {
            source,
            length,
            header,
            table,
            pages: Mutex::default(),
        })
    }

    /// Returns the bytes of the image.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns the length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Returns the size of a cluster in bytes.
    pub fn cluster_size(&self) -> u64 {
        self.header.cluster_size()
    }

    /// Returns the size of the disk in bytes.
    pub fn disk_size(&self) -> u64 {
        self.header.virtual_size
    }

    /// Returns the name of the backing file, as the image spells it.
    pub fn backing_file(&self) -> Option<&str> {
        self.header.backing_file.as_deref()
    }

    /// Returns `true` if the disk's content is in another file. QEMU makes no snapshots then.
    pub fn has_data_file(&self) -> bool {
        self.header.has_data_file()
    }

    /// Returns all snapshots, in the order of the image.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.table.snapshots
    }

    /// Returns the snapshots that hold a VM's state.
    pub fn saved_vms(&self) -> impl Iterator<Item = &Snapshot> {
        let snapshots = self.table.snapshots.iter();
        snapshots.filter(|snapshot| snapshot.state_len > 0)
    }

    /// Returns the snapshot with this name, or with this id if no snapshot has the name.
    ///
    /// # Errors
    /// [`ErrorKind::NoVm`] if no snapshot with a VM's state has this name, or several have.
    pub fn find(&self, name: &str) -> Result<&Snapshot, Error> {
        let mut named = self.saved_vms().filter(|snapshot| snapshot.name == name);
        match (named.next(), named.next()) {
            (Some(snapshot), None) => return Ok(snapshot),
            (Some(_), Some(_)) => {
                return Err(Error::new(
                    ErrorKind::NoVm,
                    format!("several snapshots have the name {name:?}"),
                )
                .with_hint("give the snapshot's id, which `qemu-img snapshot -l FILE` prints"));
            }
            (None, _) => {}
        }
        let by_id = self.saved_vms().find(|snapshot| snapshot.id == name);
        by_id.ok_or_else(|| {
            let is_disk_only = self
                .snapshots()
                .iter()
                .any(|snapshot| snapshot.name == name || snapshot.id == name);
            let message = if is_disk_only {
                format!("snapshot {name:?} holds the disk only, no VM's state")
            } else {
                format!("no snapshot has the name {name:?}")
            };
            Error::new(ErrorKind::NoVm, message).with_hint(
                "`qemu-img snapshot -l FILE` lists the snapshots; VM_SIZE is not 0 for a VM",
            )
        })
    }

    /// Reads bytes of the file.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(Error::new(
                ErrorKind::Truncated,
                "a cluster of the image lies after the end of the file",
            )
            .at_offset(offset)
            .with_hint("get a complete copy of the file"));
        }
        self.source
            .read_exact_at(buffer, offset)
            .map_err(|error| Error::io("cannot read", error).at_offset(offset))
    }

    /// Reads all bytes of a table, which [`Table::check`] found in the file.
    pub(super) fn read_table(&self, table: Table) -> Result<Vec<u8>, Error> {
        self.read_range(table.offset, table.length())
    }

    /// Reads a range of the file.
    pub(super) fn read_range(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.length {
            return self.read(&mut [0], u64::MAX).map(|()| Vec::new());
        }
        let mut bytes = vec![0; count];
        self.read(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Reads the 64-bit number of a table at this offset of the file.
    fn read_number(&self, offset: u64) -> Result<u64, Error> {
        let page_start = offset - offset % PAGE_LEN;
        let index = usize::try_from(offset - page_start).unwrap_or(0);
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if !pages.contains_key(&page_start) {
            if pages.len() >= MAX_PAGES {
                pages.clear();
            }
            let length = self.length.saturating_sub(page_start).min(PAGE_LEN);
            pages.insert(
                page_start,
                self.read_range(page_start, length)?.into_boxed_slice(),
            );
        }
        let number = pages[&page_start]
            .get(index..)
            .and_then(<[u8]>::first_chunk);
        match number {
            Some(bytes) => Ok(u64::from_be_bytes(*bytes)),
            None => self.read(&mut [0; 8], offset).map(|()| 0),
        }
    }

    /// Returns the offset of the L2 table at this index of an L1 table.
    pub(super) fn l2_offset(&self, l1: Table, index: u64) -> Result<Option<u64>, Error> {
        if index >= l1.entries {
            return Ok(None);
        }
        let at = l1.offset + index * 8;
        entry::l2_offset(self.read_number(at)?, &self.header, at)
    }

    /// Returns the offset in the file of an entry of an L2 table.
    pub(super) fn l2_entry_offset(&self, l2: u64, index: u64) -> u64 {
        l2.saturating_add(index * self.header.l2_entry_len())
    }

    /// Returns the entry of a guest cluster, by the number of the cluster from the disk's start.
    pub(super) fn l2_entry(&self, l1: Table, cluster: u64) -> Result<L2Entry, Error> {
        let l2_bits = self.header.l2_bits();
        let Some(l2) = self.l2_offset(l1, cluster >> l2_bits)? else {
            return Ok(L2Entry::unallocated(&self.header));
        };
        let at = self.l2_entry_offset(l2, cluster & ((1 << l2_bits) - 1));
        let entry = L2Entry {
            descriptor: self.read_number(at)?,
            subclusters: if self.header.has_extended_l2() {
                Some(self.read_number(at.saturating_add(8))?)
            } else {
                None
            },
        };
        entry.check(&self.header, at)?;
        Ok(entry)
    }
}
