//! The Debian package.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::installed_files::{DOCUMENTS, stage};
use crate::program::Programs;
use crate::project::{Project, Result, read_output};
use crate::tree::Tree;

const MAINTAINER: &str = "The cpreg developers <cpreg@localhost>";

/// Findings of lintian that are intended, with the reason.
const OVERRIDES: &str = "\
# A static program runs on every release, and in images and guests without libraries.
cpreg: statically-linked-binary
cpreg: shared-library-lacks-prerequisites
# The package is not one of Debian's archive.
cpreg: initial-upload-closes-no-bugs
";

/// Writes the package, and returns its file name.
///
/// # Errors
/// Returns an error if the command or `dpkg-deb` fails, or a file cannot be read or written.
pub(crate) fn make(
    project: &Project,
    native_command: &Path,
    programs: &Programs,
    output: &Path,
) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("cpreg");
    let tree = Tree { root };
    stage(
        project,
        native_command,
        programs,
        "vendor-completions",
        &tree,
    )?;
    stage_documents(project, &tree)?;
    tree.add(
        "usr/share/lintian/overrides/cpreg",
        OVERRIDES.as_bytes(),
        0o644,
    )?;
    let length = tree.installed_kib()?;
    let control = control(&project.version, programs, length);
    tree.add("DEBIAN/control", control.as_bytes(), 0o644)?;
    let architecture = programs.architecture.debian_name();
    let name = format!("cpreg_{}-1_{architecture}.deb", project.version);
    let mut command = Command::new("dpkg-deb");
    // dpkg-deb sets later times to this one, and orders the entries.
    command.env("SOURCE_DATE_EPOCH", project.time.to_string());
    command.args(["--root-owner-group", "-Zxz", "--build"]);
    read_output(command.arg(&tree.root).arg(output.join(&name)))?;
    Ok(name)
}

/// Adds the documents that Debian's policy requires.
fn stage_documents(project: &Project, tree: &Tree) -> Result<()> {
    let changelog = project.read_file("CHANGELOG.md")?;
    tree.add_compressed(&format!("{DOCUMENTS}/changelog"), &changelog)?;
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date"]);
    let date = read_output(date.arg(format!("@{}", project.time)))?;
    let entry = debian_changelog(&project.version, date.trim());
    tree.add_compressed(&format!("{DOCUMENTS}/changelog.Debian"), entry.as_bytes())?;
    let copyright = copyright(&String::from_utf8(project.read_file("LICENSE-MIT")?)?);
    tree.add(
        &format!("{DOCUMENTS}/copyright"),
        copyright.as_bytes(),
        0o644,
    )
}

/// Returns the control file.
fn control(version: &str, programs: &Programs, installed_kib: u64) -> String {
    let architecture = programs.architecture.debian_name();
    // Only the preloaded library needs the C library.
    let dependency = programs.arm64.as_ref().map_or_else(String::new, |arm64| {
        format!("Depends: libc6 (>= {})\n", arm64.libc)
    });
    format!(
        "\
Package: cpreg
Version: {version}-1
Architecture: {architecture}
Maintainer: {MAINTAINER}
Installed-Size: {installed_kib}
{dependency}Suggests: libvirt-daemon, nftables, qemu-system-arm
Section: admin
Priority: optional
Description: move arm64 virtual machines between unlike hosts
 A saved or running arm64 VM loads on a host only if the host exposes the
 same registers. cpreg predicts whether the VM loads, names each register
 that differs, and converts the VM: in files, and during a live migration.
"
    )
}

/// Returns the changelog of the packaging, which refers to that of the program.
fn debian_changelog(version: &str, date: &str) -> String {
    format!(
        "\
cpreg ({version}-1) unstable; urgency=medium

  * Version {version}: /usr/share/doc/cpreg/changelog.gz lists its changes.

 -- {MAINTAINER}  {date}
"
    )
}

/// Returns the copyright file. Debian has the text of the Apache License itself.
fn copyright(mit: &str) -> String {
    let mut text = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: cpreg

Files: *
Copyright: The cpreg developers
License: Apache-2.0 or Expat

License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.

License: Expat
"
    .to_owned();
    for line in mit.lines() {
        let line = if line.trim().is_empty() { "." } else { line };
        let _ = writeln!(text, " {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::architecture::Architecture;
    use crate::installed_files::stand_in;

    #[test]
    fn a_package_has_all_files() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::stand_in(folder.path());
        let programs = stand_in::programs(folder.path(), Architecture::Aarch64);
        let make = || make(&project, &programs.command, &programs, folder.path()).unwrap();
        let name = make();
        assert_eq!(name, "cpreg_1.2.3-1_arm64.deb");
        let package = folder.path().join(name);
        let list = read_output(Command::new("dpkg-deb").arg("--contents").arg(&package)).unwrap();
        for expected in [
            "-rwxr-xr-x root/root",
            " ./usr/bin/cpreg\n",
            " ./usr/bin/cpreg-guest-check\n",
            " ./usr/bin/cpreg-qemu-kvm -> cpreg-qemu-system-aarch64\n",
            " ./usr/lib/cpreg/libcpreg_interpose.so\n",
            " ./usr/share/man/man1/cpreg.1.gz\n",
            " ./usr/share/man/man1/cpreg-qemu-system-aarch64.1.gz\n",
            " ./usr/share/zsh/vendor-completions/_cpreg\n",
            " ./usr/share/doc/cpreg/changelog.Debian.gz\n",
            " ./usr/share/doc/cpreg/copyright\n",
            " ./usr/share/doc/cpreg/examples/proxmox/cpreg-hookscript\n",
            " ./usr/share/doc/cpreg/examples/host/etc/systemd/system/cpreg-relay.service\n",
        ] {
            assert!(list.contains(expected), "no {expected} in\n{list}");
        }
        // The same sources give the same bytes.
        let first = fs::read(&package).unwrap();
        make();
        assert!(fs::read(&package).unwrap() == first);
    }

    #[test]
    fn only_the_library_needs_the_c_library() {
        let folder = tempfile::tempdir().unwrap();
        let text = |architecture| {
            let programs = stand_in::programs(folder.path(), architecture);
            control("1.2.3", &programs, 5)
        };
        assert!(text(Architecture::Aarch64).contains("\nDepends: libc6 (>= 2.34)\nSuggests"));
        assert!(text(Architecture::X86_64).contains("Installed-Size: 5\nSuggests"));
    }
}
