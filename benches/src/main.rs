//! `cargo xtask bench`: costs of cpreg, as ratios to those of standard tools: `cat`, `cp`, `sync`,
//! `socat`, `qemu-img`.
//!
//! | module | contents |
//! |---|---|
//! | [`inputs`] | the inputs; [`cpreg_testdata::large_stream`] makes large ones from them |
//! | [`measure`] | time, peak memory and bytes read of one command |
//! | [`commands`] | whole commands, compared with `cat` and `cp` |
//! | [`filter`] | a stream from pipe to pipe, compared with `cat` |
//! | [`relay`] | a migration from socket to socket, compared with `socat` |
//! | [`relay_tls`] | migrations over TLS between real QEMUs, compared with QEMU's own TLS |
//! | [`plan`] | a plan, in this process |
//! | [`register_calls`] | a VMM's calls with `libcpreg_interpose.so`, compared with those without |
//! | [`rehearsal`] | a rehearsal, compared with QEMU's own start |
//! | [`saved_vms`] | saved VMs in the files of other programs |
//! | [`matrix`] | many VMs at every recorded host |
//! | [`fleet`] | many VMs on many nodes |
//! | [`counts`] | counts that do not depend on the load, compared with a table |
//! | [`table`] | the table of results |
//!
//! Measurements of time neither pass nor fail, and CI does not run them, because their results
//! depend on the load of the machine. Tests check what is the same on every machine: bytes read and
//! memory. `cargo xtask bench --check` compares counts. docs/performance.md has results.
#![forbid(unsafe_code)]
// A benchmark prints its results for its user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod counts;
mod filter;
mod fleet;
mod inputs;
mod matrix;
mod measure;
mod plan;
mod register_calls;
mod rehearsal;
mod relay;
mod relay_tls;
mod saved_vms;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use cpreg_testdata::large_stream::Size;
use e2e_framework::paths::{artifacts_dir, repository};
use e2e_framework::{Result, tool};

use self::commands::Benchmark;
use self::inputs::{DESTINATION, MIB, RECORDED_SIZE, SOURCE, unpack_stream};

/// Benchmarks of the command against cat, cp and socat. Writes some GiB below target/lab, and
/// removes them
#[derive(Debug, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench", max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Compare counts of instructions and system calls with benches/counts.tsv (needs valgrind and
    /// strace)
    #[arg(long)]
    check: bool,
    /// Write the counts to benches/counts.tsv instead
    #[arg(long, requires = "check")]
    update: bool,
    #[command(subcommand)]
    subject: Option<Subject>,
}

/// Subject of a benchmark. The hidden ones are helpers: the program starts itself with them, so
/// that a process runs only one command.
#[derive(Debug, Subcommand)]
enum Subject {
    /// Measure only a plan, in this process
    Plans,
    /// Measure only saved VMs in the files of other programs
    SavedVms,
    /// Measure only `cpreg matrix`, with 100, 1000 and 10000 VMs at every recorded host
    Matrix {
        /// Numbers of VMs
        #[arg(default_values_t = matrix::VM_COUNTS)]
        counts: Vec<usize>,
    },
    /// Measure only `cpreg fleet check`, with 1000, 10000 and 100000 VMs on 10000 nodes. The files
    /// of 100000 VMs take 8 GiB
    Fleet {
        /// Numbers of VMs
        #[arg(default_values_t = fleet::VM_COUNTS)]
        counts: Vec<usize>,
    },
    /// Measure only a filter
    Filter,
    /// Measure only a relay
    Relay,
    /// Measure only the TLS of a relay, between real QEMUs
    RelayTls,
    /// Write the stream and the destination of a measurement with many vCPUs, for a profiler
    Inputs {
        /// Existing folder for the files `vm` and `destination`
        folder: PathBuf,
        /// Number of vCPUs
        #[arg(long, default_value_t = 256)]
        vcpus: u32,
        /// MiB of RAM in the stream
        #[arg(long, default_value_t = 64)]
        ram: u64,
    },
    /// Measure only the calls of a VMM that `cpreg run` started
    RegisterCalls,
    #[command(hide = true)]
    RunMeasured(CommandArgs),
    #[command(hide = true)]
    RunPiped(CommandArgs),
    #[command(hide = true)]
    RunOnce {
        folder: String,
        #[command(flatten)]
        rest: CommandArgs,
    },
    #[command(hide = true)]
    StartQemu(CommandArgs),
    #[command(hide = true)]
    MigrateOnce {
        folder: PathBuf,
        kind: relay_tls::Kind,
        channels: u8,
    },
}

