//! What differs between two recorded hosts, for `diff`: guest by guest, for each set of features that both were recorded with.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the comparison, once, for both forms |
//! | [`text`] | its text |
//! | [`model`] | its model, schema `cpreg.diff-hosts/1` |
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
use cpreg_hosts::record::{AtReset, Guest, Register, Trial};

use crate::error::{Error, ErrorKind};
use crate::host::{ShownGuest, Takes};
use crate::value::Printing;

/// A recorded host that is compared.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// How it is written, features aside.
    pub written: &'a str,
    /// The host.
    pub record: &'a HostRecord,
    /// The features of the only guest that is meant, if one is.
    pub features: Option<Features>,
}

/// A difference in a register, and the guests that have it.
#[derive(Debug)]
pub struct Row<T> {
    /// The register.
    pub id: RegisterId,
    /// The difference.
    pub what: T,
    /// The guests.
    pub guests: Vec<Features>,
}

/// What differs between A and B.
#[derive(Debug)]
pub struct HostDiff<'a> {
    /// One host.
    pub a: Side<'a>,
    /// The other.
    pub b: Side<'a>,
    /// Style of names and values.
    pub printing: Printing,
    /// The sets of features that both have, of which the rest is said.
    pub guests: Vec<Features>,
    /// Sets of features that only A has.
    pub guests_only_a: Vec<Features>,
    /// Sets of features that only B has.
    pub guests_only_b: Vec<Features>,
    /// What each can do, by the capability's name, where that differs.
    pub capabilities: Vec<(&'a str, i32, i32)>,
    /// Registers that only A lists.
    pub only_a: Vec<Row<AtReset>>,
    /// Registers that only B lists.
    pub only_b: Vec<Row<AtReset>>,
    /// Values at reset that differ.
    pub values: Vec<Row<(Value, Value)>>,
    /// Errnos of writing back what was read, where they differ.
    pub write_back: Vec<Row<(u16, u16)>>,
    /// Writable bits that differ.
    pub writable: Vec<Row<(u64, u64)>>,
    /// Values that are taken, where they differ.
    pub takes: Vec<Row<(Takes, Takes)>>,
    /// Trials that came out differently.
    pub trials: Vec<Row<(Trial, Trial)>>,
    /// Things that were not compared.
    pub left_out: LeftOut,
}

/// What could not be compared: registers, of any guest.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// Values that are none on one side at least.
    pub no_value: BTreeSet<RegisterId>,
    /// Guests of which only one kernel tells what may be written.
    pub masks: BTreeSet<Features>,
    /// Registers with values that only one side tried.
    pub untried: BTreeSet<RegisterId>,
}

/// Differences, and the guests that have each.
struct Found<T>(BTreeMap<(RegisterId, T), Vec<Features>>);

impl<T: Ord> Found<T> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn add(&mut self, id: RegisterId, what: T, features: Features) {
        self.0.entry((id, what)).or_default().push(features);
    }

    fn rows(self) -> Vec<Row<T>> {
        let rows = self.0.into_iter();
        rows.map(|((id, what), guests)| Row { id, what, guests })
            .collect()
    }
}

/// All that is found while guests are compared.
struct Comparing {
    only_a: Found<AtReset>,
    only_b: Found<AtReset>,
    values: Found<(Value, Value)>,
    write_back: Found<(u16, u16)>,
    writable: Found<(u64, u64)>,
    takes: Found<(Takes, Takes)>,
    trials: Found<(Trial, Trial)>,
    left_out: LeftOut,
}

