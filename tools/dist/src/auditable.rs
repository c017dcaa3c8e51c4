//! The list of dependencies inside each program and library (a software bill of materials), in the
//! format of cargo-auditable, which vulnerability scanners read.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use auditable_info::{Limits, audit_info_from_file};

use crate::project::{Project, Result};

/// Version of cargo-auditable. Another one could write other bytes.
const VERSION: &str = "0.7.7";

/// Returns the folder of the program `cargo-auditable`, which is built if it is missing.
///
/// # Errors
/// Returns an error if it does not build.
pub(crate) fn ensure(project: &Project) -> Result<PathBuf> {
    project.ensure_tool("cargo-auditable", VERSION, &[])
}

/// Puts a folder in front of the command's `PATH`.
///
/// # Errors
/// Returns an error if the folder's name has a colon.
pub(crate) fn prepend_path(command: &mut Command, folder: &Path) -> Result<()> {
    let set = command.get_envs().find(|(name, _)| *name == "PATH");
    let path = match set {
        Some((_, value)) => value.map(OsStr::to_owned),
        None => env::var_os("PATH"),
    };
    let path: OsString = path.unwrap_or_default();
    let folders = [folder.to_owned()].into_iter();
    command.env(
        "PATH",
        env::join_paths(folders.chain(env::split_paths(&path)))?,
    );
    Ok(())
}

/// Checks that a program lists the crate that it was built from, with its version, and its
/// dependencies. Returns the number of listed crates.
///
/// # Errors
/// Returns an error if the program has no list, or lists other crates.
pub(crate) fn check(program: &Path, package: &str, version: &str) -> Result<usize> {
    let name = program.display();
    let info = audit_info_from_file(program, Limits::default())
        .map_err(|error| format!("{name}: no list of dependencies: {error}"))?;
    let root = info.packages.iter().find(|package| package.root);
    let root = root.ok_or_else(|| format!("{name}: the list of dependencies has no root"))?;
    if root.name != package || root.version.to_string() != version {
        let (found, found_version) = (&root.name, &root.version);
        return Err(format!(
            "{name}: lists the dependencies of {found} {found_version}, not of {package} {version}"
        )
        .into());
    }
    if !info.packages.iter().any(|package| package.name == "cpreg") {
        return Err(format!("{name}: the list of dependencies lacks the crate cpreg").into());
    }
    Ok(info.packages.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_list_is_an_error() {
        let this = env::current_exe().unwrap();
        let error = check(&this, "dist", "0.1.0").unwrap_err().to_string();
        assert!(error.contains("no list of dependencies"), "{error}");
    }

    #[test]
    fn a_folder_comes_before_those_of_the_command() {
        let mut command = Command::new("true");
        command.env("PATH", "/a:/b");
        prepend_path(&mut command, Path::new("/c")).unwrap();
        let path = command.get_envs().find(|(name, _)| *name == "PATH");
        assert_eq!(path.unwrap().1, Some(OsStr::new("/c:/a:/b")));
    }
}
