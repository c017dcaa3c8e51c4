//! Generators of checked-in tables and fixtures; `cargo xtask` starts them.
//!
//! | module | what lives there |
//! |---|---|
//! | [`registers`] | `gen-registers`: the register tables from `data/` |
//! | [`hosts`] | `gen-history`: the recorded hosts that cpreg comes with, out of a folder of them |
//! | [`compare`] | `compare-hosts`: recorded hosts against independent tables |
//! | [`fixtures`] | `gen-fixtures`: fixtures out of a folder of recordings |
//! | [`archive`] | archives of recordings |
//! | [`paths`] | the repository |
#![forbid(unsafe_code)]
// A generator talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod archive;
mod compare;
mod error;
mod fixtures;
mod hosts;
mod paths;
mod registers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Generators of checked-in tables and fixtures.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Make the register tables (crates/cpreg/src/register/tables.rs) from data/
    GenRegisters {
        /// Write nothing, and fail if they are not current
        #[arg(long)]
        check: bool,
    },
    /// Make the recorded hosts that cpreg comes with out of what `cpreg probe kvm` wrote
    GenHistory {
        /// Write nothing, and fail if they are not current
        #[arg(long)]
        check: bool,
        /// A folder with a file KERNEL__CPU[+MODE].json for each host
        folder: PathBuf,
    },
    /// Compare what `cpreg probe kvm` wrote with independent tables of the same hosts
    CompareHosts {
        /// Write the tables as recorded hosts into RECORDS, and compare nothing
        #[arg(long)]
        as_records: bool,
        /// A folder of files that `cpreg probe kvm` wrote
        records: PathBuf,
        /// A folder of tables
        tables: PathBuf,
        /// A folder of values that were tried
        probes: Option<PathBuf>,
    },
    /// Make tests/fixtures/recorded out of a folder of recorded streams and outcomes
    GenFixtures {
        /// A folder with streams/, outcomes/ and probes/
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::GenRegisters { check } => registers::run(check).map_err(Into::into),
        Task::GenHistory { check, folder } => hosts::run(check, &folder),
        Task::CompareHosts {
            as_records,
            records,
            tables,
            probes,
        } => compare::run(as_records, &records, &tables, probes.as_deref()),
        Task::GenFixtures { folder } => fixtures::run(&folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
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
