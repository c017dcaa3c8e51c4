//! Loads of streams by real QEMUs under real KVM. A boot makes many loads, and no load is repeated.
//!
//! `matrix/loads.jsonl` in the lab folder stores the outcomes by kernel, CPU, QEMU, and the
//! stream's contents. An interrupted run therefore continues from the last stored outcome. After a
//! change of cpreg, the matrix loads only the streams that cpreg now writes differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::outcome::GuestOutcome;
use crate::fingerprint::fingerprint;
use crate::interposed::{RunPrograms, lines_with_options, lines_with_run};
use e2e_framework::Result;
use e2e_framework::guest::{Guest, TIMER_SECONDS};
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::paths::repository;

/// Maximum number of loads in one boot. A failed boot loses the outcomes of its loads only.
const LOADS_PER_BOOT: usize = 20;

/// Timeout for one load, under an emulator on a busy machine.
const LOAD_TIMEOUT: Duration = Duration::from_secs(360);

/// A stream to load.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Series of QEMU.
    pub(crate) series: String,
    pub(crate) stream: PathBuf,
    /// Options of the `cpreg run` that starts QEMU; `None` for a QEMU without cpreg.
    pub(crate) run_options: Option<Vec<String>>,
}

/// Stored outcomes of loads, from this and earlier runs.
#[derive(Debug)]
pub(crate) struct LoadCache {
    file: PathBuf,
    outcomes: Mutex<BTreeMap<String, GuestOutcome>>,
    /// Programs for QEMUs that `cpreg run` starts.
    programs: Option<RunPrograms>,
    /// Files for options of `cpreg run`: name below `/job`, and path on this machine.
    pub(crate) run_files: Vec<(String, PathBuf)>,
    /// Additional options of every QEMU; may be empty.
    pub(crate) qemu_options: String,
}

impl LoadCache {
    /// Reads the outcomes of earlier runs. Attempts with `cpreg run` need `programs`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub(crate) fn open(lab: &Lab, programs: Option<RunPrograms>) -> Result<Self> {
        let folder = lab.folder.join("matrix");
        fs::create_dir_all(&folder)?;
        let file = folder.join("loads.jsonl");
        let mut outcomes = BTreeMap::new();
        if file.exists() {
            for line in fs::read_to_string(&file)?.lines() {
                // The last line may be incomplete after a crash of the machine.
                let Ok(value) = serde_json::from_str::<Value>(line) else {
                    continue;
                };
                let outcome = GuestOutcome::from_json(&value["outcome"]);
                let outcome = outcome.filter(GuestOutcome::is_complete);
                if let (Some(key), Some(outcome)) = (value["key"].as_str(), outcome) {
                    outcomes.insert(key.to_owned(), outcome);
                }
            }
        }
        Ok(Self {
            file,
            outcomes: Mutex::new(outcomes),
            programs,
            run_files: Vec::new(),
            qemu_options: String::new(),
        })
    }

    /// Returns the outcome of a load; `None` if it is not stored.
    ///
    /// # Errors
    ///
    /// Returns an error if the stream cannot be read.
    pub(crate) fn get(
        &self,
        host: &EmulatedHost<'_>,
        attempt: &Attempt,
    ) -> Result<Option<GuestOutcome>> {
        let key = self.key(host, attempt)?;
        Ok(self
            .outcomes
            .lock()
            .map_err(|_| "a thread panicked")?
            .get(&key)
            .cloned())
    }

    /// Makes the loads whose outcome is not stored.
    ///
    /// # Errors
    /// Returns an error if the host does not boot or a result is missing. Earlier results remain
    /// stored.
    pub(crate) fn run(
        &self,
        lab: &Lab,
        host: &EmulatedHost<'_>,
        attempts: &[Attempt],
    ) -> Result<()> {
        let mut missing: BTreeMap<String, &Attempt> = BTreeMap::new();
        for attempt in attempts {
            if self.get(host, attempt)?.is_none() {
                missing.insert(self.key(host, attempt)?, attempt);
            }
        }
        let missing: Vec<_> = missing.into_iter().collect();
        for batch in missing.chunks(LOADS_PER_BOOT) {
            self.boot(lab, host, batch)?;
        }
        Ok(())
    }

    /// Makes these loads in one boot, and stores their outcomes.
    fn boot(&self, lab: &Lab, host: &EmulatedHost<'_>, batch: &[(String, &Attempt)]) -> Result<()> {
        let mut job = job(lab, Guest::Aarch64)?;
        job.files.extend(self.run_files.clone());
        let script_start = job.script.len();
        for (index, (_, attempt)) in batch.iter().enumerate() {
            let name = format!("load{index}");
            let line = format!("load {} {name} /job/{name}.stream\n", attempt.series);
            match (&attempt.run_options, &self.programs) {
                (None, _) => job.script += &line,
                (Some(options), Some(programs)) => {
                    programs.add_to(&mut job);
                    job.script += &lines_with_run(options, &line);
                }
                (Some(_), None) => return Err("cpreg run is not built".into()),
            }
            job.files
                .push((format!("{name}.stream"), attempt.stream.clone()));
        }
        if !self.qemu_options.is_empty() {
            let lines = job.script.split_off(script_start);
            job.script += &lines_with_options(&self.qemu_options, &lines);
        }
        let mut host = host.clone();
        host.timeout = LOAD_TIMEOUT * u32::try_from(batch.len() + 2)?;
        let results = lab.folder.join("results/load").join(host.name());
        host.run(lab, &job, &results)?;
        for (index, (key, attempt)) in batch.iter().enumerate() {
            let outcome = GuestOutcome::read(&results, &format!("load{index}"))?;
            let line = json!({
                "key": key,
                "stream": attempt.stream.file_name().map(|name| name.to_string_lossy()),
                "outcome": outcome.to_json(),
            });
            let mut outcomes = self.outcomes.lock().map_err(|_| "a thread panicked")?;
            let mut file = File::options().create(true).append(true).open(&self.file)?;
            writeln!(file, "{line}")?;
            outcomes.insert(key.clone(), outcome);
        }
        Ok(())
    }

    fn key(&self, host: &EmulatedHost<'_>, attempt: &Attempt) -> Result<String> {
        let path = &attempt.stream;
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let hash = fingerprint(&bytes);
        let mut key = format!("{} qemu-{} {hash}", host.name(), attempt.series);
        if !self.qemu_options.is_empty() {
            write!(key, " options {}", self.qemu_options)?;
        }
        if let Some(options) = &attempt.run_options {
            let programs = self.programs.as_ref().ok_or("cpreg run is not built")?;
            write!(key, " run {} {}", programs.fingerprint, options.join(" "))?;
            for (name, path) in &self.run_files {
                write!(key, " {name} {}", fingerprint(&fs::read(path)?))?;
            }
        }
        Ok(key)
    }
}

/// Returns a job with QEMUs and this guest, with an empty script.
pub(crate) fn job(lab: &Lab, guest: Guest) -> Result<Job> {
    let image = lab.guests()?.image(guest, TIMER_SECONDS[0]);
    Ok(Job {
        script: ". /job/qemu.sh\n".to_owned(),
        files: vec![
            (
                "qemu.sh".to_owned(),
                repository().join("e2e/lab/inside/qemu.sh"),
            ),
            ("guest.bin".to_owned(), image.to_owned()),
        ],
        needs_roots: true,
        ..Job::default()
    })
}
