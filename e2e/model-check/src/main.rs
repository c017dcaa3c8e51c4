//! The loader models against real QEMUs: are the models true? Recorded streams, edited at random, are loaded by the real QEMUs, and what each does
//! is held against what [`cpreg::destination::load`] foretold.
//!
//! | module | what lives there |
//! |---|---|
//! | [`sources`] | the recorded streams |
//! | [`place`] | the QEMU that loads one |
//! | [`draft`] | a `cpu` section as bytes, right or wrong |
//! | [`edits`] | random edits of it |
//! | [`compare`] | prediction against reality |
//! | [`whole`] | rehearsals against loads of whole streams |
//! | [`random`] | the same random numbers everywhere |
//!
//! A case is a number; with the seed and the series it says everything, so that it can be repeated alone. What is proven here is what
//! QEMU does with the vCPUs' sections. Where its machine's outline is not the stream's, it gets these with its own devices around them.

#![forbid(unsafe_code)]
// The check talks to the person who started it.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod compare;
mod draft;
mod edits;
mod place;
mod random;
mod sources;
mod whole;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use cpreg::destination::load::Load;
use cpreg::destination::{Accelerator, Destination, Loader, ValuesAre, Version};
use cpreg_explain::qemu::predict;
use cpreg_qemu::qmp::Patience;
use cpreg_qemu::rehearse::{self, Rehearsal, Rehearsed};
use cpreg_stream::Stream;
use cpreg_stream::{ReadAt, SectionChange};

use self::compare::{Counts, Verdict};
use self::draft::Draft;
use self::edits::Editor;
use self::place::Place;
use self::random::Random;
use self::sources::Source;
use e2e_framework::paths::repository;
use e2e_framework::qemu::{self, Qemu};
use e2e_framework::{Result, parallel};

/// How many QEMUs run at a time.
const JOBS: usize = 2;

/// How many edited streams each QEMU gets.
const EDITS: usize = 500;

/// The seed, unless another is wanted.
const SEED: u64 = 1;

/// How long one command to QEMU, or one load, may take. One that takes longer hangs, and that is a failure.
const PATIENCE: Patience<'static> = Patience::of(Duration::from_secs(30));

/// Of a hundred answers fewer than so many may be "cannot be told".
const NULL_PERCENT: usize = 10;

/// The loader models against real QEMUs: recorded streams, edited at random, are loaded, and what each QEMU does is held
/// against what was foretold
#[derive(Debug, Parser)]
#[command(
    name = "model-check",
    bin_name = "cargo xtask model-check",
    max_term_width = 100
)]
struct Arguments {
    /// How many edited streams each QEMU gets
    #[arg(long, value_name = "N", default_value_t = EDITS)]
    edits: usize,
    /// Another seed gives other edits
    #[arg(long, value_name = "S", default_value_t = SEED)]
    seed: u64,
    /// Only this QEMU, such as 10.0
    #[arg(long)]
    series: Option<String>,
    /// Only this case, and all about it
    #[arg(long, value_name = "N")]
    case: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Checks all cases that are wanted.
///
/// # Errors
/// If a model disagrees with a QEMU, or cannot tell too often.
fn run(options: &Arguments) -> Result<()> {
    let mut qemus = qemu::ensure()?;
    if let Some(series) = &options.series {
        qemus.retain(|qemu| qemu.series == series);
        if qemus.is_empty() {
            return Err(format!("there is no QEMU {series} here; see docs/testing.md").into());
        }
    }
    let begin = Instant::now();
    let sources = sources::all()?;
    let bench = Bench {
        pool: sources::pool(&sources),
        hosts: Mutex::default(),
        sources: &sources,
        seed: options.seed,
    };
    println!(
        "{} recorded streams, read in {:.1?}; seed {}",
        sources.len(),
        begin.elapsed(),
        options.seed
    );
    let cases = match options.case {
        Some(case) => case..case + 1,
        None => 0..options.edits,
    };
    let verbose = options.case.is_some();
    for qemu in &qemus {
        println!("QEMU {}", qemu.version);
    }
    let waiting = qemus
        .iter()
        .flat_map(|qemu| cases.clone().map(move |case| (qemu, case)));
    let counts: Mutex<BTreeMap<&str, Counts>> = Mutex::default();
    let failures = Mutex::new(Vec::new());
    parallel::each(JOBS, waiting, |(qemu, case)| {
        let verdict = match bench.case(qemu, case, verbose) {
            Ok(verdict) => verdict,
            Err(error) => {
                let text = format!("{}, case {case}: {error}", qemu.series);
                Verdict::Wrong(text)
            }
        };
        if let Ok(mut counts) = counts.lock() {
            counts.entry(qemu.series).or_default().add(&verdict);
        }
        if let (Verdict::Wrong(text), Ok(mut failures)) = (verdict, failures.lock()) {
            println!("{text}\n");
            failures.push((qemu.series, case));
        }
    });
    let counts = counts.into_inner().unwrap_or_default();
    let failures = failures.into_inner().unwrap_or_default();
    let edited = report(&qemus, &counts, &cases, failures.len(), begin.elapsed());
    if options.case.is_some() {
        return edited;
    }
    let whole = whole::run(&bench, &qemus);
    match (edited, whole) {
        (Err(edited), Err(whole)) => Err(format!("{edited}; {whole}").into()),
        (Ok(()), other) | (other, Ok(())) => other,
    }
}

fn report(
    qemus: &[Qemu],
    counts: &BTreeMap<&str, Counts>,
    cases: &std::ops::Range<usize>,
    failures: usize,
    time: Duration,
) -> Result<()> {
    println!(
        "QEMU   edited  loads  fails  null         not read  other device  wrong   (loads, fails: as foretold)"
    );
    let mut faults = Vec::new();
    for qemu in qemus {
        let Some(of) = counts.get(qemu.series) else {
            continue;
        };
        let (loads, fails) = (of.of(&["agree-loads"]), of.of(&["agree-fails"]));
        let (null, wrong) = (of.of(&["null"]), of.of(&["wrong"]));
        let (not_read, elsewhere) = (of.of(&["not-read"]), of.of(&["elsewhere"]));
        let all = loads + fails + null + wrong + not_read + elsewhere;
        let (percent, tenth) = (null * 100 / all.max(1), null * 1000 / all.max(1) % 10);
        println!(
            "{:<6} {all:>6} {loads:>6} {fails:>6} {null:>5} ({percent:>2}.{tenth} %) {not_read:>9} {elsewhere:>13} {wrong:>6}",
            qemu.series
        );
        if all != cases.len() {
            faults.push(format!(
                "QEMU {}: {all} of {} cases ended",
                qemu.series,
                cases.len()
            ));
        }
        if cases.len() > 1 && null * 100 >= all * NULL_PERCENT {
            faults.push(format!(
                "QEMU {}: the model cannot tell in {null} of {all} cases; fewer than {NULL_PERCENT} % are allowed",
                qemu.series
            ));
        }
    }
    println!("in {time:.1?}");
    if failures > 0 {
        faults.push(format!("{failures} cases in which model and QEMU disagree"));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("; ").into())
    }
}

