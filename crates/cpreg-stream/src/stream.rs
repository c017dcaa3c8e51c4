//! [`Stream`]: a migration stream, as a file, that has been read.
//!
//! A complete file is opened from its end and a bounded part of it is read, whatever its RAM. A file
//! without a description is read from the front. [`Stream::verify`] does both and compares.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use crate::cpu::{Cpu, read_cpu};
use crate::cursor::{self, Cursor, WIDE};
use crate::element::{Configuration, Section};
use crate::error::{Error, ErrorKind};
use crate::front::{self, Front};
use crate::layout::{Layout, LiveSection, Package};
use crate::ram::{RamBlock, RecordCounts};
use crate::source::ReadAt;
use crate::vmdescription::{Description, StateDescription};
use crate::{element, global_state, scan, tail};

/// A migration stream that has been read.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) opened: Opened,
    pub(crate) length: u64,
    pub(crate) layout: Layout,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) run_state: Option<String>,
    pub(crate) description: Option<Description>,
}

/// How a stream was opened, which says what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opened {
    /// From the end: the description fits the devices to the byte; RAM was not read.
    FromTheEnd,
    /// From the front: every record was read. `reason` says why not from the end.
    FromTheFront {
        /// Why the end was of no use, if it was tried.
        reason: Option<String>,
    },
    /// Both ways, with the same result.
    BothWays,
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromTheEnd => f.write_str("from the end, by its description"),
            Self::FromTheFront { reason: None } => f.write_str("from the front"),
            Self::FromTheFront {
                reason: Some(reason),
            } => write!(f, "from the front, because {reason}"),
            Self::BothWays => f.write_str("both from the end and from the front"),
        }
    }
}

impl Stream {
    /// Opens a stream: from the end where that is possible, else from the front.
    ///
    /// # Errors
    /// If neither is possible; the error is that of reading from the front.
    pub fn open(source: &dyn ReadAt) -> Result<Self, Error> {
        match Self::from_the_end(source) {
            Err(error) if error.kind() == ErrorKind::NoDescription => {
                let mut stream = Self::from_the_front(source)?;
                stream.opened = Opened::FromTheFront {
                    reason: Some(error.message().to_owned()),
                };
                Ok(stream)
            }
            other => other,
        }
    }

