//! Short summary of the recorded kernels that list a register: guests, reset values and writable
//! bits.
//!
//! Each set of recordings gets the first description in this table that matches exactly:
//!
//! | description | set of recordings |
//! |---|---|
//! | every guest | all recordings of the kernel, or all that list the register |
//! | guests whose ID_….FIELD is not 0 | all with that field not 0; a 0 hides the register |
//! | guests with FEATURE, guests without FEATURE | all recordings with, or without, that feature |
//! | guests on CPU… | all recordings on these CPU models |
//! | guests with FEATURE on CPU… | all recordings with that feature on these CPU models |
//! | guests on CPU+MODE… | all recordings on these hosts |
//! | every other guest | the largest of the sets by value that has no description above |
//! | guests on HOST with FEATURES; … | any other set |

use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::kernel;
use cpreg::register::{Field, RegisterId, Value};
use cpreg_hosts::HostIndex;
use cpreg_hosts::host_index::{KernelRecord, Recording, RegisterEntry};
use cpreg_hosts::record::AtReset;

/// Summary of the recordings of one kernel.
#[derive(Debug)]
pub struct KernelSummary<'a> {
    pub kernel: &'a KernelRecord,
    /// Number of recordings of the kernel.
    pub recordings: usize,
    /// Number of recordings that list the register.
    pub listed_recordings: usize,
    pub observations: KernelObservations,
}

/// Observations in the recordings of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelObservations {
    /// Guests that have the register, in words; `None` if there are none.
    pub guests: Option<String>,
    /// Contents of the register in fresh vCPUs.
    pub values: Vec<ResetGroup>,
    /// Writable bits. The list is empty if the kernel does not report them, or if the register is
    /// not an ID register.
    pub writable: Vec<WritableBits>,
    /// Errnos with which KVM refused the value that cpreg had read from the register.
    pub write_back_errnos: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetGroup {
    pub at_reset: AtReset,
    pub guests: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritableBits {
    pub mask: u64,
    pub guests: String,
}

/// Description of a set that contains all guests.
pub(super) const EVERY_GUEST: &str = "every guest";

/// Returns a summary of every recorded kernel, oldest first, for the whole register or for one
/// field.
pub(crate) fn kernel_summaries(
    history: &HostIndex,
    id: RegisterId,
    field: Option<Field>,
) -> Vec<KernelSummary<'_>> {
    let entries: Vec<RegisterEntry<'_>> = history.entries_for_register(id).collect();
    // Kernels report writable bits of ID registers only.
    let has_masks = entries.iter().any(|entry| entry.writable.is_some());
    let kernels = history.kernels().iter().enumerate();
    kernels
        .map(|(number, kernel)| {
            let is_of_kernel = |(_, it): &(usize, &Recording)| it.kernel == number;
            let all = history.recordings().iter().enumerate().filter(is_of_kernel);
            let all: RecordingNumbers = all.map(|(number, _)| number).collect();
            let own = entries.iter().filter(|it| it.recording.kernel == number);
            let own: Vec<RegisterEntry<'_>> = own.copied().collect();
            KernelSummary {
                kernel,
                recordings: all.len(),
                listed_recordings: own.len(),
                observations: kernel_observations(
                    &HistoryQuery { history, id, field },
                    &all,
                    &own,
                    has_masks,
                ),
            }
        })
        .collect()
}

fn kernel_observations(
    query: &HistoryQuery<'_>,
    all: &RecordingNumbers,
    own: &[RegisterEntry<'_>],
    has_masks: bool,
) -> KernelObservations {
    let listed: RecordingNumbers = own.iter().map(|entry| entry.number).collect();
    let mut values: BTreeMap<AtReset, RecordingNumbers> = BTreeMap::new();
    let mut writable: BTreeMap<u64, RecordingNumbers> = BTreeMap::new();
    for entry in own {
        let at_reset = query.select_field(entry.at_reset);
        values.entry(at_reset).or_default().insert(entry.number);
        if has_masks && entry.recording.has_writable_masks {
            let mask = entry.writable.unwrap_or(0) & query.field.map_or(u64::MAX, Field::mask);
            writable.entry(mask).or_default().insert(entry.number);
        }
    }
    let write_back: BTreeSet<u16> = own.iter().map(|entry| entry.write_back).collect();
    KernelObservations {
        guests: (!listed.is_empty()).then(|| query.describe(&listed, all)),
        values: query
            .describe_each(values, &listed)
            .into_iter()
            .map(|(at_reset, guests)| ResetGroup { at_reset, guests })
            .collect(),
        writable: query
            .describe_each(writable, &listed)
            .into_iter()
            .map(|(mask, guests)| WritableBits { mask, guests })
            .collect(),
        write_back_errnos: write_back.into_iter().filter(|errno| *errno != 0).collect(),
    }
}

/// Set of recordings, by their numbers in the index of hosts.
type RecordingNumbers = BTreeSet<usize>;

/// Query about a register or field, with the recordings to search.
struct HistoryQuery<'a> {
    history: &'a HostIndex,
    id: RegisterId,
    field: Option<Field>,
}

