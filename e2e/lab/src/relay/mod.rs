//! `cargo xtask lab relay`: a guest of QEMU under KVM moves live from one emulated host to another with a different kernel, over the network between them:
//! as it is, which fails today, and through `cpreg relay`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`case`](mod@case) | the kinds of migration, and what each end does in one |
//! | [`expected`] | what the [matrix](super::matrix) found of a source and a destination |
//! | [`runner`] | two hosts, and the migrations between their QEMUs |
//! | [`evaluate`](mod@evaluate) | what became of a migration, by what QEMU, guest and cpreg said at both ends |
//!
//! The relay runs at the destination, which it asks what it is (`--to kvm`); with postcopy, both hosts
//! are given by their recorded names. Nothing is expected here that the matrix does not say: it has QEMU's words
//! where the guest does not move as it is, what must be consented to, and which registers the guest then finds changed.

mod case;
mod evaluate;
mod expected;
mod runner;

use std::time::Instant;

pub(crate) use self::case::MigrationKind;
pub(crate) use self::runner::MigrationRunner;
use super::host_pair::HostPair;
use crate::options::cpus_or_default;
use clap::Args;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels;
use e2e_framework::lab::roots::SERIES;

/// An old kernel, whose lists QEMU 10.0 takes nowhere else, and a new one.
const KERNELS: [&str; 2] = ["6.12.107", "7.3.4"];

const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// The last QEMU without rules of its own for lists that are not its host's.
pub(crate) const DEFAULT_SERIES: &str = "10.0";

/// Move a guest of QEMU under KVM, live over the network, through `cpreg relay`
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    /// One of two kernels
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// A CPU model, any number of times
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// A kind of migration, any number of times; each if none is given
    #[arg(long = "case", value_name = "NAME", value_parser = MigrationKind::parse)]
    kinds: Vec<MigrationKind>,
    /// The DEFAULT_SERIES at both ends
    #[arg(long = "qemu", value_name = "SERIES", value_parser = SERIES, default_value = DEFAULT_SERIES)]
    series: String,
}

/// Runs `cargo xtask lab relay`.
///
/// # Errors
/// If a guest ends elsewhere or otherwise than is expected.
pub(crate) fn run(lab: &Lab, arguments: &RelayArgs) -> Result<()> {
    let cpus = cpus_or_default(&arguments.cpus, &CPUS)?;
    let kinds = match arguments.kinds.as_slice() {
        [] => &MigrationKind::ALL[..],
        some => some,
    };
    let mut names: Vec<_> = arguments.kernels.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(KERNELS);
    }
    let kernels = lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &names))?;
    let [first, second] = kernels.as_slice() else {
        return Err("relay wants two kernels: --kernel VERSION --kernel VERSION".into());
    };
    let programs = lab.build_programs(&["cpreg-cli"])?;
    lab.prepare(true)?;
    let mut failed = Vec::new();
    // One pair after the other: each is two hosts.
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
            program: &programs.join("cpreg"),
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
