//! Task runner: `cargo xtask TASK`. It starts what lives elsewhere, and does nothing itself.
//!
//! | module | what lives there |
//! |---|---|
//! | [`mod@test`] | `test`: what CI runs |
//! | [`bless`] | `bless`, `gen-cli`: files that tests compare, made anew |
//! | [`count`](mod@count) | how many tests passed, by what programs print |
//! | [`cargo`] | starting cargo, and the programs of this workspace |
#![forbid(unsafe_code)]
// A task runner talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod bless;
mod cargo;
mod count;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::cargo::{Profile, Result, run};

/// Everything that is done to this repository is a task here.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// `--help` of a task that another program carries out is that program's.
#[derive(Debug, Subcommand)]
enum Task {
    /// Test: lints, all tests of the crates, a sample of the live tests
    Test {
        /// Run the long parts as well: all live tests, loader models, real kernels, fuzzing
        #[arg(long)]
        all: bool,
    },
    /// Check what must hold for the sources as a whole: format, clippy, circles, spelling, licences and more
    #[command(disable_help_flag = true)]
    Lint(ForwardedArgs),
    /// Run the fuzz targets, from seeds made of the fixtures
    #[command(disable_help_flag = true)]
    Fuzz(ForwardedArgs),
    /// Take what the programs say now for what they should say
    Bless,
    /// Make docs/cli.md from the definitions of the command line
    GenCli,
    /// Make the register tables from data/, or see that they are current
    #[command(disable_help_flag = true)]
    GenRegisters(ForwardedArgs),
    /// Make the recorded hosts that cpreg comes with, or see that they are current
    #[command(disable_help_flag = true)]
    GenHistory(ForwardedArgs),
    /// Compare recorded hosts with independent tables of the same hosts
    #[command(disable_help_flag = true)]
    CompareHosts(ForwardedArgs),
    /// Make tests/fixtures/recorded out of a folder of recorded streams and outcomes
    #[command(disable_help_flag = true)]
    GenFixtures(ForwardedArgs),
    /// Run the live tests: real QEMUs load what real QEMUs saved
    #[command(disable_help_flag = true)]
    Live(ForwardedArgs),
    /// Use real arm64 kernels with real KVM under an emulating QEMU
    #[command(disable_help_flag = true)]
    Lab(ForwardedArgs),
    /// Check the loader models: edited streams into each real QEMU
    #[command(disable_help_flag = true)]
    ModelCheck(ForwardedArgs),
    /// Fetch the QEMUs for the live tests into target/lab (CPREG_LAB names another folder)
    Qemus,
    /// Compare what two builds of cpreg print, write and cost
    #[command(disable_help_flag = true)]
    CompareBinaries(ForwardedArgs),
    /// Measure what the command costs, against cat, cp and socat
    #[command(disable_help_flag = true)]
    Bench(ForwardedArgs),
}

/// What another program is given.
#[derive(Debug, Args)]
struct ForwardedArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    run_task(Arguments::parse().task).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run_task(task: Task) -> Result<ExitCode> {
    let gen_data = |task: &str, rest: ForwardedArgs| {
        let arguments = [vec![task.into()], rest.arguments].concat();
        run("gen-data", "gen-data", Profile::Dev, &arguments)
    };
    match task {
        Task::Test { all } => Ok(test::run(all)),
        Task::Lint(rest) => run("lint", "lint", Profile::Dev, &rest.arguments),
        Task::Fuzz(rest) => run("fuzz", "fuzz", Profile::Dev, &rest.arguments),
        Task::Bless => bless::bless().map(|()| ExitCode::SUCCESS),
        Task::GenCli => bless::gen_cli().map(|()| ExitCode::SUCCESS),
        Task::GenRegisters(rest) => gen_data("gen-registers", rest),
        Task::GenHistory(rest) => gen_data("gen-history", rest),
        Task::CompareHosts(rest) => gen_data("compare-hosts", rest),
        Task::GenFixtures(rest) => gen_data("gen-fixtures", rest),
        Task::Live(rest) => run("e2e-live", "e2e-live", Profile::Dev, &rest.arguments),
        Task::Lab(rest) => run("e2e-lab", "e2e-lab", Profile::Dev, &rest.arguments),
        Task::ModelCheck(rest) => run(
            "e2e-model-check",
            "e2e-model-check",
            Profile::Dev,
            &rest.arguments,
        ),
        Task::Qemus => run(
            "e2e-framework",
            "e2e-fetch",
            Profile::Dev,
            &["qemus".into()],
        ),
        Task::CompareBinaries(rest) => run(
            "compare-binaries",
            "compare-binaries",
            Profile::Release,
            &rest.arguments,
        ),
        Task::Bench(rest) => run("benches", "benches", Profile::Release, &rest.arguments),
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
