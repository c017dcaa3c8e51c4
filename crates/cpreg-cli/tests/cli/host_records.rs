//! Recorded hosts as files: shown, compared, and as DESTINATION. Also the error on machines without
//! KVM.

use std::fs;

use cpreg_hosts::{HostIndex, HostRecord};
use insta::assert_snapshot;
use tempfile::TempDir;

use crate::fixtures::folder_with_stream;
use crate::run::{KVM_5_10, KVM_6_12, cpreg, cpreg_in};

/// Stream in every folder here.
const STREAM: &str = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";

/// Returns the record of a built-in host.
pub(crate) fn record(name: &str) -> HostRecord {
    let index = HostIndex::built_in().expect("the checked-in index");
    index.resolve(name).expect("a recorded host").host.record()
}

/// Creates a folder with [`STREAM`] and the files of two hosts.
pub(crate) fn folder() -> TempDir {
    let json = |name| record(name).to_json().expect("JSON");
    let there = json("linux-6.16.12/neoverse-n1");
    let folder = folder_with_stream(KVM_6_12, "there.json", there.as_bytes());
    let here = json("linux-6.12.107/neoverse-n1");
    fs::write(folder.path().join("here.json"), here).expect("a file");
    folder
}

#[test]
fn a_host_is_shown() {
    let folder = folder();
    let show = |arguments: &[&str]| cpreg_in(folder.path(), &[&["show"], arguments].concat());
    assert_snapshot!("host_show", show(&["there.json"]));
    let registers = ["PSCI_VERSION", "ID_AA64MMFR0_EL1", "PIR_EL1", "TIMER_CNT"];
    let registers = registers.map(|name| ["--register", name]).concat();
    let here = [&["here.json/pmu"], &registers[..]].concat();
    assert_snapshot!("host_show_guest", show(&here));
    let all = show(&["here.json/none"]);
    assert!(all.stdout.contains("\ncore registers (75)\n"), "{all}");
    assert!(all.stdout.contains("      writable 0x"), "{all}");
    // The result by name is the same.
    let by_name = cpreg(&["show", "linux-6.12.107/n1/none"]);
    assert_eq!(
        all.stdout
            .replace("here.json", "linux-6.12.107/neoverse-n1"),
        by_name.stdout
    );
}

#[test]
fn bad_host_arguments_are_reported() {
    let folder = folder();
    let run = |arguments: &[&str]| cpreg_in(folder.path(), arguments);
    for (snapshot, arguments) in [
        ("host_no_such_guest", &["show", "here.json/sve"][..]),
        ("host_whose_fields", &["show", "here.json", "--fields"]),
        ("host_no_vcpus", &["show", "here.json", "--vcpu", "0"]),
        (
            "host_features_of_a_stream",
            &["check", STREAM, &format!("{STREAM}/pmu")],
        ),
        ("host_as_source", &["check", "here.json", "there.json"]),
    ] {
        let run = run(arguments);
        assert_eq!(run.status, Some(2), "{run}");
        assert_snapshot!(snapshot, run);
    }
}

#[test]
fn a_file_that_is_damaged_is_refused() {
    let folder = folder();
    let path = folder.path().join("here.json");
    let whole = fs::read_to_string(&path).expect("a file");
    for (snapshot, damaged) in [
        (
            "host_damaged",
            whole.replacen("\"at_reset\":\"0x", "\"at_reset\":\"", 1),
        ),
        ("host_cut", whole[..whole.len() / 2].to_owned()),
        (
            "host_newer",
            whole.replacen("cpreg.host/2", "cpreg.host/9", 1),
        ),
    ] {
        fs::write(&path, damaged).expect("a file");
        assert_snapshot!(snapshot, cpreg_in(folder.path(), &["show", "here.json"]));
    }
}

#[test]
fn two_hosts_are_compared_guest_by_guest() {
    let folder = folder();
    let diff = |arguments: &[&str]| cpreg_in(folder.path(), &[&["diff"], arguments].concat());
    assert_snapshot!("host_diff", diff(&["here.json", "there.json"]));
    let same = diff(&["here.json", "linux-6.12.107/n1"]);
    assert_eq!(same.status, Some(0), "{same}");
    assert!(same.stdout.starts_with("equal: 2 guests\n"), "{same}");
    let one = diff(&["linux-6.12.107/max/sve", "linux-7.3/max"]);
    assert!(one.stdout.contains("\nguests compared: sve\n"), "{one}");
    let kinds = diff(&["here.json/pmu", "there.json/none"]);
    assert!(kinds.stdout.contains("registers only in A ("), "{kinds}");
    let stream = diff(&[STREAM, "here.json"]);
    assert!(!stream.stdout.contains("values that differ"), "{stream}");
}

