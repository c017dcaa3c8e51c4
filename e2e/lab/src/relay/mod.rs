//! `cargo xtask lab relay` and `lab live-run`: move a guest of QEMU under KVM between two emulated
//! hosts with different kernels, over the network between them. Without cpreg the move fails. It
//! succeeds through `cpreg relay`, or with a destination QEMU that `cpreg run` starts.
//!
//! | module | content |
//! |---|---|
//! | [`case`](mod@case) | kinds of migration, and the script line of each host |
//! | [`expected`] | results of the [matrix](super::matrix) for a source and a destination |
//! | [`runner`] | two hosts, and the migrations between their QEMUs |
//! | [`tls`] | certificates for migrations over TLS |
//! | [`disk_image`] | empty disk for snapshots |
//! | [`evaluate`](mod@evaluate) | outcome of a migration, from the output of both hosts |
//!
//! The relay runs at the destination, and probes that host (`--to kvm`). With postcopy, both hosts
//! are given by their recorded names. All expectations are from the matrix: QEMU's errors, the
//! required consent, and the registers that the guest finds changed.

mod case;
mod disk_image;
mod evaluate;
mod expected;
mod runner;
mod tls;

use std::time::Instant;

pub(crate) use self::case::MigrationKind;
pub(crate) use self::runner::MigrationRunner;
use super::host_pair::{HostPair, fetch_two_kernels};
use crate::interposed::RunPrograms;
use crate::options::cpus_or_default;
use clap::Args;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::roots::SERIES;

/// Default kernels: an old one, whose register lists QEMU 10.0 accepts on no other kernel, and a
/// new one.
const KERNELS: [&str; 2] = ["6.12.107", "7.3.4"];

const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// Last series of QEMU that has no tolerances of its own.
pub(crate) const DEFAULT_SERIES: &str = "10.0";

/// Arguments of the moves between two hosts.
#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// One of two kernels
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// CPU model (repeatable)
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// Kind of migration (repeatable; default: each)
    #[arg(long = "case", value_name = "NAME", value_parser = MigrationKind::parse)]
    kinds: Vec<MigrationKind>,
    /// QEMU series at both ends
    #[arg(long = "qemu", value_name = "SERIES", value_parser = SERIES, default_value = DEFAULT_SERIES)]
    series: String,
}

/// Runs `cargo xtask lab relay`, or `lab live-run`, whose default kinds are others.
///
/// # Errors
/// Returns an error if a guest ends in another place or state than expected.
pub(crate) fn run(lab: &Lab, arguments: &LiveArgs, default_kinds: &[MigrationKind]) -> Result<()> {
    let cpus = cpus_or_default(&arguments.cpus, &CPUS)?;
    let kinds = match arguments.kinds.as_slice() {
        [] => default_kinds,
        kinds => kinds,
    };
    let [first, second] = &fetch_two_kernels(lab, &arguments.kernels, KERNELS)?;
    let programs = RunPrograms::build(lab)?;
    lab.prepare(true)?;
    let mut failed = Vec::new();
    // CPU models run one after another, because each boots two hosts.
    for cpu in &cpus {
        let start = Instant::now();
        let pair = MigrationRunner {
            hosts: HostPair {
                lab,
                cpu,
                kernels: [first, second],
                serial: false,
                results: "relay",
            },
            programs: &programs,
            series: &arguments.series,
        };
        for (name, outcome) in pair.run(kinds)? {
            match outcome {
                Ok(figures) => println!("ok      {name}: {figures}"),
                Err(error) => {
                    println!("FAILED  {name}\n{error}");
                    failed.push(name);
                }
            }
        }
        println!("{cpu}: {:.1?}", start.elapsed());
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join(", ").into())
    }
}
