//! What is done in a live case, and what makes it fail.
//!
//! A move, of a machine that was saved by one QEMU, to another:
//!
//! 1. the other loads the stream as it is: fails, but for the cases that are known to load;
//! 2. `cpreg probe qemu` records the other QEMU, `cpreg check` must predict 1, in QEMU's words;
//! 3. `cpreg convert` makes a stream for it: at once, or, where the guest uses or reads something that changes, only with
//!    the consents that `check` proposes and advises;
//!    `cpreg rehearse` must say of the stream, and with `--converted` of what becomes of it, what the whole load says, word for word;
//! 4. the other loads that, the guest goes on, both timers of every vCPU fire, and every difference it finds is
//!    among the visible changes of `check`.

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
use super::rings;
use crate::qemu::Qemu;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::guest::{Guests, TIMER_SECONDS};
use e2e_framework::large_vm::LargeVm;
use e2e_framework::machine::{LoadResult, Machine, TimersExpired};
use e2e_framework::serial::{Difference, Findings};
use e2e_framework::{Failure, Result};

/// Everything that cases share.
#[derive(Debug)]
pub(crate) struct Fixture {
    qemus: Vec<Qemu>,
    guests: Guests,
    cpreg: Cpreg,
    folder: TempDir,
    /// One stream for each machine and QEMU that saves it: several cases load the same one.
    streams: Mutex<HashMap<(&'static str, Machine), SavedStream>>,
}

/// A stream that is made once, or why it could not be.
type SavedStream = Arc<OnceLock<std::result::Result<PathBuf, SaveFailure>>>;

/// Why a machine could not be saved.
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

    /// Runs one case. Gives a few words about how it went.
    ///
    /// If this machine is so busy that the guest's timers fire before it was moved, it is run again with later ones.
    ///
    /// # Errors
    /// If it fails: the text is for the person who has to find out why.
    pub(crate) fn run(&self, case: &Case) -> Result<String> {
        let mut case = *case;
        for timer_seconds in TIMER_SECONDS {
            case.machine.timer_seconds = timer_seconds;
            match self.run_once(&case) {
                Err(error) if error.is::<TimersExpired>() => {}
                ended => return ended,
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
        }
    }

    pub(crate) fn guests(&self) -> &Guests {
        &self.guests
    }

    pub(crate) fn cpreg(&self) -> &Cpreg {
        &self.cpreg
    }

    /// A place for files, which is removed at the end.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn qemu(&self, series: &str) -> Result<&Qemu> {
        let found = self.qemus.iter().find(|qemu| qemu.series == series);
        found.ok_or_else(|| format!("there is no QEMU {series}").into())
    }

    /// The machine as the case's source has saved it.
    fn source_stream(&self, case: &Case) -> Result<PathBuf> {
        self.saved_stream(case.source, &case.machine)
    }

