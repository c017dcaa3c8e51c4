//! One case: an edited stream, its prediction and its load.

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

/// Number of QEMUs that run at a time.
pub(crate) const JOBS: usize = 2;

/// Timeout for one command to QEMU, or one load. A QEMU that takes longer counts as a failure.
pub(crate) const QEMU_TIMEOUT: WaitOptions<'static> =
    WaitOptions::with_timeout(Duration::from_secs(30));

/// Environment shared by all cases.
pub(crate) struct Fixture<'a> {
    pub(crate) sources: &'a [Source],
    /// Every id that occurs in a source, with all its values.
    pub(crate) pool: BTreeMap<u64, Vec<u64>>,
    pub(crate) seed: u64,
    /// Initial states by command line.
    pub(crate) initial_states: Mutex<HashMap<Vec<OsString>, Arc<InitialState>>>,
}

/// State of a QEMU before a load.
pub(crate) struct InitialState {
    pub(crate) destination: Destination,
    /// Device state of the QEMU.
    stream: Stream,
    bytes: Vec<u8>,
}

impl InitialState {
    fn query(command: &[OsString], loader: Loader) -> Result<Self> {
        let rehearsal = Rehearsal::start(command, &QEMU_TIMEOUT)?;
        let version = rehearsal.version();
        let version = (u16::try_from(version.major)?, u16::try_from(version.minor)?);
        if Version::new(version.0, version.1) != loader.version {
            return Err(format!("unexpected QEMU {}.{}", version.0, version.1).into());
        }
        let state = rehearsal.initial_state().map_err(ToString::to_string)?;
        let mut destination = state.stream.destination(loader.to_string())?;
        destination.loader = Some(loader);
        // The stream states a running guest, but this QEMU waits for a stream.
        destination.value_origin = ValueOrigin::Reset;
        let mut bytes = vec![0; usize::try_from(state.stream.length())?];
        ReadAt::read_exact_at(&state.state.stream, &mut bytes, 0)?;
        Ok(Self {
            destination,
            stream: state.stream.clone(),
            bytes,
        })
    }
}

/// Returns the loader for a QEMU of this series.
pub(crate) fn loader_of(qemu: &Qemu) -> Result<Loader> {
    let (major, minor) =
        target_machine::parse_version(qemu.series).ok_or("not a series of QEMU")?;
    Ok(Loader::qemu(major, minor))
}

impl Fixture<'_> {
    /// Returns the initial state of the QEMU that a command line starts, queried at the first call.
    pub(crate) fn initial_state(
        &self,
        command: &[OsString],
        loader: Loader,
    ) -> Result<Arc<InitialState>> {
        let find = |states: &HashMap<_, Arc<InitialState>>| states.get(command).cloned();
        if let Some(state) = self
            .initial_states
            .lock()
            .ok()
            .and_then(|states| find(&states))
        {
            return Ok(state);
        }
        let state = Arc::new(InitialState::query(command, loader)?);
        if let Ok(mut states) = self.initial_states.lock() {
            states.insert(command.to_vec(), Arc::clone(&state));
        }
        Ok(state)
    }

    /// Runs one case: predicts the load of an edited stream, loads the stream, and compares.
    pub(crate) fn run_case(&self, qemu: &Qemu, case: usize, verbose: bool) -> Result<CaseVerdict> {
        let mut random = Random::for_case(self.seed, qemu.series, case);
        let source = random.choose(self.sources).ok_or("no source")?;
        let loader = loader_of(qemu)?;
        let target =
            TargetMachine::for_source(source, qemu.series).ok_or("its machine is not `virt`")?;
        let target = target.with_random_cpu(&mut random, qemu.series);
        let command = target.command(&qemu.program());
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
        let edits = editor.log;
        let bytes = edited_stream(source, &host, &drafts)?;
        let load = compare::predict(loader, &drafts, &host.destination);
        let result = rehearse::load(&command, &bytes, &QEMU_TIMEOUT)?;
        let compare = |result| compare::compare(loader, &drafts, &host.destination, &load, result);
        let mut verdict = compare(&result);
        if matches!(verdict, CaseVerdict::Mismatch(_)) {
            // A QEMU on a busy machine has refused a stream that it otherwise loads.
            let second = rehearse::load(&command, &bytes, &QEMU_TIMEOUT)?;
            verdict = verdict.with_second_load(&compare(&second));
        }
        if let Err(error) = check_round_trip(&bytes, &drafts) {
            verdict = CaseVerdict::Mismatch(error);
        }
        let path = repository().join(format!(
            "target/model-check/{}-seed{}-case{case}.stream",
            qemu.series, self.seed
        ));
        let report = CaseReport {
            verdict: &verdict,
            source,
            target: &target,
            edits: &edits,
            load: &load,
            loader,
            result: &result,
        };
        let text = report.text(&format!(
            "cargo xtask model-check --seed {} --series {} --case {case}",
            self.seed, qemu.series
        ));
        if verbose {
            println!("{text}");
        }
        let with_report: fn(String) -> CaseVerdict = match verdict {
            CaseVerdict::Mismatch(_) => CaseVerdict::Mismatch,
            CaseVerdict::Inconsistent(_) => CaseVerdict::Inconsistent,
            _ => return Ok(verdict),
        };
        fs::create_dir_all(path.parent().unwrap_or(repository()))?;
        fs::write(&path, &bytes)?;
        Ok(with_report(format!("{text}\n  stream: {}", path.display())))
    }
}

