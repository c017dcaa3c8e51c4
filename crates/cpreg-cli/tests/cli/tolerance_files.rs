//! The operator's tolerances: default files, and entries that do not apply.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::Value;

use crate::fixtures::folder_with;
use crate::run::{KVM_6_12, KVM_6_16, Run, command, streams};

/// Ignores a register that only [`KVM_6_16`] has.
const IGNORES_BITMAP: &str = r#"
[[tolerance]]
registers = ["KVM_REG_ARM_VENDOR_HYP_BMAP_2"]
difference = "source-only"
handling = "ignore"
reason = "REASON"
"#;

/// Checks [`KVM_6_16`] against [`KVM_6_12`] with these options and variables.
fn check(options: &[&str], variables: &[(&str, &Path)]) -> Run {
    let arguments = [&["check", KVM_6_16, KVM_6_12], options].concat();
    let mut command = command(&streams(), &arguments);
    command.envs(variables.iter().copied());
    Run::from_output(&arguments, &command.output().expect("the command starts"))
}

/// Returns the use of each entry, as JSON.
fn entries(run: &Run) -> Vec<Value> {
    let entries = run.json()["operator_entries"].as_array().cloned();
    entries.unwrap_or_default()
}

#[test]
fn the_file_of_the_machine_is_read_and_named() {
    let folder = folder_with("system.toml", IGNORES_BITMAP.as_bytes());
    let file = folder.path().join("system.toml");
    let system = [("CPREG_TEST_SYSTEM_TOLERANCES", &*file)];
    let run = check(&[], &system);
    let heading = format!("tolerances of {}:\n", file.display());
    assert!(run.stdout.contains(&heading), "{run}");
    assert!(run.stdout.contains("REASON"), "{run}");
    assert!(
        run.stdout
            .contains("  entry 1 applied to KVM_REG_ARM_VENDOR_HYP_BMAP_2\n"),
        "{run}"
    );
    let json = check(&["--format", "json"], &system);
    let [entry] = &entries(&json)[..] else {
        panic!("{json}");
    };
    assert_eq!(entry["file"], file.display().to_string());
    assert_eq!(
        (&entry["entry"], &entry["applied"]),
        (&1.into(), &true.into())
    );

    for (options, system) in [
        (&["--no-default-tolerances"][..], &system[..]),
        (
            &[],
            &[("CPREG_TEST_SYSTEM_TOLERANCES", Path::new("/nonexistent"))],
        ),
    ] {
        let without = check(options, system);
        assert!(!without.stdout.contains("tolerances of"), "{without}");
        assert_eq!(without.status, run.status, "{without}");
    }
}

/// Checks the variable and the user's file. Root reads neither.
#[test]
fn files_of_the_user_are_read_unless_the_user_is_root() {
    let folder = folder_with("variable.toml", IGNORES_BITMAP.as_bytes());
    let config = folder.path().join("config");
    fs::create_dir_all(config.join("cpreg")).expect("a folder");
    let user_file = config.join("cpreg/tolerances.toml");
    fs::write(&user_file, IGNORES_BITMAP).expect("a file");
    let variable_file = folder.path().join("variable.toml");
    let variables = [
        ("CPREG_TOLERANCES", &*variable_file),
        ("XDG_CONFIG_HOME", &*config),
    ];
    let run = check(&["--format", "json"], &variables);
    let uses: Vec<_> = entries(&run)
        .iter()
        .map(|entry| (entry["file"].clone(), entry["applied"].clone()))
        .collect();
    let name = |path: &Path| Value::from(path.display().to_string());
    if rustix::process::geteuid().is_root() {
        assert_eq!(uses, []);
        assert!(
            run.stderr.contains("CPREG_TOLERANCES is ignored: root"),
            "{run}"
        );
    } else {
        let expected = [
            (name(&variable_file), true.into()),
            (name(&user_file), false.into()),
        ];
        assert_eq!(uses, expected);
        assert_eq!(run.stderr, "");
    }
    let missing = check(&[], &[("CPREG_TOLERANCES", &folder.path().join("none"))]);
    if !rustix::process::geteuid().is_root() {
        assert_eq!(missing.status, Some(2), "{missing}");
        assert!(
            missing.stderr.contains("CPREG_TOLERANCES names the file"),
            "{missing}"
        );
    }
}

