//! Labels in the formats of other systems.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cpreg_fleet::Inventory;
use cpreg_fleet::inventory::kubernetes::{CONFIG_MAP_PREFIX, HOST_MEMBER, RECORD_MEMBER};
use cpreg_fleet::labels::{
    FleetLabels, KERNEL_LABEL, Property, RECORD_LABEL, ganeti_tag, kubernetes_label, label_value,
    openstack_trait, reject_file_name, reject_kubernetes_node,
};
use serde_json::{Value, json};

use super::labels::{FleetLabelsReport, NodeLabels};
use crate::command::quote;

/// System whose format the labels have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the command has an option for each"
)]
pub enum LabelFormat {
    /// Features file of Node Feature Discovery, one for each node.
    Nfd,
    /// `NodeFeature` objects of Node Feature Discovery, as a list.
    NodeFeature,
    /// `NodeFeatureRule` of Node Feature Discovery: what nodes of each profile take.
    NodeFeatureRule,
    /// `ConfigMap` of Kubernetes for each different record.
    ConfigMap,
    /// Text file of Prometheus' node exporter.
    Prometheus,
    /// `provider.yaml` of nova-compute, one for each node.
    Placement,
    /// Commands of Ganeti that add tags.
    Ganeti,
    /// Facts file of Ansible, one for each node.
    Ansible,
}

/// Maximum number of bytes of a features file that Node Feature Discovery reads.
const MAX_FEATURES_LEN: usize = 64 << 10;
/// Maximum number of bytes of a record in a `ConfigMap`, of which Kubernetes takes up to 1 MiB.
const MAX_CONFIG_MAP_LEN: usize = (1 << 20) - 4096;

impl LabelFormat {
    /// Returns `true` if each node needs a file of its own.
    pub const fn is_per_node(self) -> bool {
        matches!(self, Self::Nfd | Self::Placement | Self::Ansible)
    }

    /// Returns the suffix of the files of nodes.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Nfd => "",
            Self::NodeFeature | Self::NodeFeatureRule | Self::ConfigMap => ".json",
            Self::Prometheus => ".prom",
            Self::Placement => ".yaml",
            Self::Ganeti => ".sh",
            Self::Ansible => ".fact",
        }
    }

    /// Returns the reason why the system cannot have a node with this name; `None` if it can.
    pub fn reject(self, node: &str) -> Option<String> {
        match self {
            Self::Nfd | Self::NodeFeature => reject_kubernetes_node(node),
            Self::Placement | Self::Ansible | Self::Ganeti => reject_file_name(node),
            Self::Prometheus | Self::NodeFeatureRule | Self::ConfigMap => None,
        }
    }

    /// Returns the file of one node.
    ///
    /// # Errors
    /// Returns a message if the file exceeds a limit of the system.
    pub fn node_file(
        self,
        report: &FleetLabelsReport,
        node: &NodeLabels,
    ) -> Result<String, String> {
        let text = match self {
            Self::Nfd => nfd(report, node),
            Self::Placement => placement(node),
            Self::Ansible => ansible(report, node),
            Self::NodeFeature
            | Self::NodeFeatureRule
            | Self::ConfigMap
            | Self::Prometheus
            | Self::Ganeti => {
                return Err("the format has one file for all nodes".to_owned());
            }
        };
        if self == Self::Nfd && text.len() > MAX_FEATURES_LEN {
            return Err(format!(
                "the features file has {} bytes, and NFD reads {MAX_FEATURES_LEN}",
                text.len()
            ));
        }
        Ok(text)
    }

    /// Returns the file of all nodes; `None` if each node needs a file of its own.
    ///
    /// # Errors
    /// Returns a message if the file exceeds a limit of the system.
    pub fn fleet_file(
        self,
        report: &FleetLabelsReport,
        inventory: &Inventory,
        labels: &FleetLabels,
    ) -> Result<Option<String>, String> {
        Ok(Some(match self {
            Self::NodeFeature => node_features(report),
            Self::NodeFeatureRule => node_feature_rule(labels),
            Self::ConfigMap => config_maps(report, inventory)?,
            Self::Prometheus => prometheus(report),
            Self::Ganeti => ganeti(report, labels),
            Self::Nfd | Self::Placement | Self::Ansible => return Ok(None),
        }))
    }
}

/// First line of all files that have comments.
const COMMENT: &str = "# written by cpreg; void when the kernel of the node changes\n";

