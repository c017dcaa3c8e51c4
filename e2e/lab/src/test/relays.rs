//! Test of `cpreg relay` and `cpreg run`: a guest of QEMU under KVM moves live between hosts with
//! different kernels, over their network. Without cpreg the guest stays. The test runs in both
//! directions.
//!
//! `lab relay` and `lab live-run` cover all kinds of migration, and other CPU models.

use super::fixture::{Fixture, RESULTS};
use crate::host_pair::HostPair;
use crate::relay::{DEFAULT_SERIES, MigrationKind, MigrationRunner};
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::kernels::Kernel;

/// Kernels and CPU model, among the tested ones.
const KERNELS: [&str; 2] = ["6.12.107", "7.3.4"];
const CPU: &str = "neoverse-n1";

const KINDS: [MigrationKind; 3] = [
    MigrationKind::Direct,
    MigrationKind::Precopy,
    MigrationKind::RunPrecopy,
];

/// Returns the hosts for this test, among the tested ones.
///
/// # Errors
/// Returns an error if a host is not among the tested ones.
pub(crate) fn hosts<'a>(
    kernels: &'a [Kernel],
    cpus: &'a [Cpu],
) -> Result<([&'a Kernel; 2], &'a Cpu)> {
    let kernel = |version| kernels.iter().find(|kernel| kernel.version == version);
    let pair = kernel(KERNELS[0]).zip(kernel(KERNELS[1]));
    let cpu = cpus.iter().find(|cpu| cpu.to_string() == CPU);
    let ((first, second), cpu) = pair.zip(cpu).ok_or("no hosts for the relay")?;
    Ok(([first, second], cpu))
}

/// Boots both hosts, and tests the migrations between them.
pub(crate) fn test(fixture: &Fixture<'_>, kernels: [&Kernel; 2], cpu: &Cpu) {
    let pair = MigrationRunner {
        hosts: HostPair {
            lab: fixture.lab,
            cpu,
            kernels,
            serial: false,
            // A folder of its own, because tests of the example VMM use the same kernels.
            results: &format!("{RESULTS}/relay"),
        },
        programs: fixture.run_programs,
        series: DEFAULT_SERIES,
    };
    match pair.run(&KINDS) {
        Ok(results) => {
            for (name, outcome) in results {
                fixture.tally.count(&name, outcome.map(drop));
            }
        }
        Err(error) => fixture.tally.count("the relay in the lab", Err(error)),
    }
}
