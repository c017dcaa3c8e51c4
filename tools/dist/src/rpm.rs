//! The RPM package. `rpmbuild` packs files that are already built.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::installed_files::{DOCUMENTS, LIBRARY_FOLDER, stage};
use crate::program::Programs;
use crate::project::{Project, Result, read_output};
use crate::tree::Tree;

/// Folder of licences.
const LICENSES: &str = "usr/share/licenses/cpreg";

/// Settings of `rpmbuild` before the fields of the package.
///
/// Nothing is stripped or compressed again, and host and time of the build are fixed. Programs do
/// not link with the library, so the package provides none.
const SETTINGS: &str = "\
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _buildhost localhost
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%global source_date_epoch_from_changelog 0
%global _binary_payload w6.xzdio
%global __provides_exclude_from ^/usr/lib/cpreg/.*$
";

/// Writes the package, and returns its file name.
///
/// # Errors
/// Returns an error if the command or `rpmbuild` fails, or a file cannot be read or written.
pub(crate) fn make(
    project: &Project,
    native_command: &Path,
    programs: &Programs,
    output: &Path,
) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    let tree = Tree { root };
    stage(project, native_command, programs, "site-functions", &tree)?;
    let changelog = project.read_file("CHANGELOG.md")?;
    tree.add(&format!("{DOCUMENTS}/CHANGELOG.md"), &changelog, 0o644)?;
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        tree.add(
            &format!("{LICENSES}/{name}"),
            &project.read_file(name)?,
            0o644,
        )?;
    }
    let spec = folder.path().join("cpreg.spec");
    fs::write(&spec, specification(&project.version, &tree)?)?;
    let architecture = programs.architecture;
    let name = format!("cpreg-{}-1.{architecture}.rpm", project.version);
    let mut command = Command::new("rpmbuild");
    command.env("SOURCE_DATE_EPOCH", project.time.to_string());
    command.args([
        "-bb",
        "--quiet",
        "--target",
        &format!("{architecture}-linux"),
    ]);
    for (setting, path) in [("_topdir", folder.path()), ("_rpmdir", output)] {
        command
            .arg("--define")
            .arg(format!("{setting} {}", path.display()));
    }
    command.args([
        "--define",
        "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    ]);
    read_output(command.arg(&spec))?;
    Ok(name)
}

/// Returns the specification of a package with all files of the tree.
fn specification(version: &str, tree: &Tree) -> Result<String> {
    let root = tree.root.display();
    let mut text = format!(
        "\
{SETTINGS}
Name: cpreg
Version: {version}
Release: 1
Summary: Move arm64 virtual machines between unlike hosts
License: MIT OR Apache-2.0

%description
A saved or running arm64 VM loads on a host only if the host exposes the same
registers. cpreg predicts whether the VM loads, names each register that
differs, and converts the VM: in files, and during a live migration.

%install
mkdir -p %{{buildroot}}
cp --archive {root}/. %{{buildroot}}

%files
%defattr(-,root,root)
"
    );
    // Folders that belong to no other package, and disappear with this one.
    let files = tree.files()?;
    let own = [DOCUMENTS, LICENSES, LIBRARY_FOLDER];
    let folders: BTreeSet<_> = files
        .iter()
        .flat_map(|file| file.ancestors().skip(1))
        .filter(|folder| own.iter().any(|own| folder.starts_with(own)))
        .collect();
    for folder in folders {
        let _ = writeln!(text, "%dir /{}", folder.display());
    }
    for file in &files {
        let kind = if file.starts_with(LICENSES) {
            "%license "
        } else if file.starts_with(DOCUMENTS) || file.starts_with("usr/share/man") {
            "%doc "
        } else {
            ""
        };
        let _ = writeln!(text, "{kind}/{}", file.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_names_every_file_with_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let tree = Tree { root };
        for path in [
            "usr/bin/cpreg",
            "usr/share/licenses/cpreg/MIT",
            "usr/share/man/man1/a.1.gz",
        ] {
            tree.add(path, b"", 0o644).unwrap();
        }
        let text = specification("1.2.3", &tree).unwrap();
        let (_, files) = text.split_once("%files\n").unwrap();
        assert_eq!(
            files,
            "%defattr(-,root,root)\n%dir /usr/share/licenses/cpreg\n\
             /usr/bin/cpreg\n%license /usr/share/licenses/cpreg/MIT\n\
             %doc /usr/share/man/man1/a.1.gz\n"
        );
        tree.add("usr/lib/cpreg/inner/file", b"", 0o644).unwrap();
        assert!(
            specification("1", &tree)
                .unwrap()
                .contains("\n%dir /usr/lib/cpreg\n%dir /usr/lib/cpreg/inner\n")
        );
    }
}
