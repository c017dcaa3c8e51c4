//! Builds of arm64 programs of this workspace on any machine. The programs are static, so that they
//! run under any kernel without libraries. A shared library is for programs that are not.
//!
//! cargo needs Rust's standard library for arm64, from the first available source:
//!
//! 1. The toolchain has the library (`rustup target add aarch64-unknown-linux-gnu`).
//! 2. The toolchain has the source of the library (`rustup component add rust-src`). cargo builds
//!    the library together with the program.
//! 3. Debian has the source of the same version (`rust-src` of trixie-backports, forky or sid). The
//!    source is unpacked to `rust-src-VERSION` in the lab folder. A copy of the toolchain in
//!    `rust-VERSION` (with hard links where possible) points to the source. The toolchain itself
//!    never changes.
//!
//! Building the standard library needs nightly options, which a stable compiler accepts with
//! `RUSTC_BOOTSTRAP` set.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::debian::{self, Archive};
use crate::paths::repository;
use crate::tool::{self, Tool};

/// Target of the builds.
pub const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Profile of shared libraries.
const LIBRARY_PROFILE: &str = "shared-library";
/// Variable with the flags of rustc for the target.
const FLAGS_VARIABLE: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS";

/// Suites in which Debian has newer compilers than in its releases.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

/// Programs for arm64 builds.
pub const TOOLS: [Tool; 2] = [
    Tool {
        program: "aarch64-linux-gnu-gcc",
        package: "gcc-aarch64-linux-gnu",
    },
    Tool {
        program: "/usr/aarch64-linux-gnu/lib/libc.a",
        package: "libc6-dev-arm64-cross",
    },
];

/// Toolchain for arm64.
#[derive(Debug)]
pub struct Toolchain {
    /// Folder with `bin`; `None` for the toolchain that runs this task.
    custom_root: Option<PathBuf>,
    builds_std: bool,
}

impl Toolchain {
    /// Finds a toolchain, or creates one in the lab folder.
    ///
    /// # Errors
    /// Returns an error if there is no C compiler for arm64, or neither a standard library nor its
    /// source.
    pub fn ensure(lab: &Path) -> Result<Self> {
        tool::ensure_installed(&TOOLS)?;
        let sysroot = tool::output_of(Command::new("rustc").args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot);
        let rustlib = sysroot.join("lib/rustlib");
        if rustlib.join(TARGET).join("lib").exists() {
            return Ok(Self {
                custom_root: None,
                builds_std: false,
            });
        }
        if rustlib.join("src/rust/library/Cargo.lock").exists() {
            return Ok(Self {
                custom_root: None,
                builds_std: true,
            });
        }
        let output = tool::output_of(Command::new("rustc").arg("--version"))?;
        let version = output.split(' ').nth(1).ok_or("rustc prints no version")?;
        let path = lab.join(format!("rust-{version}"));
        if !path.join("lib/rustlib/src/rust").exists() {
            let source = source(lab, version)?;
            println!("making a toolchain for arm64 in {}", path.display());
            let partial = lab.join(format!("rust-{version}.partial"));
            debian::remove(&partial)?;
            debian::remove(&path)?;
            copy(&sysroot, &partial)?;
            let folder = partial.join("lib/rustlib/src");
            fs::create_dir_all(&folder)?;
            symlink(source, folder.join("rust"))?;
            fs::rename(&partial, &path)?;
        }
        Ok(Self {
            custom_root: Some(path),
            builds_std: true,
        })
    }

