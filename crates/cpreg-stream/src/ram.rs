//! The `ram` section, version 4: block list, page records, mapped-ram.
//!
//! Read from QEMU's `migration/ram.c`, v5.2 to 11.x. Tested with streams:
//!
//! - ZERO, PAGE, EOS, CONTINUE of 5.2, 7.2, 10.0 and 11.1
//! - XBZRLE of 7.2 and 10.0
//! - COMPRESS_PAGE of 5.2 and 7.2
//! - addresses and mapped-ram of 10.0
//!
//! Known only from the sources: MULTIFD_FLUSH, page sizes in the block list.
//!
//! A record is a u64 whose bits below the target page size are flags:
//!
//! | flag | record | what follows |
//! |---|---|---|
//! | 0x002 | ZERO | \[block\], u8 fill (0) |
//! | 0x004 | MEM_SIZE | the block list; the upper bits are the sum of all lengths |
//! | 0x008 | PAGE | \[block\], one target page |
//! | 0x010 | EOS | nothing: the payload ends |
//! | 0x020 | CONTINUE | no \[block\]: the previous record's block applies |
//! | 0x040 | XBZRLE | \[block\], u8 1, u16 n, n bytes |
//! | 0x080 | HOOK | RDMA only; rejected |
//! | 0x100 | COMPRESS_PAGE | \[block\], u32 n, n bytes of zlib; until 9.0 |
//! | 0x200 | MULTIFD_FLUSH | nothing; 8.1 and later |
//!
//! \[block\] is u8 n, n bytes name. An entry of the block list is:
//!
//! 1. u8 n, n bytes name, u64 length
//! 2. u64 page size (postcopy, if it differs from the host's)
//! 3. u64 address (`x-ignore-shared`)
//! 4. mapped-ram header (`mapped-ram`)

use std::ops::Range;

use crate::cursor::Cursor;
use crate::element::Configuration;
use crate::error::{Error, ErrorKind, PrependPath};

const ZERO: u64 = 0x002;
const MEM_SIZE: u64 = 0x004;
const PAGE: u64 = 0x008;
const EOS: u64 = 0x010;
const CONTINUE: u64 = 0x020;
const XBZRLE: u64 = 0x040;
const HOOK: u64 = 0x080;
const COMPRESS_PAGE: u64 = 0x100;
const MULTIFD_FLUSH: u64 = 0x200;

/// Last eight bytes of every `ram` payload: the flag EOS.
pub(crate) const END_OF_PAYLOAD: u64 = EOS;
/// Version of the section's format; the only one since 2009.
pub(crate) const VERSION: u32 = 4;

/// Maximum number of blocks; more than any machine has (256 memory slots, ROMs, flash).
const MAX_BLOCKS: usize = 4096;

/// Maximum number of records in START: list, flush of multifd channels, end; with reserve.
const MAX_START_RECORDS: usize = 8;

/// Block of guest RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamBlock {
    /// QEMU's name of the block (`mach-virt.ram`).
    pub name: String,
    /// Length in bytes.
    pub length: u64,
    /// Page size in bytes, if the stream contains it (postcopy).
    pub page_size: Option<u64>,
    /// Guest physical address, if the stream contains it (`x-ignore-shared`).
    pub address: Option<u64>,
    /// Offsets of the block's pages in the file (`mapped-ram`).
    pub mapped_ram: Option<MappedBlock>,
}

/// Offsets of a block's pages in a mapped-ram file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappedBlock {
    /// Page size in bytes.
    pub page_size: u64,
    /// Offset in the stream of the bitmap of present pages, in the source host's byte order.
    pub bitmap_offset: u64,
    /// Range of the pages in the stream, each at a fixed offset; a page that QEMU never wrote is a
    /// hole.
    pub pages: Range<u64>,
}

