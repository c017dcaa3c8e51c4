//! A stream that can be shown to strangers, without RAM and with the guest's secrets overwritten.
//!
//! The redacted stream has the same lengths, so its description is exact. QEMU loads the stream
//! into a machine whose RAM is zero. Redacted always:
//!
//! | data | by |
//! |---|---|
//! | pointer-authentication keys ([`RegisterId::is_secret`]) | [`REDACTED`] |
//! | the VM's UUID | zero |
//! | possible data in devices ([`crate::guest_data`]) | zero |
//!
//! Redacted unless [`RedactionOptions::keep_registers_and_addresses`]:
//!
//! | data | by |
//! |---|---|
//! | addresses and context numbers ([`RegisterId::is_guest_pointer`]) | [`REDACTED`] |
//! | general registers, SP, ELR, SPSR, PC | zero |
//! | vectors: `cpu/vfp`'s, `cpu/sve`, `cpu/sme`, `cpu/zt0`, unknown subsections | zero |
//! | the exclusive monitor | clear |
//! | the syndrome and address of a pending exception | zero |
//!
//! PSTATE, timers, power states and all other registers keep their values, because decisions or
//! loaders use them. A register that the guest never used (zero, or KVM's poison) keeps its value
//! too.

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

/// Name of general registers, SP, ELR, SPSR and PC in [`Redactions::parts`].
pub const GENERAL_REGISTERS: &str = "general registers";

/// Maximum length without RAM; device state is shorter, even with a graphics card's pictures.
const MAX_STREAM_LEN: u64 = 256 << 20;

/// Extent of the redaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedactionOptions {
    /// Keeps general registers, vectors and addresses if `true`.
    pub keep_registers_and_addresses: bool,
}

/// Stream without RAM and secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedactedStream {
    /// Bytes of the stream.
    pub bytes: Vec<u8>,
    /// Redacted parts.
    pub redactions: Redactions,
}

/// Redacted parts of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redactions {
    /// Registers that were redacted in at least one vCPU, ascending.
    pub registers: Vec<RegisterId>,
    /// Other redacted parts of `cpu` sections: `general registers`, `pending exception`,
    /// subsections.
    pub parts: Vec<String>,
    /// Devices with redacted bytes, in wire order.
    pub devices: Vec<RedactedDevice>,
    /// `true` if the stream had a UUID, which is then redacted.
    pub uuid: bool,
}

/// Device with redacted bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedactedDevice {
    /// QEMU's id string of the device's section.
    pub name: String,
    /// Instance number of the section among sections of the same name.
    pub instance: u32,
    /// Number of redacted bytes that were not zero.
    pub bytes: u64,
}

impl std::fmt::Debug for RedactedStream {
    /// Formats without content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedactedStream")
            .field("length", &self.bytes.len())
            .field("redactions", &self.redactions)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Makes the stream without RAM and secrets. `source` is the file that the stream was opened
    /// from.
    ///
    /// # Errors
    /// - Those of [`Stream::without_ram`].
    /// - [`ErrorKind::Unsupported`] if the result is longer than 256 MiB, or if it opens as a
    ///   stream with other devices.
    pub fn redact(
        &self,
        source: &dyn ReadAt,
        options: RedactionOptions,
    ) -> Result<RedactedStream, Error> {
        let edit = self.without_ram(&[])?;
        let length = edit.new_length();
        if length > MAX_STREAM_LEN {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "without RAM the stream still has {} MiB; the maximum is {} MiB",
                    length >> 20,
                    MAX_STREAM_LEN >> 20
                ),
            ));
        }
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = read_bytes(&edit.apply_to(source), 0, count)?;
        let ramless = Self::open(&bytes)?;
        self.check_same_devices(&ramless)?;
        let mut redactions = Redactions::default();
        for cpu in ramless.cpus() {
            let path = || format!("cpu[{}]", cpu.section().instance);
            let range = slice(&bytes, &cpu.section().payload).prepend_path(path)?;
            redact_cpu(cpu, &mut bytes[range], options, &mut redactions);
        }
        redactions.registers.sort();
        redactions.registers.dedup();
        ramless.redact_devices(&mut bytes, &mut redactions)?;
        ramless.redact_uuid(&mut bytes, &mut redactions)?;
        self.check_same_devices(&Self::open(&bytes)?)?;
        Ok(RedactedStream { bytes, redactions })
    }

    /// Rejects the result if it opens as a stream with other devices than this one.
    ///
    /// The redacted parts would otherwise be unknown.
    fn check_same_devices(&self, other: &Self) -> Result<(), Error> {
        let devices = |stream: &Self| -> Vec<(String, u32, u64)> {
            let sections = stream.sections().iter();
            let device = |it: &crate::Section| {
                let length = it.payload.end - it.payload.start;
                (it.name.clone(), it.instance, length)
            };
            sections.map(device).collect()
        };
        if devices(self) == devices(other) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "without RAM the stream is read as other devices",
        ))
    }

    fn redact_devices(&self, bytes: &mut [u8], redactions: &mut Redactions) -> Result<(), Error> {
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
                redactions.devices.push(RedactedDevice {
                    name: section.name.clone(),
                    instance: section.instance,
                    bytes: count,
                });
            }
        }
        Ok(())
    }

    /// Returns the described devices; none if there is no readable description.
    fn described_devices(&self, bytes: &[u8]) -> Result<Vec<DescribedDevice>, Error> {
        let Some(range) = self.description() else {
            return Ok(Vec::new());
        };
        let text = slice(bytes, &range).prepend_path(|| "description".into())?;
        Ok(fields::parse(&bytes[text]).unwrap_or_default())
    }

    /// Redacts the UUID.
    ///
    /// A stream made by [`Stream::without_ram`] has the UUID at the end of its configuration, in
    /// front of the first section.
    fn redact_uuid(&self, bytes: &mut [u8], redactions: &mut Redactions) -> Result<(), Error> {
        const NAME: &[u8] = b"\x12configuration/uuid\0\0\0\x01";
        let Some(uuid) = self.configuration().and_then(|it| it.uuid) else {
            return Ok(());
        };
        let wanted = [NAME, &uuid].concat();
        let at = bytes.windows(wanted.len()).position(|it| it == wanted);
        let at = at.ok_or_else(|| missing_error().prepend_path("configuration/uuid"))?;
        bytes[at + NAME.len()..at + wanted.len()].fill(0);
        redactions.uuid = true;
        Ok(())
    }
}

