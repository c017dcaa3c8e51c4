//! Cases: one for each program that obeys labels.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use e2e_framework::Result;
use e2e_framework::tool;
use serde_json::{Value, json};

use crate::daemon_set;
use crate::fixture::Fixture;
use crate::fleet::NODES;
use crate::nfd;

/// Case with its name.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Fixture) -> Result<String>,
}

/// All cases. The note of each says what was seen.
pub(crate) const CASES: [Case; 9] = [
    Case {
        name: "hbal moves VMs only to nodes that load them",
        run: hbal_obeys_tags,
    },
    Case {
        name: "placement offers only hosts with the required trait",
        run: placement_obeys_traits,
    },
    Case {
        name: "promtool accepts the metrics and an alert on them",
        run: promtool_accepts_metrics,
    },
    Case {
        name: "ansible reads the facts",
        run: ansible_reads_facts,
    },
    Case {
        name: "kubernetes-validate accepts labels and selectors",
        run: kubernetes_accepts_labels,
    },
    Case {
        name: "the features file follows the rules of NFD",
        run: nfd_accepts_features,
    },
    Case {
        name: "kubernetes-validate accepts the manifest",
        run: daemon_set::manifest_is_valid,
    },
    Case {
        name: "the containers of kubernetes publish the fleet",
        run: daemon_set::pods_publish_the_fleet,
    },
    Case {
        name: "the role of kubernetes permits the requests",
        run: daemon_set::role_permits_the_requests,
    },
];

/// Returns an error unless both values are equal.
fn expect<T: PartialEq + std::fmt::Debug>(name: &str, actual: &T, expected: &T) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    Err(format!("{name}: {actual:?}, expected {expected:?}").into())
}

/// Returns the targets of the VMs of `node1`, which has eight and is the only node with any.
fn hbal_targets(fixture: &Fixture, tags: bool) -> Result<BTreeSet<String>> {
    let script = fixture.fleet.labels(&["--for", "ganeti"])?;
    let words = |begin: &str| {
        let line = script.lines().find_map(|line| line.strip_prefix(begin));
        let words = line.unwrap_or_default().split_whitespace();
        words.filter(|_| tags).collect::<Vec<_>>()
    };
    let mut text = "default|group1|preferred||\n\n".to_owned();
    for (index, (node, _)) in NODES.into_iter().enumerate() {
        let (role, free) = if index == 0 {
            ("M", 16384)
        } else {
            ("N", 32768)
        };
        let tags = words(&format!("gnt-node add-tags {node} ")).join(",");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{node}|32768|0|{free}|204800|204800|8|{role}|group1|1|{tags}|N|0|1|1.0"
        );
    }
    text.push('\n');
    for vm in 0..8 {
        let _ = writeln!(
            text,
            "vm{vm}|2048|1024|1|running|Y|node1||sharedfile||1|1|N"
        );
    }
    let _ = write!(text, "\n{}\n\n", words("gnt-cluster add-tags ").join("\n"));
    text.push_str(
        "|128,1,1024,1,1,1|128,1,1024,1,1,1;32768,8,1048576,16,8,12|sharedfile|4.0|32.0\n",
    );
    let data = fixture.fleet.write("ganeti.data", &text)?;
    let output = tool::output_of(Command::new("hbal").arg("-C").arg("-t").arg(data))?;
    let moves = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("gnt-instance migrate"));
    let targets = moves.filter_map(|line| line.split_whitespace().nth(2));
    Ok(targets.map(str::to_owned).collect())
}

fn hbal_obeys_tags(fixture: &Fixture) -> Result<String> {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let without = hbal_targets(fixture, false)?;
    expect("without tags", &without, &set(&["node2", "node3"]))?;
    let with = hbal_targets(fixture, true)?;
    expect("with tags", &with, &set(&["node2"]))?;
    Ok(format!("  {without:?} without tags, {with:?} with them"))
}

