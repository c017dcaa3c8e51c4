//! Checks without an installation.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_framework::tool;

use super::files::{Files, sample_check};
use crate::architecture::Architecture;
use crate::auditable;
use crate::project::{Project, Result, read_output};

/// Findings of lintian about the maintainer's address, which is not decided yet.
const UNDECIDED_ADDRESS: &str = "bogus-mail-host,bogus-mail-host-in-debian-changelog";

/// Words of a check's report whose VM converts.
const CONVERTS: &str = "converts";

/// Checks the programs, and runs each.
pub(super) fn programs(project: &Project, files: &Files) -> Result<String> {
    let programs = files.find("cpreg-", "-linux")?;
    let mut crates = Vec::new();
    for program in &programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let is_guest_check = name.starts_with("cpreg-guest-check");
        let package = if is_guest_check {
            "cpreg-guest-check"
        } else {
            "cpreg-cli"
        };
        if !is_guest_check {
            crates.push(auditable::check(program, package, &project.version)?.to_string());
        }
        let headers = read_output(
            Command::new("readelf")
                .arg("--program-headers")
                .arg(program),
        )?;
        if headers.contains(" INTERP ") {
            return Err(format!("{name} is not static").into());
        }
        check_paths(project, program)?;
        let copy = tempfile::tempdir()?;
        // The copy has the mode of a program, which a download lacks.
        let copied = copy.path().join("cpreg");
        fs::copy(program, &copied)?;
        run_sample(project, &copied, is_guest_check, name.contains("aarch64"))?;
    }
    Ok(format!(
        "  {} programs, crates listed: {}",
        programs.len(),
        crates.join(", ")
    ))
}

/// Checks that a program contains no path of this machine.
fn check_paths(project: &Project, program: &Path) -> Result<()> {
    let content = fs::read(program)?;
    for path in [&project.root, &project.target] {
        let path = path.to_string_lossy();
        if content
            .windows(path.len())
            .any(|window| window == path.as_bytes())
        {
            return Err(format!("{} contains {path}", program.display()).into());
        }
    }
    Ok(())
}

/// Has a program check a VM that converts. Another architecture is emulated.
pub(super) fn run_sample(
    project: &Project,
    program: &Path,
    is_guest_check: bool,
    is_arm64: bool,
) -> Result<()> {
    let mut command = if is_arm64 && Architecture::native()? != Architecture::Aarch64 {
        let mut command = Command::new("qemu-aarch64-static");
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    let (arguments, expected) = if is_guest_check {
        (vec!["--help".into()], "record")
    } else {
        let check = sample_check(project);
        (
            ["check".into()].into_iter().chain(check).collect(),
            CONVERTS,
        )
    };
    let arguments: Vec<PathBuf> = arguments;
    let text = read_output(command.args(arguments))?;
    if !text.contains(expected) {
        return Err(format!("{}: no `{expected}` in\n{text}", program.display()).into());
    }
    Ok(())
}

/// Checks the Debian packages with lintian.
pub(super) fn lintian(files: &Files) -> Result<String> {
    let packages = files.find("cpreg_", ".deb")?;
    let mut command = Command::new("lintian");
    command.args(["--allow-root", "--fail-on", "error,warning"]);
    command.args(["--suppress-tags", UNDECIDED_ADDRESS]);
    tool::run(command.args(&packages))?;
    Ok(format!("  {} packages", packages.len()))
}

/// Checks the man pages and units in the Debian packages.
pub(super) fn documents(files: &Files) -> Result<String> {
    let mut pages = 0;
    for package in files.find("cpreg_", ".deb")? {
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        tool::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(&package)
                .arg(root),
        )?;
        for entry in fs::read_dir(root.join("usr/share/man/man1"))? {
            // mandoc reads compressed pages only by their own names.
            tool::run(
                Command::new("mandoc")
                    .args(["-T", "lint", "-W", "warning"])
                    .arg(entry?.path()),
            )?;
            pages += 1;
        }
        let units = root.join("usr/share/doc/cpreg/examples/host/etc/systemd/system");
        // The service must find its program.
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no", "--root"]);
        command.arg(root);
        let system = root.join("etc/systemd/system");
        fs::create_dir_all(&system)?;
        for name in ["cpreg-relay.socket", "cpreg-relay.service"] {
            fs::copy(units.join(name), system.join(name))?;
            command.arg(name);
        }
        // The units start a program of another package.
        let nft = root.join("usr/sbin/nft");
        fs::create_dir_all(root.join("usr/sbin"))?;
        fs::write(&nft, "")?;
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755))?;
        tool::run(&mut command)?;
    }
    Ok(format!("  {pages} man pages, 2 units"))
}

/// Checks the RPM packages, and installs, uses and removes each in a folder of its own.
pub(super) fn rpm(project: &Project, files: &Files) -> Result<String> {
    let packages = files.find("cpreg-", ".rpm")?;
    let mut count = 0;
    for package in &packages {
        let name = package.display();
        let is_arm64 = name.to_string().contains("aarch64");
        tool::run(
            Command::new("rpm")
                .args(["--checksig", "--nosignature"])
                .arg(package),
        )?;
        let list = read_output(
            Command::new("rpm")
                .args(["-qpl", "--nosignature"])
                .arg(package),
        )?;
        count += list.lines().count();
        let mut expected = vec!["/usr/bin/cpreg", "/usr/share/man/man1/cpreg-check.1.gz"];
        if is_arm64 {
            expected.push("/usr/lib/cpreg/libcpreg_interpose.so");
        }
        for path in expected {
            if !list.lines().any(|line| line == path) {
                return Err(format!("{name} lacks {path}").into());
            }
        }
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        let rpm = |action: &[&str], subject: &Path| -> Result<()> {
            let mut command = Command::new("rpm");
            command.arg("--root").arg(root).arg("--nodeps");
            tool::run(command.args(action).arg(subject))?;
            Ok(())
        };
        rpm(&["--install", "--nosignature", "--ignorearch"], package)?;
        run_sample(project, &root.join("usr/bin/cpreg"), false, is_arm64)?;
        rpm(&["--erase"], Path::new("cpreg"))?;
        for path in ["usr/bin/cpreg", "usr/lib/cpreg", "usr/share/doc/cpreg"] {
            if root.join(path).exists() {
                return Err(format!("{name}: {path} remains after the removal").into());
            }
        }
    }
    Ok(format!("  {} packages with {count} files", packages.len()))
}
