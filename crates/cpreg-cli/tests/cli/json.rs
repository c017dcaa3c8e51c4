//! JSON documents of every kind: each has exactly the members of its schema, which docs/json.md
//! lists.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use serde_json::Value;

use crate::fixtures::{
    folder_with, folder_with_stream, make_profile, profile_with_keys, with_serial_input,
};
use crate::run::{
    KVM_5_10, KVM_6_12, KVM_6_12_MAX_4, KVM_6_16, KVM_7_3_MAX, Run, TCG_5_2_MAX_4, TCG_7_2,
    TCG_10_0, TCG_10_0_MAPPED_RAM, TCG_11_1, TCG_11_1_A15, cpreg, cpreg_in, streams,
};
use crate::{host_records, rehearse, schema};

/// Checks that these documents match their schema in docs/schemas.
fn assert_schema(schema: &str, documents: &[Value]) {
    for document in documents {
        assert_eq!(document["schema"], schema);
        assert_eq!(schema::validate(document), Ok(()), "{schema}");
    }
}

fn json(arguments: &[&str]) -> Value {
    cpreg(&[arguments, &["--format", "json"]].concat()).json()
}

#[test]
fn check_is_documented() {
    assert_schema(
        "cpreg.check/2",
        &[
            json(&["check", KVM_6_16, KVM_5_10]),
            json(&["check", KVM_6_16, KVM_6_12, "--accept", "low"]),
            json(&["check", KVM_7_3_MAX, KVM_6_12_MAX_4]),
            json(&["check", TCG_10_0, TCG_7_2]),
            json(&["check", TCG_11_1, TCG_10_0]),
        ],
    );
}

#[test]
fn rehearsal_is_documented() {
    assert_schema("cpreg.rehearsal/2", &rehearse::documents());
}

#[test]
fn show_is_documented() {
    let folder = folder_with_stream(KVM_6_12, "there.json", make_profile(KVM_6_12).as_bytes());
    let profile = cpreg_in(folder.path(), &["show", "there.json", "--format", "json"]);
    assert_schema(
        "cpreg.show/2",
        &[
            json(&["show", KVM_6_12_MAX_4, "--fields"]),
            json(&["show", TCG_5_2_MAX_4]),
            json(&["show", TCG_10_0_MAPPED_RAM]),
            json(&["show", TCG_10_0, "--verify"]),
            json(&["show", KVM_6_12, "--register", "SCTLR2_EL1"]),
            profile.json(),
            shown_report(),
        ],
    );
}

/// Shows a report with all optional parts.
fn shown_report() -> Value {
    let folder_with_input = folder_with("vm", &with_serial_input(TCG_10_0, "hunter2"));
    let report = ["report", "vm", "--host", "--format", "json"];
    let report = cpreg_in(folder_with_input.path(), &report);
    let folder = folder_with("report.json", report.stdout.as_bytes());
    cpreg_in(folder.path(), &["show", "report.json", "--format", "json"]).json()
}

#[test]
fn diff_is_documented() {
    let (profile, _) = profile_with_keys(KVM_7_3_MAX);
    let folder = folder_with_stream(KVM_7_3_MAX, "there.json", profile.as_bytes());
    let stream = "7.3.4__q11.1__max__virt10.0-smp1.stream.xz";
    let arguments = ["diff", stream, "there.json", "--all", "--format", "json"];
    assert_schema(
        "cpreg.diff/2",
        &[
            json(&["diff", KVM_6_12, KVM_6_16]),
            json(&["diff", KVM_7_3_MAX, KVM_6_12]),
            json(&["diff", KVM_6_12, KVM_7_3_MAX]),
            json(&["diff", TCG_11_1, TCG_11_1_A15, "--all"]),
            json(&["diff", KVM_6_12_MAX_4, KVM_7_3_MAX]),
            cpreg_in(folder.path(), &arguments).json(),
        ],
    );
}

