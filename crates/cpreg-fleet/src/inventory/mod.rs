//! [`Inventory`]: nodes of a fleet with their records, and the faults of each.
//!
//! A node is a machine with a name. Many nodes share a record: nodes whose records decide alike
//! have the same host in the inventory, so the memory and the plans grow with distinct records.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Inventory`], [`Node`] |
//! | [`fault`] | faults, each about one item |
//! | [`item`] | a node or a VM, as a line of an inventory describes it |
//! | [`kubernetes`] | nodes and VMs of Kubernetes and KubeVirt |
//! | [`reader`] | items of JSON Lines and of Kubernetes lists, one at a time |

pub mod fault;
pub mod item;
pub mod kubernetes;
pub mod reader;

use std::collections::HashMap;
use std::fmt::Write as _;

use cpreg::hardware::HardwareFact;
use sha2::{Digest as _, Sha256};

use crate::host::Host;
use crate::key::KeyContent;
pub use fault::{Fault, Problem};
pub use item::{Item, NodeItem, Platform, RecordItem, VmItem, VmState};

/// Machine of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Name in the fleet.
    pub name: String,
    /// Index of the host that stands for the node. A node with a fault can have a host, but
    /// [`Inventory::usable_host`] does not return it.
    pub host: Option<usize>,
    /// `uname -r` at the time of the record.
    pub recorded_kernel: Option<String>,
    /// `uname -r` of the running kernel, if known.
    pub running_kernel: Option<String>,
    /// `true` if the record of the node can be used.
    pub is_usable: bool,
}

/// Nodes of a fleet, and the distinct hosts that stand for them.
///
/// ```
/// use cpreg_fleet::{Host, Inventory};
///
/// # fn main() -> Result<(), cpreg_hosts::Error> {
/// let index = cpreg_hosts::HostIndex::built_in()?;
/// let mut inventory = Inventory::default();
/// for (node, name) in [("a", "linux-6.12.95/n1"), ("b", "linux-6.12.107/n1")] {
///     let host = index.resolve(name)?.host;
///     let host = inventory.add_host(Host::recorded(host.name(), host.record()));
///     inventory.add_node(node, Some(host), None);
/// }
/// inventory.check_nodes();
/// assert_eq!(inventory.nodes().len(), 2);
/// assert_eq!(inventory.hosts().len(), 1, "both kernels decide alike");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Inventory {
    hosts: Vec<Host>,
    /// [Digest](deciding_digest) of each host.
    digests: Vec<Option<Vec<u8>>>,
    /// Index of the host with this deciding content.
    by_content: HashMap<Vec<u8>, usize>,
    nodes: Vec<Node>,
    by_name: HashMap<String, usize>,
    /// Number of usable nodes of each host.
    counts: Vec<usize>,
    faults: Vec<Fault>,
}

impl Inventory {
    /// Adds a host, and returns its index: that of an earlier host that decides alike, if any.
    pub fn add_host(&mut self, host: Host) -> usize {
        let next = self.hosts.len();
        let digest = deciding_digest(&host);
        if let Some(content) = &digest {
            let index = *self.by_content.entry(content.clone()).or_insert(next);
            if index < next {
                return index;
            }
        }
        self.hosts.push(host);
        self.digests.push(digest);
        next
    }

    /// Adds what an input says of a node. `recorded_kernel` is the release in its record.
    ///
    /// Inputs add to each other: one has the record of a node and another its running kernel. Two
    /// different records of one name are a fault, and the node cannot be used.
    pub fn add_node(&mut self, name: &str, host: Option<usize>, recorded_kernel: Option<&str>) {
        let node = self.node_mut(name);
        match (node.host, host) {
            (Some(one), Some(other)) if one != other && node.is_usable => {
                node.is_usable = false;
                self.faults.push(Fault::new(name, Problem::TwoRecords));
            }
            (None, Some(host)) => {
                node.host = Some(host);
                node.recorded_kernel = recorded_kernel.map(str::to_owned);
            }
            _ => {}
        }
    }

    /// Returns the node with this name, which it adds if the name is new.
    fn node_mut(&mut self, name: &str) -> &mut Node {
        let next = self.nodes.len();
        let index = *self.by_name.entry(name.to_owned()).or_insert(next);
        if index == next {
            self.nodes.push(Node {
                name: name.to_owned(),
                host: None,
                recorded_kernel: None,
                running_kernel: None,
                is_usable: true,
            });
        }
        &mut self.nodes[index]
    }

    /// Sets the running kernel of a node, which it adds if the name is new.
    pub fn set_running_kernel(&mut self, name: &str, release: &str) {
        self.node_mut(name).running_kernel = Some(release.to_owned());
    }

    /// Marks a node as unusable because of a fault.
    pub fn reject_node(&mut self, name: &str, problem: Problem) {
        self.node_mut(name).is_usable = false;
        self.faults.push(Fault::new(name, problem));
    }

    /// Adds a fault of an item that is no node.
    pub fn add_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Rejects nodes without a record, and nodes whose kernel changed since their record.
    pub fn check_nodes(&mut self) {
        for node in &mut self.nodes {
            if !node.is_usable {
                continue;
            }
            let problem = match (&node.recorded_kernel, &node.running_kernel) {
                _ if node.host.is_none() => Problem::NoRecord,
                (Some(recorded), Some(running)) if recorded != running => Problem::KernelChanged {
                    recorded: recorded.clone(),
                    running: running.clone(),
                },
                _ => continue,
            };
            node.is_usable = false;
            self.faults.push(Fault::new(&node.name, problem));
        }
        self.counts = vec![0; self.hosts.len()];
        for node in &self.nodes {
            let count = node.host.and_then(|host| self.counts.get_mut(host));
            if let Some(count) = count.filter(|_| node.is_usable) {
                *count += 1;
            }
        }
    }

