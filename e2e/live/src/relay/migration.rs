//! One migration: two QEMUs, the counting guest, and the relay between them.

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
use crate::checks::assert_no_differences;
use crate::steps::Fixture;

/// State of one migration. Fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Migration<'b> {
    pub(crate) case: &'b RelayCase,
    pub(crate) fixture: &'b Fixture,
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
    pub(crate) relay: Option<RelayProcess>,
    /// Address to which the source sends the VM.
    pub(crate) address: String,
    pub(crate) folder: TempDir,
}

/// Additional option of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayOption {
    /// No additional option.
    None,
    /// A stream of the source's VM, so that the decision is certain in advance.
    SourceStream,
    /// Permission to begin without a return path.
    AllowNoReturnPath,
    /// Monitors of both sides. The relay starts the migration, so it is throttled beforehand.
    Guard,
}

impl<'b> Migration<'b> {
    /// Starts both QEMUs, and the relay. The relay's profile of the destination has `vcpus` vCPUs.
    pub(crate) fn with_relay(
        fixture: &'b Fixture,
        case: &'b RelayCase,
        vcpus: u32,
        option: RelayOption,
        source_options: &[&str],
    ) -> Result<Self> {
        let mut migration = Self::without_relay(fixture, case, source_options)?;
        let mut relay = migration.start_relay(vcpus, option)?;
        let listening = relay.wait_for_event("listening");
        let address = listening.and_then(|event| {
            let address = event["listen"].as_str().map(str::to_owned);
            address.ok_or_else(|| format!("the event has no listening address: {event}").into())
        });
        migration.relay = Some(relay);
        match address {
            Ok(address) => migration.address = address,
            Err(error) => return migration.run_with_output(|_| Err(error)),
        }
        Ok(migration)
    }

    /// Starts the relay. Its profile of the destination has `vcpus` vCPUs.
    pub(crate) fn start_relay(&mut self, vcpus: u32, option: RelayOption) -> Result<RelayProcess> {
        let (fixture, case, folder) = (self.fixture, self.case, self.folder.path());
        let profile = folder.join("profile");
        let mut probed_machine = case.machine;
        probed_machine.vcpus = vcpus;
        let command = fixture.live_command(case.destination, &probed_machine, Guest::Live)?;
        fixture.cpreg().probe(&command, &profile)?;
        let mut options: Vec<OsString> = vec!["--to".into(), profile.into()];
        match option {
            RelayOption::None => {}
            RelayOption::SourceStream => {
                options.extend(["--from".into(), fixture.stream_of(case)?.into()]);
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
            fixture.cpreg().program(),
            folder,
            case.transport,
            &self.address,
            &options,
        )
    }

    /// Starts both QEMUs, the source with additional options.
    pub(crate) fn without_relay(
        fixture: &'b Fixture,
        case: &'b RelayCase,
        source_options: &[&str],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().tempdir_in(fixture.folder())?;
        let vcpus = case.machine.vcpus;
        let mut destination_machine = case.machine;
        if case.scenario == Scenario::GuardedFailure {
            destination_machine.gic = Gic::V2;
        }
        let command = fixture.live_command(case.destination, &destination_machine, Guest::Live)?;
        let incoming = ["-incoming", "defer"];
        let mut destination = Endpoint::start(&command, vcpus, folder.path(), "to", &incoming)?;
        let command = fixture.live_command(case.source, &case.machine, Guest::Live)?;
        let mut source = Endpoint::start(&command, vcpus, folder.path(), "from", source_options)?;
        let result = (|| {
            destination.prepare(case.mode)?;
            destination.listen(case.transport, folder.path())
        })();
        let address = destination.with_output("destination", result)?;
        let ready = source
            .wait_until_ready()
            .and_then(|()| source.prepare(case.mode));
        source.with_output("source", ready)?;
        Ok(Self {
            case,
            fixture,
            source,
            destination,
            relay: None,
            address,
            folder,
        })
    }

    /// Runs a function. Adds the output of both QEMUs and of the relay to its error.
    pub(crate) fn run_with_output<T>(
        mut self,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let result = run(&mut self);
        let result = self.source.with_output("source", result);
        let result = self.destination.with_output("destination", result);
        let relay_output = self
            .relay
            .as_ref()
            .map(RelayProcess::output)
            .unwrap_or_default();
        result.map_err(|error| format!("{error}\n{relay_output}").into())
    }

    /// Starts to send the VM, and waits until part of its RAM has been sent.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let mode = self.case.mode;
        self.source.send(mode, &self.address)?;
        self.source.wait_until_ram_sent(mode)
    }

    /// Sends the VM, and waits until the migration has ended at the source.
    pub(crate) fn send(&mut self) -> Result<Status> {
        self.begin()?;
        self.source.begin_switchover(self.case.mode)?;
        self.source.wait_until_ended()
    }

    pub(crate) fn relay(&mut self) -> Result<&mut RelayProcess> {
        self.relay.as_mut().ok_or_else(|| "no relay".into())
    }

    /// Checks that the guest runs at the destination with all announced registers, and is stopped
    /// at the source.
    pub(crate) fn assert_arrived(&mut self, status: &Status) -> Result<String> {
        assert_status(status, &[("completed", "postmigrate")])?;
        let sent = self.source.counts()?;
        self.destination.wait_until_counted_past(&sent)?;
        let findings = self.destination.findings()?;
        let count = findings.counts.len();
        if count != sent.len()
            || !findings
                .counts
                .iter()
                .zip(&sent)
                .all(|((_, now), before)| now > before)
        {
            return Err(format!(
                "the counters were {sent:x?} at the source, and are {:x?}",
                findings.counts
            )
            .into());
        }
        self.fixture
            .assert_announced(self.case, &findings.differences)?;
        if self.source.counts()? != sent {
            return Err("the guest also runs at the source".into());
        }
        assert_status(&self.source.status()?, &[("completed", "postmigrate")])?;
        let min = |list: &mut dyn Iterator<Item = u64>| list.min().unwrap_or_default();
        Ok(format!(
            "counter {} at the source, {} at the destination",
            min(&mut sent.iter().copied()),
            min(&mut findings.counts.iter().map(|(_, count)| *count)),
        ))
    }
}

/// Checks that the source has one of these states.
///
/// # Errors
/// Returns an error if the source has another state.
pub(crate) fn assert_status(status: &Status, expected: &[(&str, &str)]) -> Result<()> {
    let actual = (status.migration.as_str(), status.vm.as_str());
    if expected.contains(&actual) {
        return Ok(());
    }
    Err(format!("the source is {actual:?}, expected {expected:?}").into())
}

impl Fixture {
    /// Returns the command line of a machine with the counting guest.
    fn live_command(&self, series: &str, machine: &Machine, guest: Guest) -> Result<Vec<OsString>> {
        Ok(machine.command_with_image(
            self.qemu(series)?,
            self.guests().image(guest, machine.timer_seconds),
        ))
    }

    /// Returns a stream of a VM like this one, saved at the source.
    pub(crate) fn stream_of(&self, case: &RelayCase) -> Result<PathBuf> {
        // This stream does not depend on its timers, so the longest delay is used.
        let machine = Machine {
            timer_seconds: TIMER_SECONDS[2],
            ..case.machine
        };
        self.saved_stream(case.source, &machine)
    }

    /// Checks that `check` announces all findings of the guest.
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
