//! Debian's arm64 libvirt and QEMU as a tar, which a job unpacks to memory, because libvirt needs a
//! root file system that it can write to.
//!
//! libvirtd runs as root, without systemd, cgroups, namespaces and security drivers. It listens for
//! other hosts on TCP without authentication. Its network driver is left out, because it does not
//! start without a firewall.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::initramfs;
use crate::debian::{self, Archive};
use crate::libvirt_files::{GROUP, PASSWD, QEMU_CONF};
use crate::{Result, tool};

/// Suite with libvirt 11.3 and QEMU 10.0.
const SUITE: &str = "trixie";

const PACKAGES: [&str; 4] = [
    "libvirt-daemon-system",
    "libvirt-daemon-driver-qemu",
    "libvirt-clients",
    "qemu-system-arm",
];

/// Beginnings of the names of packages that libvirtd does not need to run.
const EXCLUDED_PACKAGES: [&str; 16] = [
    "adduser",
    "bash_",
    "coreutils",
    "dbus",
    "dnsmasq",
    "dpkg_",
    "iptables",
    "mount_",
    "nftables",
    "passwd",
    "perl",
    "libperl",
    "polkit",
    "systemd",
    "tzdata",
    "util-linux_",
];

/// Files and folders that are not needed, below `usr`.
const EXCLUDED_PATHS: [&str; 5] = [
    "share/qemu/edk2-licenses.txt",
    "lib/modules",
    "share/i18n",
    "share/lintian",
    "share/misc",
];

/// Folders and drivers that are not needed, below the folder of the libraries.
const EXCLUDED_LIBRARIES: [&str; 8] = [
    "gconv",
    "systemd",
    "security",
    "libvirt/connection-driver/libvirt_driver_network.so",
    "libvirt/connection-driver/libvirt_driver_nodedev.so",
    "libvirt/connection-driver/libvirt_driver_nwfilter.so",
    "libvirt/connection-driver/libvirt_driver_interface.so",
    "perl-base",
];

const FILES: [(&str, &str); 5] = [
    ("etc/libvirt/qemu.conf", QEMU_CONF),
    (
        "etc/libvirt/libvirtd.conf",
        "listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nauth_unix_rw = \"none\"\n\
         log_outputs = \"2:stderr\"\n",
    ),
    ("etc/passwd", PASSWD),
    ("etc/group", GROUP),
    (
        "etc/nsswitch.conf",
        "hosts: files\npasswd: files\ngroup: files\n",
    ),
];

/// Creates the tar in the lab folder if it is missing, and returns its path.
///
/// # Errors
/// Returns an error if a package cannot be fetched, or the tar cannot be created.
pub fn ensure(lab: &Path) -> Result<PathBuf> {
    let path = lab.join("libvirt.tar");
    if path.exists() {
        return Ok(path);
    }
    let mirror = debian::ensure_mirror()?;
    println!("fetching arm64 libvirt from {mirror}");
    let archive = Archive::open(lab, &mirror, SUITE, "arm64")?;
    let packages = archive.download_with_dependencies(&PACKAGES)?;
    let is_needed = |package: &PathBuf| {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        !EXCLUDED_PACKAGES
            .iter()
            .any(|excluded| name.starts_with(excluded))
    };
    let packages: Vec<_> = packages.into_iter().filter(is_needed).collect();
    let folder = tempfile::Builder::new()
        .prefix("libvirt-")
        .tempdir_in(lab)?;
    let root = folder.path().join("root");
    fs::create_dir_all(&root)?;
    debian::unpack(&packages, &root)?;
    complete(lab, &root)?;
    let partial = lab.join("libvirt.tar.partial");
    let mut command = Command::new("tar");
    command
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(&partial);
    tool::run(command.arg("-C").arg(&root).arg("."))?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// Removes what is not needed, and adds the configuration.
fn complete(lab: &Path, root: &Path) -> Result<()> {
    let libraries = Path::new("usr/lib").join(debian::find_triplet(root)?);
    for path in EXCLUDED_PATHS {
        remove(&root.join("usr").join(path))?;
    }
    for path in EXCLUDED_LIBRARIES {
        remove(&root.join(&libraries).join(path))?;
    }
    remove(&root.join("var/run"))?;
    for folder in [
        "proc",
        "sys",
        "dev",
        "tmp",
        "out",
        "job",
        "root",
        "run/libvirt",
        "usr/lib/cpreg",
        "etc/libvirt",
        "var/log/libvirt/qemu",
        "var/lib/libvirt/qemu",
        "var/cache/libvirt/qemu",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    symlink("../run", root.join("var/run"))?;
    fs::copy(initramfs::busybox(lab)?, root.join("usr/bin/busybox"))?;
    let shell = root.join("usr/bin/sh");
    if fs::symlink_metadata(&shell).is_err() {
        symlink("busybox", shell)?;
    }
    for (name, content) in FILES {
        fs::write(root.join(name), content)?;
    }
    Ok(())
}

/// Removes a file or a folder, if it exists.
fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => debian::remove(path),
        Ok(_) => Ok(fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}
