//! Steps of a live case, and what must hold after each.
//!
//! [`CaseKind::Move`] has these steps:
//!
//! 1. The destination loads the unchanged stream. The load must fail, except in cases that are
//!    known to load.
//! 2. `cpreg probe qemu` records the destination. `cpreg check` must predict step 1, with QEMU's
//!    error lines.
//! 3. `cpreg convert` writes a stream for the destination. If a change affects state that the guest
//!    uses or reads, `convert` must require the consents that `check` proposes and advises.
//! 4. `cpreg rehearse` must print the same lines as the load of the whole stream. With
//!    `--converted` the lines must match the load of the converted stream.
//! 5. The destination loads the converted stream, and the guest runs. Both timers of every vCPU
//!    fire. The visible changes of `check` announce every difference that the guest finds.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use cpreg::register::RegisterId;
use cpreg_report::names::Verdict;
use cpreg_stream::ReadAt as _;
use tempfile::TempDir;

use super::cases::{Case, CaseKind};
use super::checks::{assert_no_differences, check_timers};
use super::rings;
use super::snapshots::{self, Programs};
use crate::qemu::Qemu;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::guest::{Guests, TIMER_SECONDS};
use e2e_framework::large_vm::LargeVm;
use e2e_framework::machine::{LoadResult, Machine, TimersExpired};
use e2e_framework::serial::{Difference, Findings};
use e2e_framework::{Failure, Result};

/// Environment shared by all cases.
#[derive(Debug)]
pub(crate) struct Fixture {
    qemus: Vec<Qemu>,
    guests: Guests,
    cpreg: Cpreg,
    folder: TempDir,
    /// One stream for each machine and saving QEMU, since several cases load the same one.
    streams: Mutex<HashMap<(&'static str, Machine), SavedStream>>,
}

/// Path of a stream that is saved at its first use, or the reason of the failure.
type SavedStream = Arc<OnceLock<std::result::Result<PathBuf, SaveFailure>>>;

/// Reason why a machine could not be saved.
#[derive(Clone, Debug)]
enum SaveFailure {
    TimersExpired,
    Other(String),
}

impl Fixture {
    pub(crate) fn new(qemus: Vec<Qemu>, guests: Guests, cpreg: Cpreg) -> Result<Self> {
        Ok(Self {
            qemus,
            guests,
            cpreg,
            folder: tempfile::Builder::new().prefix("cpreg-live-").tempdir()?,
            streams: Mutex::default(),
        })
    }

    /// Runs one case and returns a summary.
    ///
    /// If the guest's timers fire before the move because this machine is too busy, the case is
    /// repeated with longer delays.
    ///
    /// # Errors
    /// Returns an error if the case fails, with the details.
    pub(crate) fn run(&self, case: &Case) -> Result<String> {
        let mut case = *case;
        for timer_seconds in TIMER_SECONDS {
            case.machine.timer_seconds = timer_seconds;
            match self.run_once(&case) {
                Err(error) if error.is::<TimersExpired>() => {}
                result => return result,
            }
        }
        Err(TimersExpired.into())
    }

    fn run_once(&self, case: &Case) -> Result<String> {
        match case.kind {
            CaseKind::Move => self.run_move(case),
            CaseKind::Stay => self.run_stay(case),
            CaseKind::Notice => self.run_notice(case),
            CaseKind::RegisterLoss => self.run_register_loss(case),
            CaseKind::LiveRehearsal => self.run_live_rehearsal(case),
            CaseKind::VirtioRings => self.run_virtio_rings(case),
            CaseKind::LargeVm => self.run_large_vm(case),
            CaseKind::Filter => self.run_filter(case),
            CaseKind::Snapshot => self.run_snapshot(case),
        }
    }

    pub(crate) fn guests(&self) -> &Guests {
        &self.guests
    }

    pub(crate) fn cpreg(&self) -> &Cpreg {
        &self.cpreg
    }

    /// Returns a folder for files, which is removed at the end.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn qemu(&self, series: &str) -> Result<&Qemu> {
        let qemu = self.qemus.iter().find(|qemu| qemu.series == series);
        qemu.ok_or_else(|| format!("QEMU {series} is not available").into())
    }

    /// Returns the stream of the case's machine, saved by the case's source.
    fn source_stream(&self, case: &Case) -> Result<PathBuf> {
        self.saved_stream(case.source, &case.machine)
    }

