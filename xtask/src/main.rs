//! Task runner: `cargo xtask TASK`. Everything that is done to this repository is a task here.
//!
//! | module | what lives there |
//! |---|---|
//! | [`mod@test`] | `test` (what CI runs), `lint`, `bless`, `gen-cli` |
//! | [`gen_registers`] | `gen-registers`: the register tables from `data/` |
//! | [`gen_history`] | `gen-history`: the recorded hosts that cpreg comes with, out of a folder of them |
//! | [`compare_hosts`] | `compare-hosts`: recorded hosts against independent tables |
//! | [`live`] | `live`: real QEMUs load what real QEMUs saved |
//! | [`debian`] | Debian's packages: fetched and unpacked |
//! | [`qemus`] | `qemus`: fetches the QEMUs for that |
//! | [`guest`] | assembles the guests for that |
//! | [`mod@lab`] | `lab`: real arm64 kernels with real KVM |
//! | [`prove`] | `prove`: the loader models against real QEMUs |
//! | [`recorded`] | `recorded`: fixtures out of a folder of recordings |
//! | [`bench`](mod@bench) | `bench`: what the command costs |
//! | [`tar`] | archives of recordings |
//! | [`jobs`] | work on many things, several at a time |
//! | [`tools`] | other programs: finding, installing, running |
#![forbid(unsafe_code)]
// A task runner talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod compare_hosts;
mod debian;
mod gen_history;
mod gen_registers;
mod guest;
mod jobs;
mod lab;
mod live;
mod prove;
mod qemus;
mod recorded;
mod tar;
mod test;
mod tools;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What went wrong, in words for the person who started the task.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The result of a task or of a part of one.
type Result<T> = std::result::Result<T, Failure>;

const USAGE: &str = "\
Usage: cargo xtask TASK

  test                       everything that must be right: formatting, lints, generated files, tests, live tests
  lint [CHECK...]            what must hold for the sources as a whole: format, clippy, circles, spelling, licences and more
  bless                      take what the programs say now for what they should say
  gen-registers [--check]    make the register tables from data/, or see that they are current
  gen-cli                    make docs/cli.md from the definitions of the command line
  gen-history [--check] FOLDER
                             make the recorded hosts that cpreg comes with out of a folder of what `cpreg probe kvm` wrote, or see
                             that they are current
  compare-hosts RECORDS TABLES [PROBES]
                             compare what `cpreg probe kvm` wrote with independent tables of the same hosts, and of values that
                             were tried there; compare-hosts --as-records RECORDS TABLES [PROBES] writes the tables as such files
  live [--full] [WORD...]    the live tests: all that CI runs, or with --full all there are; only those whose names
                             have all the words; --list names them
  prove [--edits N] [--seed S] [--series 10.0] [--case N]
                             are the loader models true? 500 recorded streams, edited at random, into each real QEMU
  qemus                      fetch the QEMUs for the live tests into target/lab (CPREG_LAB names another folder)
  bench [plans|filter|relay] what the command costs, against cat, cp and socat; writes some GiB below target/lab, and removes them;
                             with plans only what a plan costs, in this process
  lab COMMAND                real arm64 kernels with real KVM under an emulating QEMU; `cargo xtask lab help` lists what they do
  recorded FOLDER            make tests/fixtures/recorded out of a folder of recorded streams and outcomes
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["test"] => test::run(),
        ["lint", rest @ ..] => test::lint(rest),
        ["bless"] => test::bless(),
        ["live", rest @ ..] => live::run(rest),
        ["qemus"] => qemus::run(),
        ["lab", rest @ ..] => lab::run(rest),
        ["gen-registers", rest @ ..] => {
            let rest: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
            gen_registers::run(&rest).map_err(Into::into)
        }
        ["gen-cli"] => test::gen_cli(),
        ["prove", rest @ ..] => prove::run(rest),
        ["gen-history", rest @ ..] => gen_history::run(rest),
        ["compare-hosts", rest @ ..] => compare_hosts::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["recorded", folder] => recorded::run(Path::new(folder)),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The folder for what the live tests fetch and make: `CPREG_LAB`, or `target/lab`.
fn lab() -> PathBuf {
    env::var_os("CPREG_LAB").map_or_else(|| repository().join("target/lab"), PathBuf::from)
}
