//! Labels in the formats of other systems.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cpreg_fleet::labels::{
    FleetLabels, Property, ganeti_tag, kubernetes_label, openstack_trait, reject_file_name,
    reject_kubernetes_node,
};
use serde_json::{Map, Value, json};

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

impl LabelFormat {
    /// Returns `true` if each node needs a file of its own.
    pub const fn is_per_node(self) -> bool {
        matches!(self, Self::Nfd | Self::Placement | Self::Ansible)
    }

    /// Returns the suffix of the files of nodes.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Nfd => "",
            Self::NodeFeature => ".json",
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
            Self::Prometheus => None,
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
            Self::NodeFeature | Self::Prometheus | Self::Ganeti => {
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
    pub fn fleet_file(self, report: &FleetLabelsReport, labels: &FleetLabels) -> Option<String> {
        match self {
            Self::NodeFeature => Some(node_features(report)),
            Self::Prometheus => Some(prometheus(report)),
            Self::Ganeti => Some(ganeti(report, labels)),
            Self::Nfd | Self::Placement | Self::Ansible => None,
        }
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
    for (property, key) in node.labels() {
        text.push_str(&kubernetes_label(property, key));
        text.push_str("=true\n");
    }
    text
}

fn node_features(report: &FleetLabelsReport) -> String {
    let items = report.nodes.iter().map(|node| {
        let labels = node.labels().map(|(property, key)| {
            let value = Value::String("true".to_owned());
            (kubernetes_label(property, key), value)
        });
        let labels: Map<_, _> = labels.collect();
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
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    // A tree of strings has a JSON form.
    let text = serde_json::to_string_pretty(&list).unwrap_or_default();
    format!("{text}\n")
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
