//! Report of `diff` for two recorded hosts: a comparison for each set of features that both have.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the comparison, for both forms |
//! | [`text`] | text of the comparison |
//! | [`model`] | its model, schema `cpreg.diff-hosts/2` |
//! | `json` | conversion of the comparison to the model |
//!
//! | compared | counted but not compared |
//! |---|---|
//! | listed registers | |
//! | values at reset | registers without a value on one side |
//! | errnos of writing back the value that was read | |
//! | writable bits | guests for which one kernel does not report them |
//! | accepted PSCI versions and bitmap bits | registers that one side did not try completely |
//! | other values that both sides tried | values that only one side tried |
//!
//! A register has no value if it holds KVM's reset poison, is a counter, cannot be read or differs
//! by vCPU.
//!
//! Several guests with the same difference share one entry. `check` decides what a difference means
//! for a migration.

pub(crate) mod json;
pub mod model;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::{AtReset, GuestRecord, RegisterRecord, WriteTrial};

use crate::error::{Error, ErrorKind};
use crate::host::{GuestView, TestedValues, trial_outcome};
use crate::value::ValueFormat;

/// A recorded host in a comparison.
#[derive(Clone, Copy, Debug)]
pub struct ComparedHost<'a> {
    /// Argument that names the host, without features.
    pub argument: &'a str,
    /// The host.
    pub record: &'a HostRecord,
    /// Features of the only guest to compare, if one is selected.
    pub features: Option<Features>,
}

/// A difference in a register, and the guests that show the difference.
#[derive(Debug)]
pub struct HostDifference<T> {
    /// The register.
    pub id: RegisterId,
    /// Content of the register on one side, or on both sides, A's first.
    pub difference: T,
    /// vCPU features of each guest that shows the difference.
    pub guests: Vec<Features>,
}

/// Differences between A and B.
#[derive(Debug)]
pub struct HostDiff<'a> {
    /// The first host.
    pub a: ComparedHost<'a>,
    /// The second host.
    pub b: ComparedHost<'a>,
    /// Format of names and values.
    pub value_format: ValueFormat,
    /// Sets of features that both hosts have and that are compared.
    pub guests: Vec<Features>,
    /// Sets of features that only A has.
    pub guests_only_in_a: Vec<Features>,
    /// Sets of features that only B has.
    pub guests_only_in_b: Vec<Features>,
    /// Capabilities that differ: name, value of A, value of B.
    pub capabilities: Vec<(&'a str, i32, i32)>,
    /// Registers that only A lists.
    pub only_in_a: Vec<HostDifference<AtReset>>,
    /// Registers that only B lists.
    pub only_in_b: Vec<HostDifference<AtReset>>,
    /// Registers with different values at reset: A's value, B's value.
    pub values: Vec<HostDifference<(Value, Value)>>,
    /// Registers that differ in the errno of writing back the value that was read; 0 is success.
    pub write_back: Vec<HostDifference<(u16, u16)>>,
    /// Registers with different writable bits: A's mask, B's mask.
    pub writable: Vec<HostDifference<(u64, u64)>>,
    /// Registers with different accepted values: A's values, B's values.
    pub accepted_values: Vec<HostDifference<(TestedValues, TestedValues)>>,
    /// Trials of the same value with different results: A's trial, B's trial.
    pub trials: Vec<HostDifference<(WriteTrial, WriteTrial)>>,
    /// Registers and guests that were not compared.
    pub omissions: HostDiffOmissions,
}

/// Registers of any guest, and guests, that could not be compared.
#[derive(Debug, Default)]
pub struct HostDiffOmissions {
    /// Registers without a value on at least one side.
    pub registers_without_value: BTreeSet<RegisterId>,
    /// Guests for which only one kernel reports the writable bits.
    pub guests_without_writable_masks: BTreeSet<Features>,
    /// Registers with values that only one side tried.
    pub one_sided_trials: BTreeSet<RegisterId>,
}

/// Differences by register and difference, each with the features of the guests that show the
/// difference.
struct DifferenceMap<T>(BTreeMap<(RegisterId, T), Vec<Features>>);

impl<T: Ord> DifferenceMap<T> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn add(&mut self, id: RegisterId, difference: T, features: Features) {
        self.0.entry((id, difference)).or_default().push(features);
    }

    fn into_differences(self) -> Vec<HostDifference<T>> {
        let rows = self.0.into_iter();
        rows.map(|((id, difference), guests)| HostDifference {
            id,
            difference,
            guests,
        })
        .collect()
    }
}

