//! [`Header`]: the first bytes of an image.

use cpreg_stream::ReadAt;

use crate::error::{Error, ErrorKind};

/// Length in bytes of a header of version 2, which is the beginning of every header.
const LEN_V2: usize = 72;
/// Least length in bytes of a header of version 3.
const LEN_V3: usize = 104;
/// Cluster sizes that QEMU opens.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Least cluster size with extended L2 entries.
const MIN_EXTENDED_CLUSTER_BITS: u32 = 14;
/// QEMU's limit for an L1 table, in bytes.
pub(super) const MAX_L1_LEN: u64 = 32 << 20;
/// QEMU's limit for the refcount table, in bytes.
pub(super) const MAX_REFCOUNT_TABLE_LEN: u64 = 8 << 20;
/// QEMU's limit for the number of snapshots.
const MAX_SNAPSHOTS: u32 = 65536;
/// Limit of the format for the name of the backing file, in bytes.
const MAX_BACKING_NAME_LEN: u32 = 1023;

/// Offset of the refcount table's place; that of the snapshot table follows.
pub(super) const TABLES_AT: u64 = 48;

/// Bit numbers of the incompatible features.
mod incompatible {
    pub(super) const DIRTY: u64 = 1 << 0;
    pub(super) const CORRUPT: u64 = 1 << 1;
    pub(super) const DATA_FILE: u64 = 1 << 2;
    pub(super) const COMPRESSION: u64 = 1 << 3;
    pub(super) const EXTENDED_L2: u64 = 1 << 4;
    pub(super) const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
}
/// Autoclear features that stay true when a VM's state changes: bitmaps, raw data file.
const KNOWN_AUTOCLEAR: u64 = 0b11;

/// Compression of clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Deflate without zlib's header.
    Deflate,
    /// Zstandard.
    Zstd,
}

/// Table of 64-bit entries in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Offset of the table in the file.
    pub(super) offset: u64,
    /// Number of entries.
    pub(super) entries: u64,
}

impl Table {
    /// Returns the length of the table in bytes.
    pub(super) fn length(self) -> u64 {
        self.entries * 8
    }

    /// Checks that the table begins at a cluster and lies in the file.
    pub(super) fn check(self, name: &str, header: &Header, file_length: u64) -> Result<(), Error> {
        if self.entries == 0 {
            return Ok(());
        }
        if !self.offset.is_multiple_of(header.cluster_size()) || self.offset == 0 {
            return Err(Error::malformed(
                self.offset,
                format!("{name} does not begin at a cluster"),
            ));
        }
        let end = self.offset.checked_add(self.length());
        if end.is_none_or(|end| end > file_length) {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!("{name} lies after the end of the file"),
            )
            .at_offset(self.offset)
            .with_hint("get a complete copy of the file"));
        }
        Ok(())
    }
}

/// Parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) virtual_size: u64,
    pub(super) active_l1: Table,
    pub(super) refcount_table: Table,
    /// Binary logarithm of a refcount's width in bits.
    pub(super) refcount_order: u32,
    pub(super) snapshot_count: u32,
    pub(super) snapshots_offset: u64,
    pub(super) compression: Compression,
    pub(super) backing_file: Option<String>,
    incompatible: u64,
    autoclear: u64,
}

/// Big-endian numbers at fixed offsets.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        be32(self.0, at)
    }

    fn u64(&self, at: usize) -> u64 {
        be64(self.0, at)
    }
}

