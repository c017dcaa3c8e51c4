//! `cpreg fleet` with all running domains of a libvirt, whose `virsh` is a script. `cargo xtask
//! libvirt` uses a real one.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use serde_json::json;
use tempfile::TempDir;

use crate::fake_qemu::FakeQemu;
use crate::fixtures::{folder_with, write_virsh};
use crate::run::{KVM_6_12, Run, command};

/// Nodes of the fleet. libvirt calls its host `n1.example.org`.
const INVENTORY: &str = r#"{"node":"n1","host":"linux-6.12.107/neoverse-n1"}
{"node":"n2","host":"linux-7.3.4/neoverse-n1"}
"#;

/// Script in place of `virsh`. Two domains run: `web`, and `12`, whose name `virsh` takes for a
/// number. `gone` and `off` were in the list: one does not exist any more, and one has stopped.
const VIRSH: &str = r#"#!/bin/sh
folder=${0%/*}
echo "$*" >> "$folder/calls"
case "$*" in
*"qemu:///broken"*)
    echo "error: failed to connect to the hypervisor" >&2
    exit 1 ;;
*"qemu:///empty list"*) ;;
*"qemu:///nameless hostname")
    echo "error: unknown procedure" >&2
    exit 1 ;;
*" list --uuid --name")
    echo "0f0b4bbb-6ef1-4a7b-8d92-7c2b9b7a4d01 web"
    echo "0f0b4bbb-6ef1-4a7b-8d92-7c2b9b7a4d02 gone"
    echo "0f0b4bbb-6ef1-4a7b-8d92-7c2b9b7a4d03 off"
    echo "0f0b4bbb-6ef1-4a7b-8d92-7c2b9b7a4d04 12" ;;
*" hostname")
    echo n1.example.org ;;
*"--domain gone"*)
    echo "error: failed to get domain 'gone'" >&2
    exit 1 ;;
*"--domain 12"*)
    echo "error: failed to get domain '12'" >&2
    exit 1 ;;
*dumpxml*)
    echo "<domain type='kvm'><name>any</name></domain>" ;;
*"--domain off"*)
    echo "error: Requested operation is not valid: domain is not running" >&2
    exit 1 ;;
*query-version*) echo '{"return":{"qemu":{"major":10,"minor":0,"micro":2},"package":""}}' ;;
*query-status*) echo '{"return":{"status":"running","running":true}}' ;;
*query-kvm*) echo '{"return":{"enabled":true,"present":true}}' ;;
*query-cpus-fast*) echo '{"return":[{"qom-path":"/machine/unattached/device[0]"}]}' ;;
*'"property":"type"'*) echo '{"return":"virt-10.0-machine"}' ;;
*qom-get*) echo '{"return":false}' ;;
*human-monitor-command*) cat "$folder/ram.json" ;;
*add-fd*)
    arguments=$*
    number=${arguments#*--pass-fds }
    cat "$folder/state" > "/proc/self/fd/${number%% *}"
    echo '{"return":{"fdset-id":7,"fd":21}}' ;;
*) echo '{"return":{}}' ;;
esac
"#;

/// Creates a folder with an inventory, and with the script and the files that it prints.
fn folder() -> TempDir {
    let folder = folder_with("fleet.jsonl", INVENTORY.as_bytes());
    let fake = FakeQemu::from_stream(KVM_6_12);
    let ram = json!({"return": fake.ram}).to_string();
    for (name, content) in [("ram.json", ram.as_bytes()), ("state", &fake.state)] {
        fs::write(folder.path().join(name), content).expect("a file");
    }
    write_virsh(folder.path(), VIRSH);
    folder
}

fn fleet(folder: &Path, arguments: &[&str]) -> Run {
    let arguments = [&["fleet"], arguments].concat();
    let output = command(folder, &arguments)
        .env("PATH", format!("{}:/bin", folder.display()))
        .output()
        .expect("the command starts");
    let mut run = Run::from_output(&arguments, &output);
    // Domains are opened on all cores, so the order of their notes varies.
    let mut lines: Vec<_> = run.stderr.lines().collect();
    if lines.iter().all(|line| line.starts_with("note: ")) {
        lines.sort_unstable();
    }
    run.stderr = lines.join("\n") + "\n";
    run
}

#[test]
fn all_running_domains_are_vms_of_this_node() {
    let folder = folder();
    let check = ["check", "fleet.jsonl", "--vms", "libvirt:"];
    let run = fleet(folder.path(), &check);
    assert_snapshot!("fleet_libvirt", run);
    let report = fleet(folder.path(), &[&check[..], &["--format", "json"]].concat()).json();
    // libvirt lists all four, so those that cannot be read are VMs of which nothing is known.
    assert_eq!(report["vms"], 4, "{report:#}");
    assert_eq!(report["faults"], json!([]), "{report:#}");
    let unknown = report["without_way"].as_array().expect("VMs").iter();
    let unknown: Vec<_> = unknown.map(|vm| (&vm["vm"], &vm["verdict"])).collect();
    let verdict = json!("unknown");
    assert_eq!(
        unknown,
        [
            (&json!("libvirt:gone"), &verdict),
            (&json!("libvirt:off"), &verdict),
        ]
    );
    // A domain that is named alone has the same node.
    for vms in ["libvirt:", "libvirt:qemu:///system#", "libvirt:web"] {
        let drain = [
            "drain",
            "n1",
            "fleet.jsonl",
            "--vms",
            vms,
            "--format",
            "commands",
        ];
        let run = fleet(folder.path(), &drain);
        let command = "migrate --live --persistent --undefinesource web qemu+ssh://n2/system";
        assert!(run.stdout.contains(command), "{run}");
        let other = ["drain", "n2", "fleet.jsonl", "--vms", vms, "-q"];
        let run = fleet(folder.path(), &other);
        assert_eq!(run.stdout, "n2 has no VMs\n", "{run}");
        assert!(
            !run.stderr.contains("tainted"),
            "it queries no domain: {run}"
        );
    }
    let calls = fs::read_to_string(folder.path().join("calls")).expect("calls");
    assert!(calls.contains("--quiet --connect qemu:///system list --uuid --name\n"));
}

#[test]
fn an_upgrade_plan_has_the_running_domains() {
    let folder = folder();
    let to = ["plan", "fleet.jsonl", "--to", "linux-7.3.4/n1"];
    let run = fleet(folder.path(), &[&to[..], &["--vms", "libvirt:"]].concat());
    assert_snapshot!("fleet_libvirt_plan", run);
}

#[test]
fn a_libvirt_without_domains_or_without_a_node() {
    let folder = folder();
    let check = |vms: &str, inventory: &str| {
        fs::write(folder.path().join("fleet.jsonl"), inventory).expect("a file");
        fleet(folder.path(), &["check", "fleet.jsonl", "--vms", vms, "-q"])
    };
    let run = check("libvirt:qemu:///empty#", INVENTORY);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("no domain runs"), "{run}");
    assert!(run.stderr.contains("the inputs have no VM"), "{run}");
    let run = check("libvirt:", &INVENTORY.replace("\"n1\"", "\"other\""));
    assert_eq!(run.status, Some(3), "{run}");
    assert!(run.stdout.starts_with("2 of 4 VMs can leave"), "{run}");
}

/// Checks that domains of a node that is not known do not vanish from the drain of a node.
#[test]
fn domains_without_a_node_are_a_fault_of_a_drain() {
    let folder = folder();
    let mut text = String::new();
    for (vms, node) in [("libvirt:qemu:///nameless#", "n1"), ("libvirt:", "other")] {
        let inventory = INVENTORY.replace("\"n1\"", &format!("\"{node}\""));
        fs::write(folder.path().join("fleet.jsonl"), inventory).expect("a file");
        let run = fleet(folder.path(), &["drain", node, "fleet.jsonl", "--vms", vms]);
        assert_eq!(run.status, Some(3), "{run}");
        text.push_str(&run.to_string());
    }
    assert_snapshot!("fleet_libvirt_without_node", text);
}

#[test]
fn a_libvirt_that_cannot_be_listed_is_an_error() {
    let folder = folder();
    let mut text = String::new();
    for vms in [
        "libvirt:qemu:///broken#",
        "libvirt:qemu+ssh://host/system#",
        "libvirt:#",
        "libvirt:qemu:///system",
    ] {
        let run = fleet(folder.path(), &["check", "fleet.jsonl", "--vms", vms]);
        assert_eq!(run.status, Some(2), "{run}");
        text.push_str(&run.to_string());
    }
    assert_snapshot!("fleet_libvirt_errors", text);
}
