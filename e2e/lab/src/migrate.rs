//! `cargo xtask lab migrate`: the example VMM's guest moves live between two emulated hosts, from each of the kernels to each other.
//!
//! Each two kernels are booted once, connected, and a guest is moved in either direction: with nothing consented to, and, if that is refused, with
//! `--accept low`. What came of it is kept in `docs/vmm-matrix/CPU.jsonl`, a line for each source and destination, and what is there is not tried again;
//! `docs/vmm-matrix.md` is made of these files by [`migrate_table`](super::migrate_table).
//!
//! With options that change what is moved, or with a kernel of one's own, moves are looked at, and nothing is kept.

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

/// Without and with what later architectures added.
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// What is consented to, one after another.
const CONSENTS: [Option<&str>; 2] = [None, Some("low")];

/// Move the example VMM's guest, live, from each kernel to each other
///
/// With --serial, --same-kernel, --round-trip, --kernel-image, --accept or --vcpus moves are looked at, and not kept.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// A CPU model, any number of times
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// Try again what is known
    #[arg(long)]
    rerun: bool,
    /// Where the tables go; docs/ if this is not given
    #[arg(short = 'o', long = "output", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Consent to this, any number of times, one after another
    #[arg(long = "accept", value_name = "SEVERITY")]
    consents: Vec<String>,
    /// How many vCPUs the guest has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    vcpus: Option<u8>,
    /// Connect the hosts by a serial line and not by a network
    #[arg(long)]
    serial: bool,
    /// Move from each kernel to itself too
    #[arg(long)]
    same_kernel: bool,
    /// Bring the guest back
    #[arg(long)]
    round_trip: bool,
}

impl MigrateArgs {
    /// Returns `true` if what is moved is other than what the tables are about.
    fn is_exploratory(&self) -> bool {
        let is_other = self.kernels.has_images() || !self.consents.is_empty();
        self.serial || self.same_kernel || self.round_trip || is_other || self.vcpus.is_some()
    }
}

/// Runs `cargo xtask lab migrate`.
///
/// # Errors
/// If a move neither succeeds nor is refused.
pub(crate) fn run(lab: &Lab, arguments: &MigrateArgs) -> Result<()> {
    let looks = arguments.is_exploratory();
    let kernels = arguments.kernels.get(lab)?;
    let cpus = cpus_or_default(&arguments.cpus, &CPUS)?;
    let programs = lab.build_programs(&["cpreg-vmm"])?;
    lab.prepare(false)?;
    let folder = arguments.folder.clone();
    let folder = folder.unwrap_or_else(|| repository().join("docs"));
    let mut failed = Vec::new();
    // One pair after the other: each is two hosts.
    for cpu in &cpus {
        let mut kept = MoveTable::open(&folder, cpu)?;
        for (place, first) in kernels.iter().enumerate() {
            let skip = place + usize::from(!arguments.same_kernel);
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
                let known = |from: &Kernel, to: &Kernel| kept.has(&from.version, &to.version);
                let is_known = known(first, second) && known(second, first);
                if !looks && is_known && !arguments.rerun {
                    continue;
                }
                match run_moves(&pair, arguments) {
                    Ok((lines, mut errors)) => {
                        failed.append(&mut errors);
                        if !looks {
                            kept.add(lines);
                            kept.write(&folder)?;
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

/// The moves between two hosts; what came of them, and what failed.
fn run_moves(pair: &TripRunner<'_>, arguments: &MigrateArgs) -> Result<(Vec<Line>, Vec<String>)> {
    let start = Instant::now();
    let consents = match arguments.consents.as_slice() {
        [] => CONSENTS.to_vec(),
        some => some.iter().map(|consent| Some(consent.as_str())).collect(),
    };
    let [first, second] = pair.hosts.kernels;
    let ways: &[usize] = if first.version == second.version {
        &[0]
    } else {
        &[0, 1]
    };
    let trips: Vec<_> = ways
        .iter()
        .map(|from| Trip {
            source_host: *from,
            consents: consents.clone(),
            is_round_trip: arguments.round_trip,
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
    for (trip, tries) in trips.iter().zip(results) {
        let (from, to) = (
            pair.hosts.kernels[trip.source_host],
            pair.hosts.kernels[1 - trip.source_host],
        );
        let name = format!("{} -> {}", from.version, to.version);
        match tries {
            Ok(tries) => {
                for tried in &tries {
                    println!("  {name}: {}", describe_attempt(tried));
                }
                lines.push(Line::new(from, to, pair.hosts.serial, &tries));
            }
            Err(error) => {
                println!("  {name}: FAILED");
                failed.push(format!("{name} on {}: {error}", pair.hosts.cpu));
            }
        }
    }
    Ok((lines, failed))
}

/// A try in a line.
pub(crate) fn describe_attempt(tried: &MoveAttempt) -> String {
    let consent = tried.consent.as_ref();
    let consent = consent.map_or_else(|| "as it is".to_owned(), |it| format!("--accept {it}"));
    let outcome = |outcome: &MoveOutcome| match outcome {
        MoveOutcome::Moved { figures } => format!("moved, {figures}"),
        MoveOutcome::Refused { .. } => format!("refused for {}", outcome.blockers().join(", ")),
    };
    let back = tried.inbound.as_ref();
    let back = back.map_or_else(String::new, |back| format!("; and back: {}", outcome(back)));
    format!("{consent}: {}{back}", outcome(&tried.outbound))
}
