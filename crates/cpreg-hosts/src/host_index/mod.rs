//! The history: which recorded kernels list a register, for which guests, and with what value at reset.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | [`HostIndex`], made recording by recording, and asked register by register |
//! | [`text`] | its text form, in which it is checked in |
//!
//! The recordings are fresh vCPUs of real kernels on **emulated CPUs**: they are right about what kernels do, and prove nothing
//! about a real machine's values. Whoever shows them says so ([`SOURCE`]).
//!
//! `cargo xtask gen-history FOLDER` makes `data/history.txt` out of what `cpreg probe kvm` wrote ([`HostRecord`]), and
//! [`HostIndex::record`] gives it back: nothing that was recorded is lost. What a difference between two kernels means does not live here, nor does a whole host to plan for
//! ([`crate::host`]).

pub mod text;

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::RegisterId;

use crate::record::register::{expected_read_back, reset_value};
use crate::record::{
    AtReset, Capabilities, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial,
};

/// Where the recordings come from, in words for reports.
pub const SOURCE: &str = "recorded on an emulated CPU";

/// A recorded kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRecord {
    /// Its upstream version: `6.12.107`.
    pub version: String,
    /// What `uname -r` says: `6.12.107+deb13-cloud-arm64`.
    pub release: String,
    /// The version of the distribution's package: `6.12.107-1`; empty if the kernel does not say it.
    pub package: String,
    /// What `uname -v` says: `#1 SMP Debian 6.12.107-1 (2026-08-29)`.
    pub build: String,
}

impl KernelRecord {
    /// The kernel of a host.
    pub fn from_identity(identity: &Identity) -> Self {
        Self {
            version: identity.upstream().to_owned(),
            release: identity.release.clone(),
            package: identity.package().unwrap_or_default().to_owned(),
            build: identity.version.clone(),
        }
    }
}

/// A recorded host: a kernel on a CPU, in a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// Which of [`HostIndex::kernels`].
    pub kernel: usize,
    /// Which kernel and CPU, in full.
    pub identity: Identity,
    /// What it says it can do.
    pub capabilities: Capabilities,
}

/// One recording: a fresh vCPU of one host with one set of features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Which of [`HostIndex::recorded`].
    pub host: usize,
    /// Which of [`HostIndex::kernels`].
    pub kernel: usize,
    /// The CPU model: `neoverse-n1`.
    pub cpu: String,
    /// What was special about the host: `nested`, `nvhe`, `mte`; empty if nothing.
    pub mode: String,
    /// The guest's features.
    pub features: Features,
    /// Whether the kernel tells which bits of ID registers may be written (`KVM_ARM_GET_REG_WRITABLE_MASKS`).
    pub has_writable_masks: bool,
}

impl Recording {
    /// Whether the guest has this feature, by its name.
    pub fn has_feature(&self, feature: &str) -> bool {
        Features::from_name(feature).is_some_and(|feature| self.features.contains(feature))
    }
}

/// What the recordings say about every register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostIndex {
    kernels: Vec<KernelRecord>,
    hosts: Vec<HostEntry>,
    recordings: Vec<Recording>,
    registers: BTreeMap<RegisterId, RegisterFacts>,
}

/// What all recordings say about one register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RegisterFacts {
    /// What it held, and in which recordings: those that list it.
    at_reset: BTreeMap<AtReset, RecordingSet>,
    /// The bits that may be written, and in which recordings.
    writable: BTreeMap<u64, RecordingSet>,
    /// The errno of a failed writing back, and in which recordings.
    write_back_errors: BTreeMap<u16, RecordingSet>,
    /// The recordings in which another vCPU of the VM held something else.
    differs_by_vcpu: RecordingSet,
    /// What was tried, and in which recordings.
    trials: BTreeMap<Vec<NormalizedTrial>, RecordingSet>,
}

/// A [`WriteTrial`], in such a form that trials of hosts with different values of a register are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NormalizedTrial {
    value: u64,
    errno: u16,
    /// What was read afterwards, unless that goes without saying ([`expected`]).
    read_back: Option<u64>,
}

impl NormalizedTrial {
    fn from_trial(trial: WriteTrial, own: Option<u64>) -> Self {
        let is_expected =
            expected_read_back(trial.value, trial.errno, own) == Some(trial.read_back);
        Self {
            value: trial.value,
            errno: trial.errno,
            read_back: (!is_expected).then_some(trial.read_back),
        }
    }

    fn to_trial(self, own: Option<u64>) -> WriteTrial {
        let expected = expected_read_back(self.value, self.errno, own);
        WriteTrial {
            value: self.value,
            errno: self.errno,
            read_back: self.read_back.or(expected).unwrap_or_default(),
        }
    }
}

impl RegisterFacts {
    /// What one recording says, if it lists the register.
    fn entry<'a>(
        &'a self,
        id: RegisterId,
        number: usize,
        recording: &'a Recording,
    ) -> Option<RegisterEntry<'a>> {
        Some(RegisterEntry {
            id,
            number,
            recording,
            at_reset: find(&self.at_reset, number)?,
            writable: find(&self.writable, number).copied(),
            write_back: find(&self.write_back_errors, number).copied().unwrap_or(0),
            differs_by_vcpu: self.differs_by_vcpu.contains(number),
            normalized_trials: find(&self.trials, number).map_or(&[], Vec::as_slice),
        })
    }
}

