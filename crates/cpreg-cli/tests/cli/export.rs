//! `cpreg tolerances --export`: the target programs accept the output, and it matches the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cpreg::destination::Accelerator;
use cpreg::register::RegisterId;
use cpreg::remedy::Remedy;
use cpreg::severity::Severity;
use cpreg::tolerance::{
    Category, Condition, Handling, HistoryEntry, RegisterDifference, RegisterSelector, Tolerance,
    Tolerances, VisibleEffect,
};
use cpreg_report::remedy::{self, AdviceContext};
use insta::assert_snapshot;
use serde_json::Value;

use crate::fixtures::folder_with;
use crate::run::{cpreg, cpreg_in};
use crate::schema;

/// Entries of an operator whose texts try to end a comment of the exported code.
const OPERATOR_ENTRIES: &[u8] = br#"
[[tolerance]]
registers = ["TCR2_EL1", "CCSIDR_EL1[2]"]
difference = "source-only"
handling = "ignore"
accelerator = "kvm"
reason = "*/ int evil; /* our guests \n touch evil; $(touch evil)"

[[tolerance]]
registers = ["OSLSR_EL1"]
difference = "source-only"
handling = "refuse"
reason = "our guests lock it"

[[tolerance]]
registers = ["PMCR_EL0"]
difference = "value-not-accepted"
handling = "set 0x2a"
when = { value = "0x1", mask = "0x3" }
reason = "ours"
"#;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} of {value}"))
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member]
        .as_array()
        .unwrap_or_else(|| panic!("{member} of {value}"))
}

fn number(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").expect("a number");
    u64::from_str_radix(digits, 16).expect("a number")
}

// ---- QEMU

/// Compiles the exported C against stubs of QEMU, runs it, and returns the calls that it made.
fn calls(folder: &Path, table: &str) -> BTreeSet<String> {
    fs::write(folder.join("table.c"), table).expect("a file");
    let fixtures = repository().join("tests/fixtures/export");
    let output = Command::new("gcc")
        .current_dir(folder)
        .args([
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            // The stub of an accelerator that only an operator's entries use.
            "-Wno-unused-function",
            // A stub without any entry.
            "-Wno-unused-parameter",
            "-o",
            "recorder",
        ])
        .arg(format!("-DTABLE=\"{}\"", folder.join("table.c").display()))
        .arg("-I")
        .arg(&fixtures)
        .arg(fixtures.join("recorder.c"))
        .output()
        .expect("this test needs gcc: apt-get install gcc");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new(folder.join("recorder"))
        .output()
        .expect("what was compiled runs");
    let lines = String::from_utf8(output.stdout).expect("text");
    let calls: BTreeSet<String> = lines.lines().map(str::to_owned).collect();
    assert_eq!(calls.len(), lines.lines().count(), "a register twice");
    calls
}

/// Returns the calls that the table in JSON requires.
fn expected_calls(table: &Value) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for accelerator in ["kvm", "tcg"] {
        let entries = || {
            list(table, "tolerances").iter().filter(|entry| {
                entry["accelerator"].is_null() || entry["accelerator"] == accelerator
            })
        };
        let kept_at_reset: Vec<&Value> = entries()
            .filter(|entry| {
                entry["difference"] == "destination-only"
                    && entry["handling"] == "keep-at-reset"
                    && entry["when"]["kind"] == "always"
            })
            .flat_map(|entry| list(entry, "ids"))
            .collect();
        let mut decided = BTreeSet::new();
        for entry in entries().filter(|entry| entry["difference"] == "source-only") {
            for id in list(entry, "ids") {
                if !decided.insert(id.to_string()) || entry["handling"] != "ignore" {
                    continue;
                }
                let when = &entry["when"];
                let (mask, expected, kind) = match text(when, "kind") {
                    "always" if kept_at_reset.contains(&id) => ("0x0", "0x0", "both"),
                    "always" => ("0x0", "0x0", "source"),
                    "value" => (text(when, "mask"), text(when, "expected"), "source"),
                    _ => continue,
                };
                let id = id.as_str().expect("text");
                calls.insert(format!("{accelerator} {id} {mask} {expected} {kind}"));
            }
        }
    }
    calls
}

