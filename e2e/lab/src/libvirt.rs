//! `cargo xtask lab libvirt`: a domain of a real libvirt whose QEMU runs with cpreg preloaded, as
//! `cpreg run --print-libvirt` prints it. The domain is started, saved and restored on one host,
//! migrated to another host with another kernel, and migrated back.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use e2e_framework::Result;
use e2e_framework::guest::{Guest, TIMER_SECONDS};
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::libvirt;
use e2e_framework::paths::repository;

use crate::host_pair::{HostPair, address, fetch_two_kernels};
use crate::interposed::RunPrograms;
use crate::options::DEFAULT_CPU;

const KERNELS: [&str; 2] = ["6.12.107", "7.3.4"];

/// Timeout for all steps, under an emulator on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1500);

/// Steps of each host, in order.
const STEPS: [&[&str]; 2] = [
    &[
        "define", "start", "guest", "save", "restore", "restored", "migrate", "returned",
    ],
    &["arrived", "back"],
];

/// Start, save, restore and migrate a domain of libvirt whose QEMU runs with cpreg
#[derive(Debug, Args)]
pub(crate) struct LibvirtArgs {
    /// One of two kernels
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// CPU model
    #[arg(long, value_name = "MODEL[+MODE]", value_parser = Cpu::parse, default_value = DEFAULT_CPU)]
    cpu: Cpu,
    /// Consent in the domain
    #[arg(long, value_name = "REG|SEVERITY", default_value = "low")]
    accept: String,
}

/// Runs `cargo xtask lab libvirt`.
///
/// # Errors
/// Returns an error if a host does not boot, a step fails, or the guest makes no progress.
pub(crate) fn run(lab: &Lab, arguments: &LibvirtArgs) -> Result<()> {
    let start = Instant::now();
    let [first, second] = &fetch_two_kernels(lab, &arguments.kernels, KERNELS)?;
    let programs = RunPrograms::build(lab)?;
    lab.prepare(false)?;
    let root = lab.with_make_lock(|| libvirt::ensure(&lab.folder))?;
    let hosts = HostPair {
        lab,
        cpu: &arguments.cpu,
        kernels: [first, second],
        serial: false,
        results: "libvirt",
    };
    let job = |number: usize| -> Result<Job> {
        let name = ["first", "second"][number];
        let mut job = Job {
            script: format!(
                ". /job/libvirt.sh\n{}set_up {name} --accept {}\n{name} {}\n",
                hosts.setup_script(number),
                arguments.accept,
                address(1 - number),
            ),
            files: vec![
                ("libvirt.tar".to_owned(), root.clone()),
                (
                    "libvirt.sh".to_owned(),
                    repository().join("e2e/lab/inside/libvirt.sh"),
                ),
                (
                    "guest.bin".to_owned(),
                    lab.guests()?
                        .image(Guest::Live, TIMER_SECONDS[0])
                        .to_owned(),
                ),
            ],
            ..Job::default()
        };
        programs.add_to(&mut job);
        Ok(job)
    };
    hosts.run(&[job(0)?, job(1)?], TIMEOUT)?;
    let mut steps = Vec::new();
    for (number, expected) in STEPS.into_iter().enumerate() {
        let results = hosts.results_of(number);
        let found = read_steps(&results)?;
        for name in expected {
            let step = found.iter().find(|step| step.name == *name);
            match step {
                Some(step) if step.status == "0" => {
                    println!("ok      {name}: counter {}", step.count);
                    steps.push(step.clone());
                }
                _ => {
                    let output = fs::read_to_string(results.join(format!("{name}.output")));
                    return Err(format!(
                        "{name}: {}: {} (output: {})",
                        step.map_or("not reached", |step| step.status.as_str()),
                        output.unwrap_or_default().trim_end(),
                        results.display()
                    )
                    .into());
                }
            }
        }
    }
    check_progress(&steps)?;
    println!("{:.0?}", start.elapsed());
    Ok(())
}

/// Step of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    name: String,
    /// Exit status.
    status: String,
    /// Counter of the guest after the step, `0x000000000000002a`, or `-`.
    count: String,
}

fn read_steps(results: &Path) -> Result<Vec<Step>> {
    let path = results.join("steps");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().filter_map(parse_step).collect())
}

fn parse_step(line: &str) -> Option<Step> {
    let mut words = line.split(' ').map(str::to_owned);
    Some(Step {
        name: words.next()?,
        status: words.next()?,
        count: words.next()?,
    })
}

/// Checks that the counter of the guest increased through the steps at which the guest ran.
fn check_progress(steps: &[Step]) -> Result<()> {
    let count = |name: &str| {
        let step = steps.iter().find(|step| step.name == name);
        let text = step.and_then(|step| step.count.strip_prefix("0x"));
        let count = text.and_then(|text| u64::from_str_radix(text, 16).ok());
        count.ok_or_else(|| format!("{name}: the guest's counter is missing"))
    };
    let names = ["guest", "restored", "arrived", "returned"];
    for (before, after) in names.iter().zip(names.iter().skip(1)) {
        let counts = (count(before)?, count(after)?);
        if counts.0 >= counts.1 {
            return Err(format!(
                "the guest's counter was {} after {before}, and is {} after {after}",
                counts.0, counts.1
            )
            .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_must_increase() {
        let steps = |counts: [&str; 4]| {
            let names = ["guest", "restored", "arrived", "returned"];
            let lines = names.iter().zip(counts);
            let steps = lines.filter_map(|(name, count)| parse_step(&format!("{name} 0 {count}")));
            steps.collect::<Vec<_>>()
        };
        assert!(check_progress(&steps(["0x1", "0x2", "0x3", "0xa"])).is_ok());
        assert!(check_progress(&steps(["0x1", "0x2", "0x2", "0xa"])).is_err());
        assert!(check_progress(&steps(["0x1", "0x2", "-", "0xa"])).is_err());
    }
}