    /// Replaces each host by what `change` makes of it, such as the host with a loader.
    pub fn map_hosts(&mut self, change: impl Fn(&Host) -> Host) {
        self.hosts = self.hosts.iter().map(change).collect();
    }

    /// Returns the distinct hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns the nodes in the order of the inputs.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the faults so far.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Returns the index of the node with this name.
    pub fn find_node(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Returns the host of a node, unless the node has a fault.
    pub fn usable_host(&self, node: usize) -> Option<usize> {
        self.nodes
            .get(node)
            .filter(|node| node.is_usable)
            .and_then(|node| node.host)
    }

    /// Returns the index of the host that decides like this one.
    pub fn position(&self, host: &Host) -> Option<usize> {
        let content = deciding_digest(host)?;
        self.by_content.get(&content).copied()
    }

    /// Returns a short identifier of everything in a host's record that decides; `None` for a host
    /// without a record.
    ///
    /// Hosts of different inventories with equal identifiers decide alike.
    pub fn record_id(&self, host: usize) -> Option<String> {
        let bytes = self.digests.get(host)?.as_ref()?.first_chunk()?;
        Some(format!("{:016x}", u64::from_be_bytes(*bytes)))
    }

    /// Returns the number of usable nodes of a host, without the node `except`.
    pub fn count(&self, host: usize, except: Option<usize>) -> usize {
        let count = self.counts.get(host).copied().unwrap_or(0);
        let has_excepted = except.and_then(|node| self.usable_host(node)) == Some(host);
        count - usize::from(has_excepted && count > 0)
    }

    /// Returns the indexes of the usable nodes of a host.
    pub fn nodes_of(&self, host: usize) -> impl Iterator<Item = usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(move |(_, node)| node.is_usable && node.host == Some(host))
            .map(|(index, _)| index)
    }

    /// Returns the host whose new VMs have this key, and the features of these VMs.
    pub fn find_key(&self, key: &str) -> Option<(usize, cpreg::destination::Features)> {
        self.hosts.iter().enumerate().find_map(|(index, host)| {
            let recorded = host.record().into_iter().flat_map(|it| it.guests.keys());
            let features = recorded.copied().chain([host.default_features()]);
            features
                .into_iter()
                .find(|features| {
                    let content = KeyContent::new(host, *features);
                    content.is_ok_and(|content| content.key().to_string() == key)
                })
                .map(|features| (index, features))
        })
    }
}

/// Returns a digest of everything about a recorded host that decides about any guest; `None` for a
/// host without a record, which stands for itself.
fn deciding_digest(host: &Host) -> Option<Vec<u8>> {
    let record = host.record()?;
    let mut text = format!(
        "{:?} {:?} {} {} {:?}\n",
        host.features(),
        record.lacking_features(),
        record.identity.cpu_and_mode(),
        record.identity.emulated,
        HardwareFact::ALL.map(|fact| record.hardware.get(fact)),
    );
    for features in record.guests.keys() {
        let content = KeyContent::new(host, *features).ok()?;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{features}\n{content}");
    }
    Some(Sha256::digest(text).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::recorded_hosts;

    fn inventory(names: &[(&str, &str)]) -> Inventory {
        let mut inventory = Inventory::default();
        for (node, name) in names {
            let host = recorded_hosts(&[name]).remove(0);
            let release = host.record().map(|record| record.identity.release.clone());
            let host = inventory.add_host(host);
            inventory.add_node(node, Some(host), release.as_deref());
        }
        inventory
    }

    #[test]
    fn nodes_that_decide_alike_share_a_host() {
        let mut inventory = inventory(&[
            ("a", "linux-6.12.95/neoverse-n1"),
            ("b", "linux-6.12.107/neoverse-n1"),
            ("c", "linux-7.3.4/neoverse-n1"),
        ]);
        inventory.check_nodes();
        assert_eq!(inventory.hosts().len(), 2);
        assert_eq!(inventory.count(0, None), 2);
        assert_eq!(inventory.count(0, inventory.find_node("b")), 1);
        assert_eq!(inventory.count(1, inventory.find_node("b")), 1);
        assert!(inventory.faults().is_empty());
    }

    #[test]
    fn each_fault_names_its_node_and_the_others_are_used() {
        let mut inventory = inventory(&[
            ("a", "linux-6.12.107/neoverse-n1"),
            ("b", "linux-6.12.107/neoverse-n1"),
            ("b", "linux-7.3.4/neoverse-n1"),
            ("c", "linux-7.3.4/neoverse-n1"),
        ]);
        inventory.set_running_kernel("c", "7.3.5");
        inventory.set_running_kernel("d", "7.3.4");
        inventory.check_nodes();
        let faults = inventory.faults().iter();
        let faults: Vec<_> = faults
            .map(|it| format!("{} {}", it.subject, it.kind()))
            .collect();
        assert_eq!(faults, ["b two-records", "c kernel-changed", "d no-record"]);
        let usable = (0..4).map(|node| inventory.usable_host(node));
        assert_eq!(usable.collect::<Vec<_>>(), [Some(0), None, None, None]);
    }
}
