//! `packaging/kubernetes`: the containers of its pods, in turn, as the kubelet starts them.
//!
//! A container's program runs with the manifest's arguments in a mount namespace in which `/run` is
//! a folder of the test. This machine has no KVM of arm64, so the record of a recorded host takes
//! the place of the one that `cpreg probe kvm` writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use cpreg_hosts::HostIndex;
use e2e_framework::Result;
use e2e_framework::paths::repository;
use e2e_framework::tool;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::fleet::NODES;
use crate::nfd::{self, FeaturesFile};

/// Manifest.
const MANIFEST: &str = "packaging/kubernetes/cpreg.yaml";
/// Folder of the containers that is a folder of the test. `/var/run` is a link to it.
const RUN: &str = "/run/";
/// Features file of the node, as a container sees it.
const FEATURES_FILE: &str = "cpreg/features.d/cpreg";
/// Folder of the token below `/run`.
const TOKEN_FOLDER: &str = "secrets/kubernetes.io/serviceaccount";

/// Objects of the manifest.
pub(crate) struct Manifest(Vec<Value>);

/// Features file and requests that the containers of a pod leave.
#[derive(Debug)]
pub(crate) struct PodResult {
    pub(crate) features: FeaturesFile,
    /// `ConfigMap`s that `kubectl` sent.
    pub(crate) config_maps: Vec<Value>,
    /// Namespaced requests of `kubectl`, each as verb, resource and namespace.
    pub(crate) requests: BTreeSet<(String, String, String)>,
}

impl Manifest {
    /// Reads the manifest.
    pub(crate) fn read(fixture: &Fixture) -> Result<Self> {
        let mut command = fixture.python.program("python");
        let script = "import json, sys, yaml; \
            print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
        command
            .args(["-c", script])
            .arg(repository().join(MANIFEST));
        let objects: Value = serde_json::from_str(&tool::output_of(&mut command)?)?;
        Ok(Self(objects.as_array().ok_or("no objects")?.clone()))
    }

    /// Returns all objects.
    pub(crate) fn objects(&self) -> &[Value] {
        &self.0
    }

    /// Returns the only object of a kind.
    pub(crate) fn object(&self, kind: &str) -> Result<&Value> {
        let mut objects = self.0.iter().filter(|object| object["kind"] == kind);
        match (objects.next(), objects.next()) {
            (Some(object), None) => Ok(object),
            _ => Err(format!("the manifest does not have one {kind}").into()),
        }
    }

    /// Runs the containers of the pod on a node whose record is that of a recorded host.
    pub(crate) fn run_pod(&self, fixture: &Fixture, node: &str, host: &str) -> Result<PodResult> {
        let folder = tempfile::tempdir()?;
        let run = folder.path();
        fs::create_dir_all(run.join(FEATURES_FILE).parent().ok_or("no folder")?)?;
        fs::create_dir_all(run.join("cpreg/records"))?;
        let pod = &self.object("DaemonSet")?["spec"]["template"]["spec"];
        let mut published = None;
        for container in pod["initContainers"].as_array().into_iter().flatten() {
            let arguments = arguments(container, node)?;
            check_mounts(container, &arguments)?;
            match container["command"][0].as_str() {
                Some("/usr/bin/cpreg") if arguments[..2] == ["probe", "kvm"] => {
                    probe(fixture, &arguments, run, host)?;
                }
                Some("/usr/bin/cpreg") => {
                    let mut command = inside(run);
                    command.arg(fixture.fleet.program()).args(&arguments);
                    tool::run(&mut command)?;
                }
                Some("kubectl") => {
                    if published.is_some() {
                        return Err("kubectl runs twice".into());
                    }
                    published = Some(self.kubectl(fixture, &arguments, run)?);
                }
                other => return Err(format!("an unknown program: {other:?}").into()),
            }
        }
        let (config_maps, requests) = published.ok_or("kubectl does not run")?;
        let features = fs::read_to_string(run.join(FEATURES_FILE))?;
        Ok(PodResult {
            features: nfd::read(&features)?,
            config_maps,
            requests,
        })
    }

