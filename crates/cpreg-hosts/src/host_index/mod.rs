//! The host index: all recordings, by register. A register has the kernels and guests that list it,
//! and its values at reset.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`HostIndex`], built recording by recording, queried register by register |
//! | [`text`] | the text form of the index, as in `data/history.txt` |
//! | `words.rs` | words of the text form for hardware facts and accepted values of fields |
//!
//! The recordings are fresh vCPUs of real kernels on **emulated CPUs**. They show the behaviour of
//! the kernels, and prove nothing about a real machine's values. Reports name this origin
//! ([`RECORDING_ORIGIN`]).
//!
//! `cargo xtask gen-history FOLDER` makes `data/history.txt` from the files of `cpreg probe kvm`
//! ([`HostRecord`]). [`HostIndex::record`] returns the content of these files without any loss.
//! [`crate::host`] offers whole hosts as destinations.

pub mod text;
mod words;

use std::collections::BTreeMap;

use cpreg::destination::{AcceptedField, Features};
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;

use crate::record::register::{expected_read_back, reset_value};
use crate::record::{
    AtReset, Capabilities, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial,
};

/// Origin of the recordings, in words for reports.
pub const RECORDING_ORIGIN: &str = "recorded on an emulated CPU";

/// A recorded kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRecord {
    /// Upstream version: `6.12.107`.
    pub version: String,
    /// Release (`uname -r`): `6.12.107+deb13-cloud-arm64`.
    pub release: String,
    /// Version of the distribution's package: `6.12.107-1`. Empty if the kernel does not name a
    /// package.
    pub package: String,
    /// Build (`uname -v`): `#1 SMP Debian 6.12.107-1 (2026-08-29)`.
    pub build: String,
}

impl KernelRecord {
    /// Returns the kernel of a host.
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
    /// Index into [`HostIndex::kernels`].
    pub kernel: usize,
    /// Kernel and CPU, in full.
    pub identity: Identity,
    /// Capabilities of KVM.
    pub capabilities: Capabilities,
    /// Properties that guests see and that no register list holds.
    pub hardware: HardwareFacts,
}

/// One recording: a fresh vCPU of one host with one set of features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Index into [`HostIndex::host_entries`].
    pub host: usize,
    /// Index into [`HostIndex::kernels`].
    pub kernel: usize,
    /// CPU model: `neoverse-n1`.
    pub cpu: String,
    /// Mode of KVM: `nested`, `nvhe`, `mte`; empty if it is the usual one.
    pub mode: String,
    /// Features of the guest.
    pub features: Features,
    /// `true` if the kernel reports the writable bits of ID registers
    /// (`KVM_ARM_GET_REG_WRITABLE_MASKS`).
    pub has_writable_masks: bool,
}

impl Recording {
    /// Returns `true` if the guest has the named feature.
    pub fn has_feature(&self, feature: &str) -> bool {
        Features::from_name(feature).is_some_and(|feature| self.features.contains(feature))
    }
}

/// Index of all recordings by register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostIndex {
    kernels: Vec<KernelRecord>,
    hosts: Vec<HostEntry>,
    recordings: Vec<Recording>,
    registers: BTreeMap<RegisterId, RegisterFacts>,
}

/// Facts about one register in all recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RegisterFacts {
    /// Contents at reset, with the recordings. A recording in none of the sets does not list the
    /// register.
    at_reset: BTreeMap<AtReset, RecordingSet>,
    /// Writable bits, with the recordings.
    writable: BTreeMap<u64, RecordingSet>,
    /// Errnos of failed writes of the original value, with the recordings.
    write_back_errors: BTreeMap<u16, RecordingSet>,
    /// Recordings in which another vCPU of the VM has another value.
    differs_by_vcpu: RecordingSet,
    /// Trials, with the recordings.
    trials: BTreeMap<Vec<NormalizedTrial>, RecordingSet>,
    /// Accepted values of fields, with the recordings that tried them.
    fields: BTreeMap<Vec<AcceptedField>, RecordingSet>,
}

/// A [`WriteTrial`] in a form that is equal for hosts with different values of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NormalizedTrial {
    value: u64,
    errno: u16,
    /// Value read afterwards, unless it is the expected one ([`expected_read_back`]).
    read_back: Option<u64>,
}

impl NormalizedTrial {
    fn from_trial(trial: WriteTrial, reset_value: Option<u64>) -> Self {
        let is_expected =
            expected_read_back(trial.value, trial.errno, reset_value) == Some(trial.read_back);
        Self {
            value: trial.value,
            errno: trial.errno,
            read_back: (!is_expected).then_some(trial.read_back),
        }
    }

    fn to_trial(self, reset_value: Option<u64>) -> WriteTrial {
        let expected = expected_read_back(self.value, self.errno, reset_value);
        WriteTrial {
            value: self.value,
            errno: self.errno,
            read_back: self.read_back.or(expected).unwrap_or_default(),
        }
    }
}

impl RegisterFacts {
    /// Returns the entry of one recording, if it lists the register.
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
            fields: find(&self.fields, number).map(Vec::as_slice),
        })
    }
}

/// Set of recordings, by number.
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

/// A register that one recording lists.
#[derive(Clone, Copy, Debug)]
pub struct RegisterEntry<'a> {
    /// Id of the register.
    pub id: RegisterId,
    /// Number of the recording.
    pub number: usize,
    /// The recording.
    pub recording: &'a Recording,
    /// Content of the register.
    pub at_reset: &'a AtReset,
    /// Bits that user space may change, if the kernel reports them.
    pub writable: Option<u64>,
    /// Errno of writing back the value that was read; 0 on success.
    pub write_back: u16,
    /// `true` if another vCPU of the same VM has another value.
    pub differs_by_vcpu: bool,
    normalized_trials: &'a [NormalizedTrial],
    /// Fields of an ID register that accept more than their value at reset, if they were tried.
    pub fields: Option<&'a [AcceptedField]>,
}

