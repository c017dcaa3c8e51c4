//! `cargo xtask lab load`: loads saved states into Debian's QEMUs under KVM of real kernels, and
//! prints each outcome.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::matrix::loads::{Attempt, LoadCache};
use crate::interposed::RunPrograms;
use crate::options::{DEFAULT_CPU, KernelArgs, MAX_CONCURRENT_HOSTS, series_or_each};
use clap::Args;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::roots::SERIES;
use e2e_framework::{Result, parallel};

/// Load streams of the lab's guest into real QEMUs under KVM
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model
    #[arg(long, value_name = "MODEL[+MODE]", value_parser = Cpu::parse, default_value = DEFAULT_CPU)]
    cpu: Cpu,
    /// QEMU series (repeatable; default: each)
    #[arg(long = "qemu", value_name = "SERIES", value_parser = SERIES)]
    series: Vec<String>,
    /// Start QEMU with `cpreg run` and these options, for example `--accept low`
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, default_missing_value = "", allow_hyphen_values = true, require_equals = true)]
    run: Option<String>,
    /// Streams of the lab's guest
    #[arg(required = true, value_name = "STREAM")]
    streams: Vec<PathBuf>,
}

/// Runs `cargo xtask lab load`.
///
/// # Errors
/// Returns an error if a host does not boot, or a loaded VM does not run there.
pub(crate) fn run(lab: &Lab, arguments: &LoadArgs) -> Result<()> {
    for stream in &arguments.streams {
        File::open(stream).map_err(|error| format!("{}: {error}", stream.display()))?;
    }
    let kernels = arguments.kernels.get(lab)?;
    let mut attempts = Vec::new();
    for series in series_or_each(&arguments.series) {
        for stream in &arguments.streams {
            attempts.push(Attempt {
                series: series.to_owned(),
                stream: stream.clone(),
                run_options: arguments.run.as_ref().map(|options| {
                    let words = options.split_ascii_whitespace();
                    words.map(str::to_owned).collect()
                }),
            });
        }
    }
    let programs = arguments.run.as_ref().map(|_| RunPrograms::build(lab));
    let cache = LoadCache::open(lab, programs.transpose()?)?;
    lab.prepare(true)?;
    let failed = Mutex::new(Vec::new());
    parallel::for_each(MAX_CONCURRENT_HOSTS, kernels.iter(), |kernel| {
        let host = EmulatedHost::new(kernel, &arguments.cpu);
        let result = load_on_host(lab, &cache, &host, &attempts);
        if let (Err(error), Ok(mut failed)) = (result, failed.lock()) {
            failed.push(error.to_string());
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// Loads all streams on one host.
fn load_on_host(
    lab: &Lab,
    cache: &LoadCache,
    host: &EmulatedHost<'_>,
    attempts: &[Attempt],
) -> Result<()> {
    cache.run(lab, host, attempts)?;
    let mut failed = Vec::new();
    for attempt in attempts {
        let outcome = cache.get(host, attempt)?.ok_or("a stream was not loaded")?;
        let name = attempt.stream.file_name().unwrap_or_default();
        let name = format!(
            "{} into QEMU {} on {}",
            Path::new(name).display(),
            attempt.series,
            host.name()
        );
        if outcome.is_running() {
            println!("runs    {name}");
        } else {
            println!("FAILED  {name}");
            failed.push(format!("{name}: {}", outcome.errors.join("; ")));
        }
        for line in &outcome.cpreg {
            println!("        cpreg: {line}");
        }
        for difference in outcome.differences.iter().chain(&outcome.counters) {
            println!("        changed: {difference}");
        }
        for timer in &outcome.silent_timers {
            println!("        CNT{timer} did not fire in time");
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}
