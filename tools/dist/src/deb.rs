//! The Debian package of the command: program, man pages, completions, and examples of hooks.
//!
//! The program is static, so the package depends on nothing. `cpreg install libvirt` writes the
//! units and hooks of a host, so the package contains none. On arm64 the package should also have
//! `libcpreg_interpose.so` (`--library` of `cpreg run`); it is added if it lies beside the program.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::{Compression, GzBuilder};

use crate::project::{Project, Result, read_output, run};

/// Files of the repository that the package has as examples.
const EXAMPLES: [&str; 3] = [
    "packaging/libvirt/apparmor-libvirt-qemu",
    "packaging/libvirt/cpreg-emulator",
    "packaging/proxmox/cpreg-hookscript",
];

/// Completion scripts: the shell, and the path of its script.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/cpreg"),
    ("zsh", "usr/share/zsh/vendor-completions/_cpreg"),
    ("fish", "usr/share/fish/vendor_completions.d/cpreg.fish"),
];

const MAINTAINER: &str = "The cpreg developers <cpreg@localhost>";

const LIBRARY_NAME: &str = "libcpreg_interpose.so";

/// Writes the package of `program`.
///
/// # Errors
/// Returns an error if the program or `dpkg-deb` fails, or a file cannot be read or written.
pub(crate) fn make(project: &Project, program: &Path, output: &Path) -> Result<()> {
    let architecture = architecture(env::consts::ARCH)?;
    let folder = tempfile::tempdir()?;
    let tree = Tree {
        root: folder.path().join("cpreg"),
    };
    stage(project, program, &tree)?;
    let length = installed_kib(&tree.root)?;
    let control = control(&project.version, architecture, length);
    tree.add("DEBIAN/control", control.as_bytes(), 0o644)?;
    let mut command = Command::new("dpkg-deb");
    // dpkg-deb sets later times to this one, and orders the entries.
    command.env("SOURCE_DATE_EPOCH", project.time.to_string());
    command.args(["--root-owner-group", "-Zxz", "--build"]);
    run(command.arg(&tree.root).arg(output))
}

/// Fills the tree with all installed files.
fn stage(project: &Project, program: &Path, tree: &Tree) -> Result<()> {
    let read = |name: &str| {
        let path = project.root.join(name);
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let binary = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    tree.add("usr/bin/cpreg", &binary, 0o755)?;
    let library = program.with_file_name(LIBRARY_NAME);
    if env::consts::ARCH == "aarch64" && library.exists() {
        let path = format!("usr/lib/cpreg/{LIBRARY_NAME}");
        tree.add(&path, &fs::read(library)?, 0o644)?;
    }
    let pages = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.env("SOURCE_DATE_EPOCH", project.time.to_string());
    read_output(command.arg("__man-pages").arg(pages.path()))?;
    for entry in fs::read_dir(pages.path())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        tree.add_compressed(&format!("usr/share/man/man1/{name}"), &fs::read(&path)?)?;
    }
    for (shell, path) in COMPLETIONS {
        let script = read_output(Command::new(program).args(["completions", shell]))?;
        tree.add(path, script.as_bytes(), 0o644)?;
    }
    let documents = "usr/share/doc/cpreg";
    tree.add_compressed(&format!("{documents}/changelog"), &read("CHANGELOG.md")?)?;
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date"]);
    let date = read_output(date.arg(format!("@{}", project.time)))?;
    let entry = debian_changelog(&project.version, date.trim());
    tree.add_compressed(&format!("{documents}/changelog.Debian"), entry.as_bytes())?;
    let copyright = copyright(&String::from_utf8(read("LICENSE-MIT")?)?);
    tree.add(
        &format!("{documents}/copyright"),
        copyright.as_bytes(),
        0o644,
    )?;
    for example in EXAMPLES {
        let name = example.trim_start_matches("packaging/");
        tree.add(
            &format!("{documents}/examples/{name}"),
            &read(example)?,
            0o644,
        )?;
    }
    Ok(())
}

/// Files of a package before it is packed.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn add(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.root.join(path);
        let mut folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        // Not the umask of the user decides.
        while folder.starts_with(&self.root) {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
            folder = folder.parent().unwrap_or(Path::new("/"));
        }
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Adds `PATH.gz`.
    fn add_compressed(&self, path: &str, content: &[u8]) -> Result<()> {
        let path = format!("{path}.gz");
        self.add(&path, b"", 0o644)?;
        let file = File::create(self.root.join(path))?;
        let mut writer = GzBuilder::new().mtime(0).write(file, Compression::best());
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

/// Returns the space that the files of a folder take, in KiB, each rounded up.
fn installed_kib(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            installed_kib(&entry.path())?
        } else {
            entry.metadata()?.len().div_ceil(1024)
        };
    }
    Ok(sum)
}

/// Returns Debian's name of an architecture.
fn architecture(rust_name: &str) -> Result<&'static str> {
    match rust_name {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => Err(format!("no Debian package for {other}").into()),
    }
}

/// Returns the control file.
fn control(version: &str, architecture: &str, installed_kib: u64) -> String {
    format!(
        "\
Package: cpreg
Version: {version}-1
Architecture: {architecture}
Maintainer: {MAINTAINER}
Installed-Size: {installed_kib}
Suggests: libvirt-daemon, nftables, qemu-system-arm
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
    use super::*;

    #[test]
    fn architectures_have_debian_names() {
        assert_eq!(architecture("x86_64").unwrap(), "amd64");
        assert_eq!(architecture("aarch64").unwrap(), "arm64");
        assert!(architecture("riscv64").is_err());
    }

    #[test]
    fn a_package_has_all_files() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        // Stands in for the command, whose files it imitates.
        let script = "#!/bin/sh\ncase $1 in\n__man-pages) echo page > \"$2/cpreg.1\" ;;\n\
                      completions) echo \"script of $2\" ;;\nesac\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let project = Project {
            root: Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
            target: folder.path().into(),
            version: "1.2.3".into(),
            published: Vec::new(),
            unpublished: Vec::new(),
            time: 7,
        };
        make(&project, &program, folder.path()).unwrap();
        let debian = architecture(env::consts::ARCH).unwrap();
        let package = folder.path().join(format!("cpreg_1.2.3-1_{debian}.deb"));
        let list = read_output(Command::new("dpkg-deb").arg("--contents").arg(&package)).unwrap();
        for expected in [
            "-rwxr-xr-x root/root",
            " ./usr/bin/cpreg\n",
            " ./usr/share/man/man1/cpreg.1.gz\n",
            " ./usr/share/zsh/vendor-completions/_cpreg\n",
            " ./usr/share/doc/cpreg/changelog.Debian.gz\n",
            " ./usr/share/doc/cpreg/copyright\n",
            " ./usr/share/doc/cpreg/examples/proxmox/cpreg-hookscript\n",
        ] {
            assert!(list.contains(expected), "no {expected} in\n{list}");
        }
        // The same sources give the same bytes.
        let first = fs::read(&package).unwrap();
        make(&project, &program, folder.path()).unwrap();
        assert!(fs::read(&package).unwrap() == first);
    }
}
