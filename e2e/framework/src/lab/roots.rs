//! Disk with Debian's arm64 QEMUs: one root for each, mounted as `/roots/10.0` in an emulated host,
//! for `chroot`.
//!
//! Each root has the program, its shared libraries and a busybox as shell. It has no firmware,
//! modules or documentation.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::toolchain::copy;
use super::{disk, initramfs};
use crate::debian::{self, Archive};
use crate::{Result, parallel, qemu};

/// Series that run under KVM in the lab. They differ in their handling of a register list from
/// another host.
pub const SERIES: [&str; 2] = ["10.0", "11.1"];

const PROGRAM: &str = "usr/bin/qemu-system-aarch64";

/// Folders of libraries that only a desktop or a script loads.
const EXCLUDED_FOLDERS: [&str; 9] = [
    "qemu",
    "gconv",
    "perl",
    "perl-base",
    "dri",
    "gstreamer-1.0",
    "systemd",
    "security",
    "pulseaudio",
];

/// Creates the disk in the lab folder if it is missing, and returns its path.
///
/// # Errors
/// Returns an error if a QEMU cannot be fetched, or the disk cannot be created.
pub fn ensure(lab: &Path) -> Result<PathBuf> {
    let path = lab.join("roots.ext4");
    if path.exists() {
        return Ok(path);
    }
    let mirror = debian::ensure_mirror()?;
    println!(
        "fetching arm64 QEMUs {} from {mirror}",
        SERIES.join(" and ")
    );
    let folder = tempfile::Builder::new().prefix("roots-").tempdir_in(lab)?;
    let tree = folder.path().join("tree");
    let busybox = initramfs::busybox(lab)?;
    let failed = std::sync::Mutex::new(Vec::new());
    parallel::for_each(2, SERIES.iter(), |series| {
        let result = make(
            lab,
            &mirror,
            series,
            folder.path(),
            &tree.join(series),
            &busybox,
        );
        if let (Err(error), Ok(mut failed)) = (result, failed.lock()) {
            failed.push(format!("QEMU {series} for arm64: {error}"));
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if !failed.is_empty() {
        return Err(failed.join("\n").into());
    }
    let partial = lab.join("roots.ext4.partial");
    disk::create_ext4(&tree, &partial)?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// Fetches one series, and copies its files into `root`.
fn make(
    lab: &Path,
    mirror: &str,
    series: &str,
    scratch: &Path,
    root: &Path,
    busybox: &Path,
) -> Result<()> {
    let mut generations = qemu::GENERATIONS.iter();
    let generation = generations.find(|generation| generation.series == series);
    let generation =
        generation.ok_or("the series is missing in GENERATIONS of e2e/framework/src/qemu.rs")?;
    let archive = Archive::open(lab, mirror, generation.suite, "arm64")?;
    let packages = archive.download_with_dependencies(&["qemu-system-arm"])?;
    let unpacked = scratch.join(series);
    debian::unpack(&packages, &unpacked)?;
    for inner in [
        "usr/bin",
        "usr/lib",
        "usr/sbin",
        "usr/lib64",
        "proc",
        "dev",
        "tmp",
        "out",
        "job",
    ] {
        fs::create_dir_all(root.join(inner))?;
    }
    for inner in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(inner), root.join(inner))?;
    }
    fs::copy(unpacked.join(PROGRAM), root.join(PROGRAM))?;
    fs::copy(busybox, root.join("usr/bin/busybox"))?;
    for name in ["sh", "cat"] {
        symlink("busybox", root.join("usr/bin").join(name))?;
    }
    let triplet = debian::find_triplet(&unpacked)?;
    let libraries = Path::new("usr/lib").join(triplet);
    copy(&unpacked.join(&libraries), &root.join(&libraries))?;
    for folder in EXCLUDED_FOLDERS {
        debian::remove(&root.join(&libraries).join(folder))?;
    }
    let loader = "usr/lib/ld-linux-aarch64.so.1";
    if fs::symlink_metadata(unpacked.join(loader)).is_ok_and(|metadata| metadata.is_symlink()) {
        symlink(fs::read_link(unpacked.join(loader))?, root.join(loader))?;
    } else {
        fs::copy(unpacked.join(loader), root.join(loader))?;
    }
    let keymaps = "usr/share/qemu/keymaps";
    if unpacked.join(keymaps).exists() {
        copy(&unpacked.join(keymaps), &root.join(keymaps))?;
    }
    // Remove the unpacked packages now, because disk space is short while both QEMUs are built.
    debian::remove(&unpacked)
}