    /// Returns the stream of a machine, saved by a QEMU.
    ///
    /// # Errors
    /// Returns an error if the machine could not be saved, now or at an earlier call.
    pub(crate) fn saved_stream(&self, from: &'static str, machine: &Machine) -> Result<PathBuf> {
        let stream = {
            let mut streams = self.streams.lock().map_err(|error| error.to_string())?;
            Arc::clone(streams.entry((from, *machine)).or_default())
        };
        let saved = stream.get_or_init(|| {
            let save = || {
                let name = format!("{from}-{}.stream", file_name(machine));
                let path = self.folder.path().join(name);
                machine.save(self.qemu(from)?, &self.guests, &path)?;
                Ok::<_, Failure>(path)
            };
            save().map_err(|error| {
                if error.is::<TimersExpired>() {
                    SaveFailure::TimersExpired
                } else {
                    SaveFailure::Other(format!("QEMU {from}: {error}"))
                }
            })
        });
        match saved.clone() {
            Ok(path) => Ok(path),
            Err(SaveFailure::TimersExpired) => Err(TimersExpired.into()),
            Err(SaveFailure::Other(text)) => Err(text.into()),
        }
    }

    fn load(&self, case: &Case, stream: &Path) -> Result<LoadResult> {
        case.machine
            .load(self.qemu(case.destination)?, &self.guests, stream)
            .map_err(|error| format!("QEMU {}: {error}", case.destination).into())
    }

    /// Loads a stream that must load, and returns the guest's findings.
    fn findings(&self, case: &Case, stream: &Path, values: bool) -> Result<Findings> {
        let (findings, _) = self.findings_and_stderr(case, stream, values)?;
        Ok(findings)
    }

    /// Loads a stream that must load. Returns the guest's findings, and QEMU's output.
    fn findings_and_stderr(
        &self,
        case: &Case,
        stream: &Path,
        values: bool,
    ) -> Result<(Findings, String)> {
        match self.load(case, stream)? {
            LoadResult::Paused(mut running) => {
                let stderr = running.stderr();
                Ok((running.findings(&case.machine, values)?, stderr))
            }
            LoadResult::Failed {
                stderr,
                exit_status,
            } => Err(format!(
                "QEMU {} does not load the stream ({exit_status}):\n{stderr}",
                case.destination
            )
            .into()),
        }
    }

    /// Runs [`CaseKind::Stay`].
    fn run_stay(&self, case: &Case) -> Result<String> {
        let stream = self.source_stream(case)?;
        let findings = self.findings(case, &stream, false)?;
        check_timers(case, &findings)?;
        assert_no_differences(findings.differences.iter())?;
        Ok("nothing differs, both timers fire".to_owned())
    }

    /// Runs [`CaseKind::Notice`].
    fn run_notice(&self, case: &Case) -> Result<String> {
        let stream = self.source_stream(case)?;
        let before = self.findings(case, &stream, true)?;
        check_timers(case, &before)?;
        assert_no_differences(before.differences.iter())?;

        // A register on which nothing depends, and a timer.
        let [register, timer] = if case.machine.cpu == "cortex-a15" {
            ["TPIDRPRW", "CNTV_CVAL"]
        } else {
            ["TPIDR_EL1", "CNTV_CVAL_EL0"]
        };
        let mut bytes = fs::read(&stream)?;
        let mut expected = Vec::new();
        for (name, value) in [(register, 0x89ab_cdef), (timer, u64::MAX >> 8)] {
            let current = before
                .values
                .iter()
                .find_map(|(vcpu, reported, value)| {
                    (*vcpu == 0 && reported == name).then_some(*value)?
                })
                .ok_or_else(|| format!("the guest does not report {name}"))?;
            replace_all(&mut bytes, current.to_be_bytes(), value.to_be_bytes())
                .map_err(|error| format!("{name} in the stream: {error}"))?;
            expected.push(Difference {
                vcpu: 0,
                register: name.to_owned(),
                expected: Some(current),
                found: Some(value),
            });
        }
        let changed = stream.with_extension("changed");
        fs::write(&changed, &bytes)?;
        let LoadResult::Paused(mut running) = self.load(case, &changed)? else {
            return Err("the changed stream does not load".into());
        };
        // The unchanged timer fires in time, the changed one never does.
        let timers = Duration::from_secs(case.machine.timer_seconds.into());
        let mut after = running.findings_with_timeout(4 * timers, false)?;
        if after.timers.is_empty() {
            return Err(TimersExpired.into());
        }
        after.differences.sort();
        expected.sort();
        if after.differences != expected {
            return Err(format!("expected {expected:?}, the guest found {after:?}").into());
        }
        if after.timers != [(0, 'P')] {
            return Err(format!("the guest did not notice a stopped timer: {after:?}").into());
        }
        Ok("the guest notices a changed register and a timer that does not fire".to_owned())
    }

