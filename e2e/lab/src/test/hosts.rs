//! Tests of each host: it matches its record in cpreg, and a recorded host built from the record
//! behaves as the real one.
//!
//! * `cpreg probe kvm` on the host must give the record that is built into cpreg: registers for
//!   each set of features, values, errnos of writing them back, writable bits, and the results of
//!   tried values. Of a counter only the name is compared, because its values change with time.
//!   KVM's reset poison is not a value, so of such a register, too, only the name is compared.
//!   ISTATUS of a timer is ignored, because it depends on the moment.
//! * The example `compare` of `cpreg-kvm` makes thousands of writes and loads, both on the real
//!   host and on a recorded host built from its record.
//! * The example `id_fields` of `cpreg-kvm` compares the predictions about ID registers with KVM.
//!   `cargo xtask lab fields` does so on more hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cpreg::register::RegisterId;
use cpreg_hosts::record::{GuestRecord, Identity, RegisterRecord, WriteTrial};
use cpreg_hosts::{HostIndex, HostRecord};

use super::fixture::{Fixture, RESULTS, host_label};
use crate::fields;
use e2e_framework::Result;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::Kernel;

/// Example that compares a recorded host with the host on which it runs.
pub(crate) const COMPARE: &str = "compare";

/// Maximum number of differences printed.
const MAX_DIFFERENCES: usize = 20;

const SCRIPT: &str = "\
cpreg probe kvm -o /out/host.json > /out/probe 2>&1
echo $? > /out/probe.status
compare 20000 1 untimed > /out/compare 2>&1
echo $? > /out/compare.status
";

/// Boots a host, and runs all three tests.
pub(crate) fn test(fixture: &Fixture<'_>, kernel: &Kernel, cpu: &Cpu) {
    let job = Job {
        script: SCRIPT.to_owned() + fields::SCRIPT,
        programs: vec![
            fixture.programs.join("cpreg"),
            fixture.programs.join("examples").join(COMPARE),
            fixture.programs.join("examples").join(fields::ID_FIELDS),
        ],
        ..Job::default()
    };
    let host = EmulatedHost::new(kernel, cpu);
    let results = fixture
        .lab
        .folder
        .join("results")
        .join(RESULTS)
        .join(host.name());
    let booted = host.run(fixture.lab, &job, &results);
    let check = |name: &str| -> Result<()> {
        if let Err(error) = &booted {
            return Err(error.to_string().into());
        }
        let output = fs::read_to_string(results.join(name))?;
        match fs::read_to_string(results.join(format!("{name}.status")))?.trim() {
            "0" => Ok(()),
            status => Err(format!("  exit status {status}\n{output}").into()),
        }
    };
    let name = host_label(kernel, cpu);
    let check_record = || {
        check("probe")?;
        let found = HostRecord::from_json(&fs::read(results.join("host.json"))?)?;
        let index = HostIndex::built_in()?;
        let known = index.resolve(&format!("linux-{name}"))?.host.record();
        check_same(&known, &found)
    };
    fixture
        .tally
        .count(&format!("record of {name}"), check_record());
    let predictions = check(fields::ID_FIELDS);
    fixture
        .tally
        .count(&format!("ID registers of {name}"), predictions);
    let comparison = check("compare");
    fixture
        .tally
        .count(&format!("recorded host of {name}"), comparison);
}