impl<'a> HostDiff<'a> {
    /// Compares them.
    ///
    /// # Errors
    /// If they were recorded for no guests with the same features.
    pub fn new(a: Side<'a>, b: Side<'a>, printing: Printing) -> Result<Self, Error> {
        let sets = |named: Side<'_>| -> BTreeSet<Features> {
            let all = named.record.guests.keys().copied();
            let asked = |features: &Features| named.features.is_none_or(|only| only == *features);
            all.filter(asked).collect()
        };
        let (sets_a, sets_b) = (sets(a), sets(b));
        let guests: Vec<Features> = sets_a.intersection(&sets_b).copied().collect();
        if guests.is_empty() {
            return Err(Error::of_host(
                ErrorKind::NoCommonGuests,
                format!(
                    "{} and {} were recorded for no guests with the same features",
                    a.written, b.written
                ),
                format!(
                    "`cpreg show {}` and `cpreg show {}` list them",
                    a.written, b.written
                ),
            ));
        }
        let mut comparing = Comparing {
            only_a: Found::new(),
            only_b: Found::new(),
            values: Found::new(),
            write_back: Found::new(),
            writable: Found::new(),
            takes: Found::new(),
            trials: Found::new(),
            left_out: LeftOut::default(),
        };
        for features in &guests {
            comparing.guests(a, b, *features)?;
        }
        Ok(Self {
            a,
            b,
            printing,
            guests_only_a: sets_a.difference(&sets_b).copied().collect(),
            guests_only_b: sets_b.difference(&sets_a).copied().collect(),
            guests,
            capabilities: capabilities(a.record, b.record),
            only_a: comparing.only_a.rows(),
            only_b: comparing.only_b.rows(),
            values: comparing.values.rows(),
            write_back: comparing.write_back.rows(),
            writable: comparing.writable.rows(),
            takes: comparing.takes.rows(),
            trials: comparing.trials.rows(),
            left_out: comparing.left_out,
        })
    }

    /// Whether guests find the same on both.
    pub fn is_equal(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count == 0)
    }

    /// How much differs, by what.
    pub fn counts(&self) -> [(&'static str, usize); 7] {
        let distinct = |ids: Vec<RegisterId>| ids.into_iter().collect::<BTreeSet<_>>().len();
        let registers = [&self.only_a, &self.only_b].into_iter().flatten();
        [
            ("capabilities", self.capabilities.len()),
            ("registers", distinct(registers.map(|row| row.id).collect())),
            ("values at reset", distinct(ids(&self.values))),
            ("written back", distinct(ids(&self.write_back))),
            ("writable bits", distinct(ids(&self.writable))),
            ("values taken", distinct(ids(&self.takes))),
            ("trials", distinct(ids(&self.trials))),
        ]
    }
}

fn ids<T>(rows: &[Row<T>]) -> Vec<RegisterId> {
    rows.iter().map(|row| row.id).collect()
}

impl Comparing {
    fn guests(&mut self, a: Side<'_>, b: Side<'_>, features: Features) -> Result<(), Error> {
        let of = |named: Side<'_>| named.record.guests.get(&features).cloned();
        let (Some(guest_a), Some(guest_b)) = (of(a), of(b)) else {
            return Ok(());
        };
        let shown_a = ShownGuest::new(a.written, a.record, features, Vec::new(), false)?;
        let shown_b = ShownGuest::new(b.written, b.record, features, Vec::new(), false)?;
        let by_id = |guest: &Guest| -> BTreeMap<RegisterId, Register> {
            let registers = guest.registers.iter().cloned();
            registers.map(|register| (register.id, register)).collect()
        };
        let (own_a, own_b) = (by_id(&guest_a), by_id(&guest_b));
        for (id, register) in &own_a {
            if !own_b.contains_key(id) {
                self.only_a.add(*id, register.at_reset.clone(), features);
            }
        }
        for (id, register) in &own_b {
            let Some(other) = own_a.get(id) else {
                self.only_b.add(*id, register.at_reset.clone(), features);
                continue;
            };
            self.register(other, register, features);
            let takes = (shown_a.takes(*id), shown_b.takes(*id));
            match takes {
                (Some(a), Some(b)) if a != b => self.takes.add(*id, (a, b), features),
                (Some(_), Some(_)) => {}
                _ => self.trials(other, register, features),
            }
        }
        self.masks(&guest_a, &guest_b, features);
        Ok(())
    }

    fn register(&mut self, a: &Register, b: &Register, features: Features) {
        let value = |register: &Register| match &register.at_reset {
            AtReset::Value(value) if !register.differs_by_vcpu => Some(value.clone()),
            _ => None,
        };
        match (value(a), value(b)) {
            (Some(own_a), Some(own_b)) if own_a != own_b => {
                self.values.add(a.id, (own_a, own_b), features);
            }
            (Some(_), Some(_)) => {}
            _ => {
                self.left_out.no_value.insert(a.id);
            }
        }
        if a.write_back != b.write_back {
            let errnos = (a.write_back, b.write_back);
            self.write_back.add(a.id, errnos, features);
        }
    }

    fn masks(&mut self, a: &Guest, b: &Guest, features: Features) {
        let (Some(masks_a), Some(masks_b)) = (&a.writable, &b.writable) else {
            if a.writable != b.writable {
                self.left_out.masks.insert(features);
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
    fn trials(&mut self, a: &Register, b: &Register, features: Features) {
        if a.at_reset == AtReset::Counts || b.at_reset == AtReset::Counts {
            return;
        }
        let same =
            |a: &Trial, b: &Trial| a.errno == b.errno && (a.errno != 0 || a.reads == b.reads);
        let find = |register: &Register, value| {
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
                    self.left_out.untried.insert(a.id);
                }
            }
        }
        if b.trials.iter().any(|trial| find(a, trial.value).is_none()) {
            self.left_out.untried.insert(a.id);
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
