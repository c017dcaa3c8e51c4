//! [`Stream`]: a parsed migration stream in a file.
//!
//! [`Stream::open`] opens a complete file by its description and reads a bounded part of the file,
//! whatever the size of RAM. A file without a description is scanned from its first byte.
//! [`Stream::verify`] opens the file by both methods and compares the results.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use cpreg::destination::Accelerator;
use cpreg::gic::Gic;
use cpreg::hardware::HardwareFacts;

use crate::cpu::{Cpu, read_cpu};
use crate::cursor::{self, Cursor, LARGE_WINDOW_LEN};
use crate::element::{Configuration, Section};
use crate::error::{Error, ErrorKind};
use crate::full_scan::{self, ScanState};
use crate::layout::{Layout, LiveSection, Package};
use crate::ram::{RamBlock, RecordCounts};
use crate::source::ReadAt;
use crate::vmdescription::{Description, StateDescription};
use crate::{described_layout, element, gic, global_state, section_search};

/// Parsed migration stream.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) open_method: OpenMethod,
    pub(crate) length: u64,
    pub(crate) layout: Layout,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) run_state: Option<String>,
    /// Interrupt controller and its use of LPIs.
    pub(crate) gic_facts: HardwareFacts,
    pub(crate) description: Option<Description>,
}