fn missing_error() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "it is missing in the stream without RAM",
    )
}

/// Converts a range of offsets to a range of `bytes`.
fn slice(bytes: &[u8], range: &Range<u64>) -> Result<Range<usize>, Error> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    match start.zip(end) {
        Some((start, end)) if start <= end && end <= bytes.len() => Ok(start..end),
        _ => Err(missing_error()),
    }
}

/// Ranges of the core fields of a `cpu` section in front of PSTATE and after it.
const GENERAL_REGISTER_RANGES: [Range<usize>; 2] = [0..328, 332..cpu::COUNT_OFFSET];
/// Range of the exclusive monitor's address in the trailing fields.
const MONITOR_ADDRESS: Range<usize> = 0..8;
/// Range of the exclusive monitor's values in the trailing fields.
const MONITOR_VALUES: Range<usize> = 8..24;
/// Range of a pending exception's syndrome, fault status and address in the trailing fields.
const PENDING_EXCEPTION: Range<usize> = 32..48;
/// Range of the lower 128 bits of the 32 vectors in `cpu/vfp`; control and status follow.
const VECTORS: Range<usize> = 0..512;

/// Subsections without registers, which redaction keeps: control, status and pending events.
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

/// Redacts one vCPU's section. `cpu` was decoded from `payload`.
fn redact_cpu(
    cpu: &Cpu,
    payload: &mut [u8],
    options: RedactionOptions,
    redactions: &mut Redactions,
) {
    let values = LIST_OFFSET + 8 * cpu.register_count();
    for (index, (id, value)) in cpu.registers().enumerate() {
        let is_secret =
            id.is_secret() || id.is_guest_pointer() && !options.keep_registers_and_addresses;
        // The value of a register that no guest has used is not a secret, and decisions may need
        // it.
        let was_used = value != 0 && value != RESET_POISON;
        if is_secret && was_used {
            let at = values + 8 * index;
            payload[at..at + 8].copy_from_slice(&REDACTED.to_be_bytes());
            redactions.registers.push(id);
        }
    }
    if options.keep_registers_and_addresses {
        return;
    }
    let mut part = |name: &str| {
        if !redactions.parts.iter().any(|other| other == name) {
            redactions.parts.push(name.to_owned());
        }
    };
    for range in GENERAL_REGISTER_RANGES {
        payload[range].fill(0);
    }
    part(GENERAL_REGISTERS);
    let trailing_start = cpu.trailing_fields_start();
    let in_trailing_fields =
        |range: Range<usize>| trailing_start + range.start..trailing_start + range.end;
    payload[in_trailing_fields(MONITOR_ADDRESS)].fill(0xff);
    payload[in_trailing_fields(MONITOR_VALUES)].fill(0);
    part("exclusive monitor");
    payload[in_trailing_fields(PENDING_EXCEPTION)].fill(0);
    part("pending exception");
    for subsection in cpu.all_subsections() {
        let content = subsection.content_range.clone();
        match &*subsection.name {
            name if KEPT_SUBSECTIONS.contains(&name) => {}
            "cpu/vfp" => {
                payload[content.start..content.end.min(content.start + VECTORS.end)].fill(0);
                part("cpu/vfp (vectors)");
            }
            name => {
                payload[content].fill(0);
                part(name);
            }
        }
    }
}
