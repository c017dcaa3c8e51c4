//! The drain guard with real QEMUs: whoever is killed, whenever, the VM runs on exactly one side, if there is one that could.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cases::{Case, Mode, Moment, Victim};
use super::end::PATIENCE;
use super::migration::{Consent, Migration, must_be};
use crate::steps::Bench;
use e2e_framework::Result;

const POLL: Duration = Duration::from_millis(10);
/// How long device state may take to go on to a destination that stands still, if there is room for it in the socket.
const FITS_WITHIN: Duration = Duration::from_secs(3);

/// See [`super::cases::Trial::Guarded`].
pub(crate) fn through(bench: &Bench, case: &Case) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, Consent::Guard, &[])?.explained(|migration| {
        migration.source.wait_until_under_way(case.mode)?;
        migration.source.switch(case.mode)?;
        let status = migration.source.wait_until_ended()?;
        let arrived = migration.must_have_arrived(&status)?;
        let relay = migration.relay()?;
        relay.must_end(0, &["destination"], "the VM is")?;
        let concluded = relay.wait_for("concluded")?;
        if concluded["place"] != "destination" || concluded["running"] != true {
            return Err(format!("the guard says: {concluded}").into());
        }
        Ok(arrived)
    })
}

/// See [`super::cases::Trial::GuardedRefusal`].
pub(crate) fn refused(bench: &Bench, case: &Case) -> Result<String> {
    // The destination has a vCPU more: its device state, taken from the running source, shows that before RAM flows.
    let vcpus = case.machine.vcpus + 1;
    let migration = Migration::without(bench, case, &[])?;
    migration.explained(|migration| {
        let mut relay = migration.start_relay(vcpus, Consent::Guard)?;
        let status = relay.wait()?;
        if status.code() != Some(1) {
            return Err(format!("the relay ended with {status}\n{}", relay.said()).into());
        }
        must_be(&migration.source.status()?, &[("none", "running")])?;
        migration.source.must_count()?;
        let end = migration.destination.must_not_run()?;
        Ok(format!("the guest runs at the source; {end}"))
    })
}

/// See [`super::cases::Trial::GuardedFailure`].
pub(crate) fn failed(bench: &Bench, case: &Case) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, Consent::Guard, &[])?.explained(|migration| {
        migration.source.wait_until_under_way(case.mode)?;
        migration.source.switch(case.mode)?;
        let relay = migration.relay()?;
        let status = relay.wait()?;
        let concluded = relay.wait_for("concluded")?;
        if status.success() || concluded["place"] != "source" || concluded["running"] != true {
            return Err(
                format!("the relay ended with {status}; the guard says: {concluded}").into(),
            );
        }
        let events = relay.events()?;
        if !events.iter().any(|event| event["event"] == "held") {
            return Err("the device state did not come".into());
        }
        must_be(&migration.source.status()?, &[("failed", "running")])?;
        migration.source.must_count()?;
        let end = migration.destination.must_not_run()?;
        Ok(format!("the guest goes on at the source; {end}"))
    })
}

/// See [`super::cases::Trial::Killed`].
pub(crate) fn killed(bench: &Bench, case: &Case, victim: Victim, at: Moment) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, Consent::Guard, &[])?.explained(|migration| {
        let guard = migration.relay()?.guard()?;
        come_to(migration, at)?;
        let id = match victim {
            Victim::Source => migration.source.id(),
            Victim::Destination => migration.destination.id(),
            Victim::Relay => migration.relay()?.id(),
        };
        signal(id, Signal::KILL)?;
        if at == Moment::Passed && victim != Victim::Destination {
            signal(migration.destination.id(), Signal::CONT)?;
        }
        wait_until_gone(guard)?;
        if victim != Victim::Relay {
            migration.relay()?.wait()?;
        }
        let (source, destination) = (
            victim != Victim::Source && migration.source.runs()?,
            victim != Victim::Destination && migration.destination.runs()?,
        );
        if source && destination {
            return Err("the guest runs on both sides".into());
        }
        let events = migration.relay()?.events()?;
        let went_on = events.iter().any(|event| event["event"] == "went-on");
        let concluded = events.iter().find(|event| event["event"] == "concluded");
        // What the guard itself tells, where somebody was left to hear it. It lets a destination run some milliseconds after the
        // device state went on, which may have been before the kill; then that VM is the only right one, and the source stays as it is.
        let was_told =
            concluded.is_some_and(|it| it["done"].to_string().contains("destination: cont"));
        let is_right = match victim {
            // All of the VM has arrived, or nobody has all of it.
            Victim::Source => destination == went_on,
            Victim::Destination => source != was_told,
            Victim::Relay if matches!(at, Moment::Setup | Moment::Ram) => source,
            Victim::Relay => source || destination,
        };
        let text = match (source, destination) {
            (true, _) => "it runs at the source",
            (_, true) => "it runs at the destination",
            _ if was_told => "it ran at the destination when that was killed",
            _ => "it runs nowhere",
        };
        if is_right {
            Ok(format!("{text}; device state had gone on: {went_on}"))
        } else {
            Err(
                format!("{text}; device state had gone on: {went_on}; the guard: {concluded:?}")
                    .into(),
            )
        }
    })
}

/// Lets the migration come to where somebody is killed.
fn come_to(migration: &mut Migration<'_>, at: Moment) -> Result<()> {
    let mode = migration.case.mode;
    if at == Moment::Setup {
        migration.relay()?.wait_for("connected")?;
        return Ok(());
    }
    migration.source.wait_until_under_way(mode)?;
    if at == Moment::Ram {
        return Ok(());
    }
    if at == Moment::Held {
        migration.source.switch(mode)?;
        migration.relay()?.wait_for("held")?;
        return Ok(());
    }
    // A destination that stands still takes what fits into the socket, and answers nothing: so it is known what it has done.
    migration.source.switch(mode)?;
    migration.relay()?.wait_for("held")?;
    signal(migration.destination.id(), Signal::STOP)?;
    // If RAM's last pages have left no room in the socket, only part of it can go on.
    let _ = migration.relay()?.wait_so_long_for("went-on", FITS_WITHIN);
    Ok(())
}

fn signal(id: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    kill_process(id.ok_or("no process id")?, signal)?;
    Ok(())
}

/// Waits until the guard has settled it.
fn wait_until_gone(guard: u32) -> Result<()> {
    let deadline = Instant::now() + 2 * PATIENCE;
    while Instant::now() < deadline {
        let stat = fs::read_to_string(format!("/proc/{guard}/stat"));
        // A process whose parent has not asked how it ended is a zombie.
        if stat.map_or(true, |stat| stat.contains(") Z ")) {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    Err("the guard does not come to a conclusion".into())
}

impl Case {
    /// In which modes the guard is tried: the last one sends RAM beside.
    pub(crate) const GUARDED: [Mode; 2] = [Mode::Plain, Mode::Multifd(2)];
}
