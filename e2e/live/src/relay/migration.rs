//! One migration: two QEMUs, the guest that counts, and the relay between them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use e2e_framework::Result;
use e2e_framework::guest::{Guest, TIMER_SECONDS};
use e2e_framework::machine::{Gic, Machine};
use e2e_framework::serial::Difference;
use tempfile::TempDir;

use super::cases::{RelayCase, Scenario};
use super::endpoint::{Endpoint, Status};
use super::process::RelayProcess;
use crate::steps::{Fixture, assert_no_differences};

/// Everything of one migration. Dropped in this order.
#[derive(Debug)]
pub(crate) struct Migration<'b> {
    pub(crate) case: &'b RelayCase,
    pub(crate) bench: &'b Fixture,
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
    pub(crate) relay: Option<RelayProcess>,
    /// Where the source sends it.
    pub(crate) address: String,
    pub(crate) folder: TempDir,
}

/// What the relay is told besides where from and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayOption {
    /// Nothing.
    None,
    /// A stream of the VM at the source, so that the outcome is certain.
    SourceStream,
    /// That it may begin although there is no way back.
    AllowNoReturnPath,
    /// The monitors of both sides: the relay starts the migration, which must be held in RAM by then.
    Guard,
}

impl<'b> Migration<'b> {
    /// Starts both QEMUs and the relay, which takes the destination for this machine.
    pub(crate) fn with_relay(
        bench: &'b Fixture,
        case: &'b RelayCase,
        vcpus: u32,
        consent: RelayOption,
        more: &[&str],
    ) -> Result<Self> {
        let mut migration = Self::without_relay(bench, case, more)?;
        let mut relay = migration.start_relay(vcpus, consent)?;
        let listening = relay.wait_for_event("listening");
        let address = listening.and_then(|event| {
            let address = event["listen"].as_str().map(str::to_owned);
            address.ok_or_else(|| format!("it does not say where it listens: {event}").into())
        });
        migration.relay = Some(relay);
        match address {
            Ok(address) => migration.address = address,
            Err(error) => return migration.run_with_output(|_| Err(error)),
        }
        Ok(migration)
    }

    /// Starts the relay.
    pub(crate) fn start_relay(&mut self, vcpus: u32, consent: RelayOption) -> Result<RelayProcess> {
        let (bench, case, folder) = (self.bench, self.case, self.folder.path());
        let profile = folder.join("profile");
        let mut probed = case.machine;
        probed.vcpus = vcpus;
        let command = bench.live_command(case.destination, &probed, Guest::Live)?;
        bench.cpreg().probe(&command, &profile)?;
        let mut options: Vec<OsString> = vec!["--to".into(), profile.into()];
        match consent {
            RelayOption::None => {}
            RelayOption::SourceStream => {
                options.extend(["--from".into(), bench.stream_of(case)?.into()])
            }
            RelayOption::AllowNoReturnPath => options.push("--allow-no-return-path".into()),
            RelayOption::Guard => {
                self.source.throttle(case.mode)?;
                options.extend(["--source-qmp".into(), self.source.monitor().into()]);
                options.extend([
                    "--destination-qmp".into(),
                    self.destination.monitor().into(),
                ]);
            }
        }
        let options: Vec<&OsStr> = options.iter().map(OsString::as_os_str).collect();
        RelayProcess::start(
            bench.cpreg().program(),
            folder,
            case.transport,
            &self.address,
            &options,
        )
    }

    /// Starts both QEMUs; the source with `more` options.
    pub(crate) fn without_relay(
        bench: &'b Fixture,
        case: &'b RelayCase,
        more: &[&str],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().tempdir_in(bench.folder())?;
        let vcpus = case.machine.vcpus;
        let mut there = case.machine;
        if case.scenario == Scenario::GuardedFailure {
            there.gic = Gic::V2;
        }
        let command = bench.live_command(case.destination, &there, Guest::Live)?;
        let incoming = ["-incoming", "defer"];
        let mut destination = Endpoint::start(&command, vcpus, folder.path(), "to", &incoming)?;
        let command = bench.live_command(case.source, &case.machine, Guest::Live)?;
        let mut source = Endpoint::start(&command, vcpus, folder.path(), "from", more)?;
        let prepared = (|| {
            destination.prepare(case.mode)?;
            destination.listen(case.transport, folder.path())
        })();
        let address = destination.with_output("destination", prepared)?;
        let ready = source
            .wait_until_ready()
            .and_then(|()| source.prepare(case.mode));
        source.with_output("source", ready)?;
        Ok(Self {
            case,
            bench,
            source,
            destination,
            relay: None,
            address,
            folder,
        })
    }

