//! [`Programs`]: the static commands of an architecture, and the library that `cpreg run` preloads.
//!
//! The C library is linked into the commands, so they run on every Linux of the architecture. No
//! path of the building machine is in them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::toolchain::{Toolchain, library_arguments, library_path};

use crate::architecture::Architecture;
use crate::auditable;
use crate::project::{Project, Result, read_output, run};

/// Package of the library.
const LIBRARY_PACKAGE: &str = "cpreg-interpose";
/// Program that lists the symbols of an arm64 library. The arm64 compiler needs its package.
const OBJDUMP: &str = "aarch64-linux-gnu-objdump";

/// Built files of an architecture.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) architecture: Architecture,
    /// `cpreg`.
    pub(crate) command: PathBuf,
    /// Parts that exist for arm64 only.
    pub(crate) arm64: Option<Arm64Programs>,
}

/// Files for hosts and guests with KVM's arm64 registers.
#[derive(Debug)]
pub(crate) struct Arm64Programs {
    /// `libcpreg_interpose.so`.
    pub(crate) library: PathBuf,
    /// Oldest C library that the library works with: `2.34`.
    pub(crate) libc: String,
    /// `cpreg-guest-check`.
    pub(crate) guest_check: PathBuf,
}

impl Programs {
    /// Builds the programs of an architecture.
    ///
    /// # Errors
    /// Returns an error if they do not build, or lack the list of their dependencies.
    pub(crate) fn build(project: &Project, architecture: Architecture) -> Result<Self> {
        let tools = auditable::ensure(project)?;
        let folder = project.target.join(architecture.target()).join("release");
        let command = folder.join("cpreg");
        let build = |mut cargo: Command, features: &str, arguments: &[&str]| -> Result<()> {
            auditable::prepend_path(&mut cargo, &tools)?;
            cargo.args(["--locked", "--quiet"]).args(arguments);
            cargo.current_dir(&project.root);
            cargo.env("CARGO_TARGET_DIR", &project.target);
            cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(project, features)?);
            cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
            // A C compiler writes the time of the build into some files otherwise.
            cargo.env("SOURCE_DATE_EPOCH", project.time.to_string());
            run(&mut cargo)
        };
        println!("building cpreg for {architecture}");
        let (programs, dynamic) = (
            "-Ctarget-feature=+crt-static",
            "-Ctarget-feature=-crt-static",
        );
        let release = ["--release", "--bins", "--package", "cpreg-cli"];
        let arm64 = match architecture {
            Architecture::X86_64 => {
                let mut cargo = project.cargo();
                // With a target, the flags apply to the program and not to build scripts.
                cargo.args(["auditable", "build", "--target", architecture.target()]);
                build(cargo, programs, &release)?;
                None
            }
            Architecture::Aarch64 => {
                let lab = Lab::open()?;
                let toolchain = lab.with_make_lock(|| Toolchain::ensure(&lab.folder))?;
                let arguments = [&release[..], &["--package", "cpreg-guest-check"]].concat();
                build(
                    toolchain.cargo(&["auditable", "build"]),
                    programs,
                    &arguments,
                )?;
                let arguments = library_arguments(LIBRARY_PACKAGE);
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                build(
                    toolchain.cargo(&["auditable", "build"]),
                    dynamic,
                    &arguments,
                )?;
                let library = library_path(&project.target, LIBRARY_PACKAGE);
                let guest_check = folder.join("cpreg-guest-check");
                auditable::check(&library, LIBRARY_PACKAGE, &project.version)?;
                Some(Arm64Programs {
                    libc: newest_libc_symbol(&library)?,
                    library,
                    guest_check,
                })
            }
        };
        let crates = auditable::check(&command, "cpreg-cli", &project.version)?;
        println!("cpreg for {architecture} lists {crates} crates");
        Ok(Self {
            architecture,
            command,
            arm64,
        })
    }

    /// Copies the programs into the folder of the release, under names with version and
    /// architecture. Returns the names.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or written.
    pub(crate) fn copy(&self, project: &Project, output: &Path) -> Result<Vec<String>> {
        let (version, architecture) = (&project.version, self.architecture);
        let mut files = vec![(
            &self.command,
            format!("cpreg-{version}-{architecture}-linux"),
        )];
        if let Some(arm64) = &self.arm64 {
            let name = format!("cpreg-guest-check-{version}-{architecture}-linux");
            files.push((&arm64.guest_check, name));
        }
        for (file, name) in &files {
            fs::copy(file, output.join(name))
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(files.into_iter().map(|(_, name)| name).collect())
    }
}

/// Returns the compiler's flags, separated as cargo reads them. Paths of this machine become names.
fn flags(project: &Project, features: &str) -> Result<String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    // The last matching one counts.
    let mut replacements = vec![
        (Lab::open()?.folder, "lab"),
        (project.target.clone(), "target"),
        (project.root.clone(), "cpreg"),
    ];
    if let Some(home) = home {
        // The names of its folders depend on the registry's address.
        let mut registries = Vec::new();
        for entry in fs::read_dir(home.join("registry/src"))
            .into_iter()
            .flatten()
        {
            registries.push((entry?.path(), "registry"));
        }
        registries.sort();
        replacements.push((home, "cargo"));
        replacements.extend(registries);
    }
    let flags = replacements
        .iter()
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    let flags: Vec<_> = std::iter::once(features.to_owned()).chain(flags).collect();
    Ok(flags.join("\x1f"))
}

/// Returns the newest version of the C library that a library's symbols need.
fn newest_libc_symbol(library: &Path) -> Result<String> {
    let symbols = read_output(Command::new(OBJDUMP).arg("--dynamic-syms").arg(library))?;
    let version = newest_version(&symbols);
    Ok(version.ok_or_else(|| format!("{}: no symbol of the C library", library.display()))?)
}

/// Returns the newest version in a list of symbols, such as `(GLIBC_2.34) pthread_create`.
fn newest_version(symbols: &str) -> Option<String> {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let is_part = |byte: char| byte.is_ascii_digit() || byte == '.';
        let end = rest.find(|byte| !is_part(byte)).unwrap_or(rest.len());
        let parts = rest[..end].split('.').map(|part| part.parse::<u32>().ok());
        parts.collect::<Option<Vec<_>>>()
    });
    let parts = versions.max()?;
    let parts: Vec<_> = parts.iter().map(u32::to_string).collect();
    Some(parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let symbols = "DF *UND* (GLIBC_2.9)  read\nDF *UND* (GLIBC_2.34) dlsym\n (GLIBC_2.4) x";
        assert_eq!(newest_version(symbols).as_deref(), Some("2.34"));
        assert_eq!(newest_version("DF .text Base ioctl"), None);
    }
}
