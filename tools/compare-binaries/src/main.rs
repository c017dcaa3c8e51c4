//! `cargo xtask compare-binaries`: runs two builds of `cpreg` on the same inputs.
//!
//! | file | content |
//! |---|---|
//! | [`outputs`] | exit status, standard output, standard error and the bytes of written files |
//! | [`contents`] | comparison of JSON that ignores renamed members and other wording |
//! | [`counts`] | instructions, allocations, system calls and bytes read |
//! | [`runs`] | list of the runs |
//!
//! The comparison shows that a change of the code's structure changes no output and costs nothing.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod contents;
mod counts;
mod outputs;
mod runs;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use clap::{Parser, Subcommand};

/// Compares two builds of the command cpreg.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    comparison: Comparison,
}

#[derive(Debug, Subcommand)]
enum Comparison {
    /// Compares what the builds print and write
    Outputs {
        /// Build whose output is the reference
        old: PathBuf,
        /// Build under test
        new: PathBuf,
        /// Folder of streams (*.stream.xz), searched recursively (repeatable)
        #[arg(long, default_value = "tests/fixtures")]
        streams: Vec<PathBuf>,
        /// Folder of texts with error lines (*.txt, *.log) for `explain` (repeatable)
        #[arg(long, default_value = "docs/examples")]
        logs: Vec<PathBuf>,
        /// Name of a destination (repeatable)
        #[arg(long = "host", default_values_t = runs::HOSTS.map(str::to_owned))]
        hosts: Vec<String>,
        /// Compares exit status, contents of JSON and written files; names and sentences may differ
        #[arg(long)]
        contents: bool,
        /// Number of runs at a time
        #[arg(long, default_value_t = thread::available_parallelism().map_or(1, usize::from))]
        jobs: usize,
    },
    /// Compares instructions, allocations, system calls and bytes read (needs valgrind and strace)
    Counts {
        /// Build of the baseline
        old: PathBuf,
        /// Build under test
        new: PathBuf,
        /// Recorded streams (*.stream.xz)
        #[arg(required = true)]
        streams: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().comparison) {
        Ok((same, different)) => {
            println!("{same} passed, {different} failed");
            ExitCode::from(u8::from(different > 0 || same == 0))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns the number of equal runs, and the number of different ones.
fn run(comparison: Comparison) -> io::Result<(usize, usize)> {
    match comparison {
        Comparison::Outputs {
            old,
            new,
            streams,
            logs,
            hosts,
            contents,
            jobs,
        } => {
            let streams = files(&streams, &[".stream.xz"])?;
            let logs = files(&logs, &[".txt", ".log"])?;
            if streams.is_empty() {
                return Err(io::Error::other("the folders hold no *.stream.xz"));
            }
            let runs = runs::all(&streams, &logs, &hosts);
            println!(
                "{} runs: {} streams, {} hosts, {} texts",
                runs.len(),
                streams.len(),
                hosts.len(),
                logs.len()
            );
            let old = fs::canonicalize(old)?;
            let new = fs::canonicalize(new)?;
            let rule = if contents {
                outputs::Rule::Contents
            } else {
                outputs::Rule::Bytes
            };
            let tally = outputs::compare(&old, &new, &runs, jobs, rule)?;
            print!("{}", tally.renames);
            Ok((tally.same, tally.different))
        }
        Comparison::Counts { old, new, streams } => {
            let old = fs::canonicalize(old)?;
            let new = fs::canonicalize(new)?;
            counts::compare(&old, &new, &streams)
        }
    }
}

/// Returns the files below `folders` with one of these `suffixes`, ordered by name.
fn files(folders: &[PathBuf], suffixes: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = folders.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = fs::canonicalize(entry?.path())?;
            let name = path.to_string_lossy();
            if path.is_dir() {
                folders.push(path);
            } else if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