/// Returns the source's stream with these sections of vCPUs. If the machine of the loading QEMU has
/// another shape, returns that QEMU's device state with these sections.
fn edited_stream(source: &Source, host: &InitialState, drafts: &[CpuDraft]) -> Result<Vec<u8>> {
    let has_same_shape = Some(source.stream.shape()) == host.destination.shape;
    let (stream, bytes) = if has_same_shape {
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
    let mut edited = vec![0; usize::try_from(edit.new_length())?];
    edit.apply_to(bytes).read_exact_at(&mut edited, 0)?;
    Ok(edited)
}

/// Checks that cpreg reads what the drafts contain, so that the model and the user's command
/// predict the same load.
fn check_round_trip(bytes: &[u8], drafts: &[CpuDraft]) -> std::result::Result<(), String> {
    let are_valid = drafts.iter().all(CpuDraft::is_valid_list);
    match Stream::open(&bytes).and_then(|stream| stream.vm()) {
        Err(error) if are_valid => Err(format!("cpreg cannot read the stream: {error}")),
        Err(_) => Ok(()),
        Ok(_) if !are_valid => Err("cpreg reads an invalid list".to_owned()),
        Ok(vm) => {
            let is_same = vm.vcpus.iter().zip(drafts).all(|(vcpu, draft)| {
                let registers = draft.registers();
                vcpu.registers
                    .iter()
                    .eq(registers.iter().map(|(id, value)| (*id, value)))
                    && vcpu.extensions == draft.extensions()
            });
            if is_same {
                Ok(())
            } else {
                Err("cpreg reads other registers or extensions than were written".to_owned())
            }
        }
    }
}

/// Report of a case.
struct CaseReport<'a> {
    verdict: &'a CaseVerdict,
    source: &'a Source,
    target: &'a TargetMachine,
    edits: &'a [String],
    load: &'a SimulatedLoad,
    loader: Loader,
    result: &'a RehearsalResult,
}

impl CaseReport<'_> {
    fn text(&self, command: &str) -> String {
        let indent = |lines: &[String]| {
            let lines: Vec<_> = lines.iter().map(|line| format!("    {line}")).collect();
            lines.join("\n")
        };
        format!(
            "{command}\n  {:?}\n  {} into {}\n{}\n  predicted: loads {:?}, complete {}, lost {:?}\n{}\n  QEMU: {:?}\n{}",
            self.verdict,
            self.source.name,
            self.target.arguments(),
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
