//! The lab: real Debian arm64 kernels with real KVM, under an emulating QEMU. `cargo xtask lab`; `e2e/lab/README.md` is its manual.
//!
//! | module | what lives there |
//! |---|---|
//! | [`record`] | `lab record`: `cpreg probe kvm` on many hosts |
//! | [`run`](mod@run) | `lab run`: a command of the workspace in one host |
//! | [`matrix`] | `lab matrix`: what moves between which kernels |
//! | [`load`] | `lab load`: saved states into QEMUs |
//! | [`migrate`] | `lab migrate`: the example VMM's guest between each two hosts |
//! | [`migrate_table`] | what came of that, as kept |
//! | [`host_pair`] | two hosts in one boot of both, connected |
//! | [`trips`] | the moves of that guest between them |
//! | [`relay`] | `lab relay`: live migrations between the QEMUs of two hosts, with `cpreg relay` between them |
//! | [`evaluate`] | how a move went |
//! | [`compare`] | `lab compare`: a kernel of one's own against recorded ones |
//! | [`mod@test`] | `lab test`: what CI runs |
//! | [`lints`] | `lab clippy`: the lints of code that only an arm64 compiler sees |
//! | [`options`] | what several commands take |
//!
//! The emulated hosts themselves are in `e2e_framework::lab`.
#![forbid(unsafe_code)]
// The lab talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod compare;
mod evaluate;
mod host_pair;
mod lints;
mod load;
mod matrix;
mod migrate;
mod migrate_table;
mod options;
mod record;
mod relay;
mod run;
mod test;
mod trips;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e_framework::Result;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels;

/// The lab: real arm64 kernels with real KVM, under an emulating QEMU. e2e/lab/README.md is the manual
#[derive(Debug, Parser)]
#[command(name = "lab", bin_name = "cargo xtask lab", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch Debian's arm64 kernels, and list them
    Kernels,
    Record(record::RecordArgs),
    Run(run::RunArgs),
    Load(load::LoadArgs),
    Migrate(migrate::MigrateArgs),
    Relay(relay::RelayArgs),
    Compare(compare::CompareArgs),
    Matrix(matrix::MatrixArgs),
    /// Run what CI runs: three kernels, two CPU models
    Test,
    /// Lint the code that only an arm64 compiler sees
    Clippy,
    /// Fetch what `test` needs, and build nothing
    #[command(hide = true)]
    Fetch,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let lab = Lab::open()?;
    match command {
        Command::Kernels => lab.with_make_lock(|| kernels::run(&lab.folder)),
        Command::Record(arguments) => record::run(&lab, arguments),
        Command::Run(arguments) => run::run(&lab, arguments),
        Command::Load(arguments) => load::run(&lab, arguments),
        Command::Migrate(arguments) => migrate::run(&lab, arguments),
        Command::Relay(arguments) => relay::run(&lab, arguments),
        Command::Compare(arguments) => compare::run(&lab, arguments),
        Command::Matrix(arguments) => matrix::run(&lab, arguments),
        Command::Test => lab.with_lock("test.lock", || test::run(&lab)),
        Command::Clippy => lints::run(&lab),
        Command::Fetch => test::fetch(&lab),
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
