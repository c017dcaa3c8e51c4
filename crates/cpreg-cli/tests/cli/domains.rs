//! Domains of libvirt, whose `virsh` is a script. `cargo xtask libvirt` uses real ones.

use insta::assert_snapshot;

use crate::fixtures::write_virsh;
use crate::run::{KVM_6_16, Run, command, streams};

/// Script in place of `virsh`: it knows the stopped domain `off`, and no other.
const VIRSH: &str = r#"#!/bin/sh
case "$*" in
*"--domain gone"*)
    echo "error: failed to get domain 'gone'" >&2
    echo "error: Domain not found: no domain with matching name 'gone'" >&2
    exit 1 ;;
*dumpxml*)
    echo "<domain type='kvm'><name>off</name></domain>" ;;
*qemu-monitor-command*)
    echo "error: Requested operation is not valid: domain is not running" >&2
    exit 1 ;;
*domxml-to-native*)
    echo "LC_ALL=C ./no-such-qemu -machine virt -blockdev '{\"driver\":\"file\"" >&2
    exit 1 ;;
esac
"#;

/// Runs the command with the script as `virsh`.
fn run_with_virsh(arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    write_virsh(folder.path(), VIRSH);
    run_with_path(&format!("{}:/bin", folder.path().display()), arguments)
}

fn run_with_path(path: &str, arguments: &[&str]) -> Run {
    let mut command = command(&streams(), arguments);
    let output = command
        .env("PATH", path)
        .output()
        .expect("the command starts");
    Run::from_output(arguments, &output)
}

#[test]
fn a_domain_that_libvirt_does_not_have() {
    let run = run_with_virsh(&["show", "libvirt:gone"]);
    assert_snapshot!("domain_unknown", run);
}

#[test]
fn a_domain_without_a_name() {
    for arguments in [
        ["show", "libvirt:"].as_slice(),
        &["check", KVM_6_16, "libvirt:qemu:///system#"],
        &["probe", "libvirt", "libvirt:#web"],
    ] {
        let run = run_with_path("/nonexistent", arguments);
        assert_eq!(run.status, Some(2), "{run}");
        assert!(
            run.stderr.contains("the name of the domain is missing"),
            "{run}"
        );
        assert!(run.stderr.contains("virsh list --all"), "{run}");
    }
}

#[test]
fn a_domain_that_does_not_run() {
    let run = run_with_virsh(&["check", "libvirt:qemu:///system#off", KVM_6_16]);
    assert_snapshot!("domain_stopped", run);
}

#[test]
fn a_domain_of_another_host() {
    let remote = "libvirt:qemu+ssh://host/system#web";
    assert_snapshot!("domain_remote_source", run_with_virsh(&["show", remote]));
    let run = run_with_virsh(&["check", KVM_6_16, remote]);
    assert_snapshot!("domain_remote_destination", run);
}

#[test]
fn a_command_line_that_libvirt_cannot_make() {
    let run = run_with_virsh(&["probe", "libvirt", "off"]);
    assert_eq!(run.status, Some(2), "{run}");
    let expected = "error: cannot determine the domain's QEMU command\ncause: libvirt: ";
    assert!(run.stderr.starts_with(expected), "{run}");
}

#[test]
fn libvirt_is_not_installed() {
    let run = run_with_path("/nonexistent", &["show", "libvirt:web"]);
    assert_snapshot!("domain_without_virsh", run);
}

#[test]
fn a_file_of_the_same_name_takes_precedence() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("libvirt:web"), "text").expect("a file");
    let output = command(folder.path(), &["show", "libvirt:web"]).output();
    let run = Run::from_output(&["show", "libvirt:web"], &output.expect("a run"));
    assert_eq!(run.status, Some(2), "{run}");
    assert!(
        run.stderr.starts_with("error: cannot read libvirt:web\n"),
        "{run}"
    );
}
