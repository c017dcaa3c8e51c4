//! [`Item`]: a node or a VM, as an inventory describes it.
//!
//! A line of an inventory of cpreg is a JSON object:
//!
//! | member | of | meaning |
//! |---|---|---|
//! | `node` | node | name of the node |
//! | `host` | node | its record: a file, or the name of a recorded host |
//! | `kernel` | node | `uname -r` of the running kernel |
//! | `expires` | node | time after which the record is void, in RFC 3339 and UTC |
//! | `vm` | VM | name of the VM |
//! | `node` | VM | name of its node |
//! | `source` | VM | its state: a file, or a domain of libvirt |
//! | `born_on` | VM | host of its birth: a node, a key or a recorded host; default: its node |
//! | `features` | VM | features of its guest; default: those that QEMU gives it |
//! | `platform` | VM | `libvirt`, `kubevirt` or `openstack` |

use cpreg::destination::Features;
use serde::Deserialize;
use serde_json::Value;

/// Node or VM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an inventory has nodes and VMs")]
pub enum Item {
    /// Node.
    Node(NodeItem),
    /// VM.
    Vm(Box<VmItem>),
    /// Record to which nodes refer.
    Record(RecordItem),
    /// Object that describes neither, such as a VM that does not run.
    Other,
}

/// Node of an inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the sources of items fill it")]
pub struct NodeItem {
    /// Name.
    pub name: String,
    /// File of its record, or name of a recorded host.
    pub host: Option<String>,
    /// Identifier of a [`RecordItem`].
    pub record: Option<String>,
    /// `uname -r` at the time of that record. Nodes with different kernels can share a record.
    pub recorded_kernel: Option<String>,
    /// `uname -r` of the running kernel.
    pub kernel: Option<String>,
    /// Time after which the record is void.
    pub expires: Option<String>,
}

/// Record in an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the sources of items fill it")]
pub struct RecordItem {
    /// Identifier, as [`Inventory::record_id`](super::Inventory::record_id) returns it.
    pub id: String,
    /// Name of the host.
    pub name: String,
    /// JSON of the record.
    pub json: String,
}

/// VM of an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the sources of items fill it")]
pub struct VmItem {
    /// Name: of a VM of Kubernetes with its namespace, `default/web`.
    pub name: String,
    /// Name of its node.
    pub node: Option<String>,
    /// State of the VM.
    pub state: VmState,
    /// Platform that runs the VM.
    pub platform: Platform,
}

/// State of a VM, or what it is inferred from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a VM is saved, running or inferred"
)]
pub enum VmState {
    /// State in a file or of a running domain.
    Source(String),
    /// No state: a new VM of a host stands for it.
    Inferred {
        /// Host of its birth: name of a node, key, or name of a recorded host. `None` for its
        /// node.
        born_on: Option<String>,
        /// Features of the guest; `None` for the default of the host.
        features: Option<Features>,
        /// Features that the default lacks in this VM.
        without: Features,
    },
}

/// Platform that runs VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "commands are written for each")]
pub enum Platform {
    /// libvirt, driven by `virsh`.
    #[default]
    Libvirt,
    /// KubeVirt, driven by `kubectl`.
    KubeVirt,
    /// OpenStack, driven by `openstack`.
    OpenStack,
}

/// Line of an inventory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    node: Option<String>,
    vm: Option<String>,
    host: Option<String>,
    kernel: Option<String>,
    expires: Option<String>,
    source: Option<String>,
    born_on: Option<String>,
    features: Option<String>,
    platform: Option<String>,
}

/// Longest name of a node or VM.
const MAX_NAME_LEN: usize = 1024;

