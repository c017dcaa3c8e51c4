//! Commands for cargo, and for the programs of this workspace.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

/// An error with a message for the user of the task.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Result of a task or of a part of one.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Build profile of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Profile of the tests.
    Dev,
    /// Profile of releases.
    Release,
}

/// Returns the root of the repository.
pub(crate) fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Builds and runs a program of this workspace, and returns its exit status. The program prints its
/// errors.
///
/// # Errors
/// Returns an error if cargo cannot be started.
pub(crate) fn run(
    package: &str,
    program: &str,
    profile: Profile,
    arguments: &[OsString],
) -> Result<ExitCode> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", package, "--bin", program]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    // Relative folders in arguments refer to the user's current folder.
    command.current_dir(env::current_dir()?);
    command.arg("--").args(arguments);
    let status = command
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Returns a program of this workspace that `cargo build --workspace` has built.
///
/// `cargo run --package` would rebuild many crates, with the features for this package alone.
///
/// # Errors
/// Returns an error if it is not built.
pub(crate) fn built_program(program: &str) -> Result<Command> {
    let executable = env::current_exe()?;
    let target = executable.ancestors().nth(2).ok_or("no target folder")?;
    let path = target.join("debug").join(program);
    if !path.is_file() {
        return Err(format!("{} was not built", path.display()).into());
    }
    let mut command = Command::new(path);
    command
        .current_dir(repository())
        .env("CPREG_PROGRAM", target.join("debug/cpreg"));
    Ok(command)
}

/// Runs cargo in this repository.
///
/// # Errors
/// Returns an error if cargo fails.
pub(crate) fn run_cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let status = cargo()
        .args(arguments)
        .envs(environment.iter().copied())
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let advice = match arguments {
        ["fmt" | "clippy", ..] => " (is it installed? rustup component add rustfmt clippy)",
        _ => "",
    };
    Err(format!("`cargo {}`: {status}{advice}", arguments.join(" ")).into())
}

/// Returns a cargo command that runs in this repository and prints its output.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}
