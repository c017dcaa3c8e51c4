//! The source archive, with the sources of all dependencies, so that it builds without a network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive;
use crate::project::{Project, Result, cargo, read_output, run};

/// Writes `cpreg-VERSION-vendored.tar.gz` from the last commit. Returns the file's name.
///
/// # Errors
/// Returns an error if git or cargo fails, or cargo does not find a dependency in the archive.
pub(crate) fn pack(project: &Project, output: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let name = format!("cpreg-{}", project.version);
    let root = folder.path().join(&name);
    fs::create_dir(&root)?;
    let archive = folder.path().join("sources.tar");
    let mut git = Command::new("git");
    git.args(["archive", "--format=tar", "--output"]);
    run(git.arg(&archive).arg("HEAD").current_dir(&project.root))?;
    tar::Archive::new(File::open(&archive)?).unpack(&root)?;

    let mut vendor = cargo(&root);
    vendor.args(["vendor", "--locked", "--versioned-dirs"]);
    let settings = read_output(vendor.arg("vendor"))?;
    let config = root.join(".cargo/config.toml");
    let existing = fs::read_to_string(&config)?;
    fs::write(&config, format!("{existing}\n{settings}"))?;
    // Cargo resolves all dependencies from the archive alone.
    let home = tempfile::tempdir()?;
    let mut check = cargo(&root);
    check.args(["metadata", "--format-version", "1", "--locked", "--offline"]);
    read_output(check.env("CARGO_HOME", home.path()))?;

    let file_name = format!("{name}-vendored.tar.gz");
    let path = output.join(&file_name);
    archive::write(&path, folder.path(), &PathBuf::from(&name), project.time)?;
    Ok(file_name)
}
