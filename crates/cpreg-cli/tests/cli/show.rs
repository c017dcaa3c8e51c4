//! `cpreg show`.

use insta::assert_snapshot;

use crate::fixtures::{folder_with, folder_with_stream, make_profile};
use crate::run::{
    KVM_6_12, KVM_6_12_MAX_4, TCG_5_2_MAX_4, TCG_10_0, TCG_10_0_MAPPED_RAM, TCG_11_1_A15, cpreg,
    cpreg_in,
};

#[test]
fn a_stream_of_kvm() {
    assert_snapshot!("show_kvm", cpreg(&["show", KVM_6_12]));
}

#[test]
fn vcpus_that_agree_stand_together() {
    assert_snapshot!("show_kvm_4_vcpus", cpreg(&["show", KVM_6_12_MAX_4]));
}

#[test]
fn aarch32_state() {
    assert_snapshot!("show_aarch32", cpreg(&["show", TCG_11_1_A15]));
}

/// Returns the part about the file, its vCPUs, and their extensions.
fn head(run: &crate::run::Run) -> String {
    let text = run.to_string();
    let end = text.find("\nidentification and caches").expect("registers");
    text[..end].to_owned()
}

#[test]
fn capabilities_are_named() {
    let run = cpreg(&["show", TCG_10_0_MAPPED_RAM]);
    assert_snapshot!("show_mapped_ram", head(&run));
}

#[test]
fn features_of_old_qemus_are_shown() {
    assert_snapshot!("show_features", head(&cpreg(&["show", TCG_5_2_MAX_4])));
}

#[test]
fn verify_reads_ram_as_well() {
    assert_snapshot!("show_verify", head(&cpreg(&["show", TCG_10_0, "--verify"])));
}

#[test]
fn registers_are_decoded() {
    let run = cpreg(&[
        "show",
        KVM_6_12_MAX_4,
        "--register",
        "ID_AA64MMFR3_EL1",
        "--register",
        "s3_0_c1_c0_0.m",
        "--register",
        "0x603000000013c005",
        "--register",
        "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1",
    ]);
    assert_snapshot!("show_registers", run);
}

#[test]
fn core_registers_are_found() {
    let arguments = [
        "show",
        KVM_6_12_MAX_4,
        "--register",
        "PC",
        "--register",
        "X1",
    ];
    assert_snapshot!("show_core", cpreg(&arguments));
    let arguments = ["show", TCG_10_0, "--register", "SP_EL1", "--register", "X0"];
    assert_snapshot!("show_core_tcg", cpreg(&arguments));
}

#[test]
fn missing_register_is_reported() {
    let run = cpreg(&["show", KVM_6_12, "--register", "SCTLR2_EL1"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert_snapshot!("show_missing", run);
    let json = cpreg(&[
        "show",
        KVM_6_12,
        "--register",
        "SCTLR2_EL1",
        "--format",
        "json",
    ]);
    assert_eq!(json.status, Some(1), "{json}");
    assert_eq!(json.json()["missing_registers"][0]["name"], "SCTLR2_EL1");
    let host = cpreg(&["show", "linux-6.12.107/n1/pmu", "--register", "SCTLR2_EL1"]);
    assert_eq!(host.status, Some(1), "{host}");
    assert!(
        host.stdout
            .contains("absent: such a guest lacks this register; it has SCTLR_EL1"),
        "{host}"
    );
}

#[test]
fn one_vcpu() {
    let arguments = [
        "show",
        KVM_6_12_MAX_4,
        "--vcpu",
        "2",
        "--register",
        "MPIDR_EL1",
    ];
    assert_snapshot!("show_vcpu", cpreg(&arguments));
    let run = cpreg(&["show", KVM_6_12_MAX_4, "--vcpu", "4"]);
    assert_snapshot!("show_no_vcpu", run);
}

#[test]
fn all_fields() {
    let run = cpreg(&["show", KVM_6_12, "--fields"]);
    let text = run.to_string();
    let begin = text.find("  ID_AA64PFR0_EL1").expect("the register");
    let lines: Vec<_> = text[begin..].lines().take(12).collect();
    assert_snapshot!("show_fields", lines.join("\n"));
}

#[test]
fn a_profile() {
    let folder = folder_with("there.json", make_profile(KVM_6_12).as_bytes());
    assert_snapshot!(
        "show_profile",
        cpreg_in(folder.path(), &["show", "there.json"])
    );
}

/// Checks the counter and the compare value, whose encodings are swapped under KVM, and nowhere
/// else.
#[test]
fn names_are_the_accelerators() {
    let kvm = cpreg(&["show", KVM_6_12, "--register", "0x603000000013df1a"]);
    let tcg = cpreg(&["show", TCG_10_0, "--register", "0x603000000013df1a"]);
    assert!(kvm.stdout.contains("KVM_REG_ARM_TIMER_CNT "), "{kvm}");
    assert!(tcg.stdout.contains("CNTV_CVAL_EL0 "), "{tcg}");
}

#[test]
fn misspelt_registers_and_fields() {
    let run = cpreg(&["show", KVM_6_12, "--register", "TRC2_EL1"]);
    assert_snapshot!("show_misspelt", run);
    let run = cpreg(&["show", KVM_6_12, "--register", "TCR2_EL1.PIES"]);
    assert_snapshot!("show_misspelt_field", run);
}

/// Checks that a file without seek support is read.
#[test]
fn standard_input() {
    use std::process::Stdio;
    let folder = folder_with_stream(KVM_6_12, "unused", b"");
    let stream = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let file = std::fs::File::open(folder.path().join(stream)).expect("a stream");
    let arguments = ["show", "-", "--register", "MIDR_EL1"];
    let output = crate::run::command(folder.path(), &arguments)
        .stdin(Stdio::from(file))
        .output()
        .expect("the command starts");
    assert_snapshot!(
        "show_stdin",
        crate::run::Run::from_output(&arguments, &output)
    );
}

/// Checks the flags of PSTATE: D in AArch64 state, E in AArch32 state, and no T.
#[test]
fn program_status() {
    let run = cpreg(&["show", KVM_6_12, "--register", "PSTATE", "--fields"]);
    assert_snapshot!("show_pstate", run);
}
