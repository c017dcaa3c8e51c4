//! [`Stream`]: a migration stream, as a file, that has been read.
//!
//! A complete file is opened from its end and a bounded part of it is read, whatever its RAM. A file
//! without a description is read from the front. [`Stream::verify`] does both and compares.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use crate::cpu::{Cpu, read_cpu};
use crate::cursor::{self, Cursor, LARGE_WINDOW_LEN};
use crate::element::{Configuration, Section};
use crate::error::{Error, ErrorKind};
use crate::full_scan::{self, ScanState};
use crate::layout::{Layout, LiveSection, Package};
use crate::ram::{RamBlock, RecordCounts};
use crate::source::ReadAt;
use crate::vmdescription::{Description, StateDescription};
use crate::{described_layout, element, global_state, section_search};

/// A migration stream that has been read.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) open_method: OpenMethod,
    pub(crate) length: u64,
    pub(crate) layout: Layout,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) run_state: Option<String>,
    pub(crate) description: Option<Description>,
}

/// How a stream was opened, which says what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMethod {
    /// From the end: the description fits the devices to the byte; RAM was not read.
    Description,
    /// From the front: every record was read. `reason` says why not from the end.
    FullScan {
        /// Why the end was of no use, if it was tried.
        reason: Option<String>,
    },
    /// Both ways, with the same result.
    Verified,
}

impl fmt::Display for OpenMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description => f.write_str("by its description"),
            Self::FullScan { reason: None } => f.write_str("by a full scan"),
            Self::FullScan {
                reason: Some(reason),
            } => write!(f, "by a full scan, because {reason}"),
            Self::Verified => f.write_str("by its description, verified by a full scan"),
        }
    }
}

impl Stream {
    /// Opens a stream: from the end where that is possible, else from the front.
    ///
    /// # Errors
    /// If neither is possible; the error is that of reading from the front.
    pub fn open(source: &dyn ReadAt) -> Result<Self, Error> {
        match Self::open_by_description(source) {
            Err(error) if error.kind() == ErrorKind::NoDescription => {
                let mut stream = Self::open_by_full_scan(source)?;
                stream.open_method = OpenMethod::FullScan {
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
    pub fn open_by_description(source: &dyn ReadAt) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        let (layout, description) = described_layout::read(source, length)?;
        Self::assemble(
            source,
            length,
            layout,
            Some(description),
            OpenMethod::Description,
        )
    }

    /// Opens a stream by reading all of it from the front.
    ///
    /// # Errors
    /// If anything in it is not as QEMU writes it, or the file cannot be read.
    pub fn open_by_full_scan(source: &dyn ReadAt) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        Self::from_layout(source, length, full_scan::read(source, length)?)
    }

    /// Opens a stream of which `front` has read all up to `at`, where its device state begins.
    ///
    /// Of what stands before `at` only what stands before RAM's pages is read again, and the last bytes.
    ///
    /// # Errors
    /// Those of [`Self::open`], and [`ErrorKind::Disagreement`] if a description at the end lists devices that stand
    /// elsewhere.
    pub(crate) fn resume_at(
        source: &dyn ReadAt,
        front: &ScanState,
        at: u64,
    ) -> Result<Self, Error> {
        if front.ends_with_package {
            return Self::resume_full_scan(source, front, at);
        }
        let end = Self::open_by_description(source).and_then(|mut end| {
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
                .at_offset(at)
                .with_hint("do not trust this stream: it is damaged, or was made to mislead"));
            }
            end.layout.record_counts = Some(front.ram.counts);
            Ok(end)
        });
        match end {
            Err(error) if error.kind() == ErrorKind::NoDescription => {
                let mut stream = Self::resume_full_scan(source, front, at)?;
                stream.open_method = OpenMethod::FullScan {
                    reason: Some(error.message().to_owned()),
                };
                Ok(stream)
            }
            other => other,
        }
    }

    fn resume_full_scan(source: &dyn ReadAt, front: &ScanState, at: u64) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        let mut cursor = Cursor::new(source, at, length, LARGE_WINDOW_LEN);
        let layout = front.clone().read_to_end(&mut cursor)?;
        Self::from_layout(source, length, layout)
    }

    /// A stream of which everything has been read.
    fn from_layout(source: &dyn ReadAt, length: u64, layout: Layout) -> Result<Self, Error> {
        let description = match layout.description.clone() {
            // The loader does not read it; one that nobody can read stays as it is.
            Some(range) if range.end - range.start <= described_layout::MAX_DESCRIPTION_LEN => {
                let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let text = cursor::read_bytes(source, range.start, count)?;
                Description::parse(&text).ok()
            }
            _ => None,
        };
        match &description {
            Some(description) => check_described_sections(&layout, description)?,
            None => section_search::reject_hidden_cpu(source, &layout.sections)?,
        }
        let opened = OpenMethod::FullScan { reason: None };
        Self::assemble(source, length, layout, description, opened)
    }

    /// Opens a stream from the front and, if it has a description, from the end too; compares.
    ///
    /// A file that is cut inside RAM, just behind pages that imitate the end of a stream, does not
    /// pass this; it does pass [`Self::open`].
    ///
    /// # Errors
    /// [`ErrorKind::Disagreement`] if the two ways find different streams; those of
    /// [`Self::open_by_full_scan`].
    pub fn verify(source: &dyn ReadAt) -> Result<Self, Error> {
        let mut front = Self::open_by_full_scan(source)?;
        match Self::open_by_description(source) {
            Ok(end) => {
                front.check_same_as(&end)?;
                front.open_method = OpenMethod::Verified;
                front.layout.described_exactly = end.layout.described_exactly;
                front.description = end.description;
            }
            Err(error) => {
                front.open_method = OpenMethod::FullScan {
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
        opened: OpenMethod,
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
            open_method: opened,
            length,
            layout,
            cpus,
            run_state,
            description,
        })
    }

    /// A stream of which nothing is known but this vCPU's section: what tells of a VM by its vCPUs can tell of the first one alone.
    pub fn from_vcpu(cpu: Cpu) -> Self {
        Self {
            open_method: OpenMethod::FullScan { reason: None },
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

    fn check_same_as(&self, end: &Self) -> Result<(), Error> {
        let differ = |what: String, at: u64| {
            Err(Error::new(
                ErrorKind::Disagreement,
                format!("read from the front, {what} other than read from the end"),
            )
            .at_offset(at)
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
    pub fn open_method(&self) -> &OpenMethod {
        &self.open_method
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
        self.layout.record_counts
    }

    /// The live sections; from the end, only those that begin where RAM begins.
    pub fn live_sections(&self) -> &[LiveSection] {
        &self.layout.live_sections
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
fn check_described_sections(layout: &Layout, description: &Description) -> Result<(), Error> {
    let fault = |at: u64, name: &str| {
        Err(Error::new(
            ErrorKind::Disagreement,
            "the sections are not those that the description lists",
        )
        .at_offset(at)
        .prepend_path(name)
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
