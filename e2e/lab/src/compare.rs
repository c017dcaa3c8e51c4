//! `cargo xtask lab compare`: what a kernel of one's own changes of KVM's interface, against recorded kernels. An ABI regression test.
//!
//! The kernel is recorded as `lab record` does, on each CPU model, and compared by `cpreg diff`, whose words are printed. Against what: the recorded hosts that `--to` names, else
//! the newest recorded kernel.

use std::process::Command;

use super::record::record;
use crate::options::{KernelArgs, cpus_or_default};
use clap::Args;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::{Result, tool};

/// Few, and different: without and with what later architectures added.
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// Show what a kernel of your own changes of KVM's interface
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// A CPU model, any number of times
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// A recorded kernel to compare with, any number of times; the newest if none is given
    #[arg(long = "to", value_name = "linux-VERSION")]
    references: Vec<String>,
    /// The features of the guests that are compared
    #[arg(long, value_name = "NAMES", default_value = "pmu")]
    features: String,
}

/// Runs `cargo xtask lab compare`.
///
/// # Errors
/// If the kernel cannot be recorded, or a difference is found.
pub(crate) fn run(lab: &Lab, arguments: &CompareArgs) -> Result<()> {
    let kernel = &arguments.kernels.get_one(lab)?;
    let cpus = cpus_or_default(&arguments.cpus, &CPUS)?;
    let hosts: Vec<_> = cpus.iter().map(|cpu| (kernel, cpu)).collect();
    let folder = lab.folder.join("compare");
    let files = record(lab, &hosts, &folder)?;
    let cpreg = Cpreg::build()?;
    let features = &arguments.features;
    let mut others = arguments.references.clone();
    if others.is_empty() {
        others.push(newest(&cpreg)?);
    }
    let mut differ = Vec::new();
    for (file, cpu) in files.iter().zip(&cpus) {
        for other in &others {
            let recorded = format!("{other}/{cpu}/{features}");
            println!(
                "== {} against {recorded}",
                EmulatedHost::new(kernel, cpu).name()
            );
            let mut command = Command::new(cpreg.program());
            let ours = format!("{}/{features}", file.display());
            let done = command.arg("diff").arg(&recorded).arg(&ours).output()?;
            print!("{}", String::from_utf8_lossy(&done.stdout));
            match done.status.code() {
                Some(0) => {}
                Some(1) => differ.push(recorded),
                _ => {
                    let said = String::from_utf8_lossy(&done.stderr);
                    return Err(format!(
                        "`{}`: {}",
                        tool::format_command(&command),
                        said.trim_end()
                    )
                    .into());
                }
            }
        }
    }
    if differ.is_empty() {
        println!("no difference");
        Ok(())
    } else {
        Err(format!("{} differs from {}", kernel.release, differ.join(", ")).into())
    }
}

/// The recorded kernel with the highest version: `linux-7.3.4`.
fn newest(cpreg: &Cpreg) -> Result<String> {
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
