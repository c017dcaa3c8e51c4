//! The command under test, run as a user runs it: `probe qemu`, `check --format json`, `rehearse
//! --format json`, `convert`.
//!
//! [`report`] has the models of the command's reports.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::Result;
use crate::paths::repository;
use crate::report::{self, CheckOutput, RehearseOutput};
use crate::tool;

/// The command `cpreg`, built from this repository.
#[derive(Debug)]
pub struct Cpreg {
    program: PathBuf,
}

impl Cpreg {
    /// Builds the command, unless the environment variable `CPREG_PROGRAM` has its path.
    ///
    /// # Errors
    ///
    /// Returns an error if the command does not build.
    pub fn build() -> Result<Self> {
        if let Some(program) = std::env::var_os("CPREG_PROGRAM") {
            let program = program.into();
            return Ok(Self { program });
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let messages = tool::output_of(
            Command::new(cargo)
                .current_dir(repository())
                .args([
                    "build",
                    "--quiet",
                    "--package",
                    "cpreg-cli",
                    "--bin",
                    "cpreg",
                ])
                .args(["--message-format", "json"]),
        )?;
        // Cargo prints the path of the program, because the target folder may be anywhere.
        let program = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| {
                let name = &message["target"]["name"];
                (name == "cpreg").then(|| message["executable"].as_str().map(PathBuf::from))?
            })
            .ok_or("cargo did not print the path of the program cpreg")?;
        Ok(Self { program })
    }

    /// Returns the path of the program, for callers with their own arguments.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn run(&self, arguments: &[&OsStr], expected: &[i32]) -> Result<(i32, Output)> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("NO_COLOR", "1");
        let output = command.output().map_err(|error| {
            format!("cannot start `{}`: {error}", tool::format_command(&command))
        })?;
        match output.status.code() {
            Some(code) if expected.contains(&code) => Ok((code, output)),
            _ => Err(format!(
                "`{}`: {}, expected {expected:?}\n{}{}",
                tool::format_command(&command),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            )
            .into()),
        }
    }

    /// Runs `cpreg probe qemu -o PROFILE -- COMMAND…`.
    ///
    /// # Errors
    /// Returns an error if the command fails.
    pub fn probe(&self, command: &[OsString], profile: &Path) -> Result<()> {
        let mut arguments: Vec<&OsStr> = ["probe", "qemu", "-o"].map(OsStr::new).to_vec();
        arguments.push(profile.as_os_str());
        arguments.push(OsStr::new("--"));
        arguments.extend(command.iter().map(OsString::as_os_str));
        let (_, output) = self.run(&arguments, &[0])?;
        check_facts(profile, &String::from_utf8_lossy(&output.stderr))
    }

    /// Runs `cpreg check SOURCE PROFILE --format json [OPTIONS]`.
    ///
    /// # Errors
    /// Returns an error if the command prints no report.
    pub fn check(&self, source: &Path, profile: &Path, options: &[String]) -> Result<CheckOutput> {
        let mut arguments = vec![OsStr::new("check"), source.as_os_str(), profile.as_os_str()];
        arguments.extend(["--format", "json"].map(OsStr::new));
        arguments.extend(options.iter().map(OsStr::new));
        let (_, output) = self.run(&arguments, &[0, 1, 3])?;
        Ok(CheckOutput::new(report::parse(&output.stdout)?))
    }

    /// Rehearses `source` with the QEMU that `command` starts.
    ///
    /// # Errors
    ///
    /// Returns an error if cpreg fails, or prints no report.
    pub fn rehearse(
        &self,
        source: &Path,
        command: &[OsString],
        options: &[String],
    ) -> Result<RehearseOutput> {
        let mut arguments: Vec<&OsStr> = vec!["rehearse".as_ref(), source.as_os_str()];
        arguments.extend(["--format", "json"].map(OsStr::new));
        arguments.extend(options.iter().map(OsStr::new));
        arguments.push("--".as_ref());
        arguments.extend(command.iter().map(OsString::as_os_str));
        let (status, output) = self.run(&arguments, &[0, 1, 3])?;
        Ok(RehearseOutput::new(report::parse(&output.stdout)?, status))
    }

    /// Returns the shell command `cpreg filter PROFILE`, with its report in a file. No path
    /// needs quoting.
    pub fn filter_command(&self, profile: &Path, report: &Path) -> String {
        format!(
            "{} filter {} 2> {}",
            self.program.display(),
            profile.display(),
            report.display()
        )
    }

    /// Runs `cpreg convert SOURCE PROFILE -o OUTPUT [OPTIONS]`. Returns the output of a
    /// refusal as the inner error.
    ///
    /// # Errors
    /// Returns an error if the command neither succeeds nor refuses, or leaves an output although
    /// it refuses.
    pub fn convert(
        &self,
        source: &Path,
        profile: &Path,
        output: &Path,
        options: &[String],
    ) -> Result<std::result::Result<(), String>> {
        let mut arguments = vec![OsStr::new("convert"), source.as_os_str()];
        arguments.push(profile.as_os_str());
        arguments.extend([OsStr::new("-o"), output.as_os_str()]);
        arguments.extend(options.iter().map(OsStr::new));
        let (code, process) = self.run(&arguments, &[0, 1])?;
        match (code, output.exists()) {
            (0, true) => Ok(Ok(())),
            (0, false) => Err("convert succeeded without an output".into()),
            (_, true) => Err("convert refused, and left an output".into()),
            (_, false) => {
                let mut output = String::from_utf8_lossy(&process.stdout).into_owned();
                output += &String::from_utf8_lossy(&process.stderr);
                Ok(Err(output))
            }
        }
    }
}

/// Checks that a profile has the facts that only a guest can read, unless a note says why not.
fn check_facts(profile: &Path, notes: &str) -> Result<()> {
    let profile: serde_json::Value = serde_json::from_slice(&std::fs::read(profile)?)?;
    let hardware = &profile["hardware"];
    let has_facts = hardware["counter_frequency_hz"].is_u64() && hardware["dczid"].is_string();
    let is_expected = ["not start in AArch64 state", "another exception level"];
    if has_facts || is_expected.iter().any(|reason| notes.contains(reason)) {
        return Ok(());
    }
    Err(format!("the profile lacks the facts of the hardware: {hardware}; {notes}").into())
}
