//! One case: what the model foretells, what QEMU does.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpreg::destination::load::SimulatedLoad;
use cpreg::destination::{Accelerator, Destination, Loader, ValueOrigin, Version};
use cpreg_explain::qemu::predict;
use cpreg_qemu::qmp::WaitOptions;
use cpreg_qemu::rehearse::{self, Rehearsal, RehearsalResult};
use cpreg_stream::{ReadAt, SectionChange, Stream};
use e2e_framework::Result;
use e2e_framework::paths::repository;
use e2e_framework::qemu::Qemu;

use crate::compare::{self, CaseVerdict};
use crate::draft::CpuDraft;
use crate::edits::Editor;
use crate::random::Random;
use crate::sources::Source;
use crate::target_machine::{self, TargetMachine};

/// How many QEMUs run at a time.
pub(crate) const JOBS: usize = 2;

/// How long one command to QEMU, or one load, may take. One that takes longer hangs, and that is a failure.
pub(crate) const QEMU_TIMEOUT: WaitOptions<'static> =
    WaitOptions::with_timeout(Duration::from_secs(30));

/// What the cases share.
pub(crate) struct Fixture<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) pool: BTreeMap<u64, Vec<u64>>,
    pub(crate) seed: u64,
    /// By command line.
    pub(crate) initial_states: Mutex<HashMap<Vec<OsString>, Arc<InitialState>>>,
}

/// What a QEMU has before anything arrives.
pub(crate) struct InitialState {
    pub(crate) destination: Destination,
    /// Its own device state.
    stream: Stream,
    bytes: Vec<u8>,
}

impl InitialState {
    fn query(command: &[OsString], loader: Loader) -> Result<Self> {
        let rehearsal = Rehearsal::start(command, &QEMU_TIMEOUT)?;
        let version = rehearsal.version();
        let version = (u16::try_from(version.major)?, u16::try_from(version.minor)?);
        if Version::new(version.0, version.1) != loader.version {
            return Err(format!("this is QEMU {}.{}", version.0, version.1).into());
        }
        let asked = rehearsal.initial_state().map_err(ToString::to_string)?;
        let mut destination = asked.stream.destination(loader.to_string())?;
        destination.loader = Some(loader);
        // It says of itself that the guest runs; it waits for one.
        destination.value_origin = ValueOrigin::Reset;
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
    let (major, minor) = target_machine::parse_version(qemu.series).ok_or("no series of QEMU")?;
    Ok(Loader::qemu(major, minor))
}

impl Fixture<'_> {
    pub(crate) fn initial_state(
        &self,
        command: &[OsString],
        loader: Loader,
    ) -> Result<Arc<InitialState>> {
        let known = |hosts: &HashMap<_, Arc<InitialState>>| hosts.get(command).cloned();
        if let Some(host) = self
            .initial_states
            .lock()
            .ok()
            .and_then(|hosts| known(&hosts))
        {
            return Ok(host);
        }
        let host = Arc::new(InitialState::query(command, loader)?);
        if let Ok(mut hosts) = self.initial_states.lock() {
            hosts.insert(command.to_vec(), Arc::clone(&host));
        }
        Ok(host)
    }

    /// One edited stream, foretold and loaded.
    pub(crate) fn case(&self, qemu: &Qemu, case: usize, verbose: bool) -> Result<CaseVerdict> {
        let mut random = Random::for_case(self.seed, qemu.series, case);
        let source = random.choose(self.sources).ok_or("no source")?;
        let loader = loader_of(qemu)?;
        let place =
            TargetMachine::for_source(source, qemu.series).ok_or("its machine is no `virt`")?;
        let place = place.with_random_cpu(&mut random, qemu.series);
        let command = place.command(&qemu.program());
        let host = self.initial_state(&command, loader)?;

        let mut drafts: Vec<_> = source
            .stream
            .cpus()
            .iter()
            .map(CpuDraft::from_cpu)
            .collect();
        let mut editor = Editor {
            random: &mut random,
            pool: &self.pool,
            log: Vec::new(),
        };
        editor.edit(&mut drafts, loader, &host.destination);
        let did = editor.log;
        let bytes = stream(source, &host, &drafts)?;
        let load = compare::predict(loader, &drafts, &host.destination);
        let done = rehearse::load(&command, &bytes, &QEMU_TIMEOUT)?;
        let mut verdict = compare::compare(loader, &drafts, &host.destination, &load, &done);
        if let Err(fault) = check_round_trip(&bytes, &drafts) {
            verdict = CaseVerdict::Mismatch(fault);
        }
        let kept = repository().join(format!(
            "target/model-check/{}-seed{}-case{case}.stream",
            qemu.series, self.seed
        ));
        let of = CaseReport {
            verdict: &verdict,
            source,
            place: &place,
            edits: &did,
            load: &load,
            loader,
            result: &done,
        };
        let text = of.text(&format!(
            "cargo xtask model-check --seed {} --series {} --case {case}",
            self.seed, qemu.series
        ));
        if verbose {
            println!("{text}");
        }
        if let CaseVerdict::Mismatch(_) = verdict {
            fs::create_dir_all(kept.parent().unwrap_or(repository()))?;
            fs::write(&kept, &bytes)?;
            return Ok(CaseVerdict::Mismatch(format!(
                "{text}\n  stream: {}",
                kept.display()
            )));
        }
        Ok(verdict)
    }
}

/// The stream with these sections, or the host's own device state with them.
fn stream(source: &Source, host: &InitialState, drafts: &[CpuDraft]) -> Result<Vec<u8>> {
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
    edit.apply_to(bytes).read_exact_at(&mut made, 0)?;
    Ok(made)
}

/// Whether cpreg reads the stream as it was made: the model must be asked about what the command would ask it about.
fn check_round_trip(bytes: &[u8], drafts: &[CpuDraft]) -> std::result::Result<(), String> {
    let ordered = drafts.iter().all(CpuDraft::is_ordered);
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
struct CaseReport<'a> {
    verdict: &'a CaseVerdict,
    source: &'a Source,
    place: &'a TargetMachine,
    edits: &'a [String],
    load: &'a SimulatedLoad,
    loader: Loader,
    result: &'a RehearsalResult,
}

impl CaseReport<'_> {
    fn text(&self, again: &str) -> String {
        let indent = |lines: &[String]| {
            let lines: Vec<_> = lines.iter().map(|line| format!("    {line}")).collect();
            lines.join("\n")
        };
        format!(
            "{again}\n  {:?}\n  {} into {}\n{}\n  predicted: loads {:?}, complete {}, lost {:?}\n{}\n  QEMU: {:?}\n{}",
            self.verdict,
            self.source.name,
            self.place.arguments(),
            indent(self.edits),
            self.load.loads,
            self.load.is_complete,
            self.load.lost_registers,
            indent(&predict::predicted_lines(
                self.loader,
                Accelerator::Tcg,
                self.load
            )),
            self.result.outcome,
            indent(&compare::stderr_lines(&self.result.stderr)),
        )
    }
}
