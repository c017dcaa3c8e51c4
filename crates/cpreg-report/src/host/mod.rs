//! Report of `show` for a recorded host: the host, and one of its guests if the user selects a
//! guest.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the view, for both forms, and the counts of a guest |
//! | [`text`] | text of the view |
//! | [`model`] | its model, schema `cpreg.show-host/2` |
//! | `json` | conversion of the view to the model |
//!
//! The report of a guest has all registers that KVM lists for the guest. KVM's list includes core
//! and vector registers, which a migration stream stores outside the register list.

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

/// Prefix of the names of capabilities.
const CAPABILITY_PREFIX: &str = "KVM_CAP_";

/// A recorded host, as `show` presents it.
#[derive(Debug)]
pub struct HostView<'a> {
    /// Argument that names the host, without features.
    pub argument: &'a str,
    /// The host.
    pub record: &'a HostRecord,
    /// Guest that the user selected; `None` for the host itself.
    pub guest: Option<GuestView<'a>>,
    /// Format of names and values.
    pub value_format: ValueFormat,
}

/// One of the host's guests.
#[derive(Debug)]
pub struct GuestView<'a> {
    /// vCPU features of the guest.
    pub features: Features,
    guest: &'a GuestRecord,
    /// vCPU of the guest in the form of a destination, which holds the accepted values.
    vcpu: DestinationVcpu,
    /// Registers that the user selected; an empty list selects all registers.
    pub selection: Vec<RegisterSelection>,
    /// `true` if the text also lists the fields of each register.
    pub show_fields: bool,
}

impl<'a> GuestView<'a> {
    /// Creates the view of the guest with these features.
    ///
    /// # Errors
    /// Returns an error if the host has no recording for such a guest.
    pub fn new(
        argument: &str,
        record: &'a HostRecord,
        features: Features,
        selection: Vec<RegisterSelection>,
        show_fields: bool,
    ) -> Result<Self, Error> {
        let guest = record.guests.get(&features).ok_or_else(|| {
            let recorded = record.guests.keys().map(ToString::to_string);
            let recorded: Vec<_> = recorded.collect();
            Error::for_host(
                ErrorKind::GuestNotRecorded,
                format!("{argument} has no recording for guests with the features {features}"),
                format!("recorded features: {}", recorded.join("; ")),
            )
        })?;
        Ok(Self {
            features,
            guest,
            vcpu: guest.to_destination_vcpu(),
            selection,
            show_fields,
        })
    }

    /// Returns the registers to show.
    pub fn registers(&self) -> impl Iterator<Item = &'a RegisterRecord> {
        let is_selected = |id| {
            self.selection.is_empty() || self.selection.iter().any(|selected| selected.id == id)
        };
        let registers = self.guest.registers.iter();
        registers.filter(move |register| is_selected(register.id))
    }

    /// Returns all registers that are listed, also those that are not selected.
    pub fn listed_registers(&self) -> impl Iterator<Item = RegisterId> {
        self.guest.registers.iter().map(|register| register.id)
    }

    /// Returns the selected registers that are not listed.
    pub fn missing_registers(&self) -> impl Iterator<Item = RegisterId> {
        let registers = &self.guest.registers;
        let is_listed = |id| registers.iter().any(|register| register.id == id);
        let ids = self.selection.iter().map(|selected| selected.id);
        ids.filter(move |id| !is_listed(*id))
    }

    /// Returns the bits that user space may change, if the kernel reports them.
    pub fn writable(&self, id: RegisterId) -> Option<u64> {
        self.guest.writable.as_ref()?.get(&id).copied()
    }

    /// Returns the accepted values; `None` unless the recording tried all relevant values.
    pub fn accepted_values(&self, id: RegisterId) -> Option<TestedValues> {
        match &self.vcpu.get(id)?.accepted_values {
            AcceptedValues::OneOf(values) => Some(TestedValues::OneOf(values.clone())),
            AcceptedValues::Subset(bits) => Some(TestedValues::Bits(*bits)),
            AcceptedValues::ByKind | AcceptedValues::Writable(_) | AcceptedValues::Fields(_) => {
                None
            }
        }
    }
}

/// Accepted values of a register, as found by trials on the recorded host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TestedValues {
    /// Exactly these values.
    OneOf(Vec<u64>),
    /// Any combination of these bits.
    Bits(u64),
}

impl TestedValues {
    /// Returns the accepted values of the register `id` in words.
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

/// Returns a value with its name, if it has one.
fn format_named_value(id: RegisterId, value: u64) -> String {
    match id.value_name(value) {
        Some(name) => format!("{name} ({value:#x})"),
        None => format!("{value:#x}"),
    }
}

/// Returns the names of the fields that have bits in a mask, and the bits outside all fields.
pub fn describe_mask(id: RegisterId, mask: u64) -> Vec<String> {
    let mut rest = mask;
    let mut names = Vec::new();
    for field in id.fields() {
        let bits = field.mask() & mask;
        if bits == 0 {
            continue;
        }
        rest &= !bits;
        let is_whole = bits == field.mask();
        names.push(if is_whole {
            field.name().to_owned()
        } else {
            format!("{}={:#x}", field.name(), Field::extract(*field, bits))
        });
    }
    if rest != 0 {
        names.push(format!("{rest:#x} in no field"));
    }
    names
}

/// Numbers of a guest's registers, by kind of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestCounts {
    /// Number of registers that KVM lists.
    pub registers: usize,
    /// Number of registers that hold a value.
    pub values: usize,
    /// Number of registers that hold KVM's reset poison.
    pub poison: usize,
    /// Number of counters, whose value changes from read to read.
    pub counters: usize,
    /// Number of registers that KVM does not read.
    pub unreadable: usize,
    /// Number of registers with writable bits; `None` if the kernel does not report writable bits.
    pub writable: Option<usize>,
    /// Number of registers for which the recording tried other values.
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

/// Returns the name of an errno that KVM returns on arm64
/// (`include/uapi/asm-generic/errno-base.h`), or its number.
pub fn errno_name(number: u16) -> String {
    match number {
        1 => "EPERM".to_owned(),
        2 => "ENOENT".to_owned(),
        16 => "EBUSY".to_owned(),
        22 => "EINVAL".to_owned(),
        other => format!("errno {other}"),
    }
}

/// Returns the result of a trial in words. If KVM accepted the value but the register reads back
/// another one, the text has the value read back.
pub fn trial_outcome(trial: &WriteTrial) -> String {
    match trial.errno {
        0 if trial.read_back == trial.value => "accepted".to_owned(),
        0 => format!("accepted, reads back {:#x}", trial.read_back),
        number => format!("refused ({})", errno_name(number)),
    }
}
