//! `cargo xtask compare-hosts RECORDS TABLES [PROBES]`: what `cpreg probe kvm` recorded against independent tables of the same hosts.
//!
//! | compared | how |
//! |---|---|
//! | which registers are listed | by id |
//! | values at reset | as they are; KVM's reset poison and counters, which are no values, by name: that both have them |
//! | writing back what was read | the errno |
//! | writable bits | whether the kernel tells, and the masks |
//! | values that were tried | errno and what was read then, for those that both tried; the others are counted; of counters none |
//!
//! A difference that is understood stands in [`EXPLAINED_DIFFERENCES`] with its reason, and is no failure.
//!
//! Each difference is listed once, with how many guests it is about. `--as-records RECORDS TABLES [PROBES]` writes the tables as
//! recorded hosts, as far as they tell: to look at them with `cpreg show` and `cpreg diff`.
//!
//! | file | what lives there |
//! |---|---|
//! | [`tables`] | the tables' format |

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cpreg::destination::kernel::RegisterKind;
use cpreg::register::RegisterId;
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::{AtReset, GuestRecord, RegisterRecord};

use crate::error::Result;
use crate::hosts;
use tables::{Probes, Table};

/// Compares, and fails if anything differs.
pub(crate) fn run(
    as_records: bool,
    records: &Path,
    tables: &Path,
    probes: Option<&Path>,
) -> Result<()> {
    let tables = tables::read(tables)?;
    let probes = probes.map(tables::probes).transpose()?.unwrap_or_default();
    if as_records {
        return write(records, &tables, &probes);
    }
    let records: BTreeMap<String, HostRecord> = hosts::records(records)?.into_iter().collect();
    let comparison = Comparison::compare(&records, &tables, &probes);
    comparison.print();
    match comparison.differences.len() {
        0 => Ok(()),
        count => Err(format!("{count} differences").into()),
    }
}

/// The recorded host that a table is of. What was asked to run in a mode that its kernel does not know runs without it, and is recorded so.
fn record_of<'r>(records: &'r BTreeMap<String, HostRecord>, host: &str) -> Option<&'r HostRecord> {
    let without_mode = || records.get(host.split_once('+')?.0);
    records.get(host).or_else(without_mode)
}

/// The set that values were tried with.
const PROBED_SET: &str = "all";

fn write(folder: &Path, tables: &[Table], probes: &BTreeMap<String, Probes>) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut records: BTreeMap<&str, HostRecord> = BTreeMap::new();
    for table in tables {
        let record = records.entry(&table.host).or_insert_with(|| HostRecord {
            identity: table.identity.clone(),
            capabilities: table.capabilities.clone(),
            guests: BTreeMap::new(),
        });
        // On a CPU without SVE `all` is `pmu` again.
        if record.guests.contains_key(&table.features) {
            continue;
        }
        let mut guest = table.guest.clone();
        let tried = probes.get(&table.host).filter(|_| table.set == PROBED_SET);
        for (register, trials) in guest
            .registers
            .iter_mut()
            .filter_map(|register| Some((tried?.get(&register.id)?, register)))
            .map(|(trials, register)| (register, trials))
        {
            register.trials.clone_from(trials);
        }
        record.guests.insert(table.features, guest);
    }
    let count = records.len();
    for record in records.into_values() {
        let name = hosts::file_name(&record);
        fs::write(folder.join(name + ".json"), record.to_json()?)?;
    }
    println!("{count} hosts");
    Ok(())
}

/// Differences whose reason was found: which kind, what differs, and why.
const EXPLAINED_DIFFERENCES: [(&str, &str, &str); 1] = [(
    "at reset",
    "PMOVSSET_EL0: 0x0 in the tables, 0x8000001e in the records",
    "the tables' recorder wrote each register back before it read the next, and writing back PMOVSCLR_EL0 clears PMOVSSET_EL0 on kernels with \
     a45f41d754e0 and without f2aeb7bbd574 (6.12 here); cpreg reads all before it writes any",
)];

