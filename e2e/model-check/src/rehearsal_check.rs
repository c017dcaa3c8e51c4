//! Check of rehearsals, which load a stream without its RAM. Every small recorded stream of TCG is
//! loaded in both ways, without its RAM and whole. Both must give the same outcome and output of
//! QEMU. The same is repeated with the converted stream, which must also load, with the same
//! registers in both ways.
//!
//! Streams that need capabilities or further channels for a whole load (`streams/`) are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use cpreg::destination::Destination;
use cpreg::plan::{Consents, Plan, PlanOutcome};
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_qemu::rehearse::{self, LoadOutcome};
use cpreg_stream::ReadAt;
use cpreg_stream::Stream;

use super::compare;
use super::fixture::{Fixture, JOBS, QEMU_TIMEOUT, loader_of};
use super::sources::{self, Source};
use super::target_machine::TargetMachine;
use e2e_framework::paths::repository;
use e2e_framework::qemu::Qemu;
use e2e_framework::{Result, parallel};

/// Result of a load.
#[derive(Debug, PartialEq, Eq)]
struct LoadObservation {
    loads: bool,
    stderr: Vec<String>,
    /// State of the vCPUs after the load.
    final_state: Option<Vm>,
}

/// Counts by column of the table.
type ColumnCounts = BTreeMap<&'static str, usize>;

/// Loads all streams into all these QEMUs, and prints a table.
///
/// # Errors
/// Returns an error if a rehearsal and a whole load differ, or a converted stream does not load.
pub(crate) fn run(fixture: &Fixture<'_>, qemus: &[Qemu]) -> Result<()> {
    let start = Instant::now();
    let sources: Vec<_> = fixture
        .sources
        .iter()
        .filter(|source| is_plain(source))
        .collect();
    let cases = qemus
        .iter()
        .flat_map(|qemu| sources.iter().map(move |source| (qemu, *source)));
    let counts: Mutex<BTreeMap<&str, ColumnCounts>> = Mutex::default();
    let failures = Mutex::new(Vec::new());
    parallel::for_each(JOBS, cases, |(qemu, source)| {
        let columns = compare_loads(fixture, qemu, source).unwrap_or_else(|error| {
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
        "QEMU   streams  no machine  as it is: loads  fails   converted: loads  cannot be   wrong   (without RAM as whole)"
    );
    for qemu in qemus {
        let count = |column| {
            let counts = counts.get(qemu.series);
            counts.and_then(|counts| counts.get(column)).unwrap_or(&0)
        };
        println!(
            "{:<6} {:>7} {:>11} {:>16} {:>6} {:>17} {:>10} {:>7}",
            qemu.series,
            sources.len(),
            count("no machine"),
            count("loads"),
            count("fails"),
            count("converted"),
            count("cannot be"),
            count("wrong")
        );
    }
    println!("in {:.1?}", start.elapsed());
    match failures.into_inner().unwrap_or_default().len() {
        0 => Ok(()),
        failed => Err(format!("a rehearsal and a whole load differ for {failed} streams").into()),
    }
}

/// Returns `true` for a stream that QEMU loads without capabilities or further channels.
fn is_plain(source: &Source) -> bool {
    source.name.starts_with("tcg/")
}

/// Loads one stream into one QEMU, two or four times. Returns the columns of the table that count
/// the stream.
fn compare_loads(fixture: &Fixture<'_>, qemu: &Qemu, source: &Source) -> Result<Vec<&'static str>> {
    let target =
        TargetMachine::for_source(source, qemu.series).ok_or("its machine is not `virt`")?;
    if !target.has_machine_of(source) {
        return Ok(vec!["no machine"]);
    }
    let command = target.command(&qemu.program());
    let host = fixture.initial_state(&command, loader_of(qemu)?)?;
    let load = |stream: &dyn ReadAt| -> Result<LoadObservation> {
        let result = rehearse::load(&command, stream, &QEMU_TIMEOUT)?;
        let final_state = match result.final_state {
            Some(Ok(state)) => Some(state.stream.vm()?),
            Some(Err(error)) => return Err(error.into()),
            None => None,
        };
        Ok(LoadObservation {
            loads: result.outcome == LoadOutcome::Loaded,
            stderr: compare::stderr_lines(&result.stderr),
            final_state,
        })
    };
    let whole = unpack_source(source)?;
    let (rehearsed, loaded) = (load(&source.bytes)?, load(&whole)?);
    if (rehearsed.loads, &rehearsed.stderr) != (loaded.loads, &loaded.stderr) {
        return Err(describe_difference("as it is", &rehearsed, &loaded).into());
    }
    let mut columns = vec![if loaded.loads { "loads" } else { "fails" }];

    let stream = Stream::open(&whole)?;
    let vm = stream.vm()?;
    let Some(converted_vm) = convert_vm(&vm, &host.destination) else {
        columns.push("cannot be");
        return Ok(columns);
    };
    let edit = stream.edit(&whole, &stream.diff_to(&converted_vm)?)?;
    let converted = edit.apply_to(&whole);
    let without_ram = Stream::open(&converted)?.without_ram(&[])?;
    let (rehearsed, loaded) = (load(&without_ram.apply_to(&converted))?, load(&converted)?);
    if rehearsed != loaded {
        return Err(describe_difference("converted", &rehearsed, &loaded).into());
    }
    if !loaded.loads {
        return Err(format!(
            "the converted stream does not load: {}",
            loaded.stderr.join("\n  ")
        )
        .into());
    }
    columns.push("converted");
    Ok(columns)
}

fn unpack_source(source: &Source) -> Result<File> {
    let path = format!("tests/fixtures/{}.stream.xz", source.name);
    sources::unpack(&repository().join(Path::new(&path)))
}

/// Converts a VM for this destination: without consent, or else with every proposed adjustment.
fn convert_vm(vm: &Vm, host: &Destination) -> Option<Vm> {
    let tolerances = Tolerances::default();
    let all = Consents {
        accept_up_to: Some(Severity::High),
        ..Consents::default()
    };
    [Consents::default(), all].iter().find_map(|consents| {
        let plan = Plan::new(vm, host, &tolerances, consents);
        (plan.outcome() == PlanOutcome::Ready).then(|| plan.apply(vm))
    })
}

fn describe_difference(
    label: &str,
    rehearsed: &LoadObservation,
    loaded: &LoadObservation,
) -> String {
    let mut text = format!(
        "{label}: loads without RAM: {}, whole: {}\n  output without RAM:\n    {}\n  output of the whole load:\n    {}",
        rehearsed.loads,
        loaded.loads,
        rehearsed.stderr.join("\n    "),
        loaded.stderr.join("\n    ")
    );
    if let (Some(one), Some(other)) = (&rehearsed.final_state, &loaded.final_state) {
        for (number, (one, other)) in one.vcpus.iter().zip(&other.vcpus).enumerate() {
            for (id, value) in one.registers.iter() {
                let whole = other.registers.get(id);
                if whole != Some(value) {
                    let _ = write!(
                        text,
                        "\n  vCPU {number}: {id} is {value:?} without RAM, {whole:?} whole"
                    );
                }
            }
        }
    }
    text
}