    /// Runs [`CaseKind::RegisterLoss`].
    fn run_register_loss(&self, case: &Case) -> Result<String> {
        let whole = fs::File::open(self.source_stream(case)?)?;
        let stream = cpreg_stream::Stream::open(&whole)?;
        let mut vm = stream.vm()?;
        // AArch32 views are other names of the same register, so they are removed too.
        let register = RegisterId::SCTLR_EL1;
        for id in register.aarch32_views().chain([register]) {
            vm.vcpus[0].registers.remove(id);
        }
        let edit = stream.edit(&whole, &stream.diff_to(&vm)?)?;
        let mut bytes = vec![0; usize::try_from(edit.new_length())?];
        edit.apply_to(&whole).read_exact_at(&mut bytes, 0)?;
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let without = folder.path().join("stream");
        fs::write(&without, bytes)?;
        let LoadResult::Paused(running) = self.load(case, &without)? else {
            return Err("the stream without the register does not load".into());
        };
        let stderr = running.stderr();
        drop(running);

        // The machine also has a device that cannot be verified.
        let mut command = case
            .machine
            .command(self.qemu(case.destination)?, &self.guests);
        let words = "-chardev socket,id=c,path=/nowhere -tpmdev emulator,id=t,chardev=c \
                     -device tpm-tis-device,tpmdev=t";
        command.extend(words.split_whitespace().map(Into::into));
        let rehearsal = self.cpreg.rehearse(&without, &command, &[])?;
        rehearsal.compare(true, &stderr, &Verdict::REFUSED)?;
        rehearsal.assert_deviation("SCTLR_EL1")?;
        rehearsal.assert_not_verified("the device `tpm-tis-device`")?;
        Ok("QEMU loads the stream without SCTLR_EL1; the rehearsal refuses it".to_owned())
    }

    /// Runs [`CaseKind::LiveRehearsal`].
    fn run_live_rehearsal(&self, case: &Case) -> Result<String> {
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let monitor = folder.path().join("monitor");
        let qemu = self.qemu(case.source)?;
        let mut running = case.machine.run(qemu, &self.guests, &monitor)?;
        let command = case.machine.command(qemu, &self.guests);
        let rehearsal = self.cpreg.rehearse(&monitor, &command, &[])?;
        rehearsal.compare(true, "", &Verdict::LOADS)?;
        let findings = running.findings(&case.machine, false)?;
        check_timers(case, &findings)?;
        assert_no_differences(findings.differences.iter())?;
        Ok("rehearsed while the guest runs; nothing differs, both timers fire".to_owned())
    }

    /// Runs [`CaseKind::VirtioRings`].
    fn run_virtio_rings(&self, case: &Case) -> Result<String> {
        let command = case.machine.command(self.qemu(case.source)?, &self.guests);
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let stream = folder.path().join("stream");
        rings::save(&command, case.machine.devices, &stream)?;
        let rehearse = |index: &str| -> Result<()> {
            let rehearsal = self.cpreg.rehearse(&stream, &command, &[])?;
            let result = rehearsal.compare(true, "", &Verdict::LOADS);
            Ok(result.map_err(|error| format!("with index {index}: {error}"))?)
        };
        rehearse("3")?;
        rings::assert_load_fails(&command, &stream)?;
        rehearse("0xfffd")?;
        Ok("without memory a loader refuses the ring; the rehearsal does not".to_owned())
    }

    /// Runs [`CaseKind::Snapshot`].
    fn run_snapshot(&self, case: &Case) -> Result<String> {
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let programs = Programs {
            source: self.qemu(case.source)?,
            destination: self.qemu(case.destination)?,
            guests: &self.guests,
            cpreg: &self.cpreg,
        };
        snapshots::run(case, &programs, folder.path())
    }

