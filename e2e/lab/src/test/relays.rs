//! A guest of QEMU under KVM moves live between two kernels, over the network between them, through `cpreg relay`; without it, it stays. In both directions.
//!
//! All kinds of migration, and other CPU models, are `lab relay`'s.

use super::fixture::{Fixture, RESULTS};
use crate::host_pair::HostPair;
use crate::relay::{DEFAULT_SERIES, MigrationKind, MigrationRunner};
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::kernels::Kernel;

/// Between which of the tested kernels, and on which of the CPU models.
const KERNELS: [&str; 2] = ["6.12.107", "7.3.4"];
const CPU: &str = "neoverse-n1";

const KINDS: [MigrationKind; 2] = [MigrationKind::Direct, MigrationKind::Precopy];

/// The hosts that this is done on, of those that are tested.
///
/// # Errors
/// If one of them is none of these.
pub(crate) fn hosts<'a>(
    kernels: &'a [Kernel],
    cpus: &'a [Cpu],
) -> Result<([&'a Kernel; 2], &'a Cpu)> {
    let found = |version| kernels.iter().find(|kernel| kernel.version == version);
    let pair = found(KERNELS[0]).zip(found(KERNELS[1]));
    let cpu = cpus.iter().find(|cpu| cpu.to_string() == CPU);
    let ((first, second), cpu) = pair.zip(cpu).ok_or("no hosts for the relay")?;
    Ok(([first, second], cpu))
}

/// Boots both, and tests what moves between them.
pub(crate) fn test(bench: &Fixture<'_>, kernels: [&Kernel; 2], cpu: &Cpu) {
    let pair = MigrationRunner {
        hosts: HostPair {
            lab: bench.lab,
            cpu,
            kernels,
            serial: false,
            // The example VMM's guests have their results under the same kernels.
            results: &format!("{RESULTS}/relay"),
        },
        program: &bench.programs.join("cpreg"),
        series: DEFAULT_SERIES,
    };
    match pair.run(&KINDS) {
        Ok(all) => {
            for (name, outcome) in all {
                bench.tally.count(&name, outcome.map(drop));
            }
        }
        Err(error) => bench.tally.count("the relay in the lab", Err(error)),
    }
}
