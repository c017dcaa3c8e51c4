//! Verdicts about a host between two recorded hosts, compared with what the host itself recorded.
//!
//! For each CPU and mode, two recorded kernels stand for each recorded kernel between them. VMs are
//! recorded streams and new VMs of the hosts with the same CPU model in the usual mode.

#[expect(dead_code, reason = "the outcomes of loads are not needed")]
#[path = "../../cpreg-explain/tests/common/recorded.rs"]
mod recorded;

use std::collections::BTreeMap;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Destination, Features, Loader};
use cpreg::plan::{Check, Consents, PossibleCheck, Verdict};
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::{HostIndex, HostRecord, IndexedHost};
use recorded::recorded_vms;

/// Distance of the two kernels, in recorded kernels. Kernels further apart rarely give a verdict.
const DISTANCE: usize = 2;

/// Fraction of the VMs that are checked, so that the test ends in time.
const EVERY_NTH: usize = 3;

/// VM with the features of its guest.
struct Source {
    name: String,
    vm: Vm,
    features: Features,
}

/// Numbers of middle kernels by comparison of the verdict with their own record.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// The kernels around it give no verdict.
    undecided: usize,
    /// The kernels around it have the same result, and not on the same basis.
    without_basis: usize,
    /// Subset of [`Self::without_basis`] that loads the VM, although the record refuses it.
    contradictions_without_basis: usize,
    /// The VM loads or converts, and so it does by the record.
    confirmed: usize,
    /// The VM is refused, and so it is by the record.
    confirmed_refusals: usize,
    /// The record itself does not decide.
    unconfirmed_refusals: usize,
}

/// Returns the VMs by CPU model. A stream with several vCPUs has the decisions of one with one.
fn sources(records: &[HostRecord]) -> BTreeMap<String, Vec<Source>> {
    let mut sources: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    let streams = recorded_vms().into_iter();
    for (name, vm) in streams.filter(|(_, vm)| vm.vcpus.len() == 1) {
        let stream = name
            .strip_prefix("kvm/")
            .or_else(|| name.strip_prefix("edited/"));
        // A stream's name is like `6.12.107__q10.0__neoverse-n1__virt10.0-smp1`.
        let Some(cpu) = stream.and_then(|stream| stream.split("__").nth(2)) else {
            continue;
        };
        let model = cpu.split('+').next().unwrap_or(cpu).to_owned();
        let features = GuestFeatures::from_registers(&vm.vcpus[0].registers).features;
        sources
            .entry(model)
            .or_default()
            .push(Source { name, vm, features });
    }
    for record in records.iter().filter(|it| it.identity.mode.is_empty()) {
        let features = record.guests.keys().copied();
        for features in features.filter(|it| !it.contains(Features::EL1_32BIT)) {
            let vm = record.new_vm(features, Program::QEMU);
            let of_model = sources.entry(record.identity.cpu.clone()).or_default();
            of_model.push(Source {
                name: format!("a new VM of {}/{features}", record.identity.name()),
                vm: vm.expect("the features were recorded"),
                features,
            });
        }
    }
    sources
}

/// Returns the hosts with one CPU and mode, oldest first, for each CPU and mode.
fn hosts_by_cpu(records: &[HostRecord]) -> BTreeMap<String, Vec<&HostRecord>> {
    let mut hosts: BTreeMap<String, Vec<&HostRecord>> = BTreeMap::new();
    for record in records {
        let cpu = record.identity.cpu_and_mode();
        hosts.entry(cpu).or_default().push(record);
    }
    hosts
}

/// Compares the verdicts about one VM with the records.
fn compare(source: &Source, hosts: &[&HostRecord], consents: &Consents, tally: &mut Tally) {
    let tolerances = Tolerances::default();
    let Source { name, vm, features } = source;
    let check = |vm: &Vm, destination: &Destination, consents: &Consents| {
        Check::new(vm, destination, &tolerances, consents)
    };
    let destinations = hosts.iter().filter_map(|host| {
        let mut destination = host.destination(*features, Program::QEMU).ok()?;
        destination.loader = Some(Loader::qemu(11, 1));
        let own = check(vm, &destination, consents);
        Some((destination, own))
    });
    let destinations: Vec<_> = destinations.collect();
    for hosts in destinations.windows(DISTANCE + 1) {
        let [(_, older), between @ .., (_, newer)] = hosts else {
            continue;
        };
        let [one, other] = [older, newer].map(PossibleCheck::from);
        if !one.has_same_result(other, vm) || one.verdict == Verdict::Unknown {
            tally.undecided += between.len();
            continue;
        }
        if !one.encloses_result(other, vm) {
            tally.without_basis += between.len();
            if one.verdict != Verdict::Refused {
                let refusing = between.iter().map(|(_, own)| own.verdict);
                let refusing = refusing.filter(|verdict| *verdict == Verdict::Refused);
                tally.contradictions_without_basis += refusing.count();
            }
            continue;
        }
        let converted = older.plan.apply(vm);
        for (destination, own) in between {
            let context = format!("{name} to {}: {:?}", destination.name, one.verdict);
            if one.verdict == Verdict::Refused {
                match own.verdict {
                    Verdict::Refused => tally.confirmed_refusals += 1,
                    Verdict::Unknown => tally.unconfirmed_refusals += 1,
                    verdict => panic!("{context}, and its record {verdict:?}"),
                }
                continue;
            }
            assert_eq!(own.verdict, one.verdict, "{context}");
            assert!(own.plan.apply(vm).is_same_state(&converted), "{context}");
            if one.verdict == Verdict::Converts {
                let loaded = check(&converted, destination, &Consents::default());
                assert_eq!(loaded.verdict, Verdict::Loads, "{context}, converted");
            }
            let mut changes = older.plan.clone();
            changes.add_visible_changes(&newer.plan);
            let mut own_changes = own.plan.visible_changes.iter();
            assert!(
                own_changes.all(|change| changes.visible_changes.contains(change)),
                "{context}: visible changes"
            );
            tally.confirmed += 1;
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "prints the numbers with --nocapture")]
fn no_verdict_between_two_hosts_is_contradicted_by_the_host_itself() {
    let index = HostIndex::built_in().expect("the checked-in index is valid");
    let records: Vec<_> = index.hosts().iter().map(IndexedHost::record).collect();
    let sources = sources(&records);
    let mut tally = Tally::default();
    for hosts in hosts_by_cpu(&records).values() {
        let sources = sources[&hosts[0].identity.cpu].iter().step_by(EVERY_NTH);
        for (number, source) in sources.enumerate() {
            let consents = Consents {
                accept_up_to: (number % 2 == 0).then_some(Severity::Medium),
                ..Consents::default()
            };
            compare(source, hosts, &consents, &mut tally);
        }
    }
    println!("{tally:#?}");
    assert!(tally.confirmed > 1_000 && tally.confirmed_refusals > 500);
    // Linux 5.10, 6.1 and 6.12 show that equal results alone are not enough.
    assert!(tally.without_basis > 100 && tally.contradictions_without_basis > 0);
}