/// Returns the traits in a `provider.yaml`, as nova-compute reads it.
fn traits(fixture: &Fixture, provider: &str) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("cpreg.yaml"), provider)?;
    let script = fixture
        .fleet
        .write("read_provider.py", include_str!("read_provider.py"))?;
    let mut command = fixture.python.program("python");
    command
        .arg(script)
        .arg(fixture.python.nova())
        .arg(folder.path());
    let providers: Value = serde_json::from_str(&tool::output_of(&mut command)?)?;
    let traits = &providers["$COMPUTE_NODE"];
    if !traits.is_array() {
        return Err(format!("not the traits of the node: {providers}").into());
    }
    Ok(traits.clone())
}

fn placement_obeys_traits(fixture: &Fixture) -> Result<String> {
    let wrong = "meta: {schema_version: '1.0'}\nproviders: [{identification: {uuid: $COMPUTE_NODE}, traits: {additional: [cpreg]}}]\n";
    if traits(fixture, wrong).is_ok() {
        return Err("nova accepts a trait without CUSTOM_".into());
    }
    let mut hosts = serde_json::Map::new();
    for (node, _) in NODES {
        let provider = fixture
            .fleet
            .labels(&["--for", "placement", "--node", node])?;
        hosts.insert(node.to_owned(), traits(fixture, &provider)?);
    }
    let report = fixture.fleet.report()?;
    let mut required = Vec::new();
    for (node, _) in NODES {
        let key = fixture.fleet.key(node)?;
        let profiles = report["profiles"].as_array().into_iter().flatten();
        let mut properties = profiles.filter(|profile| profile["key"] == *key);
        let property = properties
            .next()
            .and_then(|it| it["openstack_property"].as_str());
        required.push(property.and_then(|text| text.strip_prefix("trait:")));
    }
    let request = json!({"hosts": hosts, "required": required});
    let found = ask_placement(fixture, &request)?;
    let expected = json!([["node1", "node2"], ["node2"], ["node2", "node3"]]);
    expect("hosts for the VMs of each node", &found, &expected)?;
    Ok(format!("  {found}"))
}