/// Returns the number at this offset, or zero after the end.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    field.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Returns the number at this offset, or zero after the end.
pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    field.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Header {
    /// Reads and checks the header.
    pub(super) fn read(source: &dyn ReadAt, file_length: u64) -> Result<Self, Error> {
        let count = usize::try_from(file_length).unwrap_or(LEN_V3 + 8);
        let mut bytes = vec![0; count.min(LEN_V3 + 8)];
        source
            .read_exact_at(&mut bytes, 0)
            .map_err(|error| Error::io("cannot read", error))?;
        if bytes.len() < LEN_V2 {
            return Err(truncated_header(file_length));
        }
        let header = Self::parse(&bytes, file_length)?;
        let backing_file = header.read_backing_name(source, &bytes, file_length)?;
        Ok(Self {
            backing_file,
            ..header
        })
    }

    fn parse(bytes: &[u8], file_length: u64) -> Result<Self, Error> {
        let fields = Fields(bytes);
        let version = fields.u32(4);
        if !bytes.starts_with(b"QFI\xfb") {
            return Err(Error::malformed(0, "not a qcow2 image"));
        }
        if !(2..=3).contains(&version) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("qcow version {version}; versions 2 and 3 can be read"),
            )
            .at_offset(4));
        }
        let cluster_bits = fields.u32(20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(Error::malformed(
                20,
                format!("clusters of 2^{cluster_bits} bytes"),
            ));
        }
        match fields.u32(32) {
            0 => {}
            method => return Err(encrypted(method)),
        }
        let mut header = Self {
            version,
            cluster_bits,
            virtual_size: fields.u64(24),
            active_l1: Table {
                offset: fields.u64(40),
                entries: fields.u32(36).into(),
            },
            refcount_table: Table {
                offset: fields.u64(48),
                entries: u64::from(fields.u32(56)) << (cluster_bits - 3),
            },
            refcount_order: 4,
            snapshot_count: fields.u32(60),
            snapshots_offset: fields.u64(64),
            compression: Compression::Deflate,
            backing_file: None,
            incompatible: 0,
            autoclear: 0,
        };
        if version == 3 {
            header.parse_v3(bytes, file_length)?;
        }
        header.check(file_length)?;
        Ok(header)
    }

    fn parse_v3(&mut self, bytes: &[u8], file_length: u64) -> Result<(), Error> {
        if bytes.len() < LEN_V3 {
            return Err(truncated_header(file_length));
        }
        let fields = Fields(bytes);
        self.incompatible = fields.u64(72);
        self.autoclear = fields.u64(88);
        self.refcount_order = fields.u32(96);
        let length = u64::from(fields.u32(100));
        if length < LEN_V3 as u64 || length > self.cluster_size() {
            return Err(Error::malformed(100, format!("header of {length} bytes")));
        }
        if self.refcount_order > 6 {
            return Err(Error::malformed(96, "refcounts wider than 64 bits"));
        }
        let unknown = self.incompatible & !incompatible::KNOWN;
        if unknown != 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("unknown incompatible features {unknown:#x}"),
            )
            .at_offset(72)
            .with_hint("`qemu-img info FILE` of a newer QEMU names them"));
        }
        let has_type = length > LEN_V3 as u64 && bytes.len() > LEN_V3;
        let kind = if has_type { bytes[LEN_V3] } else { 0 };
        self.compression = match (kind, self.incompatible & incompatible::COMPRESSION != 0) {
            (0, false) => Compression::Deflate,
            (1, true) => Compression::Zstd,
            _ => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("clusters compressed with method {kind}"),
                )
                .at_offset(LEN_V3 as u64));
            }
        };
        Ok(())
    }

    fn check(&self, file_length: u64) -> Result<(), Error> {
        if self.has_extended_l2() && self.cluster_bits < MIN_EXTENDED_CLUSTER_BITS {
            return Err(Error::malformed(
                20,
                "extended L2 entries with clusters of less than 16 KiB",
            ));
        }
        if self.active_l1.length() > MAX_L1_LEN {
            return Err(Error::malformed(36, "the L1 table is too large"));
        }
        if self.active_l1.entries < self.state_l1_index(self.virtual_size) {
            return Err(Error::malformed(
                36,
                "the L1 table is too small for the disk",
            ));
        }
        if self.refcount_table.entries == 0 {
            return Err(Error::malformed(56, "the image has no refcounts"));
        }
        if self.refcount_table.length() > MAX_REFCOUNT_TABLE_LEN {
            return Err(Error::malformed(56, "the refcount table is too large"));
        }
        if self.snapshot_count > MAX_SNAPSHOTS {
            return Err(Error::malformed(60, "too many snapshots"));
        }
        if self.snapshot_count > 0
            && (self.snapshots_offset == 0
                || !self.snapshots_offset.is_multiple_of(self.cluster_size()))
        {
            return Err(Error::malformed(
                64,
                "the snapshot table does not begin at a cluster",
            ));
        }
        self.active_l1
            .check("the active L1 table", self, file_length)?;
        self.refcount_table
            .check("the refcount table", self, file_length)
    }

    fn read_backing_name(
        &self,
        source: &dyn ReadAt,
        bytes: &[u8],
        file_length: u64,
    ) -> Result<Option<String>, Error> {
        let fields = Fields(bytes);
        let (offset, length) = (fields.u64(8), fields.u32(16));
        if offset == 0 {
            return Ok(None);
        }
        let end = offset.checked_add(length.into());
        if length > MAX_BACKING_NAME_LEN
            || end.is_none_or(|end| end > self.cluster_size().min(file_length))
        {
            return Err(Error::malformed(
                8,
                "the name of the backing file is not in the first cluster",
            ));
        }
        let mut name = vec![0; length as usize];
        source
            .read_exact_at(&mut name, offset)
            .map_err(|error| Error::io("cannot read", error).at_offset(offset))?;
        Ok(Some(String::from_utf8_lossy(&name).into_owned()))
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Returns the length of an L2 entry in bytes.
    pub(super) fn l2_entry_len(&self) -> u64 {
        if self.has_extended_l2() { 16 } else { 8 }
    }

    /// Returns the binary logarithm of the number of entries of an L2 table.
    pub(super) fn l2_bits(&self) -> u32 {
        self.cluster_bits - if self.has_extended_l2() { 4 } else { 3 }
    }

    /// Returns the index of the L1 entry where the VM state of a disk of this size begins.
    pub(super) fn state_l1_index(&self, disk_size: u64) -> u64 {
        disk_size.div_ceil(1 << (self.cluster_bits + self.l2_bits()))
    }

    pub(super) fn has_extended_l2(&self) -> bool {
        self.incompatible & incompatible::EXTENDED_L2 != 0
    }

    pub(super) fn has_data_file(&self) -> bool {
        self.incompatible & incompatible::DATA_FILE != 0
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.incompatible & incompatible::DIRTY != 0
    }

    pub(super) fn is_corrupt(&self) -> bool {
        self.incompatible & incompatible::CORRUPT != 0
    }

    pub(super) fn unknown_autoclear(&self) -> u64 {
        self.autoclear & !KNOWN_AUTOCLEAR
    }
}

fn truncated_header(file_length: u64) -> Error {
    Error::new(ErrorKind::Truncated, "the file ends in its header").at_offset(file_length)
}

fn encrypted(method: u32) -> Error {
    let name = match method {
        1 => "AES",
        2 => "LUKS",
        _ => "an unknown method",
    };
    Error::new(
        ErrorKind::Encrypted,
        format!("the image is encrypted with {name}; cpreg does not read encrypted images"),
    )
    .at_offset(32)
    .with_hint(
        "restore the VM with the QEMU that saved it, and migrate it to the new QEMU through cpreg",
    )
}
