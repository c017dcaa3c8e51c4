//! `cpreg matrix`, `cpreg classes` and `cpreg key`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use cpreg_report::matrix::page::model::PageData;
use insta::assert_snapshot;
use serde_json::Value;

use crate::fixtures::folder_with_stream;
use crate::run::{
    KVM_5_10, KVM_6_12, KVM_6_12_MAX_4, KVM_6_16_PMU_OFF, Run, TCG_10_0, command, cpreg, cpreg_in,
    streams,
};
use crate::schema;

/// Runs `matrix --format json` and returns its status and lines, which must match the schema.
fn matrix_lines(folder: &Path, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = command(folder, arguments).output().expect("cpreg starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        schema::validate(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        line
    });
    (output.status.code(), lines.collect())
}

fn rows(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["line"] == "row").collect()
}

/// Returns the verdict of `cpreg check`; `unknown` for a pair that check cannot use.
fn check_verdict(source: &str, destination: &str) -> String {
    let arguments = ["check", source, destination, "-q"];
    let output = command(&streams(), &arguments).output();
    let output = output.expect("cpreg starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    if output.status.code() == Some(2) {
        return "unknown".to_owned();
    }
    text.split(':').next().unwrap_or_default().to_owned()
}

#[test]
fn every_cell_has_the_verdict_of_check() {
    let sources = [
        KVM_5_10,
        KVM_6_12,
        KVM_6_16_PMU_OFF,
        KVM_6_12_MAX_4,
        TCG_10_0,
        "linux-6.12.107/neoverse-n1/pmu",
        "linux-7.3.4/max/pmu,sve,ptrauth",
    ];
    let destinations = [
        "linux-6.1.176/neoverse-n1",
        "linux-6.12.107/neoverse-n1",
        "linux-6.12.107/neoverse-n1/none",
        "linux-7.3.4/neoverse-n1",
        "linux-7.3.4/max",
        "linux-6.12.63/n1",
        "ubuntu-24.04/n1",
        "linux-7.9/n1",
        "rhel-9/n1",
        KVM_6_12,
        TCG_10_0,
    ];
    let mut arguments = vec!["matrix"];
    arguments.extend(sources);
    arguments.push("--to");
    arguments.extend(destinations);
    arguments.extend(["--format", "json"]);
    let (status, lines) = matrix_lines(&streams(), &arguments);
    assert_eq!(status, Some(3));
    let rows = rows(&lines);
    assert_eq!(rows.len(), sources.len());
    let mut verdicts = std::collections::BTreeSet::new();
    for (source, row) in sources.iter().zip(rows) {
        for (index, destination) in destinations.iter().enumerate() {
            let verdict = row["cells"][index]["verdict"].as_str().expect("a verdict");
            let expected = check_verdict(source, destination);
            assert_eq!(verdict, expected, "{source} at {destination}: {row}");
            verdicts.insert(expected);
        }
    }
    assert_eq!(verdicts.len(), 4, "every verdict occurs: {verdicts:?}");
}

#[test]
fn the_table_and_the_csv_show_the_same_cells() {
    let arguments = [
        "matrix",
        KVM_5_10,
        KVM_6_12,
        "n1/pmu",
        "--to",
        "linux-6.12/n1",
        "linux-7.3/n1",
    ];
    assert_snapshot!("matrix_table", cpreg(&arguments));
    let run = cpreg(&[&arguments[..], &["--format", "csv"]].concat());
    let cells: Vec<_> = run.stdout.lines().skip(1).collect();
    assert_eq!(cells.len(), 16 * 4, "{run}");
    assert_snapshot!("matrix_csv", cells[..8].join("\n"));
}

#[test]
fn the_page_has_the_cells_of_the_json_form_for_each_loader() {
    let arguments = [
        "matrix",
        KVM_6_12,
        TCG_10_0,
        "linux-7.3/n1",
        "--to",
        "linux-6.12/n1",
        "linux-7.9/n1",
        KVM_6_12_MAX_4,
    ];
    let run = cpreg(&[&arguments[..], &["--format", "html"]].concat());
    assert_eq!(run.status, Some(3), "{run}");
    let (_, rest) = run.stdout.split_once("id=\"data\">").expect("data");
    let (json, _) = rest.split_once("</script>").expect("an end");
    let page: PageData = serde_json::from_str(json).expect("the model");
    let labels: Vec<_> = page.loaders.iter().map(|loader| &*loader.label).collect();
    assert_eq!(
        labels[1..],
        [
            "qemu-5.2",
            "qemu-7.2",
            "qemu-10.0",
            "qemu-11.0",
            "qemu-11.1"
        ]
    );
    for (plane, loader) in page.loaders.iter().enumerate() {
        let options = loader.option.split_whitespace();
        let options: Vec<_> = options.chain(["--format", "json"]).collect();
        let (_, lines) = matrix_lines(&streams(), &[&arguments[..], &options].concat());
        for (source, row) in rows(&lines).into_iter().enumerate() {
            assert_eq!(row["source"], page.sources[source].name);
            for (index, number) in page.rows[source][plane].iter().enumerate() {
                let cell = &page.cells[*number];
                let expected = &row["cells"][index];
                assert_eq!(expected["symbol"], cell.symbol, "{expected}");
                assert_eq!(expected["without_cpreg"], cell.without_cpreg.name());
                let reason = cell.reason.map(|text| page.texts[text].clone());
                assert_eq!(expected["reason"].as_str(), reason.as_deref());
            }
        }
    }
}