/// What the cases share.
struct Bench<'a> {
    sources: &'a [Source],
    pool: BTreeMap<u64, Vec<u64>>,
    seed: u64,
    /// By command line.
    hosts: Mutex<HashMap<Vec<OsString>, Arc<Host>>>,
}

/// What a QEMU has before anything arrives.
struct Host {
    destination: Destination,
    /// Its own device state.
    stream: Stream,
    bytes: Vec<u8>,
}

impl Host {
    fn ask(command: &[OsString], loader: Loader) -> Result<Self> {
        let rehearsal = Rehearsal::start(command, &PATIENCE)?;
        let version = rehearsal.version();
        let version = (u16::try_from(version.major)?, u16::try_from(version.minor)?);
        if Version::new(version.0, version.1) != loader.version {
            return Err(format!("this is QEMU {}.{}", version.0, version.1).into());
        }
        let asked = rehearsal.host().map_err(ToString::to_string)?;
        let mut destination = asked.stream.destination(loader.to_string())?;
        destination.loader = Some(loader);
        // It says of itself that the guest runs; it waits for one.
        destination.values = ValuesAre::AtReset;
        let mut bytes = vec![0; usize::try_from(asked.stream.length())?];
        ReadAt::read_exact_at(&asked.state.stream, &mut bytes, 0)?;
        Ok(Self {
            destination,
            stream: asked.stream.clone(),
            bytes,
        })
    }
}

/// The loader that a QEMU of that series is.
fn loader_of(qemu: &Qemu) -> Result<Loader> {
    let (major, minor) = place::numbers(qemu.series).ok_or("no series of QEMU")?;
    Ok(Loader::qemu(major, minor))
}