#[test]
fn exported_c_compiles_and_matches_the_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let calls = calls(
        folder.path(),
        &cpreg(&["tolerances", "--export", "qemu"]).stdout,
    );
    let table = cpreg(&["tolerances", "--export", "json"]).json();
    assert_eq!(calls, expected_calls(&table));
    // One entry of each kind by hand: VENDOR_HYP_BMAP_2 as in QEMU 11.1, the physical timer, its
    // counter.
    for call in [
        "kvm 0x6030000000160003 0xffffffffffffffff 0x0 source",
        "kvm 0x603000000013df11 0x1 0x0 source",
        "kvm 0x603000000013df01 0x0 0x0 both",
        "tcg 0x6030000000139820 0x0 0x0 source",
    ] {
        assert!(calls.contains(call), "{call} is not among {calls:#?}");
    }
    // An entry with a condition on another register is not exported.
    let tcr2 = format!("kvm {:#x}", RegisterId::TCR2_EL1.raw());
    assert!(!calls.iter().any(|call| call.starts_with(&tcr2)));
}

#[test]
fn an_operators_entries_are_in_the_c_too() {
    let folder = folder_with("ours.toml", OPERATOR_ENTRIES);
    let run = |export: &str| {
        let arguments = [
            "tolerances",
            "--tolerances",
            "ours.toml",
            "--export",
            export,
        ];
        cpreg_in(folder.path(), &arguments)
    };
    let calls = calls(folder.path(), &run("qemu").stdout);
    assert_eq!(calls, expected_calls(&run("json").json()));
    assert!(calls.contains("kvm 0x603000000013c103 0x0 0x0 source"));
    assert!(calls.contains("kvm 0x6020000000110002 0x0 0x0 source"));
    let oslsr = format!("kvm {:#x}", RegisterId::OSLSR_EL1.raw());
    assert!(!calls.iter().any(|call| call.starts_with(&oslsr)));
}

#[test]
fn c_is_printed() {
    let arguments = [
        "tolerances",
        "PSCI_VERSION",
        "PIR_EL1",
        "CNTPCT_EL0",
        "DBGDTR_EL0",
        "--export",
        "qemu",
    ];
    assert_snapshot!("export_qemu", cpreg(&arguments));
    let arguments = ["tolerances", "SCTLR_EL1", "--export", "qemu"];
    assert_snapshot!("export_qemu_none", cpreg(&arguments));
}

#[test]
fn lines_of_c_have_80_columns() {
    let run = cpreg(&["tolerances", "--export", "qemu"]);
    let long: Vec<&str> = run.stdout.lines().filter(|line| line.len() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
}

// ---- Firecracker

/// Runs the script with a `snapshot-editor` that prints its arguments.
fn run_script(folder: &Path, script: &str) -> (Option<i32>, String) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::write(folder.join("script.sh"), script).expect("a file");
    let editor = folder.join("snapshot-editor");
    fs::write(&editor, "#!/bin/sh\nprintf '%s\\n' \"$*\"\n").expect("a file");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("may be run");
    let path = std::env::var("PATH").expect("a path");
    let output = Command::new("sh")
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", folder.display()))
        .args(["script.sh", "a vmstate", "out"])
        .output()
        .expect("sh runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn a_script_for_firecracker_is_printed() {
    let arguments = [
        "tolerances",
        "PSCI_VERSION",
        "PIR_EL1",
        "CNTPCT_EL0",
        "DBGDTR_EL0",
        "--export",
        "firecracker",
    ];
    assert_snapshot!("export_firecracker", cpreg(&arguments));
}

#[test]
fn only_unconditional_registers_are_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = cpreg(&["tolerances", "--export", "firecracker"]);
    // The only built-in entry that always ignores a register, with its consequence.
    let (status, output) = run_script(folder.path(), &run.stdout);
    assert_eq!(status, Some(0), "{output}");
    assert_eq!(
        output,
        "edit-vmstate remove-regs 0x603000000013df01 --vmstate-path a vmstate --output-path out\n\
         removed, which the guest could notice: CNTPCT_EL0\n"
    );
    // Each line that is commented out says what must hold.
    let conditional = run.stdout.matches("\n#set -- ").count();
    assert!(conditional > 10, "{run}");
    let mut condition = false;
    for line in run.stdout.lines() {
        condition = match line {
            "" => false,
            _ if line.starts_with("# Must hold for every vCPU: ") => true,
            _ if line.starts_with("#set") => {
                assert!(condition, "{line}");
                true
            }
            _ => condition,
        };
    }
    // Uncomment TCR2_EL1, as a user does whose VM meets the condition.
    let uncommented = run.stdout.replace(
        "#set -- \"$@\" 0x603000000013c103",
        "set -- \"$@\" 0x603000000013c103",
    );
    let (status, output) = run_script(folder.path(), &uncommented);
    assert_eq!(status, Some(0));
    assert!(
        output.contains("remove-regs 0x603000000013df01 0x603000000013c103 --vmstate-path"),
        "{output}"
    );
    // Nothing to remove is an error, and nothing is written.
    let run = cpreg(&["tolerances", "TCR2_EL1", "--export", "firecracker"]);
    assert_eq!(
        run_script(folder.path(), &run.stdout),
        (Some(1), "no register to remove\n".to_owned())
    );
}

