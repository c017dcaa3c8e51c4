//! Report of `fleet labels`, schema `cpreg.fleet-labels/1`.

use std::collections::BTreeMap;

use cpreg_fleet::Inventory;
use cpreg_fleet::labels::{FleetLabels, Property, ganeti_tag, kubernetes_label, openstack_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FaultReport, faults, print_faults};
use crate::printer::{Printer, heading, style, styled};
use crate::text::{list_first, pluralize};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.fleet-labels/1";

/// Report of `cpreg fleet labels`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FleetLabelsReport {
    /// `"cpreg.fleet-labels/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Time after which the labels are void, in RFC 3339; null if the command was given none.
    pub expires: Option<String>,
    /// Profiles of new VMs, with the selector of a VM of each.
    pub profiles: Vec<ProfileReport>,
    /// Labels of the nodes with a usable record.
    pub nodes: Vec<NodeLabels>,
    /// Items that cannot be used.
    pub faults: Vec<FaultReport>,
}

/// Profile: VMs that are born on hosts with one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ProfileReport {
    /// Key, as `cpreg key` prints it.
    pub key: String,
    /// Features of the guests.
    pub features: Vec<String>,
    /// Names of the records with this key.
    pub hosts: Vec<String>,
    /// `nodeSelector` of such a VM in Kubernetes.
    pub node_selector: BTreeMap<String, String>,
    /// Property of the flavor or image of such a VM in OpenStack, which is `required`.
    pub openstack_property: String,
    /// Tag of the nodes of such a VM in Ganeti.
    pub ganeti_tag: String,
}

/// Labels of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct NodeLabels {
    /// Name of the node.
    pub node: String,
    /// Name of the record that stands for the node.
    pub host: String,
    /// `uname -r` in the record; null for a profile.
    pub kernel: Option<String>,
    /// Identifier of everything in the record that decides; null for a profile. Nodes with equal
    /// identifiers take the same VMs.
    pub record: Option<String>,
    /// Keys of the node, one for each set of features.
    pub profiles: Vec<String>,
    /// Keys whose new VMs load unchanged.
    pub loads: Vec<String>,
    /// Keys whose new VMs load after a conversion.
    pub converts: Vec<String>,
}

impl NodeLabels {
    /// Returns all labels, each as a property and a key.
    pub fn labels(&self) -> impl Iterator<Item = (Property, &str)> {
        let profiles = self.profiles.iter().map(|key| (Property::Profile, &**key));
        let loads = self.loads.iter().map(|key| (Property::Loads, &**key));
        let converts = self.converts.iter().map(|key| (Property::Converts, &**key));
        profiles.chain(loads).chain(converts)
    }
}

impl FleetLabelsReport {
    /// Creates the report. `only` limits it to one node.
    pub fn new(
        inventory: &Inventory,
        labels: &FleetLabels,
        only: Option<&str>,
        expires: Option<String>,
    ) -> Self {
        let host_name = |host: usize| {
            let host = inventory.hosts().get(host);
            host.map_or_else(String::new, |host| host.name().to_owned())
        };
        let profiles = labels.profiles.iter().map(|profile| ProfileReport {
            key: profile.key.clone(),
            features: profile.features.names().map(str::to_owned).collect(),
            hosts: profile.hosts.iter().map(|host| host_name(*host)).collect(),
            node_selector: BTreeMap::from([(
                kubernetes_label(Property::Loads, &profile.key),
                "true".to_owned(),
            )]),
            openstack_property: format!("trait:{}", openstack_trait(Property::Loads, &profile.key)),
            ganeti_tag: ganeti_tag(&profile.key),
        });
        let hosts = 0..inventory.hosts().len();
        let records: Vec<_> = hosts.map(|host| inventory.record_id(host)).collect();
        let nodes = inventory.nodes().iter().enumerate();
        let nodes = nodes.filter(|(_, node)| only.is_none_or(|only| only == node.name));
        let nodes = nodes.filter_map(|(index, node)| {
            let host = inventory.usable_host(index)?;
            let own = labels.hosts.get(host)?;
            Some(NodeLabels {
                node: node.name.clone(),
                host: host_name(host),
                kernel: node.recorded_kernel.clone(),
                record: records.get(host).cloned().flatten(),
                profiles: own.profiles.iter().cloned().collect(),
                loads: own.loads.iter().cloned().collect(),
                converts: own.converts.iter().cloned().collect(),
            })
        });
        Self {
            schema: SCHEMA.to_owned(),
            expires,
            profiles: profiles.collect(),
            nodes: nodes.collect(),
            faults: faults(inventory),
        }
    }

    /// Removes a node that a system cannot name, with the reason.
    pub fn reject_nodes(&mut self, reject: impl Fn(&str) -> Option<String>) {
        let faults = &mut self.faults;
        self.nodes.retain(|node| {
            let Some(reason) = reject(&node.node) else {
                return true;
            };
            faults.push(FaultReport {
                subject: node.node.clone(),
                kind: "name".to_owned(),
                message: reason,
                hint: None,
            });
            false
        });
    }

    /// Prints the report.
    pub fn print(&self, printer: &mut Printer) {
        printer.line(format_args!(
            "{}, {}",
            pluralize(self.nodes.len(), "node"),
            pluralize(self.profiles.len(), "profile")
        ));
        printer.line("");
        printer.line(heading("profiles of new VMs"));
        for profile in &self.profiles {
            let features = if profile.features.is_empty() {
                "none".to_owned()
            } else {
                profile.features.join(",")
            };
            printer.paragraph(
                &format!("  {}  ", styled(style::NAME, &profile.key)),
                format_args!("{features}: {}", list_first(&profile.hosts, 3)),
            );
        }
        printer.line("");
        printer.line(heading("nodes, and the profiles whose VMs they take"));
        for node in &self.nodes {
            printer.paragraph(
                "  ",
                format_args!("{} ({})", styled(style::NAME, &node.node), node.host),
            );
            for (word, keys) in [("loads", &node.loads), ("converts", &node.converts)] {
                if !keys.is_empty() {
                    printer.paragraph(&format!("      {word:<8}  "), keys.join(", "));
                }
            }
        }
        print_faults(printer, &self.faults);
    }
}