/// Writes a payload of START that contains only the block list.
pub(crate) fn write_block_list(bytes: &mut Vec<u8>, blocks: &[RamBlock]) -> Result<(), Error> {
    let total = blocks
        .iter()
        .try_fold(0_u64, |total, block| total.checked_add(block.length))
        .filter(|total| total & MEM_SIZE == 0)
        .ok_or_else(|| {
            let message = "a stream cannot hold the sum of the lengths of the RAM blocks";
            Error::new(ErrorKind::Unsupported, message).prepend_path("ram")
        })?;
    bytes.extend((total | MEM_SIZE).to_be_bytes());
    for block in blocks {
        // Names were read with a u8 length, so this does not saturate.
        bytes.push(u8::try_from(block.name.len()).unwrap_or(u8::MAX));
        bytes.extend(block.name.as_bytes());
        bytes.extend(block.length.to_be_bytes());
    }
    bytes.extend(EOS.to_be_bytes());
    Ok(())
}

/// Number of records of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordCounts {
    /// Number of pages of zeros.
    pub zero: u64,
    /// Number of uncompressed pages.
    pub page: u64,
    /// Number of changes of pages that the source had sent earlier (XBZRLE).
    pub xbzrle: u64,
    /// Number of pages that the source compressed with zlib.
    pub compress_page: u64,
    /// Number of markers that all multifd channels have been flushed.
    pub multifd_flush: u64,
}

/// Parser of the `ram` section.
#[derive(Clone, Debug, Default)]
pub(crate) struct RamParser {
    pub(crate) blocks: Vec<RamBlock>,
    pub(crate) counts: RecordCounts,
    page_size: u64,
    ignore_shared: bool,
    mapped_ram: bool,
    /// `true` after a POSTCOPY_ADVISE with page sizes: the block list may hold page sizes too.
    pub(crate) postcopy: bool,
    /// Block of the previous record, for CONTINUE.
    current_block: Option<usize>,
}

impl RamParser {
    pub(crate) fn new(configuration: Option<&Configuration>) -> Self {
        let has = |name| configuration.is_some_and(|it| it.has_capability(name));
        let bits = configuration
            .and_then(|it| it.target_page_bits)
            .unwrap_or(12);
        Self {
            page_size: 1 << bits,
            ignore_shared: has("x-ignore-shared"),
            mapped_ram: has("mapped-ram"),
            ..Self::default()
        }
    }

    /// Reads the payload of START, in which no QEMU sends pages.
    pub(crate) fn read_block_list_only(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        for _ in 0..MAX_START_RECORDS {
            let start = cursor.position();
            let word = cursor.read_be64().prepend_path(|| "ram".into())?;
            match word & (self.page_size - 1) {
                EOS => return Ok(()),
                MULTIFD_FLUSH => {}
                MEM_SIZE => self.read_block_list(cursor, word & !(self.page_size - 1), start)?,
                _ => break,
            }
        }
        Err(Error::malformed(cursor.position(), "not a list of RAM blocks").prepend_path("ram"))
    }

    /// Skips one payload, from its first record to its EOS.
    pub(crate) fn skip_payload(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        while !self.step(cursor)? {}
        Ok(())
    }

    /// Parses one record; returns `true` if it was the last of its payload.
    ///
    /// An error leaves the parser unchanged: the caller can retry the record with more bytes.
    pub(crate) fn step(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Error> {
        let start = cursor.position();
        let word = cursor.read_be64().prepend_path(|| "ram".into())?;
        let flags = word & (self.page_size - 1);
        let address = word & !(self.page_size - 1);
        match flags {
            EOS => return Ok(true),
            MULTIFD_FLUSH => self.counts.multifd_flush += 1,
            MEM_SIZE => self.read_block_list(cursor, address, start)?,
            _ => self
                .read_record(cursor, flags, address, start)
                .prepend_path(|| "ram".into())?,
        }
        Ok(false)
    }

    /// Skips PAGE and ZERO records of the current block at the front of `bytes`.
    ///
    /// Returns the total length of these records in bytes; the last page may extend past `bytes`.
    ///
    /// Nearly all records are of this form, so this function decides the throughput. [`Self::step`]
    /// parses all others.
    pub(crate) fn skip_pages(&mut self, bytes: &[u8]) -> usize {
        const WHOLE: u64 = PAGE | CONTINUE;
        const ZEROS: u64 = ZERO | CONTINUE;
        let Some(block) = self.current_block.and_then(|block| self.blocks.get(block)) else {
            return 0;
        };
        let (length, flags) = (block.length, self.page_size - 1);
        let Ok(page_size) = usize::try_from(self.page_size) else {
            return 0;
        };
        let mut at = 0;
        while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let word = u64::from_be_bytes(*word);
            if word & !flags >= length {
                break;
            }
            match word & flags {
                WHOLE => {
                    self.counts.page += 1;
                    at += 8 + page_size;
                }
                ZEROS => {
                    self.counts.zero += 1;
                    at += 8 + 1;
                }
                _ => break,
            }
        }
        at
    }

