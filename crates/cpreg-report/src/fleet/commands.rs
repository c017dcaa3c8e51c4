//! Moves of VMs as commands of libvirt, KubeVirt and OpenStack.

use cpreg_fleet::inventory::Platform;
use cpreg_fleet::labels::LOADS_LABEL_PREFIX;
use serde_json::json;

use crate::command::quote;

/// Returns the command that moves a VM to a node.
///
/// KubeVirt chooses the node itself. If the key of the VM's birth is known, the command restricts
/// the choice to nodes with the label of the key.
pub fn move_command(platform: Platform, vm: &str, node: &str, key: Option<&str>) -> String {
    match platform {
        Platform::Libvirt => {
            let (source, domain) = libvirt_domain(vm);
            let connect = source.map(|uri| format!("--connect {} ", quote(uri)));
            let uri = format!("qemu+ssh://{node}/system");
            format!(
                "virsh {}migrate --live --persistent --undefinesource {} {}",
                connect.unwrap_or_default(),
                operand(domain),
                quote(&uri)
            )
        }
        Platform::OpenStack => format!(
            "openstack --os-compute-api-version 2.30 server migrate --live-migration --host={} {}",
            quote(node),
            operand(vm)
        ),
        Platform::KubeVirt => kubevirt_command(vm, key),
    }
}

/// Returns a name for a command, which must not take it for an option: a tenant can choose the name
/// of a VM.
fn operand(name: &str) -> String {
    let separator = if name.starts_with('-') { "-- " } else { "" };
    format!("{separator}{}", quote(name))
}

/// Returns the connection and the name of a domain: of `libvirt:[URI#]NAME`, or of its state
/// `DIRECTORY/NAME.save.xz`.
fn libvirt_domain(vm: &str) -> (Option<&str>, &str) {
    match vm.strip_prefix("libvirt:") {
        // The first `#` ends the URI.
        Some(address) => match address.split_once('#') {
            Some((uri, name)) => (Some(uri), name),
            None => (None, address),
        },
        None => (None, file_stem(vm)),
    }
}

/// Returns the name of a file without its directory and its last suffix; the whole text if it has
/// no directory.
fn file_stem(vm: &str) -> &str {
    let Some((_, file)) = vm.rsplit_once('/') else {
        return vm;
    };
    let plain = [".xz", ".gz", ".zst"];
    let plain = plain.iter().find_map(|suffix| file.strip_suffix(suffix));
    let file = plain.unwrap_or(file);
    file.rsplit_once('.').map_or(file, |(name, _)| name)
}

fn kubevirt_command(vm: &str, key: Option<&str>) -> String {
    let (namespace, name) = vm.split_once('/').unwrap_or(("default", vm));
    let mut migration = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"generateName": "cpreg-drain-", "namespace": namespace},
        "spec": {"vmiName": name},
    });
    if let Some(key) = key {
        let label = format!("{LOADS_LABEL_PREFIX}{key}");
        migration["spec"]["addedNodeSelector"] = json!({label: "true"});
    }
    format!(
        "printf %s {} | kubectl create -f -",
        quote(&migration.to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_the_shell() {
        assert_eq!(
            move_command(Platform::Libvirt, "libvirt:my vm", "n2", None),
            "virsh migrate --live --persistent --undefinesource 'my vm' qemu+ssh://n2/system"
        );
        assert_eq!(
            move_command(Platform::OpenStack, "a;b", "n2", None),
            "openstack --os-compute-api-version 2.30 server migrate --live-migration --host=n2 \
             'a;b'"
        );
        let libvirt = move_command(Platform::Libvirt, "--help", "n2", None);
        assert!(
            libvirt.ends_with(" -- --help qemu+ssh://n2/system"),
            "{libvirt}"
        );
        let openstack = move_command(Platform::OpenStack, "--wait", "-n", None);
        assert!(openstack.ends_with(" --host=-n -- --wait"), "{openstack}");
    }

    #[test]
    fn a_domain_has_the_name_of_its_file() {
        for (vm, uri, name) in [
            ("web", None, "web"),
            ("libvirt:web", None, "web"),
            ("libvirt:qemu:///system#web", Some("qemu:///system"), "web"),
            (
                "libvirt:qemu:///session#a#b",
                Some("qemu:///session"),
                "a#b",
            ),
            ("save/n1/web.save", None, "web"),
            ("save/web.1.stream.xz", None, "web.1"),
        ] {
            assert_eq!(libvirt_domain(vm), (uri, name));
        }
        let command = move_command(Platform::Libvirt, "libvirt:qemu:///session#a#b", "n2", None);
        assert!(
            command.starts_with("virsh --connect qemu:///session migrate "),
            "{command}"
        );
        assert!(command.contains(" 'a#b' "), "{command}");
    }

    #[test]
    fn kubevirt_gets_a_migration_with_the_label() {
        let command = move_command(Platform::KubeVirt, "shop/web", "n2", Some("k1-ab"));
        let json = command
            .strip_prefix("printf %s '")
            .and_then(|rest| rest.strip_suffix("' | kubectl create -f -"));
        let migration: serde_json::Value =
            serde_json::from_str(json.expect("a quoted document")).expect("JSON");
        assert_eq!(migration["metadata"]["namespace"], "shop");
        assert_eq!(migration["spec"]["vmiName"], "web");
        let selector = &migration["spec"]["addedNodeSelector"];
        assert_eq!(
            selector["feature.node.kubernetes.io/cpreg.loads-k1-ab"],
            "true"
        );
    }
}
