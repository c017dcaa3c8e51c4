//! `cpreg diff`.

use insta::assert_snapshot;

use crate::fixtures::{folder_with_stream, make_profile};
use crate::run::{
    KVM_6_12, KVM_6_12_MAX_4, KVM_6_12_Q11_1, KVM_6_16, KVM_7_3_MAX, TCG_7_2, TCG_10_0, TCG_11_1,
    cpreg, cpreg_in,
};

#[test]
fn two_kernels() {
    assert_snapshot!("diff_kvm", cpreg(&["diff", KVM_6_12, KVM_6_16]));
}

#[test]
fn two_qemus() {
    assert_snapshot!("diff_tcg", cpreg(&["diff", TCG_7_2, TCG_10_0]));
    assert_snapshot!("diff_tcg_parts", cpreg(&["diff", TCG_10_0, TCG_11_1]));
}

#[test]
fn values_that_guests_change_are_left_out() {
    assert_snapshot!("diff_equal", cpreg(&["diff", KVM_6_12, KVM_6_12_Q11_1]));
    let run = cpreg(&["diff", KVM_6_12, KVM_6_12_Q11_1, "--all"]);
    assert_snapshot!("diff_all", run);
}

#[test]
fn a_file_equals_itself() {
    let run = cpreg(&["diff", KVM_6_12_MAX_4, KVM_6_12_MAX_4, "--all"]);
    assert_snapshot!("diff_itself", run);
}

#[test]
fn other_numbers_of_vcpus() {
    let run = cpreg(&["diff", KVM_6_12_MAX_4, KVM_7_3_MAX, "--all"]);
    assert_snapshot!("diff_vcpus", run);
}

#[test]
fn other_executions() {
    let run = cpreg(&["diff", KVM_6_12, TCG_10_0]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stdout.contains("  accelerator: kvm -> tcg\n"), "{run}");
}

#[test]
fn a_stream_and_a_profile() {
    let folder = folder_with_stream(KVM_6_16, "there.json", make_profile(KVM_6_12).as_bytes());
    let stream = "6.16.12__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let run = cpreg_in(folder.path(), &["diff", stream, "there.json"]);
    assert_snapshot!("diff_profile", run);
}

/// Checks that vCPUs with equal differences are grouped, and others are separate.
#[test]
fn vcpus_by_difference() {
    let mut profile: serde_json::Value =
        serde_json::from_str(&make_profile(KVM_6_12_MAX_4)).expect("JSON");
    for (vcpu, value) in [(1, "0x10002"), (2, "0x10002"), (3, "0x10000")] {
        let registers = profile["vcpus"][vcpu]["registers"].as_array_mut();
        let psci = registers
            .expect("a list")
            .iter_mut()
            .find(|register| register["name"] == "PSCI_VERSION");
        psci.expect("listed")["value"] = value.into();
    }
    let folder = folder_with_stream(KVM_6_12_MAX_4, "there.json", profile.to_string().as_bytes());
    let stream = "6.12.107__q10.0__max__virt10.0-smp4.stream.xz";
    let run = cpreg_in(folder.path(), &["diff", stream, "there.json"]);
    assert_snapshot!("diff_some_vcpus", run);
}

/// Checks that the counts of the first line and of the titles are the numbers of listed lines.
#[test]
fn counts_are_numbers_of_lines() {
    for (a, b) in [
        ("linux-6.12.107/max", "linux-6.16.12/max"),
        ("linux-5.10.223/neoverse-n1", "linux-7.3.4/neoverse-n1"),
    ] {
        let run = cpreg(&["diff", a, b]);
        let (head, sections) = run.stdout.split_once("\n\n").expect("sections");
        let count_of = |text: &str| -> usize {
            let (_, count) = text.rsplit_once('(').expect("a count");
            let (count, _) = count.split_once(')').expect("a count");
            count.parse().expect("a number")
        };
        let first = head.lines().next().expect("a line");
        let total: usize = first.split(", ").map(count_of).sum();
        let mut listed = 0;
        for section in sections.split("\n\n").filter(|it| !it.contains(':')) {
            let mut lines = section.lines();
            let title = lines.next().expect("a title");
            let rows = lines.filter(|line| !line.starts_with("      ")).count();
            assert_eq!(count_of(title), rows, "{section}");
            listed += rows;
        }
        assert!(listed > 0, "{run}");
        let trials = sections
            .split("\n\n")
            .filter(|it| it.contains(':') && it.contains("A -> B ("))
            .map(|section| {
                let title = section.lines().next().expect("a title");
                count_of(title)
            });
        assert_eq!(total, listed + trials.sum::<usize>(), "{run}");
    }
}

#[test]
fn two_kernels_without_a_cpu() {
    let run = cpreg(&["diff", "linux-6.12", "linux-6.16"]);
    assert_snapshot!("diff_kernels", run);
    let (head, rest) = run.stdout.split_once("\n  A  ").expect("sides");
    let counts = head.split(['(', ')']).skip(1).step_by(2);
    let counts = counts.map(|count| count.parse::<usize>().expect("a number"));
    let (_, sections) = rest.split_once("\nchanged").expect("a section");
    let is_row = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let rows = sections.lines().filter(is_row).count();
    assert_eq!(counts.sum::<usize>(), rows, "{run}");
    for (commit, register) in [
        ("0fcb4eea5345", "TCR2_EL1"),
        ("8be82d536a9f", "PSCI_VERSION"),
    ] {
        let mut reasons = sections.split("\nchanged");
        let reason = reasons.find(|reason| reason.contains(commit));
        assert!(reason.is_some_and(|it| it.contains(register)), "{run}");
    }
}

#[test]
fn kernels_in_either_order() {
    let run = cpreg(&["diff", "linux-6.16.3", "linux-6.16.12"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.starts_with("equal: 9 CPUs\n"), "{run}");
    let run = cpreg(&["diff", "linux-6.16", "debian-13"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stdout.contains("VENDOR_HYP_BMAP_2  only in A"), "{run}");
    let run = cpreg(&["diff", "linux-6.12.63", "linux-6.16"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("linux-6.12.95"), "{run}");
}
