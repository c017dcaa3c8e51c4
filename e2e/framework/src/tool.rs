//! Other programs: finding them, installing what is missing, running them.
//!
//! A program that is missing is never a reason to skip a test: it is installed (Debian, as root), or the task fails and
//! says which command installs it.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Command, Output};

use crate::Result;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// What is run.
    pub program: &'static str,
    /// What is installed.
    pub package: &'static str,
}

/// Sees to it that all of `tools` are there.
///
/// # Errors
/// If one is missing and cannot be installed; the text says what to do.
pub fn ensure_installed(tools: &[Tool]) -> Result<()> {
    let missing = |tools: &[Tool]| {
        let mut packages: Vec<_> = tools
            .iter()
            .filter(|tool| !is_present(tool.program))
            .map(|tool| tool.package)
            .collect();
        packages.dedup();
        packages
    };
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    let advice = format!("this needs {names}: apt-get install {names}");
    if !rustix::process::geteuid().is_root() || !is_present("apt-get") {
        return Err(advice.into());
    }
    println!("installing {names}");
    let install = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y", "install", "--no-install-recommends"])
            .args(&packages);
        run(&mut command)
    };
    // Package lists that are missing or out of date are the usual reason for a first failure.
    if install().is_err() {
        run(Command::new("apt-get").args(["-q", "update"]))?;
        install()?;
    }
    if missing(tools).is_empty() {
        Ok(())
    } else {
        Err(advice.into())
    }
}

/// Whether there is such a program.
fn is_present(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Runs a command to its end, quietly, and gives what it wrote.
///
/// # Errors
/// If it cannot be started or does not succeed; the text has the command and the end of what it wrote.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", format_command(command)))?;
    if output.status.success() {
        return Ok(output);
    }
    let mut text = format!("`{}` failed ({})", format_command(command), output.status);
    for stream in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(stream);
        let lines: Vec<_> = said.lines().collect();
        for line in &lines[lines.len().saturating_sub(15)..] {
            let _ = write!(text, "\n  {line}");
        }
    }
    Err(text.into())
}

/// What a command writes to its standard output, as text without the last line end.
///
/// # Errors
/// Those of [`run`].
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// The command as one types it, for messages.
pub fn format_command(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().map(OsStr::to_string_lossy) {
        text.push(' ');
        text.push_str(&argument);
    }
    text
}
