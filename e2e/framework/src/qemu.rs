//! The QEMUs of the live tests: Debian's own, of four generations, side by side.
//!
//! Each QEMU is fetched from its Debian suite with all libraries, and unpacked into a folder of its
//! own. No package is installed, and the tests need no root. No QEMU sees the libraries of another
//! QEMU or of the machine.
//!
//! | in the lab folder | content |
//! |---|---|
//! | `qemu-10.0/root/` | the unpacked packages |
//! | `qemu-10.0/qemu-system-aarch64`, `…-arm` | scripts that start the programs |
//! | `qemu-10.0/packages` | package list, written last, so its presence means complete |
//!
//! [`debian`] chooses the mirror. A newer Debian release of the same series is
//! accepted with a note. A release of another series is an error, because the tests would no longer
//! cover the series that they name.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::debian::{self, Archive};
use crate::paths::artifacts_dir;
use crate::{Result, tool};

/// One generation of QEMU: a series of versions, and the Debian suite that has it.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// First two numbers of the version, which must not change.
    pub series: &'static str,
    /// The Debian suite.
    pub suite: &'static str,
    /// Package version for which the expectations of the tests were written.
    package: &'static str,
}

/// Every generation, the oldest first.
pub const GENERATIONS: [Generation; 4] = [
    Generation {
        series: "5.2",
        suite: "bullseye",
        package: "1:5.2+dfsg-11+deb11u3",
    },
    Generation {
        series: "7.2",
        suite: "bookworm",
        package: "1:7.2+dfsg-7+deb12u18+b3",
    },
    Generation {
        series: "10.0",
        suite: "trixie",
        package: "1:10.0.13+ds-0+deb13u1",
    },
    Generation {
        series: "11.1",
        suite: "trixie-backports",
        package: "1:11.1.3+ds-1~bpo13+1",
    },
];

/// Packages of a generation: the emulator, and the boot ROMs of its default network card.
const PACKAGES: [&str; 2] = ["qemu-system-arm", "ipxe-qemu"];
const PROGRAMS: [&str; 2] = ["qemu-system-aarch64", "qemu-system-arm"];

/// An installed QEMU.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// First two numbers of its version.
    pub series: &'static str,
    /// Version as QEMU prints it: `10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`.
    pub version: String,
    folder: PathBuf,
}

impl Qemu {
    /// Returns the program for a 64-bit Arm machine.
    pub fn program(&self) -> PathBuf {
        self.folder.join(PROGRAMS[0])
    }
}

/// Returns the first two version numbers of each generation.
pub fn series() -> impl Iterator<Item = &'static str> {
    GENERATIONS.iter().map(|generation| generation.series)
}

/// Fetches missing generations, and returns all. Quick if all exist.
///
/// # Errors
/// Returns an error if a QEMU cannot be fetched, does not start, or is of another series.
pub fn ensure() -> Result<Vec<Qemu>> {
    ensure_generations(&GENERATIONS.iter().collect::<Vec<_>>())
}

/// Fetches one series if it is missing, and returns it.
///
/// # Errors
/// Returns the errors of [`ensure`], and an error if no generation has the series.
pub fn ensure_series(series: &str) -> Result<Qemu> {
    let mut generations = GENERATIONS.iter();
    let generation = generations.find(|generation| generation.series == series);
    let generation = generation.ok_or_else(|| format!("no QEMU {series} in GENERATIONS"))?;
    let mut qemus = ensure_generations(&[generation])?;
    qemus.pop().ok_or_else(|| "no QEMU".into())
}