#[test]
fn an_operators_entries_are_in_the_script_too() {
    let folder = folder_with("ours.toml", OPERATOR_ENTRIES);
    let arguments = ["tolerances", "--tolerances", "ours.toml", "--export"];
    let run = cpreg_in(folder.path(), &[&arguments[..], &["firecracker"]].concat());
    let (status, output) = run_script(folder.path(), &run.stdout);
    assert_eq!(status, Some(0), "{output}");
    assert!(
        output.contains("remove-regs 0x603000000013c103 0x6020000000110002 0x603000000013df01 --"),
        "{output}"
    );
    assert!(!folder.path().join("evil").exists());
    let oslsr = format!("{:#018x}", RegisterId::OSLSR_EL1.raw());
    assert!(!run.stdout.contains(&oslsr), "{run}");
}

// ---- JSON

fn condition(of: &Value) -> Condition {
    let id = || RegisterId::from_raw(number(text(of, "id")));
    let value = |member| number(text(of, member));
    match text(of, "kind") {
        "always" => Condition::Always,
        "value" => Condition::Value {
            mask: value("mask"),
            expected: value("expected"),
        },
        "other-register" => Condition::OtherRegister {
            register: id(),
            mask: value("mask"),
            expected: value("expected"),
        },
        "without-feature" => Condition::WithoutFeature {
            register: id(),
            field: text(of, "field").to_owned().leak(),
            lsb: u8::try_from(of["lsb"].as_u64().expect("a number")).expect("a bit"),
            unused: Box::new(condition(&of["unused"])),
        },
        "no-such-cache" => Condition::NoSuchCache,
        "monitors-unused" => Condition::PmuUnused,
        "differs-in" => Condition::DiffersIn {
            mask: value("mask"),
        },
        "both" => {
            let [one, other] = list(of, "conditions") else {
                panic!("not two: {of}");
            };
            Condition::And(Box::new(condition(one)), Box::new(condition(other)))
        }
        kind => panic!("{kind}"),
    }
}