impl Bench<'_> {
    fn host(&self, command: &[OsString], loader: Loader) -> Result<Arc<Host>> {
        let known = |hosts: &HashMap<_, Arc<Host>>| hosts.get(command).cloned();
        if let Some(host) = self.hosts.lock().ok().and_then(|hosts| known(&hosts)) {
            return Ok(host);
        }
        let host = Arc::new(Host::ask(command, loader)?);
        if let Ok(mut hosts) = self.hosts.lock() {
            hosts.insert(command.to_vec(), Arc::clone(&host));
        }
        Ok(host)
    }

    /// One edited stream, foretold and loaded.
    fn case(&self, qemu: &Qemu, case: usize, verbose: bool) -> Result<Verdict> {
        let mut random = Random::of(self.seed, qemu.series, case);
        let source = random.one_of(self.sources).ok_or("no source")?;
        let loader = loader_of(qemu)?;
        let place = Place::of(source, qemu.series).ok_or("its machine is no `virt`")?;
        let place = place.or_another_cpu(&mut random, qemu.series);
        let command = place.command(&qemu.program());
        let host = self.host(&command, loader)?;

        let mut drafts: Vec<_> = source.stream.cpus().iter().map(Draft::of).collect();
        let mut editor = Editor {
            random: &mut random,
            pool: &self.pool,
            did: Vec::new(),
        };
        editor.edit(&mut drafts, loader, &host.destination);
        let did = editor.did;
        let bytes = stream(source, &host, &drafts)?;
        let load = compare::foretell(loader, &drafts, &host.destination);
        let done = rehearse::load(&command, &bytes, &PATIENCE)?;
        let mut verdict = compare::compare(loader, &drafts, &host.destination, &load, &done);
        if let Err(fault) = read_as_meant(&bytes, &drafts) {
            verdict = Verdict::Wrong(fault);
        }
        let kept = repository().join(format!(
            "target/model-check/{}-seed{}-case{case}.stream",
            qemu.series, self.seed
        ));
        let of = Told {
            what: &verdict,
            source,
            place: &place,
            did: &did,
            load: &load,
            loader,
            done: &done,
        };
        let text = of.text(&format!(
            "cargo xtask model-check --seed {} --series {} --case {case}",
            self.seed, qemu.series
        ));
        if verbose {
            println!("{text}");
        }
        if let Verdict::Wrong(_) = verdict {
            fs::create_dir_all(kept.parent().unwrap_or(repository()))?;
            fs::write(&kept, &bytes)?;
            return Ok(Verdict::Wrong(format!(
                "{text}\n  stream: {}",
                kept.display()
            )));
        }
        Ok(verdict)
    }
}

/// The stream with these sections, or the host's own device state with them.
fn stream(source: &Source, host: &Host, drafts: &[Draft]) -> Result<Vec<u8>> {
    let same = Some(source.stream.shape()) == host.destination.shape;
    let (stream, bytes) = if same {
        (&source.stream, &source.bytes)
    } else {
        (&host.stream, &host.bytes)
    };
    let mut drafts = drafts.iter();
    let mut changes = Vec::new();
    for (index, section) in stream.sections().iter().enumerate() {
        if section.name == "cpu" {
            let draft = drafts.next().ok_or("more sections than vCPUs")?;
            changes.push((index, SectionChange::Payload(draft.bytes())));
        }
    }
    let edit = stream.without_ram(&changes)?;
    let mut made = vec![0; usize::try_from(edit.new_length())?];
    edit.over(bytes).read_exact_at(&mut made, 0)?;
    Ok(made)
}

/// Whether cpreg reads the stream as it was made: the model must be asked about what the command would ask it about.
fn read_as_meant(bytes: &[u8], drafts: &[Draft]) -> std::result::Result<(), String> {
    let ordered = drafts.iter().all(Draft::is_ordered);
    match Stream::open(&bytes).and_then(|stream| stream.vm()) {
        Err(error) if ordered => Err(format!("cpreg cannot read it: {error}")),
        Err(_) => Ok(()),
        Ok(_) if !ordered => Err("cpreg reads a list that is none".to_owned()),
        Ok(vm) => {
            let same = vm.vcpus.iter().zip(drafts).all(|(vcpu, draft)| {
                let registers = draft.registers();
                vcpu.registers
                    .iter()
                    .eq(registers.iter().map(|(id, value)| (*id, value)))
                    && vcpu.extensions == draft.extensions()
            });
            if same {
                Ok(())
            } else {
                Err("cpreg reads it as another than was made".to_owned())
            }
        }
    }
}

/// What there is to tell about a case.
struct Told<'a> {
    what: &'a Verdict,
    source: &'a Source,
    place: &'a Place,
    did: &'a [String],
    load: &'a Load,
    loader: Loader,
    done: &'a Rehearsed,
}

impl Told<'_> {
    fn text(&self, again: &str) -> String {
        let indent = |lines: &[String]| {
            let lines: Vec<_> = lines.iter().map(|line| format!("    {line}")).collect();
            lines.join("\n")
        };
        format!(
            "{again}\n  {:?}\n  {} into {}\n{}\n  foretold: loads {:?}, complete {}, lost {:?}\n{}\n  QEMU: {:?}\n{}",
            self.what,
            self.source.name,
            self.place.arguments(),
            indent(self.did),
            self.load.loads,
            self.load.complete,
            self.load.lost,
            indent(&predict::of_load(self.loader, Accelerator::Tcg, self.load)),
            self.done.outcome,
            indent(&compare::said(&self.done.said)),
        )
    }
}