    /// Runs [`CaseKind::LargeVm`].
    fn run_large_vm(&self, case: &Case) -> Result<String> {
        let command = case.machine.command(self.qemu(case.source)?, &self.guests);
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let large = LargeVm::make(command, folder.path())?;
        let length = large.stream.metadata()?.len();
        let read = large.measure_read_bytes()?;
        let rehearsal = self.cpreg.rehearse(&large.stream, &large.command, &[])?;
        rehearsal.compare(true, "", &Verdict::LOADS)?;
        large.check_disk_untouched()?;
        Ok(format!(
            "{read} of {length} bytes were read, and no overwritten page; the disk is unchanged"
        ))
    }

    /// Runs [`CaseKind::Filter`].
    fn run_filter(&self, case: &Case) -> Result<String> {
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let path = |name: &str| folder.path().join(name);
        let (from, to) = (self.qemu(case.source)?, self.qemu(case.destination)?);
        let source = self.source_stream(case)?;
        let (profile, report) = (path("profile"), path("report"));
        self.cpreg
            .probe(&case.machine.command(to, &self.guests), &profile)?;
        let check = self.cpreg.check(&source, &profile, &[])?;
        let filter = self.cpreg.filter_command(&profile, &report);
        let report_text = || fs::read_to_string(&report).unwrap_or_default();
        let check_guest = |result: LoadResult, label: &str| -> Result<()> {
            let mut running = match result {
                LoadResult::Paused(running) => running,
                LoadResult::Failed {
                    stderr,
                    exit_status,
                } => {
                    return Err(format!(
                        "{label}: not loaded ({exit_status}):\n{stderr}\n{}",
                        report_text()
                    )
                    .into());
                }
            };
            let findings = running.findings(&case.machine, false)?;
            check_timers(case, &findings).map_err(|error| add_location(label, error))?;
            assert_no_differences(
                check
                    .unannounced_differences(&findings.differences)
                    .into_iter(),
            )
            .map_err(|error| format!("{label}: {error}"))?;
            Ok(())
        };

        let program = format!("{filter} <");
        let result = case
            .machine
            .load_through(to, &self.guests, &program, &source)?;
        check_guest(result, "loaded through the filter")?;

        let filtered = path("filtered");
        let program = format!("{filter} >");
        case.machine
            .save_through(from, &self.guests, &program, &filtered)
            .map_err(|error| {
                add_location(
                    &format!("saved through the filter\n{}", report_text()),
                    error,
                )
            })?;
        wait_for_report(&report)?;
        check_guest(self.load(case, &filtered)?, "saved through the filter")?;

        // A destination with one vCPU more refuses the VM.
        let mut larger_machine = case.machine;
        larger_machine.vcpus += 1;
        self.cpreg
            .probe(&larger_machine.command(to, &self.guests), &profile)?;
        let program = format!("{filter} <");
        let result = case
            .machine
            .load_through(to, &self.guests, &program, &source)?;
        if !matches!(result, LoadResult::Failed { .. }) {
            return Err(format!("refused, and something was loaded:\n{}", report_text()).into());
        }
        wait_for_report(&report)?;
        if !report_text().starts_with("refused: ") {
            return Err(format!("not refused:\n{}", report_text()).into());
        }
        let refused = path("refused");
        let program = format!("{filter} >");
        let mut running = case
            .machine
            .save_through(from, &self.guests, &program, &refused)
            .map_err(|error| add_location("saved through a filter that refuses", error))?;
        wait_for_report(&report)?;
        let result = self.load(case, &refused)?;
        if !matches!(result, LoadResult::Failed { .. }) {
            return Err("the output of a refusing filter was loaded".into());
        }
        let findings = running.findings(&case.machine, false)?;
        check_timers(case, &findings)
            .map_err(|error| add_location("the source after a refusal", error))?;
        assert_no_differences(findings.differences.iter())
            .map_err(|error| format!("the source after a refusal: {error}"))?;
        Ok(
            "loaded and saved through the filter; after a refusal nothing loads and the source \
             continues"
                .to_owned(),
        )
    }

