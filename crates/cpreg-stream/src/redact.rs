//! A stream that may be shown to strangers: without RAM, and with the guest's secrets blanked where they stand.
//!
//! Every length stays, so the description stays right and QEMU loads what comes out, in a machine whose RAM is zero. What is
//! blanked:
//!
//! | what | by | unless |
//! |---|---|---|
//! | pointer-authentication keys ([`RegisterId::is_secret`]) | [`REDACTED`] | – |
//! | addresses and context numbers ([`RegisterId::is_guest_pointer`]) | [`REDACTED`] | [`RedactionOptions::keep_general_registers`] |
//! | general registers, SP, ELR, SPSR, PC | zero | likewise |
//! | vectors: `cpu/vfp`'s, `cpu/sve`, `cpu/sme`, `cpu/zt0`, and subsections that are not known | zero | likewise |
//! | the exclusive monitor, the syndrome and address of a pending exception | clear, zero | likewise |
//! | the VM's UUID | zero | – |
//! | what may be data in devices ([`crate::guest_data`]) | zero | – |
//!
//! PSTATE, timers, power states and all other registers stay: decisions look at them, or loaders do. So does what a register
//! held that was never used: zero, and KVM's poison.

use std::ops::Range;

use cpreg::register::RegisterId;
use cpreg::tolerance::condition::RESET_POISON;

use crate::cpu::{self, Cpu, LIST_OFFSET};
use crate::cursor::read_bytes;
use crate::element::CPU;
use crate::error::{Error, ErrorKind, PrependPath};
use crate::fields::{self, DescribedDevice};
use crate::guest_data;
use crate::source::ReadAt;
use crate::stream::Stream;

pub use cpreg::register::REDACTED;

/// What [`Redactions::parts`] calls general registers, SP, ELR, SPSR and PC.
pub const GENERAL_REGISTERS: &str = "general registers";

/// More than the devices' state takes, the pictures of a graphics card included.
const MAX_STREAM_LEN: u64 = 256 << 20;

/// How much is blanked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedactionOptions {
    /// General registers, vectors and addresses stay.
    pub keep_general_registers: bool,
}

/// A stream without RAM and secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct RedactedStream {
    /// The stream itself.
    pub bytes: Vec<u8>,
    /// What is not in it.
    pub redactions: Redactions,
}

/// What was blanked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redactions {
    /// Registers of the list, of at least one vCPU, ascending.
    pub registers: Vec<RegisterId>,
    /// Other parts of `cpu` sections: `general registers`, `pending exception`, subsections.
    pub parts: Vec<String>,
    /// Devices some of whose bytes were blanked, in wire order.
    pub devices: Vec<RedactedDevice>,
    /// Whether there was a UUID.
    pub uuid: bool,
}

/// A device some of whose bytes were blanked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactedDevice {
    /// QEMU's id string.
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// How many bytes.
    pub bytes: u64,
}

impl std::fmt::Debug for RedactedStream {
    /// Without content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedactedStream")
            .field("length", &self.bytes.len())
            .field("redactions", &self.redactions)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Makes the stream without RAM and secrets. `source` is the file this was opened from.
    ///
    /// # Errors
    /// Those of [`Stream::without_ram`]; [`ErrorKind::Unsupported`] if what is left is longer than 256 MiB, or is not
    /// read as the same devices.
    pub fn redact(
        &self,
        source: &dyn ReadAt,
        scrub: RedactionOptions,
    ) -> Result<RedactedStream, Error> {
        let edit = self.without_ram(&[])?;
        let length = edit.new_length();
        if length > MAX_STREAM_LEN {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "without its RAM the stream still has {} MiB, and {} are the most",
                    length >> 20,
                    MAX_STREAM_LEN >> 20
                ),
            ));
        }
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = read_bytes(&edit.apply_to(source), 0, count)?;
        let skeleton = Self::open(&bytes)?;
        self.check_same_devices(&skeleton)?;
        let mut blanked = Redactions::default();
        for cpu in skeleton.cpus() {
            let path = || format!("cpu[{}]", cpu.section().instance);
            let range = slice(&bytes, &cpu.section().payload).prepend_path(path)?;
            redact_cpu(cpu, &mut bytes[range], scrub, &mut blanked);
        }
        blanked.registers.sort();
        blanked.registers.dedup();
        skeleton.redact_devices(&mut bytes, &mut blanked)?;
        skeleton.redact_uuid(&mut bytes, &mut blanked)?;
        self.check_same_devices(&Self::open(&bytes)?)?;
        Ok(RedactedStream {
            bytes,
            redactions: blanked,
        })
    }

    /// Refuses a stream that is read as other devices than these: then it is not known what was blanked.
    fn check_same_devices(&self, other: &Self) -> Result<(), Error> {
        let outline = |stream: &Self| -> Vec<(String, u32, u64)> {
            let sections = stream.sections().iter();
            let of = |it: &crate::Section| {
                let length = it.payload.end - it.payload.start;
                (it.name.clone(), it.instance, length)
            };
            sections.map(of).collect()
        };
        if outline(self) == outline(other) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "without its RAM the stream is read as other devices",
        ))
    }

    fn redact_devices(&self, bytes: &mut [u8], blanked: &mut Redactions) -> Result<(), Error> {
        let described = self.described_devices(bytes)?;
        for (index, section) in self.sections().iter().enumerate() {
            if section.name == CPU {
                continue;
            }
            let payload = slice(bytes, &section.payload).prepend_path(|| section.name.clone())?;
            let payload = &mut bytes[payload];
            let leaves = described
                .get(index)
                .filter(|device| device.name == section.name)
                .and_then(|device| device.leaves(payload.len() as u64));
            let mut count = 0;
            for range in guest_data::find_data_ranges(&section.name, payload, leaves.as_deref()) {
                let range = slice(payload, &range).prepend_path(|| section.name.clone())?;
                count += payload[range.clone()].iter().filter(|it| **it != 0).count() as u64;
                payload[range].fill(0);
            }
            if count != 0 {
                blanked.devices.push(RedactedDevice {
                    name: section.name.clone(),
                    instance: section.instance,
                    bytes: count,
                });
            }
        }
        Ok(())
    }

    /// The devices as they are described; none if there is no description that can be read.
    fn described_devices(&self, bytes: &[u8]) -> Result<Vec<DescribedDevice>, Error> {
        let Some(range) = self.description() else {
            return Ok(Vec::new());
        };
        let text = slice(bytes, &range).prepend_path(|| "description".into())?;
        Ok(fields::parse(&bytes[text]).unwrap_or_default())
    }

    /// A stream made by [`Stream::without_ram`] has the UUID at the end of its configuration, before the first section.
    fn redact_uuid(&self, bytes: &mut [u8], blanked: &mut Redactions) -> Result<(), Error> {
        const NAME: &[u8] = b"\x12configuration/uuid\0\0\0\x01";
        let Some(uuid) = self.configuration().and_then(|it| it.uuid) else {
            return Ok(());
        };
        let wanted = [NAME, &uuid].concat();
        let at = bytes.windows(wanted.len()).position(|it| it == wanted);
        let at = at.ok_or_else(|| missing_error().prepend_path("configuration/uuid"))?;
        bytes[at + NAME.len()..at + wanted.len()].fill(0);
        blanked.uuid = true;
        Ok(())
    }
}

