//! Hosts of VMs: `--from`, and hosts as SOURCE.

use cpreg::destination::Features;
use cpreg_hosts::HostIndex;
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fixtures::{folder_with, folder_with_stream, make_profile};
use crate::run::{KVM_6_12, KVM_7_3_MAX, TCG_10_0, cpreg, cpreg_in};

/// Control registers of a Linux guest that uses SVE with vectors of 2048 bits.
const SVE_IN_USE: [&str; 8] = [
    "--set",
    "CPACR_EL1.ZEN=3",
    "--set",
    "ZCR_EL1.LEN=15",
    "--set",
    "SCTLR_EL1=0x34f4d91d",
    "--set",
    "TCR_EL1=0x1b5b5103510",
];
const N2: &str = "linux-7.3.4/neoverse-n2";

/// Returns the decisions about the hardware that block the load, with their decision.
fn blocking_hardware(more: &[&str]) -> Vec<(String, String)> {
    let mut arguments = vec!["check", KVM_7_3_MAX, N2, "--format", "json"];
    arguments.extend(SVE_IN_USE);
    arguments.extend(more);
    let run = cpreg(&arguments);
    assert_eq!(run.status, Some(1), "{run}");
    let report = run.json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let decisions = report["hardware"].as_array().expect("a list").iter();
    let decisions = decisions.map(|row| (text(&row["property"]), text(&row["decision"])));
    decisions
        .filter(|(_, decision)| ["refuse", "unknown"].contains(&&**decision))
        .collect()
}

#[test]
fn vector_lengths_block_whatever_is_set_and_known() {
    let same_midr = ["--set", "MIDR_EL1=0x410fd493"];
    let from = ["--from", "linux-7.3.4/max"];
    let expected = ("SVE vector lengths".to_owned(), "refuse".to_owned());
    for more in [
        &[][..],
        &same_midr,
        &from,
        &[&same_midr[..], &from].concat(),
        &["--accept", "medium"],
    ] {
        let blocking = blocking_hardware(more);
        assert!(blocking.contains(&expected), "{more:?}: {blocking:?}");
    }
}

#[test]
fn vector_lengths_are_named() {
    let mut arguments = vec!["check", KVM_7_3_MAX, "linux-7.3.4/neoverse-n2"];
    arguments.extend(SVE_IN_USE);
    arguments.extend(["--from", "linux-7.3.4/max"]);
    let text = cpreg(&arguments).stdout;
    let begin = text.lines().take(12).collect::<Vec<_>>().join("\n");
    assert_snapshot!("source_host_lengths", begin);
}

/// Makes a profile of a stream with these facts.
fn profile_with(stream: &str, hardware: &Value) -> String {
    let mut profile: Value = serde_json::from_str(&make_profile(stream)).expect("a profile");
    profile["hardware"] = hardware.clone();
    profile.to_string()
}

#[test]
fn another_frequency_is_refused() {
    let slow = profile_with(KVM_6_12, &json!({"counter_frequency_hz": 24_000_000}));
    let folder = folder_with_stream(KVM_6_12, "slow.json", slow.as_bytes());
    let fast = profile_with(
        KVM_6_12,
        &json!({"counter_frequency_hz": 121_875_000, "dczid": "0x4"}),
    );
    std::fs::write(folder.path().join("fast.json"), fast).expect("a file");
    let name = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let check = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    assert_eq!(check(&["check", name, "slow.json"]).status, Some(0));
    let refused = check(&["check", name, "slow.json", "--from", "fast.json"]);
    assert_snapshot!("source_host_frequency", refused);
    let all = [
        "check",
        name,
        "slow.json",
        "--from",
        "fast.json",
        "--accept",
        "medium",
    ];
    assert_eq!(check(&all).status, Some(1));
    assert_eq!(
        check(&["check", name, "fast.json", "--from", "fast.json"]).status,
        Some(0)
    );
    // A report keeps what it was told.
    let report = [
        "report",
        name,
        "--from",
        "fast.json",
        "-o",
        "report.json",
        "--format",
        "json",
    ];
    assert_eq!(check(&report).status, Some(0));
    assert_eq!(
        check(&["check", "report.json", "slow.json"]).status,
        Some(1)
    );
    assert_eq!(
        check(&["check", "report.json", "fast.json"]).status,
        Some(0)
    );
    assert_snapshot!(
        "source_host_report_contradiction",
        check(&["check", "report.json", "fast.json", "--from", "slow.json"])
    );
}

