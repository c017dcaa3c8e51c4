//! The history: which recorded kernels list a register, for which guests, and with what value at reset.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | [`History`], made recording by recording, and asked register by register |
//! | [`text`] | its text form, in which it is checked in |
//!
//! The recordings are fresh vCPUs of real kernels on **emulated CPUs**: they are right about what kernels do, and prove nothing
//! about a real machine's values. Whoever shows them says so ([`SOURCE`]).
//!
//! `cargo xtask gen-history FOLDER` makes `data/history.txt` out of recordings; anything else that lists registers can feed
//! [`History::add`] as well. What a difference between two kernels means does not live here, nor does a whole host to plan for
//! ([`crate::host`]).

pub mod text;

use std::collections::BTreeMap;

use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;

pub use text::ParseHistoryError;

/// Where the recordings come from, in words for reports.
pub const SOURCE: &str = "recorded on an emulated CPU";

/// The checked-in recordings.
const BUILT_IN: &str = include_str!("../../data/history.txt");

/// KVM's reset poison, whole or, in a register of 32 bits, its low half.
const POISON: [u64; 2] = [RESET_POISON, RESET_POISON & 0xffff_ffff];

/// A recorded kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its upstream version: `6.12.107`.
    pub version: String,
    /// What `uname -r` says: `6.12.107+deb13-cloud-arm64`.
    pub release: String,
    /// The version of the distribution's package: `6.12.107-1`.
    pub package: String,
}

/// One recording: a fresh vCPU of one kernel, CPU model and set of features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Which of [`History::kernels`].
    pub kernel: usize,
    /// The emulated CPU model: `neoverse-n1`.
    pub cpu: String,
    /// What was special about the host: `nested`, `nvhe`, `mte`; empty if nothing.
    pub mode: String,
    /// The guest's features, as `KVM_ARM_VCPU_INIT` and the VM's capabilities were asked for them: `pmu`, `sve`, `ptrauth`,
    /// `el1-32bit`, `el2`, `el2-e2h0`, `mte`.
    pub features: Vec<String>,
    /// Whether the kernel tells which bits of ID registers may be written (`KVM_ARM_GET_REG_WRITABLE_MASKS`).
    pub tells_writable: bool,
}

impl Recording {
    /// Whether the guest has this feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|own| own == feature)
    }
}

/// What a register held in a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtReset {
    /// This value.
    Value(Value),
    /// KVM's reset poison, which stands for no value.
    Poison,
    /// It is a counter, which runs on.
    Counts,
    /// Reading it failed with this errno.
    Unreadable(u16),
}

impl AtReset {
    /// What it means that this value was read.
    pub fn of(id: RegisterId, value: Value) -> Self {
        if id.is_counter(cpreg::register::Naming::Kvm) {
            return Self::Counts;
        }
        match value {
            Value::Small(small) if POISON.contains(&small) => Self::Poison,
            value => Self::Value(value),
        }
    }
}

/// One register of a recording that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which register.
    pub id: RegisterId,
    /// What it held.
    pub at_reset: AtReset,
    /// The errno of writing back what was read; 0 if that worked.
    pub write_back: u16,
    /// The bits that user space may change, where the kernel tells.
    pub writable: Option<u64>,
}

/// What the recordings say about every register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    kernels: Vec<Kernel>,
    recordings: Vec<Recording>,
    registers: BTreeMap<RegisterId, Facts>,
}

/// What all recordings say about one register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// What it held, and in which recordings: those that list it.
    at_reset: BTreeMap<AtReset, Set>,
    /// The bits that may be written, and in which recordings.
    writable: BTreeMap<u64, Set>,
    /// The errno of a failed writing back, and in which recordings.
    refused: BTreeMap<u16, Set>,
}

impl Facts {
    /// What one recording says, if it lists the register.
    fn entry<'a>(
        &'a self,
        id: RegisterId,
        number: usize,
        recording: &'a Recording,
    ) -> Option<Entry<'a>> {
        Some(Entry {
            id,
            number,
            recording,
            at_reset: find(&self.at_reset, number)?,
            writable: find(&self.writable, number).copied(),
            write_back: find(&self.refused, number).copied().unwrap_or(0),
        })
    }
}

/// Some of the recordings, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Set(Vec<u64>);

impl Set {
    fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (number % 64);
        }
    }

    fn contains(&self, number: usize) -> bool {
        let word = self.0.get(number / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

/// What one recording says about a register that it lists.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Which register.
    pub id: RegisterId,
    /// The number of the recording.
    pub number: usize,
    /// The recording.
    pub recording: &'a Recording,
    /// What the register held.
    pub at_reset: &'a AtReset,
    /// The bits that user space may change, where the kernel tells.
    pub writable: Option<u64>,
    /// The errno of writing back what was read; 0 if that worked.
    pub write_back: u16,
}

impl History {
    /// The recordings that come with cpreg.
    ///
    /// # Errors
    /// If the checked-in text is none of ours, which a test rules out.
    pub fn built_in() -> Result<Self, ParseHistoryError> {
        Self::parse(BUILT_IN)
    }

    /// The kernels, oldest first.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// All recordings; those of one kernel stand together.
    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }

    /// The registers that any recording lists, ascending.
    pub fn registers(&self) -> impl Iterator<Item = RegisterId> {
        self.registers.keys().copied()
    }

    /// The recordings that list a register, in order; none if no recording does.
    pub fn of(&self, id: RegisterId) -> impl Iterator<Item = Entry<'_>> {
        let facts = self.registers.get(&id);
        let recordings = self.recordings.iter().enumerate();
        recordings.filter_map(move |(number, recording)| facts?.entry(id, number, recording))
    }

    /// The registers that one recording lists, ascending; none if there is no recording of that number.
    pub fn listed(&self, number: usize) -> impl Iterator<Item = Entry<'_>> {
        let recording = self.recordings.get(number);
        let registers = self.registers.iter();
        registers.filter_map(move |(id, facts)| facts.entry(*id, number, recording?))
    }

    /// What a register of at most 64 bits held in one recording.
    pub fn value(&self, id: RegisterId, number: usize) -> Option<u64> {
        match find(&self.registers.get(&id)?.at_reset, number)? {
            AtReset::Value(value) => value.as_u64(),
            _ => None,
        }
    }

    /// Adds a kernel, and gives its number.
    pub fn add_kernel(&mut self, kernel: Kernel) -> usize {
        self.kernels.push(kernel);
        self.kernels.len() - 1
    }

    /// Adds a recording.
    pub fn add(&mut self, recording: Recording, listed: impl IntoIterator<Item = Listed>) {
        let number = self.recordings.len();
        self.recordings.push(recording);
        for register in listed {
            let facts = self.registers.entry(register.id).or_default();
            let at_reset = facts.at_reset.entry(register.at_reset).or_default();
            at_reset.insert(number);
            if let Some(mask) = register.writable {
                facts.writable.entry(mask).or_default().insert(number);
            }
            if register.write_back != 0 {
                let refused = facts.refused.entry(register.write_back).or_default();
                refused.insert(number);
            }
        }
    }
}

fn find<K>(sets: &BTreeMap<K, Set>, number: usize) -> Option<&K> {
    let found = sets.iter().find(|(_, set)| set.contains(number));
    found.map(|(key, _)| key)
}

#[cfg(test)]
mod tests;
