//! The `ram` section, version 4: block list, page records, mapped-ram.
//!
//! Read from QEMU's `migration/ram.c`, v5.2 to 11.x. Seen in streams: ZERO, PAGE, EOS, CONTINUE of
//! 5.2, 7.2, 10.0 and 11.1; XBZRLE of 7.2 and 10.0; COMPRESS_PAGE of 5.2 and 7.2; addresses and
//! mapped-ram of 10.0. Only in the sources: MULTIFD_FLUSH, page sizes in the block list.
//!
//! A record is a u64 whose bits below the target page size are flags:
//!
//! | flag | record | what follows |
//! |---|---|---|
//! | 0x002 | ZERO | \[block\], u8 fill (0) |
//! | 0x004 | MEM_SIZE | the block list; the upper bits are the sum of all lengths |
//! | 0x008 | PAGE | \[block\], one target page |
//! | 0x010 | EOS | nothing: the payload ends |
//! | 0x020 | CONTINUE | no \[block\]: it is the one of the record before |
//! | 0x040 | XBZRLE | \[block\], u8 1, u16 n, n bytes |
//! | 0x080 | HOOK | RDMA's own; refused |
//! | 0x100 | COMPRESS_PAGE | \[block\], u32 n, n bytes of zlib; until 9.0 |
//! | 0x200 | MULTIFD_FLUSH | nothing; 8.1 and later |
//!
//! \[block\] is u8 n, n bytes name. An entry of the block list is u8 n, n bytes name, u64 length,
//! then a u64 page size (postcopy, where it is not the host's), a u64 address (`x-ignore-shared`),
//! and the mapped-ram header (`mapped-ram`), each only in streams that have it.

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

/// The last eight bytes of every `ram` payload, as far as they are known: the flag EOS.
pub(crate) const END_OF_PAYLOAD: u64 = EOS;
/// The version of the section's format; the only one since 2009.
pub(crate) const VERSION: u32 = 4;

/// More blocks than any machine has: 256 memory slots, ROMs, flash.
const MAX_BLOCKS: usize = 4096;

/// The list, a flush of multifd channels, the end; and as many again.
const MAX_START_RECORDS: usize = 8;

/// One block of guest RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamBlock {
    /// QEMU's name for it (`mach-virt.ram`).
    pub name: String,
    /// Length in bytes.
    pub length: u64,
    /// The size of its pages in bytes, where the stream says it (postcopy).
    pub page_size: Option<u64>,
    /// Its guest physical address, where the stream says it (`x-ignore-shared`).
    pub address: Option<u64>,
    /// Where its pages stand in the file (`mapped-ram`).
    pub mapped_ram: Option<MappedBlock>,
}

/// Where the pages of a block stand in a mapped-ram file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedBlock {
    /// The size of its pages in bytes.
    pub page_size: u64,
    /// The bitmap of the pages that are there, a bit each, in the source host's byte order.
    pub bitmap_offset: u64,
    /// The pages, each at its own place; those never written are holes.
    pub pages: Range<u64>,
}

/// Writes the payload of START: the list of the blocks and nothing else.
pub(crate) fn write_block_list(bytes: &mut Vec<u8>, blocks: &[RamBlock]) -> Result<(), Error> {
    let total = blocks
        .iter()
        .try_fold(0_u64, |total, block| total.checked_add(block.length))
        .filter(|total| total & MEM_SIZE == 0)
        .ok_or_else(|| {
            let what = "the lengths of the RAM blocks add up to nothing that a stream can hold";
            Error::new(ErrorKind::Unsupported, what).prepend_path("ram")
        })?;
    bytes.extend((total | MEM_SIZE).to_be_bytes());
    for block in blocks {
        // Names are read with their length before them: a u8.
        bytes.push(u8::try_from(block.name.len()).unwrap_or(u8::MAX));
        bytes.extend(block.name.as_bytes());
        bytes.extend(block.length.to_be_bytes());
    }
    bytes.extend(EOS.to_be_bytes());
    Ok(())
}

/// How many records of each kind were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Pages of zeros.
    pub zero: u64,
    /// Whole pages.
    pub page: u64,
    /// Changes to pages sent before.
    pub xbzrle: u64,
    /// Compressed pages.
    pub compress_page: u64,
    /// Marks that all multifd channels have been flushed.
    pub multifd_flush: u64,
}

/// What is known of guest RAM, and how to read on.
#[derive(Clone, Debug, Default)]
pub(crate) struct RamParser {
    pub(crate) blocks: Vec<RamBlock>,
    pub(crate) counts: RecordCounts,
    page_size: u64,
    ignore_shared: bool,
    mapped_ram: bool,
    /// A POSTCOPY_ADVISE with page sizes was seen: the block list may hold page sizes too.
    pub(crate) postcopy: bool,
    /// The block of the record before, for CONTINUE.
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

