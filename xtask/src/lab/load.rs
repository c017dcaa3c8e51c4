//! `cargo xtask lab load`: saved states loaded by Debian's QEMUs under KVM of real kernels, and what became of each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::boot::Host;
use super::cpu::Cpu;
use super::matrix::loads::{Attempt, Loads};
use super::options::Options;
use super::record::chosen;
use super::roots::SERIES;
use super::{AT_A_TIME, Lab};
use crate::{Result, jobs};

/// `cargo xtask lab load`.
///
/// # Errors
/// If a host does not boot, or a stream does not run there.
pub(super) fn run(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(
        arguments,
        &["--kernel", "--kernel-image", "--cpu", "--qemu"],
        &[],
    )?;
    if options.words.is_empty() {
        return Err(
            "load wants streams of the lab's guest: cargo xtask lab load --kernel 6.12.107 FILE..."
                .into(),
        );
    }
    let kernels = chosen(lab, &options)?;
    let cpu = Cpu::parse(options.last("--cpu").unwrap_or("neoverse-n1"))?;
    let mut series = options.all("--qemu");
    if series.is_empty() {
        series.extend(SERIES);
    }
    if let Some(other) = series.iter().find(|series| !SERIES.contains(series)) {
        return Err(format!("no QEMU {other} in the lab: {}", SERIES.join(", ")).into());
    }
    for stream in &options.words {
        File::open(stream).map_err(|error| format!("{stream}: {error}"))?;
    }
    let mut attempts = Vec::new();
    for series in &series {
        for stream in &options.words {
            attempts.push(Attempt {
                series: (*series).to_owned(),
                stream: PathBuf::from(stream),
            });
        }
    }
    let loads = Loads::open(lab)?;
    lab.prepare(true)?;
    let failed = Mutex::new(Vec::new());
    jobs::each(AT_A_TIME, kernels.iter(), |kernel| {
        let host = Host::new(kernel, &cpu);
        let done = one(lab, &loads, &host, &attempts);
        if let (Err(error), Ok(mut failed)) = (done, failed.lock()) {
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

/// All of them on one host.
fn one(lab: &Lab, loads: &Loads, host: &Host<'_>, attempts: &[Attempt]) -> Result<()> {
    loads.run(lab, host, attempts)?;
    let mut failed = Vec::new();
    for attempt in attempts {
        let outcome = loads
            .known(host, attempt)?
            .ok_or("a stream was not loaded")?;
        let name = attempt.stream.file_name().unwrap_or_default();
        let name = format!(
            "{} into QEMU {} on {}",
            Path::new(name).display(),
            attempt.series,
            host.name()
        );
        if outcome.runs() {
            println!("runs    {name}");
        } else {
            println!("FAILED  {name}");
            failed.push(format!("{name}: {}", outcome.errors.join("; ")));
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
