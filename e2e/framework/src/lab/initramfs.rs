//! The initramfs that every emulated host boots with: busybox for arm64, Debian's, and `e2e/lab/inside/init`.
//!
//! What differs from job to job is on a disk, so this is the same for all kernels.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::cpio;
use crate::Result;
use crate::debian::{self, Archive};
use crate::paths::repository;

/// A suite whose busybox runs on every kernel here.
const SUITE: &str = "trixie";
const PACKAGE: &str = "busybox-static";

/// Makes it in the lab folder, and says where.
///
/// # Errors
/// If busybox cannot be fetched.
pub fn make(lab: &Path) -> Result<PathBuf> {
    let busybox = busybox(lab)?;
    let mut archive = cpio::Archive::default();
    for folder in ["bin", "dev"] {
        archive.directory(folder);
    }
    // Before /dev is mounted there must be something to speak to.
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    archive.file("bin/busybox", true, &fs::read(busybox)?)?;
    archive.file(
        "init",
        true,
        &fs::read(repository().join("e2e/lab/inside/init"))?,
    )?;
    let archive = archive.finish();
    // Another task may be booting from it, or have another one.
    let mut hasher = DefaultHasher::new();
    archive.hash(&mut hasher);
    let place = lab.join(format!("initramfs-{:016x}.cpio", hasher.finish()));
    let partial = place.with_extension(std::process::id().to_string());
    fs::write(&partial, archive)?;
    fs::rename(&partial, &place)?;
    Ok(place)
}

/// busybox for arm64, fetched if need be.
///
/// # Errors
/// If it cannot be fetched.
pub fn busybox(lab: &Path) -> Result<PathBuf> {
    let place = lab.join("busybox-arm64");
    if place.exists() {
        return Ok(place);
    }
    let mirror = debian::ready()?;
    let archive = Archive::open(lab, &mirror, SUITE, "arm64")?;
    let files = archive.download(&[PACKAGE])?;
    let folder = tempfile::Builder::new()
        .prefix("busybox-")
        .tempdir_in(lab)?;
    let root = folder.path().join("root");
    debian::unpack(&files, &root)?;
    fs::rename(root.join("usr/bin/busybox"), &place)
        .map_err(|error| format!("{PACKAGE} has no usr/bin/busybox: {error}"))?;
    Ok(place)
}