    /// Returns the number of records so far that contain guest data.
    pub(crate) fn page_record_count(&self) -> u64 {
        let counts = &self.counts;
        counts.zero + counts.page + counts.xbzrle + counts.compress_page
    }

    fn read_record(
        &mut self,
        cursor: &mut Cursor<'_>,
        flags: u64,
        address: u64,
        start: u64,
    ) -> Result<(), Error> {
        let kind = flags & !CONTINUE;
        if flags & HOOK != 0 {
            return Err(Error::unsupported(start, "a record of an RDMA migration")
                .with_hint("migrate over TCP or to a file"));
        }
        if !matches!(kind, ZERO | PAGE | XBZRLE | COMPRESS_PAGE) {
            return Err(Error::malformed(
                start,
                format!("a record has the unknown flags {flags:#x}"),
            ));
        }
        let block = if flags & CONTINUE == 0 {
            let name = cursor.read_name()?;
            let block = self.blocks.iter().position(|block| block.name == name);
            if block.is_none() {
                return Err(Error::malformed(
                    start,
                    format!("a page belongs to the unknown block {name}"),
                ));
            }
            block
        } else {
            self.current_block
        };
        let Some(block) = block else {
            return Err(Error::malformed(
                start,
                "a page refers to the previous block, and there is none",
            ));
        };
        let length = self.blocks[block].length;
        if address >= length {
            return Err(Error::malformed(
                start,
                format!(
                    "page {address:#x} is outside {}, which has {length:#x} bytes",
                    self.blocks[block].name
                ),
            ));
        }
        match kind {
            ZERO => {
                cursor.skip(1)?;
                self.counts.zero += 1;
            }
            PAGE => {
                cursor.skip(self.page_size)?;
                self.counts.page += 1;
            }
            XBZRLE => {
                let encoding = cursor.read_u8()?;
                let length = u64::from(cursor.read_be16()?);
                if encoding != 1 || length > self.page_size {
                    return Err(Error::malformed(start, "invalid XBZRLE record"));
                }
                cursor.skip(length)?;
                self.counts.xbzrle += 1;
            }
            _ => {
                let length = u64::from(cursor.read_be32()?);
                // zlib's bound for one page.
                if length > self.page_size + (self.page_size >> 12) + (self.page_size >> 14) + 13 {
                    return Err(Error::malformed(
                        start,
                        "a compressed page is longer than a page",
                    ));
                }
                cursor.skip(length)?;
                self.counts.compress_page += 1;
            }
        }
        self.current_block = Some(block);
        Ok(())
    }

    fn read_block_list(
        &mut self,
        cursor: &mut Cursor<'_>,
        total: u64,
        start: u64,
    ) -> Result<(), Error> {
        if !self.blocks.is_empty() {
            return Err(Error::malformed(start, "a second list of RAM blocks"));
        }
        let mut remaining = total;
        let mut blocks = Vec::new();
        while remaining > 0 {
            let index = blocks.len();
            if index == MAX_BLOCKS {
                return Err(Error::malformed(
                    start,
                    format!("the list has more than {MAX_BLOCKS} RAM blocks"),
                ));
            }
            let entry = cursor.position();
            let block = self
                .read_block(cursor, &blocks)
                .prepend_path(|| format!("ram.blocks[{index}]"))?;
            remaining = remaining.checked_sub(block.length).ok_or_else(|| {
                Error::malformed(entry, "the RAM blocks are longer than their sum")
                    .prepend_path(&format!("ram.blocks[{index}]"))
            })?;
            blocks.push(block);
        }
        self.blocks = blocks;
        Ok(())
    }