    /// Opens a stream from its end, without looking at RAM.
    ///
    /// # Errors
    /// [`ErrorKind::NoDescription`] if there is no description at the end or it does not fit; others
    /// if the file cannot be read or is none of ours.
    pub fn from_the_end(source: &dyn ReadAt) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        let (layout, description) = tail::read(source, length)?;
        Self::assemble(
            source,
            length,
            layout,
            Some(description),
            Opened::FromTheEnd,
        )
    }

    /// Opens a stream by reading all of it from the front.
    ///
    /// # Errors
    /// If anything in it is not as QEMU writes it, or the file cannot be read.
    pub fn from_the_front(source: &dyn ReadAt) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        Self::of_layout(source, length, front::read(source, length)?)
    }

    /// Opens a stream of which `front` has read all up to `at`, where its device state begins.
    ///
    /// Of what stands before `at` only what stands before RAM's pages is read again, and the last bytes.
    ///
    /// # Errors
    /// Those of [`Self::open`], and [`ErrorKind::Disagreement`] if a description at the end lists devices that stand
    /// elsewhere.
    pub(crate) fn go_on(source: &dyn ReadAt, front: &Front, at: u64) -> Result<Self, Error> {
        if front.ends_with_package {
            return Self::go_on_from_the_front(source, front, at);
        }
        let end = Self::from_the_end(source).and_then(|mut end| {
            let late = |section: &&Section| !front.layout.sections.contains(section);
            let first = end.layout.sections.iter().find(late);
            let same = end.layout.configuration == front.layout.configuration
                && end.layout.blocks == front.ram.blocks
                && end.layout.sections.starts_with(&front.layout.sections)
                && first.is_some_and(|section| section.range.start == at);
            if !same {
                return Err(Error::new(
                    ErrorKind::Disagreement,
                    "the description at the end is that of another stream",
                )
                .at(at)
                .with_hint("do not trust this stream: it is damaged, or was made to mislead"));
            }
            end.layout.records = Some(front.ram.counts);
            Ok(end)
        });
        match end {
            Err(error) if error.kind() == ErrorKind::NoDescription => {
                let mut stream = Self::go_on_from_the_front(source, front, at)?;
                stream.opened = Opened::FromTheFront {
                    reason: Some(error.message().to_owned()),
                };
                Ok(stream)
            }
            other => other,
        }
    }

    fn go_on_from_the_front(source: &dyn ReadAt, front: &Front, at: u64) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        let mut cursor = Cursor::new(source, at, length, WIDE);
        let layout = front.clone().go_on(&mut cursor)?;
        Self::of_layout(source, length, layout)
    }

    /// A stream of which everything has been read.
    fn of_layout(source: &dyn ReadAt, length: u64, layout: Layout) -> Result<Self, Error> {
        let description = match layout.description.clone() {
            // The loader does not read it; one that nobody can read stays as it is.
            Some(range) if range.end - range.start <= tail::MOST_DESCRIPTION => {
                let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let text = cursor::read_bytes(source, range.start, count)?;
                Description::parse(&text).ok()
            }
            _ => None,
        };
        match &description {
            Some(description) => fits(&layout, description)?,
            None => scan::no_hidden_cpu(source, &layout.sections)?,
        }
        let opened = Opened::FromTheFront { reason: None };
        Self::assemble(source, length, layout, description, opened)
    }

    /// Opens a stream from the front and, if it has a description, from the end too; compares.
    ///
    /// A file that is cut inside RAM, just behind pages that imitate the end of a stream, does not
    /// pass this; it does pass [`Self::open`].
    ///
    /// # Errors
    /// [`ErrorKind::Disagreement`] if the two ways find different streams; those of
    /// [`Self::from_the_front`].
    pub fn verify(source: &dyn ReadAt) -> Result<Self, Error> {
        let mut front = Self::from_the_front(source)?;
        match Self::from_the_end(source) {
            Ok(end) => {
                front.agrees_with(&end)?;
                front.opened = Opened::BothWays;
                front.layout.described_exactly = end.layout.described_exactly;
                front.description = end.description;
            }
            Err(error) => {
                front.opened = Opened::FromTheFront {
                    reason: Some(error.message().to_owned()),
                };
            }
        }
        Ok(front)
    }

    fn assemble(
        source: &dyn ReadAt,
        length: u64,
        layout: Layout,
        description: Option<Description>,
        opened: Opened,
    ) -> Result<Self, Error> {
        let mut cpus: Vec<Cpu> = Vec::new();
        let mut run_state = None;
        let described: HashMap<u32, &StateDescription> = description
            .iter()
            .flat_map(|it| &it.devices)
            .filter_map(|device| Some((device.instance, device.state.as_ref()?)))
            .collect();
        for section in &layout.sections {
            if section.name == element::CPU {
                // Numbered in the order of their creation, none left out.
                if section.instance as usize != cpus.len() {
                    return Err(Error::malformed(
                        section.range.start,
                        format!(
                            "cpu {} where cpu {} must stand",
                            section.instance,
                            cpus.len()
                        ),
                    ));
                }
                let described = described.get(&section.instance).copied();
                cpus.push(read_cpu(source, section, described)?);
            } else if section.name == global_state::GLOBAL_STATE {
                run_state = global_state::run_state(source, section)?;
            }
        }
        if cpus.is_empty() {
            return Err(Error::new(
                ErrorKind::NotArm,
                "no `cpu` section: this is no stream of an Arm machine",
            ));
        }
        // Each vCPU has one of these too, in front of its own.
        let common = |section: &&Section| section.name == "cpu_common";
        let common = layout.sections.iter().filter(common).count();
        if common != cpus.len() {
            return Err(Error::malformed(
                layout.end,
                format!(
                    "{} vCPUs have `cpu` sections, {common} `cpu_common`",
                    cpus.len()
                ),
            )
            .with_hint("the stream is damaged"));
        }
        Ok(Self {
            opened,
            length,
            layout,
            cpus,
            run_state,
            description,
        })
    }

    /// A stream of which nothing is known but this vCPU's section: what tells of a VM by its vCPUs can tell of the first one alone.
    pub fn of_vcpu(cpu: Cpu) -> Self {
        Self {
            opened: Opened::FromTheFront { reason: None },
            length: cpu.section().range.end,
            layout: Layout {
                sections: vec![cpu.section().clone()],
                end: cpu.section().range.end,
                ..Layout::default()
            },
            cpus: vec![cpu],
            run_state: None,
            description: None,
        }
    }

    fn agrees_with(&self, end: &Self) -> Result<(), Error> {
        let differ = |what: String, at: u64| {
            Err(Error::new(
                ErrorKind::Disagreement,
                format!("read from the front, {what} other than read from the end"),
            )
            .at(at)
            .with_hint("do not trust this file: it is damaged, or was made to mislead"))
        };
        let (mine, other) = (&self.layout, &end.layout);
        let pairs = mine.sections.iter().zip(&other.sections);
        if let Some((section, _)) = pairs.into_iter().find(|(mine, other)| mine != other) {
            return differ(format!("section {} is", section.name), section.range.start);
        }
        if mine.sections.len() != other.sections.len() {
            return differ("the sections are".into(), mine.end);
        }
        if mine.configuration != other.configuration || mine.blocks != other.blocks {
            return differ("the RAM is".into(), 0);
        }
        if mine.end != other.end || mine.description != other.description {
            return differ("the end is".into(), mine.end);
        }
        if self
            .cpus
            .iter()
            .zip(&end.cpus)
            .any(|(mine, other)| mine.bytes() != other.bytes())
        {
            return differ("the CPU state is".into(), mine.end);
        }
        Ok(())
    }

    /// How it was opened.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The file's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The machine's configuration, if the stream has one.
    pub fn configuration(&self) -> Option<&Configuration> {
        self.layout.configuration.as_ref()
    }

    /// The machine type (`virt-10.0`), if the stream says it.
    pub fn machine(&self) -> Option<&str> {
        self.configuration().map(|it| it.machine.as_str())
    }

    /// The blocks of guest RAM.
    pub fn ram_blocks(&self) -> &[RamBlock] {
        &self.layout.blocks
    }

    /// How many RAM records of each kind there are; known only if RAM was read.
    pub fn record_counts(&self) -> Option<RecordCounts> {
        self.layout.records
    }

    /// The live sections; from the end, only those that begin where RAM begins.
    pub fn live_sections(&self) -> &[LiveSection] {
        &self.layout.live
    }

    /// The devices' sections, `cpu` among them, in wire order.
    pub fn sections(&self) -> &[Section] {
        &self.layout.sections
    }

    /// The vCPUs' sections, decoded, in wire order.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// The package that holds the device state of a postcopy migration.
    pub fn package(&self) -> Option<&Package> {
        self.layout.package.as_ref()
    }

    /// The offset behind the element that ends the stream.
    pub fn end(&self) -> u64 {
        self.layout.end
    }

    /// Where the description's JSON stands.
    pub fn description(&self) -> Option<Range<u64>> {
        self.layout.description.clone()
    }

    /// Whether the description gives every section its right length. One that does not comes from
    /// an edit that left the description alone; QEMU does not mind.
    pub fn is_described_exactly(&self) -> bool {
        self.layout.described_exactly
    }

    /// What the guest was doing when the stream was written (`running`, `paused`, `prelaunch` …), if
    /// the stream says it.
    pub fn run_state(&self) -> Option<&str> {
        self.run_state.as_deref()
    }

    /// Whether the guest had not run yet: only then do the registers hold their reset values.
    pub fn is_prelaunch(&self) -> bool {
        self.run_state() == Some("prelaunch")
    }
}

/// Refuses sections that are not the described ones.
///
/// Where device state happens to look like the end of its section, the reading from the front can be
/// wrong and still be without contradiction. Only `cpu` sections, which are measured, may have another
/// length than described: whoever edits a stream need not mend the description.
fn fits(layout: &Layout, description: &Description) -> Result<(), Error> {
    let fault = |at: u64, name: &str| {
        Err(Error::new(
            ErrorKind::Disagreement,
            "the sections are not those that the description lists",
        )
        .at(at)
        .within(name)
        .with_hint(format!(
            "the stream is damaged; if it is the description alone, cut the file to {} bytes: QEMU \
             does not read it",
            layout.end
        )))
    };
    for (section, device) in layout.sections.iter().zip(&description.devices) {
        let same = section.name == device.name
            && section.instance == device.instance
            && (section.name == element::CPU
                || section.payload.end - section.payload.start == device.size);
        if !same {
            return fault(section.range.start, &section.name);
        }
    }
    if layout.sections.len() == description.devices.len() {
        Ok(())
    } else {
        fault(layout.end, "description")
    }
}
