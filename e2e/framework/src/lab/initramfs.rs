//! The initramfs of every emulated host: Debian's busybox for arm64, and `e2e/lab/inside/init`.
//! A guest with Debian's kernel has an initramfs of the same kind, with programs of its own.
//!
//! Job-specific files are on a disk, so the initramfs is the same for all kernels.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use cpio::NewcBuilder;
use cpio::newc::ModeFileType::{self, Char, Directory, Regular};

use crate::Result;
use crate::debian::{self, Archive};
use crate::paths::repository;

/// A suite whose busybox runs on every kernel of the lab.
const SUITE: &str = "trixie";
const PACKAGE: &str = "busybox-static";

/// Creates the initramfs in the lab folder, and returns its path.
///
/// # Errors
/// Returns an error if busybox cannot be fetched.
pub fn make(lab: &Path) -> Result<PathBuf> {
    let init = fs::read(repository().join("e2e/lab/inside/init"))?;
    let archive = archive(&fs::read(busybox(lab)?)?, &init, &[])?;
    // The name has a hash, because another task may boot from this file, or need another one.
    let mut hasher = DefaultHasher::new();
    archive.hash(&mut hasher);
    let path = lab.join(format!("initramfs-{:016x}.cpio", hasher.finish()));
    let partial = path.with_extension(std::process::id().to_string());
    fs::write(&partial, archive)?;
    fs::rename(&partial, &path)?;
    Ok(path)
}

/// Returns an initramfs with busybox, a first program, and further programs in `/bin`.
///
/// # Errors
/// Returns an error if busybox cannot be fetched, or a program cannot be read.
pub fn with_programs(lab: &Path, init: &Path, programs: &[PathBuf]) -> Result<Vec<u8>> {
    let mut named = Vec::new();
    for path in programs {
        let name = path.file_name().ok_or("a program without a name")?;
        named.push((name.to_string_lossy().into_owned(), fs::read(path)?));
    }
    Ok(archive(
        &fs::read(busybox(lab)?)?,
        &fs::read(init)?,
        &named,
    )?)
}

/// Packs the initramfs. All files belong to root and date from 1970, so the same contents give the
/// same bytes.
fn archive(busybox: &[u8], init: &[u8], programs: &[(String, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let entry = |name: &str, kind: ModeFileType, permissions| {
        let entry = NewcBuilder::new(name).mode(permissions);
        entry.set_mode_file_type(kind)
    };
    let device = |name, major, minor| {
        let entry = entry(name, Char, 0o600);
        entry.rdev_major(major).rdev_minor(minor)
    };
    let mut entries: Vec<(NewcBuilder, &[u8])> = vec![
        (entry("bin", Directory, 0o755), &[]),
        (entry("dev", Directory, 0o755), &[]),
        // The kernel opens the console before /dev is mounted.
        (device("dev/console", 5, 1), &[]),
        (device("dev/null", 1, 3), &[]),
        (entry("bin/busybox", Regular, 0o755), busybox),
        (entry("init", Regular, 0o755), init),
    ];
    for (name, contents) in programs {
        let path = format!("bin/{name}");
        entries.push((entry(&path, Regular, 0o755), contents));
    }
    let entries = entries.into_iter();
    let entries = entries.map(|(entry, contents)| (entry, Cursor::new(contents)));
    cpio::write_cpio(entries, Vec::new())
}

/// Returns busybox for arm64, fetched at the first call.
///
/// # Errors
/// Returns an error if busybox cannot be fetched.
pub fn busybox(lab: &Path) -> Result<PathBuf> {
    let path = lab.join("busybox-arm64");
    if path.exists() {
        return Ok(path);
    }
    let mirror = debian::ensure_mirror()?;
    let archive = Archive::open(lab, &mirror, SUITE, "arm64")?;
    let files = archive.download(&[PACKAGE])?;
    let folder = tempfile::Builder::new()
        .prefix("busybox-")
        .tempdir_in(lab)?;
    let root = folder.path().join("root");
    debian::unpack(&files, &root)?;
    fs::rename(root.join("usr/bin/busybox"), &path)
        .map_err(|error| format!("{PACKAGE} has no usr/bin/busybox: {error}"))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use cpio::NewcReader;

    use super::*;

    #[test]
    fn the_archive_has_files_and_devices() {
        let archive = archive(
            b"busybox",
            b"#!/bin/busybox sh",
            &[("program".to_owned(), b"12345".to_vec())],
        )
        .unwrap();
        let mut rest = archive.as_slice();
        let mut entries = Vec::new();
        loop {
            let reader = NewcReader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            entries.push((
                entry.name().to_owned(),
                entry.mode(),
                (entry.rdev_major(), entry.rdev_minor()),
                entry.file_size(),
            ));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("bin", 0o04_0755, (0, 0), 0),
            ("dev", 0o04_0755, (0, 0), 0),
            ("dev/console", 0o02_0600, (5, 1), 0),
            ("dev/null", 0o02_0600, (1, 3), 0),
            ("bin/busybox", 0o10_0755, (0, 0), 7),
            ("init", 0o10_0755, (0, 0), 17),
            ("bin/program", 0o10_0755, (0, 0), 5),
        ];
        let expected =
            expected.map(|(name, mode, device, length)| (name.to_owned(), mode, device, length));
        assert_eq!(entries, expected);
    }
}
