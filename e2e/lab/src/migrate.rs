//! `cargo xtask lab migrate`: moves the example VMM's guest live between two emulated hosts, from
//! each kernel to each other kernel.
//!
//! Boots each pair of kernels once, as connected hosts, and moves a guest in both directions:
//! without consent, and after a refusal with `--accept low`. `docs/vmm-matrix/CPU.jsonl` keeps the
//! outcomes, a line for each source and destination. A move whose outcome is kept is not repeated.
//! [`migrate_table`](super::migrate_table) renders these files as `docs/vmm-matrix.md`.
//!
//! With options that change the moved VM, or with a local kernel, outcomes are printed and not
//! kept.

use std::path::PathBuf;
use std::time::Instant;

use super::evaluate::MoveOutcome;
use super::host_pair::HostPair;
use super::migrate_table::{Line, MoveTable};
use super::trips::{MoveAttempt, Trip, TripRunner};
use crate::options::{KernelArgs, cpus_or_default};
use clap::Args;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::Kernel;
use e2e_framework::paths::repository;

/// Default CPU models: one without and one with the features of later architectures.
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// Consents of successive attempts.
const CONSENTS: [Option<&str>; 2] = [None, Some("low")];

/// Move the example VMM's guest, live, from each kernel to each other
///
/// With --serial, --same-kernel, --round-trip, --kernel-image, --accept or --vcpus outcomes are
/// printed and not kept.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model (repeatable)
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// Repeat moves whose outcome is kept
    #[arg(long)]
    rerun: bool,
    /// Folder of the tables (default: docs/)
    #[arg(short = 'o', long = "output", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Consent of successive attempts (repeatable)
    #[arg(long = "accept", value_name = "SEVERITY")]
    consents: Vec<String>,
    /// Number of vCPUs of the guest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    vcpus: Option<u8>,
    /// Connect the hosts by a serial line instead of a network
    #[arg(long)]
    serial: bool,
    /// Also move from each kernel to itself
    #[arg(long)]
    same_kernel: bool,
    /// Move the guest back
    #[arg(long)]
    round_trip: bool,
}

impl MigrateArgs {
    /// Returns `true` if the options differ from those with which the tables are made.
    fn is_exploratory(&self) -> bool {
        let has_other_inputs = self.kernels.has_images() || !self.consents.is_empty();
        self.serial
            || self.same_kernel
            || self.round_trip
            || has_other_inputs
            || self.vcpus.is_some()
    }
}

/// Runs `cargo xtask lab migrate`.
///
/// # Errors
/// Returns an error if a move neither succeeds nor is refused.
pub(crate) fn run(lab: &Lab, arguments: &MigrateArgs) -> Result<()> {
    let is_exploratory = arguments.is_exploratory();
    let kernels = arguments.kernels.get(lab)?;
    let cpus = cpus_or_default(&arguments.cpus, &CPUS)?;
    let programs = lab.build_programs(&["cpreg-vmm"])?;
    lab.prepare(false)?;
    let folder = arguments.folder.clone();
    let folder = folder.unwrap_or_else(|| repository().join("docs"));
    let mut failed = Vec::new();
    // Pairs run one after another, because each pair boots two hosts already.
    for cpu in &cpus {
        let mut table = MoveTable::open(&folder, cpu)?;
        for (index, first) in kernels.iter().enumerate() {
            let skip = index + usize::from(!arguments.same_kernel);
            for second in kernels.iter().skip(skip) {
                let pair = TripRunner {
                    hosts: HostPair {
                        lab,
                        cpu,
                        kernels: [first, second],
                        serial: arguments.serial || HostPair::needs_serial([first, second]),
                        results: "migrate",
                    },
                    program: &programs.join("cpreg-vmm"),
                };
                let is_kept = |from: &Kernel, to: &Kernel| table.has(&from.version, &to.version);
                let are_both_kept = is_kept(first, second) && is_kept(second, first);
                if !is_exploratory && are_both_kept && !arguments.rerun {
                    continue;
                }
                match run_moves(&pair, arguments) {
                    Ok((lines, mut errors)) => {
                        failed.append(&mut errors);
                        if !is_exploratory {
                            table.add(lines);
                            table.write(&folder)?;
                        }
                    }
                    Err(error) => failed.push(error.to_string()),
                }
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// Runs the moves between two hosts. Returns the outcomes, and the failures.
fn run_moves(pair: &TripRunner<'_>, arguments: &MigrateArgs) -> Result<(Vec<Line>, Vec<String>)> {
    let start = Instant::now();
    let consents = match arguments.consents.as_slice() {
        [] => CONSENTS.to_vec(),
        consents => consents
            .iter()
            .map(|consent| Some(consent.as_str()))
            .collect(),
    };
    let [first, second] = pair.hosts.kernels;
    let directions: &[usize] = if first.version == second.version {
        &[0]
    } else {
        &[0, 1]
    };
    let trips: Vec<_> = directions
        .iter()
        .map(|from| Trip {
            source_host: *from,
            consents: consents.clone(),
            has_return: arguments.round_trip,
            vcpus: arguments.vcpus.unwrap_or(1),
        })
        .collect();
    let wire = if pair.hosts.serial {
        "serial line"
    } else {
        "network"
    };
    let results = pair.run(&trips)?;
    println!(
        "{} and {} on {}, {wire}, {:.1?}",
        first.version,
        second.version,
        pair.hosts.cpu,
        start.elapsed()
    );
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for (trip, attempts) in trips.iter().zip(results) {
        let (from, to) = (
            pair.hosts.kernels[trip.source_host],
            pair.hosts.kernels[1 - trip.source_host],
        );
        let name = format!("{} -> {}", from.version, to.version);
        match attempts {
            Ok(attempts) => {
                for attempt in &attempts {
                    println!("  {name}: {}", describe_attempt(attempt));
                }
                lines.push(Line::new(from, to, pair.hosts.serial, &attempts));
            }
            Err(error) => {
                println!("  {name}: FAILED");
                failed.push(format!("{name} on {}: {error}", pair.hosts.cpu));
            }
        }
    }
    Ok((lines, failed))
}

/// Describes an attempt in one line.
pub(crate) fn describe_attempt(attempt: &MoveAttempt) -> String {
    let consent = attempt.consent.as_ref();
    let consent = consent.map_or_else(
        || "without consent".to_owned(),
        |severity| format!("--accept {severity}"),
    );
    let outcome = |outcome: &MoveOutcome| match outcome {
        MoveOutcome::Moved { figures } => format!("moved, {figures}"),
        MoveOutcome::Refused { .. } => format!("refused for {}", outcome.blockers().join(", ")),
    };
    let back = attempt.inbound.as_ref();
    let back = back.map_or_else(String::new, |back| format!("; and back: {}", outcome(back)));
    format!("{consent}: {}{back}", outcome(&attempt.outbound))
}
