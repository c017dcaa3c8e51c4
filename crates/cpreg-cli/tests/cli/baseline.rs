//! `cpreg baseline`: settings with which new VMs move among hosts.

use std::fs;
use std::path::Path;

use cpreg::register::RegisterId;
use cpreg_vcpu_filter::baseline::Baseline;
use insta::assert_snapshot;
use serde_json::Value;

use crate::fixtures::folder_with;
use crate::models::round_trip;
use crate::run::{KVM_6_12, cpreg, cpreg_in};

const N1: [&str; 3] = [
    "linux-6.12.107/neoverse-n1",
    "linux-6.16.12/neoverse-n1",
    "linux-7.3.4/neoverse-n1",
];
const MAX: [&str; 2] = ["linux-6.12.107/max", "linux-7.3.4/max"];

fn arguments<'a>(hosts: &[&'a str], options: &[&'a str]) -> Vec<&'a str> {
    let command = ["baseline"].iter().chain(hosts).chain(options);
    command.copied().collect()
}

#[test]
fn settings_for_one_cpu_need_no_consent() {
    let run = cpreg(&arguments(&N1, &[]));
    assert_eq!(run.status, Some(0), "{run}");
    assert_snapshot!("baseline_n1", run);
    for (target, snapshot) in [
        ("qemu", "baseline_n1_qemu"),
        ("libvirt", "baseline_n1_libvirt"),
        ("firecracker", "baseline_n1_firecracker"),
        ("run", "baseline_n1_run"),
    ] {
        let run = cpreg(&arguments(&N1, &["--for", target]));
        assert_eq!(run.status, Some(0), "{run}");
        assert_snapshot!(snapshot, run);
    }
    let old = cpreg(&arguments(&N1, &["--for", "qemu", "--loader", "qemu-10.0"]));
    assert_eq!(old.status, Some(1), "QEMU 10.0 has no option: {old}");
    assert!(old.stderr.contains("no option for PSCI_VERSION"), "{old}");
}

#[test]
fn a_name_stands_for_all_recorded_hosts_that_match() {
    let several = cpreg(&["baseline", "linux-6.12/n1", "linux-7.3/n1"]);
    assert_eq!(several.status, Some(0), "{several}");
    let each = [
        "linux-6.12.43/neoverse-n1",
        "linux-6.12.95/neoverse-n1",
        N1[0],
        N1[2],
    ];
    assert_eq!(several.stdout, cpreg(&arguments(&each, &[])).stdout);
    let features = cpreg(&["baseline", "linux-6.12/n1/pmu", "linux-7.3/n1"]);
    assert_snapshot!("baseline_several_with_features", features);
    let unrecorded = cpreg(&["baseline", "rhel-9/n1", "linux-7.3/n1"]);
    assert_eq!(unrecorded.status, Some(2), "{unrecorded}");
}

#[test]
fn fixed_fields_are_named() {
    let max = cpreg(&arguments(&MAX, &[]));
    assert_eq!(max.status, Some(1), "{max}");
    assert_snapshot!("baseline_max", max);
    let accepted = cpreg(&arguments(&MAX, &["--accept", "ID_AA64MMFR2_EL1"]));
    assert_eq!(accepted.status, Some(0), "{accepted}");
    let old = [
        "linux-5.10.223/neoverse-n1",
        "linux-6.1.176/neoverse-n1",
        N1[0],
    ];
    let old = cpreg(&arguments(&old, &[]));
    assert_eq!(old.status, Some(1), "{old}");
    assert!(old.stdout.contains("ID_AA64DFR0_EL1.DebugVer"), "{old}");
    let cpus = ["linux-7.3.4/neoverse-n1", "linux-7.3.4/neoverse-v1"];
    let cpus = cpreg(&arguments(&cpus, &[]));
    assert_eq!(cpus.status, Some(1), "{cpus}");
    for field in ["EVT", "FWB", "IDS"] {
        assert!(
            cpus.stdout.contains(&format!("ID_AA64MMFR2_EL1.{field}")),
            "{cpus}"
        );
    }
}

#[test]
fn registers_fit_and_the_cpu_differs() {
    let run = cpreg(&[
        "baseline",
        "linux-7.3.4/neoverse-v1",
        "linux-7.3.4/neoverse-n2",
    ]);
    assert_eq!(run.status, Some(1), "{run}");
    assert_snapshot!("baseline_v1_n2", run);
}

/// Checks that `cpreg run` takes the file, with every setting.
#[cfg(target_os = "linux")]
#[test]
fn cpreg_run_takes_the_file() {
    let hosts = ["linux-6.1.176/neoverse-n1", N1[0], N1[2]];
    for hosts in [hosts.as_slice(), &MAX] {
        let run = cpreg(&arguments(hosts, &["--for", "run"]));
        let file = Baseline::from_json(&run.stdout).expect("a baseline");
        assert_eq!(file.hosts, hosts);
        let folder = folder_with("baseline.json", run.stdout.as_bytes());
        let policy = ["run", "--print-policy", "--baseline", "baseline.json"];
        let policy = cpreg_in(folder.path(), &policy);
        assert_eq!(policy.status, Some(0), "{policy}");
        let policy: Value = serde_json::from_str(&policy.stdout).expect("JSON");
        let settings = policy["born_with"].as_array().map(Vec::len);
        assert_eq!(settings, Some(file.settings.len()));
    }
}

#[test]
fn reports_are_documented() {
    for hosts in [N1.as_slice(), &MAX] {
        round_trip(&cpreg(&arguments(hosts, &["--format", "json"])).stdout);
    }
    let run = cpreg(&arguments(&MAX, &["--format", "json"]));
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report["counts"]["pairs"], 2);
    assert_eq!(report["fixed"][0]["field"], "NV");
    assert_eq!(report["blocked"][0]["outcome"], "needs-consent");
}

