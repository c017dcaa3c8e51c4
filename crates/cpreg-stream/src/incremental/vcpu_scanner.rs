//! [`VcpuScanner`]: the sections of the vCPUs in what has been held back, found while the rest still comes.
//!
//! ```text
//! arm_gicv3 …  cpu_common 0  cpu 0  cpu_common 1  cpu 1 …  cpu n-1  pl011 …  EOF  description
//!                                                                   ^ all have come
//! ```
//!
//! QEMU sends the vCPUs one after the other, and behind them further devices and the description. When the header of a device behind the
//! last vCPU has come, they can be decided about, and go on before the rest has come ([`EarlyOutput`]).
//!
//! Nothing is tried twice here: the first place that looks like the end of a section is taken for it, and where that leads nowhere, or
//! anything is not as QEMU writes it, nothing is found, and all device state is held back until it can be opened. What is found is
//! not the last word either: it must be what the whole stream has, and who has let it go on must compare.

use std::collections::HashSet;

use super::parser::IncrementalParser;
use crate::cpu::Cpu;
use crate::cpu::require_arm;
use crate::cursor::{Cursor, SMALL_WINDOW_LEN};
use crate::edit::{grown_package_length, to_i64};
use crate::element::{
    self, COMMAND, CommandCode, FOOTER, FOOTER_LEN, FULL, Section, SectionHeader, SectionKind,
};
use crate::error::{Error, ErrorKind};
use crate::section_search::{MAX_SECTION_VERSION, MAX_SECTIONS, position};

/// What stands before each vCPU's section, and is one more for each.
const CPU_COMMON: &str = "cpu_common";
/// A section of which more has come is not tried again for each byte.
const BYTEWISE_RETRY_LIMIT: usize = 4 << 10;

