//! [`History`]: the reason of a difference between two kernels.
//!
//! The recordings show between which kernels the behaviour changed. A change of Linux in the tables
//! is a reason only if its release lies between these kernels.

use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::{Accelerator, Version, kernel};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::{RegisterDifference, Tolerance, Tolerances};
use cpreg_hosts::HostIndex;
use cpreg_hosts::host_index::{Recording, RegisterEntry};
use cpreg_hosts::kernel_name::KernelName;
use cpreg_hosts::kernel_selection::SelectedKernel;
use cpreg_hosts::record::{AtReset, WriteTrial};

use super::model::{KernelDifference, KernelDifferenceKind as Kind, Reason, RecordedChange};
use super::rows::Row;
use crate::tolerance::model::HistoryEntry;
use crate::tolerance::text::{condition, difference, handling};

/// Key of a reason; keys are in the order of the kernels.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReasonKey {
    /// Numbers of the kernels before and after each change.
    changes: BTreeSet<(usize, usize)>,
    /// `true` if no table knows the change; such reasons are last.
    is_unexplained: bool,
    /// Release, commit and description of each known change.
    history: Vec<(String, String, String)>,
    tolerances: Vec<String>,
}

/// Part of a recorded register that a kind of difference is about.
#[derive(PartialEq)]
enum Facet {
    Absent,
    Listed,
    AtReset(AtReset),
    WriteBack(u16),
    Writable(u64),
    Trials(Vec<WriteTrial>),
    Capability(i32),
}

/// Recordings and tables, limited to the kernels between two kernels.
pub(super) struct History<'a> {
    index: &'a HostIndex,
    tolerances: &'a Tolerances,
    /// Numbers of the older and the newer kernel.
    range: (usize, usize),
}

impl<'a> History<'a> {
    pub(super) fn new(
        index: &'a HostIndex,
        tolerances: &'a Tolerances,
        a: &SelectedKernel<'_>,
        b: &SelectedKernel<'_>,
    ) -> Self {
        let number = |kernel: &SelectedKernel<'_>| {
            let mut kernels = index.kernels().iter();
            kernels.position(|it| it == kernel.record).unwrap_or(0)
        };
        let (a, b) = (number(a), number(b));
        Self {
            index,
            tolerances,
            range: (a.min(b), a.max(b)),
        }
    }

    /// Returns the reason of a row.
    pub(super) fn reason(
        &self,
        kind: Kind,
        id: Option<RegisterId>,
        name: &str,
        row: &Row,
    ) -> ReasonKey {
        let changes = match id {
            Some(id) => self.register_changes(kind, id, row),
            None => self.capability_changes(name, row),
        };
        let entries: Vec<&Tolerance> = id.map_or_else(Vec::new, |id| self.entries(kind, id));
        let mut history = Vec::new();
        for change in entries.iter().flat_map(|entry| &entry.history) {
            let change = (change.release, change.commit, change.description.to_owned());
            if self.is_between(&changes, linux_release(change.0)) && !history.contains(&change) {
                history.push(change);
            }
        }
        let gate = id.and_then(kernel::find_feature_gate);
        if let Some(gate) = gate.filter(|_| is_one_sided(kind) && history.is_empty())
            && self.is_between(&changes, Some(gate.since))
        {
            let (release, commit) = gate
                .first_version
                .split_once(' ')
                .unwrap_or((gate.first_version, ""));
            let description = format!(
                "listed only if {}.{} is not {}",
                gate.id_register,
                gate.field,
                gate.low_values()
            );
            history.push((release, commit.trim_matches(['(', ')']), description));
        }
        let history = history.into_iter();
        let tolerances = entries.iter().map(|entry| {
            format!(
                "{}: {}{}: {}",
                difference(entry.difference),
                handling(entry.handling),
                condition(&entry.condition),
                entry.reason
            )
        });
        ReasonKey {
            is_unexplained: history.len() == 0,
            history: history
                .map(|(release, commit, text)| (release.to_owned(), commit.to_owned(), text))
                .collect(),
            tolerances: tolerances.collect(),
            changes,
        }
    }

    /// Converts a reason and its differences.
    pub(super) fn describe(&self, key: ReasonKey, differences: Vec<KernelDifference>) -> Reason {
        let version = |number: usize| {
            let kernel = self.index.kernels().get(number);
            kernel
                .map(|kernel| kernel.version.clone())
                .unwrap_or_default()
        };
        let changes = key
            .changes
            .into_iter()
            .map(|(before, after)| RecordedChange {
                before: version(before),
                after: version(after),
            });
        let history = key.history.into_iter();
        let history = history.map(|(release, commit, description)| HistoryEntry {
            release,
            commit,
            description,
        });
        Reason {
            changes: changes.collect(),
            history: history.collect(),
            tolerances: key.tolerances,
            differences,
        }
    }

    /// Returns the entries of the table for a kind of difference, in either direction.
    fn entries(&self, kind: Kind, id: RegisterId) -> Vec<&'a Tolerance> {
        let is_about_values =
            |entry: &Tolerance| entry.difference == RegisterDifference::ValueNotAccepted;
        let entries = self.tolerances.entries().iter();
        entries
            .filter(|entry| entry.registers.contains(id))
            .filter(|entry| entry.accelerator.is_none_or(|it| it == Accelerator::Kvm))
            .filter(|entry| is_about_values(entry) != is_one_sided(kind))
            .collect()
    }

    /// Returns `true` if one of the changes can be that of a Linux release.
    fn is_between(&self, changes: &BTreeSet<(usize, usize)>, release: Option<Version>) -> bool {
        let series = |number: usize| {
            let kernel = self.index.kernels().get(number)?;
            KernelName::parse(&kernel.version).map(|name| name.series)
        };
        let mut changes = changes.iter();
        changes.any(|(before, after)| series(*before) < release && release <= series(*after))
    }

    /// Returns the kernels between which a register changed for the guests of a row.
    fn register_changes(&self, kind: Kind, id: RegisterId, row: &Row) -> BTreeSet<(usize, usize)> {
        let entries: BTreeMap<usize, RegisterEntry<'_>> = self
            .index
            .entries_for_register(id)
            .map(|entry| (entry.number, entry))
            .collect();
        let mut sequences: BTreeMap<(String, _), Vec<(usize, Facet)>> = BTreeMap::new();
        for (number, recording) in self.index.recordings().iter().enumerate() {
            let Some(host) = self.index.host_entries().get(recording.host) else {
                continue;
            };
            let cpu = host.identity.cpu_and_mode();
            let is_in_row = row.variants.values().any(|guests| {
                let sets = guests.get(&cpu);
                sets.is_some_and(|sets| sets.contains(&recording.features))
            });
            if is_in_row && self.is_in_range(recording.kernel) {
                let facet = facet(kind, row, recording, entries.get(&number));
                let sequence = sequences.entry((cpu, recording.features)).or_default();
                sequence.push((recording.kernel, facet));
            }
        }
        changes(sequences.into_values())
    }

    /// Returns the kernels between which a capability changed on the CPUs of a row.
    fn capability_changes(&self, name: &str, row: &Row) -> BTreeSet<(usize, usize)> {
        let mut sequences: BTreeMap<String, Vec<(usize, Facet)>> = BTreeMap::new();
        for host in self.index.host_entries() {
            let cpu = host.identity.cpu_and_mode();
            let is_in_row = row
                .variants
                .values()
                .any(|guests| guests.contains_key(&cpu));
            if is_in_row && self.is_in_range(host.kernel) {
                let value = host.capabilities.get(name).copied().unwrap_or(0);
                let sequence = sequences.entry(cpu).or_default();
                sequence.push((host.kernel, Facet::Capability(value)));
            }
        }
        changes(sequences.into_values())
    }

    fn is_in_range(&self, kernel: usize) -> bool {
        (self.range.0..=self.range.1).contains(&kernel)
    }
}

