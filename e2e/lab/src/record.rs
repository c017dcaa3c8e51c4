//! `cargo xtask lab record`: runs `cpreg probe kvm` on each kernel and CPU model, and writes one
//! file each, `KERNEL__CPU.json`. A host whose kernel or CPU does not support the requested mode
//! (`max+nested` before Linux 6.16) gets no file.
//!
//! A boot takes 5 to 15 seconds, two at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::options::{KernelArgs, MAX_CONCURRENT_HOSTS, cpus_or_default};
use clap::Args;
use cpreg_hosts::HostRecord;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::{Cpu, MODELS, MODELS_WITH_MODES};
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::Kernel;
use e2e_framework::{Result, parallel};

const SCRIPT: &str = "cpreg probe kvm -o /out/host.json > /out/output 2>&1\n";

/// Record each kernel on each CPU model with `cpreg probe kvm`, one file each
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model (repeatable; default: all)
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// Folder of the files
    #[arg(short = 'o', long = "output", value_name = "FOLDER")]
    folder: PathBuf,
}

/// Runs `cargo xtask lab record`.
///
/// # Errors
/// Returns an error if any host cannot be recorded. The task still records the other hosts.
pub(crate) fn run(lab: &Lab, arguments: &RecordArgs) -> Result<()> {
    let kernels = arguments.kernels.get(lab)?;
    let cpus = cpus_or_default(
        &arguments.cpus,
        &[&MODELS[..], &MODELS_WITH_MODES[..]].concat(),
    )?;
    let hosts: Vec<_> = kernels
        .iter()
        .flat_map(|kernel| cpus.iter().map(move |cpu| (kernel, cpu)))
        .collect();
    record(lab, &hosts, &arguments.folder)?;
    Ok(())
}

/// Records hosts into a folder. Returns the files, in the order of the hosts.
///
/// # Errors
/// Returns an error if any host cannot be recorded, with the output of each.
pub(crate) fn record(lab: &Lab, hosts: &[(&Kernel, &Cpu)], folder: &Path) -> Result<Vec<PathBuf>> {
    let programs = lab.build_programs(&["cpreg-cli"])?;
    lab.prepare(false)?;
    fs::create_dir_all(folder)?;
    let job = Job {
        script: SCRIPT.to_owned(),
        programs: vec![programs.join("cpreg")],
        ..Job::default()
    };
    let failed = Mutex::new(Vec::new());
    parallel::for_each(MAX_CONCURRENT_HOSTS, hosts.iter(), |(kernel, cpu)| {
        let host = EmulatedHost::new(kernel, cpu);
        let start = std::time::Instant::now();
        match record_one(lab, &host, &job, folder) {
            Ok(true) => println!("ok      {}  {:.1?}", host.name(), start.elapsed()),
            Ok(false) => println!("none    {}: KVM does not support this mode", host.name()),
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
        let files = hosts
            .iter()
            .map(|(kernel, cpu)| record_file(folder, kernel, cpu));
        Ok(files.filter(|file| file.exists()).collect())
    } else {
        Err(failed.join("\n").into())
    }
}

fn record_file(folder: &Path, kernel: &Kernel, cpu: &Cpu) -> PathBuf {
    folder.join(format!("{}.json", EmulatedHost::new(kernel, cpu).name()))
}

/// Records a host. Returns `false` if it does not support the requested mode.
fn record_one(lab: &Lab, host: &EmulatedHost<'_>, job: &Job, folder: &Path) -> Result<bool> {
    let results = lab.folder.join("results/record").join(host.name());
    host.run(lab, job, &results)?;
    let status = fs::read_to_string(results.join("status"))?;
    if status.trim() != "0" {
        let output = fs::read_to_string(results.join("output")).unwrap_or_default();
        return Err(format!("{}: cpreg probe kvm: {}", host.name(), output.trim_end()).into());
    }
    let bytes = fs::read(results.join("host.json"))?;
    let record = HostRecord::from_json(&bytes)?;
    let file = record_file(folder, host.kernel, host.cpu);
    if host.cpu.has_mode() && record.identity.mode.is_empty() {
        if file.exists() {
            fs::remove_file(file)?;
        }
        return Ok(false);
    }
    fs::write(file, bytes)?;
    Ok(true)
}
