//! `cargo xtask compare-hosts RECORDS TABLES [PROBES]`: compares records of `cpreg probe kvm` with
//! independent tables of the same hosts.
//!
//! | compared | criterion |
//! |---|---|
//! | listed registers | ids |
//! | values at reset | equal values; reset poison and counters must occur on both sides |
//! | writing back the value read | the errno |
//! | writable bits | presence of masks, and the masks |
//! | tried values | errno and value read back, if both tried the value; not for counters |
//!
//! [`EXPLAINED_DIFFERENCES`] lists differences with a known reason, which are not failures.
//!
//! Each difference is printed once, with the number of its guests. `--as-records RECORDS TABLES
//! [PROBES]` writes the tables as recorded hosts, as far as possible, for `cpreg show` and `cpreg
//! diff`.
//!
//! | file | content |
//! |---|---|
//! | [`tables`] | format of the tables |

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cpreg::destination::kernel::RegisterKind;
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::{AtReset, GuestRecord, RegisterRecord};

use crate::error::Result;
use crate::hosts;
use tables::{Probes, Table};

/// Compares records and tables, and fails if anything differs.
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

/// Returns the record of a table's host. Without a record in the table's mode, returns the record
/// without a mode: the kernel does not support that mode.
fn record_of<'r>(records: &'r BTreeMap<String, HostRecord>, host: &str) -> Option<&'r HostRecord> {
    let without_mode = || records.get(host.split_once('+')?.0);
    records.get(host).or_else(without_mode)
}

/// Name of the feature set of the guests on which values were tried.
const PROBED_SET: &str = "all";

