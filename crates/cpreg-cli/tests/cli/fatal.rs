//! Changes that break a running guest: with destinations that differ from the source's host in one
//! field, and with all recorded streams and hosts.

use std::collections::BTreeSet;
use std::path::PathBuf;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Destination, Loader};
use cpreg::plan::{Check, Consents, IgnoreConsent, Verdict};
use cpreg::register::RegisterId;
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::host_index::HostIndex;

use crate::fixtures::{file_names, unpack_file};
use crate::run::{Run, cpreg};

/// A VM on Neoverse N1 under Linux 7.3, and options that give it the control registers of a running
/// Linux.
const LINUX_VM: [&str; 5] = [
    "streams/kvm/7.3.4__q11.1__neoverse-n1__virt11.1-smp4.stream.xz",
    "--set",
    "TCR_EL1=0x1b5b5103510",
    "--set",
    "SCTLR_EL1=0x34f4d91d",
];

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"))
}

/// Checks the Linux VM with a destination that differs from its host in one field.
fn check(profile: &str, consents: &[&str]) -> Run {
    let stream = fixtures().join(LINUX_VM[0]);
    let profile = fixtures().join(format!("profiles-fatal/{profile}.json"));
    let [stream, profile] = [stream, profile].map(|path| path.display().to_string());
    let mut arguments = vec!["check", &stream, &profile];
    arguments.extend(&LINUX_VM[1..]);
    arguments.extend(consents);
    cpreg(&arguments)
}

const ALL_CONSENTS: [&[&str]; 4] = [
    &[],
    &["--accept", "medium"],
    &["--accept", "medium", "--accept", "REG"],
    &["--accept", "medium", "--ignore", "REG"],
];

/// Asserts that only `--set` on the field resolves the difference. `options` are in every check.
fn assert_fatal(profile: &str, register: &str, field: &str, value: &str, options: &[&str]) {
    for consents in ALL_CONSENTS {
        let consents = consents
            .iter()
            .map(|word| if *word == "REG" { register } else { word });
        let consents: Vec<_> = consents.chain(options.iter().copied()).collect();
        let run = check(profile, &consents);
        assert_eq!(run.status, Some(1), "{profile} {consents:?}: {run}");
        assert!(run.stdout.contains("breaks a running guest"), "{run}");
        assert!(!run.stdout.contains("--ignore"), "{run}");
    }
    let set = format!("{register}.{field}={value}");
    let mut consents = vec!["--accept", "medium", "--set", &set];
    consents.extend(options);
    let run = check(profile, &consents);
    assert_eq!(run.status, Some(0), "{profile} {set}: {run}");
    assert!(run.stdout.contains("  fatal   "), "{run}");
}

#[test]
fn a_field_that_the_guest_uses_is_never_lowered() {
    assert_fatal("p-asid8", "ID_AA64MMFR0_EL1", "ASIDBits", "0", &[]);
    assert_fatal("p-pa", "ID_AA64MMFR0_EL1", "PARange", "2", &[]);
    assert_fatal("p-nolse", "ID_AA64ISAR0_EL1", "Atomic", "0", &[]);
    assert_fatal("p-el0", "ID_AA64PFR0_EL1", "EL0", "1", &[]);
    let with_64k_pages = ["--set", "TCR_EL1.TG0=1", "--set", "TCR_EL1.TG1=3"];
    assert_fatal(
        "p-no64k",
        "ID_AA64MMFR0_EL1",
        "TGran64",
        "15",
        &with_64k_pages,
    );
}

/// Without 32-bit EL0 the AArch32 ID registers read as zero and ignore writes.
#[test]
fn without_aarch32_only_el0_is_refused() {
    assert_fatal("p-no32", "ID_AA64PFR0_EL1", "EL0", "1", &[]);
    let run = check("p-no32", &[]);
    assert!(
        run.stdout.starts_with("refused: 1 register blocks"),
        "{run}"
    );
}

#[test]
fn cache_promises_may_rise_and_not_fall() {
    let run = check("p-dic1", &[]);
    assert_eq!(run.status, Some(0), "{run}");
    let with_dic = ["--set", "CTR_EL0.DIC=1"];
    let stream = fixtures().join(LINUX_VM[0]).display().to_string();
    let mut arguments = vec!["check", &stream, "linux-7.3.4/neoverse-n1"];
    arguments.extend(LINUX_VM[1..].iter().chain(&with_dic));
    let run = cpreg(&arguments);
    assert_ne!(run.status, Some(0), "{run}");
}