impl<'a> HistoryQuery<'a> {
    /// Returns the content of the selected field, or of the whole register.
    fn select_field(&self, at_reset: &AtReset) -> AtReset {
        match (self.field, at_reset) {
            (Some(field), AtReset::Value(Value::U64(value))) => {
                AtReset::Value(Value::U64(field.extract(*value)))
            }
            _ => at_reset.clone(),
        }
    }

    fn describe(&self, some: &RecordingNumbers, all: &RecordingNumbers) -> String {
        self.describe_briefly(some, all)
            .unwrap_or_else(|| self.describe_by_host(some, all))
    }

    /// Describes sets that together contain all of `all`. Begins with the largest set.
    fn describe_each<K: Ord>(
        &self,
        sets: BTreeMap<K, RecordingNumbers>,
        all: &RecordingNumbers,
    ) -> Vec<(K, String)> {
        let mut sets: Vec<(K, RecordingNumbers)> = sets.into_iter().collect();
        sets.sort_by_key(|(_, set)| usize::MAX - set.len());
        let descriptions: Vec<_> = sets
            .iter()
            .map(|(_, set)| self.describe_briefly(set, all))
            .collect();
        let mut is_largest = true;
        let described = sets.into_iter().zip(descriptions);
        described
            .map(|((key, set), description)| {
                let description = description.unwrap_or_else(|| {
                    // The largest set without a short description becomes "every other guest".
                    if std::mem::take(&mut is_largest) {
                        "every other guest".to_owned()
                    } else {
                        self.describe_by_host(&set, all)
                    }
                });
                (key, description)
            })
            .collect()
    }

    fn describe_briefly(&self, some: &RecordingNumbers, all: &RecordingNumbers) -> Option<String> {
        if some == all {
            return Some(EVERY_GUEST.to_owned());
        }
        let matches = |is_member: &dyn Fn(usize, &Recording) -> bool| {
            let numbers = all.iter().copied();
            numbers
                .filter_map(|number| Some((number, self.recording(number)?)))
                .all(|(number, recording)| is_member(number, recording) == some.contains(&number))
        };
        if let Some(gate) = kernel::find_feature_gate(self.id)
            && matches(&|number, _| {
                let value = self.history.value(gate.id_register, number);
                value.is_some_and(|value| !gate.hides(value))
            })
        {
            return Some(format!(
                "guests whose {}.{} is not {}",
                gate.id_register,
                gate.field,
                gate.low_values()
            ));
        }
        let features: BTreeSet<&str> = all
            .iter()
            .filter_map(|number| self.recording(*number))
            .flat_map(|recording| recording.features.names())
            .collect();
        for feature in &features {
            if matches(&|_, recording| recording.has_feature(feature)) {
                return Some(format!("guests with {}", feature_name(feature)));
            }
            if matches(&|_, recording| !recording.has_feature(feature)) {
                return Some(format!("guests without {}", feature_name(feature)));
            }
        }
        let cpus = self.distinct(some, |recording| recording.cpu.clone());
        let on_cpus = || cpus.iter().cloned().collect::<Vec<_>>().join(", ");
        if matches(&|_, recording| cpus.contains(&recording.cpu)) {
            return Some(format!("guests on {}", on_cpus()));
        }
        for feature in &features {
            if matches(&|_, recording| {
                cpus.contains(&recording.cpu) && recording.has_feature(feature)
            }) {
                let feature = feature_name(feature);
                return Some(format!("guests with {feature} on {}", on_cpus()));
            }
            if matches(&|_, recording| {
                cpus.contains(&recording.cpu) && !recording.has_feature(feature)
            }) {
                let feature = feature_name(feature);
                return Some(format!("guests without {feature} on {}", on_cpus()));
            }
        }
        let hosts = self.distinct(some, host_name);
        matches(&|_, recording| hosts.contains(&host_name(recording))).then(|| {
            let hosts: Vec<_> = hosts.iter().cloned().collect();
            format!("guests on {}", hosts.join(", "))
        })
    }