/// Some of the recordings, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct RecordingSet(Vec<u64>);

impl RecordingSet {
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
pub struct RegisterEntry<'a> {
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
    /// Whether another vCPU of the same VM held something else.
    pub differs_by_vcpu: bool,
    normalized_trials: &'a [NormalizedTrial],
}

impl RegisterEntry<'_> {
    /// The other values that were tried.
    pub fn trials(&self) -> impl Iterator<Item = WriteTrial> {
        let own = reset_value(self.at_reset);
        self.normalized_trials
            .iter()
            .map(move |tried| tried.to_trial(own))
    }

    /// All that was recorded of the register.
    pub fn to_register(&self) -> RegisterRecord {
        RegisterRecord {
            id: self.id,
            at_reset: self.at_reset.clone(),
            differs_by_vcpu: self.differs_by_vcpu,
            write_back: self.write_back,
            trials: self.trials().collect(),
        }
    }
}

impl HostIndex {
    /// The kernels, oldest first.
    pub fn kernels(&self) -> &[KernelRecord] {
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
    pub fn entries_for_register(&self, id: RegisterId) -> impl Iterator<Item = RegisterEntry<'_>> {
        let facts = self.registers.get(&id);
        let recordings = self.recordings.iter().enumerate();
        recordings.filter_map(move |(number, recording)| facts?.entry(id, number, recording))
    }

    /// The registers that one recording lists, ascending; none if there is no recording of that number.
    pub fn entries_in_recording(&self, number: usize) -> impl Iterator<Item = RegisterEntry<'_>> {
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

    /// The hosts, in the order in which they were added.
    pub fn host_entries(&self) -> &[HostEntry] {
        &self.hosts
    }

    /// All that was recorded of one host; `None` if there is none of that number.
    pub fn record(&self, host: usize) -> Option<HostRecord> {
        let recorded = self.hosts.get(host)?;
        let recordings = self.recordings.iter().enumerate();
        let own = recordings.filter(|(_, recording)| recording.host == host);
        let guests = own.map(|(number, recording)| {
            let masks = || {
                let registers = self.registers.iter();
                let masks = registers.filter_map(|(id, facts)| {
                    find(&facts.writable, number).map(|mask| (*id, *mask))
                });
                masks.collect()
            };
            let guest = GuestRecord {
                registers: self
                    .entries_in_recording(number)
                    .map(|it| it.to_register())
                    .collect(),
                writable: recording.has_writable_masks.then(masks),
            };
            (recording.features, guest)
        });
        Some(HostRecord {
            identity: recorded.identity.clone(),
            capabilities: recorded.capabilities.clone(),
            guests: guests.collect(),
        })
    }

    /// Adds a host. Those of one kernel are to be added one after another, and older kernels first.
    pub fn add_record(&mut self, record: &HostRecord) {
        let own = KernelRecord::from_identity(&record.identity);
        let known = self.kernels.iter().position(|kernel| *kernel == own);
        let kernel = known.unwrap_or_else(|| {
            self.kernels.push(own);
            self.kernels.len() - 1
        });
        let host = self.hosts.len();
        self.hosts.push(HostEntry {
            kernel,
            identity: record.identity.clone(),
            capabilities: record.capabilities.clone(),
        });
        for (features, guest) in &record.guests {
            let number = self.recordings.len();
            self.recordings.push(Recording {
                host,
                kernel,
                cpu: record.identity.cpu.clone(),
                mode: record.identity.mode.clone(),
                features: *features,
                has_writable_masks: guest.writable.is_some(),
            });
            for register in &guest.registers {
                self.registers
                    .entry(register.id)
                    .or_default()
                    .add(number, register);
            }
            for (id, mask) in guest.writable.iter().flatten() {
                let facts = self.registers.entry(*id).or_default();
                facts.writable.entry(*mask).or_default().insert(number);
            }
        }
    }
}

impl RegisterFacts {
    /// What one recording says.
    fn add(&mut self, number: usize, register: &RegisterRecord) {
        let at_reset = self.at_reset.entry(register.at_reset.clone()).or_default();
        at_reset.insert(number);
        if register.write_back != 0 {
            let refused = self
                .write_back_errors
                .entry(register.write_back)
                .or_default();
            refused.insert(number);
        }
        if register.differs_by_vcpu {
            self.differs_by_vcpu.insert(number);
        }
        if !register.trials.is_empty() {
            let own = reset_value(&register.at_reset);
            let trials = register.trials.iter();
            let tried = trials
                .map(|trial| NormalizedTrial::from_trial(*trial, own))
                .collect();
            self.trials.entry(tried).or_default().insert(number);
        }
    }
}

fn find<K>(sets: &BTreeMap<K, RecordingSet>, number: usize) -> Option<&K> {
    let found = sets.iter().find(|(_, set)| set.contains(number));
    found.map(|(key, _)| key)
}

#[cfg(test)]
mod tests;
