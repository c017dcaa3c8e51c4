//! What differs between two recorded hosts, for `diff`: guest by guest, for each set of features that both were recorded with.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the comparison, once, for both forms |
//! | [`text`] | its text |
//! | [`model`] | its model, schema `cpreg.diff-hosts/2` |
//! | `json` | the comparison as its model |
//!
//! | compared | not compared, and counted |
//! |---|---|
//! | which registers are listed | |
//! | values at reset | where one side has no value: KVM's reset poison, counters, what cannot be read or differs by vCPU |
//! | whether what was read may be written back | |
//! | writable bits | where one kernel does not tell |
//! | the PSCI versions and bitmap bits that are taken | where one side has not tried them all |
//! | other values that both have tried | those that only one side has tried |
//!
//! A difference that is the same for several guests stands there once. What one means for a migration is `check`'s to say.

mod json;
pub mod model;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::{AtReset, GuestRecord, RegisterRecord, WriteTrial};

use crate::error::{Error, ErrorKind};
use crate::host::{GuestView, TestedValues};
use crate::value::ValueFormat;

/// A recorded host that is compared.
#[derive(Clone, Copy, Debug)]
pub struct ComparedHost<'a> {
    /// How it is written, features aside.
    pub argument: &'a str,
    /// The host.
    pub record: &'a HostRecord,
    /// The features of the only guest that is meant, if one is.
    pub features: Option<Features>,
}

/// A difference in a register, and the guests that have it.
#[derive(Debug)]
pub struct HostDifference<T> {
    /// The register.
    pub id: RegisterId,
    /// The difference.
    pub difference: T,
    /// The guests.
    pub guests: Vec<Features>,
}

/// What differs between A and B.
#[derive(Debug)]
pub struct HostDiff<'a> {
    /// One host.
    pub a: ComparedHost<'a>,
    /// The other.
    pub b: ComparedHost<'a>,
    /// Style of names and values.
    pub value_format: ValueFormat,
    /// The sets of features that both have, of which the rest is said.
    pub guests: Vec<Features>,
    /// Sets of features that only A has.
    pub guests_only_in_a: Vec<Features>,
    /// Sets of features that only B has.
    pub guests_only_in_b: Vec<Features>,
    /// What each can do, by the capability's name, where that differs.
    pub capabilities: Vec<(&'a str, i32, i32)>,
    /// Registers that only A lists.
    pub only_in_a: Vec<HostDifference<AtReset>>,
    /// Registers that only B lists.
    pub only_in_b: Vec<HostDifference<AtReset>>,
    /// Values at reset that differ.
    pub values: Vec<HostDifference<(Value, Value)>>,
    /// Errnos of writing back what was read, where they differ.
    pub write_back: Vec<HostDifference<(u16, u16)>>,
    /// Writable bits that differ.
    pub writable: Vec<HostDifference<(u64, u64)>>,
    /// Values that are taken, where they differ.
    pub accepted_values: Vec<HostDifference<(TestedValues, TestedValues)>>,
    /// Trials that came out differently.
    pub trials: Vec<HostDifference<(WriteTrial, WriteTrial)>>,
    /// Things that were not compared.
    pub omissions: HostDiffOmissions,
}

/// What could not be compared: registers, of any guest.
#[derive(Debug, Default)]
pub struct HostDiffOmissions {
    /// Values that are none on one side at least.
    pub registers_without_value: BTreeSet<RegisterId>,
    /// Guests of which only one kernel tells what may be written.
    pub guests_without_writable_masks: BTreeSet<Features>,
    /// Registers with values that only one side tried.
    pub one_sided_trials: BTreeSet<RegisterId>,
}

/// Differences, and the guests that have each.
struct DifferenceMap<T>(BTreeMap<(RegisterId, T), Vec<Features>>);

impl<T: Ord> DifferenceMap<T> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn add(&mut self, id: RegisterId, what: T, features: Features) {
        self.0.entry((id, what)).or_default().push(features);
    }

    fn into_differences(self) -> Vec<HostDifference<T>> {
        let rows = self.0.into_iter();
        rows.map(|((id, what), guests)| HostDifference {
            id,
            difference: what,
            guests,
        })
        .collect()
    }
}