#[test]
fn report_is_documented() {
    let folder = folder_with_stream(KVM_6_12, "there.json", make_profile(KVM_6_16).as_bytes());
    let stream = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    let to_profile = ["report", stream, "there.json", "--format", "json"];
    let folder_with_input = folder_with("vm", &with_serial_input(KVM_6_12, "hunter2"));
    let report_with_input = cpreg_in(
        folder_with_input.path(),
        &["report", "vm", "--format", "json"],
    );
    let documents = [
        json(&["report", KVM_6_12_MAX_4, "--host"]),
        report_with_input.json(),
        json(&["report", TCG_5_2_MAX_4]),
        json(&["report", KVM_6_12, KVM_6_16]),
        cpreg_in(folder.path(), &to_profile).json(),
    ];
    for document in &documents[3..] {
        assert_eq!(document["check"]["schema"], "cpreg.check/2");
        let profile = &document["destination"]["profile"];
        assert_eq!(profile["schema"], "cpreg.profile/2");
    }
    assert_schema("cpreg.report/2", &documents);
}

#[test]
fn explained_lines_are_documented() {
    let log = "../words/recorded-kvm.txt";
    assert_schema(
        "cpreg.explained-lines/2",
        &[
            json(&["explain", "--file", log]),
            json(&["explain", "nothing that is known"]),
        ],
    );
}

#[test]
fn hosts_are_documented() {
    assert_schema("cpreg.hosts/2", &[json(&["hosts"])]);
    assert_snapshot!("json_hosts", pretty(&json(&["hosts", "linux-6.16.12/n1"])));
}

/// Checks the file of a recorded host, the output of `show` for it, and the difference of two
/// hosts.
#[test]
fn recorded_hosts_are_documented() {
    let mut record = host_records::record("linux-6.1.176/max");
    for guest in record.guests.values_mut() {
        guest.registers[0].differs_by_vcpu = true;
        guest.registers[1].at_reset = cpreg_hosts::record::AtReset::Unreadable(22);
    }
    let text = record.to_json().expect("JSON");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let mut newer = host_records::record("linux-6.12.107/max");
    for guest in newer.guests.values_mut().take(1) {
        guest.writable.iter_mut().for_each(BTreeMap::clear);
    }
    let newer: Value = serde_json::from_str(&newer.to_json().expect("JSON")).expect("JSON");
    assert_schema("cpreg.host/2", &[file, newer]);

    let folder = host_records::folder();
    let in_folder = |arguments: &[&str]| {
        let arguments = [arguments, &["--format", "json"]].concat();
        cpreg_in(folder.path(), &arguments).json()
    };
    let shown = [
        in_folder(&["show", "here.json"]),
        in_folder(&["show", "here.json/pmu", "--fields"]),
        in_folder(&["show", "here.json/pmu", "--register", "PMMIR_EL1"]),
    ];
    assert_schema("cpreg.show-host/2", &shown);

    let older = json(&["diff", "linux-6.1/max", "linux-7.3/max"]);
    assert_schema(
        "cpreg.diff-hosts/2",
        &[in_folder(&["diff", "here.json", "there.json"]), older],
    );
    assert_schema(
        "cpreg.kernel-diff/2",
        &[
            json(&["diff", "linux-6.12", "linux-6.16"]),
            json(&["diff", "linux-6.16.3", "linux-6.16.12"]),
        ],
    );
}

#[test]
fn tolerances_are_documented() {
    assert_schema("cpreg.tolerances/2", &[json(&["tolerances"])]);
}

/// Checks that the tolerances in explanations are those of `cpreg.tolerances/2`.
#[test]
fn explanations_are_documented() {
    let explanations = [
        ["TCR2_EL1", "0x1"],
        ["PSCI_VERSION", "1.3"],
        ["MIDR_EL1", "0x413fd0c1"],
        ["S3_0_C15_C1_4", "0x0"],
    ];
    let documents = explanations.map(|[register, value]| {
        let document = json(&["explain", register, value]);
        let entries = &document["register"]["tolerances"];
        assert_eq!(*entries, json(&["tolerances", register])["tolerances"]);
        document
    });
    assert_schema("cpreg.explain/2", &documents);
}