    /// Describes a set by host; hosts with the same features are merged.
    fn describe_by_host(&self, some: &RecordingNumbers, all: &RecordingNumbers) -> String {
        let features_on = |set: &RecordingNumbers, host: &String| -> BTreeSet<String> {
            set.iter()
                .filter_map(|number| self.recording(*number))
                .filter(|recording| host_name(recording) == *host)
                .map(|recording| {
                    let names: Vec<_> = recording.features.names().collect();
                    if names.is_empty() {
                        "no features".to_owned()
                    } else {
                        names.join("+")
                    }
                })
                .collect()
        };
        let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for host in self.distinct(some, host_name) {
            let (own, possible) = (features_on(some, &host), features_on(all, &host));
            let features = if own == possible {
                String::new()
            } else {
                let own: Vec<_> = own.into_iter().collect();
                format!(" with {}", own.join(", "))
            };
            hosts.entry(features).or_default().push(host);
        }
        let parts: Vec<_> = hosts
            .into_iter()
            .map(|(features, hosts)| format!("guests on {}{features}", hosts.join(", ")))
            .collect();
        parts.join("; ")
    }

    fn recording(&self, number: usize) -> Option<&'a Recording> {
        self.history.recordings().get(number)
    }

    fn distinct(
        &self,
        some: &RecordingNumbers,
        key: impl Fn(&Recording) -> String,
    ) -> BTreeSet<String> {
        some.iter()
            .filter_map(|number| self.recording(*number))
            .map(key)
            .collect()
    }
}

/// Returns the name of a host in the recordings: `max+nested`.
fn host_name(recording: &Recording) -> String {
    if recording.mode.is_empty() {
        recording.cpu.clone()
    } else {
        format!("{}+{}", recording.cpu, recording.mode)
    }
}

fn feature_name(feature: &str) -> &str {
    match feature {
        "pmu" => "a PMU",
        "sve" => "SVE",
        "ptrauth" => "pointer authentication",
        "mte" => "MTE",
        "el1-32bit" => "an AArch32 EL1",
        "el2" => "EL2",
        other => other,
    }
}

/// Merges neighbouring kernels with the same observations. The label of a group is its range of
/// versions.
pub(super) fn spans<'a, 'b>(rows: &'b [KernelSummary<'a>]) -> Vec<(String, &'b KernelSummary<'a>)> {
    rows.chunk_by(|one, next| one.observations == next.observations)
        .filter_map(|chunk| {
            let (first, last) = (chunk.first()?, chunk.last()?);
            let label = if chunk.len() == 1 {
                first.kernel.version.clone()
            } else {
                format!("{} to {}", first.kernel.version, last.kernel.version)
            };
            Some((label, first))
        })
        .collect()
}