/// Differences that the comparison has found so far.
struct Comparison {
    only_in_a: DifferenceMap<AtReset>,
    only_in_b: DifferenceMap<AtReset>,
    values: DifferenceMap<(Value, Value)>,
    write_back: DifferenceMap<(u16, u16)>,
    writable: DifferenceMap<(u64, u64)>,
    accepted_values: DifferenceMap<(TestedValues, TestedValues)>,
    trials: DifferenceMap<(WriteTrial, WriteTrial)>,
    omissions: HostDiffOmissions,
}

impl<'a> HostDiff<'a> {
    /// Compares two hosts.
    ///
    /// # Errors
    /// Returns an error if no guests with the same features were recorded on both hosts.
    pub fn new(
        a: ComparedHost<'a>,
        b: ComparedHost<'a>,
        value_format: ValueFormat,
    ) -> Result<Self, Error> {
        let sets = |host: ComparedHost<'_>| -> BTreeSet<Features> {
            let all = host.record.guests.keys().copied();
            let is_selected =
                |features: &Features| host.features.is_none_or(|only| only == *features);
            all.filter(is_selected).collect()
        };
        let (sets_a, sets_b) = (sets(a), sets(b));
        let guests: Vec<Features> = sets_a.intersection(&sets_b).copied().collect();
        if guests.is_empty() {
            return Err(Error::for_host(
                ErrorKind::NoCommonGuests,
                format!(
                    "{} and {} have no recordings for guests with the same features",
                    a.argument, b.argument
                ),
                format!(
                    "`cpreg show {}` and `cpreg show {}` list the recorded features",
                    a.argument, b.argument
                ),
            ));
        }
        let mut comparison = Comparison {
            only_in_a: DifferenceMap::new(),
            only_in_b: DifferenceMap::new(),
            values: DifferenceMap::new(),
            write_back: DifferenceMap::new(),
            writable: DifferenceMap::new(),
            accepted_values: DifferenceMap::new(),
            trials: DifferenceMap::new(),
            omissions: HostDiffOmissions::default(),
        };
        for features in &guests {
            comparison.compare_guests(a, b, *features)?;
        }
        Ok(Self {
            a,
            b,
            value_format,
            guests_only_in_a: sets_a.difference(&sets_b).copied().collect(),
            guests_only_in_b: sets_b.difference(&sets_a).copied().collect(),
            guests,
            capabilities: capabilities(a.record, b.record),
            only_in_a: comparison.only_in_a.into_differences(),
            only_in_b: comparison.only_in_b.into_differences(),
            values: comparison.values.into_differences(),
            write_back: comparison.write_back.into_differences(),
            writable: comparison.writable.into_differences(),
            accepted_values: comparison.accepted_values.into_differences(),
            trials: comparison.trials.into_differences(),
            omissions: comparison.omissions,
        })
    }

    /// Returns `true` if the comparison found no difference.
    pub fn is_equal(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count == 0)
    }

    /// Returns the number of differences of each kind, with the name of the kind.
    ///
    /// Each difference is one line of the text. Guests with different differences in one register
    /// have a line each.
    pub fn counts(&self) -> [(&'static str, usize); 7] {
        [
            ("capabilities", self.capabilities.len()),
            ("registers", self.only_in_a.len() + self.only_in_b.len()),
            ("values at reset", self.values.len()),
            ("write back", self.write_back.len()),
            ("writable bits", self.writable.len()),
            ("accepted values", self.accepted_values.len()),
            ("trials", group_trials(&self.trials).len()),
        ]
    }
}

/// Merges trials of a register that have the same results. A merged row has the values and the
/// results.
fn group_trials(
    rows: &[HostDifference<(WriteTrial, WriteTrial)>],
) -> Vec<HostDifference<(Vec<String>, String)>> {
    let mut merged: Vec<HostDifference<(Vec<String>, String)>> = Vec::new();
    for row in rows {
        let (a, b) = &row.difference;
        let (value, change) = (
            format!("{:#x}", a.value),
            format!("{} -> {}", trial_outcome(a), trial_outcome(b)),
        );
        let alike = merged.iter_mut().find(|other| {
            other.id == row.id && other.difference.1 == change && other.guests == row.guests
        });
        match alike {
            Some(alike) => alike.difference.0.push(value),
            None => merged.push(HostDifference {
                id: row.id,
                difference: (vec![value], change),
                guests: row.guests.clone(),
            }),
        }
    }
    merged
}

