//! Consents of the user: `--accept`, `--set`, `--ignore`, `--drop`, `--tolerances`, and misspelt
//! ones.

use insta::assert_snapshot;

use crate::fixtures::folder_with;
use crate::run::{
    KVM_6_12, KVM_6_16, KVM_7_3_MAX, Run, TCG_10_0, TCG_11_1, command, cpreg, streams,
};

/// Checks a VM with PSCI 1.3 against a kernel that is only known to accept 1.1.
fn check(consents: &[&str]) -> Run {
    let arguments = [&["check", KVM_6_16, KVM_6_12], consents].concat();
    cpreg(&arguments)
}

#[test]
fn accept() {
    assert_snapshot!("accept_register", check(&["--accept", "PSCI_VERSION"]));
    let by_severity = check(&["--accept", "low"]);
    assert_eq!(by_severity.status, Some(0), "{by_severity}");
    assert_eq!(
        by_severity.without_steps(),
        check(&["--accept", "PSCI_VERSION"]).without_steps()
    );
}

#[test]
fn set() {
    assert_snapshot!("set_register", check(&["--set", "PSCI_VERSION=1.1"]));
    let by_field = check(&["--set", "PSCI_VERSION.minor=1"]);
    assert_eq!(
        by_field.without_steps(),
        check(&["--set", "PSCI_VERSION=0x10001"]).without_steps()
    );
}

/// Checks that a state of a workaround can be named, in the words that the report prints.
#[test]
fn states_of_workarounds_have_names() {
    let register = "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2";
    let by_number = check(&["--set", &format!("{register}.level=3")]);
    let text = by_number.words();
    assert!(text.contains("to be set to not-required (0x3)"), "{text}");
    for name in ["not-required", "Not Required", "NOT_REQUIRED"] {
        for target in [register.to_owned(), format!("{register}.level")] {
            let by_name = check(&["--set", &format!("{target}={name}")]);
            assert_eq!(
                by_name.without_steps(),
                by_number.without_steps(),
                "{target}={name}"
            );
        }
    }
}

#[test]
fn ignore() {
    assert_snapshot!("ignore_register", check(&["--ignore", "PSCI_VERSION"]));
    let run = check(&["--ignore", "KVM_REG_ARM_VENDOR_HYP_BMAP_2=1"]);
    assert_snapshot!("ignore_other_value", run);
    let masked = check(&["--ignore", "PSCI_VERSION=3/0xffff"]);
    assert_eq!(masked.status, Some(0), "{masked}");
}

#[test]
fn drop_consent() {
    let run = check(&["--accept", "low", "--drop", "KVM_REG_ARM_VENDOR_HYP_BMAP_2"]);
    assert_snapshot!("hide_register", run);
    let run = cpreg(&["check", TCG_11_1, TCG_10_0, "--drop", "cpu/wfxt-timer"]);
    assert_snapshot!("hide_extension", run);
}

#[test]
fn tolerances_of_an_operator() {
    let file = br#"
[[tolerance]]
registers = ["PSCI_VERSION"]
difference = "value-not-accepted"
handling = "set 0x10001"
reason = "our guests never hibernate"
"#;
    let folder = folder_with("ours.toml", file);
    let path = folder.path().join("ours.toml");
    let output = command(&streams(), &["check", KVM_6_16, KVM_6_12])
        .arg("--tolerances")
        .arg(&path)
        .output()
        .expect("the command starts");
    let arguments = ["check", KVM_6_16, KVM_6_12, "--tolerances", "ours.toml"];
    let path = path.to_str().expect("UTF-8");
    let run = Run::from_output(&arguments, &output);
    assert_snapshot!("tolerance_file", run.to_string().replace(path, "ours.toml"));
}

/// Checks that an ignored register is named even if it is a key, but without its value.
#[test]
fn ignored_keys_are_named_without_their_value() {
    let run = cpreg(&["check", KVM_7_3_MAX, KVM_6_16, "--ignore", "APIAKEYLO_EL1"]);
    let line = run
        .stdout
        .lines()
        .find(|line| line.contains("APIAKEYLO_EL1"));
    let line = line.expect("the register");
    assert!(
        line.starts_with("  ignored  APIAKEYLO_EL1 (secret)"),
        "{line}"
    );
}

