//! Starting cargo, and the programs of this workspace.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// An error, in words for the person who started the task.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The result of a task or of a part of one.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As the tests are.
    Dev,
    /// As it is shipped.
    Release,
}

/// Returns the root of the repository.
pub(crate) fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Builds and runs a program of this workspace.
///
/// # Errors
/// If it does not build or not succeed.
pub(crate) fn run(
    package: &str,
    program: &str,
    profile: Profile,
    arguments: &[OsString],
) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", package, "--bin", program]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    // Folders that the user names are the user's.
    command.current_dir(env::current_dir()?);
    command.arg("--").args(arguments);
    let status = command
        .status()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {status}").into())
    }
}

/// Runs cargo in this repository.
///
/// # Errors
/// If it does not succeed.
pub(crate) fn succeed(arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
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

/// Returns cargo in this repository; what it says goes where ours goes.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}
