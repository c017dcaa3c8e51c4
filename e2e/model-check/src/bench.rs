//! One case: what the model foretells, what QEMU does.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpreg::destination::load::Load;
use cpreg::destination::{Accelerator, Destination, Loader, ValuesAre, Version};
use cpreg_explain::qemu::predict;
use cpreg_qemu::qmp::Patience;
use cpreg_qemu::rehearse::{self, Rehearsal, Rehearsed};
use cpreg_stream::{ReadAt, SectionChange, Stream};
use e2e_framework::Result;
use e2e_framework::paths::repository;
use e2e_framework::qemu::Qemu;

use crate::compare::{self, Verdict};
use crate::draft::Draft;
use crate::edits::Editor;
use crate::place::{self, Place};
use crate::random::Random;
use crate::sources::Source;

/// How many QEMUs run at a time.
pub(crate) const JOBS: usize = 2;

/// How long one command to QEMU, or one load, may take. One that takes longer hangs, and that is a failure.
pub(crate) const PATIENCE: Patience<'static> = Patience::of(Duration::from_secs(30));

/// What the cases share.
pub(crate) struct Bench<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) pool: BTreeMap<u64, Vec<u64>>,
    pub(crate) seed: u64,
    /// By command line.
    pub(crate) hosts: Mutex<HashMap<Vec<OsString>, Arc<Host>>>,
}

/// What a QEMU has before anything arrives.
pub(crate) struct Host {
    pub(crate) destination: Destination,
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
pub(crate) fn loader_of(qemu: &Qemu) -> Result<Loader> {
    let (major, minor) = place::numbers(qemu.series).ok_or("no series of QEMU")?;
    Ok(Loader::qemu(major, minor))
}

impl Bench<'_> {
    pub(crate) fn host(&self, command: &[OsString], loader: Loader) -> Result<Arc<Host>> {
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
    pub(crate) fn case(&self, qemu: &Qemu, case: usize, verbose: bool) -> Result<Verdict> {
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