    /// Adds to an error what everybody has said.
    pub(crate) fn run_with_output<T>(
        mut self,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let result = run(&mut self);
        let result = self.source.with_output("source", result);
        let result = self.destination.with_output("destination", result);
        let said = self
            .relay
            .as_ref()
            .map(RelayProcess::output)
            .unwrap_or_default();
        result.map_err(|error| format!("{error}\n{said}").into())
    }

    /// Sends the VM up to where its device state is next.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let mode = self.case.mode;
        self.source.send(mode, &self.address)?;
        self.source.wait_until_ram_sent(mode)
    }

    /// The same, to the end of the migration at the source.
    pub(crate) fn send(&mut self) -> Result<Status> {
        self.begin()?;
        self.source.begin_switchover(self.case.mode)?;
        self.source.wait_until_ended()
    }

    pub(crate) fn relay(&mut self) -> Result<&mut RelayProcess> {
        self.relay.as_mut().ok_or_else(|| "no relay".into())
    }

    /// The guest goes on at the destination, finds itself whole, and stands still at the source.
    pub(crate) fn assert_arrived(&mut self, status: &Status) -> Result<String> {
        assert_status(status, &[("completed", "postmigrate")])?;
        let sent = self.source.counts()?;
        self.destination.wait_until_counted_past(&sent)?;
        let findings = self.destination.findings()?;
        let counted = findings.counts.len();
        if counted != sent.len()
            || !findings
                .counts
                .iter()
                .zip(&sent)
                .all(|((_, now), before)| now > before)
        {
            return Err(format!("sent at {sent:x?}, it counts {:x?}", findings.counts).into());
        }
        self.bench
            .assert_announced(self.case, &findings.differences)?;
        if self.source.counts()? != sent {
            return Err("the guest runs at the source as well".into());
        }
        assert_status(&self.source.status()?, &[("completed", "postmigrate")])?;
        let count = |list: &mut dyn Iterator<Item = u64>| list.min().unwrap_or_default();
        Ok(format!(
            "counted {} at the source, {} in all",
            count(&mut sent.iter().copied()),
            count(&mut findings.counts.iter().map(|(_, count)| *count)),
        ))
    }
}

/// Sees that the source is as one of these.
///
/// # Errors
/// If not.
pub(crate) fn assert_status(status: &Status, expected: &[(&str, &str)]) -> Result<()> {
    let is = (status.migration.as_str(), status.vm.as_str());
    if expected.contains(&is) {
        return Ok(());
    }
    Err(format!("the source is {is:?}, expected {expected:?}").into())
}

impl Fixture {
    /// The command line of a machine with the guest that counts.
    fn live_command(&self, series: &str, machine: &Machine, guest: Guest) -> Result<Vec<OsString>> {
        Ok(machine.command_with_image(
            self.qemu(series)?,
            self.guests().image(guest, machine.timer_seconds),
        ))
    }

    /// A stream of a VM like this one, saved at the source.
    pub(crate) fn stream_of(&self, case: &RelayCase) -> Result<PathBuf> {
        // Nobody waits for the timers of that one.
        let patient = Machine {
            timer_seconds: TIMER_SECONDS[2],
            ..case.machine
        };
        self.saved_stream(case.source, &patient)
    }

    /// Sees that everything which the guest found was told by `check`.
    fn assert_announced(&self, case: &RelayCase, differences: &[Difference]) -> Result<()> {
        if differences.is_empty() {
            return Ok(());
        }
        let folder = tempfile::Builder::new().tempdir_in(self.folder())?;
        let profile: &Path = &folder.path().join("profile");
        let command = self.live_command(case.destination, &case.machine, Guest::Live)?;
        self.cpreg().probe(&command, profile)?;
        let check = self.cpreg().check(&self.stream_of(case)?, profile, &[])?;
        assert_no_differences(check.unannounced_differences(differences).into_iter())
    }
}