    /// A machine as a QEMU has saved it.
    ///
    /// # Errors
    /// If it could not be saved, this time or an earlier one.
    pub(crate) fn saved_stream(&self, from: &'static str, machine: &Machine) -> Result<PathBuf> {
        let stream = {
            let mut streams = self.streams.lock().map_err(|error| error.to_string())?;
            Arc::clone(streams.entry((from, *machine)).or_default())
        };
        let made = stream.get_or_init(|| {
            let make = || {
                let name = format!("{from}-{}.stream", file_name(machine));
                let path = self.folder.path().join(name);
                machine.save(self.qemu(from)?, &self.guests, &path)?;
                Ok::<_, Failure>(path)
            };
            make().map_err(|error| {
                if error.is::<TimersExpired>() {
                    SaveFailure::TimersExpired
                } else {
                    SaveFailure::Other(format!("QEMU {from}: {error}"))
                }
            })
        });
        match made.clone() {
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

    /// Loads a stream that must load, and lets the guest tell what it finds.
    fn findings(&self, case: &Case, stream: &Path, values: bool) -> Result<Findings> {
        let (findings, _) = self.findings_and_stderr(case, stream, values)?;
        Ok(findings)
    }

    /// The same, and what QEMU says while it loads.
    fn findings_and_stderr(
        &self,
        case: &Case,
        stream: &Path,
        values: bool,
    ) -> Result<(Findings, String)> {
        match self.load(case, stream)? {
            LoadResult::Paused(mut running) => {
                let said = running.stderr();
                Ok((running.findings(&case.machine, values)?, said))
            }
            LoadResult::Failed {
                stderr: said,
                exit_status: how,
            } => Err(format!(
                "QEMU {} does not load it ({how}):\n{said}",
                case.destination
            )
            .into()),
        }
    }

    /// See [`CaseKind::Stay`].
    fn run_stay(&self, case: &Case) -> Result<String> {
        let stream = self.source_stream(case)?;
        let findings = self.findings(case, &stream, false)?;
        check_timers(case, &findings)?;
        assert_no_differences(findings.differences.iter())?;
        Ok("nothing differs, both timers fire".to_owned())
    }

    /// See [`CaseKind::Notice`].
    fn run_notice(&self, case: &Case) -> Result<String> {
        let stream = self.source_stream(case)?;
        let before = self.findings(case, &stream, true)?;
        check_timers(case, &before)?;
        assert_no_differences(before.differences.iter())?;

        // A register that nothing depends on, and a timer.
        let [register, timer] = if case.machine.cpu == "cortex-a15" {
            ["TPIDRPRW", "CNTV_CVAL"]
        } else {
            ["TPIDR_EL1", "CNTV_CVAL_EL0"]
        };
        let mut bytes = fs::read(&stream)?;
        let mut expected = Vec::new();
        for (name, value) in [(register, 0x89ab_cdef), (timer, u64::MAX >> 8)] {
            let held = before
                .values
                .iter()
                .find_map(|(vcpu, known, held)| (*vcpu == 0 && known == name).then_some(*held)?)
                .ok_or_else(|| format!("the guest does not tell {name}"))?;
            replace_all(&mut bytes, held.to_be_bytes(), value.to_be_bytes())
                .map_err(|error| format!("{name} in the stream: {error}"))?;
            expected.push(Difference {
                vcpu: 0,
                register: name.to_owned(),
                expected: Some(held),
                found: Some(value),
            });
        }
        let changed = stream.with_extension("changed");
        fs::write(&changed, &bytes)?;
        let LoadResult::Paused(mut running) = self.load(case, &changed)? else {
            return Err("the changed stream does not load".into());
        };
        // One timer fires in its time, the other never does.
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
            return Err(format!("a stopped timer was not noticed: {after:?}").into());
        }
        Ok("the guest notices a changed register and a timer that does not fire".to_owned())
    }

    /// See [`CaseKind::RegisterLoss`].
    fn run_register_loss(&self, case: &Case) -> Result<String> {
        let whole = fs::File::open(self.source_stream(case)?)?;
        let stream = cpreg_stream::Stream::open(&whole)?;
        let mut vm = stream.vm()?;
        // With its other view, which would bring what it holds.
        let lost = RegisterId::SCTLR_EL1;
        for id in lost.aarch32_views().chain([lost]) {
            vm.vcpus[0].registers.remove(id);
        }
        let edit = stream.edit(&whole, &stream.diff_to(&vm)?)?;
        let mut bytes = vec![0; usize::try_from(edit.new_length())?];
        edit.apply_to(&whole).read_exact_at(&mut bytes, 0)?;
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let without = folder.path().join("stream");
        fs::write(&without, bytes)?;
        let LoadResult::Paused(running) = self.load(case, &without)? else {
            return Err("the whole stream does not load".into());
        };
        let said = running.stderr();
        drop(running);

        // A device that cannot be judged comes along.
        let mut command = case
            .machine
            .command(self.qemu(case.destination)?, &self.guests);
        let words = "-chardev socket,id=c,path=/nowhere -tpmdev emulator,id=t,chardev=c \
                     -device tpm-tis-device,tpmdev=t";
        command.extend(words.split_whitespace().map(Into::into));
        let rehearsal = self.cpreg.rehearse(&without, &command, &[])?;
        rehearsal.compare(true, &said, &Verdict::REFUSED)?;
        rehearsal.assert_deviation("SCTLR_EL1")?;
        rehearsal.assert_not_verified("the device `tpm-tis-device`")?;
        Ok("QEMU loads it without SCTLR_EL1, a rehearsal refuses".to_owned())
    }

    /// See [`CaseKind::LiveRehearsal`].
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
        Ok("rehearsed while it runs; nothing differs then, both timers fire".to_owned())
    }