/// Checks that cpreg writes and reads the name of a loader in docs/json.md.
#[test]
fn the_documented_name_of_a_loader_is_written() {
    const LOADER: &str = "qemu-10.0";
    let document = json(&["check", KVM_6_12, KVM_6_16, "--loader", LOADER]);
    assert_eq!(document["destination"]["loader"], LOADER);
    let text = std::fs::read_to_string(streams().join("../../../docs/json.md"));
    let text = text.expect("the document");
    let row = text
        .lines()
        .find(|row| row.starts_with("| `destination.loader` |"));
    assert!(
        row.is_some_and(|row| row.contains(&format!("`\"{LOADER}\"`"))),
        "{row:?}"
    );
}

/// Checks that 64-bit values are strings, and numbers are small.
#[test]
fn large_numbers_are_strings() {
    fn largest(value: &Value) -> u64 {
        match value {
            Value::Number(number) => number.as_u64().expect("no fraction, no sign"),
            Value::Array(array) => array.iter().map(largest).max().unwrap_or(0),
            Value::Object(object) => object.values().map(largest).max().unwrap_or(0),
            _ => 0,
        }
    }
    for document in [
        json(&["show", KVM_6_12_MAX_4, "--fields"]),
        json(&["check", KVM_6_16, KVM_5_10]),
        json(&["diff", KVM_6_12_MAX_4, KVM_7_3_MAX, "--all"]),
        json(&["tolerances"]),
        json(&["report", KVM_6_12_MAX_4, KVM_7_3_MAX]),
        json(&["explain", "ID_AA64MMFR0_EL1", "0x1de7ec7edbadc0de"]),
        json(&["explain", "SVE_VLS"]),
    ] {
        assert!(largest(&document) < 100_000, "{}", document["schema"]);
    }
}

/// Checks that JSON has the same content as the text, except for lists of registers.
#[test]
fn json_of_check() {
    let mut document = json(&["check", KVM_6_12, KVM_6_16]);
    let decisions = document["decisions"].as_array_mut().expect("a list");
    assert_eq!(decisions.len(), 259);
    decisions.retain(|decision| decision["decision"] != "copy");
    assert_snapshot!("json_check", pretty(&document));

    let mut document = json(&["check", KVM_6_16, KVM_6_12]);
    for list in ["decisions", "loaders"] {
        document.as_object_mut().expect("an object").remove(list);
    }
    assert_snapshot!("json_check_unknown", pretty(&document));
}

#[test]
fn json_of_show() {
    let mut document = json(&[
        "show",
        KVM_6_12,
        "--register",
        "TCR2_EL1",
        "--register",
        "PC",
    ]);
    let object = document.as_object_mut().expect("an object");
    object.remove("devices");
    assert_snapshot!("json_show", pretty(&document));
}

#[test]
fn json_of_diff() {
    assert_snapshot!("json_diff", pretty(&json(&["diff", KVM_6_12, KVM_6_16])));
}

/// Checks that exit statuses are those of the text.
#[test]
fn statuses_do_not_depend_on_the_format() {
    for (arguments, status) in [
        (["check", KVM_5_10, KVM_6_12], 0),
        (["check", KVM_6_12, KVM_6_16], 0),
        (["check", KVM_6_16, KVM_5_10], 1),
        (["check", KVM_6_16, KVM_6_12], 3),
        (["check", KVM_6_16, "no-such-file"], 2),
        (["diff", KVM_6_12, KVM_6_12], 0),
        (["diff", KVM_6_12, KVM_6_16], 1),
    ] {
        let text: Run = cpreg(&arguments);
        let json = cpreg(&[&arguments[..], &["--format", "json"]].concat());
        assert_eq!(
            (text.status, json.status),
            (Some(status), Some(status)),
            "{text}"
        );
    }
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).expect("JSON")
}