    /// Reads an entry of the list that follows those in `before`.
    fn read_block(&self, cursor: &mut Cursor<'_>, before: &[RamBlock]) -> Result<RamBlock, Error> {
        let start = cursor.position();
        let name = cursor.read_name()?;
        if before.iter().any(|block| block.name == name) {
            return Err(Error::malformed(
                start,
                format!("a second block has the name {name}"),
            ));
        }
        let length = cursor.read_be64()?;
        let page_size = self.read_page_size(cursor)?;
        let address = if self.ignore_shared {
            Some(cursor.read_be64()?)
        } else {
            None
        };
        let mapped_ram = if self.mapped_ram {
            Some(Self::read_mapped_block(cursor, length)?)
        } else {
            None
        };
        Ok(RamBlock {
            name,
            length,
            page_size,
            address,
            mapped_ram,
        })
    }

    /// Reads the page size of a block, which a postcopy stream holds if it differs from the host's.
    ///
    /// No flag marks its presence. Without it, the next block's name follows (whose length is not
    /// 0), or a record (whose flags are not 0). Neither is a power of two of at least a page. QEMU
    /// rejects postcopy together with `x-ignore-shared` and with `mapped-ram`, whose fields would
    /// be ambiguous.
    fn read_page_size(&self, cursor: &mut Cursor<'_>) -> Result<Option<u64>, Error> {
        if !self.postcopy || self.ignore_shared || self.mapped_ram {
            return Ok(None);
        }
        let mut next = [0; 8];
        next.copy_from_slice(cursor.peek(8)?);
        let next = u64::from_be_bytes(next);
        if next >= self.page_size && next.is_power_of_two() && next < 1 << 40 {
            cursor.skip(8)?;
            return Ok(Some(next));
        }
        Ok(None)
    }

