//! What a stream or a profile holds, for `show` and `diff`: about the file, its vCPUs' registers, what differs between vCPUs.
//!
//! | item | what it is |
//! |---|---|
//! | [`Contents`] | a file, with its CPU state as a [`Destination`] whether it is a stream or a profile |
//! | [`Row`] | a register (or extension) with the values it has, and on which vCPUs |
//! | [`Group`] | registers that are listed together |
//!
//! Nothing here says what a value means for a migration.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cpreg::destination::kernel::Kind;
use cpreg::destination::{Destination, HostVcpu, ValuesAre};
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg::vm;
use cpreg_qemu::Stream;
use cpreg_qemu::stream::{Cpu, GENERAL_REGISTERS};

use super::general;
use crate::destination;
use crate::failure::Failure;
use crate::input::{Content, Input};

/// A stream or profile and its CPU state.
pub(crate) struct Contents<'a> {
    pub(crate) input: &'a Input,
    pub(crate) destination: Destination,
}

impl<'a> Contents<'a> {
    pub(crate) fn of(input: &'a Input) -> Result<Self, Failure> {
        let destination = match &input.content {
            Content::Stream(stream) => {
                let mut destination = destination::of_stream(input.name(), stream)?;
                destination::forget_blanked(&mut destination, input);
                destination
            }
            Content::Profile(profile) => profile.to_destination().map_err(|error| {
                Failure::new(format!("cannot read {}", input.path.display())).because(error)
            })?,
            Content::Host(_) => return Err(input.lacks_features()),
        };
        Ok(Self { input, destination })
    }

    /// What kind of file it is.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.input.content {
            Content::Stream(_) if self.input.report.is_some() => "report of a migration stream",
            Content::Stream(_) if self.input.running.is_some() => "running QEMU",
            Content::Stream(_) => "migration stream",
            Content::Profile(_) if self.input.is_host => match self.destination.values {
                ValuesAre::OfAnEmulatedHost => "recorded host with an emulated CPU",
                ValuesAre::AtReset | ValuesAre::OfAGuest => "recorded host",
            },
            Content::Profile(_) => "profile",
            Content::Host(_) => "recorded host",
        }
    }

    pub(crate) const fn stream(&self) -> Option<&Stream> {
        match &self.input.content {
            Content::Stream(stream) => Some(stream),
            Content::Profile(_) | Content::Host(_) => None,
        }
    }

    pub(crate) fn machine(&self) -> Option<&str> {
        self.destination.shape.as_ref()?.machine.as_deref()
    }

    pub(crate) fn vcpus(&self) -> &[HostVcpu] {
        &self.destination.vcpus
    }

    /// The core registers that the stream keeps before its list, of each vCPU. A profile has none, a report PSTATE alone.
    pub(crate) fn general(&self) -> Vec<Vec<general::General>> {
        let cpus = self.stream().map(Stream::cpus).unwrap_or_default();
        let report = self.input.report.as_ref();
        let parts = report.map(|report| report.blanked.parts.as_slice());
        let are_blanked = parts.is_some_and(|parts| parts.iter().any(|it| it == GENERAL_REGISTERS));
        let of = |cpu: &Cpu| {
            let mut registers = general::of(&cpu.head());
            registers
                .retain(|register| !are_blanked || ["PSTATE", "CPSR"].contains(&&*register.name));
            registers
        };
        cpus.iter().map(of).collect()
    }
}

/// Something by which vCPUs have values: vCPUs with one value stand together, the lowest first.
pub(crate) struct Row<K, V> {
    pub(crate) key: K,
    pub(crate) values: Vec<(VcpuSet, V)>,
}

/// The rows of what is given vCPU by vCPU, ascending by key.
pub(crate) fn rows<K: Ord, V: Ord>(
    items: impl IntoIterator<Item = (usize, K, V)>,
) -> Vec<Row<K, V>> {
    let mut by_key: BTreeMap<K, BTreeMap<V, VcpuSet>> = BTreeMap::new();
    for (vcpu, key, value) in items {
        by_key
            .entry(key)
            .or_default()
            .entry(value)
            .or_default()
            .insert(vcpu);
    }
    by_key
        .into_iter()
        .map(|(key, values)| {
            let mut values: Vec<_> = values.into_iter().map(|(v, vcpus)| (vcpus, v)).collect();
            values.sort_by_cached_key(|(vcpus, _)| vcpus.iter().next());
            Row { key, values }
        })
        .collect()
}

