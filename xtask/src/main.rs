//! Task runner: `cargo xtask TASK` starts the programs that carry out tasks.
//!
//! | module | content |
//! |---|---|
//! | [`mod@test`] | `test`: the tests of CI |
//! | [`test_programs`] | all test programs of the workspace, several at a time |
//! | [`bless`] | `bless`, `gen-cli`: regeneration of the files with which tests compare output |
//! | [`count`](mod@count) | counts of passed tests, from the output of programs |
//! | [`cargo`] | commands for cargo, and for the programs of this workspace |
#![forbid(unsafe_code)]
// A task runner prints for its user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod bless;
mod cargo;
mod count;
mod test;
mod test_programs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::cargo::{Profile, Result, run};

/// Tasks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// Another program may carry out a task, and then prints its `--help`.
#[derive(Debug, Subcommand)]
enum Task {
    /// Test: lints, all tests of the crates, a sample of the live tests
    Test {
        /// Also run the long parts: all live tests, loader models, real kernels, fuzzing
        #[arg(long)]
        all: bool,
    },
    /// Check the sources as a whole: format, clippy, circles, spelling, licences and more
    #[command(disable_help_flag = true)]
    Lint(ForwardedArgs),
    /// Run the fuzz targets, with seeds from the fixtures
    #[command(disable_help_flag = true)]
    Fuzz(ForwardedArgs),
    /// Accept the current output of the programs as the expected output
    Bless,
    /// Generate docs/cli.md from the definitions of the command line
    GenCli,
    /// Generate the man pages of cpreg, in target/man or another folder
    GenMan {
        /// Folder to write to
        #[arg(default_value = "target/man")]
        folder: OsString,
    },
    /// Generate the register tables from data/, or check that they are current
    #[command(disable_help_flag = true)]
    GenRegisters(ForwardedArgs),
    /// Generate the table of KVM's rule for ID registers, or check that it is current
    #[command(disable_help_flag = true)]
    GenIdFields(ForwardedArgs),
    /// Generate the built-in recorded hosts, or check that they are current
    #[command(disable_help_flag = true)]
    GenHistory(ForwardedArgs),
    /// Compare recorded hosts with independent tables of the same hosts
    #[command(disable_help_flag = true)]
    CompareHosts(ForwardedArgs),
    /// Generate tests/fixtures/recorded from a folder of recorded streams and outcomes
    #[command(disable_help_flag = true)]
    GenFixtures(ForwardedArgs),
    /// Run the live tests: real QEMUs load what real QEMUs saved
    #[command(disable_help_flag = true)]
    Live(ForwardedArgs),
    /// Use real arm64 kernels with real KVM under an emulating QEMU
    #[command(disable_help_flag = true)]
    Lab(ForwardedArgs),
    /// Move VMs between two generations of libvirt: save images and live (needs root)
    #[command(disable_help_flag = true)]
    Libvirt(ForwardedArgs),
    /// Test the HTML pages of `cpreg matrix` and `cpreg fleet` in a headless Chromium
    #[command(disable_help_flag = true)]
    Page(ForwardedArgs),
    /// Test that real programs obey the labels of `cpreg fleet`, and the manifest for Kubernetes
    #[command(disable_help_flag = true)]
    Fleet(ForwardedArgs),
    /// Check the loader models: load edited streams into each real QEMU
    #[command(disable_help_flag = true)]
    ModelCheck(ForwardedArgs),
    /// Fetch the QEMUs for the live tests into target/lab (CPREG_LAB names another folder)
    Qemus,
    /// Compare the output, the written files and the cost of two builds of cpreg
    #[command(disable_help_flag = true)]
    CompareBinaries(ForwardedArgs),
    /// Make the files of a release, or check them: programs, packages, image, wheels, sources
    #[command(disable_help_flag = true)]
    Dist(ForwardedArgs),
    /// Measure the cost of the command, in comparison with cat, cp and socat
    #[command(disable_help_flag = true)]
    Bench(ForwardedArgs),
}

/// Arguments for another program.
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
        Task::GenMan { folder } => {
            let arguments = ["__man-pages".into(), folder];
            run("cpreg-cli", "cpreg", Profile::Dev, &arguments)
        }
        Task::GenRegisters(rest) => gen_data("gen-registers", rest),
        Task::GenIdFields(rest) => gen_data("gen-id-fields", rest),
        Task::GenHistory(rest) => gen_data("gen-history", rest),
        Task::CompareHosts(rest) => gen_data("compare-hosts", rest),
        Task::GenFixtures(rest) => gen_data("gen-fixtures", rest),
        Task::Live(rest) => run("e2e-live", "e2e-live", Profile::Dev, &rest.arguments),
        Task::Libvirt(rest) => run("e2e-libvirt", "e2e-libvirt", Profile::Dev, &rest.arguments),
        Task::Lab(rest) => run("e2e-lab", "e2e-lab", Profile::Dev, &rest.arguments),
        Task::Page(rest) => run("e2e-page", "e2e-page", Profile::Dev, &rest.arguments),
        Task::Fleet(rest) => run("e2e-fleet", "e2e-fleet", Profile::Dev, &rest.arguments),
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
        Task::Dist(rest) => run("dist", "dist", Profile::Dev, &rest.arguments),
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