    /// See [`CaseKind::VirtioRings`].
    fn run_virtio_rings(&self, case: &Case) -> Result<String> {
        let command = case.machine.command(self.qemu(case.source)?, &self.guests);
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let stream = folder.path().join("stream");
        rings::save(&command, case.machine.devices, &stream)?;
        let rehearse = |index: &str| -> Result<()> {
            let rehearsal = self.cpreg.rehearse(&stream, &command, &[])?;
            let compared = rehearsal.compare(true, "", &Verdict::LOADS);
            Ok(compared.map_err(|error| format!("with index {index}: {error}"))?)
        };
        rehearse("3")?;
        rings::assert_load_fails(&command, &stream)?;
        rehearse("0xfffd")?;
        Ok("without memory a loader stumbles over a ring, a rehearsal does not".to_owned())
    }

    /// See [`CaseKind::LargeVm`].
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
            "of {length} bytes {read} were read, the pages among them were spoilt; the disk is as it was"
        ))
    }

    /// See [`CaseKind::Filter`].
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
        let said = || fs::read_to_string(&report).unwrap_or_default();
        let goes_on = |loaded: LoadResult, how: &str| -> Result<()> {
            let mut running = match loaded {
                LoadResult::Paused(running) => running,
                LoadResult::Failed {
                    stderr: qemu,
                    exit_status: end,
                } => {
                    return Err(format!("{how}: not loaded ({end}):\n{qemu}\n{}", said()).into());
                }
            };
            let findings = running.findings(&case.machine, false)?;
            check_timers(case, &findings).map_err(|error| add_location(how, error))?;
            assert_no_differences(
                check
                    .unannounced_differences(&findings.differences)
                    .into_iter(),
            )
            .map_err(|error| format!("{how}: {error}"))?;
            Ok(())
        };

        let through = format!("{filter} <");
        let loaded = case
            .machine
            .load_through(to, &self.guests, &through, &source)?;
        goes_on(loaded, "loaded through the filter")?;

        let filtered = path("filtered");
        let through = format!("{filter} >");
        case.machine
            .save_through(from, &self.guests, &through, &filtered)
            .map_err(|error| {
                add_location(&format!("saved through the filter\n{}", said()), error)
            })?;
        wait_for_report(&report)?;
        goes_on(self.load(case, &filtered)?, "saved through the filter")?;

        // A destination with one vCPU more refuses the VM.
        let mut other = case.machine;
        other.vcpus += 1;
        self.cpreg
            .probe(&other.command(to, &self.guests), &profile)?;
        let through = format!("{filter} <");
        let loaded = case
            .machine
            .load_through(to, &self.guests, &through, &source)?;
        if !matches!(loaded, LoadResult::Failed { .. }) {
            return Err(format!("refused, and something was loaded:\n{}", said()).into());
        }
        wait_for_report(&report)?;
        if !said().starts_with("refused: ") {
            return Err(format!("not refused:\n{}", said()).into());
        }
        let refused = path("refused");
        let through = format!("{filter} >");
        let mut running = case
            .machine
            .save_through(from, &self.guests, &through, &refused)
            .map_err(|error| add_location("saved through a filter that refuses", error))?;
        wait_for_report(&report)?;
        let loaded = self.load(case, &refused)?;
        if !matches!(loaded, LoadResult::Failed { .. }) {
            return Err("what a refusing filter has written was loaded".into());
        }
        let findings = running.findings(&case.machine, false)?;
        check_timers(case, &findings)
            .map_err(|error| add_location("the source after a refusal", error))?;
        assert_no_differences(findings.differences.iter())
            .map_err(|error| format!("the source after a refusal: {error}"))?;
        Ok(
            "loaded and saved through the filter; refused, nothing loads and the source goes on"
                .to_owned(),
        )
    }

    /// See [`CaseKind::Move`].
    fn run_move(&self, case: &Case) -> Result<String> {
        let stream = self.source_stream(case)?;
        let (loads, said, today) = match self.load(case, &stream)? {
            LoadResult::Paused(running) => (true, running.stderr(), "loads as it is".to_owned()),
            LoadResult::Failed {
                stderr: said,
                exit_status: how,
            } => {
                let last = said.lines().last().unwrap_or_default();
                let last = last.rsplit("qemu-system-aarch64: ").next();
                let today = format!("as it is: {} ({how})", last.unwrap_or_default());
                (false, said, today)
            }
        };
        if loads != case.can_load_unchanged() {
            return Err(format!("as it is, expected loads = {}:\n{said}", !loads).into());
        }

        let destination = case
            .machine
            .command(self.qemu(case.destination)?, &self.guests);
        let folder = tempfile::Builder::new().tempdir_in(self.folder.path())?;
        let profile = folder.path().join("profile");
        let converted = folder.path().join("converted.stream");
        self.cpreg.probe(&destination, &profile)?;
        let mut check = self.cpreg.check(&stream, &profile, &[])?;
        check.compare_loader(case.destination, loads, &said)?;

        let rehearsal = self.cpreg.rehearse(&stream, &destination, &[])?;
        let verdict = if loads {
            Verdict::LOADS
        } else {
            Verdict::REFUSED
        };
        rehearsal
            .compare(loads, &said, &verdict)
            .map_err(|error| format!("rehearsed as it is: {error}"))?;

        let verdict = match (loads, case.needs_consent()) {
            (true, _) => Verdict::LOADS,
            (false, false) => Verdict::CONVERTS,
            (false, true) => Verdict::REFUSED,
        };
        if *check.verdict() != verdict {
            return Err(format!(
                "check says {}, expected {verdict}; today: {today}",
                check.verdict()
            )
            .into());
        }
        if !loads && !check.has_register_decisions() {
            return Err("check names no register that stands in the way".into());
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
            if *check.verdict() != Verdict::CONVERTS {
                return Err(format!("with {consents:?} check says {}", check.verdict()).into());
            }
        }
        let loadable = if loads { &stream } else { &converted };
        if !loads {
            self.cpreg
                .convert(&stream, &profile, &converted, &consents)?
                .map_err(|said| format!("convert refuses with {consents:?}:\n{said}"))?;
        }
        let (findings, said) = self.findings_and_stderr(case, loadable, false)?;
        let mut options = consents.clone();
        options.push("--converted".to_owned());
        self.cpreg
            .rehearse(&stream, &destination, &options)?
            .compare(
                true,
                &said,
                if loads {
                    &Verdict::LOADS
                } else {
                    &Verdict::CONVERTS
                },
            )
            .map_err(|error| format!("rehearsed as repaired: {error}"))?;
        check_timers(case, &findings)?;
        assert_no_differences(
            check
                .unannounced_differences(&findings.differences)
                .into_iter(),
        )?;
        Ok(format!(
            "{today}; {}, {} consents, {} differences, all announced",
            if loads { "unchanged" } else { "converted" },
            consents.len() / 2,
            findings.differences.len()
        ))
    }
}