fn missing_error() -> Error {
    Error::new(ErrorKind::Unsupported, "it is not where it was read")
}

/// A range of offsets in bytes that are all in memory.
fn slice(bytes: &[u8], range: &Range<u64>) -> Result<Range<usize>, Error> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    match start.zip(end) {
        Some((start, end)) if start <= end && end <= bytes.len() => Ok(start..end),
        _ => Err(missing_error()),
    }
}

/// The head of a `cpu` section up to PSTATE, and from there to the register list.
const GENERAL_REGISTER_RANGES: [Range<usize>; 2] = [0..328, 332..cpu::COUNT_OFFSET];
/// In the tail: the exclusive monitor's address, and its values.
const MONITOR_ADDRESS: Range<usize> = 0..8;
const MONITOR_VALUES: Range<usize> = 8..24;
/// In the tail: syndrome, fault status and address of a pending exception.
const PENDING_EXCEPTION: Range<usize> = 32..48;
/// In `cpu/vfp`: the lower 128 bits of the 32 vectors. Behind them stand control and status.
const VECTORS: Range<usize> = 0..512;

/// Subsections that stay as they are: control, status, and what is pending. Their contents are in no register's place.
const KEPT_SUBSECTIONS: [&str; 8] = [
    "cpu/event",
    "cpu/fpmr",
    "cpu/irq-line-state",
    "cpu/pstate64",
    "cpu/serror",
    "cpu/thumb2ee",
    "cpu/vfp/fpcr_fpsr",
    "cpu/wfxt-timer",
];

/// Blanks one vCPU's section. `payload` is what `cpu` was decoded from.
fn redact_cpu(cpu: &Cpu, payload: &mut [u8], scrub: RedactionOptions, blanked: &mut Redactions) {
    let values = LIST_OFFSET + 8 * cpu.register_count();
    for (index, (id, value)) in cpu.registers().enumerate() {
        let is_secret = id.is_secret() || id.is_guest_pointer() && !scrub.keep_general_registers;
        // What it held before any guest used it is no secret, and may decide.
        let was_used = value != 0 && value != RESET_POISON;
        if is_secret && was_used {
            let at = values + 8 * index;
            payload[at..at + 8].copy_from_slice(&REDACTED.to_be_bytes());
            blanked.registers.push(id);
        }
    }
    if scrub.keep_general_registers {
        return;
    }
    let mut part = |name: &str| {
        if !blanked.parts.iter().any(|other| other == name) {
            blanked.parts.push(name.to_owned());
        }
    };
    for range in GENERAL_REGISTER_RANGES {
        payload[range].fill(0);
    }
    part(GENERAL_REGISTERS);
    let tail = cpu.trailing_fields_start();
    let in_tail = |range: Range<usize>| tail + range.start..tail + range.end;
    payload[in_tail(MONITOR_ADDRESS)].fill(0xff);
    payload[in_tail(MONITOR_VALUES)].fill(0);
    part("exclusive monitor");
    payload[in_tail(PENDING_EXCEPTION)].fill(0);
    part("pending exception");
    for subsection in cpu.all_subsections() {
        let own = subsection.content_range.clone();
        match &*subsection.name {
            name if KEPT_SUBSECTIONS.contains(&name) => {}
            "cpu/vfp" => {
                payload[own.start..own.end.min(own.start + VECTORS.end)].fill(0);
                part("cpu/vfp (vectors)");
            }
            name => {
                payload[own].fill(0);
                part(name);
            }
        }
    }
}
