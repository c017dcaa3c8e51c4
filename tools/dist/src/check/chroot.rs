//! Debian packages in fresh systems: installed, used and removed.
//!
//! `mmdebstrap` makes a system once; its archive is kept in the lab folder as `debian-SUITE.tar`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_framework::lab::folder::Lab;
use e2e_framework::{debian, tool};

use super::files::{Files, sample_check};
use super::inspect;
use crate::architecture::Architecture;
use crate::project::{Project, Result, read_output};

/// Suites of Debian 12 and 13.
pub(super) const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// Folders whose content changes with every use of dpkg.
const CHANGING_FOLDERS: [&str; 3] = ["var/lib/dpkg", "var/log", "var/cache"];

/// Installs the native package in a fresh system, uses and removes it. The package of another
/// architecture is unpacked, and its command is emulated.
pub(super) fn install(project: &Project, files: &Files, suite: &str) -> Result<String> {
    let archive = ensure(suite)?;
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    tool::run(
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(root),
    )?;
    let before = list(root)?;
    let native = Architecture::native()?;
    for package in files.find("cpreg_", ".deb")? {
        let name = package.to_string_lossy();
        let is_native = name.ends_with(&format!("_{}.deb", native.debian_name()));
        let dpkg = |action: &[&str], subject: &Path| -> Result<()> {
            let mut command = Command::new("dpkg");
            command
                .arg("--root")
                .arg(root)
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            if !is_native {
                // The system has no C library of the other architecture.
                command.args(["--force-architecture", "--force-depends"]);
            }
            tool::run(command.args(action).arg(subject))?;
            Ok(())
        };
        dpkg(&["--install"], &package)?;
        if is_native {
            use_in(project, root)?;
        } else {
            inspect::run_sample(project, &root.join("usr/bin/cpreg"), false, true)?;
        }
        dpkg(&["--purge"], Path::new("cpreg"))?;
        let after = list(root)?;
        let difference: Vec<_> = before.symmetric_difference(&after).collect();
        if !difference.is_empty() {
            return Err(format!("{name}: differs after the removal: {difference:?}").into());
        }
    }
    Ok(format!("  {} files as before", before.len()))
}

/// Has piuparts install and purge the native package in a fresh system of Debian 12.
pub(super) fn piuparts(files: &Files) -> Result<String> {
    let end = format!("_{}.deb", Architecture::native()?.debian_name());
    let mirror = format!("{} main", debian::ensure_mirror()?);
    for package in files.find("cpreg_", &end)? {
        let mut command = Command::new("piuparts");
        command.args(["--no-eatmydata", "--distribution", SUITES[0], "--mirror"]);
        tool::run(command.arg(&mirror).arg(package))?;
    }
    Ok(format!("  {}", SUITES[0]))
}

/// Uses the installed package: the command, its completions, and its example units.
fn use_in(project: &Project, root: &Path) -> Result<()> {
    let [stream, destination] = sample_check(project);
    fs::copy(stream, root.join("vm.stream.xz"))?;
    let chroot = |words: &[&str]| -> Result<String> {
        read_output(
            Command::new("chroot")
                .arg(root)
                .args(words)
                .env("LC_ALL", "C"),
        )
    };
    let destination = destination.to_string_lossy();
    let version = chroot(&["cpreg", "--version"])?;
    if !version.contains(&project.version) {
        return Err(format!("another version: {version}").into());
    }
    let report = chroot(&["cpreg", "check", "/vm.stream.xz", &destination])?;
    if !report.contains("converts") {
        return Err(format!("not a VM that converts:\n{report}").into());
    }
    chroot(&[
        "cpreg",
        "convert",
        "/vm.stream.xz",
        &destination,
        "-o",
        "/converted",
    ])?;
    let report = chroot(&["cpreg", "check", "/converted", &destination])?;
    if !report.contains("loads") {
        return Err(format!("the converted VM does not load:\n{report}").into());
    }
    // Completions of bash are functions that the file defines.
    let completions = "/usr/share/bash-completion/completions/cpreg";
    chroot(&[
        "bash",
        "-c",
        &format!("source {completions} && complete -p cpreg"),
    ])?;
    // dpkg knows every file, and finds none changed.
    chroot(&["dpkg", "--verify", "cpreg"])?;
    for file in ["vm.stream.xz", "converted"] {
        fs::remove_file(root.join(file))?;
    }
    Ok(())
}

/// Makes the archive of a system if it is missing, and returns its path.
fn ensure(suite: &str) -> Result<PathBuf> {
    let lab = Lab::open()?;
    let path = lab.folder.join(format!("debian-{suite}.tar"));
    lab.with_make_lock(|| {
        if path.exists() {
            return Ok(());
        }
        let mirror = debian::ensure_mirror()?;
        println!("making a system of Debian {suite} from {mirror}");
        let partial = lab.folder.join(format!("debian-{suite}.partial.tar"));
        let mut command = Command::new("mmdebstrap");
        command.args(["--variant=apt", "--mode=root", suite]);
        tool::run(command.arg(&partial).arg(mirror))?;
        Ok(fs::rename(&partial, &path)?)
    })?;
    Ok(path)
}

/// Returns the paths of a system's files, without those that dpkg always changes.
fn list(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path().strip_prefix(root)?.to_owned();
            if CHANGING_FOLDERS
                .iter()
                .any(|folder| path == Path::new(folder))
            {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
            paths.insert(path);
        }
    }
    Ok(paths)
}
