//! `cargo xtask lab matrix`: finds out between which kernels guests of Debian's QEMUs move under
//! KVM, without and with cpreg.
//!
//! | module | content |
//! |---|---|
//! | [`streams`] | a stream of each host and QEMU |
//! | [`convert`](mod@convert) | conversion of the stream of each pair by cpreg |
//! | [`loads`] | loads of streams on a host, and their kept outcomes |
//! | [`outcome`] | outcome of one load |
//! | [`pair`] | a pair, and all its outcomes |
//! | [`lines`] | the results as lines of JSON |
//! | [`row`] | a line of JSON, as the document needs it |
//! | [`table`] | the document |
//! | [`run_table`] | loads through `cpreg run`, compared with `cpreg convert` |
//!
//! A pair is a source kernel, a destination kernel, a CPU model and a QEMU at both ends. Each pair
//! is tried without cpreg, and with a stream that `cpreg convert` wrote for the destination:
//! without consent, with
//! `--accept low`, and with all proposals. Streams with the same contents are loaded once.
//!
//! Each pair is also tried with the unconverted stream and a QEMU that `cpreg run` starts: without
//! consent, and with the smallest consent with which `cpreg convert` writes a stream.

mod convert;
pub(crate) mod lines;
pub(crate) mod loads;
pub(crate) mod outcome;
mod pair;
pub(crate) mod row;
mod run_table;
pub(crate) mod streams;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use self::convert::{Consent, Conversion, convert};
use self::loads::{Attempt, LoadCache};
use self::outcome::GuestOutcome;
use self::pair::{Pair, RunLoad, conversions_to_run};
use crate::interposed::RunPrograms;
use crate::options::{
    DEFAULT_CPU, KernelArgs, MAX_CONCURRENT_HOSTS, cpus_or_default, series_or_each,
};
use clap::Args;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::Kernel;
use e2e_framework::lab::roots::SERIES;
use e2e_framework::paths::repository;
use e2e_framework::{Result, parallel};

/// Show the guests of QEMU under KVM that move between kernels, without and with cpreg
#[derive(Debug, Args)]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model (repeatable)
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// QEMU series (repeatable; default: each)
    #[arg(long = "qemu", value_name = "SERIES", value_parser = SERIES)]
    series: Vec<String>,
    /// Give cpreg a stream of the destination, even if the host is recorded
    #[arg(long)]
    to_streams: bool,
    /// Load only through `cpreg run`, and keep the other results of the tables
    #[arg(long)]
    only_run: bool,
    /// Folder of the tables (default: docs/)
    #[arg(short = 'o', long = "output", value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Runs `cargo xtask lab matrix`.
///
/// # Errors
/// Returns an error if a host does not boot or a guest cannot be saved. Also returns an error if a
/// pair that QEMU loads is refused without a reason.
pub(crate) fn run(lab: &Lab, arguments: &MatrixArgs) -> Result<()> {
    let kernels = arguments.kernels.get(lab)?;
    let cpus = cpus_or_default(&arguments.cpus, &[DEFAULT_CPU])?;
    let series = series_or_each(&arguments.series);
    let folder = arguments.folder.clone();
    let folder = folder.unwrap_or_else(|| repository().join("docs"));
    let cpreg = Cpreg::build()?;
    let loads = LoadCache::open(lab, Some(RunPrograms::build(lab)?))?;
    lab.prepare(true)?;
    for cpu in &cpus {
        let start = Instant::now();
        let hosts: Vec<_> = kernels
            .iter()
            .map(|kernel| EmulatedHost::new(kernel, cpu))
            .collect();
        for_each(&hosts, "saved", |host| {
            streams::ensure(lab, host, &series, None)
        })?;
        let inputs = PairInputs {
            lab,
            loads: &loads,
            cpreg: cpreg.program(),
            hosts: &hosts,
            series: &series,
            to_streams: arguments.to_streams,
            only_run: arguments.only_run,
        };
        let pairs = Mutex::new(Vec::new());
        for_each(&hosts, "loaded", |host| {
            let mut host_pairs = inputs.pairs_for_destination(host)?;
            pairs
                .lock()
                .map_err(|_| "a thread panicked")?
                .append(&mut host_pairs);
            Ok(())
        })?;
        let pairs = pairs.into_inner().map_err(|_| "a thread panicked")?;
        table::write(&folder, cpu, &pairs)?;
        println!("{cpu}: {} pairs, {:.0?}", pairs.len(), start.elapsed());
    }
    Ok(())
}