fn ensure_generations(generations: &[&Generation]) -> Result<Vec<Qemu>> {
    let lab = artifacts_dir();
    fs::create_dir_all(&lab).map_err(|error| format!("{}: {error}", lab.display()))?;
    // apt's configuration, and scripts that start from any folder, need absolute paths.
    let lab = fs::canonicalize(&lab)?;
    let lock = File::create(lab.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;

    let missing: Vec<_> = generations
        .iter()
        .copied()
        .filter(|generation| !folder(&lab, generation).join("packages").exists())
        .collect();
    if !missing.is_empty() {
        fetch_all(&lab, &missing)?;
    }
    generations
        .iter()
        .map(|generation| check_version(generation, &folder(&lab, generation)))
        .collect()
}

fn folder(lab: &Path, generation: &Generation) -> PathBuf {
    lab.join(format!("qemu-{}", generation.series))
}

fn fetch_all(lab: &Path, missing: &[&Generation]) -> Result<()> {
    let mirror = debian::ensure_mirror()?;
    println!("fetching {} QEMUs from {mirror}", missing.len());
    thread::scope(|scope| {
        let threads: Vec<_> = missing
            .iter()
            .map(|generation| (generation, scope.spawn(|| fetch(lab, generation, &mirror))))
            .collect();
        let mut failed = Vec::new();
        for (generation, thread) in threads {
            let result = thread
                .join()
                .unwrap_or_else(|_| Err("the fetching thread panicked".into()));
            if let Err(error) = result {
                failed.push(format!("QEMU {}: {error}", generation.series));
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(failed.join("\n").into())
        }
    })
}

/// Fetches and unpacks one generation. Moves the complete folder to its final place.
fn fetch(lab: &Path, generation: &Generation, mirror: &str) -> Result<()> {
    let partial = lab.join(format!("qemu-{}.partial", generation.series));
    debian::remove(&partial)?;
    fs::create_dir_all(&partial)?;
    let archive = Archive::open(
        lab,
        mirror,
        generation.suite,
        &debian::native_architecture()?,
    )?;
    let packages = archive.download_with_dependencies(&PACKAGES)?;
    let root = partial.join("root");
    debian::unpack(&packages, &root)?;
    write_programs(&partial, &root)?;
    let mut names: Vec<_> = packages
        .iter()
        .filter_map(|package| package.file_name()?.to_str())
        .collect();
    names.sort_unstable();
    fs::write(partial.join("packages"), names.join("\n") + "\n")?;

    let path = folder(lab, generation);
    debian::remove(&path)?;
    fs::rename(&partial, &path)?;
    Ok(())
}

/// Writes the scripts that start the programs with their own loader, libraries, modules and data.
fn write_programs(folder: &Path, root: &Path) -> Result<()> {
    let triplet = debian::find_triplet(root)?;
    let libraries = root.join("usr/lib").join(&triplet);
    let loader = fs::read_dir(&libraries)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("ld-linux"))
        .ok_or("the unpacked C library has no program loader")?;
    for program in PROGRAMS {
        let listed = tool::output_of(
            Command::new(libraries.join(&loader))
                .arg("--library-path")
                .arg(&libraries)
                .arg("--list")
                .arg(root.join("usr/bin").join(program)),
        )?;
        for line in listed.lines() {
            // "name => path (address)". The kernel's vdso and the loader have no arrow.
            let is_outside = line
                .split_once("=> ")
                .is_some_and(|(_, path)| !Path::new(path).starts_with(root));
            if is_outside {
                return Err(format!("{program} is not complete: {}", line.trim()).into());
            }
        }
        let script = format!(
            "#!/bin/sh\n# Starts this QEMU with the libraries it was built for. Written by \
             `cargo xtask qemus`.\nhere=$(dirname \"$(readlink -f \"$0\")\")/root\nexport \
             QEMU_MODULE_DIR=\"$here/usr/lib/{triplet}/qemu\"\n\
             exec \"$here/usr/lib/{triplet}/{loader}\" \
             --library-path \"$here/usr/lib/{triplet}\" \\\n    \"$here/usr/bin/{program}\" \
             -L \"$here/usr/share/qemu\" -L \"$here/usr/lib/ipxe/qemu\" \"$@\"\n"
        );
        let path = folder.join(program);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.write_all(script.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Queries the version of a QEMU, and compares it with the expected one.
fn check_version(generation: &Generation, folder: &Path) -> Result<Qemu> {
    let mut qemu = Qemu {
        series: generation.series,
        version: String::new(),
        folder: folder.to_owned(),
    };
    let output = tool::output_of(Command::new(qemu.program()).arg("--version"))?;
    let (version, package) = parse_version(&output)
        .ok_or_else(|| format!("QEMU {}: no version in {output:?}", generation.series))?;
    if !version.starts_with(&format!("{}.", generation.series)) {
        return Err(format!(
            "QEMU {0}: Debian's {1} now has {version} ({package}), which is another series. The \
             tests need {0}: change GENERATIONS in e2e/framework/src/qemu.rs, and the \
             expectations of the tests.",
            generation.series, generation.suite
        )
        .into());
    }
    if package != generation.package {
        println!(
            "note: QEMU {}: Debian's {} has another package version: expected {}, found {package}",
            generation.series, generation.suite, generation.package
        );
    }
    qemu.version = format!("{version} (Debian {package})");
    Ok(qemu)
}

/// Parses `QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)` into `10.0.13` and
/// `1:10.0.13+ds-0+deb13u1`.
fn parse_version(output: &str) -> Option<(&str, &str)> {
    let rest = output
        .lines()
        .next()?
        .strip_prefix("QEMU emulator version ")?;
    let (version, package) = rest.split_once(" (Debian ")?;
    Some((version, package.strip_suffix(')')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_debian_writes_them() {
        let output = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright \
                    (c) 2003-2022 …";
        assert_eq!(
            parse_version(output),
            Some(("7.2.22", "1:7.2+dfsg-7+deb12u18+b3"))
        );
        assert_eq!(parse_version("QEMU emulator version 10.0.50"), None);
    }
}