/// Parses an entry, using only the description in docs/json.md.
fn entry(of: &Value) -> Tolerance {
    let optional = |member: &str| of[member].as_str().map(str::to_owned);
    Tolerance {
        registers: match of["class"].as_str() {
            None => RegisterSelector::Ids(
                list(of, "ids")
                    .iter()
                    .map(|id| RegisterId::from_raw(number(id.as_str().expect("text"))))
                    .collect(),
            ),
            Some("cache-sizes") => RegisterSelector::CacheSizes,
            Some("performance-monitors") => RegisterSelector::PerformanceMonitors,
            Some("implementation-defined") => RegisterSelector::ImplementationDefined,
            Some("reserved-aarch32") => RegisterSelector::ReservedAArch32,
            Some(class) => panic!("{class}"),
        },
        accelerator: optional("accelerator")
            .map(|name| Accelerator::from_name(&name).expect("an accelerator")),
        difference: RegisterDifference::from_name(text(of, "difference")).expect("a difference"),
        condition: condition(&of["when"]),
        handling: match text(of, "handling") {
            "ignore" => Handling::Ignore,
            "keep-at-reset" => Handling::KeepAtReset,
            "set" => Handling::Set(number(text(of, "value"))),
            "set-to-nearest" => Handling::SetToNearest,
            "rename" => Handling::Rename(RegisterId::from_raw(number(text(of, "correct_id")))),
            "refuse" => Handling::Refuse,
            handling => panic!("{handling}"),
        },
        visible_effect: optional("visible_effect").map(|what| VisibleEffect {
            severity: Severity::from_name(text(of, "severity")).expect("a severity"),
            description: what.into(),
        }),
        category: [
            Category::Control,
            Category::ListedByMistake,
            Category::MissingByMistake,
            Category::New,
            Category::Identification,
            Category::OtherId,
            Category::Operator,
        ]
        .into_iter()
        .find(|category| category.name() == of["category"])
        .expect("a category"),
        reason: text(of, "reason").to_owned().into(),
        remedy: optional("advice").map(|text| Remedy::Text(text.into())),
        history: list(of, "history")
            .iter()
            .map(|change| HistoryEntry {
                release: text(change, "release").to_owned().leak(),
                commit: text(change, "commit").to_owned().leak(),
                description: text(change, "description").to_owned().leak(),
            })
            .collect(),
        is_operator_entry: of["is_operator_entry"].as_bool().expect("yes or no"),
        origin: None,
    }
}

#[test]
fn json_has_the_whole_table() {
    let table = cpreg(&["tolerances", "--export", "json"]).json();
    let read: Vec<Tolerance> = list(&table, "tolerances").iter().map(entry).collect();
    let built_in = Tolerances::default();
    assert_eq!(read.len(), built_in.entries().len());
    for (read, entry) in read.iter().zip(built_in.entries()) {
        let mut entry = entry.clone();
        // In the document the remedy is a text.
        let advice = entry
            .remedy
            .map(|entry_remedy| remedy::advice(&entry_remedy, AdviceContext::default()));
        entry.remedy = advice.map(|text| Remedy::Text(text.into()));
        assert_eq!(format!("{read:#?}"), format!("{entry:#?}"));
    }
}

#[test]
fn json_is_one_schema_by_either_option() {
    let export = cpreg(&["tolerances", "PMCR_EL0", "--export", "json"]);
    let format = cpreg(&["tolerances", "PMCR_EL0", "--format", "json"]);
    assert_eq!(export.stdout, format.stdout);
    let both = ["tolerances", "--export", "qemu", "--format", "json"];
    assert_eq!(cpreg(&both).status, Some(2));
}

#[test]
fn json_matches_its_schema() {
    let is_valid = |document: &Value| schema::validate(document);

    let folder = folder_with("ours.toml", OPERATOR_ENTRIES);
    let arguments = [
        "tolerances",
        "--tolerances",
        "ours.toml",
        "--export",
        "json",
    ];
    let table = cpreg_in(folder.path(), &arguments).json();
    assert_eq!(is_valid(&table), Ok(()));
    assert!(
        list(&table, "tolerances")
            .iter()
            .any(|entry| entry["value"] == "0x2a")
    );

    // The schema rejects missing, additional and different members.
    let validity_after = |change: &dyn Fn(&mut Value)| {
        let mut table = table.clone();
        change(&mut table["tolerances"][0]);
        is_valid(&table)
    };
    assert!(validity_after(&|entry| entry["ids"][0] = "0x1".into()).is_err());
    assert!(validity_after(&|entry| entry["when"] = serde_json::json!({"kind": "value"})).is_err());
    assert!(validity_after(&|entry| entry["new"] = 1.into()).is_err());
    assert!(
        validity_after(&|entry| {
            let members = entry.as_object_mut();
            drop(members.and_then(|members| members.remove("when")));
        })
        .is_err()
    );
    assert_eq!(validity_after(&|_| ()), Ok(()));
}
