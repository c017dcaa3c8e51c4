//! [`Vcpus`]: the sections of the vCPUs in what has been held back, found while the rest still comes.
//!
//! ```text
//! arm_gicv3 …  cpu_common 0  cpu 0  cpu_common 1  cpu 1 …  cpu n-1  pl011 …  EOF  description
//!                                                                   ^ all have come
//! ```
//!
//! QEMU sends the vCPUs one after the other, and behind them further devices and the description. When the header of a device behind the
//! last vCPU has come, they can be decided about, and go on before the rest has come ([`Changed`]).
//!
//! Nothing is tried twice here: the first place that looks like the end of a section is taken for it, and where that leads nowhere, or
//! anything is not as QEMU writes it, nothing is found, and all device state is held back until it can be opened. What is found is
//! not the last word either: it must be what the whole stream has, and who has let it go on must compare.

use std::collections::HashSet;

use super::engine::Flow;
use crate::cpu::Cpu;
use crate::cpu::require_arm;
use crate::cursor::{Cursor, NARROW};
use crate::edit::{grown_package, signed};
use crate::element::{
    self, COMMAND, CommandCode, FOOTER, FOOTER_LENGTH, FULL, Section, SectionHeader, SectionKind,
};
use crate::error::{Error, ErrorKind};
use crate::scan::{MOST_SECTIONS, MOST_VERSION, position};

/// What stands before each vCPU's section, and is one more for each.
const COMMON: &str = "cpu_common";
/// A section of which more has come is not tried again for each byte.
const SMALL: usize = 4 << 10;

