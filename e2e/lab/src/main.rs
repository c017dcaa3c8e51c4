//! The lab: real Debian arm64 kernels with real KVM, under an emulating QEMU. `e2e/lab/README.md`
//! is the manual of `cargo xtask lab`.
//!
//! | module | content |
//! |---|---|
//! | [`record`] | `lab record`: `cpreg probe kvm` on many hosts |
//! | [`run`](mod@run) | `lab run`: a command of the workspace in one host |
//! | [`matrix`] | `lab matrix`: guests that move between kernels |
//! | [`baseline`] | `lab baseline`: guests that are born movable |
//! | [`load`] | `lab load`: saved states into QEMUs |
//! | [`migrate`] | `lab migrate`: the example VMM's guest between each two hosts |
//! | [`migrate_table`] | files with the outcomes of those moves |
//! | [`host_pair`] | two connected hosts, booted together |
//! | [`trips`] | moves of that guest between two connected hosts |
//! | [`relay`] | `lab relay`, `lab live-run`: migrations between the QEMUs of two hosts |
//! | [`evaluate`] | outcome of a move |
//! | [`busy`] | `lab busy-guest`: a guest with running processes, moved among hosts |
//! | [`libvirt`] | `lab libvirt`: a domain of libvirt whose QEMU runs with cpreg |
//! | [`compare`] | `lab compare`: a local kernel against recorded ones |
//! | [`fields`] | `lab fields`: predictions about ID registers against KVM |
//! | [`mod@test`] | `lab test`: the tests that CI runs |
//! | [`lints`] | `lab clippy`: the lints of code that only an arm64 compiler sees |
//! | [`interposed`] | QEMUs that `cpreg run` starts |
//! | [`fingerprint`] | fingerprints of contents |
//! | [`options`] | arguments shared by several commands |
//!
//! The emulated hosts themselves live in `e2e_framework::lab`.
#![forbid(unsafe_code)]
// The lab prints for the user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod baseline;
mod busy;
mod compare;
mod evaluate;
mod fields;
mod fingerprint;
mod host_pair;
mod interposed;
mod libvirt;
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

use self::relay::MigrationKind;
use clap::{Parser, Subcommand};
use e2e_framework::Result;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels;

/// Lab with real arm64 kernels and real KVM, under an emulating QEMU. The manual is
/// e2e/lab/README.md
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
    /// Move a guest of QEMU under KVM, live over the network, through `cpreg relay`
    Relay(relay::LiveArgs),
    /// Move a guest of QEMU under KVM to a QEMU that `cpreg run` starts
    LiveRun(relay::LiveArgs),
    Libvirt(libvirt::LibvirtArgs),
    BusyGuest(busy::BusyArgs),
    Compare(compare::CompareArgs),
    Fields(fields::FieldsArgs),
    Matrix(matrix::MatrixArgs),
    Baseline(baseline::BaselineArgs),
    /// Run the tests of CI: three kernels, two CPU models
    Test,
    /// Lint the code that only an arm64 compiler sees
    Clippy,
    /// Fetch the inputs of `test`, and build nothing
    #[command(hide = true)]
    Fetch,
}

fn main() -> ExitCode {
    e2e_framework::exit_code(run(&Arguments::parse().command).map(|()| true))
}

fn run(command: &Command) -> Result<()> {
    let lab = Lab::open()?;
    match command {
        Command::Kernels => lab.with_make_lock(|| kernels::run(&lab.folder)),
        Command::Record(arguments) => record::run(&lab, arguments),
        Command::Run(arguments) => run::run(&lab, arguments),
        Command::Load(arguments) => load::run(&lab, arguments),
        Command::Migrate(arguments) => migrate::run(&lab, arguments),
        Command::Relay(arguments) => relay::run(&lab, arguments, &MigrationKind::RELAY),
        Command::Libvirt(arguments) => libvirt::run(&lab, arguments),
        Command::BusyGuest(arguments) => busy::run(&lab, arguments),
        Command::LiveRun(arguments) => relay::run(&lab, arguments, &MigrationKind::RUN),
        Command::Compare(arguments) => compare::run(&lab, arguments),
        Command::Fields(arguments) => fields::run(&lab, arguments),
        Command::Matrix(arguments) => matrix::run(&lab, arguments),
        Command::Baseline(arguments) => baseline::run(&lab, arguments),
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