    /// Returns a cargo command that runs a task for arm64, such as `["build"]`.
    pub fn cargo(&self, task: &[&str]) -> Command {
        let cargo = match &self.custom_root {
            Some(folder) => folder.join("bin/cargo").into_os_string(),
            None => env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")),
        };
        let mut command = Command::new(cargo);
        command.current_dir(repository()).args(task);
        if let Some(folder) = &self.custom_root {
            let bin = folder.join("bin");
            let path = env::var_os("PATH").unwrap_or_default();
            let paths = [bin.clone()].into_iter().chain(env::split_paths(&path));
            if let Ok(path) = env::join_paths(paths) {
                command.env("PATH", path);
            }
            // `cargo xtask` sets the variable to the libraries of the toolchain that runs it. rustc
            // would load them, and look for the standard library beside them.
            command.env_remove("LD_LIBRARY_PATH");
            command.env("RUSTC", bin.join("rustc"));
        }
        command
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
                TOOLS[0].program,
            )
            .env(FLAGS_VARIABLE, "-C target-feature=+crt-static")
            .args(["--target", TARGET]);
        if self.builds_std {
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("-Zbuild-std=std,panic_abort");
        }
        command
    }

    /// Builds the programs of packages, and these examples, for arm64 with the release profile.
    /// Returns their folder; examples are in its subfolder `examples`.
    ///
    /// # Errors
    /// Returns an error if the programs or examples do not compile. The output of cargo is not
    /// captured.
    pub fn build(&self, packages: &[&str], examples: &[&str]) -> Result<PathBuf> {
        let mut command = self.cargo(&["build"]);
        command.args(["--release", "--quiet", "--bins"]);
        for package in packages {
            command.args(["--package", package]);
        }
        for example in examples {
            command.args(["--example", example]);
        }
        run_checked(&mut command)?;
        Ok(target_folder().join(TARGET).join("release"))
    }

    /// Builds the shared library of a package for arm64, for programs that are linked dynamically.
    /// Returns its path.
    ///
    /// # Errors
    /// Returns an error if the library does not compile. The output of cargo is not captured.
    pub fn build_library(&self, package: &str) -> Result<PathBuf> {
        let mut command = self.cargo(&["build"]);
        command
            .arg("--quiet")
            .args(library_arguments(package))
            .env(FLAGS_VARIABLE, "-C target-feature=-crt-static");
        run_checked(&mut command)?;
        Ok(library_path(&target_folder(), package))
    }
}

/// Returns cargo's arguments for the shared library of a package.
///
/// The profile is a copy of the release profile, with a folder of its own. Otherwise cargo would
/// build all crates again whenever programs and libraries are built in turn.
pub fn library_arguments(package: &str) -> Vec<String> {
    let inheritance = format!("profile.{LIBRARY_PROFILE}.inherits='release'");
    let arguments = ["--lib", "--package", package, "--profile", LIBRARY_PROFILE];
    let config = ["--config", &inheritance];
    arguments
        .into_iter()
        .chain(config)
        .map(str::to_owned)
        .collect()
}

/// Returns the path of the arm64 library of a package, below cargo's target folder.
pub fn library_path(target: &Path, package: &str) -> PathBuf {
    let name = format!("lib{}.so", package.replace('-', "_"));
    target.join(TARGET).join(LIBRARY_PROFILE).join(name)
}

/// Returns cargo's target folder.
fn target_folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    repository().join(target)
}

/// Runs a command to its end, without capturing its output.
///
/// # Errors
/// Returns an error if the command cannot be started or does not succeed.
pub fn run_checked(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", tool::format_command(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}`: {status}", tool::format_command(command)).into())
    }
}

/// Returns the source of the standard library of exactly this version, from Debian.
fn source(lab: &Path, version: &str) -> Result<PathBuf> {
    let path = lab.join(format!("rust-src-{version}"));
    // Path of the source inside Debian's package.
    let inner = format!("usr/src/rustc-{version}");
    if path.join(&inner).exists() {
        return Ok(path.join(inner));
    }
    let mirror = debian::ensure_mirror()?;
    for suite in SUITES {
        let archive = Archive::open(lab, &mirror, suite, &debian::native_architecture()?)?;
        let versions = archive.versions("rust-src")?;
        let is_same_version = |candidate: &&String| {
            let rest = candidate.strip_prefix(version);
            rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        };
        let Some(package_version) = versions.iter().find(is_same_version) else {
            continue;
        };
        println!("fetching the source of Rust's standard library: rust-src {package_version}");
        let files = archive.download(&[&format!("rust-src={package_version}")])?;
        let partial = lab.join(format!("rust-src-{version}.partial"));
        debian::remove(&partial)?;
        debian::unpack(&files, &partial)?;
        debian::remove(&path)?;
        fs::rename(&partial, &path)?;
        return Ok(path.join(inner));
    }
    Err(format!(
        "no standard library for {TARGET} of Rust {version}: run `rustup target add \
         {TARGET}` (or `rustup component add rust-src`); Debian's {} do not have \
         the source of this version",
        SUITES.join(", ")
    )
    .into())
}

/// Copies a folder, with hard links for files where the file system supports them.
///
/// # Errors
/// Returns an error if a file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &path)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, path)?;
        } else if fs::hard_link(entry.path(), &path).is_err() {
            fs::copy(entry.path(), &path)?;
        }
    }
    Ok(())
}
