//! `cargo xtask lint`: checks of the sources as a whole.
//!
//! | module | check |
//! |---|---|
//! | [`comments`] | width of comments, beginning of doc comments |
//! | [`crates`] | allowed dependencies of each crate |
//! | [`cycles`] | no circle of imports between files of a crate |
//! | [`format`](mod@format) | rustfmt formats every file |
//! | [`length`] | no file of more than 600 lines |
//! | [`names`] | names that say what a thing is |
//! | [`packages`] | crates that can be published |
//! | [`tools`] | rustfmt, clippy, rustdoc, spelling, licences and sources |
//! | [`words`] | phrases that no message and no document must have |
//!
//! All checks run, even after a failure. [`exceptions`] lists excepted files.
#![forbid(unsafe_code)]
// The findings are printed for the user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod comments;
mod crates;
mod cycles;
mod exceptions;
mod format;
mod length;
mod names;
mod packages;
mod result;
mod tools;
mod words;
mod workspace;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use result::{Finding, Result};
use workspace::Workspace;

/// A check with its name.
type Check = (&'static str, fn(&Workspace) -> Result<Vec<Finding>>);

const CHECKS: [Check; 13] = [
    ("format", tools::format),
    ("unformatted", format::check),
    ("crates", |workspace| Ok(crates::check(workspace))),
    ("cycles", cycles::check),
    ("length", length::check),
    ("comments", comments::check),
    ("names", names::check),
    ("words", words::check),
    ("spelling", tools::spelling),
    ("deny", tools::deny),
    ("packages", packages::check),
    ("clippy", tools::clippy),
    ("links", tools::links),
];

/// Checks the sources of this workspace.
#[derive(Debug, Parser)]
struct Arguments {
    /// Checks to run (default: all)
    #[arg(value_name = "CHECK", value_parser = PossibleValuesParser::new(CHECKS.map(|(name, _)| name)))]
    checks: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.checks) {
        Ok(failed) if failed.is_empty() => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("error: lint failed: {}", failed.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs checks and returns the names of those that failed.
fn run(checks: &[String]) -> Result<Vec<&'static str>> {
    let workspace = Workspace::read()?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if !checks.is_empty() && !checks.iter().any(|chosen| chosen == name) {
            continue;
        }
        let start = Instant::now();
        let findings = check(&workspace).unwrap_or_else(|error| vec![error.to_string()]);
        if findings.is_empty() {
            println!("lint {name}: fine ({:.1?})", start.elapsed());
            continue;
        }
        for finding in findings {
            eprintln!("lint {name}: {finding}");
        }
        failed.push(name);
    }
    Ok(failed)
}