    /// Reads a mapped-ram header: u32 version, u64 page size, u64 bitmap offset, u64 pages offset.
    fn read_mapped_block(cursor: &mut Cursor<'_>, length: u64) -> Result<MappedBlock, Error> {
        let start = cursor.position();
        let version = cursor.read_be32()?;
        if version != 1 {
            return Err(Error::unsupported(
                start,
                format!("mapped-ram of version {version}"),
            ));
        }
        let page_size = cursor.read_be64()?;
        // The offsets count from the beginning of the file that QEMU wrote.
        let base = cursor.source().file_offset();
        let mut read_offset = || -> Result<u64, Error> {
            let offset = cursor.read_be64()?;
            let before = || Error::malformed(start, "mapped-ram pages in front of the stream");
            offset.checked_sub(base).ok_or_else(before)
        };
        let bitmap_offset = read_offset()?;
        let pages_offset = read_offset()?;
        let end = pages_offset
            .checked_add(length)
            .ok_or_else(|| Error::malformed(start, "the pages are past the end of any file"))?;
        if !page_size.is_power_of_two()
            || bitmap_offset < cursor.position()
            || pages_offset < bitmap_offset
        {
            return Err(Error::malformed(start, "invalid mapped-ram header"));
        }
        // The next entry follows the pages.
        cursor.skip(end.saturating_sub(cursor.position()))?;
        Ok(MappedBlock {
            page_size,
            bitmap_offset,
            pages: pages_offset..end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn word(bytes: &mut Vec<u8>, word: u64) {
        bytes.extend(word.to_be_bytes());
    }

    fn list() -> Vec<u8> {
        let mut bytes = Vec::new();
        word(&mut bytes, 0x3000 | MEM_SIZE);
        bytes.extend(b"\x03ram\0\0\0\0\0\0\x20\0\x03rom\0\0\0\0\0\0\x10\0");
        bytes
    }

    fn read(mut ram: RamParser, bytes: &[u8]) -> Result<RamParser, Error> {
        let bytes = bytes.to_vec();
        let mut cursor = Cursor::new(&bytes, 0, bytes.len() as u64, 8192);
        ram.skip_payload(&mut cursor)?;
        assert!(cursor.is_at_end());
        Ok(ram)
    }

    #[test]
    fn reads_every_kind_of_record() {
        let mut bytes = list();
        word(&mut bytes, ZERO);
        bytes.extend(b"\x03ram\0");
        word(&mut bytes, 0x1000 | PAGE | CONTINUE);
        bytes.extend([7; 4096]);
        word(&mut bytes, XBZRLE);
        bytes.extend(b"\x03rom\x01\0\x02ab");
        word(&mut bytes, COMPRESS_PAGE | CONTINUE);
        bytes.extend(b"\0\0\0\x03abc");
        word(&mut bytes, MULTIFD_FLUSH);
        word(&mut bytes, EOS);
        let ram = read(RamParser::new(None), &bytes).unwrap();
        let lengths: Vec<_> = ram
            .blocks
            .iter()
            .map(|it| (it.name.as_str(), it.length))
            .collect();
        assert_eq!(lengths, [("ram", 0x2000), ("rom", 0x1000)]);
        let counts = RecordCounts {
            zero: 1,
            page: 1,
            xbzrle: 1,
            compress_page: 1,
            multifd_flush: 1,
        };
        assert_eq!(ram.counts, counts);
        for cut in 0..bytes.len() {
            let error = read(RamParser::new(None), &bytes[..cut]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Truncated, "cut at {cut}: {error}");
        }
    }

    #[test]
    fn page_sizes_are_found_where_present() {
        let mut ram = RamParser::new(None);
        ram.postcopy = true;
        let mut bytes = Vec::new();
        word(&mut bytes, 0x60_3000 | MEM_SIZE);
        bytes.extend(b"\x04huge\0\0\0\0\0\x60\0\0");
        word(&mut bytes, 2 << 20);
        bytes.extend(b"\x03rom\0\0\0\0\0\0\x30\0");
        word(&mut bytes, EOS);
        let ram = read(ram, &bytes).unwrap();
        assert_eq!(ram.blocks[0].page_size, Some(2 << 20));
        assert_eq!(ram.blocks[1].page_size, None);
    }

    #[test]
    fn addresses_are_read_with_ignore_shared() {
        let configuration = Configuration {
            machine: "virt".into(),
            target_page_bits: Some(12),
            capabilities: vec!["x-ignore-shared".into()],
            uuid: None,
        };
        let mut bytes = Vec::new();
        word(&mut bytes, 0x3000 | MEM_SIZE);
        bytes.extend(b"\x03ram\0\0\0\0\0\0\x30\0");
        word(&mut bytes, 0x4000_0000);
        word(&mut bytes, EOS);
        let ram = read(RamParser::new(Some(&configuration)), &bytes).unwrap();
        assert_eq!(ram.blocks[0].address, Some(0x4000_0000));
    }

    #[test]
    fn invalid_records_are_rejected() {
        let reject = |tail: &[u8], words: &str| {
            let mut bytes = list();
            bytes.extend(tail);
            let error = read(RamParser::new(None), &bytes).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        reject(&(0x80u64).to_be_bytes(), "RDMA");
        reject(&(0x18u64).to_be_bytes(), "flags 0x18");
        reject(&(0x28u64).to_be_bytes(), "there is none");
        reject(&list(), "second list");
        reject(
            b"\0\0\0\0\0\0\x20\x02\x03ram\0",
            "page 0x2000 is outside ram",
        );
        reject(b"\0\0\0\0\0\0\0\x02\x03bar\0", "unknown block bar");
        let mut short = Vec::new();
        word(&mut short, 0x1000 | MEM_SIZE);
        short.extend(b"\x03ram\0\0\0\0\0\0\x20\0");
        assert!(
            read(RamParser::new(None), &short)
                .unwrap_err()
                .to_string()
                .contains("their sum")
        );
    }
}
