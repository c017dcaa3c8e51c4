//! Other programs: finding them, installing missing ones, running them.
//!
//! A test never skips because a program is missing. The task installs the program (on Debian, as
//! root), or fails with the command that installs it.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Command, Output};

use crate::Result;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Name of the program.
    pub program: &'static str,
    /// Name of the package.
    pub package: &'static str,
}

/// Browser that tests control, with its driver.
pub const BROWSER: [Tool; 2] = [
    Tool {
        program: "chromium",
        package: "chromium",
    },
    Tool {
        program: "chromedriver",
        package: "chromium-driver",
    },
];

/// Installs the missing ones of `tools`.
///
/// # Errors
/// Returns an error if a tool is missing and cannot be installed, with the command to run.
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
    let advice = format!("missing packages {names}: apt-get install {names}");
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
    // A first failure is usually due to missing or outdated package lists.
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

/// Returns `true` if the program is in PATH.
fn is_present(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Runs a command to its end, quietly, and returns its output.
///
/// # Errors
/// Returns an error if the command cannot be started or fails, with the command and the end of its
/// output.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", format_command(command)))?;
    if output.status.success() {
        return Ok(output);
    }
    let mut text = format!("`{}` failed ({})", format_command(command), output.status);
    for stream in [&output.stdout, &output.stderr] {
        let output = String::from_utf8_lossy(stream);
        let lines: Vec<_> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(15)..] {
            let _ = write!(text, "\n  {line}");
        }
    }
    Err(text.into())
}

/// Returns the standard output of a command as text, without the last line end.
///
/// # Errors
/// Returns the errors of [`run`].
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Returns the command as text, for messages.
pub fn format_command(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().map(OsStr::to_string_lossy) {
        text.push(' ');
        text.push_str(&argument);
    }
    text
}
