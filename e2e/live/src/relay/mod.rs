//! `cpreg relay` between two real QEMUs, with a guest that changes its RAM all the time.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cases`] | which cases there are |
//! | [`end`] | the QEMU at either end |
//! | [`process`] | the relay |
//! | [`imitations`] | RAM that looks like device state |
//! | [`killed`] | the drain guard, with somebody killed |
//!
//! What is here: what is done in a case, and what makes it fail. A migration is held in RAM (by a downtime that is never reached,
//! or by little bandwidth) until pages were sent again, or postcopy is half way; so nothing depends on how fast this machine is.

mod cases;
mod end;
mod imitations;
mod killed;
mod process;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use self::cases::{Case, cases};
use self::cases::{Mode, Trial};
use self::end::{End, Status};
use self::process::Relay;
use super::steps::{Bench, no_differences};
use e2e_framework::Result;
use e2e_framework::guest::Guest;
use e2e_framework::machine::{Gic, Machine};
use e2e_framework::serial::Difference;

/// Everything of one migration. Dropped in this order.
#[derive(Debug)]
struct Migration<'b> {
    case: &'b Case,
    bench: &'b Bench,
    source: End,
    destination: End,
    relay: Option<Relay>,
    /// Where the source sends it.
    address: String,
    folder: TempDir,
}

/// What the relay is told besides where from and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consent {
    /// Nothing.
    None,
    /// A stream of the VM at the source, so that the outcome is certain.
    From,
    /// That it may begin although there is no way back.
    NoWayBack,
    /// The monitors of both sides: the relay starts the migration, which must be held in RAM by then.
    Guard,
}

/// Runs one case. Gives a few words about how it went.
///
/// # Errors
/// If it fails; with what everybody said.
pub(crate) fn run(bench: &Bench, case: &Case) -> Result<String> {
    match case.trial {
        Trial::Through => through(bench, case),
        Trial::Today => today(bench, case),
        Trial::Early => early(bench, case),
        Trial::Late => late(bench, case),
        Trial::Imitations => imitations::run(bench, case),
        Trial::Guarded => killed::through(bench, case),
        Trial::GuardedRefusal => killed::refused(bench, case),
        Trial::GuardedFailure => killed::failed(bench, case),
        Trial::Killed(victim, moment) => killed::killed(bench, case, victim, moment),
    }
}

impl<'b> Migration<'b> {
    /// Starts both QEMUs and the relay, which takes the destination for this machine.
    fn with_relay(
        bench: &'b Bench,
        case: &'b Case,
        vcpus: u32,
        consent: Consent,
        more: &[&str],
    ) -> Result<Self> {
        let mut migration = Self::without(bench, case, more)?;
        let mut relay = migration.start_relay(vcpus, consent)?;
        let listening = relay.wait_for("listening");
        let address = listening.and_then(|event| {
            let address = event["listen"].as_str().map(str::to_owned);
            address.ok_or_else(|| format!("it does not say where it listens: {event}").into())
        });
        migration.relay = Some(relay);
        match address {
            Ok(address) => migration.address = address,
            Err(error) => return migration.explained(|_| Err(error)),
        }
        Ok(migration)
    }

    /// Starts the relay.
    fn start_relay(&mut self, vcpus: u32, consent: Consent) -> Result<Relay> {
        let (bench, case, folder) = (self.bench, self.case, self.folder.path());
        let profile = folder.join("profile");
        let mut probed = case.machine;
        probed.vcpus = vcpus;
        let command = bench.live_command(case.to, &probed, Guest::Live)?;
        bench.cpreg().probe(&command, &profile)?;
        let mut options: Vec<OsString> = vec!["--to".into(), profile.into()];
        match consent {
            Consent::None => {}
            Consent::From => options.extend(["--from".into(), bench.stream_of(case)?.into()]),
            Consent::NoWayBack => options.push("--no-way-back".into()),
            Consent::Guard => {
                self.source.hold(case.mode)?;
                options.extend(["--source-qmp".into(), self.source.monitor().into()]);
                options.extend(["--dest-qmp".into(), self.destination.monitor().into()]);
            }
        }
        let options: Vec<&OsStr> = options.iter().map(OsString::as_os_str).collect();
        Relay::start(
            bench.cpreg().program(),
            folder,
            case.transport,
            &self.address,
            &options,
        )
    }