/// Checks that a malformed default file is an error that names the option to leave it out.
#[test]
fn a_malformed_default_file_is_an_error() {
    let folder = folder_with("system.toml", b"[[tolerance]]\n");
    let file = folder.path().join("system.toml");
    let run = check(&[], &[("CPREG_TEST_SYSTEM_TOLERANCES", &*file)]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("is not a tolerance file"), "{run}");
    assert!(run.stderr.contains("--no-default-tolerances"), "{run}");
}

/// Checks the reason of each entry that does not apply.
#[test]
fn entries_that_do_not_apply_say_why() {
    let entries_text = r#"
[[tolerance]]
registers = ["KVM_REG_ARM_VENDOR_HYP_BMAP_2"]
difference = "source-only"
handling = "ignore"
when = { equals = 1 }
reason = "the value is another"

[[tolerance]]
registers = ["KVM_REG_ARM_VENDOR_HYP_BMAP_2"]
difference = "source-only"
handling = "ignore"
reason = "the first entry comes first"

[[tolerance]]
registers = ["KVM_REG_ARM_VENDOR_HYP_BMAP_2"]
difference = "destination-only"
handling = "keep-at-reset"
reason = "only the VM has it"

[[tolerance]]
registers = ["PSCI_VERSION"]
difference = "value-not-accepted"
handling = "set 0x10001"
reason = "not known whether it is accepted"

[[tolerance]]
registers = ["SCTLR_EL1", "POR_EL0"]
difference = "value-not-accepted"
handling = "set-to-nearest"
reason = "accepted, and absent"

[[tolerance]]
registers = ["SCTLR_EL1"]
difference = "value-not-accepted"
handling = "set-to-nearest"
accelerator = "TCG"
reason = "another accelerator"
"#;
    let folder = folder_with("ours.toml", entries_text.as_bytes());
    let file = folder.path().join("ours.toml");
    let file = file.to_str().expect("UTF-8");
    let run = check(&["--tolerances", file], &[]);
    let (_, section) = run
        .stdout
        .split_once("tolerances of ")
        .expect("the section");
    let (section, _) = section.split_once("\n\n").expect("its end");
    assert_snapshot!("entries_not_applied", section.replace(file, "ours.toml"));
    let json = check(&["--tolerances", file, "--format", "json"], &[]);
    let uses: Vec<_> = entries(&json)
        .iter()
        .map(|entry| {
            format!(
                "{} {} {}",
                entry["entry"], entry["registers"], entry["reason"]
            )
        })
        .collect();
    assert_snapshot!(
        "entries_not_applied_json",
        uses.join("\n").replace(file, "ours.toml")
    );
}

/// Checks that a condition on a field of another register decides, and is reported by its name.
#[test]
fn fields_are_conditions() {
    let entry = |condition: &str| {
        format!(
            "[[tolerance]]\nregisters = [\"KVM_REG_ARM_VENDOR_HYP_BMAP_2\"]\n\
             difference = \"source-only\"\nhandling = \"ignore\"\nreason = \"REASON\"\n\
             when = {{ {condition} }}\n"
        )
    };
    let level = "register = \"KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1\", field = \"level\"";
    for (condition, expected) in [
        (format!("{level}, equals = \"not-required\""), Ok(())),
        (format!("{level}, equals = 2"), Ok(())),
        (
            format!("{level}, equals = \"available\""),
            Err(
                "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1.level holds not-required (0x2), not available (0x1)",
            ),
        ),
        (
            "register = \"PSCI_VERSION\", equals = \"1.1\"".to_owned(),
            Err("PSCI_VERSION holds 1.3 (0x10003), not 1.1 (0x10001)"),
        ),
        ("equals = \"0x0\"".to_owned(), Ok(())),
    ] {
        let folder = folder_with("ours.toml", entry(&condition).as_bytes());
        let file = folder.path().join("ours.toml");
        let file = file.to_str().expect("UTF-8");
        let run = check(&["--tolerances", file, "--format", "json"], &[]);
        let [entry] = &entries(&run)[..] else {
            panic!("{run}");
        };
        assert_eq!(entry["applied"], expected.is_ok(), "{condition}: {entry}");
        assert_eq!(entry["reason"].as_str(), expected.err(), "{condition}");
    }
}