/// How many differences a failure lists: vCPUs usually differ in the same registers.
const MAX_DIFFERENCES: usize = 30;

/// Says where an error happened; one that this machine is too slow stays what it is.
fn add_location(place: &str, error: Failure) -> Failure {
    if error.is::<TimersExpired>() {
        error
    } else {
        format!("{place}: {error}").into()
    }
}

/// Both timers of every vCPU must have fired, after the guest went on.
fn check_timers(case: &Case, findings: &Findings) -> Result<()> {
    if !findings.expired_timers.is_empty() {
        return Err(TimersExpired.into());
    }
    for vcpu in 0..case.machine.vcpus {
        for which in ['V', 'P'] {
            if !findings.timers.contains(&(vcpu, which)) {
                return Err(format!("timer {which} of vCPU {vcpu} does not fire").into());
            }
        }
    }
    Ok(())
}

/// An error if there are any.
pub(crate) fn assert_no_differences<'a>(
    differences: impl Iterator<Item = &'a Difference>,
) -> Result<()> {
    let lines: Vec<_> = differences.map(ToString::to_string).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let shown = &lines[..lines.len().min(MAX_DIFFERENCES)];
    let rest = lines.len() - shown.len();
    let more = if rest > 0 {
        format!("\n  and {rest} more")
    } else {
        String::new()
    };
    Err(format!(
        "the guest finds what nobody announced:\n  {}{more}",
        shown.join("\n  ")
    )
    .into())
}

/// Waits until a filter has reported: it goes on for a moment when QEMU has sent all.
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

/// Replaces `old` wherever it is: a 32-bit vCPU's registers are in the stream under up to three ids.
fn replace_all(bytes: &mut [u8], old: [u8; 8], new: [u8; 8]) -> Result<()> {
    let is_old = |window: &[u8]| window == old.as_slice();
    let mut found = false;
    while let Some(place) = bytes.windows(old.len()).position(is_old) {
        bytes[place..place + new.len()].copy_from_slice(&new);
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err("not found".into())
    }
}