#[test]
fn a_granule_that_the_guest_does_not_use_may_disappear() {
    let run = check("p-no64k", &[]);
    assert_ne!(run.status, Some(0), "{run}");
    let run = check("p-no64k", &["--accept", "medium"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!run.stdout.contains("  fatal  "), "{run}");
}

#[test]
fn a_mitigation_is_lowered_by_name_only() {
    let run = check("p-csv", &["--accept", "medium"]);
    assert_ne!(run.status, Some(0), "{run}");
    let run = check("p-csv", &["--accept", "ID_AA64PFR0_EL1"]);
    assert_eq!(run.status, Some(0), "{run}");
    let run = check("p-csv", &["--accept", "high"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("--accept ID_AA64PFR0_EL1"), "{run}");
    let run = check("p-csv", &["--accept", "fatal"]);
    assert_eq!(run.status, Some(2), "{run}");
}

/// Returns the recorded streams of KVM with their names.
pub(crate) fn recorded_vms() -> Vec<(String, Vm)> {
    let folder = fixtures().join("streams/kvm");
    let names = file_names(&folder).into_iter();
    let streams = names.filter(|name| name.ends_with(".stream.xz"));
    let vms = streams.map(|name| {
        let stream = cpreg_stream::Stream::open(&unpack_file(&folder.join(&name)));
        let vm = stream.expect("a stream").vm().expect("a VM");
        (name, vm)
    });
    vms.collect()
}

/// Returns the recorded hosts as destinations of a VM.
pub(crate) fn recorded_destinations(index: &HostIndex, vm: &Vm) -> Vec<Destination> {
    let registers = &vm.vcpus[0].registers;
    let features = GuestFeatures::from_registers(registers).features;
    let hosts = index.hosts().into_iter();
    let destinations = hosts.filter_map(|host| {
        let destination = host.record().destination(features, Program::QEMU).ok()?;
        Some(Destination {
            loader: Some(Loader::qemu(11, 1)),
            ..destination
        })
    });
    destinations.collect()
}

fn accept_all_but_fatal(vm: &Vm) -> [Consents; 2] {
    let registers = vm.vcpus.iter().flat_map(|vcpu| vcpu.registers.iter());
    let registers: BTreeSet<RegisterId> = registers.map(|(id, _)| id).collect();
    let accept = Consents {
        accept: registers.iter().copied().collect(),
        accept_up_to: Some(Severity::Medium),
        ..Consents::default()
    };
    let ignore = registers.into_iter().map(|register| IgnoreConsent {
        register,
        condition: None,
    });
    let ignore = Consents {
        ignore: ignore.collect(),
        ..accept.clone()
    };
    [accept, ignore]
}

/// Checks all recorded streams with all recorded hosts, with every consent but `--set`.
#[test]
fn no_conversion_contains_a_fatal_change() {
    let index = HostIndex::built_in().expect("the checked-in index");
    let tolerances = Tolerances::default();
    let mut other_cpus = 0;
    for (name, vm) in recorded_vms() {
        let midr = vm.vcpus[0].registers.get_u64(RegisterId::MIDR_EL1);
        for destination in recorded_destinations(&index, &vm) {
            assert_eq!(destination.accelerator, Some(Accelerator::Kvm));
            let host_midr = destination.vcpus[0].value(RegisterId::MIDR_EL1);
            let is_other_cpu = midr.map(part) != host_midr.map(part);
            for consents in accept_all_but_fatal(&vm) {
                let check = Check::new(&vm, &destination, &tolerances, &consents);
                let converts = matches!(check.verdict, Verdict::Loads | Verdict::Converts);
                let plan = &check.plan;
                let label = format!("{name} to {}", destination.name);
                assert!(!(converts && is_other_cpu), "{label}");
                let mut visible = plan.visible_changes.iter();
                assert!(
                    visible.all(|change| change.severity < Severity::Fatal),
                    "{label}"
                );
                let mut proposed = plan.proposed_adjustments.iter();
                assert!(
                    proposed.all(|adjustment| adjustment.severity < Severity::Fatal),
                    "{label}"
                );
            }
            other_cpus += usize::from(is_other_cpu);
        }
    }
    assert!(other_cpus > 300, "{other_cpus}");
}

/// Returns implementer and part number of a MIDR_EL1.
const fn part(midr: u64) -> (u64, u64) {
    (midr >> 24 & 0xff, midr >> 4 & 0xfff)
}