    /// Runs `kubectl` in front of an API server of the test, twice.
    #[expect(clippy::type_complexity, reason = "two members of `PodResult`")]
    fn kubectl(
        &self,
        fixture: &Fixture,
        arguments: &[String],
        run: &Path,
    ) -> Result<(Vec<Value>, BTreeSet<(String, String, String)>)> {
        let namespace = &self.object("DaemonSet")?["metadata"]["namespace"];
        let script = fixture
            .fleet
            .write("run_kubectl.py", include_str!("run_kubectl.py"))?;
        let mut command = fixture.python.program("python");
        command.arg(script).arg(run).arg(TOKEN_FOLDER);
        command.arg(namespace.as_str().ok_or("no namespace")?);
        command.arg(fixture.kubectl.join("kubectl")).args(arguments);
        let output: Value = serde_json::from_str(&tool::output_of(&mut command)?)?;
        let mut requests = BTreeSet::new();
        for request in output["requests"].as_array().into_iter().flatten() {
            if request["token"] != "Bearer secret" {
                return Err(format!("a request without the token: {request}").into());
            }
            let path = request["path"].as_str().unwrap_or_default();
            let parts: Vec<_> = path.trim_matches('/').split('/').collect();
            let verbs = request["verbs"].as_array().into_iter().flatten();
            for verb in verbs.filter_map(Value::as_str) {
                let ["api", "v1", "namespaces", namespace, resource, ..] = parts[..] else {
                    return Err(format!("an unknown path: {path}").into());
                };
                let words = [verb, resource, namespace].map(str::to_owned);
                requests.insert(words.into());
            }
        }
        let objects = output["objects"].as_array().ok_or("no objects")?;
        Ok((objects.clone(), requests))
    }
}

/// Returns the arguments of a container after the kubelet's expansion.
fn arguments(container: &Value, node: &str) -> Result<Vec<String>> {
    let environment = container["env"].as_array().into_iter().flatten();
    let is_node_name = |variable: &&Value| {
        variable.pointer("/valueFrom/fieldRef/fieldPath") == Some(&json!("spec.nodeName"))
    };
    let names = environment.filter(is_node_name);
    let names: Vec<_> = names.filter_map(|it| it["name"].as_str()).collect();
    let arguments = container["args"].as_array().into_iter().flatten();
    let arguments = arguments.map(|argument| {
        let mut text = argument
            .as_str()
            .ok_or("an argument that is no string")?
            .to_owned();
        for name in &names {
            text = text.replace(&format!("$({name})"), node);
        }
        if text.contains("$(") {
            return Err(format!("{text}: the container lacks the variable").into());
        }
        Ok(text)
    });
    arguments.collect()
}

/// Checks that the container mounts the folder of each path in its arguments, and can write to that
/// of its output.
fn check_mounts(container: &Value, arguments: &[String]) -> Result<()> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let mounts: Vec<_> = mounts.collect();
    let mut previous = "";
    for argument in arguments {
        if argument.starts_with('/') {
            let folder = Path::new(argument).parent().and_then(Path::to_str);
            let mount = mounts.iter().find(|it| it["mountPath"].as_str() == folder);
            let mount = mount.ok_or_else(|| format!("{argument} is not mounted"))?;
            if previous == "-o" && mount["readOnly"] == true {
                return Err(format!("{argument} cannot be written").into());
            }
        }
        previous = argument;
    }
    Ok(())
}

/// Writes the record of a recorded host to the output of `cpreg probe kvm`. Without KVM of arm64,
/// the command must fail because of that.
fn probe(fixture: &Fixture, arguments: &[String], run: &Path, host: &str) -> Result<()> {
    let mut command = inside(run);
    let output = command
        .arg(fixture.fleet.program())
        .args(arguments)
        .output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !message.contains("KVM") {
        return Err(format!("`probe kvm` fails for another reason: {message}").into());
    }
    let [.., option, path] = arguments else {
        return Err("`probe kvm` has no output".into());
    };
    let path = path.strip_prefix(RUN).filter(|_| option == "-o");
    let path = path.ok_or("the output of `probe kvm` is not in /run")?;
    let index = HostIndex::built_in()?;
    let record = index.resolve(host)?.host.record().to_json()?;
    Ok(fs::write(run.join(path), record)?)
}

/// Returns a command in a mount namespace in which this folder is `/run`. Its program follows.
fn inside(run: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    command
        .arg("mount --bind \"$0\" /run && exec \"$@\"")
        .arg(run);
    command
}

/// Runs a pod on each node.
fn run_pods(fixture: &Fixture, manifest: &Manifest) -> Result<Vec<PodResult>> {
    let pods = NODES
        .iter()
        .map(|(node, host)| manifest.run_pod(fixture, node, host));
    pods.collect()
}

/// The role permits exactly what `kubectl` does, and binds the account of the pods.
pub(crate) fn role_permits_the_requests(fixture: &Fixture) -> Result<String> {
    let manifest = Manifest::read(fixture)?;
    let role = manifest.object("Role")?;
    let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
    let words = |value: &Value| {
        let words = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut permitted = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        if rule["apiGroups"] != json!([""]) {
            return Err(format!("another group: {rule}").into());
        }
        for resource in words(&rule["resources"]) {
            for verb in words(&rule["verbs"]) {
                permitted.insert((verb, resource.clone(), namespace.to_owned()));
            }
        }
    }
    let (node, host) = NODES[0];
    let used = manifest.run_pod(fixture, node, host)?.requests;
    if used != permitted {
        return Err(format!("the role permits {permitted:?}, and kubectl needs {used:?}").into());
    }
    let pod = &manifest.object("DaemonSet")?["spec"]["template"]["spec"];
    let account = &manifest.object("ServiceAccount")?["metadata"]["name"];
    let binding = manifest.object("RoleBinding")?;
    let subject = &binding["subjects"][0];
    let is_bound = pod["serviceAccountName"] == *account
        && subject["name"] == *account
        && subject["namespace"] == namespace
        && binding["roleRef"]["name"] == role["metadata"]["name"]
        && manifest
            .objects()
            .iter()
            .all(|it| it["kind"] != "ClusterRole");
    if !is_bound {
        return Err("the account of the pods does not have the role alone".into());
    }
    Ok(format!("  {permitted:?}"))
}