/// Checks a register whose accepted values are known, because all its values were tried.
#[test]
fn write_trials_decide() {
    use cpreg::destination::kernel::PSCI_VERSIONS;
    use cpreg::register::RegisterId;
    use cpreg_hosts::record::WriteTrial;

    let folder = folder();
    for (file, highest) in [("here.json", 0x1_0001), ("there.json", 0x1_0003)] {
        let path = folder.path().join(file);
        let bytes = fs::read(&path).expect("a file");
        let mut record = HostRecord::from_json(&bytes).expect("a host");
        let guests = record.guests.values_mut();
        for register in guests.flat_map(|guest| &mut guest.registers) {
            if register.id == RegisterId::PSCI_VERSION {
                let versions = PSCI_VERSIONS
                    .into_iter()
                    .filter(|version| *version != highest);
                let trials = versions.map(|value| WriteTrial {
                    value,
                    errno: if value < highest { 0 } else { 22 },
                    read_back: value.min(highest),
                });
                register.trials = trials.collect();
            }
        }
        fs::write(&path, record.to_json().expect("JSON")).expect("a file");
    }
    let diff = cpreg_in(folder.path(), &["diff", "here.json", "there.json"]);
    let show = ["show", "here.json/pmu", "--register", "PSCI_VERSION"];
    let show = cpreg_in(folder.path(), &show);
    let accepted_values = diff
        .stdout
        .split("\n\n")
        .find(|paragraph| paragraph.starts_with("accepted values"));
    assert_snapshot!(
        "host_takes",
        format!("{}\n\n{show}", accepted_values.unwrap_or_default())
    );
    let json = ["diff", "here.json", "there.json", "--format", "json"];
    let json = cpreg_in(folder.path(), &json).json();
    assert_eq!(json["accepted_values"][0]["a"]["one_of"][2], "0x10001");
    assert_eq!(
        json["accepted_values"][0]["b"]["subset_of"],
        serde_json::Value::Null
    );
}

#[test]
fn a_file_is_a_destination() {
    let folder = folder();
    let check = |destination: &str| {
        let run = cpreg_in(
            folder.path(),
            &["check", STREAM, destination, "--loader", "qemu-10.0"],
        );
        assert_eq!(run.status, Some(0), "{run}");
        run
    };
    let run = check("there.json");
    assert_snapshot!("host_check", run);
    let by_name = check("linux-6.16.12/n1");
    assert_eq!(run.without_steps(), by_name.without_steps());
    let by_features = check("there.json/pmu");
    assert_eq!(by_features.without_steps(), run.without_steps());
    // A guest of Linux 5.10 with and without a PMU cannot be told apart.
    let other = folder_with_stream(
        KVM_5_10,
        "there.json",
        &fs::read(folder.path().join("there.json")).expect("a file"),
    );
    let stream = "5.10.223__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let run = cpreg_in(other.path(), &["check", stream, "there.json"]);
    assert_eq!(run.status, Some(3), "{run}");
    for features in ["pmu", "none"] {
        let command = format!("\n    cpreg check {stream} there.json/{features}\n");
        assert!(run.stdout.contains(&command), "{run}");
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
#[test]
fn missing_kvm_is_reported() {
    let folder = folder();
    let run = |arguments: &[&str]| {
        let run = cpreg_in(folder.path(), arguments);
        assert_eq!(run.status, Some(2), "{run}");
        assert!(run.stdout.is_empty(), "{run}");
        run
    };
    assert_snapshot!("kvm_check", run(&["check", STREAM, "kvm"]));
    run(&["check", STREAM, "kvm/pmu"]);
    run(&["convert", STREAM, "kvm", "-o", "out"]);
    run(&["probe", "kvm", "-o", "out"]);
    assert!(!folder.path().join("out").exists());
}
