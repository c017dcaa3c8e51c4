//! `cargo xtask lab migrate`: the example VMM's guest moves live between two emulated hosts, from each of the kernels to each other.
//!
//! Each two kernels are booted once, connected, and a guest is moved in either direction: with nothing consented to, and, if that is refused, with
//! `--accept low`. What came of it is kept in `docs/vmm-matrix/CPU.jsonl`, a line for each source and destination, and what is there is not tried again;
//! `docs/vmm-matrix.md` is made of these files by [`migrate_table`](super::migrate_table).
//!
//! With options that change what is moved, or with a kernel of one's own, moves are looked at, and nothing is kept.

use std::path::PathBuf;
use std::time::Instant;

use super::Lab;
use super::cpu::Cpu;
use super::judge::Outcome;
use super::kernels::Kernel;
use super::migrate_table::{Kept, Line};
use super::options::Options;
use super::pair::{Pair, Trip, Try};
use super::record::chosen;
use super::wired::Wired;
use crate::{Result, repository};

/// Without and with what later architectures added.
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// What is consented to, one after another.
const CONSENTS: [Option<&str>; 2] = [None, Some("low")];

/// `cargo xtask lab migrate`.
///
/// # Errors
/// If a move neither succeeds nor is refused.
pub(super) fn run(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(
        arguments,
        &[
            "--kernel",
            "--kernel-image",
            "--cpu",
            "--accept",
            "--vcpus",
            "-o",
        ],
        &["--serial", "--itself", "--back", "--again"],
    )?;
    let looks = ["--serial", "--itself", "--back"];
    let looks = looks.into_iter().any(|flag| options.has(flag))
        || ["--kernel-image", "--accept", "--vcpus"]
            .into_iter()
            .any(|name| options.last(name).is_some());
    let kernels = chosen(lab, &options)?;
    let mut names = options.all("--cpu");
    if names.is_empty() {
        names.extend(CPUS);
    }
    // What is wrong with them is said before anything is built.
    let cpus: Vec<_> = names
        .iter()
        .map(|name| Cpu::parse(name))
        .collect::<Result<_>>()?;
    if let Some(count) = options.last("--vcpus")
        && !count.parse().is_ok_and(|count: u8| count > 0)
    {
        return Err(format!("--vcpus {count}: not a number of vCPUs").into());
    }
    let programs = lab.programs(&["cpreg-vmm"])?;
    lab.prepare(false)?;
    let folder = options
        .last("-o")
        .map_or_else(|| repository().join("docs"), PathBuf::from);
    let mut failed = Vec::new();
    // One pair after the other: each is two hosts.
    for cpu in &cpus {
        let mut kept = Kept::open(&folder, cpu)?;
        for (place, first) in kernels.iter().enumerate() {
            let skip = place + usize::from(!options.has("--itself"));
            for second in kernels.iter().skip(skip) {
                let pair = Pair {
                    hosts: Wired {
                        lab,
                        cpu,
                        kernels: [first, second],
                        serial: options.has("--serial") || Wired::needs_serial([first, second]),
                        results: "migrate",
                    },
                    program: &programs.join("cpreg-vmm"),
                };
                let known = |from: &Kernel, to: &Kernel| kept.has(&from.version, &to.version);
                let is_known = known(first, second) && known(second, first);
                if !looks && is_known && !options.has("--again") {
                    continue;
                }
                match moves(&pair, &options) {
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
fn moves(pair: &Pair<'_>, options: &Options<'_>) -> Result<(Vec<Line>, Vec<String>)> {
    let start = Instant::now();
    let consents = match options.all("--accept").as_slice() {
        [] => CONSENTS.to_vec(),
        some => some.iter().map(|consent| Some(*consent)).collect(),
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
            from: *from,
            consents: consents.clone(),
            back: options.has("--back"),
            vcpus: options.last("--vcpus").unwrap_or("1"),
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
            pair.hosts.kernels[trip.from],
            pair.hosts.kernels[1 - trip.from],
        );
        let name = format!("{} -> {}", from.version, to.version);
        match tries {
            Ok(tries) => {
                for tried in &tries {
                    println!("  {name}: {}", in_words(tried));
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
pub(super) fn in_words(tried: &Try) -> String {
    let consent = tried.consent.as_ref();
    let consent = consent.map_or_else(|| "as it is".to_owned(), |it| format!("--accept {it}"));
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Moved { figures } => format!("moved, {figures}"),
        Outcome::Refused { .. } => format!("refused for {}", outcome.in_the_way().join(", ")),
    };
    let back = tried.back.as_ref();
    let back = back.map_or_else(String::new, |back| format!("; and back: {}", outcome(back)));
    format!("{consent}: {}{back}", outcome(&tried.there))
}
