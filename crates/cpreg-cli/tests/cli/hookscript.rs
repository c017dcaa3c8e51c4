//! The hookscript for Proxmox VE (`packaging/proxmox`), with a stand-in for `cpreg relay` that ends
//! at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Calls the script for an incoming VM whose relay ends with this status. Returns the folder with
/// the sockets.
fn call(relay_status: u8) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let _listener = UnixListener::bind(path("102.migrate")).expect("QEMU's socket");
    fs::write(path("cpreg"), format!("#!/bin/sh\nexit {relay_status}\n")).expect("a program");
    fs::set_permissions(path("cpreg"), fs::Permissions::from_mode(0o755)).expect("permissions");
    let log = path("log");
    let configuration = format!(
        "options=\nfolder='{}'\nlog='{}'\n",
        folder.path().display(),
        log.display()
    );
    fs::write(path("conf"), configuration).expect("a configuration");
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/proxmox/cpreg-hookscript");
    let programs = std::env::var("PATH").expect("a PATH");
    let status = Command::new("sh")
        .arg(script)
        .args(["102", "post-start"])
        .env("PATH", format!("{}:{programs}", folder.path().display()))
        .env("PVE_MIGRATED_FROM", "node1")
        .env("CPREG_PROXMOX_CONF", path("conf"))
        .status();
    assert!(status.expect("a shell").success());
    folder
}

/// Without return path, a load that fails at the end leaves the VM stopped at the source.
#[test]
fn a_refusal_keeps_the_socket_away() {
    for status in [1, 3] {
        let folder = call(status);
        assert!(!folder.path().join("102.migrate").exists(), "{status}");
        assert!(folder.path().join("102.migrate.qemu").exists(), "{status}");
    }
}

#[test]
fn without_a_relay_the_socket_is_as_before() {
    for status in [0, 2] {
        let folder = call(status);
        assert!(folder.path().join("102.migrate").exists(), "{status}");
        assert!(!folder.path().join("102.migrate.qemu").exists(), "{status}");
    }
}