/// All that is found while guests are compared.
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
    /// Compares them.
    ///
    /// # Errors
    /// If they were recorded for no guests with the same features.
    pub fn new(
        a: ComparedHost<'a>,
        b: ComparedHost<'a>,
        printing: ValueFormat,
    ) -> Result<Self, Error> {
        let sets = |named: ComparedHost<'_>| -> BTreeSet<Features> {
            let all = named.record.guests.keys().copied();
            let asked = |features: &Features| named.features.is_none_or(|only| only == *features);
            all.filter(asked).collect()
        };
        let (sets_a, sets_b) = (sets(a), sets(b));
        let guests: Vec<Features> = sets_a.intersection(&sets_b).copied().collect();
        if guests.is_empty() {
            return Err(Error::for_host(
                ErrorKind::NoCommonGuests,
                format!(
                    "{} and {} were recorded for no guests with the same features",
                    a.argument, b.argument
                ),
                format!(
                    "`cpreg show {}` and `cpreg show {}` list them",
                    a.argument, b.argument
                ),
            ));
        }
        let mut comparing = Comparison {
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
            comparing.compare_guests(a, b, *features)?;
        }
        Ok(Self {
            a,
            b,
            value_format: printing,
            guests_only_in_a: sets_a.difference(&sets_b).copied().collect(),
            guests_only_in_b: sets_b.difference(&sets_a).copied().collect(),
            guests,
            capabilities: capabilities(a.record, b.record),
            only_in_a: comparing.only_in_a.into_differences(),
            only_in_b: comparing.only_in_b.into_differences(),
            values: comparing.values.into_differences(),
            write_back: comparing.write_back.into_differences(),
            writable: comparing.writable.into_differences(),
            accepted_values: comparing.accepted_values.into_differences(),
            trials: comparing.trials.into_differences(),
            omissions: comparing.omissions,
        })
    }

    /// Whether guests find the same on both.
    pub fn is_equal(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count == 0)
    }

    /// How much differs, by what.
    pub fn counts(&self) -> [(&'static str, usize); 7] {
        let distinct = |ids: Vec<RegisterId>| ids.into_iter().collect::<BTreeSet<_>>().len();
        let registers = [&self.only_in_a, &self.only_in_b].into_iter().flatten();
        [
            ("capabilities", self.capabilities.len()),
            ("registers", distinct(registers.map(|row| row.id).collect())),
            ("values at reset", distinct(ids(&self.values))),
            ("written back", distinct(ids(&self.write_back))),
            ("writable bits", distinct(ids(&self.writable))),
            ("values taken", distinct(ids(&self.accepted_values))),
            ("trials", distinct(ids(&self.trials))),
        ]
    }
}

fn ids<T>(rows: &[HostDifference<T>]) -> Vec<RegisterId> {
    rows.iter().map(|row| row.id).collect()
}

impl Comparison {
    fn compare_guests(
        &mut self,
        a: ComparedHost<'_>,
        b: ComparedHost<'_>,
        features: Features,
    ) -> Result<(), Error> {
        let of = |named: ComparedHost<'_>| named.record.guests.get(&features).cloned();
        let (Some(guest_a), Some(guest_b)) = (of(a), of(b)) else {
            return Ok(());
        };
        let shown_a = GuestView::new(a.argument, a.record, features, Vec::new(), false)?;
        let shown_b = GuestView::new(b.argument, b.record, features, Vec::new(), false)?;
        let by_id = |guest: &GuestRecord| -> BTreeMap<RegisterId, RegisterRecord> {
            let registers = guest.registers.iter().cloned();
            registers.map(|register| (register.id, register)).collect()
        };
        let (own_a, own_b) = (by_id(&guest_a), by_id(&guest_b));
        for (id, register) in &own_a {
            if !own_b.contains_key(id) {
                self.only_in_a.add(*id, register.at_reset.clone(), features);
            }
        }
        for (id, register) in &own_b {
            let Some(other) = own_a.get(id) else {
                self.only_in_b.add(*id, register.at_reset.clone(), features);
                continue;
            };
            self.compare_register(other, register, features);
            let takes = (shown_a.accepted_values(*id), shown_b.accepted_values(*id));
            match takes {
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
            (Some(own_a), Some(own_b)) if own_a != own_b => {
                self.values.add(a.id, (own_a, own_b), features);
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
            // Of a register without a mask no bits may be changed.
            let mask = |masks: &BTreeMap<RegisterId, u64>| masks.get(id).copied().unwrap_or(0);
            let both = (mask(masks_a), mask(masks_b));
            if both.0 != both.1 {
                self.writable.add(*id, both, features);
            }
        }
    }

    /// What is read after a refusal is what was there before, and so says nothing more.
    fn compare_trials(&mut self, a: &RegisterRecord, b: &RegisterRecord, features: Features) {
        if a.at_reset == AtReset::Counter || b.at_reset == AtReset::Counter {
            return;
        }
        let same = |a: &WriteTrial, b: &WriteTrial| {
            a.errno == b.errno && (a.errno != 0 || a.read_back == b.read_back)
        };
        let find = |register: &RegisterRecord, value| {
            let mut trials = register.trials.iter();
            trials.find(|trial| trial.value == value).copied()
        };
        for trial in &a.trials {
            match find(b, trial.value) {
                Some(other) if !same(trial, &other) => {
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
