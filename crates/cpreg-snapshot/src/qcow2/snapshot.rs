//! [`Snapshot`]: an entry of the snapshot table.

use std::ops::Range;

use cpreg_stream::ReadAt;

use super::header::{Header, MAX_L1_LEN, Table, be32, be64};
use crate::error::{Error, ErrorKind};

/// Length of an entry in front of its extra data.
const ENTRY_LEN: usize = 40;
/// QEMU's limit for the extra data of an entry, in bytes.
const MAX_EXTRA_LEN: u32 = 1024;
/// QEMU's limit for the table, in bytes.
const MAX_TABLE_LEN: u64 = 64 << 20;
/// Length of the window through which the table is read.
const WINDOW_LEN: u64 = 4 << 10;

/// Internal snapshot of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) seconds: u32,
    pub(super) vm_clock_ns: u64,
    pub(super) state_len: u64,
    pub(super) disk_size: u64,
    pub(super) icount: Option<u64>,
    pub(super) l1: Table,
    /// Range of the entry in the table, without padding.
    pub(super) entry: Range<u64>,
    pub(super) extra_len: u32,
}

impl Snapshot {
    /// Returns the snapshot's id, which is unique in the image.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the snapshot's name, which QEMU calls tag.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the time of the snapshot, in seconds since 1970.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// Returns the time that the VM had run, in nanoseconds.
    pub fn vm_clock_ns(&self) -> u64 {
        self.vm_clock_ns
    }

    /// Returns the length of the VM's state in bytes; 0 if the snapshot holds only the disk.
    pub fn state_len(&self) -> u64 {
        self.state_len
    }

    /// Returns the size of the disk in bytes.
    pub fn disk_size(&self) -> u64 {
        self.disk_size
    }

    /// Returns the number of executed instructions, if QEMU counted them.
    pub fn icount(&self) -> Option<u64> {
        self.icount
    }
}

/// Snapshot table: its snapshots, and its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SnapshotTable {
    pub(super) snapshots: Vec<Snapshot>,
    /// Length in bytes, up to the last entry's end.
    pub(super) length: u64,
}

/// Reader of the table, which holds one window of it in memory.
struct Reader<'s> {
    source: &'s dyn ReadAt,
    /// Offset of the table in the file.
    start: u64,
    /// End of the bytes that the table can occupy, in the file.
    end: u64,
    window: Vec<u8>,
    /// Offset of the window in the file.
    window_start: u64,
}

impl Reader<'_> {
    /// Returns the bytes at this offset of the table.
    fn bytes(&mut self, at: u64, count: usize) -> Result<&[u8], Error> {
        let from = self.start.saturating_add(at);
        let end = from.saturating_add(count as u64);
        if end > self.end {
            return Err(Error::new(
                ErrorKind::Truncated,
                "the snapshot table lies after the end of the file",
            )
            .at_offset(from)
            .with_hint("get a complete copy of the file"));
        }
        let is_in_window =
            from >= self.window_start && end <= self.window_start + self.window.len() as u64;
        if !is_in_window {
            let length = (self.end - from).min(WINDOW_LEN.max(count as u64));
            self.window
                .resize(usize::try_from(length).unwrap_or(count), 0);
            self.window_start = from;
            self.source
                .read_exact_at(&mut self.window, from)
                .map_err(|error| Error::io("cannot read", error).at_offset(from))?;
        }
        // The window holds the range, whose length is a usize.
        let index = usize::try_from(from - self.window_start).unwrap_or(0);
        Ok(&self.window[index..index + count])
    }
}

impl SnapshotTable {
    /// Reads and checks the table.
    pub(super) fn read(
        source: &dyn ReadAt,
        header: &Header,
        file_length: u64,
    ) -> Result<Self, Error> {
        if header.snapshot_count == 0 {
            return Ok(Self::default());
        }
        let start = header.snapshots_offset;
        let mut reader = Reader {
            source,
            start,
            end: file_length.min(start.saturating_add(MAX_TABLE_LEN)),
            window: Vec::new(),
            window_start: start,
        };
        let mut table = Self::default();
        for _ in 0..header.snapshot_count {
            let at = table.length.next_multiple_of(8);
            let snapshot = read_entry(&mut reader, at, header, file_length)?;
            table.length = snapshot.entry.end;
            table.snapshots.push(snapshot);
        }
        Ok(table)
    }
}

