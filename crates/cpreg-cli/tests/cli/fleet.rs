//! `cpreg fleet`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use cpreg_hosts::HostIndex;
use insta::assert_snapshot;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::folder_with;
use crate::run::{KVM_5_10, KVM_6_12, command, cpreg_in, streams};

/// Inventory with every kind of fault.
const FAULTY: &str = r#"{"node":"n1","host":"linux-6.12.107/neoverse-n1"}
{"node":"n2","host":"linux-6.12.95/neoverse-n1"}
{"node":"n3","host":"linux-7.3.4/neoverse-n1","kernel":"7.3.5-arm64"}
{"node":"n4","host":"linux-6.1.176/neoverse-n1"}
{"node":"n4","host":"linux-7.3.4/neoverse-n1"}
{"node":"n5"}
{"node":"n6","host":"linux-6.1.176/neoverse-n1","expires":"2020-01-01T00:00:00Z"}
{"node":"n7","host":"no-such-file.json"}
{"vm":"web","node":"n1"}
{"vm":"late","node":"n2","born_on":"linux-7.3.4/neoverse-n1"}
{"vm":"lost","node":"nowhere","born_on":"n2"}
{"vm":"void","node":"n3"}
{"vm":"odd","node":"n1","born_on":"k1-0000000000000000"}
{"vm":"cut","nod
{"vm":"typo","node":"n1","colour":"red"}
{"vm":"gone","node":"n2","source":"gone.stream"}
"#;

/// Nodes and VMs of Kubernetes.
const KUBERNETES: &str = r#"{
  "apiVersion": "v1",
  "items": [
    {"kind": "Node", "metadata": {"name": "a"},
     "status": {"nodeInfo": {"kernelVersion": "6.12.107+deb13-cloud-arm64"}}},
    {"kind": "Node", "metadata": {"name": "b"},
     "status": {"nodeInfo": {"kernelVersion": "7.3.4+deb13-cloud-arm64"}}},
    {"kind": "Node", "metadata": {"name": "c"},
     "status": {"nodeInfo": {"kernelVersion": "7.4.0"}}},
    {"kind": "VirtualMachineInstance", "metadata": {"name": "web", "namespace": "shop"},
     "spec": {"domain": {}}, "status": {"nodeName": "a", "phase": "Running"}},
    {"kind": "VirtualMachineInstance", "metadata": {"name": "db", "namespace": "shop"},
     "spec": {"domain": {}, "nodeSelector":
       {"feature.node.kubernetes.io/cpreg.loads-k1-c8b757e57ef02cae": "true"}},
     "status": {"nodeName": "b", "phase": "Running"}},
    {"kind": "VirtualMachineInstance", "metadata": {"name": "new", "namespace": "shop"},
     "spec": {"domain": {}}, "status": {"nodeName": "b", "phase": "Running"}},
    {"kind": "VirtualMachineInstance", "metadata": {"name": "done", "namespace": "shop"},
     "spec": {"domain": {}}, "status": {"nodeName": "b", "phase": "Succeeded"}}
  ],
  "kind": "List"
}
"#;

fn write(folder: &TempDir, name: &str, content: &[u8]) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, content).expect("a file");
}

fn record(name: &str) -> String {
    let index = HostIndex::built_in().expect("the checked-in index is valid");
    let host = index.resolve(name).expect("a recorded host").host;
    host.record().to_json().expect("JSON")
}

/// Creates a folder with records of the nodes a and b, half a record of c, and saved VMs of a.
fn record_folder() -> TempDir {
    let old = record("linux-6.12.107/neoverse-n1");
    let new = record("linux-7.3.4/neoverse-n1");
    let folder = folder_with("kubernetes.json", KUBERNETES.as_bytes());
    write(&folder, "records/a.json", old.as_bytes());
    write(&folder, "records/b.json", new.as_bytes());
    write(&folder, "records/c.json", &new.as_bytes()[..new.len() / 2]);
    for (stream, name) in [(KVM_6_12, "web"), (KVM_5_10, "old")] {
        let stream = fs::read(streams().join(stream)).expect("a stream");
        write(&folder, &format!("vms/a/{name}.stream.xz"), &stream);
    }
    folder
}