/// Asks the placement service for the hosts with a trait.
fn ask_placement(fixture: &Fixture, request: &Value) -> Result<Value> {
    let script = fixture
        .fleet
        .write("ask_placement.py", include_str!("ask_placement.py"))?;
    let folder = tempfile::tempdir()?;
    let mut command = fixture.python.program("python");
    command.arg(script).arg(folder.path());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn()?;
    let mut input = process.stdin.take().ok_or("no standard input")?;
    input.write_all(request.to_string().as_bytes())?;
    drop(input);
    let output = process.wait_with_output()?;
    if !output.status.success() {
        return Err(format!(
            "placement: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn promtool_accepts_metrics(fixture: &Fixture) -> Result<String> {
    let metrics = fixture.fleet.labels(&["--for", "prometheus"])? + "\n";
    let path = fixture.fleet.write("cpreg.prom", &metrics)?;
    let mut check = Command::new("promtool");
    check
        .args(["check", "metrics"])
        .stdin(fs::File::open(path)?);
    tool::run(&mut check)?;
    let rules = fixture.fleet.write("rules.yml", RULES)?;
    tool::run(
        Command::new("promtool")
            .args(["check", "rules"])
            .arg(&rules),
    )?;
    fixture.fleet.write("tests.yml", RULE_TESTS)?;
    let mut test = Command::new("promtool");
    test.args(["test", "rules"])
        .arg(fixture.fleet.path("tests.yml"));
    tool::run(&mut test)?;
    Ok(String::new())
}

/// Alert on nodes whose record cannot be used, as docs/commands/fleet.md has it.
const RULES: &str = r#"groups:
  - name: cpreg
    rules:
      - alert: CpregNodeWithoutRecord
        expr: cpreg_fleet_faults > 0
        labels: {severity: warning}
        annotations:
          summary: "{{ $labels.subject }}: {{ $labels.kind }}"
"#;

const RULE_TESTS: &str = r#"rule_files: [rules.yml]
tests:
  - interval: 1m
    input_series:
      - series: 'cpreg_fleet_faults{subject="n7",kind="kernel-changed"}'
        values: '1 1'
    alert_rule_test:
      - eval_time: 1m
        alertname: CpregNodeWithoutRecord
        exp_alerts:
          - exp_labels: {severity: warning, subject: n7, kind: kernel-changed}
            exp_annotations: {summary: "n7: kernel-changed"}
"#;

fn ansible_reads_facts(fixture: &Fixture) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let facts = fixture
        .fleet
        .labels(&["--for", "ansible", "--node", "node2"])?;
    fs::write(folder.path().join("cpreg.fact"), facts)?;
    let mut command = fixture.python.program("ansible");
    command
        .env("ANSIBLE_LOCAL_TEMP", folder.path().join("local"))
        .env("ANSIBLE_REMOTE_TEMP", folder.path().join("remote"))
        .env("LC_ALL", "C.UTF-8")
        .args(["localhost", "-c", "local", "-m", "setup", "-o", "-a"])
        .arg(format!(
            "filter=ansible_local fact_path={} gather_subset=!all,!min,local",
            folder.path().display()
        ));
    let output = tool::output_of(&mut command)?;
    let (_, json) = output.split_once("=> ").ok_or("no facts")?;
    let facts: Value = serde_json::from_str(json)?;
    let loads = &facts["ansible_facts"]["ansible_local"]["cpreg"]["loads"];
    let own = fixture.fleet.key("node2")?;
    let has_own = loads
        .as_array()
        .is_some_and(|keys| keys.contains(&own.clone().into()));
    expect("the own key is in the facts", &has_own, &true)?;
    Ok(format!("  loads {loads}"))
}

fn kubernetes_accepts_labels(fixture: &Fixture) -> Result<String> {
    let features = fixture.fleet.labels(&["--for", "node-feature"])?;
    let features: Value = serde_json::from_str(&features)?;
    let items = features["items"].as_array().ok_or("no items")?;
    let mut objects = Vec::new();
    for item in items {
        let name = &item["metadata"]["labels"]["nfd.node.kubernetes.io/node-name"];
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": item["spec"]["labels"]},
        }));
    }
    let report = fixture.fleet.report()?;
    for profile in report["profiles"].as_array().into_iter().flatten() {
        let key = profile["key"].as_str().ok_or("no key")?;
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": key},
            "spec": {
                "nodeSelector": profile["node_selector"],
                "containers": [{"name": "vm", "image": "vm"}],
            },
        }));
    }
    for (index, object) in objects.iter().enumerate() {
        let path = fixture
            .fleet
            .write(&format!("object{index}.json"), &object.to_string())?;
        let mut command = fixture.python.program("kubernetes-validate");
        tool::run(command.arg("--strict").arg(path))?;
    }
    // A selector selects the nodes that have all of its labels.
    let selector = objects.iter().find(|object| object["kind"] == "Pod");
    let selector = selector.map(|pod| &pod["spec"]["nodeSelector"]);
    let selector = selector.and_then(Value::as_object).ok_or("no selector")?;
    let nodes = objects.iter().filter(|object| object["kind"] == "Node");
    let selected = nodes.filter(|node| {
        let labels = &node["metadata"]["labels"];
        selector.iter().all(|(name, value)| labels[name] == *value)
    });
    let selected: Vec<_> = selected
        .map(|node| node["metadata"]["name"].clone())
        .collect();
    expect(
        "nodes of node1's VMs",
        &json!(selected),
        &json!(["node1", "node2"]),
    )?;
    Ok(format!("  {} objects", objects.len()))
}

fn nfd_accepts_features(fixture: &Fixture) -> Result<String> {
    let key = fixture.fleet.key("node1")?;
    let label = format!("feature.node.kubernetes.io/cpreg.loads-{key}");
    let mut takers = Vec::new();
    for (node, _) in NODES {
        let options = ["--for", "nfd", "--node", node, "--valid-days", "7"];
        let file = nfd::read(&fixture.fleet.labels(&options)?)?;
        expect("an expiry", &file.expiry.is_some(), &true)?;
        if file.labels.get(&label).is_some_and(|value| value == "true") {
            takers.push(node);
        }
    }
    expect("nodes of node1's VMs", &takers, &vec!["node1", "node2"])?;
    Ok(String::new())
}
