//! The kinds of CPU of this host, from sysfs and from CTR_EL0 on each CPU.

use std::fs;
use std::path::Path;

use cpreg::register::parse_hexadecimal;
use cpreg_hosts::record::PhysicalCpu;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::system_registers;

/// Folder of the CPUs in sysfs.
const CPUS_PATH: &str = "/sys/devices/system/cpu";

/// Returns the kinds of the CPUs that are online, in the order of their first CPUs.
///
/// Returns an empty list if the kernel does not show the CPUs' registers in sysfs (before v4.7).
pub(super) fn read() -> Vec<PhysicalCpu> {
    let mut kinds: Vec<PhysicalCpu> = Vec::new();
    for number in cpu_numbers() {
        let Some(cpu) = read_cpu(number) else {
            continue;
        };
        let known = kinds
            .iter_mut()
            .find(|kind| (kind.midr, kind.revidr, kind.ctr) == (cpu.midr, cpu.revidr, cpu.ctr));
        match known {
            Some(kind) => kind.count += 1,
            None => kinds.push(cpu),
        }
    }
    kinds
}

/// Returns the numbers of the CPUs, ascending.
fn cpu_numbers() -> Vec<usize> {
    let entries = fs::read_dir(CPUS_PATH).into_iter().flatten().flatten();
    let mut numbers: Vec<usize> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("cpu")?
                .parse()
                .ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Returns one CPU, or `None` if it is offline or this process may not run on it.
fn read_cpu(number: usize) -> Option<PhysicalCpu> {
    let folder = Path::new(CPUS_PATH).join(format!("cpu{number}/regs/identification"));
    let register = |name| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        parse_hexadecimal(text.trim())
    };
    let (midr, revidr) = (register("midr_el1")?, register("revidr_el1")?);
    // The affinity is that of a thread that ends here, so the process keeps its own.
    let ctr = std::thread::spawn(move || {
        let mut cpus = CpuSet::new();
        cpus.set(number);
        sched_setaffinity(None, &cpus).ok()?;
        Some(system_registers::read_ctr())
    });
    let ctr = ctr.join().ok().flatten()?;
    Some(PhysicalCpu {
        midr,
        revidr,
        ctr,
        count: 1,
    })
}
