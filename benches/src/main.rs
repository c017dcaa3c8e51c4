//! `cargo xtask bench`: what the command costs, as ratios to what everybody has: `cat`, `cp`, `sync`, `socat`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`inputs`] | the inputs; [`cpreg_testdata::large_stream`] makes large ones of them |
//! | [`measure`] | one command: time, peak memory, bytes read |
//! | [`commands`] | whole commands, beside `cat` and `cp` |
//! | [`filter`] | a stream from pipe to pipe, beside `cat` |
//! | [`relay`] | a migration from socket to socket, beside `socat` |
//! | [`plan`] | a plan, in this process |
//! | [`rehearsal`] | a rehearsal, beside QEMU's own start |
//! | [`table`] | the table of figures |
//!
//! Nothing here passes or fails, and CI does not run it: a machine that is busy would decide. What must hold on every
//! machine (bytes read, memory) is tested elsewhere, by counting. docs/performance.md has figures.
#![forbid(unsafe_code)]
// A benchmark talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod filter;
mod inputs;
mod measure;
mod plan;
mod rehearsal;
mod relay;
mod table;

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use e2e_framework::paths::{artifacts_dir, repository};
use e2e_framework::{Result, tool};

use self::commands::Benchmark;
use self::inputs::{DESTINATION, SOURCE, unpack_stream};

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
    Costs(CommandArgs),
    #[command(hide = true)]
    RunPiped(CommandArgs),
    #[command(hide = true)]
    RunOnce {
        folder: String,
        #[command(flatten)]
        rest: CommandArgs,
    },
    #[command(hide = true)]
    Start(CommandArgs),
}

#[derive(Debug, clap::Args)]
struct CommandArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl CommandArgs {
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
        None => with_benchmark(commands::measure_all),
        Some(Subject::Plans) => {
            table::print_header();
            commands::plans(&unpack_stream(SOURCE)?, &unpack_stream(DESTINATION)?)
        }
        Some(Subject::Filter) => with_benchmark(|bench| {
            table::print_header();
            bench.measure_filter()
        }),
        Some(Subject::Relay) => with_benchmark(|bench| {
            relay::run(
                &bench.cpreg,
                bench.folder,
                &bench.source,
                &bench.destination,
            )
        }),
        Some(Subject::Costs(rest)) => relay::costs(&rest.words()),
        Some(Subject::RunPiped(rest)) => filter::run_piped(&rest.words()),
        Some(Subject::RunOnce { folder, rest }) => measure::run_once(folder, &rest.words()),
        Some(Subject::Start(rest)) => rehearsal::start(&rest.words()),
    }
}

/// Builds the command as it is shipped, beside this program, and has it measured.
fn with_benchmark(run: impl FnOnce(&Benchmark<'_>) -> Result<()>) -> Result<()> {
    let build = ["build", "--release", "-p", "cpreg-cli"];
    tool::run(Command::new("cargo").args(build).current_dir(repository()))?;
    let cpreg = env::current_exe()?.with_file_name("cpreg");
    fs::create_dir_all(artifacts_dir())?;
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(artifacts_dir())?;
    run(&Benchmark {
        folder: folder.path(),
        cpreg: cpreg.display().to_string(),
        source: unpack_stream(SOURCE)?,
        destination: unpack_stream(DESTINATION)?,
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
