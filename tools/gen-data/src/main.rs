//! Generators of checked-in tables and fixtures; `cargo xtask` starts them.
//!
//! | module | content |
//! |---|---|
//! | [`registers`] | `gen-registers`: the register tables from `data/` |
//! | [`id_fields`] | `gen-id-fields`: KVM's rule for ID registers, from trees of Linux |
//! | [`hosts`] | `gen-history`: the built-in recorded hosts, from a folder of records |
//! | [`compare`] | `compare-hosts`: comparison of recorded hosts with independent tables |
//! | [`fixtures`] | `gen-fixtures`: fixtures from a folder of recordings |
//! | [`archive`] | archives of recordings |
//! | [`paths`] | the repository |
#![forbid(unsafe_code)]
// A generator prints for its user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod archive;
mod compare;
mod error;
mod fixtures;
mod hosts;
mod id_fields;
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
    /// Generate the register tables (crates/cpreg/src/register/tables.rs) from data/
    GenRegisters {
        /// Write nothing, and fail if the tables are not current
        #[arg(long)]
        check: bool,
    },
    /// Generate the table of KVM's rule for ID registers
    /// (crates/cpreg/src/destination/accept/id_fields.rs) from data/id-fields.tsv
    GenIdFields {
        /// Write nothing, and fail if the table is not current
        #[arg(long)]
        check: bool,
        /// Source trees of Linux, to generate data/id-fields.tsv first
        trees: Vec<PathBuf>,
    },
    /// Generate the built-in recorded hosts from output files of `cpreg probe kvm`
    GenHistory {
        /// Write nothing, and fail if the recorded hosts are not current
        #[arg(long)]
        check: bool,
        /// Folder with a file KERNEL__CPU[+MODE].json for each host
        folder: PathBuf,
    },
    /// Compare output files of `cpreg probe kvm` with independent tables of the same hosts
    CompareHosts {
        /// Write the tables as recorded hosts into RECORDS, and compare nothing
        #[arg(long)]
        as_records: bool,
        /// Folder of output files of `cpreg probe kvm`
        records: PathBuf,
        /// Folder of tables
        tables: PathBuf,
        /// Folder of tried values
        probes: Option<PathBuf>,
    },
    /// Generate tests/fixtures/recorded from a folder of recorded streams and outcomes
    GenFixtures {
        /// Folder with streams/, outcomes/ and probes/
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::GenRegisters { check } => registers::run(check).map_err(Into::into),
        Task::GenIdFields { check, trees } => id_fields::run(check, &trees),
        Task::GenHistory { check, folder } => hosts::run(check, &folder),
        Task::CompareHosts {
            as_records,
            records,
            tables,
            probes,
        } => compare::run(as_records, &records, &tables, probes.as_deref()),
        Task::GenFixtures { folder } => fixtures::run(&folder),
    };
    match result {
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