/// Method by which a stream was opened; the method decides which parts of the stream are known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMethod {
    /// Opened by the description, which matches the devices to the byte; RAM was not read.
    Description,
    /// Opened by a scan from the first byte; every record was read.
    FullScan {
        /// Reason why the description was of no use; `None` if cpreg did not try the description.
        reason: Option<String>,
    },
    /// Opened by both methods, with the same result.
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
    /// Opens a stream by its description if possible, otherwise by a full scan.
    ///
    /// # Errors
    /// The error of the full scan, if both methods fail.
    ///
    /// # Examples
    ///
    /// A source is a file, or bytes in memory. An error has a kind and an offset:
    ///
    /// ```
    /// use cpreg_stream::{ErrorKind, Stream};
    ///
    /// let error = Stream::open(&b"no stream".as_slice()).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotAStream);
    /// ```
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

    /// Opens a stream by the description at its end, without reading RAM.
    ///
    /// # Errors
    /// [`ErrorKind::NoDescription`] if the description is missing or does not match; other kinds if
    /// the file cannot be read or is not a stream of an Arm machine.
    pub fn open_by_description(source: &dyn ReadAt) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        let described = described_layout::read(source, length)?;
        Self::assemble(
            source,
            length,
            described.layout,
            described.cpus,
            Some(described.description),
            OpenMethod::Description,
        )
    }

    /// Opens a stream by a full scan, from the first byte to the last.
    ///
    /// # Errors
    /// If anything in the stream is not as QEMU writes it, or the file cannot be read.
    pub fn open_by_full_scan(source: &dyn ReadAt) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        Self::from_layout(source, length, full_scan::read(source, length)?)
    }

    /// Opens a stream that `scan` has read up to `at`, where its device state begins.
    ///
    /// Of the bytes in front of `at`, this function reads again only those in front of RAM's pages
    /// and the last ones.
    ///
    /// # Errors
    /// Those of [`Self::open`], and [`ErrorKind::Disagreement`] if a description at the end lists
    /// devices at other offsets.
    pub(crate) fn resume_at(source: &dyn ReadAt, scan: &ScanState, at: u64) -> Result<Self, Error> {
        if scan.ends_with_package {
            return Self::resume_full_scan(source, scan, at);
        }
        let described = Self::open_by_description(source).and_then(|mut stream| {
            let is_new = |section: &&Section| !scan.layout.sections.contains(section);
            let first = stream.layout.sections.iter().find(is_new);
            let same = stream.layout.configuration == scan.layout.configuration
                && stream.layout.blocks == scan.ram.blocks
                && stream.layout.sections.starts_with(&scan.layout.sections)
                && first.is_some_and(|section| section.range.start == at);
            if !same {
                return Err(Error::new(
                    ErrorKind::Disagreement,
                    "the description at the end is that of another stream",
                )
                .at_offset(at)
                .with_hint("do not trust this stream: it is damaged, or was made to mislead"));
            }
            stream.layout.record_counts = Some(scan.ram.counts);
            Ok(stream)
        });
        match described {
            Err(error) if error.kind() == ErrorKind::NoDescription => {
                let mut stream = Self::resume_full_scan(source, scan, at)?;
                stream.open_method = OpenMethod::FullScan {
                    reason: Some(error.message().to_owned()),
                };
                Ok(stream)
            }
            other => other,
        }
    }

    fn resume_full_scan(source: &dyn ReadAt, scan: &ScanState, at: u64) -> Result<Self, Error> {
        let length = cursor::length(source)?;
        let mut cursor = Cursor::new(source, at, length, LARGE_WINDOW_LEN);
        let layout = scan.clone().read_to_end(&mut cursor)?;
        Self::from_layout(source, length, layout)
    }

    /// Makes the stream from the layout of a full scan.
    fn from_layout(source: &dyn ReadAt, length: u64, layout: Layout) -> Result<Self, Error> {
        let description = match layout.description.clone() {
            // The loader does not read the description, so an unreadable description stays
            // unchanged.
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
        let open_method = OpenMethod::FullScan { reason: None };
        Self::assemble(source, length, layout, Vec::new(), description, open_method)
    }

    /// Opens a stream by a full scan and, if the stream has a description, by the description too.
    /// Compares the two results.
    ///
    /// The full scan rejects a file that is cut inside RAM just after pages that imitate the end of
    /// a stream. [`Self::open`] accepts such a file.
    ///
    /// # Errors
    /// [`ErrorKind::Disagreement`] if the two methods find different streams; those of
    /// [`Self::open_by_full_scan`].
    pub fn verify(source: &dyn ReadAt) -> Result<Self, Error> {
        let mut scanned = Self::open_by_full_scan(source)?;
        match Self::open_by_description(source) {
            Ok(described) => {
                scanned.check_same_as(&described)?;
                scanned.open_method = OpenMethod::Verified;
                scanned.layout.described_exactly = described.layout.described_exactly;
                scanned.description = described.description;
            }
            Err(error) => {
                scanned.open_method = OpenMethod::FullScan {
                    reason: Some(error.message().to_owned()),
                };
            }
        }
        Ok(scanned)
    }

    /// Makes the stream from its layout. `parsed_cpus` are vCPUs that the caller has parsed, in
    /// the order of the sections.
    fn assemble(
        source: &dyn ReadAt,
        length: u64,
        layout: Layout,
        parsed_cpus: Vec<Cpu>,
        description: Option<Description>,
        open_method: OpenMethod,
    ) -> Result<Self, Error> {
        let mut cpus: Vec<Cpu> = Vec::new();
        let mut parsed_cpus = parsed_cpus.into_iter().peekable();
        let mut run_state = None;
        let described: HashMap<u32, &StateDescription> = description
            .iter()
            .flat_map(|it| &it.devices)
            .filter_map(|device| Some((device.instance, device.state.as_deref()?)))
            .collect();
        for section in &layout.sections {
            if section.name == element::CPU {
                // QEMU numbers vCPUs in the order of their creation, without gaps.
                if section.instance as usize != cpus.len() {
                    return Err(Error::malformed(
                        section.range.start,
                        format!(
                            "section is cpu {}, expected cpu {}",
                            section.instance,
                            cpus.len()
                        ),
                    ));
                }
                let parsed = parsed_cpus.next_if(|cpu| cpu.section() == section);
                cpus.push(match parsed {
                    Some(cpu) => cpu,
                    None => read_cpu(source, section, described.get(&section.instance).copied())?,
                });
            } else if section.name == global_state::GLOBAL_STATE {
                run_state = global_state::run_state(source, section)?;
            }
        }
        if cpus.is_empty() {
            return Err(Error::new(
                ErrorKind::NotArm,
                "no `cpu` section: this is not a stream of an Arm machine",
            ));
        }
        // Each vCPU's `cpu` section follows a `cpu_common` section.
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
        let gic_facts = gic::read(source, &layout.sections, cpus.len())?;
        Ok(Self {
            open_method,
            length,
            layout,
            cpus,
            run_state,
            gic_facts,
            description,
        })
    }

    /// Makes a stream that holds only this vCPU's section.
    ///
    /// A caller can report on the first vCPU with the functions that report on a VM.
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
            gic_facts: HardwareFacts::UNKNOWN,
            description: None,
        }
    }

    fn check_same_as(&self, described: &Self) -> Result<(), Error> {
        let disagreement = |subject: String, at: u64| {
            Err(Error::new(
                ErrorKind::Disagreement,
                format!("a full scan finds {subject} than the description"),
            )
            .at_offset(at)
            .with_hint("do not trust this file: it is damaged, or was made to mislead"))
        };
        let (mine, other) = (&self.layout, &described.layout);
        let pairs = mine.sections.iter().zip(&other.sections);
        if let Some((section, _)) = pairs.into_iter().find(|(mine, other)| mine != other) {
            return disagreement(
                format!("another section {}", section.name),
                section.range.start,
            );
        }
        if mine.sections.len() != other.sections.len() {
            return disagreement("other sections".into(), mine.end);
        }
        if mine.configuration != other.configuration || mine.blocks != other.blocks {
            return disagreement("other RAM".into(), 0);
        }
        if mine.end != other.end || mine.description != other.description {
            return disagreement("another end".into(), mine.end);
        }
        if self
            .cpus
            .iter()
            .zip(&described.cpus)
            .any(|(mine, other)| mine.bytes() != other.bytes())
        {
            return disagreement("another CPU state".into(), mine.end);
        }
        Ok(())
    }

    /// Returns the method by which the stream was opened.
    pub fn open_method(&self) -> &OpenMethod {
        &self.open_method
    }

    /// Returns the file's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the machine's configuration, if the stream has one.
    pub fn configuration(&self) -> Option<&Configuration> {
        self.layout.configuration.as_ref()
    }

    /// Returns the machine type (`virt-10.0`), if the stream contains it.
    pub fn machine(&self) -> Option<&str> {
        self.configuration().map(|it| it.machine.as_str())
    }

    /// Returns the blocks of guest RAM.
    pub fn ram_blocks(&self) -> &[RamBlock] {
        &self.layout.blocks
    }

    /// Returns the number of RAM records of each kind; `None` if RAM was not read.
    pub fn record_counts(&self) -> Option<RecordCounts> {
        self.layout.record_counts
    }

    /// Returns `true` if the stream holds devices only, as QEMU's command `xen-save-devices-state`
    /// writes them: neither a machine type nor RAM blocks.
    pub fn is_device_state_only(&self) -> bool {
        self.configuration().is_none() && self.ram_blocks().is_empty()
    }

    /// Returns the live sections. A stream opened by its description has only those that begin
    /// where RAM begins.
    pub fn live_sections(&self) -> &[LiveSection] {
        &self.layout.live_sections
    }

    /// Returns the devices' sections, including `cpu`, in wire order.
    pub fn sections(&self) -> &[Section] {
        &self.layout.sections
    }

    /// Returns the decoded `cpu` sections, one for each vCPU, in wire order.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// Returns the package that holds the device state of a postcopy migration; `None` in precopy.
    pub fn package(&self) -> Option<&Package> {
        self.layout.package.as_ref()
    }

    /// Returns the file offset after EOF, or after the package of a source that ends with it.
    pub fn end(&self) -> u64 {
        self.layout.end
    }

    /// Returns the file range of the description's JSON; `None` if the stream has no description.
    pub fn description(&self) -> Option<Range<u64>> {
        self.layout.description.clone()
    }

    /// Returns `true` if the description gives every section its right length.
    ///
    /// An edit that did not update the description makes it inexact; QEMU accepts that.
    pub fn is_described_exactly(&self) -> bool {
        self.layout.described_exactly
    }

    /// Returns QEMU's name of the run state at the time of writing (`running`, `paused`,
    /// `prelaunch`).
    ///
    /// `None` if the stream does not contain the run state.
    pub fn run_state(&self) -> Option<&str> {
        self.run_state.as_deref()
    }

    /// Returns the interrupt controller of the VM, as far as KVM compares it with the host's.
    ///
    /// `None` if it is not known. QEMU's emulators compare nothing, so it is not known for them.
    pub fn gic(&self) -> Option<Gic> {
        self.gic_facts
            .gic
            .filter(|_| self.accelerator() != Some(Accelerator::Tcg))
    }

    /// Returns `true` if the guest had not run when the stream was written.
    ///
    /// The registers hold their reset values only in such a stream.
    pub fn is_prelaunch(&self) -> bool {
        self.run_state() == Some("prelaunch")
    }
}

/// Rejects sections that do not match the described ones.
///
/// Device state can look like the end of its section. A full scan can then be wrong without a
/// contradiction. Only a `cpu` section may differ in length from its description: cpreg measures
/// such a section, and an editor need not update the description.
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