#[test]
fn a_broken_source_among_many_is_named_and_left_out() {
    let folder = folder_with_stream(KVM_6_12, "broken.json", b"{\"schema\": \"cpreg.profile/2\"");
    fs::write(folder.path().join("empty"), "").expect("a file");
    fs::write(
        folder.path().join("pc.stream"),
        b"QEVM\0\0\0\x03\x07\0\0\0\x06pc-9.0",
    )
    .expect("a file");
    let run = cpreg_in(
        folder.path(),
        &["matrix", ".", "--to", "linux-7.3/n1", "-q"],
    );
    assert_snapshot!("matrix_broken", run);
    let (status, lines) = matrix_lines(
        folder.path(),
        &[
            "matrix",
            ".",
            "--to",
            "linux-7.3/n1",
            "absent.json",
            "--format",
            "json",
        ],
    );
    assert_eq!(status, Some(3));
    let left_out = lines.iter().filter(|line| line["line"] == "left-out");
    assert_eq!(left_out.count(), 3, "{lines:?}");
    assert_eq!(lines[0]["left_out_destinations"][0]["name"], "absent.json");
    let summary = lines.last().expect("the counts");
    assert_eq!(summary["left_out"], 4);
    assert_eq!(summary["rows"], 1);
    assert_eq!(summary["exit_status"], 3);
}

#[test]
fn the_exit_status_depends_on_the_conditions() {
    let status = |options: &[&str]| {
        let arguments = [
            "matrix",
            KVM_6_12,
            "--to",
            "linux-6.1/n1",
            "linux-7.3/n1",
            "-q",
        ];
        cpreg(&[&arguments[..], options].concat()).status
    };
    assert_eq!(status(&[]), Some(0));
    assert_eq!(status(&["--fail-on", "fatal"]), Some(1), "6.1 refuses");
    assert_eq!(status(&["--fail-on", "unknown"]), Some(0));
    let unknown = ["matrix", KVM_6_12, "--to", "rhel-9/n1", "-q"];
    assert_eq!(cpreg(&unknown).status, Some(3));
    let fails = [&unknown[..], &["--fail-on", "unknown"]].concat();
    assert_eq!(cpreg(&fails).status, Some(1));
    assert_snapshot!(
        "matrix_no_destination",
        cpreg(&["matrix", KVM_6_12, "--to", "absent"])
    );
    assert_snapshot!("matrix_kvm", cpreg(&["matrix", KVM_6_12, "--to", "kvm"]));
    assert_snapshot!(
        "matrix_accept_high",
        cpreg(&["matrix", KVM_6_12, "--to", "all", "--accept", "high"])
    );
}

#[test]
fn sources_of_a_list_are_planned_once() {
    let folder = folder_with_stream(KVM_6_12, "list", b"");
    let stream = Path::new(KVM_6_12).file_name().expect("a name");
    let stream = stream.to_str().expect("UTF-8");
    let list = format!("{stream}\n\n./{stream}\nlinux-7.3/n1/pmu\n");
    fs::write(folder.path().join("list"), &list).expect("a file");
    let arguments = [
        "matrix",
        "--to",
        "linux-7.3/n1",
        "linux-7.3.4/n1",
        "--list",
        "list",
    ];
    let run = cpreg_in(folder.path(), &arguments);
    assert_snapshot!("matrix_list", run);
    let input = fs::File::open(folder.path().join("list")).expect("a file");
    let arguments = ["matrix", "--to", "linux-7.3/n1", "--list", "-", "-q"];
    let output = command(folder.path(), &arguments).stdin(input).output();
    let run = Run::from_output(&arguments, &output.expect("cpreg starts"));
    assert!(
        run.stdout.starts_with("2 cells: 2 VMs at 1 destination\n"),
        "{run}"
    );
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_none() {
    let arguments = ["matrix", "n1", "--to", "n1", "--format", "csv"];
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let output = command(&streams(), &arguments)
        .stdout(full.expect("a device"))
        .output();
    let run = Run::from_output(&arguments, &output.expect("cpreg starts"));
    assert_eq!(run.status, Some(2), "{run}");
    assert!(
        run.stderr
            .starts_with("error: cannot write to standard output\n"),
        "{run}"
    );
    let whole = cpreg(&arguments).status;
    let mut child = command(&streams(), &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cpreg starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("cpreg ends");
    assert_eq!(output.status.code(), whole);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn classes_and_keys_name_the_hosts_that_are_equal() {
    assert_snapshot!("classes_n1", cpreg(&["classes", "n1"]));
    let run = cpreg(&[
        "classes",
        "linux-6.12/n1",
        "--features",
        "none",
        "--format",
        "json",
    ]);
    assert_eq!(run.status, Some(0), "{run}");
    assert_snapshot!(
        "classes_features",
        cpreg(&["classes", "n1", "--features", "pmu,fast"])
    );
    assert_snapshot!("key_one", cpreg(&["key", "linux-6.12.107/n1"]));
    assert_snapshot!(
        "key_several",
        cpreg(&["key", "linux-6.12/n1", "linux-7.3/n1/none", "absent"])
    );
    let run = cpreg(&["key", "linux-6.12.107/n1", "-v"]);
    assert!(run.stdout.contains("  cpreg.host-key/1\n"), "{run}");
    assert!(
        run.stdout
            .contains("  register 6030000000140000 accepts one-of 0x2 0x10000 0x10001\n"),
        "{run}"
    );
    assert_snapshot!("key_unrecorded", cpreg(&["key", "rhel-9/n1"]));
}
