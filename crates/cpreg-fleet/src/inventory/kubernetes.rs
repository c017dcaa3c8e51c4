//! Nodes of Kubernetes and VMs of KubeVirt, as `kubectl get nodes,vmi -A -o json` prints them.
//!
//! A `ConfigMap` that `cpreg fleet labels --for config-map` wrote has a record, and a label of a
//! node names it.
//!
//! A `VirtualMachineInstance` does not hold registers. A new VM of its birth profile stands for
//! it: of the profile in its `nodeSelector`, else of its node.

use cpreg::destination::Features;
use serde_json::Value;

use super::item::{Item, NodeItem, Platform, RecordItem, VmItem, VmState};
use crate::labels::{KERNEL_LABEL, LOADS_LABEL_PREFIX, RECORD_LABEL, label_value};

/// Member of a `ConfigMap`'s data with the JSON of a record.
pub const RECORD_MEMBER: &str = "record.json";
/// Member of a `ConfigMap`'s data with the name of the recorded host.
pub const HOST_MEMBER: &str = "host";
/// Prefix of the names of `ConfigMap`s with a record. The identifier of the record follows.
pub const CONFIG_MAP_PREFIX: &str = "cpreg-record-";

/// Kind of a list of objects.
const LIST_KIND: &str = "List";

/// Returns the item that an object of Kubernetes describes.
///
/// # Errors
/// Returns a message if the object lacks its name.
pub(super) fn item(object: &Value) -> Result<Item, String> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let kind = text("/kind").unwrap_or_default();
    let name = || {
        let name = text("/metadata/name").ok_or("the object has no metadata.name")?;
        Ok::<_, String>(name.to_owned())
    };
    match kind {
        "Node" => {
            let labels = object.pointer("/metadata/labels");
            let label = |name: &str| labels?.get(name)?.as_str();
            let kernel = text("/status/nodeInfo/kernelVersion");
            // A label cannot have all characters of a release.
            let recorded = label(KERNEL_LABEL).map(|label| {
                let running = kernel.filter(|kernel| label_value(kernel) == label);
                running.unwrap_or(label).to_owned()
            });
            Ok(Item::Node(NodeItem {
                name: name()?,
                kernel: kernel.map(str::to_owned),
                record: label(RECORD_LABEL).map(str::to_owned),
                recorded_kernel: recorded,
                ..NodeItem::default()
            }))
        }
        "ConfigMap" => {
            let name = name()?;
            let data = object.get("data");
            let member = |name: &str| data?.get(name)?.as_str();
            let id = name.strip_prefix(CONFIG_MAP_PREFIX);
            Ok(match id.zip(member(RECORD_MEMBER)) {
                Some((id, json)) => Item::Record(RecordItem {
                    id: id.to_owned(),
                    name: member(HOST_MEMBER).unwrap_or(id).to_owned(),
                    json: json.to_owned(),
                }),
                None => Item::Other,
            })
        }
        "VirtualMachineInstance" => {
            let has_ended = matches!(text("/status/phase"), Some("Succeeded" | "Failed"));
            if has_ended {
                return Ok(Item::Other);
            }
            let namespace = text("/metadata/namespace").unwrap_or("default");
            Ok(Item::Vm(Box::new(VmItem {
                name: format!("{namespace}/{}", name()?),
                node: text("/status/nodeName").map(str::to_owned),
                state: VmState::Inferred {
                    born_on: birth_key(object),
                    features: None,
                    without: disabled_features(object),
                },
                platform: Platform::KubeVirt,
            })))
        }
        LIST_KIND => Err("a list inside a list".to_owned()),
        _ => Ok(Item::Other),
    }
}

/// Returns `true` for a list of objects.
pub(super) fn is_list(object: &Value) -> bool {
    object.get("items").is_some_and(Value::is_array)
}

/// Returns the key of the profile in the `nodeSelector` of a VM.
fn birth_key(object: &Value) -> Option<String> {
    let selector = object.pointer("/spec/nodeSelector")?.as_object()?;
    let mut keys = selector.keys();
    keys.find_map(|key| key.strip_prefix(LOADS_LABEL_PREFIX))
        .map(str::to_owned)
}

