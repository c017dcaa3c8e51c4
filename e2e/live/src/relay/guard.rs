//! The drain guard with real QEMUs: whoever is killed, whenever, the VM runs on exactly one side, if there is one that could.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cases::{Mode, Moment, RelayCase, Victim};
use super::endpoint::STEP_TIMEOUT;
use super::migration::{Migration, RelayOption, assert_status};
use crate::steps::Fixture;
use e2e_framework::Result;

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long device state may take to go on to a destination that stands still, if there is room for it in the socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);

/// See [`super::cases::Scenario::GuardedSuccess`].
pub(crate) fn run_success(bench: &Fixture, case: &RelayCase) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, RelayOption::Guard, &[])?.run_with_output(
        |migration| {
            migration.source.wait_until_ram_sent(case.mode)?;
            migration.source.begin_switchover(case.mode)?;
            let status = migration.source.wait_until_ended()?;
            let arrived = migration.assert_arrived(&status)?;
            let relay = migration.relay()?;
            relay.assert_exit(0, &["destination"], "the VM is")?;
            let concluded = relay.wait_for_event("vm-location")?;
            if concluded["place"] != "destination" || concluded["running"] != true {
                return Err(format!("the guard says: {concluded}").into());
            }
            Ok(arrived)
        },
    )
}

/// See [`super::cases::Scenario::GuardedRefusal`].
pub(crate) fn run_refusal(bench: &Fixture, case: &RelayCase) -> Result<String> {
    // The destination has a vCPU more: its device state, taken from the running source, shows that before RAM flows.
    let vcpus = case.machine.vcpus + 1;
    let migration = Migration::without_relay(bench, case, &[])?;
    migration.run_with_output(|migration| {
        let mut relay = migration.start_relay(vcpus, RelayOption::Guard)?;
        let status = relay.wait()?;
        if status.code() != Some(1) {
            return Err(format!("the relay ended with {status}\n{}", relay.output()).into());
        }
        assert_status(&migration.source.status()?, &[("none", "running")])?;
        migration.source.assert_counting()?;
        let end = migration.destination.assert_not_running()?;
        Ok(format!("the guest runs at the source; {end}"))
    })
}

/// See [`super::cases::Scenario::GuardedFailure`].
pub(crate) fn run_failure(bench: &Fixture, case: &RelayCase) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, RelayOption::Guard, &[])?.run_with_output(
        |migration| {
            migration.source.wait_until_ram_sent(case.mode)?;
            migration.source.begin_switchover(case.mode)?;
            let relay = migration.relay()?;
            let status = relay.wait()?;
            let concluded = relay.wait_for_event("vm-location")?;
            if status.success() || concluded["place"] != "source" || concluded["running"] != true {
                return Err(
                    format!("the relay ended with {status}; the guard says: {concluded}").into(),
                );
            }
            let events = relay.events()?;
            if !events
                .iter()
                .any(|event| event["event"] == "device-state-received")
            {
                return Err("the device state did not come".into());
            }
            assert_status(&migration.source.status()?, &[("failed", "running")])?;
            migration.source.assert_counting()?;
            let end = migration.destination.assert_not_running()?;
            Ok(format!("the guest goes on at the source; {end}"))
        },
    )
}

/// See [`super::cases::Scenario::Kill`].
pub(crate) fn run_kill(
    bench: &Fixture,
    case: &RelayCase,
    victim: Victim,
    at: Moment,
) -> Result<String> {
    let vcpus = case.machine.vcpus;
    Migration::with_relay(bench, case, vcpus, RelayOption::Guard, &[])?.run_with_output(
        |migration| {
            let guard = migration.relay()?.guard()?;
            advance_to(migration, at)?;
            let id = match victim {
                Victim::Source => migration.source.id(),
                Victim::Destination => migration.destination.id(),
                Victim::Relay => migration.relay()?.id(),
            };
            signal(id, Signal::KILL)?;
            if at == Moment::DeviceStateSent && victim != Victim::Destination {
                signal(migration.destination.id(), Signal::CONT)?;
            }
            wait_until_exited(guard)?;
            if victim != Victim::Relay {
                migration.relay()?.wait()?;
            }
            let (source, destination) = (
                victim != Victim::Source && migration.source.is_running()?,
                victim != Victim::Destination && migration.destination.is_running()?,
            );
            if source && destination {
                return Err("the guest runs on both sides".into());
            }
            let events = migration.relay()?.events()?;
            let went_on = events
                .iter()
                .any(|event| event["event"] == "device-state-sent");
            let concluded = events.iter().find(|event| event["event"] == "vm-location");
            // What the guard itself tells, where somebody was left to hear it. It lets a destination run some milliseconds after the
            // device state went on, which may have been before the kill; then that VM is the only right one, and the source stays as it is.
            let was_told =
                concluded.is_some_and(|it| it["actions"].to_string().contains("destination: cont"));
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
                Err(format!(
                    "{text}; device state had gone on: {went_on}; the guard: {concluded:?}"
                )
                .into())
            }
        },
    )
}

/// Lets the migration come to where somebody is killed.
fn advance_to(migration: &mut Migration<'_>, at: Moment) -> Result<()> {
    let mode = migration.case.mode;
    if at == Moment::Setup {
        migration.relay()?.wait_for_event("connected")?;
        return Ok(());
    }
    migration.source.wait_until_ram_sent(mode)?;
    if at == Moment::Ram {
        return Ok(());
    }
    if at == Moment::DeviceStateReceived {
        migration.source.begin_switchover(mode)?;
        migration.relay()?.wait_for_event("device-state-received")?;
        return Ok(());
    }
    // A destination that stands still takes what fits into the socket, and answers nothing: so it is known what it has done.
    migration.source.begin_switchover(mode)?;
    migration.relay()?.wait_for_event("device-state-received")?;
    signal(migration.destination.id(), Signal::STOP)?;
    // If RAM's last pages have left no room in the socket, only part of it can go on.
    let _ = migration
        .relay()?
        .wait_for_event_timeout("device-state-sent", SEND_TIMEOUT);
    Ok(())
}

fn signal(id: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    kill_process(id.ok_or("no process id")?, signal)?;
    Ok(())
}

/// Waits until the guard has settled it.
fn wait_until_exited(guard: u32) -> Result<()> {
    let deadline = Instant::now() + 2 * STEP_TIMEOUT;
    while Instant::now() < deadline {
        let stat = fs::read_to_string(format!("/proc/{guard}/stat"));
        // A process whose parent has not asked how it ended is a zombie.
        if stat.map_or(true, |stat| stat.contains(") Z ")) {
            return Ok(());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Err("the guard does not come to a conclusion".into())
}

impl RelayCase {
    /// In which modes the guard is tried: the last one sends RAM beside.
    pub(crate) const GUARDED_MODES: [Mode; 2] = [Mode::Plain, Mode::Multifd(2)];
}