impl RegisterEntry<'_> {
    /// Returns the trials of other values than the one at reset.
    pub fn trials(&self) -> impl Iterator<Item = WriteTrial> {
        let reset_value = reset_value(self.at_reset);
        self.normalized_trials
            .iter()
            .map(move |trial| trial.to_trial(reset_value))
    }

    /// Returns everything that was recorded of the register.
    pub fn to_register(&self) -> RegisterRecord {
        RegisterRecord {
            id: self.id,
            at_reset: self.at_reset.clone(),
            differs_by_vcpu: self.differs_by_vcpu,
            write_back: self.write_back,
            trials: self.trials().collect(),
            fields: self.fields.map(<[_]>::to_vec),
        }
    }
}

impl HostIndex {
    /// Returns the kernels, oldest first.
    pub fn kernels(&self) -> &[KernelRecord] {
        &self.kernels
    }

    /// Returns all recordings; those of one kernel are adjacent.
    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }

    /// Returns the registers that any recording lists, ascending.
    pub fn registers(&self) -> impl Iterator<Item = RegisterId> {
        self.registers.keys().copied()
    }

    /// Returns the recordings that list a register, in order.
    pub fn recordings_with(&self, id: RegisterId) -> impl Iterator<Item = &Recording> {
        let sets = self.registers.get(&id).map(|facts| &facts.at_reset);
        let recordings = self.recordings.iter().enumerate();
        let listing = recordings
            .filter(move |(number, _)| sets.is_some_and(|sets| find(sets, *number).is_some()));
        listing.map(|(_, recording)| recording)
    }

    /// Returns the entries of the recordings that list a register, in order.
    pub fn entries_for_register(&self, id: RegisterId) -> impl Iterator<Item = RegisterEntry<'_>> {
        let facts = self.registers.get(&id);
        let recordings = self.recordings.iter().enumerate();
        recordings.filter_map(move |(number, recording)| facts?.entry(id, number, recording))
    }

    /// Returns the registers that one recording lists, ascending.
    ///
    /// Returns nothing if the index has no recording with this number.
    pub fn entries_in_recording(&self, number: usize) -> impl Iterator<Item = RegisterEntry<'_>> {
        let recording = self.recordings.get(number);
        let registers = self.registers.iter();
        registers.filter_map(move |(id, facts)| facts.entry(*id, number, recording?))
    }

    /// Returns the value at reset of a register of at most 64 bits in one recording.
    pub fn value(&self, id: RegisterId, number: usize) -> Option<u64> {
        match find(&self.registers.get(&id)?.at_reset, number)? {
            AtReset::Value(value) => value.as_u64(),
            _ => None,
        }
    }

    /// Returns the hosts in the order in which they were added.
    pub fn host_entries(&self) -> &[HostEntry] {
        &self.hosts
    }

    /// Returns everything that was recorded of one host, or `None` if the index has no host with
    /// this number.
    pub fn record(&self, host: usize) -> Option<HostRecord> {
        let entry = self.hosts.get(host)?;
        let recordings = self.recordings.iter().enumerate();
        let recordings = recordings.filter(|(_, recording)| recording.host == host);
        let guests = recordings.map(|(number, recording)| {
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
                    .map(|entry| entry.to_register())
                    .collect(),
                writable: recording.has_writable_masks.then(masks),
            };
            (recording.features, guest)
        });
        Some(HostRecord {
            identity: entry.identity.clone(),
            capabilities: entry.capabilities.clone(),
            guests: guests.collect(),
            hardware: entry.hardware,
        })
    }

    /// Adds a host. The caller adds the hosts of one kernel together, and older kernels first.
    pub fn add_record(&mut self, record: &HostRecord) {
        let new_kernel = KernelRecord::from_identity(&record.identity);
        let known = self.kernels.iter().position(|kernel| *kernel == new_kernel);
        let kernel = known.unwrap_or_else(|| {
            self.kernels.push(new_kernel);
            self.kernels.len() - 1
        });
        let host = self.hosts.len();
        self.hosts.push(HostEntry {
            kernel,
            // The index is about kernels and models of CPUs, not about single machines.
            identity: Identity {
                cpus: Vec::new(),
                ..record.identity.clone()
            },
            capabilities: record.capabilities.clone(),
            hardware: record.hardware,
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
    /// Adds the register's record in one recording.
    fn add(&mut self, number: usize, register: &RegisterRecord) {
        let at_reset = self.at_reset.entry(register.at_reset.clone()).or_default();
        at_reset.insert(number);
        if register.write_back != 0 {
            let recordings = self
                .write_back_errors
                .entry(register.write_back)
                .or_default();
            recordings.insert(number);
        }
        if register.differs_by_vcpu {
            self.differs_by_vcpu.insert(number);
        }
        if !register.trials.is_empty() {
            let reset_value = reset_value(&register.at_reset);
            let trials = register.trials.iter();
            let trials = trials
                .map(|trial| NormalizedTrial::from_trial(*trial, reset_value))
                .collect();
            self.trials.entry(trials).or_default().insert(number);
        }
        if let Some(fields) = &register.fields {
            let recordings = self.fields.entry(fields.clone()).or_default();
            recordings.insert(number);
        }
    }
}

/// Returns the key whose set contains the recording with this number.
fn find<K>(sets: &BTreeMap<K, RecordingSet>, number: usize) -> Option<&K> {
    let entry = sets.iter().find(|(_, set)| set.contains(number));
    entry.map(|(key, _)| key)
}

#[cfg(test)]
mod tests;