/// A difference, and the guests that it is about.
type Differences = BTreeMap<(&'static str, String), Vec<String>>;

/// What came out.
#[derive(Debug, Default)]
struct Comparison {
    differences: Differences,
    /// Those that are understood.
    explained_differences: Differences,
    /// What only one side has, which is no difference.
    one_sided: Differences,
    guests: usize,
    registers: usize,
    masks: usize,
    trials: usize,
    /// Registers whose values were not compared, since both sides have none.
    exempt: BTreeSet<(&'static str, RegisterId)>,
}

impl Comparison {
    fn compare(
        records: &BTreeMap<String, HostRecord>,
        tables: &[Table],
        probes: &BTreeMap<String, Probes>,
    ) -> Self {
        let mut comparison = Self::default();
        for table in tables {
            let place = format!("{}/{}", table.host, table.features);
            let Some(record) = record_of(records, &table.host) else {
                comparison.add_one_sided("hosts", "only in the tables", &table.host);
                continue;
            };
            for what in identity(record, table) {
                comparison.add_difference("identity", what, &place);
            }
            let Some(own) = record.guests.get(&table.features) else {
                comparison.add_one_sided("guests", "only in the tables", &place);
                continue;
            };
            comparison.guests += 1;
            comparison.compare_guest(own, &table.guest, &place);
            if table.set == PROBED_SET
                && let Some(tried) = probes.get(&table.host)
            {
                comparison.compare_trials(own, tried, &place);
            }
        }
        for (host, record) in records {
            let of_host = || tables.iter().filter(|table| table.host == *host);
            if of_host().next().is_none() {
                comparison.add_one_sided("hosts", "only in the records", host);
                continue;
            }
            for features in record.guests.keys() {
                if of_host().all(|table| table.features != *features) {
                    let place = format!("{host}/{features}");
                    comparison.add_one_sided("guests", "only in the records", &place);
                }
            }
        }
        comparison
    }

    fn add_difference(&mut self, kind: &'static str, what: impl Into<String>, place: &str) {
        let what = what.into();
        let explained = EXPLAINED_DIFFERENCES
            .iter()
            .any(|it| (it.0, it.1) == (kind, &*what));
        let differences = if explained {
            &mut self.explained_differences
        } else {
            &mut self.differences
        };
        let places = differences.entry((kind, what)).or_default();
        places.push(place.to_owned());
    }

    fn add_one_sided(&mut self, kind: &'static str, what: impl Into<String>, place: &str) {
        let places = self.one_sided.entry((kind, what.into())).or_default();
        places.push(place.to_owned());
    }

    fn compare_guest(&mut self, own: &GuestRecord, table: &GuestRecord, place: &str) {
        let by_id = |guest: &GuestRecord| -> BTreeMap<RegisterId, RegisterRecord> {
            let registers = guest.registers.iter().cloned();
            registers.map(|register| (register.id, register)).collect()
        };
        let (own_registers, table_registers) = (by_id(own), by_id(table));
        for id in own_registers.keys() {
            if !table_registers.contains_key(id) {
                self.add_difference("listed", format!("{id}: only in the records"), place);
            }
        }
        for (id, theirs) in &table_registers {
            let Some(ours) = own_registers.get(id) else {
                self.add_difference("listed", format!("{id}: only in the tables"), place);
                continue;
            };
            self.registers += 1;
            match (&theirs.at_reset, &ours.at_reset) {
                (AtReset::Poison, AtReset::Poison) => {
                    self.exempt.insert(("poison", *id));
                }
                (AtReset::Counter, AtReset::Counter) => {
                    self.exempt.insert(("counters", *id));
                }
                (theirs, ours) if theirs == ours => {}
                (theirs, ours) => {
                    let what = format!(
                        "{id}: {} in the tables, {} in the records",
                        describe_reset(theirs),
                        describe_reset(ours)
                    );
                    self.add_difference("at reset", what, place);
                }
            }
            if ours.write_back != theirs.write_back {
                let what = format!(
                    "{id}: errno {} in the tables, {} in the records",
                    theirs.write_back, ours.write_back
                );
                self.add_difference("written back", what, place);
            }
        }
        match (&table.writable, &own.writable) {
            (Some(theirs), Some(ours)) => {
                let ids: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
                for id in ids {
                    self.masks += 1;
                    // A mask of 0 says what no mask says.
                    let mask = |masks: &BTreeMap<RegisterId, u64>| {
                        masks.get(id).copied().unwrap_or_default()
                    };
                    let (theirs, ours) = (mask(theirs), mask(ours));
                    if theirs != ours {
                        let what =
                            format!("{id}: {theirs:#x} in the tables, {ours:#x} in the records");
                        self.add_difference("writable", what, place);
                    }
                }
            }
            (None, None) => {}
            (Some(_), None) => self.add_difference("writable", "masks only in the tables", place),
            (None, Some(_)) => self.add_difference("writable", "masks only in the records", place),
        }
    }

    fn compare_trials(&mut self, own: &GuestRecord, tried: &Probes, place: &str) {
        for (id, trials) in tried {
            if RegisterKind::from_id(*id) == RegisterKind::Counter {
                self.exempt.insert(("counters", *id));
                continue;
            }
            let Some(register) = own.registers.iter().find(|register| register.id == *id) else {
                continue;
            };
            for theirs in trials {
                let mut ours = register.trials.iter();
                let Some(ours) = ours.find(|ours| ours.value == theirs.value) else {
                    self.add_one_sided("values tried only in the tables", id.to_string(), place);
                    continue;
                };
                self.trials += 1;
                if ours != theirs {
                    let what = format!(
                        "{id}={:#x}: errno {} and reads {:#x} in the tables, {} and {:#x} in the records",
                        theirs.value, theirs.errno, theirs.read_back, ours.errno, ours.read_back
                    );
                    self.add_difference("tried", what, place);
                }
            }
        }
    }

    fn print(&self) {
        println!(
            "compared: {} guests, {} registers, {} masks, {} trials",
            self.guests, self.registers, self.masks, self.trials
        );
        for kind in ["poison", "counters"] {
            let names = self.exempt.iter().filter(|(own, _)| *own == kind);
            let names: Vec<_> = names.map(|(_, id)| id.to_string()).collect();
            println!("no values on either side ({kind}): {}", names.join(" "));
        }
        for (_, what, why) in EXPLAINED_DIFFERENCES {
            println!("understood: {what}: {why}");
        }
        for (title, differences) in [
            ("not compared", &self.one_sided),
            ("understood", &self.explained_differences),
            ("differences", &self.differences),
        ] {
            println!("\n{title} ({})", differences.len());
            for ((kind, what), places) in differences {
                let places_shown: Vec<_> = places.iter().take(3).map(String::as_str).collect();
                let more = if places.len() > 3 { ", …" } else { "" };
                let count = places.len();
                println!(
                    "  {kind}  {what}  ×{count} ({}{more})",
                    places_shown.join(", ")
                );
            }
        }
    }
}

fn describe_reset(at_reset: &AtReset) -> String {
    match at_reset {
        AtReset::Value(value) => value.to_string(),
        AtReset::Poison => "poison".to_owned(),
        AtReset::Counter => "a counter".to_owned(),
        AtReset::Unreadable(errno) => format!("unreadable (errno {errno})"),
    }
}

/// What differs in who the host is; of capabilities those that the tables have.
fn identity(record: &HostRecord, table: &Table) -> Vec<String> {
    let (ours, theirs) = (&record.identity, &table.identity);
    let mut differences = Vec::new();
    let midr = |midr: u64| format!("{midr:#x}");
    for (what, ours, theirs) in [
        ("release", ours.release.clone(), theirs.release.clone()),
        ("version", ours.version.clone(), theirs.version.clone()),
        ("midr", midr(ours.midr), midr(theirs.midr)),
        (
            "emulated",
            ours.emulated.to_string(),
            theirs.emulated.to_string(),
        ),
    ] {
        if ours != theirs {
            differences.push(format!(
                "{what}: {theirs} in the tables, {ours} in the records"
            ));
        }
    }
    for (name, theirs) in &table.capabilities {
        let ours = record.capabilities.get(name).copied().unwrap_or_default();
        if ours != *theirs {
            differences.push(format!(
                "{name}: {theirs} in the tables, {ours} in the records"
            ));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use cpreg::destination::Features;
    use cpreg::register::Value;
    use cpreg_hosts::record::{Identity, WriteTrial};

    use super::*;

    fn guest(value: u64) -> GuestRecord {
        let register = |id, at_reset| RegisterRecord {
            id,
            at_reset,
            differs_by_vcpu: false,
            write_back: 0,
            trials: Vec::new(),
        };
        GuestRecord {
            registers: vec![
                register(RegisterId::SCTLR_EL1, AtReset::Value(Value::U64(value))),
                register(RegisterId::PIR_EL1, AtReset::Poison),
            ],
            writable: Some(BTreeMap::from([(RegisterId::ID_AA64PFR0_EL1, value)])),
        }
    }

    fn compared(change: impl FnOnce(&mut HostRecord)) -> Vec<String> {
        let table = Table {
            host: "6.1__n1".to_owned(),
            set: PROBED_SET.to_owned(),
            identity: Identity::default(),
            capabilities: BTreeMap::from([("KVM_CAP_ARM_SVE".to_owned(), 1)]),
            features: Features::PMU,
            guest: guest(1),
        };
        let trial = WriteTrial {
            value: 7,
            errno: 22,
            read_back: 1,
        };
        let mut record = HostRecord {
            identity: table.identity.clone(),
            capabilities: table.capabilities.clone(),
            guests: BTreeMap::from([(Features::PMU, guest(1))]),
        };
        if let Some(guest) = record.guests.get_mut(&Features::PMU) {
            guest.registers[0].trials.push(trial);
        }
        change(&mut record);
        let records = BTreeMap::from([(table.host.clone(), record)]);
        let tried = Probes::from([(RegisterId::SCTLR_EL1, vec![trial])]);
        let probes = BTreeMap::from([(table.host.clone(), tried)]);
        let comparison = Comparison::compare(&records, &[table], &probes);
        let differences = comparison.differences.into_keys();
        differences
            .map(|(kind, what)| format!("{kind} {what}"))
            .collect()
    }

    fn changed(change: impl FnOnce(&mut GuestRecord)) -> Vec<String> {
        compared(|record| {
            record.guests.values_mut().next().map(change);
        })
    }

    #[test]
    fn what_is_equal_does_not_differ() {
        assert_eq!(compared(|_| ()), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let one = |change: fn(&mut GuestRecord)| changed(change).join("; ");
        assert_eq!(
            one(|guest| *guest = super::tests::guest(2)),
            "at reset SCTLR_EL1: 0x1 in the tables, 0x2 in the records; \
             writable ID_AA64PFR0_EL1: 0x1 in the tables, 0x2 in the records"
        );
        assert_eq!(
            one(|guest| guest.registers[0].write_back = 1),
            "written back SCTLR_EL1: errno 0 in the tables, 1 in the records"
        );
        assert_eq!(
            one(|guest| guest.registers[1].at_reset = AtReset::Counter),
            "at reset PIR_EL1: poison in the tables, a counter in the records"
        );
        assert_eq!(
            one(|guest| guest.registers.truncate(1)),
            "listed PIR_EL1: only in the tables"
        );
        assert_eq!(
            one(|guest| guest.registers[1].id = RegisterId::PIRE0_EL1),
            "listed PIRE0_EL1: only in the records; listed PIR_EL1: only in the tables"
        );
        assert_eq!(
            one(|guest| guest.writable = None),
            "writable masks only in the tables"
        );
        assert_eq!(
            one(|guest| guest.registers[0].trials[0].errno = 0),
            "tried SCTLR_EL1=0x7: errno 22 and reads 0x1 in the tables, 0 and 0x1 in the records"
        );
        assert_eq!(
            compared(|record| record.capabilities.clear()),
            ["identity KVM_CAP_ARM_SVE: 1 in the tables, 0 in the records"]
        );
    }
}