/// Writes the tables as recorded hosts.
fn write(folder: &Path, tables: &[Table], probes: &BTreeMap<String, Probes>) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut records: BTreeMap<&str, HostRecord> = BTreeMap::new();
    for table in tables {
        let record = records.entry(&table.host).or_insert_with(|| HostRecord {
            identity: table.identity.clone(),
            capabilities: table.capabilities.clone(),
            guests: BTreeMap::new(),
            hardware: HardwareFacts::UNKNOWN,
        });
        // On a CPU without SVE, `all` is the same as `pmu`.
        if record.guests.contains_key(&table.features) {
            continue;
        }
        let mut guest = table.guest.clone();
        let tried = probes.get(&table.host).filter(|_| table.set == PROBED_SET);
        for (register, trials) in guest.registers.iter_mut().filter_map(|register| {
            let trials = tried?.get(&register.id)?;
            Some((register, trials))
        }) {
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

/// Differences with a known reason: kind, difference, reason.
const EXPLAINED_DIFFERENCES: [(&str, &str, &str); 1] = [(
    "at reset",
    "PMOVSSET_EL0: 0x0 in the tables, 0x8000001e in the records",
    "the tables' recorder wrote each register back before it read the next, and writing back PMOVSCLR_EL0 clears PMOVSSET_EL0 on kernels with \
     a45f41d754e0 and without f2aeb7bbd574 (6.12 here); cpreg reads all before it writes any",
)];

/// Differences by kind and description, each with the names of the guests that show it.
type Differences = BTreeMap<(&'static str, String), Vec<String>>;

/// Result of a comparison.
#[derive(Debug, Default)]
struct Comparison {
    differences: Differences,
    /// Differences in [`EXPLAINED_DIFFERENCES`].
    explained_differences: Differences,
    /// Entries that only one side has, which are not differences.
    one_sided: Differences,
    guests: usize,
    registers: usize,
    masks: usize,
    trials: usize,
    /// Registers whose values were not compared, because neither side has a constant value.
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
            let guest_name = format!("{}/{}", table.host, table.features);
            let Some(record) = record_of(records, &table.host) else {
                comparison.add_one_sided("hosts", "only in the tables", &table.host);
                continue;
            };
            for description in identity_differences(record, table) {
                comparison.add_difference("identity", description, &guest_name);
            }
            let Some(recorded) = record.guests.get(&table.features) else {
                comparison.add_one_sided("guests", "only in the tables", &guest_name);
                continue;
            };
            comparison.guests += 1;
            comparison.compare_guest(recorded, &table.guest, &guest_name);
            if table.set == PROBED_SET
                && let Some(host_probes) = probes.get(&table.host)
            {
                comparison.compare_trials(recorded, host_probes, &guest_name);
            }
        }
        for (host, record) in records {
            let tables_of_host = || tables.iter().filter(|table| table.host == *host);
            if tables_of_host().next().is_none() {
                comparison.add_one_sided("hosts", "only in the records", host);
                continue;
            }
            for features in record.guests.keys() {
                if tables_of_host().all(|table| table.features != *features) {
                    let guest_name = format!("{host}/{features}");
                    comparison.add_one_sided("guests", "only in the records", &guest_name);
                }
            }
        }
        comparison
    }

    fn add_difference(
        &mut self,
        kind: &'static str,
        description: impl Into<String>,
        guest_name: &str,
    ) {
        let description = description.into();
        let is_explained = EXPLAINED_DIFFERENCES
            .iter()
            .any(|(known_kind, known, _)| (*known_kind, *known) == (kind, &*description));
        let differences = if is_explained {
            &mut self.explained_differences
        } else {
            &mut self.differences
        };
        let guests = differences.entry((kind, description)).or_default();
        guests.push(guest_name.to_owned());
    }

    fn add_one_sided(
        &mut self,
        kind: &'static str,
        description: impl Into<String>,
        guest_name: &str,
    ) {
        let guests = self
            .one_sided
            .entry((kind, description.into()))
            .or_default();
        guests.push(guest_name.to_owned());
    }

    fn compare_guest(&mut self, recorded: &GuestRecord, table: &GuestRecord, guest_name: &str) {
        let by_id = |guest: &GuestRecord| -> BTreeMap<RegisterId, RegisterRecord> {
            let registers = guest.registers.iter().cloned();
            registers.map(|register| (register.id, register)).collect()
        };
        let (recorded_registers, table_registers) = (by_id(recorded), by_id(table));
        for id in recorded_registers.keys() {
            if !table_registers.contains_key(id) {
                self.add_difference("listed", format!("{id}: only in the records"), guest_name);
            }
        }
        for (id, expected) in &table_registers {
            let Some(actual) = recorded_registers.get(id) else {
                self.add_difference("listed", format!("{id}: only in the tables"), guest_name);
                continue;
            };
            self.registers += 1;
            match (&expected.at_reset, &actual.at_reset) {
                (AtReset::Poison, AtReset::Poison) => {
                    self.exempt.insert(("poison", *id));
                }
                (AtReset::Counter, AtReset::Counter) => {
                    self.exempt.insert(("counters", *id));
                }
                (expected, actual) if expected == actual => {}
                (expected, actual) => {
                    let description = format!(
                        "{id}: {} in the tables, {} in the records",
                        describe_reset(expected),
                        describe_reset(actual)
                    );
                    self.add_difference("at reset", description, guest_name);
                }
            }
            if actual.write_back != expected.write_back {
                let description = format!(
                    "{id}: errno {} in the tables, {} in the records",
                    expected.write_back, actual.write_back
                );
                self.add_difference("written back", description, guest_name);
            }
        }
        match (&table.writable, &recorded.writable) {
            (Some(expected), Some(actual)) => {
                let ids: BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
                for id in ids {
                    self.masks += 1;
                    // A mask of 0 is the same as no mask.
                    let mask = |masks: &BTreeMap<RegisterId, u64>| {
                        masks.get(id).copied().unwrap_or_default()
                    };
                    let (expected, actual) = (mask(expected), mask(actual));
                    if expected != actual {
                        let description = format!(
                            "{id}: {expected:#x} in the tables, {actual:#x} in the records"
                        );
                        self.add_difference("writable", description, guest_name);
                    }
                }
            }
            (None, None) => {}
            (Some(_), None) => {
                self.add_difference("writable", "masks only in the tables", guest_name);
            }
            (None, Some(_)) => {
                self.add_difference("writable", "masks only in the records", guest_name);
            }
        }
    }

    fn compare_trials(&mut self, recorded: &GuestRecord, probes: &Probes, guest_name: &str) {
        for (id, trials) in probes {
            if RegisterKind::from_id(*id) == RegisterKind::Counter {
                self.exempt.insert(("counters", *id));
                continue;
            }
            let Some(register) = recorded
                .registers
                .iter()
                .find(|register| register.id == *id)
            else {
                continue;
            };
            for expected in trials {
                let mut actual = register.trials.iter();
                let Some(actual) = actual.find(|actual| actual.value == expected.value) else {
                    self.add_one_sided(
                        "values tried only in the tables",
                        id.to_string(),
                        guest_name,
                    );
                    continue;
                };
                self.trials += 1;
                if actual != expected {
                    let description = format!(
                        "{id}={:#x}: errno {} and reads {:#x} in the tables, {} and {:#x} in the records",
                        expected.value,
                        expected.errno,
                        expected.read_back,
                        actual.errno,
                        actual.read_back
                    );
                    self.add_difference("tried", description, guest_name);
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
            let names = self
                .exempt
                .iter()
                .filter(|(exempt_kind, _)| *exempt_kind == kind);
            let names: Vec<_> = names.map(|(_, id)| id.to_string()).collect();
            println!("no values on either side ({kind}): {}", names.join(" "));
        }
        for (_, description, why) in EXPLAINED_DIFFERENCES {
            println!("explained: {description}: {why}");
        }
        for (title, differences) in [
            ("not compared", &self.one_sided),
            ("explained", &self.explained_differences),
            ("differences", &self.differences),
        ] {
            println!("\n{title} ({})", differences.len());
            for ((kind, description), guests) in differences {
                let shown_guests: Vec<_> = guests.iter().take(3).map(String::as_str).collect();
                let more = if guests.len() > 3 { ", …" } else { "" };
                let count = guests.len();
                println!(
                    "  {kind}  {description}  ×{count} ({}{more})",
                    shown_guests.join(", ")
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

/// Returns the differences in identity and in those capabilities that the tables have.
fn identity_differences(record: &HostRecord, table: &Table) -> Vec<String> {
    let (actual, expected) = (&record.identity, &table.identity);
    let mut differences = Vec::new();
    let midr = |midr: u64| format!("{midr:#x}");
    for (description, actual, expected) in [
        ("release", actual.release.clone(), expected.release.clone()),
        ("version", actual.version.clone(), expected.version.clone()),
        ("midr", midr(actual.midr), midr(expected.midr)),
        (
            "emulated",
            actual.emulated.to_string(),
            expected.emulated.to_string(),
        ),
    ] {
        if actual != expected {
            differences.push(format!(
                "{description}: {expected} in the tables, {actual} in the records"
            ));
        }
    }
    for (name, expected) in &table.capabilities {
        let actual = record.capabilities.get(name).copied().unwrap_or_default();
        if actual != *expected {
            differences.push(format!(
                "{name}: {expected} in the tables, {actual} in the records"
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
            fields: None,
        };
        GuestRecord {
            registers: vec![
                register(RegisterId::SCTLR_EL1, AtReset::Value(Value::U64(value))),
                register(RegisterId::PIR_EL1, AtReset::Poison),
            ],
            writable: Some(BTreeMap::from([(RegisterId::ID_AA64PFR0_EL1, value)])),
        }
    }

    fn differences_of(change: impl FnOnce(&mut HostRecord)) -> Vec<String> {
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
            hardware: HardwareFacts::UNKNOWN,
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
            .map(|(kind, description)| format!("{kind} {description}"))
            .collect()
    }

    fn differences_of_guest(change: impl FnOnce(&mut GuestRecord)) -> Vec<String> {
        differences_of(|record| {
            record.guests.values_mut().next().map(change);
        })
    }

    #[test]
    fn equal_records_do_not_differ() {
        assert_eq!(differences_of(|_| ()), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let one = |change: fn(&mut GuestRecord)| differences_of_guest(change).join("; ");
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
            differences_of(|record| record.capabilities.clear()),
            ["identity KVM_CAP_ARM_SVE: 1 in the tables, 0 in the records"]
        );
    }
}
