//! `cargo xtask dist`: the files of a release, in `target/dist`.
//!
//! | module | part |
//! |---|---|
//! | [`program`] | `program`: the static command for this machine's architecture |
//! | [`deb`] | `deb`: the Debian package of the command |
//! | [`crates`] | `crates`: the packages of the published crates |
//! | [`source`] | `source`: the sources with those of all dependencies |
//! | [`checksums`] | `SHA256SUMS` of all files |
//! | [`project`] | the repository, its version and date; commands |
//!
//! `RELEASING.md` lists the steps of a release.
#![forbid(unsafe_code)]
// The tool prints for its user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod checksums;
mod crates;
mod deb;
mod program;
mod project;
mod source;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use project::{Project, Result};

/// Makes the files of a release
#[derive(Debug, Parser)]
#[command(name = "cargo xtask dist", bin_name = "cargo xtask dist")]
struct Arguments {
    /// Parts to make (default: all)
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Folder to write to (default: target/dist)
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Program to pack, in place of a static build
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Part of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The static program
    Program,
    /// The Debian package
    Deb,
    /// The packages of the published crates
    Crates,
    /// The source archive with all dependencies
    Source,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let project = Project::read()?;
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| project.target.join("dist"));
    fs::create_dir_all(&output)?;
    let is_chosen = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if is_chosen(Part::Program) || is_chosen(Part::Deb) {
        let program = match &arguments.program {
            Some(program) => program.clone(),
            None => program::build(&project)?,
        };
        if is_chosen(Part::Program) {
            program::copy(&project, &program, &output)?;
        }
        if is_chosen(Part::Deb) {
            deb::make(&project, &program, &output)?;
        }
    }
    if is_chosen(Part::Crates) {
        crates::pack(&project, &output)?;
    }
    if is_chosen(Part::Source) {
        source::pack(&project, &output)?;
    }
    for (name, length) in checksums::write(&output)? {
        println!("{length:>10}  {name}");
    }
    println!("written to {}", output.display());
    Ok(())
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