#[test]
fn every_fault_is_named_and_hides_nothing_else() {
    let folder = folder_with("fleet.jsonl", FAULTY.as_bytes());
    let run = cpreg_in(folder.path(), &["fleet", "check", "fleet.jsonl"]);
    assert_eq!(run.status, Some(1), "{run}");
    assert_snapshot!("fleet_check_faults", run);
    let run = cpreg_in(
        folder.path(),
        &["fleet", "check", "fleet.jsonl", "--format", "json"],
    );
    let report = run.json();
    let faults = report["faults"].as_array().expect("faults").iter();
    let kinds = faults.map(|fault| fault["kind"].as_str().expect("a kind"));
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    let expected = [
        "expired",
        "kernel-changed",
        "no-record",
        "two-records",
        "unknown-node",
        "unreadable",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!((&report["vms"], &report["movable"]), (&6.into(), &2.into()));
}

#[test]
fn the_running_kernel_of_kubernetes_makes_a_record_void() {
    let folder = record_folder();
    let arguments = ["fleet", "check", "records", "kubernetes.json"];
    let run = cpreg_in(folder.path(), &arguments);
    assert_snapshot!("fleet_check_kubernetes", run);
}

#[test]
fn a_drain_names_the_vms_that_cannot_leave_and_moves_the_others() {
    let folder = record_folder();
    let drain = |node: &str, options: &[&str]| {
        let arguments = ["fleet", "drain", node, "records", "kubernetes.json"];
        cpreg_in(folder.path(), &[&arguments[..], options].concat())
    };
    assert_snapshot!("fleet_drain", drain("a", &["--vms", "vms"]));
    assert_snapshot!("fleet_drain_one_way", drain("b", &[]));
    let with_consent = drain("b", &["--accept", "low", "-q"]);
    assert_eq!(
        with_consent.stdout, "b: all 2 VMs can leave\n",
        "{with_consent}"
    );
    let commands = drain("a", &["--vms", "vms", "--format", "commands"]);
    assert_snapshot!("fleet_drain_commands", commands);
    let run = drain("x", &[]);
    assert_eq!(run.status, Some(2), "{run}");
    drain("a", &["--format", "json"]).json();
}

#[test]
fn an_upgrade_plan_has_steps_and_one_way_doors() {
    let folder = folder_with("fleet.jsonl", FAULTY.as_bytes());
    let to = ["fleet", "plan", "fleet.jsonl", "--to", "linux-7.3.4/n1"];
    let run = cpreg_in(folder.path(), &to);
    assert_snapshot!("fleet_plan", run);
    cpreg_in(folder.path(), &[&to[..], &["--format", "json"]].concat()).json();
    let several = ["fleet", "plan", "fleet.jsonl", "--to", "linux-6.12/n1"];
    let run = cpreg_in(folder.path(), &several);
    assert_eq!(run.status, Some(2), "{run}");
}

#[test]
fn labels_have_the_format_of_each_system() {
    let folder = record_folder();
    let labels = |options: &[&str]| {
        cpreg_in(
            folder.path(),
            &[&["fleet", "labels", "records"], options].concat(),
        )
    };
    assert_snapshot!("fleet_labels", labels(&[]));
    for system in ["node-feature", "node-feature-rule", "prometheus", "ganeti"] {
        let run = labels(&["--for", system]);
        assert_snapshot!(format!("fleet_labels_{system}"), run);
    }
    for system in ["nfd", "placement", "ansible"] {
        let run = labels(&["--for", system, "--node", "b"]);
        assert_snapshot!(format!("fleet_labels_{system}"), run);
    }
    labels(&["--for", "json", "--format", "json"]);
    let run = labels(&["--for", "nfd"]);
    assert_eq!(run.status, Some(2), "{run}");
}

/// Returns nodes a and b of Kubernetes with the labels that their features files have, and the
/// `ConfigMap`s of their records.
fn labelled_cluster(folder: &TempDir) -> (String, String) {
    let run = |options: &[&str]| {
        let arguments = [&["fleet", "labels", "records"], options].concat();
        cpreg_in(folder.path(), &arguments)
    };
    let maps = run(&["--for", "config-map"]);
    let mut items = Vec::new();
    for (node, kernel) in [
        ("a", "6.12.107+deb13-cloud-arm64"),
        ("b", "7.3.4+deb13-cloud-arm64"),
    ] {
        let file = run(&["--for", "nfd", "--node", node]).stdout;
        let pairs = file.lines().filter_map(|line| line.split_once('='));
        let labels: serde_json::Map<_, _> = pairs
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        items.push(serde_json::json!({
            "kind": "Node", "metadata": {"name": node, "labels": labels},
            "status": {"nodeInfo": {"kernelVersion": kernel}},
        }));
    }
    let nodes = serde_json::json!({"kind": "List", "items": items});
    let nodes = serde_json::to_string_pretty(&nodes).expect("JSON");
    (nodes, maps.stdout)
}

#[test]
fn kubernetes_alone_has_nodes_and_records() {
    let folder = record_folder();
    let (nodes, maps) = labelled_cluster(&folder);
    assert_eq!(maps.matches("\"kind\": \"ConfigMap\"").count(), 2, "{maps}");
    let labels = |input: &str| {
        write(&folder, "cluster.json", input.as_bytes());
        let arguments = ["fleet", "labels", "cluster.json", "--for", "json"];
        cpreg_in(folder.path(), &arguments).json()
    };
    // Two commands of kubectl, one after the other.
    let report = labels(&format!("{nodes}\n{maps}"));
    let own = ["fleet", "labels", "records", "--for", "json"];
    let own = cpreg_in(folder.path(), &own).json();
    for index in 0..2 {
        for member in ["node", "record", "kernel", "profiles", "loads", "converts"] {
            let (found, expected) = (&report["nodes"][index], &own["nodes"][index]);
            assert_eq!(found[member], expected[member], "{report:#}");
        }
    }
    let fault = |input: &str| {
        let report = labels(input);
        assert_eq!(
            report["nodes"].as_array().map(Vec::len),
            Some(1),
            "{report:#}"
        );
        let fault = &report["faults"][0];
        assert_eq!(fault["subject"], "b", "{report:#}");
        fault["kind"].as_str().expect("a kind").to_owned()
    };
    // The node runs another kernel than its label says, so its other labels are void, too.
    let changed = nodes.replace("7.3.4+deb13", "7.4.0+deb13");
    assert_eq!(
        fault(&format!("{nodes}\n{maps}").replace(&nodes, &changed)),
        "kernel-changed"
    );
    // The record of b is missing, or half of it.
    let end = maps.rfind("{\n  \"apiVersion\"").expect("two objects");
    let (first, second) = maps.split_at(end);
    assert_eq!(fault(&format!("{nodes}\n{first}")), "no-record");
    let half = second.replace("\\\"guests\\\"", "\\\"guest");
    assert_ne!(half, second);
    assert_eq!(fault(&format!("{nodes}\n{first}{half}")), "unreadable");
}

#[test]
fn a_page_has_all_vms_and_faults() {
    let folder = folder_with("fleet.jsonl", FAULTY.as_bytes());
    let page = ["fleet", "page", "fleet.jsonl", "--to", "linux-7.3.4/n1"];
    let run = cpreg_in(folder.path(), &[&page[..], &["-o", "fleet.html"]].concat());
    assert_eq!((run.status, &*run.stdout), (Some(3), ""), "{run}");
    let html = fs::read_to_string(folder.path().join("fleet.html")).expect("a page");
    assert_eq!(cpreg_in(folder.path(), &page).stdout, html);
    let (_, rest) = html.split_once("id=\"data\">").expect("data");
    let (json, _) = rest.split_once("</script>").expect("an end");
    let data: Value = serde_json::from_str(json).expect("JSON");
    let names = data["sources"].as_array().expect("VMs").iter();
    let names: Vec<_> = names
        .map(|vm| vm["name"].as_str().expect("a name"))
        .collect();
    // Those without a way, those that are not known, and then the others.
    assert_eq!(names, ["late", "void", "odd", "gone", "web", "lost"]);
    assert_eq!(
        data["left_out"].as_array().map(Vec::len),
        Some(8),
        "{data:#}"
    );
    assert_eq!(data["fleet"]["upgrade"]["to"], "linux-7.3.4/neoverse-n1");
    let moments = data["fleet"]["moments"].as_array().expect("moments");
    let counts: Vec<_> = moments.iter().map(|it| it["counts"].to_string()).collect();
    assert_eq!(counts, ["[2,0]", "[0,2]"]);
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let folder = record_folder();
    let page = |options: &[&str]| {
        let arguments = [&["fleet", "page", "records", "kubernetes.json"], options].concat();
        cpreg_in(folder.path(), &arguments)
    };
    for output in ["no/page.html", "records", "-"] {
        let run = page(&["-o", output]);
        assert_eq!(run.status, Some(2), "{run}");
    }
    let run = page(&["--to", "kubernetes.json"]);
    assert_eq!(run.status, Some(2), "{run}");
    let arguments = ["fleet", "page", "records", "kubernetes.json"];
    let mut full = command(folder.path(), &arguments);
    let device = fs::File::options().write(true).open("/dev/full");
    full.stdout(Stdio::from(device.expect("/dev/full")));
    assert_eq!(full.output().expect("cpreg starts").status.code(), Some(2));
}

#[test]
fn labels_are_written_by_rename_with_an_expiry() {
    let folder = record_folder();
    fs::create_dir(folder.path().join("out")).expect("a folder");
    write(&folder, "out/a", b"old");
    let arguments = [
        "fleet",
        "labels",
        "records",
        "--for",
        "nfd",
        "-o",
        "out",
        "--valid-days",
        "7",
    ];
    let run = cpreg_in(folder.path(), &arguments);
    assert_eq!(run.status, Some(3), "c is half a record: {run}");
    let names = crate::fixtures::file_names(&folder.path().join("out"));
    assert_eq!(names, ["a", "b"]);
    let text = fs::read_to_string(folder.path().join("out/a")).expect("labels");
    let expiry = text.lines().nth(1).expect("a line");
    assert!(
        expiry.starts_with("# +expiry-time=2") && expiry.ends_with('Z'),
        "{text}"
    );
    assert_eq!(expiry.len(), "# +expiry-time=2026-12-05T00:00:00Z".len());
}

#[test]
fn a_node_that_a_system_cannot_name_is_left_out() {
    let inventory = r#"{"node":"Rack 1/a","host":"linux-6.12.107/neoverse-n1"}
{"node":"b","host":"linux-6.12.107/neoverse-n1"}
"#;
    let folder = folder_with("fleet.jsonl", inventory.as_bytes());
    for system in ["nfd", "placement", "ganeti", "ansible", "node-feature"] {
        let arguments = ["fleet", "labels", "fleet.jsonl", "--for", system];
        let run = cpreg_in(folder.path(), &arguments);
        assert_eq!(run.status, Some(3), "{run}");
        assert!(run.stderr.contains("Rack 1/a is left out"), "{run}");
        assert!(!run.stdout.contains("Rack"), "{run}");
    }
}

#[test]
fn wrong_inputs_are_errors() {
    let folder = folder_with("fleet.jsonl", b"{\"node\":\"a\"}\n");
    write(&folder, "empty.jsonl", b"");
    fs::create_dir(folder.path().join("none")).expect("a folder");
    let mut text = String::new();
    for arguments in [
        &["fleet", "check", "missing.jsonl"][..],
        &["fleet", "check", "empty.jsonl"],
        &["fleet", "check", "none"],
        &["fleet", "check", "linux-7.3.4/n1"],
        &["fleet", "check", "kvm"],
        &["fleet", "check", "fleet.jsonl", "--vms", "missing"],
        &["fleet", "check", "fleet.jsonl", "--vms", "linux-7.3.4/n1"],
        &["fleet", "labels", "linux-7.3.4/n1", "-o", "x"],
        &[
            "fleet",
            "labels",
            "linux-7.3.4/n1",
            "--for",
            "ansible",
            "-o",
            "no/x",
        ],
    ] {
        let run = cpreg_in(folder.path(), arguments);
        assert_eq!(run.status, Some(2), "{run}");
        text.push_str(&run.to_string());
    }
    assert_snapshot!("fleet_errors", text);
}

#[test]
fn a_full_disk_and_a_narrow_terminal_lose_nothing() {
    let folder = folder_with("fleet.jsonl", FAULTY.as_bytes());
    let arguments = ["fleet", "check", "fleet.jsonl"];
    let mut full = command(folder.path(), &arguments);
    let device = fs::File::options().write(true).open("/dev/full");
    full.stdout(Stdio::from(device.expect("/dev/full")));
    assert_eq!(full.output().expect("cpreg starts").status.code(), Some(2));
    let mut narrow = command(folder.path(), &arguments);
    let output = narrow.env("COLUMNS", "40").output().expect("cpreg starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    // Names of hosts and commands are longer than the rest of a line.
    let is_long = |line: &&str| line.len() > 60;
    assert_eq!(text.lines().find(is_long), None, "{text}");
}

#[test]
fn standard_input_is_an_inventory() {
    let folder = record_folder();
    let mut command = command(folder.path(), &["fleet", "check", "records", "-", "-q"]);
    let input = fs::File::open(folder.path().join("kubernetes.json")).expect("the inventory");
    let output = command.stdin(input).output().expect("cpreg starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.starts_with("2 of 3 VMs can leave"), "{text}");
}

#[test]
fn check_has_the_verdicts_of_matrix() {
    let folder = record_folder();
    let matrix = [
        "matrix",
        "vms/a/web.stream.xz",
        "vms/a/old.stream.xz",
        "--from",
        "records/a.json",
        "--to",
        "records/a.json",
        "records/b.json",
        "--format",
        "csv",
    ];
    let run = cpreg_in(folder.path(), &matrix);
    let symbols = |destination: &str| {
        let rows = run.stdout.lines().filter(|line| line.contains(destination));
        let symbols = rows.map(|line| line.split(',').nth(3).expect("a symbol").to_owned());
        let mut counts = serde_json::Map::new();
        for symbol in symbols {
            let count = counts.get(&symbol).and_then(Value::as_u64).unwrap_or(0) + 1;
            counts.insert(symbol, count.into());
        }
        Value::Object(counts)
    };
    let arguments = [
        "fleet", "check", "records", "--vms", "vms", "--format", "json",
    ];
    let report = cpreg_in(folder.path(), &arguments).json();
    for class in report["classes"].as_array().expect("classes") {
        let host = class["host"].as_str().expect("a host");
        let host = Path::new(host).file_name().expect("a name");
        assert_eq!(
            class["takes"],
            symbols(host.to_str().expect("UTF-8")),
            "{run}"
        );
    }
}
