//! `cargo xtask fuzz`: writes seeds, builds the fuzz targets of `fuzz/`, and runs them.
//!
//! | module | task |
//! |---|---|
//! | [`seeds`] | seeds from the recorded fixtures |
//! | [`run`] | builds and runs |
#![forbid(unsafe_code)]
// The results are printed for the user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod run;
mod seeds;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use wheels::Result;

use run::Folders;

/// Runs the fuzz targets of fuzz/, with seeds from the fixtures.
#[derive(Debug, Parser)]
struct Arguments {
    /// Target to run (default: all)
    target: Option<String>,
    /// Time for each target, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u32,
    /// Seed of the mutations; 0 takes another one in each run
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Run the target on one input, such as one of fuzz/artifacts
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Write the seeds to fuzz/corpus and exit
    #[arg(long, conflicts_with = "input")]
    seeds: bool,
}

fn main() -> ExitCode {
    match execute(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: &Arguments) -> Result<()> {
    let folders = Folders::find()?;
    let mut names = folders.targets()?;
    let target = arguments.target.as_deref();
    if let Some(target) = target {
        if !names.iter().any(|name| name == target) {
            return Err(format!(
                "unknown target {target}; expected one of {}",
                names.join(", ")
            )
            .into());
        }
        names.retain(|name| name == target);
    }
    if let (Some(target), Some(input)) = (target, &arguments.input) {
        run::build(&folders, Some(target))?;
        return run::run_input(&folders, target, input);
    }
    seeds::make(&folders, &names)?;
    if arguments.seeds {
        return Ok(());
    }
    run::build(&folders, target)?;
    let findings = run::run_targets(&folders, &names, arguments.time, arguments.seed);
    for finding in &findings {
        eprintln!("fuzz {finding}");
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(format!("fuzz targets with findings: {}", findings.len()).into())
    }
}
