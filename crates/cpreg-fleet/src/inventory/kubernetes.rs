//! Nodes of Kubernetes and VMs of KubeVirt, as `kubectl get nodes,vmi -A -o json` prints them.
//!
//! A `VirtualMachineInstance` does not hold registers. A new VM of its birth profile stands for
//! it: of the profile in its `nodeSelector`, else of its node.

use cpreg::destination::Features;
use serde_json::Value;

use super::item::{Item, NodeItem, Platform, VmItem, VmState};
use crate::labels::LOADS_LABEL_PREFIX;

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
        "Node" => Ok(Item::Node(NodeItem {
            name: name()?,
            kernel: text("/status/nodeInfo/kernelVersion").map(str::to_owned),
            ..NodeItem::default()
        })),
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