fn read_entry(
    reader: &mut Reader<'_>,
    at: u64,
    header: &Header,
    file_length: u64,
) -> Result<Snapshot, Error> {
    let place = reader.start.saturating_add(at);
    let fixed = reader.bytes(at, ENTRY_LEN)?.to_vec();
    let id_len = be32(&fixed, 12) >> 16;
    let name_len = be32(&fixed, 12) & 0xffff;
    let extra_len = be32(&fixed, 36);
    if extra_len > MAX_EXTRA_LEN {
        return Err(Error::malformed(
            place + 36,
            format!("a snapshot with {extra_len} bytes of extra data"),
        ));
    }
    let extra = reader
        .bytes(at + ENTRY_LEN as u64, extra_len as usize)?
        .to_vec();
    let id_at = at + ENTRY_LEN as u64 + u64::from(extra_len);
    let id = text(reader.bytes(id_at, id_len as usize)?);
    let name_at = id_at + u64::from(id_len);
    let name = text(reader.bytes(name_at, name_len as usize)?);
    let extra_field = |at: usize| (extra.len() >= at + 8).then(|| be64(&extra, at));
    let snapshot = Snapshot {
        id,
        name,
        seconds: be32(&fixed, 16),
        vm_clock_ns: be64(&fixed, 24),
        state_len: extra_field(0).unwrap_or_else(|| be32(&fixed, 32).into()),
        disk_size: extra_field(8).unwrap_or(header.virtual_size),
        icount: extra_field(16).filter(|count| *count != u64::MAX),
        l1: Table {
            offset: be64(&fixed, 0),
            entries: be32(&fixed, 8).into(),
        },
        entry: at..name_at + u64::from(name_len),
        extra_len,
    };
    check(&snapshot, place, header, file_length)?;
    Ok(snapshot)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check(snapshot: &Snapshot, place: u64, header: &Header, file_length: u64) -> Result<(), Error> {
    let name = &snapshot.name;
    if snapshot.l1.length() > MAX_L1_LEN {
        return Err(Error::malformed(
            place,
            format!("the L1 table of snapshot {name:?} is too large"),
        ));
    }
    snapshot.l1.check(
        &format!("the L1 table of snapshot {name:?}"),
        header,
        file_length,
    )?;
    let first = header.state_l1_index(snapshot.disk_size);
    let table_span = 1 << (header.cluster_bits + header.l2_bits());
    let end = first.saturating_add(snapshot.state_len.div_ceil(table_span));
    if snapshot.state_len > 0 && end > snapshot.l1.entries {
        return Err(Error::malformed(
            place,
            format!(
                "snapshot {name:?} has {} bytes of VM state, more than its L1 table holds",
                snapshot.state_len
            ),
        ));
    }
    Ok(())
}

/// Change of one snapshot's entry.
pub(super) struct EntryChange {
    pub(super) l1: Table,
    pub(super) state_len: u64,
}

/// Applies a change to the bytes of the table.
pub(super) fn change_entry(
    table: &mut [u8],
    snapshot: &Snapshot,
    change: &EntryChange,
) -> Result<(), Error> {
    let at = usize::try_from(snapshot.entry.start).unwrap_or(usize::MAX);
    let too_long = || {
        Error::new(
            ErrorKind::BadEdit,
            format!(
                "the entry of snapshot {:?} cannot hold a VM state of {} bytes",
                snapshot.name, change.state_len
            ),
        )
    };
    let entries = u32::try_from(change.l1.entries).map_err(|_| too_long())?;
    let short_len = u32::try_from(change.state_len);
    let mut put = |offset: usize, bytes: &[u8]| {
        table[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &change.l1.offset.to_be_bytes());
    put(8, &entries.to_be_bytes());
    if snapshot.extra_len >= 8 {
        // A program that knows only the short field takes a longer state for no state.
        put(32, &short_len.unwrap_or(0).to_be_bytes());
        put(ENTRY_LEN, &change.state_len.to_be_bytes());
    } else {
        put(32, &short_len.map_err(|_| too_long())?.to_be_bytes());
    }
    Ok(())
}
