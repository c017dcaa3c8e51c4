//! `cpreg check` without consents: one run for each verdict.

use insta::assert_snapshot;

use crate::fixtures::{folder_with_stream, make_profile};
use crate::run::{
    KVM_5_10, KVM_6_12, KVM_6_12_MAX_4, KVM_6_16, KVM_6_16_PMU_OFF, KVM_7_3_MAX, TCG_7_2, TCG_10_0,
    TCG_11_1, cpreg, cpreg_in,
};

#[test]
fn loads_as_it_is() {
    assert_snapshot!("check_loads", cpreg(&["check", KVM_5_10, KVM_6_12]));
}

#[test]
fn converts() {
    assert_snapshot!("check_converts", cpreg(&["check", KVM_6_12, KVM_6_16]));
}

#[test]
fn converts_under_tcg() {
    assert_snapshot!("check_converts_tcg", cpreg(&["check", TCG_11_1, TCG_10_0]));
}

#[test]
fn is_refused_with_advice_and_proposals() {
    assert_snapshot!("check_refused", cpreg(&["check", KVM_6_16, KVM_5_10]));
}

#[test]
fn is_refused_under_tcg() {
    assert_snapshot!("check_refused_tcg", cpreg(&["check", TCG_10_0, TCG_7_2]));
}

#[test]
fn is_refused_for_its_shape() {
    assert_snapshot!(
        "check_refused_shape",
        cpreg(&["check", KVM_7_3_MAX, KVM_6_12_MAX_4])
    );
}

#[test]
fn is_refused_beyond_all_proposals() {
    assert_snapshot!(
        "check_refused_whole",
        cpreg(&["check", KVM_6_16, KVM_6_16_PMU_OFF])
    );
}

#[test]
fn is_unknown() {
    assert_snapshot!("check_unknown", cpreg(&["check", KVM_6_16, KVM_6_12]));
}

/// Checks that a profile proves more than a stream of a running guest: the destination's PSCI
/// version.
#[test]
fn profile_proves_more_than_a_stream() {
    let folder = folder_with_stream(KVM_6_16, "there.json", make_profile(KVM_6_12).as_bytes());
    let source = "6.16.12__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let run = cpreg_in(folder.path(), &["check", source, "there.json"]);
    assert_snapshot!("check_profile", run);
}

#[test]
fn the_loader_can_be_named() {
    let run = cpreg(&["check", KVM_6_12, KVM_6_16, "--loader", "qemu-11.1"]);
    assert_snapshot!("check_vmm", run);
    let run = cpreg(&["check", KVM_6_16, "linux-6.12.107/n1", "--loader", "cpreg"]);
    assert_snapshot!("check_vmm_cpreg", run);
}

#[test]
fn copied_registers_are_listed_on_request() {
    let short = cpreg(&["check", KVM_6_12, KVM_6_16]);
    let all = cpreg(&["check", KVM_6_12, KVM_6_16, "--verbose"]);
    assert!(!short.stdout.contains("SCTLR_EL1"), "{short}");
    let (_, copied) = all
        .stdout
        .split_once("copied unchanged:")
        .expect("the list");
    assert!(copied.contains(" SCTLR_EL1 0x"), "{all}");
    // 255 registers, and the extensions cpu/vfp and cpu/irq-line-state.
    let names = copied.replace(",\n", ", ");
    let names = names
        .split(", ")
        .filter(|name| name.contains(" 0x") || name.contains("(0x") || name.contains("bytes"));
    assert_eq!(names.count(), 255 + 2, "{all}");
}

#[test]
fn a_profile_is_no_vm() {
    let folder = folder_with_stream(KVM_6_12, "there.json", make_profile(KVM_6_12).as_bytes());
    let destination = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let run = cpreg_in(folder.path(), &["check", "there.json", destination]);
    assert_snapshot!("check_profile_as_source", run);
}

#[test]
fn missing_destinations() {
    assert_snapshot!(
        "check_no_destination",
        cpreg(&["check", KVM_6_12, "elsewhere.json"])
    );
    let run = cpreg(&["check", KVM_6_12, "linux-6.16.12/neoverse-n1"]);
    assert_snapshot!("check_recorded_host", run);
    let run = cpreg(&["check", KVM_6_12, KVM_6_16, "--loader", "qemu"]);
    assert_snapshot!("check_vmm_malformed", run);
}