    /// Runs [`CaseKind::Move`].
    fn run_move(&self, case: &Case) -> Result<String> {
        let stream = self.source_stream(case)?;
        let (loads, stderr, unconverted_outcome) = match self.load(case, &stream)? {
            LoadResult::Paused(running) => (true, running.stderr(), "loads as it is".to_owned()),
            LoadResult::Failed {
                stderr,
                exit_status,
            } => {
                let last = stderr.lines().last().unwrap_or_default();
                let last = last.rsplit("qemu-system-aarch64: ").next();
                let outcome = format!("as it is: {} ({exit_status})", last.unwrap_or_default());
                (false, stderr, outcome)
            }
        };
        if loads != case.can_load_unchanged() {
            return Err(format!("as it is, expected loads = {}:\n{stderr}", !loads).into());
        }

        let destination = case
            .machine
            .command(self.qemu(case.destination)?, &self.guests);
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let profile = folder.path().join("profile");
        let converted = folder.path().join("converted.stream");
        self.cpreg.probe(&destination, &profile)?;
        let mut check = self.cpreg.check(&stream, &profile, &[])?;
        check.compare_loader(case.destination, loads, &stderr)?;

        let rehearsal = self.cpreg.rehearse(&stream, &destination, &[])?;
        let verdict = if loads {
            Verdict::LOADS
        } else {
            Verdict::REFUSED
        };
        rehearsal
            .compare(loads, &stderr, &verdict)
            .map_err(|error| format!("rehearsed as it is: {error}"))?;

        let verdict = match (loads, case.needs_consent()) {
            (true, _) => Verdict::LOADS,
            (false, false) => Verdict::CONVERTS,
            (false, true) => Verdict::REFUSED,
        };
        if *check.verdict() != verdict {
            return Err(format!(
                "the verdict of check is {}, expected {verdict}; without cpreg: \
                 {unconverted_outcome}",
                check.verdict()
            )
            .into());
        }
        if !loads && !check.has_register_decisions() {
            return Err("check names no blocking register".into());
        }
        let mut consents = Vec::new();
        if verdict == Verdict::REFUSED {
            if self
                .cpreg
                .convert(&stream, &profile, &converted, &[])?
                .is_ok()
            {
                return Err("converted without consent".into());
            }
            consents = check.consents();
            if consents.is_empty() {
                return Err("refused, and no consent is proposed".into());
            }
            check = self.cpreg.check(&stream, &profile, &consents)?;
            let verdict = check.verdict();
            if *verdict != Verdict::CONVERTS {
                return Err(format!("with {consents:?} the verdict is {verdict}").into());
            }
        }
        let loadable = if loads { &stream } else { &converted };
        if !loads {
            self.cpreg
                .convert(&stream, &profile, &converted, &consents)?
                .map_err(|output| format!("convert refuses with {consents:?}:\n{output}"))?;
        }
        let (findings, stderr) = self.findings_and_stderr(case, loadable, false)?;
        let mut options = consents.clone();
        options.push("--converted".to_owned());
        let expected = if loads {
            Verdict::LOADS
        } else {
            Verdict::CONVERTS
        };
        self.cpreg
            .rehearse(&stream, &destination, &options)?
            .compare(true, &stderr, &expected)
            .map_err(|error| format!("rehearsed with --converted: {error}"))?;
        check_timers(case, &findings)?;
        assert_no_differences(
            check
                .unannounced_differences(&findings.differences)
                .into_iter(),
        )?;
        Ok(format!(
            "{unconverted_outcome}; {}, {} consents, {} differences, all announced",
            if loads { "unchanged" } else { "converted" },
            consents.len() / 2,
            findings.differences.len()
        ))
    }
}

/// Adds the location of an error. Returns [`TimersExpired`] unchanged.
fn add_location(location: &str, error: Failure) -> Failure {
    if error.is::<TimersExpired>() {
        error
    } else {
        format!("{location}: {error}").into()
    }
}

/// Waits until a filter has written its report, a moment after QEMU has sent the whole stream.
fn wait_for_report(report: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        if fs::read_to_string(report)?.contains("forwarded: ") {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(format!("no report of the filter:\n{}", fs::read_to_string(report)?).into())
}

fn file_name(machine: &Machine) -> String {
    let text = format!("{machine:?}");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.';
    text.split(|c| !is_name(c))
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// Replaces all occurrences of `old`. The stream has a 32-bit vCPU's registers under up to three
/// ids.
fn replace_all(bytes: &mut [u8], old: [u8; 8], new: [u8; 8]) -> Result<()> {
    let is_old = |window: &[u8]| window == old.as_slice();
    let mut is_replaced = false;
    while let Some(offset) = bytes.windows(old.len()).position(is_old) {
        bytes[offset..offset + new.len()].copy_from_slice(&new);
        is_replaced = true;
    }
    if is_replaced {
        Ok(())
    } else {
        Err("not found".into())
    }
}
