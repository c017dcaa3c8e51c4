//! Is a rehearsal right? Every small recorded stream of TCG is loaded without its RAM and whole, as it is and repaired: the outcome and
//! QEMU's words must be the same, and what is repaired must load and leave the same registers.
//!
//! Left out are the streams that need capabilities or further channels to be loaded whole (`streams/`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use cpreg::destination::Destination;
use cpreg::plan::{Consents, Outcome as Planned, Plan};
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_qemu::rehearse::{self, Outcome};
use cpreg_stream::ReadAt;
use cpreg_stream::Stream;

use super::bench::{Bench, JOBS, PATIENCE, loader_of};
use super::compare;
use super::place::Place;
use super::sources::{self, Source};
use e2e_framework::paths::repository;
use e2e_framework::qemu::Qemu;
use e2e_framework::{Result, parallel};

/// What a QEMU made of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    loads: bool,
    said: Vec<String>,
    /// What the vCPUs held then.
    after: Option<Vm>,
}

/// How often what happened, by column of the table.
type Counts = BTreeMap<&'static str, usize>;

/// Loads all of them into all of these; prints a table.
///
/// # Errors
/// If a rehearsal and a whole load differ anywhere, or a repaired stream does not load.
pub(crate) fn run(bench: &Bench<'_>, qemus: &[Qemu]) -> Result<()> {
    let begin = Instant::now();
    let sources: Vec<_> = bench.sources.iter().filter(|it| is_plain(it)).collect();
    let cases = qemus
        .iter()
        .flat_map(|qemu| sources.iter().map(move |source| (qemu, *source)));
    let counts: Mutex<BTreeMap<&str, Counts>> = Mutex::default();
    let failures = Mutex::new(Vec::new());
    parallel::each(JOBS, cases, |(qemu, source)| {
        let columns = one(bench, qemu, source).unwrap_or_else(|error| {
            let text = format!("{} into QEMU {}: {error}", source.name, qemu.series);
            println!("{text}\n");
            if let Ok(mut failures) = failures.lock() {
                failures.push(text);
            }
            vec!["wrong"]
        });
        if let Ok(mut counts) = counts.lock() {
            let counts = counts.entry(qemu.series).or_default();
            for column in columns {
                *counts.entry(column).or_default() += 1;
            }
        }
    });
    let counts = counts.into_inner().unwrap_or_default();
    println!(
        "QEMU   streams  no machine  as it is: loads  fails   repaired: loads  cannot be   wrong   (without RAM as whole)"
    );
    for qemu in qemus {
        let of = |column| {
            let counts = counts.get(qemu.series);
            counts.and_then(|it| it.get(column)).unwrap_or(&0)
        };
        println!(
            "{:<6} {:>7} {:>11} {:>16} {:>6} {:>17} {:>10} {:>7}",
            qemu.series,
            sources.len(),
            of("no machine"),
            of("loads"),
            of("fails"),
            of("repaired"),
            of("cannot be"),
            of("wrong")
        );
    }
    println!("in {:.1?}", begin.elapsed());
    match failures.into_inner().unwrap_or_default().len() {
        0 => Ok(()),
        count => Err(format!("{count} streams of which a rehearsal tells something else").into()),
    }
}

fn is_plain(source: &Source) -> bool {
    source.name.starts_with("tcg/")
}

/// One stream into one QEMU, two or four times; gives the columns of the table that it counts in.
fn one(bench: &Bench<'_>, qemu: &Qemu, source: &Source) -> Result<Vec<&'static str>> {
    let place = Place::of(source, qemu.series).ok_or("its machine is no `virt`")?;
    if !place.has_machine_of(source) {
        return Ok(vec!["no machine"]);
    }
    let command = place.command(&qemu.program());
    let host = bench.host(&command, loader_of(qemu)?)?;
    let load = |stream: &dyn ReadAt| -> Result<Seen> {
        let done = rehearse::load(&command, stream, &PATIENCE)?;
        let after = match done.after {
            Some(Ok(after)) => Some(after.stream.vm()?),
            Some(Err(error)) => return Err(error.into()),
            None => None,
        };
        Ok(Seen {
            loads: done.outcome == Outcome::Loaded,
            said: compare::said(&done.said),
            after,
        })
    };
    let whole = unpacked(source)?;
    let (rehearsed, loaded) = (load(&source.bytes)?, load(&whole)?);
    if (rehearsed.loads, &rehearsed.said) != (loaded.loads, &loaded.said) {
        return Err(differ("as it is", &rehearsed, &loaded).into());
    }
    let mut columns = vec![if loaded.loads { "loads" } else { "fails" }];

    let stream = Stream::open(&whole)?;
    let vm = stream.vm()?;
    let Some(planned) = planned(&vm, &host.destination) else {
        columns.push("cannot be");
        return Ok(columns);
    };
    let edit = stream.edit(&whole, &stream.changes_to(&planned)?)?;
    let repaired = edit.over(&whole);
    let skeleton = Stream::open(&repaired)?.without_ram(&[])?;
    let (rehearsed, loaded) = (load(&skeleton.over(&repaired))?, load(&repaired)?);
    if rehearsed != loaded {
        return Err(differ("repaired", &rehearsed, &loaded).into());
    }
    if !loaded.loads {
        return Err(format!("repaired, it does not load: {}", loaded.said.join("\n  ")).into());
    }
    columns.push("repaired");
    Ok(columns)
}

fn unpacked(source: &Source) -> Result<File> {
    let path = format!("tests/fixtures/{}.stream.xz", source.name);
    sources::unpack(&repository().join(Path::new(&path)))
}

/// What cpreg makes of it for that destination: strictly, or with every adjustment that it proposes.
fn planned(vm: &Vm, host: &Destination) -> Option<Vm> {
    let tolerances = Tolerances::default();
    let all = Consents {
        accept_up_to: Some(Severity::High),
        ..Consents::default()
    };
    [Consents::default(), all].iter().find_map(|consents| {
        let plan = Plan::new(vm, host, &tolerances, consents);
        (plan.outcome() == Planned::Ready).then(|| plan.result(vm))
    })
}

fn differ(which: &str, rehearsed: &Seen, loaded: &Seen) -> String {
    let mut text = format!(
        "{which}, without RAM it loads: {}, whole: {}\n  without RAM QEMU says\n    {}\n  whole it says\n    {}",
        rehearsed.loads,
        loaded.loads,
        rehearsed.said.join("\n    "),
        loaded.said.join("\n    ")
    );
    if let (Some(one), Some(other)) = (&rehearsed.after, &loaded.after) {
        for (number, (one, other)) in one.vcpus.iter().zip(&other.vcpus).enumerate() {
            for (id, value) in one.registers.iter() {
                let whole = other.registers.get(id);
                if whole != Some(value) {
                    let _ = write!(
                        text,
                        "\n  vCPU {number}: {id} holds {value:?}, whole {whole:?}"
                    );
                }
            }
        }
    }
    text
}
