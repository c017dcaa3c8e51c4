//! [`VcpuScanner`]: finds the vCPUs' sections in buffered device state while the rest still
//! arrives.
//!
//! ```text
//! arm_gicv3 …  cpu_common 0  cpu 0  cpu_common 1  cpu 1 …  cpu n-1  pl011 …  EOF  description
//!                                                                   ^ complete
//! ```
//!
//! QEMU sends the vCPUs one after the other, then further devices and the description. When the
//! header of a device after the last vCPU has arrived, the caller can decide about the vCPUs. It
//! can send them before the rest has arrived ([`EarlyOutput`]).
//!
//! QEMU aborts on a GICv3 that KVM refuses, and sends the GICv3 before the vCPUs. The scan fails if
//! it cannot read the GICv3, so that nothing is sent until all device state can be opened.
//!
//! The scanner takes the first possible end of a section and never backtracks. The scan fails if
//! that end leads nowhere, or if anything is not as QEMU writes it. All device state then stays
//! buffered until it can be opened. A result is preliminary: the caller must compare it with the
//! whole stream after it has sent the vCPUs.

use std::collections::HashSet;

use super::parser::IncrementalParser;
use cpreg::hardware::HardwareFacts;

use crate::cpu::Cpu;
use crate::cpu::require_arm;
use crate::cursor::{Cursor, SMALL_WINDOW_LEN};
use crate::edit::{grown_package_length, to_i64};
use crate::element::{
    self, COMMAND, CommandCode, FOOTER, FOOTER_LEN, FULL, Section, SectionHeader, SectionKind,
};
use crate::error::{Error, ErrorKind};
use crate::gic::{self, GICV3};
use crate::section_search::{MAX_SECTION_VERSION, MAX_SECTIONS, position};

/// Id string of the section in front of each vCPU's section.
const CPU_COMMON: &str = "cpu_common";
/// Length up to which an incomplete section is retried with each new byte.
const BYTEWISE_RETRY_LIMIT: usize = 4 << 10;

/// Scanner for the vCPUs' sections that have arrived.
#[derive(Debug, Default)]
pub struct VcpuScanner {
    /// Number of bytes scanned, up to the beginning of an element.
    position: usize,
    /// Index up to which the end of the current section has been searched.
    searched_to: usize,
    /// Number of buffered bytes that the next step needs at least.
    retry_at: usize,
    phase: VcpuScanPhase,
    sections: Vec<Section>,
    ids: HashSet<u32>,
    common_count: usize,
    cpus: Vec<Cpu>,
    hardware: HardwareFacts,
    /// Index of the package's length field in the buffer, and the package's length in bytes.
    package: Option<(usize, u32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum VcpuScanPhase {
    /// State at the beginning of an element, or of a section that is incomplete.
    #[default]
    Element,
    /// All vCPUs have arrived.
    Complete,
    /// The scan has failed; more bytes change nothing.
    Failed,
}

impl VcpuScanner {
    /// Scans the device state that `parser` has buffered so far.
    pub fn scan(&mut self, parser: &IncrementalParser) {
        let Some((start, device_state)) = parser.device_state() else {
            return;
        };
        while self.phase == VcpuScanPhase::Element && device_state.len() >= self.retry_at {
            match self.step(start, device_state) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Truncated => {
                    let received = device_state.len() - self.position;
                    let more = if received > BYTEWISE_RETRY_LIMIT {
                        received / 64
                    } else {
                        0
                    };
                    self.retry_at = device_state.len() + 1 + more;
                }
                Err(_) => self.phase = VcpuScanPhase::Failed,
            }
        }
    }

    /// Returns the vCPUs that have arrived, in order.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// Returns the properties of the VM's GICv3, if one has arrived.
    pub fn hardware(&self) -> HardwareFacts {
        self.hardware
    }

    /// Returns all sections that have arrived.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Returns `true` if all vCPUs have arrived.
    pub fn is_complete(&self) -> bool {
        self.phase == VcpuScanPhase::Complete
    }

    /// Returns `true` if the scan has failed.
    pub fn has_failed(&self) -> bool {
        self.phase == VcpuScanPhase::Failed
    }

    /// Scans one element. After an error, only the search position has changed.
    fn step(&mut self, start: u64, device_state: &[u8]) -> Result<(), Error> {
        let mut cursor = Cursor::new(
            &device_state,
            self.position as u64,
            device_state.len() as u64,
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
                self.read_section(start, device_state, header, payload)
            }
            _ => Err(Error::malformed(start, "not a device")),
        }
    }

