//! A stream that may be shown to strangers: without RAM, and with the guest's secrets blanked where they stand.
//!
//! Every length stays, so the description stays right and QEMU loads what comes out, in a machine whose RAM is zero. What is
//! blanked:
//!
//! | what | by | unless |
//! |---|---|---|
//! | pointer-authentication keys ([`RegisterId::is_secret`]) | [`BLANKED`] | – |
//! | addresses and context numbers ([`RegisterId::is_guest_pointer`]) | [`BLANKED`] | [`Scrub::keep_general`] |
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

use crate::cpu::{self, Cpu, LIST};
use crate::cursor::read_bytes;
use crate::element::CPU;
use crate::error::{Error, ErrorKind, Within};
use crate::fields::{self, Device};
use crate::guest_data;
use crate::source::ReadAt;
use crate::stream::Stream;

pub use cpreg::register::BLANKED;

/// What [`Blanked::parts`] calls general registers, SP, ELR, SPSR and PC.
pub const GENERAL_REGISTERS: &str = "general registers";

/// More than the devices' state takes, the pictures of a graphics card included.
const MOST_BYTES: u64 = 256 << 20;

/// How much is blanked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrub {
    /// General registers, vectors and addresses stay.
    pub keep_general: bool,
}

/// A stream without RAM and secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// The stream itself.
    pub bytes: Vec<u8>,
    /// What is not in it.
    pub blanked: Blanked,
}

/// What was blanked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blanked {
    /// Registers of the list, of at least one vCPU, ascending.
    pub registers: Vec<RegisterId>,
    /// Other parts of `cpu` sections: `general registers`, `pending exception`, subsections.
    pub parts: Vec<String>,
    /// Devices some of whose bytes were blanked, in wire order.
    pub devices: Vec<BlankedDevice>,
    /// Whether there was a UUID.
    pub uuid: bool,
}

/// A device some of whose bytes were blanked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlankedDevice {
    /// QEMU's id string.
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// How many bytes.
    pub bytes: u64,
}

impl std::fmt::Debug for Scrubbed {
    /// Without content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrubbed")
            .field("length", &self.bytes.len())
            .field("blanked", &self.blanked)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Makes the stream without RAM and secrets. `source` is the file this was opened from.
    ///
    /// # Errors
    /// Those of [`Stream::without_ram`]; [`ErrorKind::Unsupported`] if what is left is longer than 256 MiB, or is not
    /// read as the same devices.
    pub fn scrubbed(&self, source: &dyn ReadAt, scrub: Scrub) -> Result<Scrubbed, Error> {
        let edit = self.without_ram(&[])?;
        let length = edit.new_length();
        if length > MOST_BYTES {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "without its RAM the stream still has {} MiB, and {} are the most",
                    length >> 20,
                    MOST_BYTES >> 20
                ),
            ));
        }
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = read_bytes(&edit.over(source), 0, count)?;
        let skeleton = Self::open(&bytes)?;
        self.has_devices_of(&skeleton)?;
        let mut blanked = Blanked::default();
        for cpu in skeleton.cpus() {
            let path = || format!("cpu[{}]", cpu.section().instance);
            let range = slice(&bytes, &cpu.section().payload).within(path)?;
            blank_cpu(cpu, &mut bytes[range], scrub, &mut blanked);
        }
        blanked.registers.sort();
        blanked.registers.dedup();
        skeleton.blank_devices(&mut bytes, &mut blanked)?;
        skeleton.blank_uuid(&mut bytes, &mut blanked)?;
        self.has_devices_of(&Self::open(&bytes)?)?;
        Ok(Scrubbed { bytes, blanked })
    }

    /// Refuses a stream that is read as other devices than these: then it is not known what was blanked.
    fn has_devices_of(&self, other: &Self) -> Result<(), Error> {
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

    fn blank_devices(&self, bytes: &mut [u8], blanked: &mut Blanked) -> Result<(), Error> {
        let described = self.described(bytes)?;
        for (index, section) in self.sections().iter().enumerate() {
            if section.name == CPU {
                continue;
            }
            let payload = slice(bytes, &section.payload).within(|| section.name.clone())?;
            let payload = &mut bytes[payload];
            let leaves = described
                .get(index)
                .filter(|device| device.name == section.name)
                .and_then(|device| device.leaves(payload.len() as u64));
            let mut count = 0;
            for range in guest_data::of(&section.name, payload, leaves.as_deref()) {
                let range = slice(payload, &range).within(|| section.name.clone())?;
                count += payload[range.clone()].iter().filter(|it| **it != 0).count() as u64;
                payload[range].fill(0);
            }
            if count != 0 {
                blanked.devices.push(BlankedDevice {
                    name: section.name.clone(),
                    instance: section.instance,
                    bytes: count,
                });
            }
        }
        Ok(())
    }

    /// The devices as they are described; none if there is no description that can be read.
    fn described(&self, bytes: &[u8]) -> Result<Vec<Device>, Error> {
        let Some(range) = self.description() else {
            return Ok(Vec::new());
        };
        let text = slice(bytes, &range).within(|| "description".into())?;
        Ok(fields::parse(&bytes[text]).unwrap_or_default())
    }

    /// A stream made by [`Stream::without_ram`] has the UUID at the end of its configuration, before the first section.
    fn blank_uuid(&self, bytes: &mut [u8], blanked: &mut Blanked) -> Result<(), Error> {
        const NAME: &[u8] = b"\x12configuration/uuid\0\0\0\x01";
        let Some(uuid) = self.configuration().and_then(|it| it.uuid) else {
            return Ok(());
        };
        let wanted = [NAME, &uuid].concat();
        let at = bytes.windows(wanted.len()).position(|it| it == wanted);
        let at = at.ok_or_else(|| missing().within("configuration/uuid"))?;
        bytes[at + NAME.len()..at + wanted.len()].fill(0);
        blanked.uuid = true;
        Ok(())
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Unsupported, "it is not where it was read")
}

