//! Names of hosts as people write them: machines, releases and distributions.

use crate::run::{KVM_6_12, cpreg};

#[test]
fn a_release_of_a_recorded_series_is_a_destination() {
    for (name, recorded) in [
        ("linux-6.12.100/n1", "linux-6.12.107/neoverse-n1/pmu"),
        (
            "linux-6.12.100+custom/Graviton2",
            "linux-6.12.107/neoverse-n1/pmu",
        ),
        (
            "linux-6.16.7-arm64/altra/PMU",
            "linux-6.16.12/neoverse-n1/pmu",
        ),
        ("ubuntu-26.04/neoverse-n1", "linux-7.0.13/neoverse-n1/pmu"),
    ] {
        let run = cpreg(&["check", KVM_6_12, name, "--format", "json"]);
        assert_eq!(run.status, Some(0), "{run}");
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("a report");
        assert_eq!(report["destination"]["name"], recorded, "{name}");
        let provenance = report["destination"]["provenance"].to_string();
        let host = name.trim_end_matches("/PMU");
        assert!(provenance.contains(&format!("stands for {host}")), "{run}");
    }
}

/// Checks that no verdict is invented for a kernel that no recorded one stands for.
#[test]
fn other_unrecorded_kernels_are_errors_with_a_command() {
    for (name, parts) in [
        (
            "linux-6.12.63/n1",
            ["linux-6.12.43/neoverse-n1", "linux-6.12.95/neoverse-n1"],
        ),
        (
            "ubuntu-24.04/n1",
            ["linux-6.1.176/neoverse-n1", "linux-6.12.43/neoverse-n1"],
        ),
        ("linux-9.0/n1", ["outside", "linux-7.3.4/neoverse-n1"]),
        ("rhel-9.4/n1", ["Red Hat Enterprise Linux", "backports"]),
        (
            "linux-5.14.0-427.13.1.el9_4.aarch64/n1",
            ["Red Hat Enterprise Linux", "backports"],
        ),
    ] {
        let run = cpreg(&["check", KVM_6_12, name]);
        assert_eq!(run.status, Some(2), "{run}");
        for part in parts.into_iter().chain(["cpreg probe kvm"]) {
            assert!(run.stderr.contains(part), "{name}: {run}");
        }
    }
}

#[test]
fn a_machine_without_a_recording_names_its_cpu() {
    let run = cpreg(&["check", KVM_6_12, "linux-7.3/graviton4"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("graviton4 (neoverse-v2)"), "{run}");
}
