//! Loading streams with real QEMUs under real KVM: many in one boot, and none twice.
//!
//! An outcome is kept in `matrix/loads.jsonl` in the lab folder, by kernel, CPU, QEMU, and the stream's contents. So an interrupted run is taken
//! up again where it was, and a change of cpreg costs the loads of those streams that it writes differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::outcome::GuestOutcome;
use e2e_framework::Result;
use e2e_framework::guest::{Guest, TIMER_SECONDS};
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::paths::repository;

/// Loads in one boot. What a boot that fails loses, and how often what it brought is written down.
const LOADS_PER_BOOT: usize = 20;

/// How long one load may take, under an emulator on a busy machine.
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// A stream to be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// QEMU's series.
    pub(crate) series: String,
    pub(crate) stream: PathBuf,
}

/// What is known of loads.
#[derive(Debug)]
pub(crate) struct LoadCache {
    file: PathBuf,
    outcomes: Mutex<BTreeMap<String, GuestOutcome>>,
}

impl LoadCache {
    /// Reads what earlier runs found out.
    ///
    /// # Errors
    /// If that cannot be read.
    pub(crate) fn open(lab: &Lab) -> Result<Self> {
        let folder = lab.folder.join("matrix");
        fs::create_dir_all(&folder)?;
        let file = folder.join("loads.jsonl");
        let mut known = BTreeMap::new();
        if file.exists() {
            for line in fs::read_to_string(&file)?.lines() {
                // The last line may be half a line, if the machine went down.
                let Ok(value) = serde_json::from_str::<Value>(line) else {
                    continue;
                };
                let outcome = GuestOutcome::from_json(&value["outcome"]);
                if let (Some(key), Some(outcome)) = (value["key"].as_str(), outcome) {
                    known.insert(key.to_owned(), outcome);
                }
            }
        }
        Ok(Self {
            file,
            outcomes: Mutex::new(known),
        })
    }

    /// What became of a stream there, if that is known.
    ///
    /// # Errors
    /// If the stream cannot be read.
    pub(crate) fn get(
        &self,
        host: &EmulatedHost<'_>,
        attempt: &Attempt,
    ) -> Result<Option<GuestOutcome>> {
        let key = key(host, attempt)?;
        Ok(self
            .outcomes
            .lock()
            .map_err(|_| "a thread died")?
            .get(&key)
            .cloned())
    }

    /// Loads those of `attempts` of which nothing is known yet.
    ///
    /// # Errors
    /// If the host does not boot or leaves something out; what came until then is kept.
    pub(crate) fn run(
        &self,
        lab: &Lab,
        host: &EmulatedHost<'_>,
        attempts: &[Attempt],
    ) -> Result<()> {
        let mut wanted: BTreeMap<String, &Attempt> = BTreeMap::new();
        for attempt in attempts {
            if self.get(host, attempt)?.is_none() {
                wanted.insert(key(host, attempt)?, attempt);
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        for some in wanted.chunks(LOADS_PER_BOOT) {
            self.boot(lab, host, some)?;
        }
        Ok(())
    }

    fn boot(&self, lab: &Lab, host: &EmulatedHost<'_>, some: &[(String, &Attempt)]) -> Result<()> {
        let mut job = job(lab, Guest::Aarch64)?;
        for (place, (_, attempt)) in some.iter().enumerate() {
            let name = format!("load{place}");
            writeln!(
                job.script,
                "load {} {name} /job/{name}.stream",
                attempt.series
            )?;
            job.files
                .push((format!("{name}.stream"), attempt.stream.clone()));
        }
        let mut host = host.clone();
        host.timeout = LOAD_TIMEOUT * u32::try_from(some.len() + 2)?;
        let results = lab.folder.join("results/load").join(host.name());
        host.run(lab, &job, &results)?;
        for (place, (key, attempt)) in some.iter().enumerate() {
            let outcome = GuestOutcome::read(&results, &format!("load{place}"))?;
            let line = json!({
                "key": key,
                "stream": attempt.stream.file_name().map(|name| name.to_string_lossy()),
                "outcome": outcome.to_json(),
            });
            let mut known = self.outcomes.lock().map_err(|_| "a thread died")?;
            let mut file = File::options().create(true).append(true).open(&self.file)?;
            writeln!(file, "{line}")?;
            known.insert(key.clone(), outcome);
        }
        Ok(())
    }
}

/// A job with QEMUs and that guest, without anything to do yet.
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

fn key(host: &EmulatedHost<'_>, attempt: &Attempt) -> Result<String> {
    let hash = fingerprint(&attempt.stream)?;
    Ok(format!("{} qemu-{} {hash}", host.name(), attempt.series))
}

/// FNV-1a of 64 bits over a file, and its length: it tells our own few thousand streams apart, and no more is asked of it.
fn fingerprint(file: &Path) -> Result<String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(format!("{hash:016x}-{}", bytes.len()))
}
