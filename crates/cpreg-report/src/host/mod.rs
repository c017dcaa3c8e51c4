//! What a recorded host is, for `show`: the host, and one of its guests if that is asked for.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, once, for both forms; what is counted of a guest |
//! | [`text`] | its text |
//! | [`model`] | its model, schema `cpreg.show-host/1` |
//! | `json` | the answer as its model |
//!
//! A guest is shown with all that KVM lists for it, core registers and vectors included, which QEMU keeps elsewhere.

pub(crate) mod json;
pub mod model;
pub mod text;

use cpreg::destination::{Accepts, Features, HostVcpu};
use cpreg::register::{Field, RegisterId};
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::{AtReset, Guest, Register, Trial};

use crate::error::{Error, ErrorKind};
use crate::field::Wanted;
use crate::value::Printing;

/// Capabilities' names begin with it.
const CAPABILITY: &str = "KVM_CAP_";

/// What is shown.
#[derive(Debug)]
pub struct ShownHost<'a> {
    /// How the host is written, features aside.
    pub written: &'a str,
    /// The host.
    pub record: &'a HostRecord,
    /// The guest that is shown.
    pub guest: Option<ShownGuest<'a>>,
    /// Style of names and values.
    pub printing: Printing,
}

/// One of its guests.
#[derive(Debug)]
pub struct ShownGuest<'a> {
    /// Its features.
    pub features: Features,
    guest: &'a Guest,
    /// The same as a destination has it: what its trials tell of the values that are taken.
    vcpu: HostVcpu,
    /// Only these, if there are any.
    pub wanted: Vec<Wanted>,
    /// Decode fields.
    pub fields: bool,
}

impl<'a> ShownGuest<'a> {
    /// The guest with these features.
    ///
    /// # Errors
    /// If it was not recorded.
    pub fn new(
        written: &str,
        record: &'a HostRecord,
        features: Features,
        wanted: Vec<Wanted>,
        fields: bool,
    ) -> Result<Self, Error> {
        let guest = record.guests.get(&features).ok_or_else(|| {
            let recorded = record.guests.keys().map(ToString::to_string);
            let recorded: Vec<_> = recorded.collect();
            Error::of_host(
                ErrorKind::GuestNotRecorded,
                format!("{written} was not recorded for guests with the features {features}"),
                format!("recorded are {}", recorded.join("; ")),
            )
        })?;
        Ok(Self {
            features,
            guest,
            vcpu: guest.to_host_vcpu(),
            wanted,
            fields,
        })
    }

    /// The registers that are shown.
    pub fn registers(&self) -> impl Iterator<Item = &'a Register> {
        let is_wanted = |id| self.wanted.is_empty() || self.wanted.iter().any(|it| it.id == id);
        let registers = self.guest.registers.iter();
        registers.filter(move |register| is_wanted(register.id))
    }

    /// Those that were asked for and are not listed.
    pub fn missing(&self) -> impl Iterator<Item = RegisterId> {
        let registers = &self.guest.registers;
        let is_there = |id| registers.iter().any(|register| register.id == id);
        let ids = self.wanted.iter().map(|wanted| wanted.id);
        ids.filter(move |id| !is_there(*id))
    }

    /// The bits that user space may change, where the kernel tells.
    pub fn writable(&self, id: RegisterId) -> Option<u64> {
        self.guest.writable.as_ref()?.get(&id).copied()
    }

    /// The values that are taken, where all that count were tried.
    pub fn takes(&self, id: RegisterId) -> Option<Takes> {
        match &self.vcpu.get(id)?.accepts {
            Accepts::OneOf(values) => Some(Takes::OneOf(values.clone())),
            Accepts::Subset(bits) => Some(Takes::Bits(*bits)),
            Accepts::ByKind | Accepts::Writable(_) => None,
        }
    }
}

/// The values that are taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// Just these.
    OneOf(Vec<u64>),
    /// Any of these bits.
    Bits(u64),
}

impl Takes {
    /// In words; `id`: of which register.
    pub fn in_words(&self, id: RegisterId) -> String {
        match self {
            Self::OneOf(values) => {
                let values = values.iter().map(|value| named(id, *value));
                values.collect::<Vec<_>>().join(", ")
            }
            Self::Bits(0) => "no bits".to_owned(),
            Self::Bits(bits) => format!("bits {bits:#x} ({})", fields_in(id, *bits).join(", ")),
        }
    }
}

/// A value with its name, if it has one.
fn named(id: RegisterId, value: u64) -> String {
    match id.value_name(value) {
        Some(name) => format!("{name} ({value:#x})"),
        None => format!("{value:#x}"),
    }
}

/// The names of the fields that have bits in a mask, and the bits that are in none.
pub fn fields_in(id: RegisterId, mask: u64) -> Vec<String> {
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
pub struct Counts {
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
    pub tried: usize,
}

impl Counts {
    /// Counts a guest's registers.
    pub fn of(guest: &Guest) -> Self {
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
                AtReset::Counts => counts.counters += 1,
                AtReset::Unreadable(_) => counts.unreadable += 1,
            }
            counts.tried += usize::from(!register.trials.is_empty());
        }
        counts
    }
}

/// An errno of Linux on arm64 (`include/uapi/asm-generic/errno-base.h`): the names of those that KVM answers with.
pub fn errno(number: u16) -> String {
    match number {
        1 => "EPERM".to_owned(),
        2 => "ENOENT".to_owned(),
        16 => "EBUSY".to_owned(),
        22 => "EINVAL".to_owned(),
        other => format!("errno {other}"),
    }
}

/// What came of a trial, in words: of one that did not end as its errno lets expect, also what was read then.
pub fn outcome(trial: &Trial) -> String {
    match trial.errno {
        0 if trial.reads == trial.value => "taken".to_owned(),
        0 => format!("taken, and reads {:#x}", trial.reads),
        number => format!("refused ({})", errno(number)),
    }
}
