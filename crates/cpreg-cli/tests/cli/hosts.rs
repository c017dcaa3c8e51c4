//! `cpreg hosts`, and recorded hosts as DESTINATION.

use insta::assert_snapshot;

use crate::fixtures::folder_with_stream;
use crate::run::{KVM_5_10, KVM_6_12, KVM_6_12_MAX_4, KVM_6_16_PMU_OFF, TCG_10_0, cpreg, cpreg_in};

#[test]
fn all_hosts_are_listed() {
    let run = cpreg(&["hosts"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("\n120 hosts"), "{run}");
    assert_snapshot!("hosts_one", cpreg(&["hosts", "linux-7.3/n2"]));
    assert_snapshot!("hosts_none", cpreg(&["hosts", "linux-next/n1"]));
    assert_snapshot!("hosts_features", cpreg(&["hosts", "linux-7.3/n2/pmu"]));
}

#[test]
fn a_recorded_host_is_a_destination() {
    let run = cpreg(&[
        "check",
        KVM_6_12,
        "linux-6.16.12/n1",
        "--loader",
        "qemu-10.0",
    ]);
    assert_snapshot!("hosts_check", run);
    let run = cpreg(&["check", KVM_6_12_MAX_4, "linux-7.3/max"]);
    assert_snapshot!("hosts_check_max", run);
}

/// Checks that the guest's features select the recording.
#[test]
fn guest_features_select_the_list() {
    let run = cpreg(&["check", KVM_6_16_PMU_OFF, "linux-6.16.12/n1"]);
    assert!(run.stdout.starts_with("loads:"), "{run}");
    assert!(
        run.stdout.contains("linux-6.16.12/neoverse-n1/none"),
        "{run}"
    );
    let run = cpreg(&["check", KVM_6_16_PMU_OFF, "linux-6.16.12/n1/pmu"]);
    assert!(run.stdout.contains("registers: 74 kept at reset"), "{run}");
    assert_snapshot!(
        "hosts_open",
        cpreg(&["check", KVM_5_10, "linux-6.12.107/n1"])
    );
    let no_sve = cpreg(&["check", KVM_6_12_MAX_4, "linux-6.16.12/n1"]);
    // The VM can only be started there without SVE.
    assert_eq!(no_sve.status, Some(1), "{no_sve}");
    assert!(
        no_sve.stdout.contains("KVM has no sve,ptrauth for guests"),
        "{no_sve}"
    );
}

#[test]
fn unknown_names_are_reported() {
    for (snapshot, name) in [
        ("hosts_ambiguous", "linux-6.12/n1"),
        ("hosts_unknown", "linux-next/n1"),
    ] {
        assert_snapshot!(snapshot, cpreg(&["check", KVM_6_12, name]));
    }
    let emulated = cpreg(&["check", TCG_10_0, "linux-6.16.12/a57"]);
    assert_eq!(emulated.status, Some(1), "{emulated}");
    assert!(
        emulated.stdout.contains("linux-6.16.12/cortex-a57"),
        "{emulated}"
    );
}

#[test]
fn a_file_wins_over_a_host() {
    let folder = folder_with_stream(KVM_6_12, "linux-6.16", b"no stream");
    let stream = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let run = cpreg_in(folder.path(), &["check", stream, "linux-6.16"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("cannot read linux-6.16"), "{run}");
}

#[test]
fn recorded_hosts_are_shown_and_compared() {
    let psci = ["--register", "PSCI_VERSION"];
    let show = [&["show", "linux-6.16.12/n1/pmu"], &psci[..]].concat();
    assert_snapshot!("hosts_show", cpreg(&show));
    assert_snapshot!("hosts_show_whose", cpreg(&["show", "linux-6.16.12/n1"]));
    let two = ["diff", "linux-6.12.107/n1/pmu", "linux-6.16.12/n1"];
    assert_snapshot!("hosts_diff", cpreg(&two));
    let stream = cpreg(&["diff", KVM_6_12, "linux-6.12.107/n1"]);
    assert!(
        !stream.stdout.contains("only in A (") && !stream.stdout.contains("values that differ"),
        "{stream}"
    );
}

#[test]
fn converted_vm_has_the_list_of_the_recorded_host() {
    let folder = folder_with_stream(KVM_6_12, "none", b"");
    let stream = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let host = "linux-6.16.12/n1";
    let run = cpreg_in(folder.path(), &["convert", stream, host, "-o", "out"]);
    assert_eq!(run.status, Some(0), "{run}");
    let run = cpreg_in(
        folder.path(),
        &["check", "out", host, "--loader", "qemu-10.0"],
    );
    assert!(run.stdout.starts_with("loads:"), "{run}");
}

/// QEMU blocks the migration of KVM guests with MTE.
#[test]
fn a_guest_with_mte_has_a_note() {
    let host = "linux-6.12.107/max+mte/pmu,sve,ptrauth,mte";
    let note = "Live migration disabled due to MTE enabled";
    let run = cpreg(&["check", host, host]);
    assert!(run.stdout.contains(note), "{run}");
    let report = cpreg(&["check", host, host, "--format", "json"]).json();
    assert!(
        report["notes"][0]
            .as_str()
            .is_some_and(|it| it.contains(note))
    );
    let without = "linux-6.12.107/max+mte/pmu,sve,ptrauth";
    let run = cpreg(&["check", without, host]);
    assert!(!run.stdout.contains(note), "{run}");
}