#[test]
fn wrong_hosts_are_bad_usage() {
    assert_snapshot!(
        "source_host_midr",
        cpreg(&["check", KVM_6_12, KVM_6_12, "--from", N2])
    );
    assert_snapshot!(
        "source_host_accelerator",
        cpreg(&["check", TCG_10_0, TCG_10_0, "--from", N2])
    );
    assert_snapshot!(
        "source_host_stream",
        cpreg(&["check", KVM_6_12, KVM_6_12, "--from", KVM_6_12])
    );
    assert_snapshot!(
        "source_host_twice",
        cpreg(&["check", "linux-7.3.4/n1/pmu", KVM_6_12, "--from", N2])
    );
    let nowhere = cpreg(&["check", KVM_6_12, KVM_6_12, "--from", "nowhere"]);
    assert_eq!(nowhere.status, Some(2), "{nowhere}");
}

#[test]
fn every_command_that_decides_takes_a_host() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = folder.path().join("output");
    let output = output.to_str().expect("UTF-8");
    let vm = |command: &[&str]| {
        let from = ["--from", N2];
        let run = cpreg(&[command, &from].concat());
        assert_eq!(run.status, Some(2), "{run}");
        assert!(run.stderr.contains("cannot have run on"), "{run}");
    };
    vm(&["convert", KVM_6_12, KVM_6_12, "-o", output]);
    vm(&["report", KVM_6_12, KVM_6_12]);
    let rehearse = cpreg(&["rehearse", KVM_6_12, "--from", N2, "--", "qemu"]);
    assert_eq!(rehearse.status, Some(2), "{rehearse}");
    assert!(rehearse.stderr.contains("cannot have run on"), "{rehearse}");
}

#[test]
fn impossible_properties_are_errors() {
    for (name, hardware) in [
        ("frequency", json!({"counter_frequency_hz": 0})),
        (
            "high_frequency",
            json!({"counter_frequency_hz": 4_294_967_296_u64}),
        ),
        ("lengths", json!({"vector_lengths": "0x6"})),
        ("many_lengths", json!({"vector_lengths": "0x1ffff"})),
        ("block", json!({"dczid": "0xff"})),
    ] {
        let profile = profile_with(KVM_6_12, &hardware);
        let folder = folder_with_stream(KVM_6_12, "host.json", profile.as_bytes());
        let source = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
        let run = cpreg_in(folder.path(), &["check", source, "host.json"]);
        assert_snapshot!(format!("source_host_impossible_{name}"), run);
        let from = ["check", source, source, "--from", "host.json"];
        assert_eq!(cpreg_in(folder.path(), &from).status, Some(2));
    }
}

#[test]
fn a_new_vm_of_a_host_is_checked() {
    assert_snapshot!(
        "source_host_new_vm",
        cpreg(&[
            "check",
            "linux-6.12.107/neoverse-n1/pmu",
            "linux-6.16.12/neoverse-n1"
        ])
    );
    assert_snapshot!(
        "source_host_new_vm_without_features",
        cpreg(&[
            "check",
            "linux-6.12.107/neoverse-n1",
            "linux-6.16.12/neoverse-n1"
        ])
    );
    assert_snapshot!(
        "source_host_no_stream",
        cpreg(&[
            "convert",
            "linux-6.12.107/n1/pmu",
            KVM_6_12,
            "-o",
            "new.stream"
        ])
    );
}

#[test]
fn a_profile_is_checked() {
    let folder = folder_with("host.json", make_profile(KVM_6_12).as_bytes());
    let run = cpreg_in(folder.path(), &["check", "host.json", "host.json"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(
        run.stdout.starts_with("loads: the VM loads unchanged"),
        "{run}"
    );
    // A file of that name wins over a host.
    let host = folder.path().join("linux-6.12.107");
    std::fs::create_dir(&host).expect("a folder");
    std::fs::write(host.join("max"), make_profile(KVM_6_12)).expect("a file");
    let run = cpreg_in(folder.path(), &["check", "linux-6.12.107/max", "host.json"]);
    assert!(
        run.stdout
            .contains("a recorded destination (a new VM of this host"),
        "{run}"
    );
}

/// A new VM loads on its own host, for all recorded hosts with all of their features.
#[test]
fn every_host_loads_its_own_vms() {
    let index = HostIndex::built_in().expect("the checked-in index is valid");
    for host in index.hosts() {
        let features = host.register_counts().into_keys();
        let features = features
            .filter(|features| !features.contains(Features::EL1_32BIT))
            .max();
        let features = features.expect("a recorded guest");
        if !host.name().contains("7.3.4") && !host.name().contains("5.10.223") {
            continue;
        }
        let name = format!("{}/{features}", host.name());
        let run = cpreg(&["check", &name, &host.name()]);
        assert_eq!(run.status, Some(0), "{run}");
    }
}