#[test]
fn features_are_kept_on_request() {
    let hosts = ["linux-6.12.107/max", "linux-6.12.95/max", N1[0]];
    let run = cpreg(&arguments(&hosts, &["--keep", "sve"]));
    assert_eq!(run.status, Some(1), "{run}");
    assert_snapshot!("baseline_keep", run);
    let unknown = cpreg(&arguments(&hosts, &["--keep", "avx"]));
    assert_eq!(unknown.status, Some(2), "{unknown}");
    assert_snapshot!("baseline_keep_unknown", unknown);
}

#[test]
fn hosts_that_cannot_be_used_are_errors() {
    for (snapshot, arguments) in [
        ("baseline_one", vec!["baseline", N1[0], N1[0]]),
        ("baseline_stream", vec!["baseline", N1[0], KVM_6_12]),
        (
            "baseline_features",
            vec!["baseline", N1[0], "linux-7.3.4/neoverse-n1/pmu"],
        ),
        ("baseline_gap", vec!["baseline", N1[0], "rhel-9/n1"]),
    ] {
        let run = cpreg(&arguments);
        assert!(run.status.is_some_and(|status| status >= 2), "{run}");
        assert!(run.stdout.is_empty(), "{run}");
        assert_snapshot!(snapshot, run);
    }
}

/// A file of `cpreg probe kvm` is a host, and a damaged one is an error.
#[test]
fn files_are_hosts() {
    let record = crate::host_records::record("linux-7.3.4/neoverse-n1");
    let text = record.to_json().expect("JSON");
    let folder = folder_with("here.json", text.as_bytes());
    let run = cpreg_in(
        folder.path(),
        &["baseline", "here.json", N1[0], "--for", "qemu"],
    );
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("kvm-psci-version=1.1"), "{run}");
    fs::write(folder.path().join("here.json"), &text[..text.len() / 2]).expect("a file");
    let run = cpreg_in(folder.path(), &["baseline", "here.json", N1[0]]);
    assert_eq!(run.status, Some(2), "{run}");
}

/// The lab's file for this CPU is the one that the command prints (docs/kvm-baseline.md).
#[test]
fn the_lab_used_the_printed_settings() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = fs::read_to_string(docs.join("kvm-baseline/neoverse-n1.json")).expect("a file");
    let used = Baseline::from_json(&text).expect("a baseline");
    let hosts: Vec<_> = used.hosts.iter().map(String::as_str).collect();
    let run = cpreg(&arguments(&hosts, &["--for", "run"]));
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(Baseline::from_json(&run.stdout).expect("a baseline"), used);
    let report = cpreg(&arguments(&hosts, &["--format", "json"])).json();
    let printed = report["drops"].as_array().expect("a list");
    let lines = docs.join("kvm-baseline/neoverse-n1.jsonl");
    let lines = fs::read_to_string(lines).expect("a file");
    let line: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    let options = line["born_with"].as_array().expect("a list");
    for register in printed {
        assert!(
            options.contains(register),
            "{register} was dropped in the lab"
        );
    }
    let drops = options.iter().filter(|option| *option == "--drop");
    assert_eq!(drops.count(), printed.len());
}

/// A value that the record does not have leaves the result open.
#[test]
fn missing_information_is_unknown() {
    let mut record = crate::host_records::record("linux-7.3.4/neoverse-n1");
    let registers = record
        .guests
        .values_mut()
        .flat_map(|guest| &mut guest.registers);
    for register in registers.filter(|register| register.id == RegisterId::ID_AA64ISAR0_EL1) {
        register.differs_by_vcpu = true;
    }
    let text = record.to_json().expect("JSON");
    let folder = folder_with("here.json", text.as_bytes());
    let run = cpreg_in(
        folder.path(),
        &["baseline", "here.json", N1[0], "--format", "json"],
    );
    assert_eq!(run.status, Some(3), "{run}");
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report["verdict"], "unknown");
    assert!(
        report["blocked"]
            .as_array()
            .is_some_and(|blocked| !blocked.is_empty()),
        "{run}"
    );
}