#[test]
fn misspelt_consents_are_reported() {
    let runs = [
        &["--accept", "PSCI_VERSON"][..],
        &["--accept", "tiny"],
        &["--accept", "lwo"],
        &["--accept", "psci"],
        &["--set", "sve=0"],
        &["--set", "PSCI_VERSION"],
        &["--set", "TCR_EL1"],
        &["--set", "PSCI_VERSION=one"],
        &["--set", "WORKAROUND_1=not-requirex"],
        &["--set", "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1=not-requirex"],
        &["--set", "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2.level=best"],
        &["--set", "PSCI_VERSION.minor=0x10000"],
        &["--set", "PSCI_VERSION.patch=1"],
        &["--ignore", "PSCI_VERSION=3/"],
        &["--drop", "S3_0_C16_C0_0"],
        &["--drop", ""],
    ];
    let runs: Vec<_> = runs.into_iter().map(|run| check(run).to_string()).collect();
    assert_snapshot!("consents_misspelt", runs.join("\n"));
}

#[test]
fn malformed_tolerance_files() {
    let entry = |difference: &str, handling: &str, rest: &str| {
        format!(
            "[[tolerance]]\nregisters = [\"TCR2_EL1\"]\ndifference = \"{difference}\"\nhandling = \"{handling}\"\nreason = \"a test\"\n{rest}"
        )
    };
    let files = [
        "registers = TCR2_EL1".to_owned(),
        entry("only-here", "ignore", ""),
        entry("source-only", "forget", ""),
        entry("source-only", "ignore", "unless = 3"),
        entry("source-only", "ignore", "accelerator = \"xen\""),
        entry("source-only", "ignore", "when = { value = \"many\" }"),
        entry("source-only", "ignore", "").replace("TCR2_EL1", "TRC2_EL1"),
        entry("source-only", "ignore", "").replace("\"TCR2_EL1\"", ""),
        entry("source-only", "ignore", "").replace("a test", " "),
        entry("source-only", "ignore", "").replace("reason = \"a test\"\n", ""),
        entry(
            "source-only",
            "ignore",
            "when = { field = \"POI\", equals = 0 }",
        ),
        entry(
            "source-only",
            "ignore",
            "when = { field = \"POE\", equals = 2 }",
        ),
        entry(
            "source-only",
            "ignore",
            "when = { field = \"POE\", value = 0 }",
        ),
        entry("source-only", "ignore", "when = { value = 4, mask = 3 }"),
        entry("source-only", "ignore", "when = { }"),
    ];
    let runs: Vec<_> = files
        .iter()
        .map(|file| {
            let folder = folder_with("ours.toml", file.as_bytes());
            let arguments = ["tolerances", "--tolerances", "ours.toml"];
            crate::run::cpreg_in(folder.path(), &arguments).to_string()
        })
        .collect();
    assert_snapshot!("tolerance_files_malformed", runs.join("\n"));
    assert_snapshot!(
        "tolerance_file_missing",
        cpreg(&["tolerances", "--tolerances", "none.toml"])
    );
}

/// Checks that every consent without effect is noted on standard error, and changes nothing else.
#[test]
fn consents_without_effect_are_noted() {
    let plain = check(&[]);
    let without_effect = check(&[
        "--ignore", "FPMR", "--ignore", "MIDR_EL1", "--drop", "FPMR", "--drop", "cpu/foo", "--set",
        "PC=1", "--accept", "FPMR",
    ]);
    assert_eq!(
        (without_effect.status, without_effect.without_steps()),
        (plain.status, plain.without_steps())
    );
    assert_snapshot!("idle_consents", without_effect.stderr);
    assert_eq!(check(&["--accept", "LOW"]).stderr, "");
}

#[test]
fn values_fit_into_their_register() {
    let run = check(&["--set", "CCSIDR_EL1[0]=0x1ffffffff"]);
    assert_snapshot!("set_too_wide", run);
}

/// Checks that a refusal shows the value that was set, not the value of the VM.
#[test]
fn refused_value_is_shown() {
    let run = check(&["--set", "ID_AA64MMFR3_EL1.TCRX=1"]);
    assert_snapshot!("set_undecided", run);
}