/// The vCPUs' sections, as far as they have come.
#[derive(Debug, Default)]
pub struct VcpuScanner {
    /// So many bytes have been gone over, up to where an element begins.
    position: usize,
    /// Up to here the end of the section there has been searched.
    searched_to: usize,
    /// No step can succeed before so many bytes are held.
    retry_at: usize,
    phase: VcpuScanPhase,
    sections: Vec<Section>,
    ids: HashSet<u32>,
    common_count: usize,
    cpus: Vec<Cpu>,
    /// Where the package's length stands, and the length.
    package: Option<(usize, u32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum VcpuScanPhase {
    /// An element begins, or the section that began there has not ended.
    #[default]
    Element,
    /// All vCPUs have come.
    Complete,
    /// Nothing more is looked for.
    Failed,
}

impl VcpuScanner {
    /// Goes over what the flow holds back, as far as it has come.
    pub fn scan(&mut self, flow: &IncrementalParser) {
        let Some((start, held)) = flow.device_state() else {
            return;
        };
        while self.phase == VcpuScanPhase::Element && held.len() >= self.retry_at {
            match self.step(start, held) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Truncated => {
                    let begun = held.len() - self.position;
                    let more = if begun > BYTEWISE_RETRY_LIMIT {
                        begun / 64
                    } else {
                        0
                    };
                    self.retry_at = held.len() + 1 + more;
                }
                Err(_) => self.phase = VcpuScanPhase::Failed,
            }
        }
    }

    /// The vCPUs that have come, in order.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// All sections that have come.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Whether all vCPUs have come.
    pub fn is_complete(&self) -> bool {
        self.phase == VcpuScanPhase::Complete
    }

    /// Whether it will never be known from here.
    pub fn has_failed(&self) -> bool {
        self.phase == VcpuScanPhase::Failed
    }

    /// One element. After an error nothing has changed but how far has been searched.
    fn step(&mut self, start: u64, held: &[u8]) -> Result<(), Error> {
        let mut cursor = Cursor::new(
            &held,
            self.position as u64,
            held.len() as u64,
            SMALL_WINDOW_LEN,
        );
        match cursor.read_u8()? {
            COMMAND => {
                let command = element::read_command(&mut cursor)?;
                if command.code == CommandCode::PACKAGED {
                    cursor.seek(command.payload.start);
                    let field = self.position + 1 + 2 + 2;
                    self.package = Some((field, cursor.read_be32()?));
                }
                self.seek(cursor.position());
                Ok(())
            }
            FULL => {
                let header = element::read_section_header(&mut cursor)?;
                let payload = index(cursor.position());
                self.read_section(start, held, header, payload)
            }
            _ => Err(Error::malformed(start, "no device")),
        }
    }

    fn read_section(
        &mut self,
        start: u64,
        held: &[u8],
        header: SectionHeader,
        payload: usize,
    ) -> Result<(), Error> {
        let at = start + self.position as u64;
        require_arm(&header, at)?;
        let is_of_vcpu = header.name == element::CPU || header.name == CPU_COMMON;
        let behind = self
            .sections
            .last()
            .is_some_and(|last| last.name == element::CPU);
        if behind && !is_of_vcpu {
            let is_whole = self.common_count == self.cpus.len();
            self.phase = if is_whole {
                VcpuScanPhase::Complete
            } else {
                VcpuScanPhase::Failed
            };
            return Ok(());
        }
        let offset = start + payload as u64;
        let section = if header.name == element::CPU {
            if header.instance as usize != self.cpus.len() {
                return Err(Error::malformed(at, "a vCPU out of order"));
            }
            let cpu = Cpu::parse_prefix(header, at, &held[payload..], offset)?;
            let section = cpu.section().clone();
            self.cpus.push(cpu);
            section
        } else {
            let end = self.find_end(held, header.id, payload)?;
            self.common_count += usize::from(header.name == CPU_COMMON);
            Section {
                kind: SectionKind::Full,
                id: header.id,
                name: header.name,
                instance: header.instance,
                version: header.version,
                range: at..start + end as u64 + FOOTER_LEN,
                payload: offset..start + end as u64,
            }
        };
        if !self.ids.insert(section.id) || self.sections.len() == MAX_SECTIONS {
            return Err(Error::malformed(at, "a second section of this number"));
        }
        self.seek(section.range.end - start);
        self.sections.push(section);
        Ok(())
    }

    fn seek(&mut self, position: u64) {
        self.position = index(position);
        self.searched_to = self.position;
    }

    /// The first footer behind which another device begins.
    fn find_end(&mut self, held: &[u8], id: u32, payload: usize) -> Result<usize, Error> {
        let mut footer = [FOOTER, 0, 0, 0, 0];
        footer[1..].copy_from_slice(&id.to_be_bytes());
        self.searched_to = self.searched_to.max(payload);
        while let Some(found) = held
            .get(self.searched_to..)
            .and_then(|rest| position(rest, &footer))
        {
            let end = self.searched_to + found;
            self.searched_to = end;
            if self.can_follow(held, end + footer.len(), id)? {
                return Ok(end);
            }
            self.searched_to = end + 1;
        }
        self.searched_to = self
            .searched_to
            .max(held.len().saturating_sub(footer.len() - 1));
        let length = held.len() as u64;
        Err(Error::truncated(self.position as u64, length, 1))
    }

    /// Whether a device can begin there.
    fn can_follow(&self, held: &[u8], at: usize, before: u32) -> Result<bool, Error> {
        let mut cursor = Cursor::new(&held, at as u64, held.len() as u64, SMALL_WINDOW_LEN);
        match cursor.read_u8()? {
            FULL => match element::read_section_header(&mut cursor) {
                Ok(header) => Ok(header.version <= MAX_SECTION_VERSION
                    && header.id != before
                    && !self.ids.contains(&header.id)),
                Err(error) if error.kind() == ErrorKind::Truncated => Err(error),
                Err(_) => Ok(false),
            },
            COMMAND => Ok(element::read_command(&mut cursor).is_ok()),
            _ => Ok(false),
        }
    }
}

/// What is held back up to the end of a vCPU, with other sections in place of those that came. It is made as they come.
#[derive(Debug, Default)]
pub struct EarlyOutput {
    bytes: Vec<u8>,
    /// So many vCPUs are in it.
    vcpu_count: usize,
    /// So many bytes of what is held have been gone over.
    consumed_len: usize,
    /// Before the first vCPU.
    prefix_len: usize,
    growth: i64,
}

impl EarlyOutput {
    /// The next of `vcpus` goes on as this section.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if it has not come, or its section is longer than any.
    pub fn push(
        &mut self,
        flow: &IncrementalParser,
        vcpus: &VcpuScanner,
        new: &Cpu,
    ) -> Result<(), Error> {
        let bad = || Error::new(ErrorKind::BadEdit, "this vCPU has not come");
        let old = vcpus.cpus.get(self.vcpu_count).ok_or_else(bad)?;
        let (start, held) = flow.device_state().ok_or_else(bad)?;
        let inside = |offset: u64| offset.checked_sub(start).map(index).ok_or_else(bad);
        let payload = inside(old.section().payload.start)?..inside(old.section().payload.end)?;
        let end = inside(old.section().range.end)?;
        let between = held.get(self.consumed_len..payload.start).ok_or_else(bad)?;
        let footer = held.get(payload.end..end).ok_or_else(bad)?;
        if self.vcpu_count == 0 {
            self.prefix_len = payload.start;
        }
        self.growth += to_i64(new.bytes().len())? - to_i64(old.bytes().len())?;
        self.bytes.extend_from_slice(between);
        self.bytes.extend_from_slice(new.bytes());
        self.bytes.extend_from_slice(footer);
        self.vcpu_count += 1;
        self.consumed_len = end;
        Ok(())
    }

    /// The bytes, and how many of them stand before the first vCPU's payload.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if not all of `vcpus` have come, or the package that they stand in grows too long.
    pub fn finish(mut self, vcpus: &VcpuScanner) -> Result<(Vec<u8>, usize), Error> {
        let bad = || Error::new(ErrorKind::BadEdit, "not all vCPUs have come");
        if !vcpus.is_complete() || vcpus.cpus.len() != self.vcpu_count {
            return Err(bad());
        }
        if let Some((field, length)) = vcpus.package {
            let length = grown_package_length(length.into(), self.growth)?.to_be_bytes();
            let field = self.bytes.get_mut(field..field + length.len());
            field.ok_or_else(bad)?.copy_from_slice(&length);
        }
        Ok((self.bytes, self.prefix_len))
    }
}

/// A place in what is held, which is in memory.
fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
