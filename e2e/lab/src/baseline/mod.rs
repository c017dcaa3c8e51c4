//! `cargo xtask lab baseline`: guests that are born with a baseline (`cpreg run --baseline`), and
//! the kernels among which they move without conversion.
//!
//! | module | content |
//! |---|---|
//! | [`table`] | the results as JSON and as Markdown |
//!
//! On each kernel a QEMU writes a stream of a running guest. `cpreg run --baseline` starts the
//! QEMU, or it has the options of the baseline (`--options`). The same QEMU loads this stream on
//! each kernel: without cpreg, and through `cpreg run` without consent, with the baseline, and with
//! a consent.

mod table;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use clap::Args;
use e2e_framework::Result;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::roots::SERIES;
use e2e_framework::paths::repository;
use serde_json::{Map, Value, json};

use crate::fingerprint::fingerprint;
use crate::interposed::RunPrograms;
use crate::matrix::for_each;
use crate::matrix::loads::{Attempt, LoadCache};
use crate::matrix::streams::{self, Birth, BirthSettings};
use crate::options::{DEFAULT_CPU, KernelArgs, series_or_each};

/// Name of the baseline below `/job`.
const FILE: &str = "baseline.json";

/// Show the kernels among which guests move that are born with a baseline
#[derive(Debug, Args)]
pub(crate) struct BaselineArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model
    #[arg(long, value_name = "MODEL[+MODE]", value_parser = Cpu::parse, default_value = DEFAULT_CPU)]
    cpu: Cpu,
    /// QEMU series (repeatable; default: each)
    #[arg(long = "qemu", value_name = "SERIES", value_parser = SERIES)]
    series: Vec<String>,
    /// Baseline (default: docs/kvm-baseline/CPU.json)
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Options of QEMU in place of a baseline, as `cpreg baseline --for qemu` prints them
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["baseline", "drop"])]
    options: Option<String>,
    /// Register that the guest's QEMU does not list (repeatable)
    #[arg(long, value_name = "REG")]
    drop: Vec<String>,
    /// Consent for pairs that do not move without one (repeatable)
    #[arg(long, value_name = "REG|SEVERITY")]
    accept: Vec<String>,
    /// Folder of the tables (default: docs/)
    #[arg(short = 'o', long = "output", value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Ways to load a stream: name in the results, and options of `cpreg run`.
type Ways = Vec<(&'static str, Option<Vec<String>>)>;

/// Runs `cargo xtask lab baseline`.
///
/// # Errors
/// Returns an error if a host does not boot, a guest cannot be born, or a pair does not move.
pub(crate) fn run(lab: &Lab, arguments: &BaselineArgs) -> Result<()> {
    let start = Instant::now();
    let kernels = arguments.kernels.get(lab)?;
    let series = series_or_each(&arguments.series);
    let docs = repository().join("docs");
    let folder = arguments.folder.as_ref().unwrap_or(&docs);
    let cpu = &arguments.cpu;
    let birth = if let Some(options) = &arguments.options {
        birth_with_options(lab, options)?
    } else {
        let default = || docs.join(format!("kvm-baseline/{cpu}.json"));
        let baseline = arguments.baseline.clone().unwrap_or_else(default);
        birth(lab, &baseline, &arguments.drop)?
    };
    let mut loads = LoadCache::open(lab, Some(birth.programs.clone()))?;
    loads.run_files.clone_from(&birth.files);
    if let BirthSettings::Qemu(options) = &birth.settings {
        loads.qemu_options.clone_from(options);
    }
    lab.prepare(true)?;
    let hosts: Vec<_> = kernels
        .iter()
        .map(|kernel| EmulatedHost::new(kernel, cpu))
        .collect();
    for_each(&hosts, "saved", |host| {
        streams::ensure(lab, host, &series, Some(&birth))
    })?;
    let mut ways: Ways = vec![("plain", None), ("none", Some(Vec::new()))];
    if let BirthSettings::Run(_) = birth.settings {
        let with_baseline = ["--baseline".to_owned(), format!("/job/{FILE}")];
        ways.push(("baseline", Some(with_baseline.to_vec())));
    }
    if !arguments.accept.is_empty() {
        let accept = arguments.accept.iter();
        let options = accept.flat_map(|consent| ["--accept".to_owned(), consent.clone()]);
        ways.push(("accept", Some(options.collect())));
    }
    let lines = Mutex::new(Vec::new());
    for_each(&hosts, "loaded", |host| {
        let new = load_on_host(lab, &loads, host, &hosts, &series, &birth, &ways)?;
        lines.lock().map_err(|_| "a thread panicked")?.extend(new);
        Ok(())
    })?;
    let lines = lines.into_inner().map_err(|_| "a thread panicked")?;
    println!("{cpu}: {} pairs, {:.0?}", lines.len(), start.elapsed());
    let suffix = match birth.settings {
        BirthSettings::Run(_) => "",
        BirthSettings::Qemu(_) => "-options",
    };
    table::write(folder, &format!("{cpu}{suffix}"), lines)
}

/// Returns the start of QEMUs whose guests are born with a baseline.
fn birth(lab: &Lab, baseline: &PathBuf, drop: &[String]) -> Result<Birth> {
    let mut contents =
        fs::read(baseline).map_err(|error| format!("{}: {error}", baseline.display()))?;
    let mut options = vec!["--baseline".to_owned(), format!("/job/{FILE}")];
    for register in drop {
        options.extend(["--drop".to_owned(), register.clone()]);
        contents.extend(register.bytes());
    }
    Ok(Birth {
        name: fingerprint(&contents),
        settings: BirthSettings::Run(options),
        files: vec![(FILE.to_owned(), baseline.clone())],
        programs: RunPrograms::build(lab)?,
    })
}

/// Returns the start of QEMUs with these options.
fn birth_with_options(lab: &Lab, options: &str) -> Result<Birth> {
    Ok(Birth {
        name: fingerprint(options.as_bytes()),
        settings: BirthSettings::Qemu(options.to_owned()),
        files: Vec::new(),
        programs: RunPrograms::build(lab)?,
    })
}

/// Loads the streams of all hosts on one host. Returns a line for each pair.
fn load_on_host(
    lab: &Lab,
    loads: &LoadCache,
    host: &EmulatedHost<'_>,
    sources: &[EmulatedHost<'_>],
    series: &[&str],
    birth: &Birth,
    ways: &Ways,
) -> Result<Vec<Value>> {
    let attempt = |source: &EmulatedHost<'_>, series: &str, run_options| Attempt {
        series: series.to_owned(),
        stream: streams::stream_path(lab, source, series, Some(birth)),
        run_options,
    };
    let mut attempts = Vec::new();
    for series in series {
        for source in sources {
            for (_, options) in ways {
                attempts.push(attempt(source, series, options.clone()));
            }
        }
    }
    loads.run(lab, host, &attempts)?;
    let mut lines = Vec::new();
    for series in series {
        for source in sources {
            let mut outcomes = Map::new();
            for (name, options) in ways {
                let attempt = attempt(source, series, options.clone());
                let outcome = loads.get(host, &attempt)?;
                let outcome = outcome.ok_or("a stream was not loaded")?;
                outcomes.insert((*name).to_owned(), outcome.to_json());
            }
            let accept = ways.iter().find(|(name, _)| *name == "accept");
            lines.push(json!({
                "cpu": host.cpu.to_string(),
                "source": source.kernel.version,
                "destination": host.kernel.version,
                "qemu": series,
                "born_with": birth.settings.options(),
                "accept": accept.and_then(|(_, options)| options.clone()),
                "loads": outcomes,
            }));
        }
    }
    Ok(lines)
}