    /// Starts both QEMUs; the source with `more` options.
    fn without(bench: &'b Bench, case: &'b Case, more: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().tempdir_in(bench.folder())?;
        let vcpus = case.machine.vcpus;
        let mut there = case.machine;
        if case.trial == Trial::GuardedFailure {
            there.gic = Gic::V2;
        }
        let command = bench.live_command(case.to, &there, Guest::Live)?;
        let incoming = ["-incoming", "defer"];
        let mut destination = End::start(&command, vcpus, folder.path(), "to", &incoming)?;
        let command = bench.live_command(case.from, &case.machine, Guest::Live)?;
        let mut source = End::start(&command, vcpus, folder.path(), "from", more)?;
        let prepared = (|| {
            destination.prepare(case.mode)?;
            destination.listen(case.transport, folder.path())
        })();
        let address = destination.explain("destination", prepared)?;
        let ready = source
            .wait_until_ready()
            .and_then(|()| source.prepare(case.mode));
        source.explain("source", ready)?;
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
    fn explained<T>(mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let result = run(&mut self);
        let result = self.source.explain("source", result);
        let result = self.destination.explain("destination", result);
        let said = self.relay.as_ref().map(Relay::said).unwrap_or_default();
        result.map_err(|error| format!("{error}\n{said}").into())
    }

    /// Sends the VM up to where its device state is next.
    fn begin(&mut self) -> Result<()> {
        let mode = self.case.mode;
        self.source.send(mode, &self.address)?;
        self.source.wait_until_under_way(mode)
    }

    /// The same, to the end of the migration at the source.
    fn send(&mut self) -> Result<Status> {
        self.begin()?;
        self.source.switch(self.case.mode)?;
        self.source.wait_until_ended()
    }

    fn relay(&mut self) -> Result<&mut Relay> {
        self.relay.as_mut().ok_or_else(|| "no relay".into())
    }

    /// The guest goes on at the destination, finds itself whole, and stands still at the source.
    fn must_have_arrived(&mut self, status: &Status) -> Result<String> {
        must_be(status, &[("completed", "postmigrate")])?;
        let sent = self.source.counts()?;
        self.destination.wait_until_beyond(&sent)?;
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
        self.bench.announced(self.case, &findings.differences)?;
        if self.source.counts()? != sent {
            return Err("the guest runs at the source as well".into());
        }
        must_be(&self.source.status()?, &[("completed", "postmigrate")])?;
        let count = |list: &mut dyn Iterator<Item = u64>| list.min().unwrap_or_default();
        Ok(format!(
            "counted {} at the source, {} in all",
            count(&mut sent.iter().copied()),
            count(&mut findings.counts.iter().map(|(_, count)| *count)),
        ))
    }
}

/// See [`Trial::Through`].
fn through(bench: &Bench, case: &Case) -> Result<String> {
    // Both ways to say that it may begin have their turn.
    let consent = match (case.mode.has_way_back(), case.from < case.to) {
        (true, _) => Consent::None,
        (false, true) => Consent::From,
        (false, false) => Consent::NoWayBack,
    };
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, consent, &[])?.explained(|migration| {
        let status = migration.send()?;
        let arrived = migration.must_have_arrived(&status)?;
        let vm = match case.mode {
            Mode::Plain => ["probably-destination"],
            _ => ["destination"],
        };
        migration.relay()?.must_end(0, &vm, "the VM is")?;
        must_be_in_mode(case.mode, &migration.source.ram()?)?;
        let events = migration.relay()?.events()?;
        let connections = events.iter().filter(|it| it["event"] == "connected");
        let expected = match case.mode {
            Mode::Multifd(channels) => channels as usize + 1,
            Mode::Preempt => 2,
            _ => 1,
        };
        let connections = connections.count();
        if connections != expected {
            return Err(format!("{connections} connections, expected {expected}").into());
        }
        let pause = events.iter().find(|it| it["event"] == "went-on");
        let pause = pause.map_or(&Value::Null, |event| &event["microseconds"]);
        Ok(format!("{arrived}; held for {pause} us"))
    })
}

/// See [`Trial::Today`].
fn today(bench: &Bench, case: &Case) -> Result<String> {
    Migration::without(bench, case, &[])?.explained(|migration| {
        let status = migration.send()?;
        must_be(&status, &[("failed", "running")])?;
        migration.source.must_count()?;
        migration.destination.must_not_run()?;
        let said = migration.destination.said();
        let last = said.lines().last().unwrap_or_default();
        let last = last.rsplit("qemu-system-aarch64: ").next();
        Ok(format!("as it is: {}", last.unwrap_or_default()))
    })
}