/// A range of offsets in bytes that are all in memory.
fn slice(bytes: &[u8], range: &Range<u64>) -> Result<Range<usize>, Error> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    match start.zip(end) {
        Some((start, end)) if start <= end && end <= bytes.len() => Ok(start..end),
        _ => Err(missing()),
    }
}

/// The head of a `cpu` section up to PSTATE, and from there to the register list.
const GENERAL: [Range<usize>; 2] = [0..328, 332..cpu::COUNT];
/// In the tail: the exclusive monitor's address, and its values.
const MONITOR: Range<usize> = 0..8;
const MONITORED: Range<usize> = 8..24;
/// In the tail: syndrome, fault status and address of a pending exception.
const EXCEPTION: Range<usize> = 32..48;
/// In `cpu/vfp`: the lower 128 bits of the 32 vectors. Behind them stand control and status.
const VECTORS: Range<usize> = 0..512;

/// Subsections that stay as they are: control, status, and what is pending. Their contents are in no register's place.
const PLAIN: [&str; 8] = [
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
fn blank_cpu(cpu: &Cpu, payload: &mut [u8], scrub: Scrub, blanked: &mut Blanked) {
    let values = LIST + 8 * cpu.register_count();
    for (index, (id, value)) in cpu.registers().enumerate() {
        let is_secret = id.is_secret() || id.is_guest_pointer() && !scrub.keep_general;
        // What it held before any guest used it is no secret, and may decide.
        let was_used = value != 0 && value != RESET_POISON;
        if is_secret && was_used {
            let at = values + 8 * index;
            payload[at..at + 8].copy_from_slice(&BLANKED.to_be_bytes());
            blanked.registers.push(id);
        }
    }
    if scrub.keep_general {
        return;
    }
    let mut part = |name: &str| {
        if !blanked.parts.iter().any(|other| other == name) {
            blanked.parts.push(name.to_owned());
        }
    };
    for range in GENERAL {
        payload[range].fill(0);
    }
    part(GENERAL_REGISTERS);
    let tail = cpu.tail_start();
    let in_tail = |range: Range<usize>| tail + range.start..tail + range.end;
    payload[in_tail(MONITOR)].fill(0xff);
    payload[in_tail(MONITORED)].fill(0);
    part("exclusive monitor");
    payload[in_tail(EXCEPTION)].fill(0);
    part("pending exception");
    for subsection in cpu.all_subsections() {
        let own = subsection.own.clone();
        match &*subsection.name {
            name if PLAIN.contains(&name) => {}
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
