//! `cargo xtask bench`: what the command costs, as ratios to what everybody has: `cat`, `cp`, `sync`, `socat`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`inputs`] | the inputs; [`cpreg_testdata::grown`] makes large ones of them |
//! | [`measure`] | one command: time, peak memory, bytes read |
//! | [`commands`] | whole commands, beside `cat` and `cp` |
//! | [`passing`] | a stream from pipe to pipe, beside `cat` |
//! | [`relaying`] | a migration from socket to socket, beside `socat` |
//! | [`planning`] | a plan, in this process |
//! | [`rehearsal`] | a rehearsal, beside QEMU's own start |
//! | [`table`] | the table of figures |
//!
//! Nothing here passes or fails, and CI does not run it: a machine that is busy would decide. What must hold on every
//! machine (bytes read, memory) is tested elsewhere, by counting. docs/performance.md has figures.
#![forbid(unsafe_code)]
// A benchmark talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod inputs;
mod measure;
mod passing;
mod planning;
mod rehearsal;
mod relaying;
mod table;

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use e2e_framework::paths::{artifacts_dir, repository};
use e2e_framework::{Result, tool};

use self::commands::Bench;
use self::inputs::{DESTINATION, SOURCE, unpacked};

/// Benchmarks: what the command costs, against cat, cp and socat. Writes some GiB below target/lab, and removes them
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    subject: Option<Subject>,
}

/// Of what the costs are measured. The hidden ones are for this program itself: a process that runs one command only.
#[derive(Debug, Subcommand)]
enum Subject {
    /// Only what a plan costs, in this process
    Plans,
    /// Only what a filter costs
    Filter,
    /// Only what a relay costs
    Relay,
    #[command(hide = true)]
    Costs(Rest),
    #[command(hide = true)]
    Piped(Rest),
    #[command(hide = true)]
    Once {
        folder: String,
        #[command(flatten)]
        rest: Rest,
    },
    #[command(hide = true)]
    Start(Rest),
}

#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Rest {
    fn words(&self) -> Vec<&str> {
        self.command.iter().map(String::as_str).collect()
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().subject.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures all of it, or one subject.
///
/// # Errors
/// If something cannot be built, made or run; never because of a figure.
fn run(subject: Option<&Subject>) -> Result<()> {
    match subject {
        None => with_bench(commands::all),
        Some(Subject::Plans) => {
            table::head();
            commands::plans(&unpacked(SOURCE)?, &unpacked(DESTINATION)?)
        }
        Some(Subject::Filter) => with_bench(|bench| {
            table::head();
            bench.passing()
        }),
        Some(Subject::Relay) => with_bench(|bench| {
            relaying::run(
                &bench.cpreg,
                bench.folder,
                &bench.source,
                &bench.destination,
            )
        }),
        Some(Subject::Costs(rest)) => relaying::costs(&rest.words()),
        Some(Subject::Piped(rest)) => passing::piped(&rest.words()),
        Some(Subject::Once { folder, rest }) => measure::once(folder, &rest.words()),
        Some(Subject::Start(rest)) => rehearsal::start(&rest.words()),
    }
}

/// Builds the command as it is shipped, beside this program, and has it measured.
fn with_bench(run: impl FnOnce(&Bench<'_>) -> Result<()>) -> Result<()> {
    let build = ["build", "--release", "-p", "cpreg-cli"];
    tool::run(Command::new("cargo").args(build).current_dir(repository()))?;
    let cpreg = env::current_exe()?.with_file_name("cpreg");
    fs::create_dir_all(artifacts_dir())?;
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(artifacts_dir())?;
    run(&Bench {
        folder: folder.path(),
        cpreg: cpreg.display().to_string(),
        source: unpacked(SOURCE)?,
        destination: unpacked(DESTINATION)?,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