    /// Goes over the payload of START, in which no QEMU sends pages.
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
        Err(Error::malformed(
            cursor.position(),
            "something else than a list of RAM blocks",
        )
        .prepend_path("ram"))
    }

    /// Goes over one payload, from its first record to its EOS.
    pub(crate) fn skip_payload(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        while !self.step(cursor)? {}
        Ok(())
    }

    /// Goes over one record; says whether it was the last of its payload.
    ///
    /// After an error nothing has changed: the same record can be tried again with more bytes.
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

    /// Goes over the whole pages and pages of zeros at the front of `bytes` that are of the block of the record before.
    /// Says how many bytes those are; the last page may go on behind `bytes`.
    ///
    /// Nearly all records are such: this is what makes a stream pass as fast as it comes. What it does not take is
    /// [`Self::step`]'s.
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

    /// How many records there have been with something in them that a guest wrote.
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
                format!("a record with the flags {flags:#x}"),
            ));
        }
        let block = if flags & CONTINUE == 0 {
            let name = cursor.read_name()?;
            let block = self.blocks.iter().position(|block| block.name == name);
            if block.is_none() {
                return Err(Error::malformed(
                    start,
                    format!("a page of the unknown block {name}"),
                ));
            }
            block
        } else {
            self.current_block
        };
        let Some(block) = block else {
            return Err(Error::malformed(
                start,
                "a page of the block before, and there is none",
            ));
        };
        let length = self.blocks[block].length;
        if address >= length {
            return Err(Error::malformed(
                start,
                format!(
                    "page {address:#x} of {}, which has {length:#x} bytes",
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
                    return Err(Error::malformed(start, "an XBZRLE record that is none"));
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
                        "a compressed page longer than a page",
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
        let mut left = total;
        let mut blocks = Vec::new();
        while left > 0 {
            let index = blocks.len();
            if index == MAX_BLOCKS {
                return Err(Error::malformed(start, "a list of RAM blocks without end"));
            }
            let entry = cursor.position();
            let block = self
                .read_block(cursor, &blocks)
                .prepend_path(|| format!("ram.blocks[{index}]"))?;
            left = left.checked_sub(block.length).ok_or_else(|| {
                Error::malformed(entry, "RAM blocks longer than their sum")
                    .prepend_path(&format!("ram.blocks[{index}]"))
            })?;
            blocks.push(block);
        }
        self.blocks = blocks;
        Ok(())
    }

    /// An entry of the list, behind those in `before`.
    fn read_block(&self, cursor: &mut Cursor<'_>, before: &[RamBlock]) -> Result<RamBlock, Error> {
        let start = cursor.position();
        let name = cursor.read_name()?;
        if before.iter().any(|block| block.name == name) {
            return Err(Error::malformed(start, format!("a second block {name}")));
        }
        let length = cursor.read_be64()?;
        let page_size = self.read_page_size(cursor)?;
        let address = if self.ignore_shared {
            Some(cursor.read_be64()?)
        } else {
            None
        };
        let mapped = if self.mapped_ram {
            Some(Self::read_mapped_block(cursor, length)?)
        } else {
            None
        };
        Ok(RamBlock {
            name,
            length,
            page_size,
            address,
            mapped_ram: mapped,
        })
    }

    /// The page size of a block, which a postcopy stream holds where it is not the host's.
    ///
    /// Nothing says whether it is there. Were it not, the next block's name would follow (whose
    /// length is not 0) or a record (whose flags are not 0): neither is a power of two of at least
    /// a page. QEMU refuses postcopy together with `x-ignore-shared` and with `mapped-ram`, whose
    /// fields could be taken for it.
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

    /// u32 version, u64 page size, u64 offset of the bitmap, u64 offset of the pages.
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
        let bitmap_offset = cursor.read_be64()?;
        let pages_offset = cursor.read_be64()?;
        let end = pages_offset
            .checked_add(length)
            .ok_or_else(|| Error::malformed(start, "pages that stand past the end of any file"))?;
        if !page_size.is_power_of_two()
            || bitmap_offset < cursor.position()
            || pages_offset < bitmap_offset
        {
            return Err(Error::malformed(start, "a mapped-ram header that is none"));
        }
        // The next entry stands behind the pages.
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
    fn page_sizes_are_found_where_they_stand() {
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
    fn addresses_stand_with_ignore_shared() {
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
    fn refuses_what_no_qemu_writes() {
        let refuse = |tail: &[u8], words: &str| {
            let mut bytes = list();
            bytes.extend(tail);
            let error = read(RamParser::new(None), &bytes).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        refuse(&(0x80u64).to_be_bytes(), "RDMA");
        refuse(&(0x18u64).to_be_bytes(), "flags 0x18");
        refuse(&(0x28u64).to_be_bytes(), "there is none");
        refuse(&list(), "second list");
        refuse(b"\0\0\0\0\0\0\x20\x02\x03ram\0", "page 0x2000 of ram");
        refuse(b"\0\0\0\0\0\0\0\x02\x03bar\0", "unknown block bar");
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
