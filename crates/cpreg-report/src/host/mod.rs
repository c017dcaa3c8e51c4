//! What a recorded host is, for `show`: the host, and one of its guests if that is asked for.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, once, for both forms; what is counted of a guest |
//! | [`text`] | its text |
//! | [`model`] | its model, schema `cpreg.show-host/2` |
//! | `json` | the answer as its model |
//!
//! A guest is shown with all that KVM lists for it, core registers and vectors included, which QEMU keeps elsewhere.

pub(crate) mod json;
pub mod model;
pub mod text;

use cpreg::destination::{AcceptedValues, DestinationVcpu, Features};
use cpreg::register::{Field, RegisterId};
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::{AtReset, GuestRecord, RegisterRecord, WriteTrial};

use crate::error::{Error, ErrorKind};
use crate::field::RegisterSelection;
use crate::value::ValueFormat;

/// Capabilities' names begin with it.
const CAPABILITY_PREFIX: &str = "KVM_CAP_";

/// What is shown.
#[derive(Debug)]
pub struct HostView<'a> {
    /// How the host is written, features aside.
    pub argument: &'a str,
    /// The host.
    pub record: &'a HostRecord,
    /// The guest that is shown.
    pub guest: Option<GuestView<'a>>,
    /// Style of names and values.
    pub value_format: ValueFormat,
}

/// One of its guests.
#[derive(Debug)]
pub struct GuestView<'a> {
    /// Its features.
    pub features: Features,
    guest: &'a GuestRecord,
    /// The same as a destination has it: what its trials tell of the values that are taken.
    vcpu: DestinationVcpu,
    /// Only these, if there are any.
    pub selection: Vec<RegisterSelection>,
    /// Decode fields.
    pub show_fields: bool,
}

impl<'a> GuestView<'a> {
    /// The guest with these features.
    ///
    /// # Errors
    /// If it was not recorded.
    pub fn new(
        written: &str,
        record: &'a HostRecord,
        features: Features,
        wanted: Vec<RegisterSelection>,
        fields: bool,
    ) -> Result<Self, Error> {
        let guest = record.guests.get(&features).ok_or_else(|| {
            let recorded = record.guests.keys().map(ToString::to_string);
            let recorded: Vec<_> = recorded.collect();
            Error::for_host(
                ErrorKind::GuestNotRecorded,
                format!("{written} was not recorded for guests with the features {features}"),
                format!("recorded are {}", recorded.join("; ")),
            )
        })?;
        Ok(Self {
            features,
            guest,
            vcpu: guest.to_destination_vcpu(),
            selection: wanted,
            show_fields: fields,
        })
    }

    /// The registers that are shown.
    pub fn registers(&self) -> impl Iterator<Item = &'a RegisterRecord> {
        let is_wanted =
            |id| self.selection.is_empty() || self.selection.iter().any(|it| it.id == id);
        let registers = self.guest.registers.iter();
        registers.filter(move |register| is_wanted(register.id))
    }

    /// Those that were asked for and are not listed.
    pub fn missing_registers(&self) -> impl Iterator<Item = RegisterId> {
        let registers = &self.guest.registers;
        let is_there = |id| registers.iter().any(|register| register.id == id);
        let ids = self.selection.iter().map(|wanted| wanted.id);
        ids.filter(move |id| !is_there(*id))
    }

    /// The bits that user space may change, where the kernel tells.
    pub fn writable(&self, id: RegisterId) -> Option<u64> {
        self.guest.writable.as_ref()?.get(&id).copied()
    }

    /// The values that are taken, where all that count were tried.
    pub fn accepted_values(&self, id: RegisterId) -> Option<TestedValues> {
        match &self.vcpu.get(id)?.accepted_values {
            AcceptedValues::OneOf(values) => Some(TestedValues::OneOf(values.clone())),
            AcceptedValues::Subset(bits) => Some(TestedValues::Bits(*bits)),
            AcceptedValues::ByKind | AcceptedValues::Writable(_) => None,
        }
    }
}

/// The values that are taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TestedValues {
    /// Just these.
    OneOf(Vec<u64>),
    /// Any of these bits.
    Bits(u64),
}

impl TestedValues {
    /// In words; `id`: of which register.
    pub fn describe(&self, id: RegisterId) -> String {
        match self {
            Self::OneOf(values) => {
                let values = values.iter().map(|value| format_named_value(id, *value));
                values.collect::<Vec<_>>().join(", ")
            }
            Self::Bits(0) => "no bits".to_owned(),
            Self::Bits(bits) => format!("bits {bits:#x} ({})", describe_mask(id, *bits).join(", ")),
        }
    }
}

/// A value with its name, if it has one.
fn format_named_value(id: RegisterId, value: u64) -> String {
    match id.value_name(value) {
        Some(name) => format!("{name} ({value:#x})"),
        None => format!("{value:#x}"),
    }
}

/// The names of the fields that have bits in a mask, and the bits that are in none.
pub fn describe_mask(id: RegisterId, mask: u64) -> Vec<String> {
    let mut rest = mask;
    let mut names = Vec::new();
    for field in id.fields() {
        let own = field.mask() & mask;
        if own == 0 {
            continue;
        }
        rest &= !own;
        let is_whole = own == field.mask();
        names.push(if is_whole {
            field.name().to_owned()
        } else {
            format!("{}={:#x}", field.name(), Field::extract(*field, own))
        });
    }
    if rest != 0 {
        names.push(format!("{rest:#x} in no field"));
    }
    names
}

/// What is counted of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestCounts {
    /// Registers.
    pub registers: usize,
    /// Registers that hold a value.
    pub values: usize,
    /// Registers that hold KVM's reset poison.
    pub poison: usize,
    /// Counters.
    pub counters: usize,
    /// Registers that cannot be read.
    pub unreadable: usize,
    /// Registers with writable bits; `None` if the kernel does not tell.
    pub writable: Option<usize>,
    /// Registers of which other values were tried.
    pub tried_registers: usize,
}

impl GuestCounts {
    /// Counts a guest's registers.
    pub fn from_guest(guest: &GuestRecord) -> Self {
        let masks = guest.writable.as_ref();
        let mut counts = Self {
            registers: guest.registers.len(),
            writable: masks.map(|masks| masks.values().filter(|mask| **mask != 0).count()),
            ..Self::default()
        };
        for register in &guest.registers {
            match register.at_reset {
                AtReset::Value(_) => counts.values += 1,
                AtReset::Poison => counts.poison += 1,
                AtReset::Counter => counts.counters += 1,
                AtReset::Unreadable(_) => counts.unreadable += 1,
            }
            counts.tried_registers += usize::from(!register.trials.is_empty());
        }
        counts
    }
}

/// An errno of Linux on arm64 (`include/uapi/asm-generic/errno-base.h`): the names of those that KVM answers with.
pub fn errno_name(number: u16) -> String {
    match number {
        1 => "EPERM".to_owned(),
        2 => "ENOENT".to_owned(),
        16 => "EBUSY".to_owned(),
        22 => "EINVAL".to_owned(),
        other => format!("errno {other}"),
    }
}

/// What came of a trial, in words: of one that did not end as its errno lets expect, also what was read then.
pub fn trial_outcome(trial: &WriteTrial) -> String {
    match trial.errno {
        0 if trial.read_back == trial.value => "taken".to_owned(),
        0 => format!("taken, and reads {:#x}", trial.read_back),
        number => format!("refused ({})", errno_name(number)),
    }
}