/// Returns versions with neighbours joined: `6.12.43 to 6.12.107, 7.2.12`.
pub(super) fn join_versions(rows: &[KernelSummary<'_>], versions: &[&str]) -> String {
    let is_included = |row: &&KernelSummary<'_>| versions.contains(&&*row.kernel.version);
    let rows: Vec<_> = rows.iter().collect();
    let runs = rows.chunk_by(|one, next| is_included(one) == is_included(next));
    let runs: Vec<_> = runs
        .filter(|run| run.first().is_some_and(is_included))
        .filter_map(|run| {
            let (first, last) = (&run.first()?.kernel.version, &run.last()?.kernel.version);
            Some(if first == last {
                first.clone()
            } else {
                format!("{first} to {last}")
            })
        })
        .collect();
    runs.join(", ")
}

#[cfg(test)]
mod tests {
    use cpreg::destination::Features;
    use cpreg::hardware::HardwareFacts;
    use cpreg_hosts::HostRecord;
    use cpreg_hosts::record::{self, Capabilities, Identity, RegisterRecord};

    use super::*;

    /// CPU, mode, features, and the value of the register, if it is listed.
    type Guest<'a> = (&'a str, &'a str, &'a [&'a str], Option<u64>);

    const ID: RegisterId = RegisterId::SCTLR_EL1;

    /// Creates one kernel for each list of guests; guests of one host must be neighbours.
    fn history(kernels: &[&[Guest<'_>]]) -> HostIndex {
        let mut history = HostIndex::default();
        for (number, guests) in kernels.iter().enumerate() {
            for host in guests.chunk_by(|one, next| one.0 == next.0 && one.1 == next.1) {
                let (cpu, mode, ..) = host[0];
                let record = |(_, _, names, value): &Guest<'_>| {
                    let register = value.map(|value| RegisterRecord {
                        id: ID,
                        at_reset: AtReset::from_value(ID, Value::U64(value)),
                        differs_by_vcpu: false,
                        write_back: 0,
                        trials: Vec::new(),
                        fields: None,
                    });
                    let names = names.iter().filter_map(|name| Features::from_name(name));
                    let guest = record::GuestRecord {
                        registers: register.into_iter().collect(),
                        writable: None,
                    };
                    (names.fold(Features::NONE, |all, it| all | it), guest)
                };
                history.add_record(&HostRecord {
                    identity: Identity {
                        release: format!("6.{number}.0"),
                        cpu: cpu.to_owned(),
                        mode: mode.to_owned(),
                        ..Identity::default()
                    },
                    capabilities: Capabilities::new(),
                    guests: host.iter().map(record).collect(),
                    hardware: HardwareFacts::UNKNOWN,
                });
            }
        }
        history
    }

    fn guests(guests: &[Guest<'_>]) -> Option<String> {
        let history = history(&[guests]);
        kernel_summaries(&history, ID, None)
            .pop()
            .and_then(|row| row.observations.guests)
    }

    const LISTED: Option<u64> = Some(0);

    #[test]
    fn first_matching_description_is_used() {
        let describe = |lists: [Option<u64>; 6]| {
            guests(&[
                ("n1", "", &[], lists[0]),
                ("n1", "", &["pmu"], lists[1]),
                ("max", "", &[], lists[2]),
                ("max", "", &["pmu"], lists[3]),
                ("max", "nested", &[], lists[4]),
                ("max", "nested", &["pmu"], lists[5]),
            ])
            .unwrap_or_default()
        };
        assert_eq!(describe([None; 6]), "");
        assert_eq!(describe([LISTED; 6]), "every guest");
        assert_eq!(
            describe([None, LISTED, None, LISTED, None, LISTED]),
            "guests with a PMU"
        );
        assert_eq!(
            describe([LISTED, None, LISTED, None, LISTED, None]),
            "guests without a PMU"
        );
        assert_eq!(
            describe([None, None, LISTED, LISTED, LISTED, LISTED]),
            "guests on max"
        );
        assert_eq!(
            describe([None, None, None, LISTED, None, LISTED]),
            "guests with a PMU on max"
        );
        assert_eq!(
            describe([None, None, None, None, LISTED, LISTED]),
            "guests on max+nested"
        );
        assert_eq!(
            describe([LISTED, LISTED, LISTED, None, None, LISTED]),
            "guests on n1; guests on max with no features; guests on max+nested with pmu"
        );
    }

    #[test]
    fn neighbours_with_the_same_observations_are_merged() {
        let one: &[Guest<'_>] = &[("n1", "", &[], Some(1))];
        let two: &[Guest<'_>] = &[("n1", "", &[], Some(2))];
        let history = history(&[one, one, two, one]);
        let rows = kernel_summaries(&history, ID, None);
        let labels: Vec<_> = spans(&rows).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["6.0.0 to 6.1.0", "6.2.0", "6.3.0"]);
        assert_eq!(
            join_versions(&rows, &["6.0.0", "6.1.0", "6.3.0"]),
            "6.0.0 to 6.1.0, 6.3.0"
        );
    }

    #[test]
    fn largest_set_of_values_is_first() {
        let history = history(&[&[
            ("n1", "", &[], Some(7)),
            ("n1", "", &["pmu"], Some(8)),
            ("max", "", &[], Some(8)),
            ("max", "", &["pmu"], Some(8)),
            ("max", "nested", &["pmu"], Some(9)),
        ]]);
        let rows = kernel_summaries(&history, ID, None);
        let values: Vec<_> = rows[0]
            .observations
            .values
            .iter()
            .map(|value| (&value.at_reset, &*value.guests))
            .collect();
        assert_eq!(
            values,
            [
                (&AtReset::Value(Value::U64(8)), "every other guest"),
                (&AtReset::Value(Value::U64(7)), "guests without a PMU on n1"),
                (&AtReset::Value(Value::U64(9)), "guests on max+nested"),
            ]
        );
    }
}