#[derive(Debug, clap::Args)]
struct CommandArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl CommandArgs {
    fn words(&self) -> Vec<&str> {
        self.command.iter().map(String::as_str).collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.check {
        let table = if arguments.update {
            counts::Table::Update
        } else {
            counts::Table::Compare
        };
        with_benchmark(|benchmark| counts::run(benchmark, table))
    } else {
        run(arguments.subject.as_ref()).map(|()| true)
    };
    e2e_framework::exit_code(result)
}

/// Measures everything, or one subject.
///
/// # Errors
/// Returns an error if something cannot be built, made or run; never because of a result.
fn run(subject: Option<&Subject>) -> Result<()> {
    match subject {
        None => with_benchmark(|benchmark| {
            commands::measure_all(benchmark)?;
            saved_vms::run(benchmark)
        }),
        Some(Subject::Plans) => {
            table::print_header();
            commands::measure_plans(&unpack_stream(SOURCE)?, &unpack_stream(DESTINATION)?)
        }
        Some(Subject::SavedVms) => with_benchmark(|benchmark| {
            table::print_header();
            saved_vms::run(benchmark)
        }),
        Some(Subject::Matrix { counts }) => {
            with_benchmark(|benchmark| matrix::run(benchmark, counts))
        }
        Some(Subject::Fleet { counts }) => {
            with_benchmark(|benchmark| fleet::run(benchmark, counts))
        }
        Some(Subject::Filter) => with_benchmark(|benchmark| {
            table::print_header();
            benchmark.measure_filter()
        }),
        Some(Subject::Relay) => with_benchmark(|benchmark| {
            relay::run(
                &benchmark.cpreg,
                benchmark.folder,
                &benchmark.source,
                &benchmark.destination,
            )
        }),
        Some(Subject::Inputs { folder, vcpus, ram }) => {
            let sent_ram = ram * MIB;
            let size = Size {
                ram: sent_ram.max(RECORDED_SIZE.ram),
                sent_ram,
                vcpus: *vcpus,
            };
            inputs::write_pair(folder, size)
        }
        Some(Subject::RelayTls) => with_folder(relay_tls::run),
        Some(Subject::RegisterCalls) => register_calls::run(),
        Some(Subject::RunMeasured(rest)) => relay::run_measured(&rest.words()),
        Some(Subject::RunPiped(rest)) => filter::run_piped(&rest.words()),
        Some(Subject::RunOnce { folder, rest }) => measure::run_once(folder, &rest.words()),
        Some(Subject::StartQemu(rest)) => rehearsal::start_qemu(&rest.words()),
        Some(Subject::MigrateOnce {
            folder,
            kind,
            channels,
        }) => relay_tls::migrate_once(folder, *kind, *channels),
    }
}

/// Builds the command in release mode next to this program, and measures it.
fn with_benchmark<T>(run: impl FnOnce(&Benchmark<'_>) -> Result<T>) -> Result<T> {
    let build = ["build", "--release", "-p", "cpreg-cli"];
    tool::run(Command::new("cargo").args(build).current_dir(repository()))?;
    let cpreg = env::current_exe()?.with_file_name("cpreg");
    with_folder(|folder| {
        run(&Benchmark {
            folder,
            cpreg: cpreg.display().to_string(),
            source: unpack_stream(SOURCE)?,
            destination: unpack_stream(DESTINATION)?,
        })
    })
}

/// Runs a benchmark with an empty folder, which is removed afterwards.
fn with_folder<T>(run: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    fs::create_dir_all(artifacts_dir())?;
    let folder = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(artifacts_dir())?;
    run(folder.path())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
