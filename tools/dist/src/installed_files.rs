//! The files that every package installs: programs, library, man pages, completions, examples.
//!
//! The static programs depend on nothing. `cpreg install libvirt` writes the units and hooks of a
//! host, so packages have them only as examples. The relay's service runs as a dynamic user, so no
//! package creates a user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::program::Programs;
use crate::project::{Project, Result, read_output};
use crate::tree::Tree;

/// Folder of documents.
pub(crate) const DOCUMENTS: &str = "usr/share/doc/cpreg";
/// Folder of the library, where `cpreg run` looks for it.
pub(crate) const LIBRARY_FOLDER: &str = "usr/lib/cpreg";
/// File name of the library.
const LIBRARY_NAME: &str = "libcpreg_interpose.so";

/// Files of the repository that packages have as examples.
const EXAMPLES: [&str; 3] = [
    "libvirt/apparmor-libvirt-qemu",
    "libvirt/cpreg-emulator",
    "proxmox/cpreg-hookscript",
];

/// Files that `cpreg install libvirt` writes, and that packages have as examples.
const HOST_EXAMPLES: [&str; 4] = [
    "etc/cpreg/relay.nft",
    "etc/libvirt/hooks/qemu.d/50-cpreg",
    "etc/systemd/system/cpreg-relay.service",
    "etc/systemd/system/cpreg-relay.socket",
];

/// Programs of a host that `cpreg install libvirt` looks for.
const HOST_PROGRAMS: [&str; 3] = [
    "usr/sbin/libvirtd",
    "usr/sbin/nft",
    "usr/lib/systemd/systemd",
];

/// Emulator that a libvirt domain names, and its name for QEMUs of Red Hat.
const EMULATORS: [&str; 2] = ["cpreg-qemu-system-aarch64", "cpreg-qemu-kvm"];

/// Adds the files to the tree. `native_command` is the command for this machine, which writes its
/// man pages and completions.
/// `zsh_folder` is the distribution's folder for completions below `usr/share/zsh`.
///
/// # Errors
/// Returns an error if the command fails, or a file cannot be read or written.
pub(crate) fn stage(
    project: &Project,
    native_command: &Path,
    programs: &Programs,
    zsh_folder: &str,
    tree: &Tree,
) -> Result<()> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    tree.add("usr/bin/cpreg", &read(&programs.command)?, 0o755)?;
    if let Some(arm64) = &programs.arm64 {
        let path = format!("{LIBRARY_FOLDER}/{LIBRARY_NAME}");
        tree.add(&path, &read(&arm64.library)?, 0o644)?;
        // For hosts that are guests themselves, and to be copied into guests.
        let program = read(&arm64.guest_check)?;
        tree.add("usr/bin/cpreg-guest-check", &program, 0o755)?;
        stage_emulators(project, tree)?;
    }
    let pages = tempfile::tempdir()?;
    let mut command = Command::new(native_command);
    command.env("SOURCE_DATE_EPOCH", project.time.to_string());
    read_output(command.arg("__man-pages").arg(pages.path()))?;
    for entry in fs::read_dir(pages.path())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        tree.add_compressed(&format!("usr/share/man/man1/{name}"), &read(&path)?)?;
    }
    let zsh = format!("usr/share/zsh/{zsh_folder}/_cpreg");
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/cpreg"),
        ("zsh", &zsh),
        ("fish", "usr/share/fish/vendor_completions.d/cpreg.fish"),
    ] {
        let script = read_output(Command::new(native_command).args(["completions", shell]))?;
        tree.add(path, script.as_bytes(), 0o644)?;
    }
    for example in EXAMPLES {
        let content = project.read_file(&format!("packaging/{example}"))?;
        tree.add(&format!("{DOCUMENTS}/examples/{example}"), &content, 0o644)?;
    }
    stage_host_examples(native_command, tree)
}

/// Adds the emulators, with a man page.
fn stage_emulators(project: &Project, tree: &Tree) -> Result<()> {
    let [emulator, link] = EMULATORS;
    let script = project.read_file("packaging/libvirt/cpreg-emulator")?;
    tree.add(&format!("usr/bin/{emulator}"), &script, 0o755)?;
    tree.add_link(&format!("usr/bin/{link}"), emulator)?;
    let page = project.read_file(&format!("packaging/libvirt/{emulator}.1"))?;
    let pages = "usr/share/man/man1";
    tree.add_compressed(&format!("{pages}/{emulator}.1"), &page)?;
    tree.add_link(&format!("{pages}/{link}.1.gz"), &format!("{emulator}.1.gz"))?;
    Ok(())
}

/// Adds what the command installs on a host with libvirt.
fn stage_host_examples(native_command: &Path, tree: &Tree) -> Result<()> {
    let host = tempfile::tempdir()?;
    for program in HOST_PROGRAMS {
        let path = host.path().join(program);
        fs::create_dir_all(path.parent().unwrap_or(host.path()))?;
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let mut command = Command::new(native_command);
    command.args([
        "install",
        "libvirt",
        "--apply",
        "--program",
        "/usr/bin/cpreg",
    ]);
    read_output(command.arg("--root").arg(host.path()))?;
    for path in HOST_EXAMPLES {
        let content = fs::read(host.path().join(path));
        let content = content.map_err(|error| format!("cpreg install: {path}: {error}"))?;
        tree.add(
            &format!("{DOCUMENTS}/examples/host/{path}"),
            &content,
            0o644,
        )?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod stand_in {
    //! A script in place of the command, whose files it imitates.

    use super::*;
    use crate::architecture::Architecture;
    use crate::program::Arm64Programs;

    const SCRIPT: &str = "#!/bin/sh
case $1 in
__man-pages) echo page > \"$2/cpreg.1\" ;;
completions) echo \"script of $2\" ;;
install)
    root=$7
    for file in cpreg/relay.nft libvirt/hooks/qemu.d/50-cpreg \\
        systemd/system/cpreg-relay.service systemd/system/cpreg-relay.socket; do
        mkdir -p \"$(dirname \"$root/etc/$file\")\"
        echo \"content of $file\" > \"$root/etc/$file\"
    done ;;
esac
";

    /// Writes the script into a folder, and returns programs for an architecture.
    pub(crate) fn programs(folder: &Path, architecture: Architecture) -> Programs {
        let command = folder.join("program");
        fs::write(&command, SCRIPT).unwrap();
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
        let arm64 = (architecture == Architecture::Aarch64).then(|| Arm64Programs {
            library: command.clone(),
            libc: "2.34".to_owned(),
            guest_check: command.clone(),
        });
        Programs {
            architecture,
            command,
            arm64,
        }
    }
}
