//! `cargo xtask dist`: the files of a release, in `target/dist`.
//!
//! | module | part |
//! |---|---|
//! | [`program`] | `program`: the static programs, and the library for arm64 |
//! | [`deb`] | `deb`: the Debian packages |
//! | [`rpm`] | `rpm`: the RPM packages |
//! | [`image`] | `image`: the container image |
//! | [`wheel`] | `wheel`: the Python wheels |
//! | [`crates`] | `crates`: the packages of the published crates |
//! | [`source`] | `source`: the sources with those of all dependencies |
//! | [`book`] | `book`: the documents as HTML pages |
//! | [`checksums`] | `SHA256SUMS` of all files |
//!
//! | module | shared content |
//! |---|---|
//! | [`archive`] | archives of folders |
//! | [`architecture`] | the processors, with their names |
//! | [`auditable`] | the list of dependencies inside the programs |
//! | [`installed_files`] | the files that every package installs |
//! | [`tree`] | the files of a package before it is packed |
//! | [`release`] | all parts, made one after the other |
//! | [`check`] | `check`: the packages inspected, installed, used and removed |
//! | [`project`] | the repository, its version and date; commands |
//!
//! `RELEASING.md` lists the steps of a release.
#![forbid(unsafe_code)]
// The tool prints for its user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod architecture;
mod archive;
mod auditable;
mod book;
mod check;
mod checksums;
mod crates;
mod deb;
mod image;
mod installed_files;
mod program;
mod project;
mod release;
mod rpm;
mod source;
mod tree;
mod wheel;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use architecture::Architecture;
use project::{Project, Result};
use release::{Part, Release};

/// Makes the files of a release
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask dist",
    bin_name = "cargo xtask dist",
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    /// Parts to make (default: all)
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Folder to write to, in place of an earlier release (default: target/dist)
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Architecture of programs and packages; repeatable (default: all that this machine builds)
    #[arg(long = "architecture", value_name = "ARCHITECTURE")]
    architectures: Vec<Architecture>,
    /// Program of this machine's architecture to pack, in place of a static build
    #[arg(long, value_name = "FILE", conflicts_with = "architectures")]
    program: Option<PathBuf>,
}

/// Task other than a release.
#[derive(Debug, Subcommand)]
enum Task {
    /// Check the files of the last release: inspect, install, use and remove them
    Check(check::Arguments),
}

fn main() -> ExitCode {
    e2e_framework::exit_code(run(Arguments::parse()))
}

/// Runs the task; returns `true` if no check fails.
fn run(arguments: Arguments) -> Result<bool> {
    let project = Project::read()?;
    if let Some(Task::Check(arguments)) = &arguments.task {
        return check::run(&project, arguments);
    }
    let output = arguments.output.unwrap_or_else(|| project.output());
    let architectures = if arguments.architectures.is_empty() {
        Architecture::buildable()?
    } else {
        arguments.architectures
    };
    let release = Release {
        project: &project,
        parts: arguments.parts,
        architectures,
        program: arguments.program,
        verifies_crates: true,
    };
    for (name, length) in release.make(&output)? {
        println!("{length:>10}  {name}");
    }
    println!("written to {}", output.display());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn parts_and_the_check_exclude_each_other() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["dist"], words].concat());
        assert_eq!(
            parse(&["deb", "rpm"]).unwrap().parts,
            [Part::Deb, Part::Rpm]
        );
        assert!(parse(&["check"]).unwrap().task.is_some());
        assert!(parse(&["deb", "check"]).is_err());
    }
}