/// Runs a task for each host, some at a time, and prints each outcome.
pub(crate) fn for_each(
    hosts: &[EmulatedHost<'_>],
    done_label: &str,
    work: impl Fn(&EmulatedHost<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let failed = Mutex::new(Vec::new());
    parallel::for_each(MAX_CONCURRENT_HOSTS, hosts.iter(), |host| {
        let start = Instant::now();
        match work(host) {
            Ok(()) => println!("{done_label}  {}  {:.1?}", host.name(), start.elapsed()),
            Err(error) => {
                println!("FAILED  {}  {:.1?}", host.name(), start.elapsed());
                if let Ok(mut failed) = failed.lock() {
                    failed.push(error.to_string());
                }
            }
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// Inputs shared by all pairs of one CPU.
struct PairInputs<'a> {
    lab: &'a Lab,
    loads: &'a LoadCache,
    cpreg: &'a Path,
    hosts: &'a [EmulatedHost<'a>],
    series: &'a [&'a str],
    to_streams: bool,
    only_run: bool,
}

/// A pair before its loads.
struct PreparedPair<'a> {
    series: &'a str,
    destination_spec: String,
    source: &'a EmulatedHost<'a>,
    stream: PathBuf,
    conversions: Vec<(Consent, Conversion)>,
}

impl PreparedPair<'_> {
    /// Returns the load of a stream by a QEMU without cpreg.
    fn attempt(&self, stream: &Path) -> Attempt {
        Attempt {
            series: self.series.to_owned(),
            stream: stream.to_owned(),
            run_options: None,
        }
    }

    /// Returns the load of the unconverted stream by a QEMU that `cpreg run` starts.
    fn run_attempt(&self, conversion: &Conversion) -> Attempt {
        Attempt {
            run_options: Some(conversion.options.clone()),
            ..self.attempt(&self.stream)
        }
    }

    /// Returns all loads of the pair.
    fn attempts(&self, only_run: bool) -> Vec<Attempt> {
        let tried = conversions_to_run(&self.conversions).into_iter();
        let mut attempts: Vec<_> = tried
            .map(|(_, conversion)| self.run_attempt(conversion))
            .collect();
        if !only_run {
            attempts.push(self.attempt(&self.stream));
            let conversions = self.conversions.iter();
            let streams = conversions.filter_map(|(_, conversion)| conversion.stream.as_ref());
            attempts.extend(streams.map(|stream| self.attempt(stream)));
        }
        attempts
    }
}

impl PairInputs<'_> {
    /// Returns all pairs with this destination.
    fn pairs_for_destination(&self, host: &EmulatedHost<'_>) -> Result<Vec<Pair>> {
        let folder = self.lab.folder.join("matrix/converted").join(host.name());
        fs::create_dir_all(&folder)?;
        let mut prepared = Vec::new();
        for series in self.series {
            for source in self.hosts {
                prepared.push(self.prepare(host, source, series, &folder)?);
            }
        }
        let attempts: Vec<_> = prepared
            .iter()
            .flat_map(|pair| pair.attempts(self.only_run))
            .collect();
        self.loads.run(self.lab, host, &attempts)?;
        let pairs: Result<Vec<_>> = prepared
            .iter()
            .map(|pair| self.finish(host, pair))
            .collect();
        // The converted streams can be written again, and are large.
        fs::remove_dir_all(&folder)?;
        pairs
    }

    /// Converts the stream of a pair with each consent.
    fn prepare<'a>(
        &'a self,
        host: &EmulatedHost<'_>,
        source: &'a EmulatedHost<'a>,
        series: &'a str,
        folder: &Path,
    ) -> Result<PreparedPair<'a>> {
        let destination_spec = self.destination_spec(host, series);
        let stream = streams::stream_path(self.lab, source, series, None);
        let mut conversions = Vec::new();
        for consent in Consent::ALL {
            let version = &source.kernel.version;
            let name = format!("{version}__qemu-{series}__{}.stream", consent.name());
            let output = folder.join(name);
            let conversion = convert(
                self.cpreg,
                &stream,
                &destination_spec,
                series,
                consent,
                &output,
            )?;
            conversions.push((consent, conversion));
        }
        Ok(PreparedPair {
            series,
            destination_spec,
            source,
            stream,
            conversions,
        })
    }

    /// Collects the outcomes of a pair's loads.
    fn finish(&self, host: &EmulatedHost<'_>, pair: &PreparedPair<'_>) -> Result<Pair> {
        let outcome_of = |attempt: &Attempt| -> Result<GuestOutcome> {
            let outcome = self.loads.get(host, attempt)?;
            outcome.ok_or_else(|| format!("{} was not loaded", attempt.stream.display()).into())
        };
        let mut run = Vec::new();
        for (consent, conversion) in conversions_to_run(&pair.conversions) {
            run.push(RunLoad {
                consent: *consent,
                options: conversion.options.clone(),
                blockers: conversion.blockers.clone(),
                outcome: outcome_of(&pair.run_attempt(conversion))?,
            });
        }
        let as_is = if self.only_run {
            None
        } else {
            Some(outcome_of(&pair.attempt(&pair.stream))?)
        };
        let mut converted = Vec::new();
        for (consent, conversion) in &pair.conversions {
            let load = match &conversion.stream {
                Some(stream) if !self.only_run => Some(outcome_of(&pair.attempt(stream))?),
                _ => None,
            };
            converted.push((*consent, conversion.clone(), load));
        }
        let spec = Path::new(&pair.destination_spec);
        let file_name = spec.file_name().filter(|_| spec.is_absolute());
        let destination_spec = file_name.map_or(pair.destination_spec.clone(), |name| {
            name.to_string_lossy().into_owned()
        });
        Ok(Pair {
            cpu: host.cpu.to_string(),
            source: pair.source.kernel.version.clone(),
            destination: host.kernel.version.clone(),
            series: pair.series.to_owned(),
            destination_spec,
            as_is,
            converted,
            run,
        })
    }

    /// Returns the destination as an argument of cpreg: the recorded host; without a record, the
    /// stream that this kernel's QEMU wrote.
    fn destination_spec(&self, host: &EmulatedHost<'_>, series: &str) -> String {
        let name = recorded_name(host.kernel, host.cpu);
        let recorded = Command::new(self.cpreg).args(["hosts", &name]).output();
        if !self.to_streams && recorded.is_ok_and(|output| output.status.success()) {
            name
        } else {
            streams::stream_path(self.lab, host, series, None)
                .display()
                .to_string()
        }
    }
}

fn recorded_name(kernel: &Kernel, cpu: &Cpu) -> String {
    format!("linux-{}/{cpu}", kernel.version)
}