/// The labels and `ConfigMap`s of the pods are a fleet that `cpreg fleet` reads, and its rule adds
/// the labels of all nodes.
pub(crate) fn pods_publish_the_fleet(fixture: &Fixture) -> Result<String> {
    let manifest = Manifest::read(fixture)?;
    let pods = run_pods(fixture, &manifest)?;
    let mut items = Vec::new();
    for ((node, _), pod) in NODES.iter().zip(&pods) {
        let kernel = &pod.features.labels["feature.node.kubernetes.io/cpreg.kernel"];
        items.push(json!({
            "kind": "Node", "metadata": {"name": node, "labels": pod.features.labels},
            "status": {"nodeInfo": {"kernelVersion": kernel}},
        }));
    }
    items.extend(pods.iter().flat_map(|pod| pod.config_maps.clone()));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let path = fixture.fleet.write("cluster.json", &list.to_string())?;
    let rules = fleet_labels(fixture, &path, "node-feature-rule")?;
    let rules: Value = serde_json::from_str(&rules)?;
    let rules = rules["spec"]["rules"].as_array().ok_or("no rules")?;
    let report = fleet_labels(fixture, &path, "json")?;
    let report: Value = serde_json::from_str(&report)?;
    let own = fixture.fleet.report()?;
    for (index, pod) in pods.iter().enumerate() {
        for member in ["profiles", "loads", "converts", "record"] {
            let (found, expected) = (
                &report["nodes"][index][member],
                &own["nodes"][index][member],
            );
            if found != expected {
                return Err(format!("{member}: {found}, expected {expected}").into());
            }
        }
        let found = apply(rules, &pod.features)?;
        let relations = ["loads", "converts"].map(|relation| {
            let keys = own["nodes"][index][relation]
                .as_array()
                .into_iter()
                .flatten();
            let keys = keys.filter_map(Value::as_str);
            let label = |key| format!("feature.node.kubernetes.io/cpreg.{relation}-{key}");
            keys.map(label).collect::<BTreeSet<_>>()
        });
        let expected: BTreeSet<_> = relations.into_iter().flatten().collect();
        if found != expected {
            return Err(format!("labels of the rule: {found:?}, expected {expected:?}").into());
        }
    }
    Ok(format!("  {} nodes, {} rules", pods.len(), rules.len()))
}

/// Returns the labels of a cluster in a format.
fn fleet_labels(fixture: &Fixture, cluster: &Path, system: &str) -> Result<String> {
    let mut command = Command::new(fixture.fleet.program());
    command.args(["fleet", "labels"]).arg(cluster);
    tool::output_of(command.args(["--for", system]))
}

/// Returns the labels that rules of Node Feature Discovery add to a node with a features file.
fn apply(rules: &[Value], file: &FeaturesFile) -> Result<BTreeSet<String>> {
    let mut labels = BTreeSet::new();
    for rule in rules {
        let mut matches = true;
        for term in rule["matchFeatures"].as_array().ok_or("no terms")? {
            if term["feature"] != "local.label" {
                return Err(format!("another feature: {term}").into());
            }
            for (name, expression) in term["matchExpressions"].as_object().ok_or("no term")? {
                if expression != &json!({"op": "IsTrue"}) {
                    return Err(format!("another expression: {expression}").into());
                }
                matches &= file.labels.get(name).is_some_and(|value| value == "true");
            }
        }
        let added = rule["labels"].as_object().ok_or("no labels")?;
        if matches {
            labels.extend(added.keys().cloned());
        }
    }
    Ok(labels)
}

/// `kubernetes-validate` accepts each object of the manifest.
pub(crate) fn manifest_is_valid(fixture: &Fixture) -> Result<String> {
    let manifest = Manifest::read(fixture)?;
    for (index, object) in manifest.objects().iter().enumerate() {
        let path = format!("manifest{index}.json");
        let path = fixture.fleet.write(&path, &object.to_string())?;
        let mut command = fixture.python.program("kubernetes-validate");
        tool::run(command.arg("--strict").arg(path))?;
    }
    Ok(format!("  {} objects", manifest.objects().len()))
}