fn nfd(report: &FleetLabelsReport, node: &NodeLabels) -> String {
    let mut text = COMMENT.to_owned();
    if let Some(expires) = &report.expires {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# +expiry-time={expires}");
    }
    for (name, value) in kubernetes_labels(node) {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

/// Returns the labels of a node in Kubernetes.
fn kubernetes_labels(node: &NodeLabels) -> Vec<(String, String)> {
    let record = node.record.iter();
    let record = record.map(|id| (RECORD_LABEL.to_owned(), id.clone()));
    let kernel = node.kernel.iter();
    let kernel = kernel.map(|release| (KERNEL_LABEL.to_owned(), label_value(release)));
    let others = node.labels().map(|(property, key)| relation(property, key));
    record.chain(kernel).chain(others).collect()
}

/// Returns a label of Kubernetes with its value.
fn relation(property: Property, key: &str) -> (String, String) {
    (kubernetes_label(property, key), "true".to_owned())
}

/// Returns an object as JSON.
fn document(object: &Value) -> String {
    // A tree of strings has a JSON form.
    let text = serde_json::to_string_pretty(object).unwrap_or_default();
    format!("{text}\n")
}

/// Returns one rule for each profile. A node that gets another profile gets its labels at once.
fn node_feature_rule(labels: &FleetLabels) -> String {
    let rules = labels.profiles.iter().map(|profile| {
        let own = kubernetes_label(Property::Profile, &profile.key);
        let taken = labels.taken_by(profile);
        let taken: BTreeMap<_, _> = taken.map(|(it, key)| relation(it, key)).collect();
        json!({
            "name": format!("{} with {}", profile.key, profile.features),
            "labels": taken,
            "matchFeatures": [{
                "feature": "local.label",
                "matchExpressions": {own: {"op": "IsTrue"}},
            }],
        })
    });
    let rules: Vec<_> = rules.collect();
    document(&json!({
        "apiVersion": "nfd.k8s-sigs.io/v1alpha1",
        "kind": "NodeFeatureRule",
        "metadata": {"name": "cpreg"},
        "spec": {"rules": rules},
    }))
}

/// Returns the records of the nodes in the report, each once, as one document after the other.
///
/// They are no list: kubectl validates a list itself, for which it reads the server's schemas.
fn config_maps(report: &FleetLabelsReport, inventory: &Inventory) -> Result<String, String> {
    let used: BTreeSet<_> = report
        .nodes
        .iter()
        .filter_map(|it| it.record.as_ref())
        .collect();
    let mut text = String::new();
    for (index, host) in inventory.hosts().iter().enumerate() {
        let id = inventory.record_id(index);
        let Some((id, record)) = id.filter(|id| used.contains(id)).zip(host.record()) else {
            continue;
        };
        let record = record.to_json().map_err(|error| error.to_string())?;
        if record.len() > MAX_CONFIG_MAP_LEN {
            return Err(format!(
                "{}: the record has {} bytes, and a ConfigMap {MAX_CONFIG_MAP_LEN}",
                host.name(),
                record.len()
            ));
        }
        text.push_str(&document(&json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": format!("{CONFIG_MAP_PREFIX}{id}"),
                "labels": {"app.kubernetes.io/name": "cpreg"},
            },
            "data": {HOST_MEMBER: host.name(), RECORD_MEMBER: record},
        })));
    }
    Ok(text)
}

fn node_features(report: &FleetLabelsReport) -> String {
    let items = report.nodes.iter().map(|node| {
        let labels: BTreeMap<_, _> = kubernetes_labels(node).into_iter().collect();
        let mut metadata = json!({
            "name": format!("cpreg-{}", node.node),
            "labels": {"nfd.node.kubernetes.io/node-name": node.node},
        });
        if let Some(expires) = &report.expires {
            metadata["annotations"] = json!({"cpreg.expires": expires});
        }
        json!({
            "apiVersion": "nfd.k8s-sigs.io/v1alpha1",
            "kind": "NodeFeature",
            "metadata": metadata,
            "spec": {
                "features": {"flags": {}, "attributes": {}, "instances": {}},
                "labels": labels,
            },
        })
    });
    let items: Vec<_> = items.collect();
    document(&json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

/// Escapes the value of a label of Prometheus.
fn escape_prometheus(value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"");
    value.replace('\n', r"\n")
}

fn prometheus(report: &FleetLabelsReport) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut family = |name: &str, help: &str, samples: &mut dyn Iterator<Item = String>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for sample in samples {
            let _ = writeln!(text, "{name}{sample}");
        }
    };
    let escape = escape_prometheus;
    let mut infos = report.nodes.iter().map(|node| {
        format!(
            "{{node=\"{}\",host=\"{}\",kernel=\"{}\"}} 1",
            escape(&node.node),
            escape(&node.host),
            escape(node.kernel.as_deref().unwrap_or_default())
        )
    });
    family(
        "cpreg_node_info",
        "Record that stands for the node.",
        &mut infos,
    );
    let mut taken = report.nodes.iter().flat_map(|node| {
        node.labels().map(|(property, key)| {
            let relation = match property {
                Property::Profile => "profile",
                Property::Loads => "loads",
                Property::Converts => "converts",
            };
            format!(
                "{{node=\"{}\",relation=\"{relation}\",profile=\"{key}\"}} 1",
                escape(&node.node)
            )
        })
    });
    family(
        "cpreg_node_profile",
        "Profiles of the node, and those whose new VMs it takes.",
        &mut taken,
    );
    let mut faults: BTreeMap<_, BTreeMap<&str, usize>> = BTreeMap::new();
    for fault in &report.faults {
        *faults
            .entry(&*fault.subject)
            .or_default()
            .entry(&*fault.kind)
            .or_default() += 1;
    }
    let mut faults = faults.into_iter().flat_map(|(subject, kinds)| {
        kinds.into_iter().map(move |(kind, count)| {
            format!(
                "{{subject=\"{}\",kind=\"{kind}\"}} {count}",
                escape(subject)
            )
        })
    });
    family(
        "cpreg_fleet_faults",
        "Items of the inventory that cannot be used.",
        &mut faults,
    );
    text
}

