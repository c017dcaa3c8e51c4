//! `cargo xtask lab compare`: shows what a local kernel changes in KVM's interface, compared with
//! recorded kernels.
//!
//! The task records the kernel as `lab record` does, on each CPU model, and prints the output of
//! `cpreg diff`. The references are the recorded hosts that `--to` names, or the newest recorded
//! kernel.

use std::process::Command;

use super::record::record;
use crate::options::{KernelArgs, cpus_or_default};
use clap::Args;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::{Result, tool};

/// Default CPU models: one without and one with the features of later architectures.
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// Show what a local kernel changes of KVM's interface
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model (repeatable)
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// Recorded kernel to compare with (repeatable; default: the newest)
    #[arg(long = "to", value_name = "linux-VERSION")]
    references: Vec<String>,
    /// vCPU features of the compared guests
    #[arg(long, value_name = "NAMES", default_value = "pmu")]
    features: String,
}

/// Runs `cargo xtask lab compare`.
///
/// # Errors
/// Returns an error if the kernel cannot be recorded, or a difference is found.
pub(crate) fn run(lab: &Lab, arguments: &CompareArgs) -> Result<()> {
    let kernel = &arguments.kernels.get_one(lab)?;
    let cpus = cpus_or_default(&arguments.cpus, &CPUS)?;
    let hosts: Vec<_> = cpus.iter().map(|cpu| (kernel, cpu)).collect();
    let folder = lab.folder.join("compare");
    let files = record(lab, &hosts, &folder)?;
    let cpreg = Cpreg::build()?;
    let features = &arguments.features;
    let mut references = arguments.references.clone();
    if references.is_empty() {
        references.push(newest_recorded_kernel(&cpreg)?);
    }
    let mut different = Vec::new();
    for (file, cpu) in files.iter().zip(&cpus) {
        for reference in &references {
            let recorded_host = format!("{reference}/{cpu}/{features}");
            println!(
                "== {} against {recorded_host}",
                EmulatedHost::new(kernel, cpu).name()
            );
            let mut command = Command::new(cpreg.program());
            let local_host = format!("{}/{features}", file.display());
            let output = command
                .arg("diff")
                .arg(&recorded_host)
                .arg(&local_host)
                .output()?;
            print!("{}", String::from_utf8_lossy(&output.stdout));
            match output.status.code() {
                Some(0) => {}
                Some(1) => different.push(recorded_host),
                _ => {
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    return Err(format!(
                        "`{}`: {}",
                        tool::format_command(&command),
                        stderr.trim_end()
                    )
                    .into());
                }
            }
        }
    }
    if different.is_empty() {
        println!("no difference");
        Ok(())
    } else {
        Err(format!("{} differs from {}", kernel.release, different.join(", ")).into())
    }
}

/// Returns the recorded kernel with the highest version, such as `linux-7.3.4`.
fn newest_recorded_kernel(cpreg: &Cpreg) -> Result<String> {
    let listed = tool::output_of(Command::new(cpreg.program()).arg("hosts"))?;
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    let kernels = names.filter_map(|name| {
        let numbers: Option<Vec<u32>> = name
            .strip_prefix("linux-")?
            .split('.')
            .map(|number| number.parse().ok())
            .collect();
        Some((numbers?, name))
    });
    let newest = kernels.max().ok_or("cpreg has no recorded kernels")?;
    Ok(newest.1.to_owned())
}
