//! `cpreg tolerances`.

use insta::assert_snapshot;

use crate::fixtures::folder_with;
use crate::run::{cpreg, cpreg_in};

#[test]
fn the_table_is_printed() {
    assert_snapshot!("tolerances", cpreg(&["tolerances"]));
}

#[test]
fn one_register_is_printed() {
    assert_snapshot!("tolerances_one", cpreg(&["tolerances", "tcr2_el1"]));
}

#[test]
fn json_is_printed() {
    let run = cpreg(&["tolerances", "PSCI_VERSION", "--format", "json"]);
    assert_snapshot!("tolerances_json", run);
}

#[test]
fn a_register_without_entry_has_the_default() {
    assert_snapshot!("tolerances_none", cpreg(&["tolerances", "SCTLR_EL1"]));
}

#[test]
fn operators_entries_come_first() {
    let file = br#"
[[tolerance]]
registers = ["TCR2_EL1", "S3_0_C10_C2_3"]
difference = "source-only"
handling = "ignore"
when = { register = "ID_AA64MMFR3_EL1", value = "0", mask = "0xf" }
accelerator = "kvm"
reason = "our guests never set them"
"#;
    let folder = folder_with("ours.toml", file);
    let run = cpreg_in(
        folder.path(),
        &["tolerances", "TCR2_EL1", "--tolerances", "ours.toml"],
    );
    assert_snapshot!("tolerances_operator", run);
}

#[test]
fn misspelt_register_gets_suggestions() {
    assert_snapshot!("tolerances_misspelt", cpreg(&["tolerances", "TRC2_EL1"]));
}
