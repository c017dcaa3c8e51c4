//! Each host is what cpreg has recorded of it, and what cpreg does with such a record, on any machine, is what the host does.
//!
//! * `cpreg probe kvm` there gives the record that the built-in history holds: which registers for which features, values, errnos of writing them back,
//!   writable bits, and what became of values that were tried. What a counter holds is different each time, and so are the values that are tried of
//!   it; it is compared by name. So is KVM's reset poison, which is no value. ISTATUS of a timer is left out: it depends on the moment.
//! * The example `compare` of `cpreg-kvm` there: thousands of writes, and loads, to the machine and to a recorded host made of its record.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cpreg::register::RegisterId;
use cpreg_hosts::record::{GuestRecord, RegisterRecord, WriteTrial};
use cpreg_hosts::{HostIndex, HostRecord};

use super::fixture::{Fixture, RESULTS, host_label};
use e2e_framework::Result;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::Kernel;

/// The example that compares a recorded host with the machine.
pub(crate) const COMPARE: &str = "compare";

/// How many differences are told.
const MAX_DIFFERENCES: usize = 20;

const SCRIPT: &str = "\
cpreg probe kvm -o /out/host.json > /out/probe 2>&1
echo $? > /out/probe.status
compare 20000 1 untimed > /out/compare 2>&1
echo $? > /out/compare.status
";

/// Boots a host, and tests both.
pub(crate) fn test(bench: &Fixture<'_>, kernel: &Kernel, cpu: &Cpu) {
    let job = Job {
        script: SCRIPT.to_owned(),
        programs: vec![
            bench.programs.join("cpreg"),
            bench.programs.join("examples").join(COMPARE),
        ],
        ..Job::default()
    };
    let host = EmulatedHost::new(kernel, cpu);
    let results = bench
        .lab
        .folder
        .join("results")
        .join(RESULTS)
        .join(host.name());
    let booted = host.run(bench.lab, &job, &results);
    let ended = |name: &str| -> Result<()> {
        if let Err(error) = &booted {
            return Err(error.to_string().into());
        }
        let said = fs::read_to_string(results.join(name))?;
        match fs::read_to_string(results.join(format!("{name}.status")))?.trim() {
            "0" => Ok(()),
            status => Err(format!("  exit status {status}\n{said}").into()),
        }
    };
    let name = host_label(kernel, cpu);
    let record = || {
        ended("probe")?;
        let found = HostRecord::from_json(&fs::read(results.join("host.json"))?)?;
        let history = HostIndex::built_in()?;
        let known = history.resolve(&format!("linux-{name}"))?.host.record();
        check_same(&known, &found)
    };
    bench.tally.count(&format!("record of {name}"), record());
    let compared = ended("compare");
    bench
        .tally
        .count(&format!("recorded host of {name}"), compared);
}

/// Whether two records are of one host.
///
/// # Errors
/// What differs.
fn check_same(known: &HostRecord, found: &HostRecord) -> Result<()> {
    let mut differences = BTreeSet::new();
    if known.identity != found.identity {
        let (known, found) = (&known.identity, &found.identity);
        differences.insert(format!("identity: {known:?} recorded, {found:?} found"));
    }
    if known.capabilities != found.capabilities {
        differences.insert("capabilities".to_owned());
    }
    let none = GuestRecord::default();
    let features: BTreeSet<_> = known.guests.keys().chain(found.guests.keys()).collect();
    for features in features {
        let of = |record: &HostRecord| record.guests.get(features).cloned();
        let (known, found) = (of(known), of(found));
        if known.is_none() || found.is_none() {
            differences.insert(format!("{features}: one has no such guests"));
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
            for what in register_differences(known.copied(), found.copied()) {
                differences.insert(format!("{features}: {id}: {what}"));
            }
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    let told: Vec<_> = differences.into_iter().take(MAX_DIFFERENCES).collect();
    Err(format!("  {count} differences:\n  {}", told.join("\n  ")).into())
}

fn registers_by_id(guest: &GuestRecord) -> BTreeMap<RegisterId, &RegisterRecord> {
    let registers = guest.registers.iter();
    registers.map(|register| (register.id, register)).collect()
}

/// In what a register is not as it was recorded.
fn register_differences(
    known: Option<&RegisterRecord>,
    found: Option<&RegisterRecord>,
) -> Vec<String> {
    let (known, found) = match (known, found) {
        (Some(known), Some(found)) => (known.without_time(), found.without_time()),
        (Some(_), None) => return vec!["not listed any more".to_owned()],
        _ => return vec!["listed, and not recorded".to_owned()],
    };
    let mut differing = Vec::new();
    let mut compare = |what: &str, known: String, found: String| {
        if known != found {
            differing.push(format!("{what}: recorded {known}, found {found}"));
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
    compare("other on another vCPU", per_vcpu(&known), per_vcpu(&found));
    let count = known.trials.len().max(found.trials.len());
    let other = (0..count).find(|at| known.trials.get(*at) != found.trials.get(*at));
    if let Some(at) = other {
        let trial = |register: &RegisterRecord| match register.trials.get(at) {
            Some(WriteTrial {
                value,
                errno,
                read_back: reads,
            }) => format!("{value:#x} errno {errno} reads {reads:#x}"),
            None => "none".to_owned(),
        };
        let what = format!("trial {} of {count}", at + 1);
        compare(&what, trial(&known), trial(&found));
    }
    differing
}

#[cfg(test)]
mod tests {
    use cpreg_hosts::record::AtReset;

    use super::*;

    #[test]
    fn records_are_compared_to_the_last_trial() {
        let history = HostIndex::built_in().unwrap();
        let name = "linux-6.12.107/neoverse-n1";
        let known = history.resolve(name).unwrap().host.record();
        assert!(check_same(&known, &known).is_ok());
        let mut other = known.clone();
        let guest = other.guests.values_mut().next().unwrap();
        let mut tried = guest.registers.iter_mut();
        let tried = tried
            .find(|register| !register.trials.is_empty() && register.at_reset != AtReset::Counter);
        tried.unwrap().trials[0].read_back ^= 1;
        assert!(check_same(&known, &other).is_err());
        let mut other = known.clone();
        other.guests.pop_first();
        assert!(check_same(&known, &other).is_err());
        // Of a counter only that it is one.
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