/// See [`Trial::Early`].
fn early(bench: &Bench, case: &Case) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, Consent::None, &[])?.explained(|migration| {
        migration.source.send(case.mode, &migration.address)?;
        let status = migration.source.wait_until_ended()?;
        must_be(&status, &[("failed", "running")])?;
        if migration.source.stops() > 0 {
            return Err("the guest was stopped".into());
        }
        migration.source.must_count()?;
        let end = migration.destination.must_not_run()?;
        let relay = migration.relay()?;
        relay.must_end(1, &["source"], "the VM is: at the source")?;
        Ok(format!("the guest was never stopped; {end}"))
    })
}

/// See [`Trial::Late`].
fn late(bench: &Bench, case: &Case) -> Result<String> {
    let consent = if case.mode.has_way_back() {
        Consent::None
    } else {
        Consent::NoWayBack
    };
    // As a QEMU with one vCPU more the destination refuses the VM, and nobody knows before all vCPUs have come.
    let vcpus = case.machine.vcpus + 1;
    Migration::with_relay(bench, case, vcpus, consent, &[])?.explained(|migration| {
        let status = migration.send()?;
        must_be(&status, after_refusal(case))?;
        let end = migration.destination.must_not_run()?;
        let vm: &[&str] = match case.mode {
            Mode::Plain => &["source-stopped"],
            Mode::Postcopy | Mode::Preempt => &["source-postcopy-paused"],
            _ => &["source"],
        };
        let relay = migration.relay()?;
        relay.must_end(1, vm, "the VM is: at the source")?;
        let rescue = match status.vm.as_str() {
            "running" => {
                migration.source.must_count()?;
                "the guest goes on"
            }
            "postmigrate" => {
                migration.source.execute("cont", serde_json::json!({}))?;
                migration.source.must_count()?;
                "`cont` lets the guest go on"
            }
            _ => "the guest stands still",
        };
        Ok(format!(
            "the source is {}, {rescue}; {end}",
            status.migration
        ))
    })
}

/// How a source may be after a refusal of its device state: `query-migrate` and `query-status` (docs/facts.md).
fn after_refusal(case: &Case) -> &'static [(&'static str, &'static str)] {
    match (case.mode, case.from) {
        (Mode::Plain, _) => &[("completed", "postmigrate")],
        (Mode::ReturnPath | Mode::Multifd(_) | Mode::Xbzrle, _) => &[("failed", "running")],
        // Which of two threads comes first decides.
        (Mode::Postcopy | Mode::Preempt, "7.2") => &[
            ("postcopy-paused", "finish-migrate"),
            ("failed", "postmigrate"),
        ],
        (Mode::Postcopy | Mode::Preempt, _) => &[("failed", "running")],
    }
}

fn must_be(status: &Status, expected: &[(&str, &str)]) -> Result<()> {
    let is = (status.migration.as_str(), status.vm.as_str());
    if expected.contains(&is) {
        return Ok(());
    }
    Err(format!("the source is {is:?}, expected {expected:?}").into())
}

/// Whether the migration was what its mode says: QEMU falls back to less without a word.
fn must_be_in_mode(mode: Mode, migration: &Value) -> Result<()> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let ram = &migration["ram"];
    let is_so = match mode {
        Mode::Plain | Mode::ReturnPath => number(&ram["dirty-sync-count"]) >= 2,
        Mode::Multifd(_) => number(&ram["multifd-bytes"]) > 1 << 20,
        Mode::Xbzrle => number(&migration["xbzrle-cache"]["pages"]) > 0,
        Mode::Postcopy | Mode::Preempt => number(&ram["postcopy-bytes"]) > 1 << 20,
    };
    if is_so {
        return Ok(());
    }
    Err(format!("this was no migration by {mode}: {migration}").into())
}

impl Bench {
    /// The command line of a machine with the guest that counts.
    fn live_command(&self, series: &str, machine: &Machine, guest: Guest) -> Result<Vec<OsString>> {
        Ok(machine.command_with(self.qemu(series)?, self.guests().image(guest)))
    }

    /// A stream of a VM like this one, saved at the source.
    fn stream_of(&self, case: &Case) -> Result<PathBuf> {
        self.saved(case.from, &case.machine)
    }

    /// Sees that everything which the guest found was told by `check`.
    fn announced(&self, case: &Case, differences: &[Difference]) -> Result<()> {
        if differences.is_empty() {
            return Ok(());
        }
        let folder = tempfile::Builder::new().tempdir_in(self.folder())?;
        let profile: &Path = &folder.path().join("profile");
        let command = self.live_command(case.to, &case.machine, Guest::Live)?;
        self.cpreg().probe(&command, profile)?;
        let check = self.cpreg().check(&self.stream_of(case)?, profile, &[])?;
        no_differences(check.unannounced(differences).into_iter())
    }
}
