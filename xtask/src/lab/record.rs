//! `cargo xtask lab record`: what each kernel is on each CPU, by `cpreg probe kvm` in it. One file each, `KERNEL__CPU.json`.
//! Where a kernel or a CPU does not know the mode that it was asked to run in (`max+nested` before Linux 6.16) there is none.
//!
//! A boot takes 5 to 15 seconds, two at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cpreg_hosts::HostRecord;

use super::boot::Host;
use super::cpu::{Cpu, IN_MODES, MODELS};
use super::job::Job;
use super::kernels::{self, Kernel};
use super::options::Options;
use super::{AT_A_TIME, Lab};
use crate::{Result, jobs};

const SCRIPT: &str = "cpreg probe kvm -o /out/host.json > /out/said 2>&1\n";

/// `cargo xtask lab record`.
///
/// # Errors
/// If any of the hosts cannot be recorded; the others are.
pub(super) fn run(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(
        arguments,
        &["--kernel", "--kernel-image", "--cpu", "-o"],
        &[],
    )?;
    let folder = options.last("-o").ok_or("record wants -o FOLDER")?;
    let kernels = chosen(lab, &options)?;
    let mut cpus = options.all("--cpu");
    if cpus.is_empty() {
        cpus.extend(MODELS);
        cpus.extend(IN_MODES);
    }
    let cpus: Result<Vec<_>> = cpus.iter().map(|cpu| Cpu::parse(cpu)).collect();
    let cpus = cpus?;
    let hosts: Vec<_> = kernels
        .iter()
        .flat_map(|kernel| cpus.iter().map(move |cpu| (kernel, cpu)))
        .collect();
    record(lab, &hosts, Path::new(folder))?;
    Ok(())
}

/// The kernels that options name: of the table, the user's own, or else all of the table.
pub(super) fn chosen(lab: &Lab, options: &Options<'_>) -> Result<Vec<Kernel>> {
    let (versions, images) = (options.all("--kernel"), options.all("--kernel-image"));
    let mut kernels = if versions.is_empty() && images.is_empty() {
        lab.alone(|| kernels::all(&lab.folder))?
    } else {
        lab.alone(|| kernels::named(&lab.folder, &versions))?
    };
    for image in images {
        kernels.push(Kernel::own(&lab.folder, Path::new(image))?);
    }
    Ok(kernels)
}

/// Records hosts into a folder. Gives the files, in their order.
///
/// # Errors
/// If any cannot be recorded; with the words of each.
pub(super) fn record(lab: &Lab, hosts: &[(&Kernel, &Cpu)], folder: &Path) -> Result<Vec<PathBuf>> {
    let programs = lab.programs(&["cpreg-cli"])?;
    lab.prepare(false)?;
    fs::create_dir_all(folder)?;
    let job = Job {
        script: SCRIPT.to_owned(),
        programs: vec![programs.join("cpreg")],
        ..Job::default()
    };
    let failed = Mutex::new(Vec::new());
    jobs::each(AT_A_TIME, hosts.iter(), |(kernel, cpu)| {
        let host = Host::new(kernel, cpu);
        let start = std::time::Instant::now();
        match record_one(lab, &host, &job, folder) {
            Ok(true) => println!("ok      {}  {:.1?}", host.name(), start.elapsed()),
            Ok(false) => println!(
                "none    {}: KVM does not run in that mode there",
                host.name()
            ),
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
        let files = hosts.iter().map(|(kernel, cpu)| file(folder, kernel, cpu));
        Ok(files.filter(|file| file.exists()).collect())
    } else {
        Err(failed.join("\n").into())
    }
}

fn file(folder: &Path, kernel: &Kernel, cpu: &Cpu) -> PathBuf {
    folder.join(format!("{}.json", Host::new(kernel, cpu).name()))
}

/// Records a host; `false` if it does not run in the mode that it was asked for.
fn record_one(lab: &Lab, host: &Host<'_>, job: &Job, folder: &Path) -> Result<bool> {
    let results = lab.folder.join("results/record").join(host.name());
    host.run(lab, job, &results)?;
    let status = fs::read_to_string(results.join("status"))?;
    if status.trim() != "0" {
        let said = fs::read_to_string(results.join("said")).unwrap_or_default();
        return Err(format!("{}: cpreg probe kvm: {}", host.name(), said.trim_end()).into());
    }
    let bytes = fs::read(results.join("host.json"))?;
    let record = HostRecord::from_json(&bytes)?;
    let file = file(folder, host.kernel, host.cpu);
    if host.cpu.has_mode() && record.identity.mode.is_empty() {
        if file.exists() {
            fs::remove_file(file)?;
        }
        return Ok(false);
    }
    fs::write(file, bytes)?;
    Ok(true)
}
