//! Many VMs on many nodes: `cpreg fleet check`.
//!
//! The nodes have recorded hosts that decide differently, in turn. The VMs are those of
//! [`crate::matrix`], on nodes with the hosts on which they were recorded.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cpreg_fleet::{Host, Inventory};
use cpreg_hosts::HostIndex;
use e2e_framework::Result;

use crate::commands::Benchmark;
use crate::matrix;
use crate::measure;
use crate::table::mebibytes;

/// Numbers of VMs, if the user gives none.
pub(crate) const VM_COUNTS: [usize; 3] = [1000, 10_000, 100_000];
/// Numbers of different records for the smallest number of VMs. The others have the last one.
const RECORD_COUNTS: [usize; 3] = [10, 25, 50];
const NODE_COUNT: usize = 10_000;
/// Numbers of VMs that cover all recordings.
const TEMPLATE_LIMIT: usize = 20;
/// Folder with the VMs, and the inventory beside it.
const FOLDER: &str = "vms";
const INVENTORY: &str = "fleet.jsonl";

/// Measures a check for each number of VMs and of records, and prints the curve.
///
/// # Errors
/// Returns an error if something cannot be made or run.
pub(crate) fn run(benchmark: &Benchmark<'_>, counts: &[usize]) -> Result<()> {
    let templates = matrix::templates(benchmark)?;
    let folder = benchmark.folder.join(FOLDER);
    fs::create_dir(&folder)?;
    println!(
        "{:>8} {:>8} {:>8} {:>10} {:>10} {:>12} {:>10}",
        "VMs", "nodes", "records", "time", "CPU time", "CPU a VM", "memory"
    );
    let [.., most] = RECORD_COUNTS;
    let hosts = different_hosts(most)?;
    let mut written = 0;
    for (index, count) in counts.iter().enumerate() {
        while written < *count {
            matrix::write_vm(&templates, &folder, written)?;
            written += 1;
        }
        let records = if index == 0 {
            &RECORD_COUNTS[..]
        } else {
            &[most]
        };
        for records in records {
            let inventory = inventory(&hosts[..*records], *count)?;
            fs::write(benchmark.folder.join(INVENTORY), inventory)?;
            measure_check(benchmark.folder, &benchmark.cpreg, *count, *records)?;
        }
    }
    Ok(())
}

/// Returns the names of recorded hosts that decide differently, first those of the VMs.
fn different_hosts(count: usize) -> Result<Vec<String>> {
    let index = HostIndex::built_in()?;
    let mut inventory = Inventory::default();
    let mut first = Vec::new();
    for name in (0..TEMPLATE_LIMIT).filter_map(matrix::host_name) {
        first.push(index.resolve(&name)?.host);
    }
    for host in first.into_iter().chain(index.hosts()) {
        inventory.add_host(Host::recorded(host.name(), host.record()));
    }
    let names = inventory.hosts().iter().map(|host| host.name().to_owned());
    let names: Vec<_> = names.take(count).collect();
    if names.len() < count {
        return Err(format!("only {} recorded hosts decide differently", names.len()).into());
    }
    Ok(names)
}

/// Returns an inventory of nodes and VMs.
fn inventory(hosts: &[String], vms: usize) -> Result<String> {
    let mut text = String::new();
    for (node, host) in hosts.iter().cycle().take(NODE_COUNT).enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(text, r#"{{"node":"n{node}","host":"{host}"}}"#);
    }
    for vm in 0..vms {
        let name = matrix::host_name(vm).ok_or("a recording without a host")?;
        let host = hosts.iter().position(|host| *host == name);
        let host = host.ok_or_else(|| format!("no node has the host {name}"))?;
        let node = host + hosts.len() * (vm % (NODE_COUNT / hosts.len()));
        let file = matrix::file_name(vm);
        let _ = writeln!(
            text,
            r#"{{"vm":"vm{vm}","node":"n{node}","source":"{FOLDER}/{file}"}}"#
        );
    }
    Ok(text)
}

/// Runs the command once, and prints its cost.
fn measure_check(folder: &Path, cpreg: &str, vms: usize, records: usize) -> Result<()> {
    // Some VMs have no way, and some pairs are unknown, as in every fleet of this size.
    let script = "\"$0\" fleet check \"$1\" --loader qemu-10.0 || test $? -eq 1 -o $? -eq 3";
    let cost = measure::run(folder, &["sh", "-c", script, cpreg, INVENTORY])?;
    let cpu_time = cost.cpu_time.ok_or("the run has no CPU time")?;
    let each = cpu_time / u32::try_from(vms).unwrap_or(u32::MAX).max(1);
    // `Debug` rounds to the given precision but does not pad.
    println!(
        "{vms:>8} {NODE_COUNT:>8} {records:>8} {:>10} {:>10} {:>12} {:>6.0} MiB",
        format!("{:.1?}", cost.time),
        format!("{cpu_time:.1?}"),
        format!("{each:.2?}"),
        mebibytes(cost.peak_memory),
    );
    Ok(())
}