/// Returns the vCPU features that the VM does without.
fn disabled_features(object: &Value) -> Features {
    let features = object.pointer("/spec/domain/cpu/features");
    let features = features.and_then(Value::as_array).into_iter().flatten();
    let disabled = features.filter(|feature| {
        let policy = feature.get("policy").and_then(Value::as_str);
        matches!(policy, Some("disable" | "forbid"))
    });
    let names = disabled.filter_map(|feature| feature.get("name")?.as_str());
    let known = names.filter_map(|name| match name {
        // QEMU's name of the feature.
        "pauth" => Some(Features::POINTER_AUTHENTICATION),
        name => Features::from_name(name),
    });
    known.fold(Features::NONE, |all, feature| all | feature)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_have_their_running_kernel() {
        let node = json!({
            "kind": "Node", "metadata": {"name": "n1"},
            "status": {"nodeInfo": {"kernelVersion": "6.12.107+deb13-arm64", "bootID": "x"}},
        });
        let Ok(Item::Node(node)) = item(&node) else {
            panic!("a node");
        };
        assert_eq!(node.kernel.as_deref(), Some("6.12.107+deb13-arm64"));
    }

    #[test]
    fn a_label_names_the_record_of_a_node_and_its_kernel() {
        let node = |running: &str| {
            let node = json!({
                "kind": "Node",
                "metadata": {"name": "n1", "labels": {
                    "feature.node.kubernetes.io/cpreg.record": "0123",
                    "feature.node.kubernetes.io/cpreg.kernel": "6.12_deb13",
                }},
                "status": {"nodeInfo": {"kernelVersion": running}},
            });
            let Ok(Item::Node(node)) = item(&node) else {
                panic!("a node");
            };
            (
                node.record.expect("a record"),
                node.recorded_kernel.expect("a kernel"),
            )
        };
        assert_eq!(
            node("6.12+deb13"),
            ("0123".to_owned(), "6.12+deb13".to_owned())
        );
        assert_eq!(node("6.13"), ("0123".to_owned(), "6.12_deb13".to_owned()));
    }

    #[test]
    fn a_config_map_has_a_record() {
        let map = json!({
            "kind": "ConfigMap", "metadata": {"name": "cpreg-record-0123"},
            "data": {"record.json": "{}", "host": "h"},
        });
        let record = RecordItem {
            id: "0123".to_owned(),
            name: "h".to_owned(),
            json: "{}".to_owned(),
        };
        assert_eq!(item(&map), Ok(Item::Record(record)));
        let other = json!({"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}});
        assert_eq!(item(&other), Ok(Item::Other));
    }

    #[test]
    fn a_vm_is_born_on_the_profile_that_it_selects() {
        let vm = json!({
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "nodeSelector": {
                    "feature.node.kubernetes.io/cpreg.loads-k1-c8b757e57ef02cae": "true",
                    "zone": "a"
                },
                "domain": {"cpu": {"features": [
                    {"name": "sve", "policy": "disable"},
                    {"name": "pmu", "policy": "require"}
                ]}},
            },
            "status": {"nodeName": "n1", "phase": "Running"},
        });
        let Ok(Item::Vm(vm)) = item(&vm) else {
            panic!("a VM");
        };
        assert_eq!((&*vm.name, vm.node.as_deref()), ("shop/web", Some("n1")));
        assert_eq!(
            vm.state,
            VmState::Inferred {
                born_on: Some("k1-c8b757e57ef02cae".to_owned()),
                features: None,
                without: Features::SVE,
            }
        );
    }

    #[test]
    fn ended_vms_and_other_objects_are_no_items() {
        for object in [
            json!({"kind": "VirtualMachineInstance", "status": {"phase": "Failed"}}),
            json!({"kind": "Pod"}),
        ] {
            assert_eq!(item(&object), Ok(Item::Other));
        }
        assert!(item(&json!({"kind": "Node"})).is_err());
    }
}