impl Comparison {
    fn compare_guests(
        &mut self,
        a: ComparedHost<'_>,
        b: ComparedHost<'_>,
        features: Features,
    ) -> Result<(), Error> {
        let guest = |host: ComparedHost<'_>| host.record.guests.get(&features).cloned();
        let (Some(guest_a), Some(guest_b)) = (guest(a), guest(b)) else {
            return Ok(());
        };
        let view_a = GuestView::new(a.argument, a.record, features, Vec::new(), false)?;
        let view_b = GuestView::new(b.argument, b.record, features, Vec::new(), false)?;
        let by_id = |guest: &GuestRecord| -> BTreeMap<RegisterId, RegisterRecord> {
            let registers = guest.registers.iter().cloned();
            registers.map(|register| (register.id, register)).collect()
        };
        let (registers_a, registers_b) = (by_id(&guest_a), by_id(&guest_b));
        for (id, register) in &registers_a {
            if !registers_b.contains_key(id) {
                self.only_in_a.add(*id, register.at_reset.clone(), features);
            }
        }
        for (id, register) in &registers_b {
            let Some(other) = registers_a.get(id) else {
                self.only_in_b.add(*id, register.at_reset.clone(), features);
                continue;
            };
            self.compare_register(other, register, features);
            match (view_a.accepted_values(*id), view_b.accepted_values(*id)) {
                (Some(a), Some(b)) if a != b => self.accepted_values.add(*id, (a, b), features),
                (Some(_), Some(_)) => {}
                _ => self.compare_trials(other, register, features),
            }
        }
        self.compare_masks(&guest_a, &guest_b, features);
        Ok(())
    }

    fn compare_register(&mut self, a: &RegisterRecord, b: &RegisterRecord, features: Features) {
        let value = |register: &RegisterRecord| match &register.at_reset {
            AtReset::Value(value) if !register.differs_by_vcpu => Some(value.clone()),
            _ => None,
        };
        match (value(a), value(b)) {
            (Some(value_a), Some(value_b)) if value_a != value_b => {
                self.values.add(a.id, (value_a, value_b), features);
            }
            (Some(_), Some(_)) => {}
            _ => {
                self.omissions.registers_without_value.insert(a.id);
            }
        }
        if a.write_back != b.write_back {
            let errnos = (a.write_back, b.write_back);
            self.write_back.add(a.id, errnos, features);
        }
    }

    fn compare_masks(&mut self, a: &GuestRecord, b: &GuestRecord, features: Features) {
        let (Some(masks_a), Some(masks_b)) = (&a.writable, &b.writable) else {
            if a.writable != b.writable {
                self.omissions
                    .guests_without_writable_masks
                    .insert(features);
            }
            return;
        };
        let ids: BTreeSet<_> = masks_a.keys().chain(masks_b.keys()).collect();
        for id in ids {
            // A register without a mask has no writable bits.
            let mask = |masks: &BTreeMap<RegisterId, u64>| masks.get(id).copied().unwrap_or(0);
            let both = (mask(masks_a), mask(masks_b));
            if both.0 != both.1 {
                self.writable.add(*id, both, features);
            }
        }
    }

    /// Compares trials. After a refusal the register holds its old value, so the value read back is
    /// not compared.
    fn compare_trials(&mut self, a: &RegisterRecord, b: &RegisterRecord, features: Features) {
        if a.at_reset == AtReset::Counter || b.at_reset == AtReset::Counter {
            return;
        }
        let is_same = |a: &WriteTrial, b: &WriteTrial| {
            a.errno == b.errno && (a.errno != 0 || a.read_back == b.read_back)
        };
        let find = |register: &RegisterRecord, value| {
            let mut trials = register.trials.iter();
            trials.find(|trial| trial.value == value).copied()
        };
        for trial in &a.trials {
            match find(b, trial.value) {
                Some(other) if !is_same(trial, &other) => {
                    self.trials.add(a.id, (*trial, other), features);
                }
                Some(_) => {}
                None => {
                    self.omissions.one_sided_trials.insert(a.id);
                }
            }
        }
        if b.trials.iter().any(|trial| find(a, trial.value).is_none()) {
            self.omissions.one_sided_trials.insert(a.id);
        }
    }
}

fn capabilities<'a>(a: &'a HostRecord, b: &'a HostRecord) -> Vec<(&'a str, i32, i32)> {
    let names = a.capabilities.keys().chain(b.capabilities.keys());
    let names: BTreeSet<&str> = names.map(String::as_str).collect();
    let number = |host: &HostRecord, name| host.capabilities.get(name).copied().unwrap_or(0);
    let both = names
        .into_iter()
        .map(|name| (name, number(a, name), number(b, name)));
    both.filter(|(_, a, b)| a != b).collect()
}