impl Item {
    /// Reads a line of an inventory.
    ///
    /// # Errors
    /// Returns a message if the object is not as documented.
    pub fn from_line(value: &Value) -> Result<Self, String> {
        let line = Line::deserialize(value).map_err(|error| error.to_string())?;
        match line {
            Line {
                vm: Some(name),
                host: None,
                kernel: None,
                expires: None,
                ..
            } => vm(
                name,
                line.node,
                line.source,
                line.born_on,
                line.features,
                line.platform.as_deref(),
            ),
            Line { vm: Some(_), .. } => {
                Err("`host`, `kernel` and `expires` belong to a node, not to a VM".to_owned())
            }
            Line {
                node: Some(name),
                source: None,
                born_on: None,
                features: None,
                platform: None,
                ..
            } => Ok(Self::Node(NodeItem {
                name: check_name(name)?,
                host: line.host,
                kernel: line.kernel,
                expires: line.expires,
                ..NodeItem::default()
            })),
            Line { node: Some(_), .. } => {
                Err("`source`, `born_on`, `features` and `platform` need a `vm`".to_owned())
            }
            _ => Err("the line names neither a node nor a VM".to_owned()),
        }
    }
}

fn vm(
    name: String,
    node: Option<String>,
    source: Option<String>,
    born_on: Option<String>,
    features: Option<String>,
    platform: Option<&str>,
) -> Result<Item, String> {
    let features = features.map(|names| {
        Features::from_names(&names).ok_or_else(|| format!("not a set of vCPU features: {names}"))
    });
    let features = features.transpose()?;
    let state = match source {
        Some(_) if born_on.is_some() || features.is_some() => {
            return Err("a VM has a `source`, or `born_on` and `features`".to_owned());
        }
        Some(source) => VmState::Source(source),
        None => VmState::Inferred {
            born_on,
            features,
            without: Features::NONE,
        },
    };
    let platform = match platform {
        None | Some("libvirt") => Platform::Libvirt,
        Some("kubevirt") => Platform::KubeVirt,
        Some("openstack") => Platform::OpenStack,
        Some(other) => return Err(format!("not a platform: {other}")),
    };
    Ok(Item::Vm(Box::new(VmItem {
        name: check_name(name)?,
        node,
        state,
        platform,
    })))
}

/// Returns the name, unless it is empty or very long.
fn check_name(name: String) -> Result<String, String> {
    match name.len() {
        0 => Err("the name is empty".to_owned()),
        1..=MAX_NAME_LEN => Ok(name),
        length => Err(format!("the name has {length} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_a_node_or_a_vm() {
        let node = json!({"node": "n1", "host": "n1.json", "kernel": "6.12"});
        assert_eq!(
            Item::from_line(&node),
            Ok(Item::Node(NodeItem {
                name: "n1".to_owned(),
                host: Some("n1.json".to_owned()),
                kernel: Some("6.12".to_owned()),
                ..NodeItem::default()
            }))
        );
        let vm = json!({"vm": "web", "node": "n1", "features": "pmu", "platform": "openstack"});
        assert_eq!(
            Item::from_line(&vm),
            Ok(Item::Vm(Box::new(VmItem {
                name: "web".to_owned(),
                node: Some("n1".to_owned()),
                state: VmState::Inferred {
                    born_on: None,
                    features: Some(Features::PMU),
                    without: Features::NONE,
                },
                platform: Platform::OpenStack,
            })))
        );
    }

    #[test]
    fn a_wrong_line_says_why() {
        for (line, expected) in [
            (json!({"vm": "web", "host": "x"}), "belong to a node"),
            (json!({"node": "n", "source": "x"}), "need a `vm`"),
            (json!({"kernel": "6"}), "neither a node nor a VM"),
            (json!({"node": ""}), "empty"),
            (json!({"vm": "web", "features": "pmo"}), "pmo"),
            (
                json!({"vm": "web", "source": "f", "features": "pmu"}),
                "or `born_on`",
            ),
            (json!({"vm": "web", "platform": "xen"}), "xen"),
            (json!({"nod": "n"}), "unknown field"),
            (json!([1]), "invalid"),
        ] {
            let error = Item::from_line(&line).expect_err("a wrong line");
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