/// Quotes a text for YAML, in which a JSON string is valid.
fn quote_yaml(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn placement(node: &NodeLabels) -> String {
    let mut text = COMMENT.to_owned();
    text.push_str(
        "meta:\n  schema_version: '1.0'\nproviders:\n  - identification:\n      uuid: \
         $COMPUTE_NODE\n    traits:\n      additional:\n",
    );
    for (property, key) in node.labels() {
        let name = quote_yaml(&openstack_trait(property, key));
        let _ = writeln!(text, "        - {name}");
    }
    text
}

fn ganeti(report: &FleetLabelsReport, labels: &FleetLabels) -> String {
    let mut text = format!("{COMMENT}gnt-cluster add-tags htools:migration:cpreg");
    for (from, to) in labels.loading_pairs() {
        let tag = format!(
            "htools:allowmigration:{}::{}",
            ganeti_tag(from),
            ganeti_tag(to)
        );
        text.push(' ');
        text.push_str(&quote(&tag));
    }
    text.push('\n');
    for node in &report.nodes {
        let _ = write!(text, "gnt-node add-tags {}", quote(&node.node));
        for key in &node.profiles {
            text.push(' ');
            text.push_str(&quote(&ganeti_tag(key)));
        }
        text.push('\n');
    }
    text
}

fn ansible(report: &FleetLabelsReport, node: &NodeLabels) -> String {
    let facts = json!({
        "host": node.host,
        "kernel": node.kernel,
        "expires": report.expires,
        "profiles": node.profiles,
        "loads": node.loads,
        "converts": node.converts,
    });
    let text = serde_json::to_string_pretty(&facts).unwrap_or_default();
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeLabels {
        NodeLabels {
            node: "n1".to_owned(),
            host: "a \"host\"".to_owned(),
            kernel: Some("6.12\n".to_owned()),
            record: Some("0123".to_owned()),
            profiles: vec!["k1-aa".to_owned()],
            loads: vec!["k1-aa".to_owned()],
            converts: vec!["k1-bb".to_owned()],
        }
    }

    fn report() -> FleetLabelsReport {
        FleetLabelsReport {
            schema: String::new(),
            expires: Some("2026-12-05T00:00:00Z".to_owned()),
            profiles: Vec::new(),
            nodes: vec![node()],
            faults: Vec::new(),
        }
    }

    #[test]
    fn a_features_file_has_an_expiry_and_labels() {
        let text = LabelFormat::Nfd
            .node_file(&report(), &node())
            .expect("short");
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            [
                "# +expiry-time=2026-12-05T00:00:00Z",
                "feature.node.kubernetes.io/cpreg.record=0123",
                "feature.node.kubernetes.io/cpreg.kernel=6.12",
                "feature.node.kubernetes.io/cpreg.profile-k1-aa=true",
                "feature.node.kubernetes.io/cpreg.loads-k1-aa=true",
                "feature.node.kubernetes.io/cpreg.converts-k1-bb=true",
            ]
        );
    }

    #[test]
    fn a_features_file_has_a_limit() {
        let node = NodeLabels {
            loads: (0..2000).map(|key| format!("k1-{key}")).collect(),
            ..node()
        };
        let error = LabelFormat::Nfd.node_file(&report(), &node);
        assert!(error.expect_err("long").contains("65536"));
    }

    #[test]
    fn values_are_escaped_for_prometheus() {
        let text = prometheus(&report());
        let expected = r#"cpreg_node_info{node="n1",host="a \"host\"",kernel="6.12\n"} 1"#;
        assert!(text.lines().any(|line| line == expected), "{text}");
    }
}