const fn is_one_sided(kind: Kind) -> bool {
    matches!(kind, Kind::OnlyInA | Kind::OnlyInB)
}

/// Returns the series of a release of Linux: `v6.13`. Returns `None` for a release of QEMU.
fn linux_release(release: &str) -> Option<Version> {
    let name = KernelName::parse(release.strip_prefix('v')?)?;
    Some(name.series)
}

/// Returns the part of a recorded register that a row is about.
fn facet(kind: Kind, row: &Row, recording: &Recording, entry: Option<&RegisterEntry<'_>>) -> Facet {
    let Some(entry) = entry else {
        return Facet::Absent;
    };
    match kind {
        Kind::Capability | Kind::OnlyInA | Kind::OnlyInB => Facet::Listed,
        Kind::ResetValue => Facet::AtReset(match (row.field, entry.at_reset) {
            (Some(field), AtReset::Value(Value::U64(value))) => {
                AtReset::Value(Value::U64(field.extract(*value)))
            }
            _ => entry.at_reset.clone(),
        }),
        Kind::WriteBack => Facet::WriteBack(entry.write_back),
        Kind::WritableBits if !recording.has_writable_masks => Facet::Absent,
        Kind::WritableBits => Facet::Writable(entry.writable.unwrap_or(0)),
        Kind::AcceptedValues => Facet::Trials(entry.trials().collect()),
        Kind::Trial => {
            let is_in_row = |trial: &WriteTrial| {
                row.variants
                    .keys()
                    .any(|it| it.written == Some(trial.value))
            };
            Facet::Trials(entry.trials().filter(is_in_row).collect())
        }
    }
}

/// Returns the neighbours with different facets.
fn changes(sequences: impl Iterator<Item = Vec<(usize, Facet)>>) -> BTreeSet<(usize, usize)> {
    let mut changes = BTreeSet::new();
    for sequence in sequences {
        for pair in sequence.windows(2) {
            if let [(before, old), (after, new)] = pair
                && old != new
            {
                changes.insert((*before, *after));
            }
        }
    }
    changes
}