/// A register's row; a value is `None` where a profile does not have it.
pub(crate) type RegisterRow = Row<RegisterId, Option<Value>>;

/// The registers of these vCPUs.
pub(crate) fn registers<'a>(
    vcpus: impl IntoIterator<Item = (usize, &'a HostVcpu)>,
) -> Vec<RegisterRow> {
    rows(vcpus.into_iter().flat_map(|(number, vcpu)| {
        let registers = vcpu.registers().iter();
        registers.map(move |register| (number, register.id, register.value.clone()))
    }))
}

/// What an extension holds, in an order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ExtensionContent {
    Number(u64),
    Bytes(Vec<u8>),
}

impl From<&vm::Content> for ExtensionContent {
    fn from(content: &vm::Content) -> Self {
        match content {
            vm::Content::Number(number) => Self::Number(*number),
            vm::Content::Bytes(bytes) => Self::Bytes(bytes.clone()),
        }
    }
}

impl ExtensionContent {
    /// The number, or how many bytes: what they say only QEMU knows.
    pub(crate) fn describe(&self, name: &str) -> String {
        match self {
            Self::Number(u64::MAX) if name == vm::Extension::WFXT_TIMER => "idle".to_owned(),
            Self::Number(number) => format!("{number:#x}"),
            Self::Bytes(bytes) if bytes.len() == 1 => "1 byte".to_owned(),
            Self::Bytes(bytes) => format!("{} bytes", bytes.len()),
        }
    }

    /// The number as `0x…`, or the bytes as they stand, two digits each.
    pub(crate) fn hexadecimal(&self) -> String {
        match self {
            Self::Number(number) => format!("{number:#x}"),
            Self::Bytes(bytes) => hex::encode(bytes),
        }
    }
}

/// An extension's row.
pub(crate) type ExtensionRow = Row<Cow<'static, str>, ExtensionContent>;

/// The extensions of these vCPUs.
pub(crate) fn extensions<'a>(
    vcpus: impl IntoIterator<Item = (usize, &'a HostVcpu)>,
) -> Vec<ExtensionRow> {
    rows(vcpus.into_iter().flat_map(|(number, vcpu)| {
        let extensions = vcpu.extensions.iter();
        extensions.map(move |it| (number, it.name.clone(), (&it.content).into()))
    }))
}

/// Registers that are listed together, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Firmware,
    Identification,
    System,
    PerformanceMonitors,
    AArch32,
    Vectors,
    Other,
}

impl Group {
    pub(crate) fn of(id: RegisterId) -> Self {
        match id.class() {
            RegisterClass::Firmware | RegisterClass::FirmwareBitmap => return Self::Firmware,
            RegisterClass::Coprocessor => return Self::AArch32,
            RegisterClass::Sve => return Self::Vectors,
            RegisterClass::Unknown => return Self::Other,
            _ => {}
        }
        if id.is_pmu() {
            return Self::PerformanceMonitors;
        }
        match Kind::of(id) {
            Kind::Identification
            | Kind::Implementation
            | Kind::CacheType
            | Kind::CacheLevels
            | Kind::CacheSize(_) => Self::Identification,
            _ if id == RegisterId::MPIDR_EL1 => Self::Identification,
            _ => Self::System,
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Identification => "identification and caches",
            Self::System => "system registers",
            Self::PerformanceMonitors => "performance monitors",
            Self::AArch32 => "AArch32 registers",
            Self::Vectors => "SVE",
            Self::Other => "ids of no known class",
        }
    }
}

/// A UUID as it is written.
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let parts = [0..4, 4..6, 6..8, 8..10, 10..16];
    parts.map(|range| hex::encode(&bytes[range])).join("-")
}

/// `1 vCPU`, `4 vCPUs`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A length in the largest unit that gives a whole number.
pub(crate) fn length(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift))
    {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}
