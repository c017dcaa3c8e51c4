//! `cargo xtask lab compare`: what a kernel of one's own changes of KVM's interface, against recorded kernels. An ABI regression test.
//!
//! The kernel is recorded as `lab record` does, on each CPU model, and compared by `cpreg diff`, whose words are printed. Against what: the recorded hosts that `--to` names, else
//! the newest recorded kernel.

use std::process::Command;

use super::Lab;
use super::boot::Host;
use super::cpu::Cpu;
use super::options::Options;
use super::record::{chosen, record};
use crate::live::Cpreg;
use crate::{Result, tools};

/// Few, and different: without and with what later architectures added.
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// `cargo xtask lab compare`.
///
/// # Errors
/// If the kernel cannot be recorded, or a difference is found.
pub(super) fn run(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(
        arguments,
        &["--kernel", "--kernel-image", "--cpu", "--to", "--features"],
        &[],
    )?;
    if options.all("--kernel").len() + options.all("--kernel-image").len() != 1 {
        return Err("compare wants one --kernel-image FILE or --kernel VERSION".into());
    }
    let kernels = chosen(lab, &options)?;
    let kernel = kernels.first().ok_or("no kernel")?;
    let mut names = options.all("--cpu");
    if names.is_empty() {
        names.extend(CPUS);
    }
    let cpus: Result<Vec<_>> = names.iter().map(|name| Cpu::parse(name)).collect();
    let cpus = cpus?;
    let hosts: Vec<_> = cpus.iter().map(|cpu| (kernel, cpu)).collect();
    let folder = lab.folder.join("compare");
    let files = record(lab, &hosts, &folder)?;
    let cpreg = Cpreg::build()?;
    let features = options.last("--features").unwrap_or("pmu");
    let mut others: Vec<String> = options.all("--to").into_iter().map(str::to_owned).collect();
    if others.is_empty() {
        others.push(newest(&cpreg)?);
    }
    let mut differ = Vec::new();
    for (file, cpu) in files.iter().zip(&cpus) {
        for other in &others {
            let recorded = format!("{other}/{cpu}/{features}");
            println!("== {} against {recorded}", Host::new(kernel, cpu).name());
            let mut command = Command::new(cpreg.program());
            let ours = format!("{}/{features}", file.display());
            let done = command.arg("diff").arg(&recorded).arg(&ours).output()?;
            print!("{}", String::from_utf8_lossy(&done.stdout));
            match done.status.code() {
                Some(0) => {}
                Some(1) => differ.push(recorded),
                _ => {
                    let said = String::from_utf8_lossy(&done.stderr);
                    return Err(format!("`{}`: {}", tools::words(&command), said.trim_end()).into());
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
    let listed = tools::output_of(Command::new(cpreg.program()).arg("hosts"))?;
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