    fn read_section(
        &mut self,
        start: u64,
        device_state: &[u8],
        header: SectionHeader,
        payload: usize,
    ) -> Result<(), Error> {
        let at = start + self.position as u64;
        require_arm(&header, at)?;
        let is_vcpu_section = header.name == element::CPU || header.name == CPU_COMMON;
        let follows_vcpu = self
            .sections
            .last()
            .is_some_and(|last| last.name == element::CPU);
        if follows_vcpu && !is_vcpu_section {
            let has_all_pairs = self.common_count == self.cpus.len();
            self.phase = if has_all_pairs {
                VcpuScanPhase::Complete
            } else {
                VcpuScanPhase::Failed
            };
            return Ok(());
        }
        let offset = start + payload as u64;
        let section = if header.name == element::CPU {
            if header.instance as usize != self.cpus.len() {
                return Err(Error::malformed(at, "a vCPU is out of order"));
            }
            let cpu = Cpu::parse_prefix(header, at, &device_state[payload..], offset)?;
            let section = cpu.section().clone();
            self.cpus.push(cpu);
            section
        } else {
            let end = self.find_end(device_state, header.id, payload)?;
            self.common_count += usize::from(header.name == CPU_COMMON);
            let section = Section {
                kind: SectionKind::Full,
                id: header.id,
                name: header.name,
                instance: header.instance,
                version: header.version,
                range: at..start + end as u64 + FOOTER_LEN,
                payload: offset..start + end as u64,
            };
            if section.name == GICV3 {
                let vcpus = gic::parse(&device_state[payload..end], section.version);
                let vcpus = vcpus.ok_or_else(|| Error::malformed(at, "an unknown GICv3"))?;
                self.hardware = gic::required(&vcpus, &section)?;
            }
            section
        };
        if !self.ids.insert(section.id) || self.sections.len() == MAX_SECTIONS {
            return Err(Error::malformed(at, "a second section has this number"));
        }
        self.seek(section.range.end - start);
        self.sections.push(section);
        Ok(())
    }

    fn seek(&mut self, position: u64) {
        self.position = index(position);
        self.searched_to = self.position;
    }

    /// Returns the index of the first footer that another device follows.
    fn find_end(&mut self, device_state: &[u8], id: u32, payload: usize) -> Result<usize, Error> {
        let mut footer = [FOOTER, 0, 0, 0, 0];
        footer[1..].copy_from_slice(&id.to_be_bytes());
        self.searched_to = self.searched_to.max(payload);
        while let Some(found) = device_state
            .get(self.searched_to..)
            .and_then(|rest| position(rest, &footer))
        {
            let end = self.searched_to + found;
            self.searched_to = end;
            if self.can_follow(device_state, end + footer.len(), id)? {
                return Ok(end);
            }
            self.searched_to = end + 1;
        }
        self.searched_to = self
            .searched_to
            .max(device_state.len().saturating_sub(footer.len() - 1));
        let length = device_state.len() as u64;
        Err(Error::truncated(self.position as u64, length, 1))
    }

    /// Returns `true` if a device can begin at `at`.
    fn can_follow(&self, device_state: &[u8], at: usize, previous_id: u32) -> Result<bool, Error> {
        let mut cursor = Cursor::new(
            &device_state,
            at as u64,
            device_state.len() as u64,
            SMALL_WINDOW_LEN,
        );
        match cursor.read_u8()? {
            FULL => match element::read_section_header(&mut cursor) {
                Ok(header) => Ok(header.version <= MAX_SECTION_VERSION
                    && header.id != previous_id
                    && !self.ids.contains(&header.id)),
                Err(error) if error.kind() == ErrorKind::Truncated => Err(error),
                Err(_) => Ok(false),
            },
            COMMAND => Ok(element::read_command(&mut cursor).is_ok()),
            _ => Ok(false),
        }
    }
}

/// Device state up to the end of a vCPU, with edited sections instead of the received ones.
#[derive(Debug, Default)]
pub struct EarlyOutput {
    bytes: Vec<u8>,
    /// Number of vCPUs in the output.
    vcpu_count: usize,
    /// Number of buffered bytes that were copied or replaced.
    consumed_len: usize,
    /// Length in front of the first vCPU's payload.
    prefix_len: usize,
    growth: i64,
}

impl EarlyOutput {
    /// Appends the next of `vcpus` as the section `new`.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if the vCPU has not arrived, or the section exceeds any possible
    /// length.
    pub fn push(
        &mut self,
        parser: &IncrementalParser,
        vcpus: &VcpuScanner,
        new: &Cpu,
    ) -> Result<(), Error> {
        let bad = || Error::new(ErrorKind::BadEdit, "this vCPU has not arrived");
        let old = vcpus.cpus.get(self.vcpu_count).ok_or_else(bad)?;
        let (start, device_state) = parser.device_state().ok_or_else(bad)?;
        let inside = |offset: u64| offset.checked_sub(start).map(index).ok_or_else(bad);
        let payload = inside(old.section().payload.start)?..inside(old.section().payload.end)?;
        let end = inside(old.section().range.end)?;
        let between = device_state
            .get(self.consumed_len..payload.start)
            .ok_or_else(bad)?;
        let footer = device_state.get(payload.end..end).ok_or_else(bad)?;
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

    /// Returns the bytes, and the number of bytes in front of the first vCPU's payload.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if some of `vcpus` have not arrived, or the edited package is too
    /// long.
    pub fn finish(mut self, vcpus: &VcpuScanner) -> Result<(Vec<u8>, usize), Error> {
        let bad = || Error::new(ErrorKind::BadEdit, "not all vCPUs have arrived");
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

/// Converts an index in the buffer, which is in memory.
fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