/// Checks that two records describe the same host.
///
/// # Errors
/// Returns an error with the differences.
fn check_same(known: &HostRecord, found: &HostRecord) -> Result<()> {
    let mut differences = BTreeSet::new();
    // The built-in records do not hold the CPUs of a machine.
    let identity = Identity {
        cpus: found.identity.cpus.clone(),
        ..known.identity.clone()
    };
    if identity != found.identity {
        let (known, found) = (&known.identity, &found.identity);
        differences.insert(format!("identity: {known:?} recorded, {found:?} found"));
    }
    if known.hardware != found.hardware {
        let (known, found) = (&known.hardware, &found.hardware);
        differences.insert(format!("hardware: {known:?} recorded, {found:?} found"));
    }
    if known.capabilities != found.capabilities {
        differences.insert("capabilities".to_owned());
    }
    let none = GuestRecord::default();
    let features: BTreeSet<_> = known.guests.keys().chain(found.guests.keys()).collect();
    for features in features {
        let guest_of = |record: &HostRecord| record.guests.get(features).cloned();
        let (known, found) = (guest_of(known), guest_of(found));
        if known.is_none() || found.is_none() {
            differences.insert(format!(
                "{features}: only one record has guests with these features"
            ));
        }
        let (known, found) = (
            known.unwrap_or_else(|| none.clone()),
            found.unwrap_or_else(|| none.clone()),
        );
        if known.writable != found.writable {
            differences.insert(format!("{features}: writable bits"));
        }
        let (known, found) = (registers_by_id(&known), registers_by_id(&found));
        let ids: BTreeSet<_> = known.keys().chain(found.keys()).collect();
        for id in ids {
            let (known, found) = (known.get(id), found.get(id));
            for difference in register_differences(known.copied(), found.copied()) {
                differences.insert(format!("{features}: {id}: {difference}"));
            }
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    let shown: Vec<_> = differences.into_iter().take(MAX_DIFFERENCES).collect();
    Err(format!("  {count} differences:\n  {}", shown.join("\n  ")).into())
}

fn registers_by_id(guest: &GuestRecord) -> BTreeMap<RegisterId, &RegisterRecord> {
    let registers = guest.registers.iter();
    registers.map(|register| (register.id, register)).collect()
}

/// Returns the differences between a register and its record.
fn register_differences(
    known: Option<&RegisterRecord>,
    found: Option<&RegisterRecord>,
) -> Vec<String> {
    let (known, found) = match (known, found) {
        (Some(known), Some(found)) => (known.without_time(), found.without_time()),
        (Some(_), None) => return vec!["recorded, but not listed".to_owned()],
        _ => return vec!["listed, but not recorded".to_owned()],
    };
    let mut differing = Vec::new();
    let mut compare = |property: &str, known: String, found: String| {
        if known != found {
            differing.push(format!("{property}: recorded {known}, found {found}"));
        }
    };
    compare(
        "at reset",
        format!("{:x?}", known.at_reset),
        format!("{:x?}", found.at_reset),
    );
    let errno = |register: &RegisterRecord| register.write_back.to_string();
    compare("errno of writing it back", errno(&known), errno(&found));
    let per_vcpu = |register: &RegisterRecord| register.differs_by_vcpu.to_string();
    compare("differs by vCPU", per_vcpu(&known), per_vcpu(&found));
    let fields = |register: &RegisterRecord| format!("{:x?}", register.fields);
    compare("fields", fields(&known), fields(&found));
    let count = known.trials.len().max(found.trials.len());
    let first_difference =
        (0..count).find(|index| known.trials.get(*index) != found.trials.get(*index));
    if let Some(index) = first_difference {
        let trial = |register: &RegisterRecord| match register.trials.get(index) {
            Some(WriteTrial {
                value,
                errno,
                read_back,
            }) => format!("{value:#x} errno {errno} reads {read_back:#x}"),
            None => "none".to_owned(),
        };
        let property = format!("trial {} of {count}", index + 1);
        compare(&property, trial(&known), trial(&found));
    }
    differing
}

#[cfg(test)]
mod tests {
    use cpreg_hosts::record::AtReset;

    use super::*;

    #[test]
    fn records_are_compared_to_the_last_trial() {
        let index = HostIndex::built_in().unwrap();
        let name = "linux-6.12.107/neoverse-n1";
        let known = index.resolve(name).unwrap().host.record();
        assert!(check_same(&known, &known).is_ok());
        let mut other = known.clone();
        let guest = other.guests.values_mut().next().unwrap();
        let mut registers = guest.registers.iter_mut();
        let register = registers
            .find(|register| !register.trials.is_empty() && register.at_reset != AtReset::Counter);
        register.unwrap().trials[0].read_back ^= 1;
        assert!(check_same(&known, &other).is_err());
        let mut other = known.clone();
        other.guests.pop_first();
        assert!(check_same(&known, &other).is_err());
        // The values of a counter are not compared.
        let mut other = known.clone();
        for guest in other.guests.values_mut() {
            for register in &mut guest.registers {
                if register.at_reset == AtReset::Counter {
                    register.trials.clear();
                }
            }
        }
        assert!(check_same(&known, &other).is_ok());
    }
}
