//! `cpreg explain` with registers.

use insta::assert_snapshot;

use crate::run::cpreg;

fn explain(arguments: &[&str]) -> crate::run::Run {
    cpreg(&[&["explain"], arguments].concat())
}

#[test]
fn a_register_that_was_listed_by_mistake() {
    assert_snapshot!("explain_listed_by_mistake", explain(&["TCR2_EL1"]));
    assert_snapshot!(
        "explain_poison",
        explain(&["PIR_EL1", "0x1de7ec7edbadc0de"])
    );
}

#[test]
fn a_control_register_and_a_value_by_its_name() {
    assert_snapshot!("explain_control", explain(&["PSCI_VERSION", "1.3"]));
    assert_snapshot!("explain_bitmap", explain(&["fw feat reg 3", "0x3"]));
}

#[test]
fn an_id_register_with_its_fields() {
    let run = explain(&["S3_0_C0_C7_3", "0x111"]);
    assert_snapshot!("explain_id_register", run);
    let run = explain(&["ID_AA64PFR0_EL1.GIC", "1"]);
    assert_snapshot!("explain_field", run);
}

#[test]
fn values_that_differ_by_cpu_model() {
    assert_snapshot!("explain_implementation", explain(&["MIDR_EL1"]));
    assert_snapshot!("explain_wide", explain(&["SVE_VLS"]));
}

#[test]
fn the_counter_that_is_called_otherwise_under_tcg() {
    assert_snapshot!("explain_counter", explain(&["CNTVCT_EL0"]));
}

#[test]
fn registers_that_only_the_emulator_has() {
    assert_snapshot!("explain_aarch32", explain(&["p15,0,c0,c1,2", "0x5"]));
}

#[test]
fn a_secret_of_the_users_own() {
    assert_snapshot!("explain_secret", explain(&["APIAKEYLO_EL1", "42"]));
}

#[test]
fn unknown_registers_are_explained_partly() {
    assert_snapshot!(
        "explain_unknown_name",
        explain(&["op0=3,op1=3,crn=7,crm=7,op2=7", "5"])
    );
    assert_snapshot!(
        "explain_implementation_defined",
        explain(&["S3_0_C15_C1_4"])
    );
    assert_snapshot!("explain_unknown_id", explain(&["0x7"]));
}

#[test]
fn mistakes_are_answered_with_hints() {
    let runs = [
        explain(&["TRC2_EL1"]),
        explain(&["TCR2_EL1.PI"]),
        explain(&["TCR2_EL1.PIE", "2"]),
        explain(&["PSCI_VERSION", "1.9"]),
        explain(&["OSLSR_EL1", "0x1ffffffffffffffff"]),
        explain(&["PSTATE.M[3:0]", "0x10"]),
        explain(&["Z0", "0"]),
        explain(&["CORE_FPSR", "0x100000000"]),
    ];
    assert!(runs.iter().all(|run| run.status == Some(2)));
    let runs: Vec<_> = runs.iter().map(ToString::to_string).collect();
    assert_snapshot!("explain_slips", runs.join("\n"));
}

/// Checks that JSON has for each kernel what the text has for ranges of kernels.
#[test]
fn json_lists_every_kernel() {
    let run = explain(&["PIR_EL1", "--format", "json"]);
    let document = run.json();
    let kernels = document["register"]["recordings"]["kernels"]
        .as_array()
        .expect("a list");
    assert_eq!(kernels.len(), 14);
    let of = |version: &str| {
        let mut kernels = kernels.iter();
        kernels
            .find(|kernel| kernel["version"] == version)
            .expect(version)
    };
    assert_eq!(of("6.1.176")["guests"], serde_json::Value::Null);
    assert_eq!(of("6.12.107")["guests"], "every guest");
    assert_eq!(of("6.12.107")["values"][0]["no_value_reason"], "poison");
    assert_eq!(
        of("7.3.4")["guests"],
        "guests whose ID_AA64MMFR3_EL1.S1PIE is not 0"
    );
    assert_snapshot!("explain_json", run);
}