/// The vCPUs' sections, as far as they have come.
#[derive(Debug, Default)]
pub struct Vcpus {
    /// So many bytes have been gone over, up to where an element begins.
    at: usize,
    /// Up to here the end of the section there has been searched.
    searched: usize,
    /// No step can succeed before so many bytes are held.
    wanted: usize,
    place: Place,
    sections: Vec<Section>,
    ids: HashSet<u32>,
    commons: usize,
    cpus: Vec<Cpu>,
    /// Where the package's length stands, and the length.
    package: Option<(usize, u32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// An element begins, or the section that began there has not ended.
    #[default]
    Element,
    /// All vCPUs have come.
    Behind,
    /// Nothing more is looked for.
    GivenUp,
}

impl Vcpus {
    /// Goes over what the flow holds back, as far as it has come.
    pub fn go_over(&mut self, flow: &Flow) {
        let Some((start, held)) = flow.held() else {
            return;
        };
        while self.place == Place::Element && held.len() >= self.wanted {
            match self.step(start, held) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Truncated => {
                    let begun = held.len() - self.at;
                    let more = if begun > SMALL { begun / 64 } else { 0 };
                    self.wanted = held.len() + 1 + more;
                }
                Err(_) => self.place = Place::GivenUp,
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
    pub fn are_all(&self) -> bool {
        self.place == Place::Behind
    }

    /// Whether it will never be known from here.
    pub fn are_given_up(&self) -> bool {
        self.place == Place::GivenUp
    }

    /// One element. After an error nothing has changed but how far has been searched.
    fn step(&mut self, start: u64, held: &[u8]) -> Result<(), Error> {
        let mut cursor = Cursor::new(&held, self.at as u64, held.len() as u64, NARROW);
        match cursor.u8()? {
            COMMAND => {
                let command = element::command(&mut cursor)?;
                if command.code == CommandCode::PACKAGED {
                    cursor.seek(command.payload.start);
                    let field = self.at + 1 + 2 + 2;
                    self.package = Some((field, cursor.be32()?));
                }
                self.go_to(cursor.position());
                Ok(())
            }
            FULL => {
                let header = element::section_header(&mut cursor)?;
                let payload = index(cursor.position());
                self.section(start, held, header, payload)
            }
            _ => Err(Error::malformed(start, "no device")),
        }
    }

    fn section(
        &mut self,
        start: u64,
        held: &[u8],
        header: SectionHeader,
        payload: usize,
    ) -> Result<(), Error> {
        let at = start + self.at as u64;
        require_arm(&header, at)?;
        let is_of_vcpu = header.name == element::CPU || header.name == COMMON;
        let behind = self
            .sections
            .last()
            .is_some_and(|last| last.name == element::CPU);
        if behind && !is_of_vcpu {
            let is_whole = self.commons == self.cpus.len();
            self.place = if is_whole {
                Place::Behind
            } else {
                Place::GivenUp
            };
            return Ok(());
        }
        let offset = start + payload as u64;
        let section = if header.name == element::CPU {
            if header.instance as usize != self.cpus.len() {
                return Err(Error::malformed(at, "a vCPU out of order"));
            }
            let cpu = Cpu::at_the_begin(header, at, &held[payload..], offset)?;
            let section = cpu.section().clone();
            self.cpus.push(cpu);
            section
        } else {
            let end = self.end_of(held, header.id, payload)?;
            self.commons += usize::from(header.name == COMMON);
            Section {
                kind: SectionKind::Full,
                id: header.id,
                name: header.name,
                instance: header.instance,
                version: header.version,
                range: at..start + end as u64 + FOOTER_LENGTH,
                payload: offset..start + end as u64,
            }
        };
        if !self.ids.insert(section.id) || self.sections.len() == MOST_SECTIONS {
            return Err(Error::malformed(at, "a second section of this number"));
        }
        self.go_to(section.range.end - start);
        self.sections.push(section);
        Ok(())
    }

    fn go_to(&mut self, position: u64) {
        self.at = index(position);
        self.searched = self.at;
    }

    /// The first footer behind which another device begins.
    fn end_of(&mut self, held: &[u8], id: u32, payload: usize) -> Result<usize, Error> {
        let mut footer = [FOOTER, 0, 0, 0, 0];
        footer[1..].copy_from_slice(&id.to_be_bytes());
        self.searched = self.searched.max(payload);
        while let Some(found) = held
            .get(self.searched..)
            .and_then(|rest| position(rest, &footer))
        {
            let end = self.searched + found;
            self.searched = end;
            if self.can_follow(held, end + footer.len(), id)? {
                return Ok(end);
            }
            self.searched = end + 1;
        }
        self.searched = self
            .searched
            .max(held.len().saturating_sub(footer.len() - 1));
        let length = held.len() as u64;
        Err(Error::truncated(self.at as u64, length, 1))
    }

    /// Whether a device can begin there.
    fn can_follow(&self, held: &[u8], at: usize, before: u32) -> Result<bool, Error> {
        let mut cursor = Cursor::new(&held, at as u64, held.len() as u64, NARROW);
        match cursor.u8()? {
            FULL => match element::section_header(&mut cursor) {
                Ok(header) => Ok(header.version <= MOST_VERSION
                    && header.id != before
                    && !self.ids.contains(&header.id)),
                Err(error) if error.kind() == ErrorKind::Truncated => Err(error),
                Err(_) => Ok(false),
            },
            COMMAND => Ok(element::command(&mut cursor).is_ok()),
            _ => Ok(false),
        }
    }
}

/// What is held back up to the end of a vCPU, with other sections in place of those that came. It is made as they come.
#[derive(Debug, Default)]
pub struct Changed {
    bytes: Vec<u8>,
    /// So many vCPUs are in it.
    vcpus: usize,
    /// So many bytes of what is held have been gone over.
    at: usize,
    /// Before the first vCPU.
    before: usize,
    growth: i64,
}

impl Changed {
    /// The next of `vcpus` goes on as this section.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if it has not come, or its section is longer than any.
    pub fn push(&mut self, flow: &Flow, vcpus: &Vcpus, new: &Cpu) -> Result<(), Error> {
        let bad = || Error::new(ErrorKind::BadEdit, "this vCPU has not come");
        let old = vcpus.cpus.get(self.vcpus).ok_or_else(bad)?;
        let (start, held) = flow.held().ok_or_else(bad)?;
        let inside = |offset: u64| offset.checked_sub(start).map(index).ok_or_else(bad);
        let payload = inside(old.section().payload.start)?..inside(old.section().payload.end)?;
        let end = inside(old.section().range.end)?;
        let between = held.get(self.at..payload.start).ok_or_else(bad)?;
        let footer = held.get(payload.end..end).ok_or_else(bad)?;
        if self.vcpus == 0 {
            self.before = payload.start;
        }
        self.growth += signed(new.bytes().len())? - signed(old.bytes().len())?;
        self.bytes.extend_from_slice(between);
        self.bytes.extend_from_slice(new.bytes());
        self.bytes.extend_from_slice(footer);
        self.vcpus += 1;
        self.at = end;
        Ok(())
    }

    /// The bytes, and how many of them stand before the first vCPU's payload.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if not all of `vcpus` have come, or the package that they stand in grows too long.
    pub fn finish(mut self, vcpus: &Vcpus) -> Result<(Vec<u8>, usize), Error> {
        let bad = || Error::new(ErrorKind::BadEdit, "not all vCPUs have come");
        if !vcpus.are_all() || vcpus.cpus.len() != self.vcpus {
            return Err(bad());
        }
        if let Some((field, length)) = vcpus.package {
            let length = grown_package(length.into(), self.growth)?.to_be_bytes();
            let field = self.bytes.get_mut(field..field + length.len());
            field.ok_or_else(bad)?.copy_from_slice(&length);
        }
        Ok((self.bytes, self.before))
    }
}

/// A place in what is held, which is in memory.
fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
